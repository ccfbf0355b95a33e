"""One GEMM as a study: the best mapping behind a buffer or on a device, its bound, the next step."""

from typing import Any

import numpy as np

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import InputError
from pentarch.evaluate.batches import ask_rows, describe, overrides
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import GemmTable
from pentarch.hardware.device import Device
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import resolve
from pentarch.mapping.cost_deep import cost_gemm_for, is_deep
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.deep_report import MappingReport, report_mapping, single_gemm
from pentarch.mapping.engine import check_costs, row_times
from pentarch.mapping.gemm import Objective
from pentarch.mapping.single import Convention, GemmShape, map_gemm, traffic_lower_bound
from pentarch.mapping.staircase import next_refetch_bytes
from pentarch.mapping.traffic import level_bandwidth
from pentarch.model import Model
from pentarch.results import Infeasible

OPERANDS = ("a", "b", "c_write", "c_read")
"""Parts of memory traffic."""


class StudyLevel(Model):
    """Tiles of one buffer."""

    name: str
    """The buffer."""
    tiles: dict[str, float]
    """Tile along m, k, n."""
    order: str | None
    """Loops over its tiles, from outer to inner; `None` where tiles come from a menu."""


class GemmStudy(Model):
    """The mapping of one GEMM (docs/reference/commands.md, pentarch map)."""

    traffic_bytes: float
    """Bytes between memory and the outermost buffer."""
    traffic: dict[str, float | None]
    """The same by operand: a, b, c_write, c_read; `None` where a cache mixes them."""
    tiles: dict[str, float] | None
    """Tile along m, k, n in the outermost buffer, or of a unit where a cache is before it; `None`
    where the back-end does not say."""
    order: str | None
    """Loops from outer to inner; `None` where tiles come from a menu."""
    bound_bytes: float
    """Bytes that no schedule can go below."""
    gap: float
    """Traffic / bound - 1."""
    next_capacity_bytes: float | None = None
    """Smallest larger buffer that moves less; `None` when none does, or behind a cache."""
    next_traffic_bytes: float | None = None
    """What it moves."""
    levels: tuple[StudyLevel, ...] = ()
    """Tiles of every buffer of a device, outermost first."""
    waves: float | None = None
    """Rounds of tiles over all units; `None` unless tiles come from a menu."""
    split: float | None = None
    """Parts that k is cut into; `None` unless tiles come from a menu."""
    energy_j: float | None = None
    """Dynamic energy; `None` without a device or when a figure is unknown."""
    time_s: float | None = None
    """Time of one execution; `None` without a device."""
    bound_s: float | None = None
    """Time that no mapping on the device goes below; `None` without a device."""
    time_gap: float | None = None
    """Time / bound - 1: tiles, but also latencies, starts and fill."""
    bottleneck: str | None = None
    """Resource with the largest term; `None` without a device."""
    terms_s: dict[str, float] = {}
    """Time of each resource alone."""
    level_bytes: dict[str, dict[str, float]] = {}
    """Bytes read and written at each level of the device."""
    notes: tuple[str, ...] = ()
    """What was replaced."""


def study_behind_buffer(
    shape: GemmShape, buffer_bytes: float, *, convention: Convention = "even", perfect: bool = False
) -> GemmStudy | Infeasible:
    """Return the least traffic of a GEMM behind one buffer.

    Args:
        shape: Dimensions and word sizes.
        buffer_bytes: Capacity.
        convention: How tiles share it (`mapping.single.map_gemm`).
        perfect: Only tiles that divide the dimensions.

    Raises:
        InputError: A size is not positive and finite.
    """
    found = map_gemm(shape, buffer_bytes, convention=convention, perfect=perfect)
    if found is None:
        copies = 2.0 if convention == "even_db" else 1.0
        words = (shape.a_bytes, shape.b_bytes, shape.accumulator_bytes)
        need = copies * sum(words)
        return Infeasible(
            reason=f"one word of each operand needs {' + '.join(f'{word:g}' for word in words)} "
            f"{'bytes, twice for double buffers' if copies > 1 else 'bytes'} = {need:g}, the buffer has "
            f"{buffer_bytes:g}",
            short_bytes=need - buffer_bytes,
        )
    bound = traffic_lower_bound(shape, buffer_bytes)
    capacity, traffic = _next_step(shape, buffer_bytes, convention, perfect=perfect)
    return GemmStudy(
        traffic_bytes=found.traffic_bytes,
        traffic={
            "a": found.a_bytes,
            "b": found.b_bytes,
            "c_write": found.c_write_bytes,
            "c_read": found.c_read_bytes,
        },
        tiles=dict(found.tile._asdict()),
        order=found.order,
        bound_bytes=bound,
        gap=found.traffic_bytes / bound - 1.0,
        next_capacity_bytes=capacity,
        next_traffic_bytes=traffic,
    )


