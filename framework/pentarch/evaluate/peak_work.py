"""The arithmetic of rows at the peak of the format they run in, and what they have to fetch."""

import numpy as np

from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
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
    kinds = tuple(dict.fromkeys(pairs))
    result = np.zeros((1 if len(kinds) <= 1 else len(pairs), request.machine.length))
    for pair in kinds:
        product = resolve(request.machine, *pair, request.kind)
        if product is None:
            continue
        if len(kinds) == 1:
            result[0] = 1.0 / product.peak_macs_per_s
        else:
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
        stored = rows.k * rows.n * bits_to_bytes(rows.b_formats)
        fetched = 1.0 if request.resident_weights is None else 1.0 - request.resident_weights
        if not rows.experts.any():
            result: Floats = np.broadcast_to(stored[:, None] * fetched, sequences.shape)
            return result
        tokens = rows.rows[:, None] * sequences
        experts, visits = rows.experts[:, None], rows.experts_per_token[:, None]
        share = np.minimum(visits / np.maximum(experts, 1.0), 1.0)
        visited = np.where(experts == 0, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
        reroute(rows, tokens, visited, tokens * visits)
        return stored[:, None] * visited * fetched
    if isinstance(rows, AttentionTable):
        words = rows.kv_heads * rows.keys * cached_width(rows)
        fetched = 1.0 if request.resident_kv is None else 1.0 - request.resident_kv
        return (words * bits_to_bytes(rows.kv_formats))[:, None] * sequences * fetched
    return np.zeros(sequences.shape)
