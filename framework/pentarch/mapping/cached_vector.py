"""Cost of vector rows behind a cache: kernels of a library, and activations that are still there.

An unfused kernel streams its inputs and outputs, from the cache if both fit, else from memory; its
work is done beside that. A conversion to a narrower format works row by row: a block of threads
takes one row, finds its largest value and converts it, so that few rows take as long as one:

    t = (rows^q + stream^q)^(1/q),  rows = max(lines / (2 units), 1) (time of a row + values x time of one)
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.graph.table import VectorTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable
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

PRIMITIVES = ("elementwise", "reduce", "transcendental", "convert")
"""Kinds of work a vector row can have: as many as `summing.WORK_FIELDS`."""

BLOCKS_PER_UNIT = 2.0
"""Rows that one unit works on at once: an assumption, blocks of half a multiprocessor's threads."""


def needs_kernels(request: RowRequest) -> bool:
    """Return whether a cache or a library's kernels decide on the time of vector rows."""
    levels = request.machine.levels
    behind_cache = len(levels) > 1 and levels[1].management is Management.CACHE
    return behind_cache and (request.cached is not None or has_vector_kernels(request.runtime))


def has_vector_kernels(runtime: Runtime) -> bool:
    """Return whether a stack states kernels for vector rows."""
    named = (KernelOperator.VECTOR, KernelOperator.QUANTIZE)
    return any(entry.operator in named for entry in runtime.kernels)


@dataclass(frozen=True, slots=True, eq=False)
class VectorKernels:
    """What vector rows move and which kernels run them; columns of shape (R, 1), per sequence."""

    alone: Floats
    """1 for a kernel of its own, 0 for a row that rides on a neighbor, which moves nothing but what
    is stored for good."""
    read: Floats
    """Bytes of activations read."""
    write: Floats
    """Bytes of activations written, new keys and values left out."""
    stored: Floats
    """Bytes of new keys and values: they reach memory."""
    parameters: Floats
    """Bytes of parameters, whatever the sequences: they come from memory."""
    work: Mapping[str, Floats]
    """Work by primitive that some row has."""
    launched: tuple[tuple[KernelSet, Rows], ...]
    """The rows that are kernels of their own, by kernel."""
    figures: Mapping[str, Floats]
    """`KERNEL_FIGURES` of each row's kernel; neutral for the time of rows that ride on others."""


KERNEL_FIGURES = (
    "start_s", "efficiency", "cache", "stream", "most_stream", "passes", "feed",
)  # fmt: skip


def vector_kernels(
    table: VectorTable, runtime: Runtime, alone: npt.NDArray[np.bool_]
) -> VectorKernels:
    """Return what rows move and which kernels run them under a runtime.

    Args:
        table: The rows.
        runtime: The stack.
        alone: Which rows are kernels of their own, (R,).
    """
    kernels = [
        vector_kernel(
            runtime, "scale" if is_static(runtime, table, row) else function,
            _written_word(table, row),
        )
        for row, function in enumerate(table.functions)
    ]  # fmt: skip
    figures = {
        name: np.array([[float(getattr(kernel, name))] for kernel in kernels])
        for name in KERNEL_FIGURES
    }
    figures["start_s"][~alone], figures["efficiency"][~alone] = 0.0, 1.0
    members: dict[KernelSet, list[int]] = {}
    for row in np.flatnonzero(alone).tolist():
        members.setdefault(kernels[row], []).append(row)
    moves = np.where(alone, 1.0, 0.0)
    appends = np.array([function == "kv_append" for function in table.functions])
    work = {name: getattr(table, name)[:, None] for name in PRIMITIVES}
    return VectorKernels(
        alone=moves[:, None], read=(table.bytes_in * moves)[:, None],
        # New keys and values reach memory even when a projection's epilogue writes them.
        write=np.where(appends, 0.0, table.bytes_out * moves)[:, None],
        stored=np.where(appends, table.bytes_out, 0.0)[:, None],
        parameters=table.weight_bytes[:, None],
        work={name: values for name, values in work.items() if values.any()},
        launched=tuple(
            (kernel, np.array(rows, dtype=np.intp)) for kernel, rows in members.items()
        ),
        figures=figures,
    )  # fmt: skip