def _next_step(
    shape: GemmShape, buffer_bytes: float, convention: str, *, perfect: bool
) -> tuple[float | None, float | None]:
    """Return the next step of the capacity staircase; known for even, imperfect tiles only."""
    if perfect or convention == "uneven":
        return None, None
    step = next_refetch_bytes(shape, buffer_bytes, double=convention == "even_db")
    return (None, None) if step is None else step


def study_on_device(
    shape: tuple[int, int, int], device: Device, backend: AnyBackend, *, formats: tuple[str, str],
    runtime: Runtime, objective: Objective = "time",
) -> GemmStudy | Infeasible:  # fmt: skip
    """Return the cost of a GEMM (m, k, n) on a device, its mapping and certificate.

    Args:
        shape: M, K, N.
        device: Runs the GEMM.
        backend: Back-end of the device.
        formats: Of B, and of A and C.
        runtime: Software stack.
        objective: What the mapping minimizes; other than time where software manages the buffers.

    Raises:
        InputError: The machine has no mapper for the objective, or a figure is not positive.
    """
    machine = describe(backend, device, 1)
    m, k, n = shape
    weights, activations = formats
    request = RowRequest(
        kind=OperatorKind.GEMM, rows=_one_row(m, k, n, weights=weights, activations=activations),
        sequences=np.ones((1, 1)), machine=machine, runtime=runtime,
    )  # fmt: skip
    costs = _costs(backend, request, objective)
    if not costs.fits.all():
        return Infeasible(reason="; ".join(costs.notes))
    check_costs(request, costs)
    report = None if overrides(backend, "cost_rows") else report_mapping(request, objective)
    times = row_times(costs, overlap=machine.overhead.overlap)
    bound_bytes, bound_s = _bounds(request, report)
    moved = _moved(costs, machine.levels[0].name)
    total_s = float(times.total_s[0, 0])
    terms = {name: float(times.terms_s[at, 0, 0]) for at, name in enumerate(times.resources)}
    step = None if report is None else report.next_refetch
    return GemmStudy(
        traffic_bytes=moved,
        traffic=dict.fromkeys(OPERANDS) if report is None else dict(report.traffic),
        bound_bytes=bound_bytes,
        gap=moved / bound_bytes - 1.0,
        next_capacity_bytes=None if step is None else step[0],
        next_traffic_bytes=None if step is None else step[1],
        energy_j=_energy(costs),
        time_s=total_s,
        bound_s=bound_s,
        time_gap=max(0.0, total_s / bound_s - 1.0),
        bottleneck=max(terms, key=lambda name: terms[name]),
        terms_s=terms,
        level_bytes={
            name: {
                "read": float(values[0, 0]),
                "write": float(costs.write_bytes[name][0, 0]),
            }
            for name, values in costs.read_bytes.items()
        },
        notes=costs.notes,
        **_tiles(request, costs, report),
    )


def _costs(backend: AnyBackend, request: RowRequest, objective: Objective) -> RowCosts:
    own = overrides(backend, "cost_rows")
    if objective == "time" and (own or not is_deep(request)):
        return ask_rows(backend, request)
    if own:
        raise InputError(
            f"Back-end {backend.name!r} costs GEMM rows itself: its mappings are not chosen by "
            f"{objective}. Leave the objective at time."
        )
    return cost_gemm_for(request, objective)


def _moved(costs: RowCosts, level: str) -> float:
    return float((costs.read_bytes[level] + costs.write_bytes[level])[0, 0])


def _energy(costs: RowCosts) -> float | None:
    energies = [
        None if joules is None else float(joules[0, 0]) for joules in costs.energy_j.values()
    ]
    known = [joules for joules in energies if joules is not None]
    return sum(known) if len(known) == len(energies) else None


