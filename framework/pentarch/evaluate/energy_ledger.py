"""The energy ledger: from the joules that an ideal device would need to `query_j`; exact in sum."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from pentarch.evaluate.design_rows import DesignRows
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.ledger import IDLE_REPLICAS, IDLE_STAGES, USEFUL
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, VectorTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import EngineKind, Level
from pentarch.results import AmountEntry, LedgerEntry

REPLICATED = "replicated products"
STATIC = "static"
"""Component of `Figures.energy_j` that is split by what the time goes to."""
STATIC_USEFUL = "static power during useful work"
STATIC_WAITING = "static power while waiting"
STATIC_IDLE = "static power of idle devices"

DUST = 1e-15
"""Share of the energy below which an entry is a difference of rounding errors, and is left out."""

Parts = dict[tuple[str, bool], float]
"""Joules of one query by name and whether an ideal device would need them."""


def energy_ledger(
    figures: Figures, index: int, time: Sequence[LedgerEntry]
) -> tuple[AmountEntry, ...]:
    """Return what one query's energy goes to, the ideal parts first.

    Ideal are the useful multiply-accumulates at the energy of the format they run in, at the supply
    that the power cap leaves, and weights, keys and values read once from where they live. Beyond
    it lie products that are repeated or masked, activations that pass through memory, everything
    that is read or written again, on-chip traffic, vector work and links; static power, split like
    the time; regulators, boards and host. All stays inside the system's DC boundary, so losses of
    the supply at the wall are no part of it.

    Args:
        figures: Figures of a batch.
        index: Which design.
        time: The loss ledger of the same design.

    Returns:
        Amounts that sum to `query_j`; empty when an energy is unknown.
    """
    query = figures.values["query_j"]
    if query is None or not time:
        return ()
    parts: Parts = defaultdict(float)
    seen: dict[str, float] = defaultdict(float)
    for stage in figures.stages:
        for phase in (Phase.PREFILL, Phase.DECODE):
            _add_phase(parts, seen, stage, phase, index=index)
    for name, joules in figures.energy_j.items():
        if joules is None:
            return ()
        if name not in seen:
            _add_rest(parts, name, float(joules[index]), time)
    total = sum(parts.values())
    if total <= 0:
        return ()
    entries = [
        AmountEntry(name=name, share=amount / total, ideal=ideal, amount=amount)
        for (name, ideal), amount in parts.items()
        if abs(amount) > DUST * total
    ]
    return tuple(sorted(entries, key=lambda entry: (not entry.ideal, -entry.amount)))


def _add_rest(parts: Parts, name: str, joules: float, time: Sequence[LedgerEntry]) -> None:
    """Add a component that no row causes; static power goes the way of the time."""
    if name != STATIC:
        parts[name, False] += joules
        return
    shares = {entry.name: entry.share for entry in time}
    useful = shares.get(USEFUL, 0.0)
    idle = shares.get(IDLE_STAGES, 0.0) + shares.get(IDLE_REPLICAS, 0.0)
    parts[STATIC_USEFUL, False] += joules * useful
    parts[STATIC_IDLE, False] += joules * idle
    parts[STATIC_WAITING, False] += joules * (1.0 - useful - idle)


def _add_phase(
    parts: Parts, seen: dict[str, float], stage: StageResult, phase: Phase, *, index: int
) -> None:
    """Add the dynamic energy of one query in a phase, at the supply that the cap leaves."""
    given = stage.costs.given
    power = stage.prefill if phase is Phase.PREFILL else stage.decode
    share = 1.0 if phase is Phase.PREFILL else float(given.concurrency[index])
    nominal: dict[str, float] = defaultdict(float)
    found: list[tuple[str, dict[tuple[str, bool], Floats]]] = []
    for entry in stage.costs.kinds:
        rows = np.flatnonzero(entry.in_phase(phase))
        if not len(rows):
            continue
        view = DesignRows(entry, given, index)
        for name, joules in entry.costs.energy_j.items():
            if joules is None:
                continue
            of_rows = joules[rows, index]
            weights = view.weights[rows]
            nominal[name] += float(of_rows @ weights)
            split = _split(view, rows, name, of_rows)
            found.append((name, {key: part * weights for key, part in split.items()}))
    for name, split in found:
        capped = power.energy_j.get(name)
        if capped is None or nominal[name] <= 0:
            continue
        scale = float(capped[index]) / nominal[name] / share * stage.devices
        for key, part in split.items():
            parts[key] += float(part.sum()) * scale
    for name, capped in power.energy_j.items():
        seen[name] += 0.0 if capped is None else float(capped[index])


def _split(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], name: str, joules: Floats
) -> dict[tuple[str, bool], Floats]:
    """Return the energy of a component by cause, at nominal supply; the parts sum to it.

    Args:
        view: The rows' kind.
        rows: Those of the phase.
        name: Engine, level or link.
        joules: Energy of one execution, by row.
    """
    machine = view.given.machine
    for position, level in enumerate(machine.levels):
        if level.name == name:
            if position == 0:
                return _memory(view, rows, level, joules)
            return _on_chip(view, rows, level, joules, is_first=position == 1)
    for engine in machine.engines:
        if engine.name == name:
            if engine.kind is EngineKind.VECTOR:
                return {(_vector_work(view), False): joules}
            return _products(view, rows, name, joules)
    if any(link.name == name for link in machine.links):
        return {(f"link {name}", False): joules}
    return {(name, False): joules}


def _vector_work(view: DesignRows) -> str:
    if isinstance(view.entry.rows, AttentionTable):
        return "softmax"
    is_vector = view.entry.kind is OperatorKind.VECTOR
    return "vector operators" if is_vector else "conversion of weights"


def _products(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], name: str, joules: Floats
) -> dict[tuple[str, bool], Floats]:
    split: dict[tuple[str, bool], Floats] = {}
    rest = joules.copy()
    useful, replicated = np.zeros(len(rows)), np.zeros(len(rows))
    formats = np.empty(len(rows), dtype=object)
    for position, row in enumerate(rows):
        product = view.products[row]
        if product is None or product.engine.name != name or product.mac_j is None:
            continue
        watts = float(product.peak_macs_per_s[view.index] * product.mac_j[view.index])
        useful[position] = view.ideal_s[row] * watts
        replicated[position] = view.replicated_s[row] * watts
        formats[position] = product.format
    useful = np.minimum(useful, rest)
    rest = rest - useful
    replicated = np.minimum(replicated, rest)
    rest = rest - replicated
    for form in dict.fromkeys(form for form in formats if form is not None):
        split[f"useful products in {form}", True] = np.where(formats == form, useful, 0.0)
    split[REPLICATED, False] = replicated
    is_attention = isinstance(view.entry.rows, AttentionTable)
    split["masked scores" if is_attention else f"further work of {name}", False] = rest
    return split


def _memory(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], level: Columns[Level],
    joules: Floats,
) -> dict[tuple[str, bool], Floats]:  # fmt: skip
    """Return the energy of the outermost memory: what is read once, activations, and the rest."""
    name = level.name
    if isinstance(view.entry.rows, VectorTable):
        return {(f"{name}: vector operators", False): joules}
    reads, writes = _directions(view, rows, level, joules)
    read_j = float(level.read_j_per_byte[view.index])
    compulsory = np.minimum(view.compulsory_bytes[rows] * read_j, reads)
    inputs = np.minimum(view.operands.inputs[rows] * read_j, reads - compulsory)
    write_j = _write_j(level, view.index)
    outputs = np.minimum(view.operands.outputs[rows] * write_j, writes)
    attention = isinstance(view.entry.rows, AttentionTable)
    stored = "keys and values" if attention else "weights"
    again = "collectives" if view.entry.kind is OperatorKind.COLLECTIVE else "rereads"
    return {
        (f"{stored} once from {name}", True): compulsory,
        (f"{name}: activations read", False): inputs,
        (f"{name}: {again}", False): reads - compulsory - inputs,
        (f"{name}: activations written", False): outputs,
        (f"{name}: partial results written", False): writes - outputs,
        (f"{name}: other", False): joules - reads - writes,
    }


def _on_chip(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], level: Columns[Level],
    joules: Floats, *, is_first: bool,
) -> dict[tuple[str, bool], Floats]:  # fmt: skip
    """Return the energy of a level on chip by direction; what lives there is read once in any case."""
    reads, writes = _directions(view, rows, level, joules)
    once = np.zeros(len(rows))
    if is_first and level.read_j_per_byte is not None:
        read_j = float(level.read_j_per_byte[view.index])
        is_vector = isinstance(view.entry.rows, VectorTable)
        once = np.minimum(0.0 if is_vector else view.resident_bytes[rows] * read_j, reads)
    return {
        (f"resident data once from {level.name}", True): once,
        (f"{level.name}: reads", False): reads - once,
        (f"{level.name}: writes", False): writes,
        (f"{level.name}: other", False): joules - reads - writes,
    }


def _directions(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], level: Columns[Level],
    joules: Floats,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the energy of reads and writes of a level, together at most `joules`."""
    if level.read_j_per_byte is None:
        return np.zeros(len(rows)), np.zeros(len(rows))
    reads = view.read(level.name)[rows] * float(level.read_j_per_byte[view.index])
    writes = view.write(level.name)[rows] * _write_j(level, view.index)
    reads = np.minimum(reads, joules)
    return reads, np.minimum(writes, joules - reads)


def _write_j(level: Columns[Level], index: int) -> float:
    energy = level.read_j_per_byte if level.write_j_per_byte is None else level.write_j_per_byte
    return float(energy[index])


def unknown_energies(energy_j: Mapping[str, Floats | None], machine: MachineTable) -> str | None:
    """Return why there is no energy ledger, naming the figures; `None` when all are known."""
    missing = [name for name, joules in energy_j.items() if joules is None and name != "regulators"]
    if not missing:
        return None
    return (
        f"no energy ledger: energy of {', '.join(missing)} of {machine.name} is unknown; it can be "
        f"supplied by back-end {machine.backend} or the system's host_w"
    )
