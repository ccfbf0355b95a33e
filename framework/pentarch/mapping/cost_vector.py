"""Cost of vector and gather rows: a vector engine and the memory it streams from."""

from dataclasses import dataclass

import numpy as np

from pentarch.graph.table import Flags, VectorTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.cached_vector import (
    PRIMITIVES,
    add_cached_vector,
    is_static,
    needs_kernels,
    vector_kernels,
)
from pentarch.mapping.compilation import load_sums
from pentarch.mapping.costs import RowCosts, RowMemo, RowRequest, RowSums
from pentarch.mapping.traffic import level_bandwidth, level_figures, vector_engine, vector_work


def is_fused(runtime: Runtime, table: VectorTable) -> Flags:
    """Return which rows ride on a neighbor under a runtime, shape (R,)."""
    allowed = runtime.fused_functions
    quantizes = runtime.quantize_fused
    return np.array(
        [
            bool(can)
            and (allowed is None or function in allowed)
            and (function != "quantize" or (quantizes and not is_static(runtime, table, row)))
            for row, (can, function) in enumerate(zip(table.fusable, table.functions, strict=True))
        ],
        dtype=np.bool_,
    )


def cost_vector(request: RowRequest) -> RowCosts:
    """Return the cost of vector and gather rows.

    A fused row keeps its arithmetic but moves no activations of its own: its neighbor reads and
    writes them. Parameters (norm gains) and what is appended to the KV cache move either way; in a
    fused row their latency is hidden behind the neighbor.
    """
    table = request.rows
    if not isinstance(table, VectorTable):
        raise TypeError(f"vector rows expected, got {type(table).__name__}")
    ledger = RowLedger(request, count=len(table.names))
    runtime = request.runtime
    alone = request.memo.of(table, "alone", lambda: ~is_fused(runtime, table), runtime)
    moves = alone.astype(np.float64)[:, None]
    if needs_kernels(request):
        kernels = request.memo.of(
            table, "vector kernels", lambda: vector_kernels(table, runtime, alone), runtime
        )
        add_cached_vector(ledger, table, kernels)
    else:
        appends = np.array([function == "kv_append" for function in table.functions])[:, None]
        read = table.bytes_in[:, None] * request.sequences * moves
        # New keys and values reach memory even when a projection's epilogue writes them.
        write = table.bytes_out[:, None] * request.sequences * np.where(appends, 1.0, moves)
        _add_work(ledger, request, table)
        read = read + table.weight_bytes[:, None]
        _add_moves(ledger, request, Moves(read, write, table.weight_bytes[:, None], appends, moves))
    ledger.add_detail(np.arange(len(table.names)), "fused", 1.0 - moves)
    return ledger.costs()


def _counts(table: VectorTable, request: RowRequest) -> dict[str, Floats]:
    """Return the work by primitive, (R, N)."""
    return {name: getattr(table, name)[:, None] * request.sequences for name in PRIMITIVES}


@dataclass(frozen=True, slots=True, eq=False)
class Moves:
    """What vector rows move, broadcastable to (R, N)."""

    read: Floats
    """Bytes read, parameters included."""
    write: Floats
    """Bytes written."""
    parameters: Floats
    """Bytes of parameters among those read."""
    appends: Flags
    """Whether what is written joins the KV cache."""
    waits: Floats
    """1 where latency counts, 0 where it is hidden."""


def _add_moves(ledger: RowLedger, request: RowRequest, moves: Moves) -> None:
    """Count traffic with memory; what stays on chip moves in the outermost buffer."""
    everything = np.arange(len(moves.read), dtype=np.intp)
    levels, share, stays = request.machine.levels, request.resident_kv, request.resident_activations
    kept_read, kept_write = np.zeros_like(moves.read), np.zeros_like(moves.write)
    if share is not None:
        kept_write = np.where(moves.appends, moves.write * share, 0.0)
    if stays is not None:
        kept_read = np.where(stays, moves.read - moves.parameters, 0.0)
        kept_write = np.where(stays & ~moves.appends, moves.write, kept_write)
    read, write = moves.read - kept_read, moves.write - kept_write
    ledger.add_traffic(everything, levels[0], read, write, waits=moves.waits)
    if kept_read.any() or kept_write.any():
        ledger.add_traffic(everything, levels[1], kept_read, kept_write, waits=moves.waits)