def _bounds(request: RowRequest, report: MappingReport | None) -> tuple[float, float]:
    """Return bytes and seconds that no mapping on the machine goes below.

    Bytes: any schedule that has all buffers of the device at its disposal. Seconds: these bytes at
    the memory's rate, the multiplications at their peak, and what the levels need for their own
    least traffic.
    """
    machine, gemm = request.machine, single_gemm(request)
    held = sum(float((level.instances * level.size_bytes)[0]) for level in machine.levels[1:])
    least = gemm.m * gemm.k * gemm.a_bytes + gemm.k * gemm.n * gemm.b_bytes
    least += gemm.m * gemm.n * gemm.out_bytes
    if held > 0:
        least = traffic_lower_bound(gemm, held)
    seconds = least / float(level_bandwidth(machine.levels[0])[0])
    rows = request.rows
    product = (
        resolve(machine, rows.a_formats[0], rows.b_formats[0])
        if isinstance(rows, GemmTable)
        else None
    )
    if product is not None:
        seconds = max(seconds, gemm.m * gemm.k * gemm.n / float(product.peak_macs_per_s[0]))
    if report is not None:
        seconds = max(seconds, report.least_s)
    return least, seconds


def _tiles(request: RowRequest, costs: RowCosts, report: MappingReport | None) -> dict[str, Any]:
    """Return the fields of a study that describe tiles: per level, or from an engine's menu."""
    if report is not None:
        levels = tuple(
            StudyLevel(
                name=level.name, tiles=dict(zip("mkn", level.tile, strict=True)), order=level.order
            )
            for level in report.levels
        )
        return {"levels": levels, "tiles": levels[0].tiles, "order": levels[0].order}
    rows = request.rows
    if "tile" not in costs.detail or not isinstance(rows, GemmTable):
        return {"tiles": None, "order": None}
    product = resolve(request.machine, rows.a_formats[0], rows.b_formats[0])
    if product is None or not product.engine.tile_menu:
        return {"tiles": None, "order": None}
    m, n, k = product.engine.tile_menu[int(costs.detail["tile"][0, 0])]
    tiles = {"m": float(m), "k": float(k), "n": float(n)}
    return {
        "tiles": tiles, "order": None, "waves": float(costs.detail["waves"][0, 0]),
        "split": float(costs.detail["split"][0, 0]),
        "levels": (StudyLevel(name=product.engine.feeds_from, tiles=tiles, order=None),),
    }  # fmt: skip


def _one_row(m: int, k: int, n: int, *, weights: str, activations: str) -> GemmTable:
    one = np.ones(1)
    return GemmTable(
        names=(f"{m}x{k}x{n}",), phases=(Phase.PREFILL,), executions=one,
        stage=np.zeros(1, dtype=np.int64), rows=one * m, k=one * k, n=one * n, experts=one * 0,
        experts_per_token=one * 0, experts_total=one * 0, a_formats=(activations,),
        b_formats=(weights,), out_formats=(activations,), layers=one,
        streams_weights=np.ones(1, dtype=np.bool_),
    )  # fmt: skip


def loop_nest(study: GemmStudy) -> str:
    """Return the mapping as a loop nest in text; empty where the tiles are not known."""
    if study.tiles is None:
        return ""
    lines = ["memory"]
    if study.waves is not None:
        lines.append(f"  for wave in {study.waves:g}:")
        lines.append(f"    for each unit, k cut into {study.split:g}:")
        return "\n".join([*lines, _holds(study.levels[0].name, study.tiles, 3)])
    levels = study.levels or (StudyLevel(name="buffer", tiles=study.tiles, order=study.order),)
    depth = 1
    for level in levels:
        for name in level.order or "":
            lines.append("  " * depth + f"for {name} in steps of {level.tiles[name]:g}:")
            depth += 1
        lines.append(_holds(level.name, level.tiles, depth))
    return "\n".join(lines)


def _holds(name: str, tiles: dict[str, float], depth: int) -> str:
    m, k, n = (f"{tiles[dimension]:g}" for dimension in "mkn")
    return "  " * depth + f"{name}: A[{m}, {k}]  B[{k}, {n}]  C[{m}, {n}]"