def add_cached_vector(ledger: RowLedger, table: VectorTable, kernels: VectorKernels) -> None:
    """Add vector rows to a ledger.

    Args:
        ledger: Where costs are collected.
        table: The rows.
        kernels: What they move, and what runs them.
    """
    request = ledger.request
    machine, engine = request.machine, vector_engine(request.machine)
    everything = np.arange(len(table.names), dtype=np.intp)
    if engine is None:
        ledger.cannot_run(everything, f"{machine.name} has no vector engine")
        return
    counts = {name: values * request.sequences for name, values in kernels.work.items()}
    seconds, joules, missing = vector_work(engine, counts or {"none": np.zeros(ledger.shape)})
    for primitive in missing:
        text = f"{engine.name} of {machine.name} has no rate for {primitive}"
        ledger.cannot_run(np.flatnonzero(kernels.work[primitive]), text)
    seconds = seconds / kernels.figures["efficiency"]
    for kernel, picked in kernels.launched:
        ledger.set_kernel(picked, kernel)
        if kernel.row_s > 0.0 or kernel.token_s > 0.0:
            seconds[picked] = _rows_s(request, table, engine, kernel, picked)
    if kernels.launched:
        ledger.add_fixed(everything, kernels.figures["start_s"])
    ledger.add_compute(everything, engine.name, seconds, joules)
    _add_moves(ledger, everything, kernels)


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


def is_static(runtime: Runtime, table: VectorTable, row: int) -> bool:
    """Return whether a row converts to a format whose scales are fixed beforehand.

    Only inside a model: a row that cannot ride on a neighbor is a measurement of the library's pass.
    """
    if not runtime.static_formats or table.functions[row] != "quantize" or not table.fusable[row]:
        return False
    word = _written_word(table, row)
    return word is not None and any(
        abs(word - number_format(name).bytes) < 1e-6 for name in runtime.static_formats
    )


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


def _add_moves(ledger: RowLedger, everything: Rows, kernels: VectorKernels) -> None:
    request, own = ledger.request, kernels.figures
    machine = request.machine
    memory, cache = machine.levels[0], machine.levels[1]
    rates = machine.derived.once(("vector rates", kernels), lambda: _rates(machine, kernels))
    read, write = kernels.read * request.sequences, kernels.write * request.sequences
    warm = (read + write <= rates.room) & (request.cached is not None)
    cold_read = np.where(warm, 0.0, read)
    fetched = cold_read + kernels.parameters
    written = np.where(warm, 0.0, write) + kernels.stored * request.sequences
    ledger.add_traffic(everything, memory, fetched, written, timed=False)
    moved = fetched + written
    busy = (moved + cold_read * (own["passes"] - 1.0)) / rates.memory
    ledger.add_level_time(everything, memory.name, np.where(moved > 0.0, busy + rates.waits, 0.0))
    ledger.add_traffic(everything, cache, read + written, write + fetched, timed=False)
    through = np.where(warm, read * own["passes"] + write, 0.0)
    ledger.add_level_time(everything, cache.name, through / rates.cache)


@dataclass(frozen=True, slots=True, eq=False)
class _Rates:
    """What kernels make of memory and cache; arrays of shape (R, N)."""

    room: Floats
    """Bytes of the cache in use."""
    memory: Floats
    """Bytes per second of memory."""
    waits: Floats
    """Latency of memory where it counts."""
    cache: Floats
    """Bytes per second of the cache."""


def _rates(machine: MachineTable, kernels: VectorKernels) -> _Rates:
    memory, cache, own = machine.levels[0], machine.levels[1], kernels.figures
    peak = memory.instances * memory.read_bytes_per_s
    share = np.minimum(memory.stream_efficiency * own["stream"], own["most_stream"])
    return _Rates(
        room=cache.instances * cache.size_bytes * np.minimum(cache.usable * own["cache"], 1.0),
        memory=peak * share, waits=memory.latency_s * kernels.alone,
        cache=_cache_rate(machine, cache) * own["feed"],
    )  # fmt: skip


def _cache_rate(machine: MachineTable, cache: Columns[Level]) -> Floats:
    """Return the bytes per second that all units draw from the cache, (N,)."""
    engine, own = vector_engine(machine), cache.requester_bytes_per_s
    rate = level_bandwidth(cache)
    if engine is None or own is None:
        return rate
    limited: Floats = np.minimum(rate, engine.units * own)
    return limited
