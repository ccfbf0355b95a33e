"""Cost of vector and gather rows: a vector engine and the memory it streams from."""

import numpy as np

from pentarch.graph.table import Flags, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import vector_engine, vector_work

PRIMITIVES = ("elementwise", "reduce", "transcendental", "convert")
"""Kinds of work a vector row can have."""


def is_fused(request: RowRequest, table: VectorTable) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which rows ride on a neighbor under the request's runtime, shape (R,)."""
    allowed = request.runtime.fused_functions
    quantizes = request.runtime.quantize_fused
    return np.array(
        [
            bool(can)
            and (allowed is None or function in allowed)
            and (quantizes or function != "quantize")
            for can, function in zip(table.fusable, table.functions, strict=True)
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
    everything = np.arange(len(table.names), dtype=np.intp)
    _add_work(ledger, request, table)
    moves = np.where(is_fused(request, table), 0.0, 1.0)[:, None]
    sequences = request.sequences
    appends = np.array([function == "kv_append" for function in table.functions])[:, None]
    read = table.bytes_in[:, None] * sequences * moves + table.weight_bytes[:, None]
    # New keys and values reach memory even when a projection's epilogue writes them.
    write = table.bytes_out[:, None] * sequences * np.where(appends, 1.0, moves)
    _add_moves(ledger, request, read, write, appends=appends, waits=moves)
    ledger.add_detail(everything, "fused", np.broadcast_to(1.0 - moves, ledger.shape))
    return ledger.costs()


def _add_moves(
    ledger: RowLedger, request: RowRequest, read: Floats, write: Floats, *, appends: Flags,
    waits: Floats,
) -> None:  # fmt: skip
    """Count traffic with memory; what is appended to a cache that lives on chip goes there."""
    everything = np.arange(len(read), dtype=np.intp)
    levels, resident = request.machine.levels, request.resident_kv
    if resident is None or not resident.any() or not appends.any():
        ledger.add_traffic(everything, levels[0], read, write, waits=waits)
        return
    kept = appends & resident
    ledger.add_traffic(everything, levels[0], read, np.where(kept, 0.0, write), waits=waits)
    ledger.add_traffic(
        everything, levels[1], np.zeros_like(read), np.where(kept, write, 0.0), waits=waits
    )


def _add_work(ledger: RowLedger, request: RowRequest, table: VectorTable) -> None:
    everything = np.arange(len(table.names), dtype=np.intp)
    counts: dict[str, Floats] = {
        name: getattr(table, name)[:, None] * request.sequences for name in PRIMITIVES
    }
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