def _add_work(ledger: RowLedger, request: RowRequest, table: VectorTable) -> None:
    everything = np.arange(len(table.names), dtype=np.intp)
    counts = _counts(table, request)
    if not any(count.any() for count in counts.values()):
        return
    engine = vector_engine(request.machine)
    if engine is None:
        ledger.cannot_run(everything, f"{request.machine.name} has no vector engine")
        return
    seconds, joules, missing = vector_work(engine, counts)
    ledger.add_compute(everything, engine.name, seconds, joules)
    for primitive in missing:
        rows = np.flatnonzero(getattr(table, primitive) > 0)
        ledger.cannot_run(
            rows, f"{engine.name} of {request.machine.name} has no rate for {primitive}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class VectorFacts:
    """What the sums of vector rows need to know of them."""

    table: Floats
    """Work and `summing.VECTOR_FIELDS`, shape (R, 13)."""
    primitives: frozenset[str]
    """Kinds of work that some row has."""
    appends: bool
    """Whether some row appends to the KV cache."""


def _facts(table: VectorTable, runtime: Runtime) -> VectorFacts:
    moves = np.where(is_fused(runtime, table), 0.0, 1.0)
    appends = np.array([function == "kv_append" for function in table.functions])
    work = [getattr(table, name) for name in PRIMITIVES]
    return VectorFacts(
        table=np.column_stack(
            [
                *work, table.bytes_in * moves, table.weight_bytes,
                np.where(appends, 0.0, table.bytes_out * moves),
                np.where(appends, table.bytes_out, 0.0), moves, moves, table.executions,
                table.is_decode, table.bytes_in + table.bytes_out,
            ]
        ),
        primitives=frozenset(
            name for name, values in zip(PRIMITIVES, work, strict=True) if (values > 0).any()
        ),
        appends=bool((appends & (table.bytes_out > 0)).any()),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class VectorLoad:
    """The load under which vector rows are summed."""

    concurrency: Floats
    """Sequences that a decode step processes at once, shape (N,)."""
    resident_kv: Floats | None
    """Share of the KV cache that lives in the outermost buffer, shape (N,); `None` for none."""
    activation_bytes: Floats | None
    """Bytes kept there for the activations of prefill and decode, shape (2, N); a row that moves no
    more leaves them there. `None` for none."""
    start_s: Floats
    """Start of an operator that is launched on its own, shape (N,)."""


def sum_vector(
    table: VectorTable, machine: MachineTable, runtime: Runtime, load: VectorLoad, memo: RowMemo
) -> RowSums | None:
    """Return the sums over rows without the rows, or `None` where each row has to be looked at.

    They equal the sums of `cost_vector` but for the order in which energies are added. Rows have to
    be looked at where resources overlap imperfectly, or where the machine cannot run some of them.
    """
    facts = memo.of(
        table,
        ("vector", runtime.fused_functions, runtime.quantize_fused, runtime.static_formats),
        lambda: _facts(table, runtime),
    )  # fmt: skip
    engine = vector_engine(machine)
    if machine.overhead.overlap is not None or runtime.issues_ahead:
        return None
    if facts.primitives and (
        engine is None or not facts.primitives <= set(engine.values_per_cycle)
    ):
        return None
    sums, count = load_sums(), machine.length
    levels = np.ones((2, len(sums.LEVEL_FIELDS), count))
    designs = np.zeros((len(sums.DESIGN_FIELDS), count))
    designs[0], designs[1], designs[2] = 1.0, load.concurrency, load.start_s
    memory, buffer = machine.levels[0], None
    energy: dict[str, Floats | None] = {}
    out = np.zeros((2, 4, count))
    if facts.primitives and engine is not None:
        energy[engine.name] = out[:, 1] if _has_energy(engine, facts.primitives) else None
    energy[memory.name] = None if memory.read_j_per_byte is None else out[:, 2]
    levels[0] = level_figures(memory, level_bandwidth(memory))
    if facts.appends and load.resident_kv is not None:
        buffer, designs[3] = machine.levels[1], load.resident_kv
    if load.activation_bytes is not None:
        buffer, designs[4:6] = machine.levels[1], load.activation_bytes
    if buffer is not None:
        levels[1] = level_figures(buffer, level_bandwidth(buffer))
        energy[buffer.name] = None if buffer.read_j_per_byte is None else out[:, 3]
    sums.sum_vector_rows(
        facts.table, designs, _engine_figures(engine, facts.primitives, count), levels,
        buffer is not None, out,
    )  # fmt: skip
    return RowSums(busy_s=out[:, 0], energy_j=energy)


def _has_energy(engine: Columns[Engine], primitives: frozenset[str]) -> bool:
    return engine.value_j is not None and primitives <= set(engine.value_j)


def _engine_figures(
    engine: Columns[Engine] | None, primitives: frozenset[str], count: int
) -> Floats:
    """Return values per second and joules per value of each primitive, shape (8, N)."""
    figures = np.zeros((2 * len(PRIMITIVES), count))
    if engine is None:
        return figures
    for index, name in enumerate(PRIMITIVES):
        if name not in primitives:
            continue
        rate = engine.values_per_cycle[name]
        figures[index] = rate * engine.units * engine.clock_hz * engine.issue_efficiency
        if _has_energy(engine, primitives):
            figures[len(PRIMITIVES) + index] = engine.value_j[name]
    return figures
