"""The compiled kernels of attention: least traffic behind one buffer, and the keys of a block.

An operator is a row of numbers in the order of `ROW_FIELDS`. Arrays at the door are C-contiguous
float64; nothing is checked here, `attention` does that. Limits as in `kernels`: integers in
float64 below 2**52.
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import compiled, inlined

ROW_FIELDS = (
    "group", "positions", "kv_length", "window", "head_dim", "value_dim", "q_bytes", "kv_bytes",
    "out_bytes", "accumulator_bytes", "causal", "value_in_key",
)  # fmt: skip
TRAFFIC_FIELDS = ("row_block", "family", "keys_of_k", "keys_of_v", "executed", "spare", "fits")
"""Row block; family; rows of K and of V that one KV head reads; scores; bytes left; fits."""


class Row(NamedTuple):
    """One attention operator; fields as in `AttentionRows`, flags 0 or 1."""

    group: float
    positions: float
    kv_length: float
    window: float
    head_dim: float
    value_dim: float
    q_bytes: float
    kv_bytes: float
    out_bytes: float
    p: float
    causal: float
    shared: float


class Touched(NamedTuple):
    """Keys that blocks of query positions touch."""

    blocks: float
    keys: float
    """Summed over the blocks."""
    weighted: float
    """Summed over the positions."""
    longest: float
    """Of any block."""
    shortest: float
    """Of any block."""


class Work(NamedTuple):
    """Tiles of query rows that units take, of one KV head."""

    tiles: float
    rows: float
    """Query rows of a full tile."""
    passes: float
    """Tiles that share a position."""
    keys: Touched


@inlined
def make_row(values: np.ndarray) -> Row:
    """Return the operator of one row of numbers."""
    return Row(
        values[0], values[1], values[2], values[3], values[4], values[5], values[6], values[7],
        values[8], values[9], values[10], values[11],
    )  # fmt: skip


@inlined
def floor_sum(count: float, modulus: float, step: float, first: float) -> float:
    """Return the sum over i < count of floor((first + i * step) / modulus), all of them >= 0.

    Euclid-like: whole multiples of the modulus leave step and offset, then the roles of step and
    modulus are exchanged.
    """
    total = 0.0
    while count > 0.0:
        whole_step, whole_first = np.floor(step / modulus), np.floor(first / modulus)
        total += whole_step * count * (count - 1.0) / 2.0 + whole_first * count
        step, first = step - whole_step * modulus, first - whole_first * modulus
        reach = step * count + first
        if reach < modulus:
            break
        count = float(np.floor(reach / modulus))
        first = reach - count * modulus
        step, modulus = modulus, step
    return total


@inlined
def rounded(keys: float, block: float, most: float) -> float:
    """Return `keys` rounded up to whole blocks, at most `most`."""
    return float(min(most, np.ceil(keys / block) * block))


@inlined
def first_key(row: Row, start: float, block: float) -> float:
    """Return the first key that a block of positions beginning at `start` touches."""
    seen = row.kv_length - row.positions + start + 1.0 - row.window
    return float(np.floor(max(0.0, seen) / block) * block)


@inlined
def touched_keys(row: Row, wide: float, block: float) -> Touched:
    """Return the keys that blocks of `wide` positions touch, in key blocks of `block`.

    Causal: positions [s, e) of P touch the keys from E + s + 1 - window to E + e, E = kv_length - P.
    Otherwise each block touches window + wide - 1 keys at most.
    """
    length, blocks = row.kv_length, float(np.ceil(row.positions / wide))
    last = row.positions - (blocks - 1.0) * wide
    if row.causal == 0.0:
        full = rounded(min(length, row.window + wide - 1.0), block, length)
        part = rounded(min(length, row.window + last - 1.0), block, length)
        longest = full if blocks > 1.0 else part
        return Touched(
            blocks, (blocks - 1.0) * full + part, (blocks - 1.0) * wide * full + last * part,
            longest, part,
        )  # fmt: skip
    earlier = length - row.positions
    ends = block * floor_sum(blocks - 1.0, block, wide, earlier + wide + block - 1.0)
    # A rounded end passes the last key only in the last blocks; take off what lies beyond.
    whole = np.ceil(length / block)
    inside = max(0.0, float(np.floor(((whole - 1.0) * block - earlier) / wide)))
    ends -= (blocks - 1.0 - min(blocks - 1.0, inside)) * (whole * block - length)
    if row.window >= length:
        return Touched(
            blocks, ends + length, wide * ends + last * length, length,
            min(length, rounded(earlier + min(wide, row.positions), block, length)),
        )  # fmt: skip
    skipped = max(0.0, float(np.floor((row.window - 1.0 - earlier) / wide)) + 1.0)
    starts = block * floor_sum(
        max(0.0, blocks - 1.0 - skipped), block, wide,
        max(0.0, earlier + skipped * wide + 1.0 - row.window),
    )  # fmt: skip
    begin = (blocks - 1.0) * wide
    final = length - first_key(row, begin, block)
    longest, shortest = final, final
    if blocks > 1.0:
        before = rounded(earlier + begin, block, length) - first_key(row, begin - wide, block)
        head = rounded(earlier + wide, block, length) - first_key(row, 0.0, block)
        longest, shortest = max(final, before), min(final, head)
    return Touched(
        blocks, ends - starts + final, wide * (ends - starts) + last * final, longest, shortest
    )


@inlined
def cut_rows(row: Row, block: float, key_block: float) -> Work:
    """Return the tiles of at most `block` query rows of one KV head.

    Under a mask they hold whole positions of all heads of the group, or a part of one position.
    """
    if row.causal == 0.0 and row.window >= row.kv_length:
        every = row.group * row.positions
        tiles = float(np.ceil(every / block))
        length = rounded(row.kv_length, key_block, row.kv_length)
        whole = Touched(tiles, tiles * length, every * length, length, length)
        return Work(tiles, block, 1.0, whole)
    wide = max(1.0, float(np.floor(block / row.group)))
    wide = min(wide, row.positions)
    passes = float(np.ceil(row.group / min(block, row.group)))
    keys = touched_keys(row, wide, key_block)
    height = wide * row.group if passes == 1.0 else float(np.ceil(row.group / passes))
    return Work(
        keys.blocks * passes, height, passes,
        Touched(keys.blocks, keys.keys * passes, keys.weighted * row.group, keys.longest, keys.shortest),
    )  # fmt: skip


@inlined
def balanced(row: Row, rows: float) -> float:
    """Return the smallest row block with the passes that blocks of `rows` >= 1 make."""
    every = row.group * row.positions
    if row.causal == 0.0 and row.window >= row.kv_length:
        return min(rows, float(np.ceil(every / np.ceil(every / rows))))
    if rows < row.group:
        return min(rows, float(np.ceil(row.group / np.ceil(row.group / rows))))
    wide = np.floor(rows / row.group)
    return float(min(rows, np.ceil(row.positions / np.ceil(row.positions / wide)) * row.group))


@inlined
def divisor(every: float, rows: float) -> float:
    """Return the largest divisor of `every` that is at most `rows` >= 1."""
    found = float(np.floor(rows))
    while every % found != 0.0:
        found -= 1.0
    return found


@inlined
def best_family(
    row: Row, capacity: float, columns: float, perfect: float
) -> tuple[float, int, float, float, float]:
    """Return row block, family (-1: none fits), rows of K and V read, and the bytes left over.

    Args:
        row: The operator.
        capacity: Bytes of the buffer.
        columns: Accumulator words per row beside output or panel: a score column, statistics.
        perfect: 1 for row blocks that divide the query rows.
    """
    every, length = row.group * row.positions, row.kv_length
    value = row.value_dim * (1.0 - row.shared)
    flash = row.head_dim * row.q_bytes + (row.value_dim + columns) * row.p
    panel = (min(length, row.window) + columns) * row.p
    once = length * (row.head_dim + value)
    least, best, kept = np.inf, -1, 1.0
    of_k, of_v, left = 0.0, 0.0, 0.0
    for family in range(8):
        holds_k, holds_v = family % 2 == 1, family % 4 >= 2
        if holds_v and row.shared == 1.0:
            continue
        held = (row.head_dim if holds_k else 0.0) + (value if holds_v else 0.0)
        room = capacity - row.kv_bytes * (1.0 + length * held)
        bytes_per_row = flash if family < 4 else panel
        rows = min(every, float(np.floor(room / bytes_per_row)))
        if rows < 1.0:
            continue
        block = divisor(every, rows) if perfect == 1.0 else balanced(row, rows)
        keys = cut_rows(row, block, 1.0).keys.keys
        k_read, v_read = (length if holds_k else keys), (length if holds_v else keys)
        moved = row.head_dim * k_read + value * v_read
        if moved < least:
            least, best, kept, of_k, of_v = moved, family, block, k_read, v_read
            left = room - block * bytes_per_row
        if least <= once:
            break
    if best < 0:
        keys = cut_rows(row, 1.0, 1.0).keys.keys
        of_k, of_v = keys, keys
    return kept, best, of_k, of_v, left


@compiled
def map_rows(
    rows: np.ndarray, capacity: np.ndarray, columns: float, perfect: float, out: np.ndarray
) -> None:
    """Fill `out` (fields, R, N or more) with TRAFFIC_FIELDS of one KV head.

    Args:
        rows: (R, fields): ROW_FIELDS.
        capacity: (N,), already halved for double buffers.
        columns: Accumulator words per row beside output or panel.
        perfect: 1 for row blocks that divide the query rows.
        out: Result.
    """
    for r in range(out.shape[1]):
        row = make_row(rows[r])
        for n in range(capacity.shape[0]):
            block, family, of_k, of_v, left = best_family(row, capacity[n], columns, perfect)
            out[0, r, n] = block
            out[1, r, n] = max(0, family)
            out[2, r, n], out[3, r, n] = of_k, of_v
            out[4, r, n] = cut_rows(row, block, 1.0).keys.weighted
            out[5, r, n] = left
            out[6, r, n] = 1.0 if family >= 0 else 0.0


@compiled
def count_keys(rows: np.ndarray, block: np.ndarray, out: np.ndarray) -> None:
    """Fill `out` (2, R, N) with the rows of K that blocks of one KV head read, and their scores.

    Args:
        rows: (R, fields): ROW_FIELDS.
        block: (R, N): query rows of a block.
        out: Result.
    """
    for r in range(out.shape[1]):
        row = make_row(rows[r])
        for n in range(out.shape[2]):
            keys = cut_rows(row, block[r, n], 1.0).keys
            out[0, r, n], out[1, r, n] = keys.keys, keys.weighted
