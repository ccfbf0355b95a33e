"""One GEMM as a study: the best mapping behind a buffer or on a device, its bound, the next step."""

from typing import TYPE_CHECKING

import numpy as np

from pentarch.contracts.backend import AnyBackend
from pentarch.evaluate.batches import ask_rows, describe
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import GemmTable
from pentarch.hardware.device import Device
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowRequest
from pentarch.mapping.engine import check_costs, row_times
from pentarch.mapping.single import (
    Convention,
    GemmShape,
    map_gemm,
    traffic_lower_bound,
    traffic_staircase,
)
from pentarch.model import Model
from pentarch.results import Infeasible

if TYPE_CHECKING:
    from pentarch.mapping.single import GemmMapping

STEP_REACH = 64.0
"""How many times the buffer the next useful capacity is looked for."""


class GemmStudy(Model):
    """The mapping of one GEMM (docs/reference/commands.md, pentarch map)."""

    traffic_bytes: float
    """Bytes between memory and the outermost buffer."""
    traffic: dict[str, float | None]
    """The same by operand: a, b, c_write, c_read; `None` where a cache mixes them."""
    tiles: dict[str, float] | None
    """Tile along m, k, n; `None` on a device, whose tiles are per level."""
    order: str | None
    """Loops from outer to inner."""
    bound_bytes: float
    """Bytes that no schedule can go below."""
    gap: float
    """Traffic / bound - 1."""
    next_capacity_bytes: float | None = None
    """Smallest larger buffer that moves less; `None` when none up to 64 times does."""
    next_traffic_bytes: float | None = None
    """What it moves."""
    energy_j: float | None = None
    """Dynamic energy; `None` without a device or when a figure is unknown."""
    time_s: float | None = None
    """Time of one execution; `None` without a device."""
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
        return Infeasible(
            reason=f"a buffer of {buffer_bytes:g} bytes cannot hold one word of each operand"
        )
    bound = traffic_lower_bound(shape, buffer_bytes)
    capacity, traffic = _next_step(shape, buffer_bytes, found, convention, perfect=perfect)
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
    shape: GemmShape, buffer_bytes: float, found: "GemmMapping", convention: str, *, perfect: bool
) -> tuple[float | None, float | None]:
    """Return the next step of the capacity staircase; known for even, imperfect tiles only."""
    if perfect or convention == "uneven":
        return None, None
    scale = 2.0 if convention == "even_db" else 1.0
    used = float(np.floor(buffer_bytes / scale))
    capacities, traffics = traffic_staircase(shape, used, used * STEP_REACH)
    better = np.flatnonzero(traffics < found.traffic_bytes)
    if not len(better):
        return None, None
    return float(np.ceil(capacities[better[0]]) * scale), float(traffics[better[0]])


def study_on_device(
    shape: tuple[int, int, int], device: Device, backend: AnyBackend, *, weights: str, activations: str,
    runtime: Runtime,
) -> GemmStudy | Infeasible:  # fmt: skip
    """Return the cost of a GEMM (m, k, n) on a device.

    Raises:
        InputError: The machine has no mapper or a figure is not positive.
    """
    machine = describe(backend, device, 1)
    m, k, n = shape
    request = RowRequest(
        kind=OperatorKind.GEMM, rows=_one_row(m, k, n, weights=weights, activations=activations),
        sequences=np.ones((1, 1)), machine=machine, runtime=runtime,
    )  # fmt: skip
    costs = ask_rows(backend, request)
    if not costs.fits.all():
        return Infeasible(reason="; ".join(costs.notes))
    check_costs(request, costs)
    times = row_times(costs, overlap=machine.overhead.overlap)
    memory = machine.levels[0].name
    moved = float((costs.read_bytes[memory] + costs.write_bytes[memory])[0, 0])
    bound = _compulsory(m, k, n, request)
    energies = [
        None if joules is None else float(joules[0, 0]) for joules in costs.energy_j.values()
    ]
    known = [joules for joules in energies if joules is not None]
    terms = {name: float(times.terms_s[at, 0, 0]) for at, name in enumerate(times.resources)}
    return GemmStudy(
        traffic_bytes=moved,
        traffic=dict.fromkeys(("a", "b", "c_write", "c_read")),
        tiles=None,
        order=None,
        bound_bytes=bound,
        gap=moved / bound - 1.0,
        energy_j=sum(known) if len(known) == len(energies) else None,
        time_s=float(times.total_s[0, 0]),
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
    )


def _compulsory(m: int, k: int, n: int, request: RowRequest) -> float:
    from pentarch.mapping.arithmetic import bits_to_bytes

    rows = request.rows
    if not isinstance(rows, GemmTable):
        raise TypeError("GEMM rows expected")
    a, b, out = (
        float(bits_to_bytes(names)[0])
        for names in (rows.a_formats, rows.b_formats, rows.out_formats)
    )
    return m * k * a + k * n * b + m * n * out


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
    """Return the mapping as a loop nest in text.

    Args:
        study: A study behind a buffer.
    """
    if study.tiles is None or study.order is None:
        return ""
    lines = ["memory"]
    for depth, name in enumerate(study.order):
        lines.append("  " * (depth + 1) + f"for {name} in steps of {study.tiles[name]:g}:")
    m, k, n = (f"{study.tiles[name]:g}" for name in "mkn")
    inner = "  " * (len(study.order) + 1)
    lines.append(f"{inner}buffer: A[{m}, {k}]  B[{k}, {n}]  C[{m}, {n}]")
    return "\n".join(lines)
