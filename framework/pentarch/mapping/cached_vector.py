"""Cost of vector rows behind a cache: kernels of a library, and activations that are still there.

An unfused kernel streams its inputs and outputs, from the cache if both fit, else from memory; its
work is done beside that. A conversion to a narrower format works row by row: a block of threads
takes one row, finds its largest value and converts it, so that few rows take as long as one:

    t = (rows^q + stream^q)^(1/q),  rows = max(lines / (2 units), 1) (time of a row + values x time of one)
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.graph.table import VectorTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.parts import Engine, Level, Management
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.costs import RowRequest
from pentarch.mapping.traffic import level_bandwidth, vector_engine, vector_work
from pentarch.workload.formats import number_format

Rows = npt.NDArray[np.intp]

LINE_VALUES = 8192.0
"""Values of a row of activations where a table does not say how many rows there are: an assumption,
the width of a 70-billion-parameter model. A decode step has one row per sequence."""

BLOCKS_PER_UNIT = 2.0
"""Rows that one unit works on at once: an assumption, blocks of half a multiprocessor's threads."""


@dataclass(frozen=True, slots=True, eq=False)
class VectorMoves:
    """What vector rows move, fused ones nothing but what is stored for good; shapes (R, N)."""

    read: Floats
    """Activations read."""
    write: Floats
    """Activations written, new keys and values left out."""
    stored: Floats
    """New keys and values: they reach memory."""
    parameters: Floats
    """Parameters: they come from memory."""
    alone: npt.NDArray[np.bool_]
    """Which rows are kernels of their own, (R,)."""


def needs_kernels(request: RowRequest) -> bool:
    """Return whether a cache or a library's kernels decide on the time of vector rows."""
    levels = request.machine.levels
    behind_cache = len(levels) > 1 and levels[1].management is Management.CACHE
    return behind_cache and (request.cached is not None or has_vector_kernels(request.runtime))


def has_vector_kernels(runtime: Runtime) -> bool:
    """Return whether a stack states kernels for vector rows."""
    named = (KernelOperator.VECTOR, KernelOperator.QUANTIZE)
    return any(entry.operator in named for entry in runtime.kernels)


def add_cached_vector(
    ledger: RowLedger, table: VectorTable, moves: VectorMoves, counts: dict[str, Floats]
) -> None:
    """Add vector rows to a ledger.

    Args:
        ledger: Where costs are collected.
        table: The rows.
        moves: What they move.
        counts: Their work by primitive, (R, N).
    """
    machine, runtime = ledger.request.machine, ledger.request.runtime
    engine = vector_engine(machine)
    if engine is None:
        everything = np.arange(len(table.names), dtype=np.intp)
        ledger.cannot_run(everything, f"{machine.name} has no vector engine")
        return
    for (kernel, alone), picked in _groups(runtime, table, moves).items():
        work = {name: values[picked] for name, values in counts.items()}
        seconds, joules, missing = vector_work(engine, work)
        for primitive in missing:
            text = f"{engine.name} of {machine.name} has no rate for {primitive}"
            ledger.cannot_run(picked[work[primitive].any(axis=1)], text)
        if alone:
            ledger.set_kernel(picked, kernel)
            ledger.add_fixed(picked, np.full(seconds.shape, kernel.start_s))
            seconds = seconds / kernel.efficiency
            if kernel.row_s > 0.0 or kernel.token_s > 0.0:
                seconds = _rows_s(ledger.request, table, engine, kernel, picked)
        ledger.add_compute(picked, engine.name, seconds, joules)
        _add_moves(ledger, picked, moves, kernel)


def _groups(
    runtime: Runtime, table: VectorTable, moves: VectorMoves
) -> dict[tuple[KernelSet, bool], Rows]:
    """Return the rows by kernel and by whether they are launched on their own."""
    members: dict[tuple[KernelSet, bool], list[int]] = {}
    for row, function in enumerate(table.functions):
        kernel = vector_kernel(runtime, function, _written_word(table, row))
        members.setdefault((kernel, bool(moves.alone[row])), []).append(row)
    return {key: np.array(rows, dtype=np.intp) for key, rows in members.items()}


def vector_kernel(runtime: Runtime, function: str, word: float | None) -> KernelSet:
    """Return the kernel of a vector row.

    Args:
        runtime: The stack.
        function: What the row computes.
        word: Bytes per value that it writes, by which formats are told apart; `None` if unknown.
    """
    operator = KernelOperator.QUANTIZE if function == "quantize" else KernelOperator.VECTOR
    for entry in runtime.kernels:
        if entry.operator is not operator or (entry.functions and function not in entry.functions):
            continue
        widths = [number_format(name).bytes for name in entry.a_formats]
        if not widths or (word is not None and any(abs(word - each) < 1e-6 for each in widths)):
            return entry
    return KernelSet(operator=operator)


def _written_word(table: VectorTable, row: int) -> float | None:
    values = table.convert[row]
    return None if values <= 0.0 else float(table.bytes_out[row] / values)


def _rows_s(
    request: RowRequest,
    table: VectorTable,
    engine: Columns[Engine],
    kernel: KernelSet,
    picked: Rows,
) -> Floats:
    """Return the time in which units work row by row, (R, N)."""
    values = np.maximum(table.convert, table.reduce)[picked]
    guessed = np.where(table.is_decode[picked], 1.0, np.maximum(values / LINE_VALUES, 1.0))
    lines = guessed
    if table.lines is not None:
        lines = np.where(table.lines[picked] > 0.0, table.lines[picked], guessed)
    all_lines = lines[:, None] * request.sequences[picked]
    turns = np.maximum(all_lines / (engine.units * BLOCKS_PER_UNIT), 1.0)
    found: Floats = turns * (kernel.row_s + values / lines * kernel.token_s)[:, None]
    return found


def _add_moves(ledger: RowLedger, picked: Rows, moves: VectorMoves, kernel: KernelSet) -> None:
    machine = ledger.request.machine
    memory, cache = machine.levels[0], machine.levels[1]
    read, write = moves.read[picked], moves.write[picked]
    room = cache.instances * cache.size_bytes * np.minimum(cache.usable * kernel.cache, 1.0)
    warm = (read + write <= room) & (ledger.request.cached is not None)
    fetched = np.where(warm, 0.0, read) + moves.parameters[picked]
    written = np.where(warm, 0.0, write) + moves.stored[picked]
    ledger.add_traffic(picked, memory, fetched, written, timed=False)
    peak = memory.instances * memory.read_bytes_per_s
    share = np.minimum(memory.stream_efficiency * kernel.stream, kernel.most_stream)
    again = np.where(warm, 0.0, read) * (kernel.passes - 1.0)
    busy = (fetched + written + again) / (peak * share)
    waits = memory.latency_s * moves.alone[picked][:, None]
    ledger.add_level_time(picked, memory.name, np.where(fetched + written > 0.0, busy + waits, 0.0))
    ledger.add_traffic(picked, cache, read + written, write + fetched, timed=False)
    through = np.where(warm, read * kernel.passes + write, 0.0)
    ledger.add_level_time(picked, cache.name, through / (_cache_rate(ledger, cache) * kernel.feed))


def _cache_rate(ledger: RowLedger, cache: Columns[Level]) -> Floats:
    """Return the bytes per second that all units draw from the cache, (N,)."""
    engine, own = vector_engine(ledger.request.machine), cache.requester_bytes_per_s
    rate = level_bandwidth(cache)
    if engine is None or own is None:
        return rate
    limited: Floats = np.minimum(rate, engine.units * own)
    return limited
