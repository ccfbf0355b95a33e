"""Kernels: split, tile and time of fused attention that a cache feeds, shape by shape.

Ordinary Python that numba compiles (`compilation`); `mapping.cached_attention` prepares the arrays
and says what the figures mean. No state, no Python objects; options are tried in order and the first
of equal times wins.
"""

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.compilation import compiled, inlined
from pentarch.mapping.waves import joined, joined_three, rounds

Array = NDArray[np.float64]

ROW_FIELDS = (
    "group", "positions", "keys", "head_dim", "value_dim", "streamed_dim", "q_bytes", "kv_bytes",
    "out_bytes", "window", "causal",
)  # fmt: skip
"""Columns of a row: query heads of a KV head, query positions, keys, widths of K, of V, and of V
where it is read beside K; bytes per word of Q, of K and V, and of O; keys that a query sees at most;
1 where a query sees no later key."""

DESIGN_FIELDS = (
    "units", "macs_per_s", "score_s", "start_s", "unit_memory", "memory", "cache", "exchange",
    "overlap", "softmax_overlap", "paid", "split_s", "part_s", "wide", "convert_s", "sharing",
    "vector_units", "unit_bytes", "key_tile_s", "splits_below",
)  # fmt: skip
"""Figures of a design with a kernel: units; MACs per second of one; seconds of softmax for one score
on one vector unit; start of a tile; bytes per second that one unit draws from memory; those of memory; those
that all units draw from the cache, and those of exchanges through it; exponents of the overlap of
resources, and of softmax and products, 0 for perfect overlap; share of an unfilled wave that is paid;
fixed time of combining parts, and that of each part; factor on the rates of wide heads; seconds of
converting one word; tiles that share a unit; vector units, at most one of which serves a tile; bytes
of a unit's own buffer; least time of a tile of keys in decode; tiles per unit from
which on keys are not cut there. Every rate that limits nothing is infinite."""

OUT_FIELDS = ("time", "unit_s", "memory_s", "cache_s", "combine_s", "split", "tile", "waves",
              "active", "scores", "executed", "fits",
              "reread")  # fmt: skip
"""What is returned for a row and design: time without start, its terms, parts of the keys, query rows
of a tile, rounds of tiles, units that work at once, scores whose keys are computed for real query
rows, those of whole tiles, 1 where a tile fits a unit's buffer, and
bytes of K and V that are fetched again."""

PARTS = (1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0, 128.0)
"""Ways in which keys may be cut among tiles."""

LEAST_KEYS = 16.0
"""Keys and values that a unit's buffer holds beside the query rows of a tile at least; accumulators
are in registers."""

LEAST_PART = 64.0
"""Keys of the smallest part."""

WIDE_HEAD = 128.0
"""Width of heads above which tiles no longer fit a unit as they should."""

PARTIAL_BYTES = 8.0
"""Bytes of a partial output: written and read once in single precision. The two statistics of a row
are neglected beside them."""


@inlined
def needed_bytes(row: Array, tall: float) -> float:
    """Return the bytes of a unit's buffer that a tile of `tall` query rows needs."""
    keys: float = LEAST_KEYS * (row[3] + row[5]) * row[7]
    needed: float = tall * row[3] * row[6] + keys
    return needed


@inlined
def least_padded(row: Array, options: Array, room: float) -> tuple[float, float]:
    """Return the tile that pads the query rows of a KV head least, and 1 where a unit holds it.

    All query rows are on one unit in any case: nothing speaks for another tile.
    """
    rows, smallest = row[0] * row[1], options[:, 0].min()
    best = smallest
    for o in range(options.shape[0]):
        tall = options[o, 0]
        pads_less = np.ceil(rows / tall) * tall < np.ceil(rows / best) * best
        if pads_less and needed_bytes(row, tall) <= room:
            best = tall
    return best, 1.0 if needed_bytes(row, smallest) <= room else 0.0


