"""The arithmetic of rows at the peak of the format they run in, and what they have to fetch."""

import numpy as np

from pentarch.graph.operators import OperatorKind
from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.mapping.arithmetic import bits_to_bytes, resolve
from pentarch.mapping.costs import AnyRows, RowRequest
from pentarch.mapping.routed import reroute


def own_macs(request: RowRequest) -> Floats:
    """Return the multiply-accumulates of one execution without padding or masked blocks, (R, N)."""
    each = request.memo.of(request.rows, "own macs", lambda: _own_macs(request.rows))
    result: Floats = each * request.sequences
    return result


def _own_macs(rows: AnyRows) -> Floats:
    """Return the multiply-accumulates of one execution and sequence, (R, 1)."""
    if isinstance(rows, GemmTable):
        visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
        macs = rows.rows * visits * rows.k * rows.n
    elif isinstance(rows, AttentionTable):
        macs = rows.heads * rows.pairs * (rows.head_dim + rows.value_dim)
    else:
        macs = np.zeros(len(rows.names))
    result: Floats = macs[:, None]
    return result


def format_pairs(rows: AnyRows) -> tuple[tuple[str, str], ...]:
    """Return the formats that each row multiplies; none for rows that multiply nothing."""
    if isinstance(rows, GemmTable):
        return tuple(zip(rows.a_formats, rows.b_formats, strict=True))
    if isinstance(rows, AttentionTable):
        return tuple(zip(rows.query_formats, rows.kv_formats, strict=True))
    return ()


def seconds_per_mac(request: RowRequest) -> Floats:
    """Return 1 / the dense peak of the format that each row runs in: (1, N) if it is one, (R, N).

    See definitions.md, MFU, HFU, delivered, peak. Zero for rows that multiply nothing, or that no
    engine can run.
    """
    pairs = request.memo.of(request.rows, "format pairs", lambda: format_pairs(request.rows))
    machine, kind = request.machine, request.kind
    if len(set(pairs)) == 1:
        pairs = pairs[:1]
    return machine.derived.once(
        ("seconds per mac", kind, pairs), lambda: _seconds_per_mac(machine, kind, pairs)
    )


def _seconds_per_mac(
    machine: MachineTable, kind: OperatorKind, pairs: tuple[tuple[str, str], ...]
) -> Floats:
    """Return the same for products of pairs of formats, shape (P, N), P at least 1."""
    result = np.zeros((max(len(pairs), 1), machine.length))
    for pair in dict.fromkeys(pairs):
        product = resolve(machine, *pair, kind)
        if product is not None:
            result[[other == pair for other in pairs]] = 1.0 / product.peak_macs_per_s
    return result


def cached_width(rows: AttentionTable) -> Floats:
    """Return the words of one key and its value, shape (R,); a value inside its key counts once."""
    values = rows.value_dim
    if rows.values_in_keys is not None:
        values = np.where(rows.values_in_keys, 0.0, values)
    return np.asarray(rows.head_dim + values)


def compulsory_bytes(request: RowRequest) -> Floats:
    """Return the bytes of weights (visited experts once) and of keys and values, shape (R, N).

    What lives on chip for good is not fetched from memory.
    """
    rows, sequences = request.rows, request.sequences
    if isinstance(rows, GemmTable):
        stored, has_experts = request.memo.of(rows, "stored", lambda: _stored(rows))
        fetched = 1.0 if request.resident_weights is None else 1.0 - request.resident_weights
        if not has_experts:
            each = stored if isinstance(fetched, float) else stored * fetched
            result: Floats = np.broadcast_to(each, sequences.shape)
            return result
        tokens = rows.rows[:, None] * sequences
        experts, visits = rows.experts[:, None], rows.experts_per_token[:, None]
        share = np.minimum(visits / np.maximum(experts, 1.0), 1.0)
        visited = np.where(experts == 0, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
        reroute(rows, tokens, visited, tokens * visits)
        return stored * visited * fetched
    if isinstance(rows, AttentionTable):
        cached = request.memo.of(rows, "cached bytes", lambda: _cached_bytes(rows)) * sequences
        return cached if request.resident_kv is None else cached * (1.0 - request.resident_kv)
    return np.zeros(sequences.shape)


def _stored(rows: GemmTable) -> tuple[Floats, bool]:
    """Return the bytes of one weight of each row, (R, 1), and whether some row has experts."""
    stored = rows.k * rows.n * bits_to_bytes(rows.b_formats)
    return stored[:, None], bool(rows.experts.any())


def _cached_bytes(rows: AttentionTable) -> Floats:
    """Return the bytes of keys and values that a row reads for one sequence, (R, 1)."""
    words = rows.kv_heads * rows.keys * cached_width(rows)
    found: Floats = (words * bits_to_bytes(rows.kv_formats))[:, None]
    return found
