"""From bytes to time and energy: storage levels, vector rates, and how the terms combine."""

from collections.abc import Mapping, Sequence

import numpy as np

from pentarch.hardware.columns import FEW_DESIGNS, Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine, EngineKind, Level
from pentarch.mapping.compilation import load_sums


def level_bandwidth(level: Columns[Level], *, requesters: Floats | None = None) -> Floats:
    """Return the sustained read bandwidth of all instances of a level.

    Args:
        level: The level.
        requesters: Units that draw on it at once; limits it where one requester has a limit.
            Shape (R, N) or (N,).

    Returns:
        Bytes per second, broadcast over the shapes given.
    """
    total = level.once("bandwidth", lambda: _bandwidth(level))
    if requesters is None or level.requester_bytes_per_s is None:
        return total
    limited: Floats = np.minimum(total, requesters * level.requester_bytes_per_s)
    return limited


def _bandwidth(level: Columns[Level]) -> Floats:
    total: Floats = level.instances * level.read_bytes_per_s * level.stream_efficiency
    return total


def level_costs(
    level: Columns[Level], read: Floats, write: Floats, *, requesters: Floats | None = None,
    waits: Floats | float = 1.0,
) -> tuple[Floats, Floats | None]:  # fmt: skip
    """Return time and energy of a level's traffic: bytes / bandwidth + latency, and bytes x energy.

    Args:
        level: The level.
        read: Bytes read, shape (R, N).
        write: Bytes written, shape (R, N).
        requesters: As in `level_bandwidth`.
        waits: 1 where the latency counts, 0 where it is hidden: a number, or shape (R, 1).

    Returns:
        Seconds, shape (R, N), zero where there is no traffic; and joules, `None` when a figure is
        unknown.
    """
    bandwidth = level_bandwidth(level, requesters=requesters)
    if bandwidth.ndim > 1:
        seconds = _limited_time(level, read, write, bandwidth=bandwidth, waits=waits)
        return seconds, level_energy(level, read, write)
    sums = load_sums()
    read, write = sums.door(read), sums.door(write)
    out = np.empty((2, *read.shape))
    delays = np.full(len(read), waits) if isinstance(waits, float) else sums.door(waits[:, 0])
    sums.level_costs(read, write, level_figures(level, bandwidth), delays, out)
    return out[0], None if level.read_j_per_byte is None else out[1]


def _limited_time(
    level: Columns[Level], read: Floats, write: Floats, *, bandwidth: Floats,
    waits: Floats | float,
) -> Floats:  # fmt: skip
    """Return the time of traffic where bandwidth (R, N) depends on who draws on the level."""
    if level.write_bytes_per_s is None:
        busy = (read + write) / bandwidth
    else:
        writes = level.instances * level.write_bytes_per_s * level.stream_efficiency
        busy = np.maximum(read / bandwidth, write / writes)
    return np.where(read + write > 0, busy + level.latency_s * waits, 0.0)


def level_figures(level: Columns[Level], bandwidth: Floats) -> Floats:
    """Return `summing.LEVEL_FIELDS` of a level, shape (5, N); unknown energies are 0.

    Args:
        level: The level.
        bandwidth: Its sustained read bandwidth, shape (N,).
    """
    figures = np.zeros((5, level.length))
    figures[0] = bandwidth
    if level.write_bytes_per_s is not None:
        figures[1] = level.instances * level.write_bytes_per_s * level.stream_efficiency
    figures[2] = level.latency_s
    if level.read_j_per_byte is not None:
        figures[3] = level.read_j_per_byte
        figures[4] = figures[3] if level.write_j_per_byte is None else level.write_j_per_byte
    return figures


def level_energy(level: Columns[Level], read: Floats, write: Floats) -> Floats | None:
    """Return the energy of the traffic in joules, shape (R, N), or `None` when a figure is unknown."""
    if level.read_j_per_byte is None:
        return None
    write_j = level.read_j_per_byte if level.write_j_per_byte is None else level.write_j_per_byte
    energy: Floats = read * level.read_j_per_byte + write * write_j
    return energy


def vector_engine(machine: MachineTable) -> Columns[Engine] | None:
    """Return the vector engine, the first one listed, or `None`."""
    return machine.derived.once(
        "vector engine", lambda: next(iter(machine.engines_of(EngineKind.VECTOR)), None)
    )


def values_per_s(engine: Columns[Engine], primitive: str) -> Floats | None:
    """Return the values per second of all units of an engine, (N,); `None` without a rate."""
    rate = engine.values_per_cycle.get(primitive)
    if rate is None:
        return None

    def find() -> Floats:
        found: Floats = rate * engine.units * engine.clock_hz * engine.issue_efficiency
        return found

    return engine.once(("values per second", primitive), find)


def vector_work(
    engine: Columns[Engine], counts: Mapping[str, Floats]
) -> tuple[Floats, Floats | None, tuple[str, ...]]:
    """Return the time and energy of work on a vector engine.

    Args:
        engine: The engine.
        counts: Values by primitive, each of shape (R, N).

    Returns:
        Seconds (R, N): the primitives follow one another; joules (R, N), `None` when unknown; and
        the primitives with work that the engine lacks.
    """
    shapes = {count.shape for count in counts.values()}
    shape = shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)
    seconds = np.zeros(shape)
    joules: Floats | None = np.zeros(shape)
    missing: list[str] = []
    for primitive, count in counts.items():
        if not np.count_nonzero(count):
            continue
        per_s = values_per_s(engine, primitive)
        if per_s is None:
            missing.append(primitive)
            continue
        seconds = seconds + count / per_s
        energy = None if engine.value_j is None else engine.value_j.get(primitive)
        joules = None if joules is None or energy is None else joules + count * energy
    return seconds, joules, tuple(missing)


def combine(terms: Sequence[Floats], overlap: Floats | None) -> Floats:
    """Return the time of resources that work side by side: (sum t^q)^(1/q), or their maximum.

    Args:
        terms: Seconds of each resource alone, each of shape (R, N).
        overlap: Exponent q of shape (N,); `None` means perfect overlap.

    Returns:
        Seconds, shape (R, N); never less than the largest term.
    """
    if overlap is not None and terms[0].shape[-1] <= FEW_DESIGNS:
        return _combine_few(np.array(terms), overlap)
    largest: Floats = terms[0]
    for term in terms[1:]:
        largest = np.maximum(largest, term)
    if overlap is None:
        return largest
    safe = np.where(largest > 0, largest, 1.0)
    total = np.zeros_like(largest)
    for term in terms:
        total += (term / safe) ** overlap
    result: Floats = largest * np.maximum(total, 1.0) ** (1.0 / overlap)
    return result


def _combine_few(terms: Floats, overlap: Floats) -> Floats:
    """Return `combine` of few designs: one call for all terms (T, R, N), added in their order."""
    largest: Floats = np.maximum.reduce(terms)
    shares = (terms / np.where(largest > 0, largest, 1.0)) ** overlap
    total = np.add.accumulate(shares)[-1]
    result: Floats = largest * np.maximum(total, 1.0) ** (1.0 / overlap)
    return result