@inlined
def decode_units(
    row: Array, design: Array, heads: float, option: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Return the time of the units, the rounds and the padded query rows for one split and tile.

    Args:
        row: ROW_FIELDS.
        design: DESIGN_FIELDS.
        heads: KV heads of all sequences.
        option: Parts of the keys, query rows and keys of a tile.
    """
    parts, tall, step = option
    group = row[0] * row[1]
    padded = np.ceil(group / tall) * tall
    keys = np.ceil(row[2] / parts / step) * step
    sharing, wide = design[15], design[13] if row[3] > WIDE_HEAD else 1.0
    width = row[3] + row[4]
    multiply = padded * width * keys * sharing / (design[1] * wide)
    turns = rounds(heads * parts, design[0] * sharing, design[10])
    # Tiles beyond the number of vector units take turns on them.
    turn = max(heads * parts / (turns * design[16]), sharing)
    convert = width * keys * turn * design[14]
    load = keys * (row[3] + row[5]) * row[7] * sharing / (design[4] * wide)
    softmax = padded * keys * design[2] * turn
    each = joined_three(max(multiply, convert), softmax, load, design[9])
    # Tiles that share a unit wait side by side.
    each = joined(each, keys / step * design[18], design[9])
    return turns * (design[3] * sharing + each), turns, padded


@inlined
def prefill_scores(row: Array, tall: float, step: float) -> tuple[float, float]:
    """Return the scores that the row blocks of one query head compute, and those of the longest one.

    A block sees all keys of its rows, in whole tiles at the diagonal; a window cuts earlier ones.

    Args:
        row: ROW_FIELDS.
        tall: Query rows of a tile.
        step: Keys of a tile.
    """
    positions, keys, window = row[1], row[2], row[9]
    blocks = np.ceil(positions / tall)
    whole = np.ceil(keys / step) * step
    if row[10] == 0.0:
        seen = min(whole, window + tall + step)
        return blocks * tall * seen, tall * seen
    earlier, half = keys - positions, (tall + step) / 2.0
    free = blocks
    if window < keys:
        free = min(max(np.ceil((window - earlier) / tall), 0.0), blocks)
    before = free * earlier + tall * free * (free - 1.0) / 2.0
    if free < blocks:
        before += (blocks - free) * window
    scores = min(tall * (blocks * half + before), blocks * tall * whole)
    return scores, tall * min(whole, window + tall + step)


@inlined
def prefill_units(
    row: Array, design: Array, heads: float, option: tuple[float, float]
) -> tuple[float, float, float]:
    """Return the time of the units, the rounds and the scores of one query head, for one tile.

    Args:
        row: ROW_FIELDS.
        design: DESIGN_FIELDS.
        heads: KV heads of all sequences.
        option: Query rows and keys of a tile.
    """
    tall, step = option
    blocks = np.ceil(row[1] / tall)
    scores, longest = prefill_scores(row, tall, step)
    wide = design[13] if row[3] > WIDE_HEAD else 1.0
    width = row[3] + row[4]
    tiles = heads * row[0] * blocks
    # Row blocks of a sequence differ in length: many of them fill the last round.
    turns = rounds(tiles, design[0], design[10] / np.sqrt(blocks))
    turn = max(tiles / (turns * design[16]), 1.0)
    multiply = width / (design[1] * wide)
    each = joined(multiply, design[2] * turn, design[9])
    alone = joined(multiply, design[2], design[9])
    share = turns / tiles * heads * row[0] * scores
    work, convert = share * each, share / tall * width * design[14] * turn
    return max(work, longest * alone, convert) + turns * design[3], turns, scores


@compiled
def time_decode(
    heads: Array, kept: Array, rows: Array, options: Array, designs: Array, out: Array
) -> None:
    """Choose split and tile of decode attention for every row and design; the least time wins.

    Args:
        heads: KV heads of all sequences, (R, N).
        kept: Share of K and V, of Q, and of O that the cache holds already, (4, R, N); the last is
            not looked at.
        rows: ROW_FIELDS, (R, 11).
        options: Query rows and keys of a tile, most parts, most parts of a single query head, (O, 4).
        designs: DESIGN_FIELDS, (20, N).
        out: OUT_FIELDS, (13, R, N), filled.
    """
    for r in range(heads.shape[0]):
        row = rows[r]
        group = row[0] * row[1]
        for d in range(heads.shape[1]):
            design, cell, count = designs[:, d].copy(), out[:, r, d], heads[r, d]
            stored = count * row[2] * (row[3] + row[5]) * row[7]
            queries, outputs = count * group * row[3] * row[6], count * group * row[4] * row[8]
            fetched = stored * (1.0 - kept[0, r, d]) + queries * (1.0 - kept[1, r, d])
            fetched += outputs * (1.0 - kept[2, r, d])
            memory, cache = fetched / design[5], (stored + queries + outputs) / design[6]
            tall, fits = least_padded(row, options, design[17])
            step, most = options[0, 1], options[0, 3] if group <= 1.0 else options[0, 2]
            best = np.inf
            for parts in PARTS:
                if parts > 1.0 and (parts > most or row[2] / parts < LEAST_PART):
                    continue
                if parts > 1.0 and count >= design[19] * design[0]:
                    continue
                unit, turns, padded = decode_units(row, design, count, (parts, tall, step))
                combine = 0.0
                if parts > 1.0:
                    moved = count * group * row[4] * PARTIAL_BYTES * parts
                    combine = design[11] + parts * design[12] + moved / design[7]
                if unit + combine >= best:
                    continue
                time = joined_three(unit, memory, cache, design[8]) + combine
                if time < best:
                    best = time
                    keys = np.ceil(row[2] / parts / step) * step * parts
                    cell[0], cell[1], cell[2], cell[3], cell[4] = time, unit, memory, cache, combine
                    cell[5], cell[6], cell[7] = parts, tall, turns
                    cell[8], cell[9] = min(count * parts, design[0]), count * group * keys
                    cell[10], cell[11], cell[12] = count * padded * keys, fits, 0.0


@compiled
def time_prefill(
    heads: Array, kept: Array, rows: Array, options: Array, designs: Array, out: Array
) -> None:
    """Choose the tile of attention of several positions for every row and design.

    Args:
        heads: KV heads of all sequences, (R, N).
        kept: Share of K and V, of Q, and of O that the cache holds already, and of the keys of one
            round that are left for the next, (4, R, N).
        rows: ROW_FIELDS, (R, 11).
        options: Query rows and keys of a tile, (O, 4); the rest is not looked at.
        designs: DESIGN_FIELDS, (20, N).
        out: OUT_FIELDS, (13, R, N), filled.
    """
    for r in range(heads.shape[0]):
        row = rows[r]
        group = row[0] * row[1]
        for d in range(heads.shape[1]):
            design, cell, count = designs[:, d].copy(), out[:, r, d], heads[r, d]
            stored = count * row[2] * (row[3] + row[5]) * row[7]
            queries, outputs = count * group * row[3] * row[6], count * group * row[4] * row[8]
            fetched = stored * (1.0 - kept[0, r, d]) + queries * (1.0 - kept[1, r, d])
            fetched += outputs * (1.0 - kept[2, r, d])
            cache = (stored + queries + outputs) / design[6]
            best, smallest = np.inf, options[:, 0].min()
            fits = 1.0 if needed_bytes(row, smallest) <= design[17] else 0.0
            for o in range(options.shape[0]):
                tall, step = options[o, 0], options[o, 1]
                if tall > smallest and needed_bytes(row, tall) > design[17]:
                    continue
                unit, turns, scores = prefill_units(row, design, count, (tall, step))
                # Tiles of a round share what they read; each round of a head reads its keys again.
                again = max(np.ceil(row[0] * np.ceil(row[1] / tall) / design[0]) - 1.0, 0.0)
                reread = again * (1.0 - kept[3, r, d]) * stored
                memory = (fetched + reread) / design[5]
                time = joined_three(unit, memory, cache, design[8])
                if time < best:
                    best, blocks = time, np.ceil(row[1] / tall)
                    cell[0], cell[1], cell[2], cell[3], cell[4] = time, unit, memory, cache, 0.0
                    cell[5], cell[6], cell[7] = 1.0, tall, turns
                    cell[8] = min(count * row[0] * blocks, design[0])
                    cell[9] = count * row[0] * scores * row[1] / (blocks * tall)
                    cell[10], cell[11], cell[12] = count * row[0] * scores, fits, reread
