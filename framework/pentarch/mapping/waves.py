"""Kernel: the tile, the split and the time of GEMMs that a cache feeds, shape by shape.

Ordinary Python that numba compiles (`compilation`); `mapping.menu` prepares the arrays and says what
the figures mean. No state, no Python objects; the options are tried in order and the first of equal
times wins.
"""

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.compilation import compiled, inlined

Array = NDArray[np.float64]

ROW_FIELDS = ("k", "n", "a_bytes", "b_bytes", "out_bytes", "spill_bytes", "depth", "grouped")
"""Columns of a row: inner dimension, output features, bytes per word of A, B, C and of a spilled
partial sum, words of k that one step takes; 1 where `m` is a mean over GEMMs of unequal heights."""

DESIGN_FIELDS = (
    "units", "macs_per_s", "feed", "drain", "start_s", "step_s", "paid", "split_s", "cache_bytes",
    "memory", "memory_unit", "overlap", "min_rows", "cache", "converted_per_s", "in_row", "scattered",
    "alone",
)  # fmt: skip
"""Figures of a design: units; MACs per second that one of them reaches on a long tile; bytes per
second that one can draw from the cache, and write to it; fixed time of a tile; least time of a k
step; share of an unfilled wave that is paid; fixed time of adding partial sums; bytes of the cache
in use; bytes per second of memory and those that one unit can draw; exponent q of the overlap, 0
for perfect overlap; rows below which a tile takes no less time; bytes per second of the whole cache;
words of B that one unit converts per second, infinite where none are converted; tiles at once where
they start row by row, 0 where they start in blocks; bytes that reading a byte of B again costs on
top, since it comes in pieces; 1 where the option is the best for one instance, and then is timed for
all of them. Every rate that limits nothing is infinite."""

OUT_FIELDS = (
    "option", "time", "compute_s", "feed_s", "spill_s", "memory_read", "memory_write", "cache_read",
    "cache_write", "unit_read", "active", "waves", "executed", "memory_s",
)  # fmt: skip
"""What is returned for a row and design: number of the option, time without start, its terms, bytes
by level, units that work at once, waves, MACs of whole tiles; last, the term of the memory."""


@inlined
def joined(first: float, second: float, exponent: float) -> float:
    """Return (first^q + second^q)^(1/q), or the larger for q = 0."""
    largest, least = max(first, second), min(first, second)
    if exponent == 0.0 or least <= 0.0:
        return largest
    joint: float = largest * (1.0 + (least / largest) ** exponent) ** (1.0 / exponent)
    return joint


@inlined
def rounds(tiles: float, units: float, paid: float) -> float:
    """Return the rounds that tiles take on units; of an unfilled one the share `paid` is paid."""
    filled = tiles / units
    whole = np.ceil(filled)
    turns: float = max(filled + paid * (whole - filled), 1.0)
    return turns


@inlined
def block(units: float, aspect: float, down: float, across: float) -> tuple[float, float]:
    """Return the sides of the block of tiles that runs at once and shares what it reads."""
    high = min(max(np.sqrt(units) * aspect, 1.0), down)
    wide = min(max(units / high, 1.0), across)
    high = min(max(units / wide, 1.0), down)
    return high, wide


@inlined
def passes(
    design: Array, aspect: float, tiles: tuple[float, float], sizes: tuple[float, float]
) -> tuple[float, float]:
    """Return how often A and B are read from memory: once where one fits half the cache.

    Tiles that start row by row share B only as far as all tiles at once are more than one row.

    Args:
        design: Figures of the design.
        aspect: Sides of the block of tiles that runs at once, height / width at equal bytes.
        tiles: Tiles down and across.
        sizes: Bytes of A and B.
    """
    half = design[8] / 2.0
    if design[15] > 0.0:
        broad = min(design[15], tiles[1])
        tall = max(design[15] / tiles[1], 1.0)
        a_times = 1.0 if sizes[0] <= half else np.ceil(tiles[1] / broad)
        return a_times, 1.0 if sizes[1] <= half else max(tiles[0] / tall, 1.0)
    tall, broad = block(design[0], aspect, tiles[0], tiles[1])
    a_times = 1.0 if sizes[0] <= half else np.ceil(tiles[1] / broad)
    b_times = 1.0 if sizes[1] <= half else np.ceil(tiles[0] / tall)
    return a_times, b_times


@inlined
def from_memory(
    design: Array, aspect: float, tiles: tuple[float, float], sizes: tuple[float, float, float],
    kept: tuple[float, float, float],
) -> tuple[float, float, float]:  # fmt: skip
    """Return bytes read and written, and those that reading B again costs on top.

    Args:
        design: Figures of the design.
        aspect: Bytes of a column of B that a tile takes / those of a row of A.
        tiles: Tiles down and across.
        sizes: Bytes of A, B and C.
        kept: Share of A, B and C that the cache holds when the row starts.
    """
    a_times, b_times = passes(design, np.sqrt(aspect), tiles, (sizes[0], sizes[1]))
    read = sizes[0] * (a_times - kept[0]) + sizes[1] * (b_times - kept[1])
    return read, sizes[2] * (1.0 - kept[2]), (b_times - 1.0) * sizes[1] * design[16]


@inlined
def tile_seconds(
    sizes: tuple[float, float, float], tile: tuple[float, float, float], words: tuple[float, float, float],
    design: Array,
) -> tuple[float, float, float, float]:  # fmt: skip
    """Return the time of one tile on one unit: multiplying, k steps, fixed part, drawing operands.

    Args:
        sizes: m, n and words of k that the tile multiplies.
        tile: Its rows, columns and k steps.
        words: Bytes per word of A, B and C.
        design: Figures of the design.
    """
    m, n, depth = sizes
    rows, columns, steps = tile
    work = max(max(rows, design[12]) * columns * depth / design[1], columns * depth / design[14])
    high, wide = min(rows, m), min(columns, n)
    fixed = design[4] + high * wide * words[2] / design[3]
    draw = (high * words[0] + wide * words[1]) * depth / design[2]
    return work, steps * design[5], fixed, draw


@inlined
def tile_rows(m: float, high: float, grouped: float) -> float:
    """Return the tiles that cover m rows, for GEMMs of unequal heights the expected number.

    Heights that have nothing to do with the tile leave half of the last one empty.
    """
    if grouped == 0.0:
        whole: float = np.ceil(m / high)
        return whole
    return max(m / high + (0.5 if m > high else 0.0), 1.0)


@compiled
def choose_waves(
    m: Array, instances: Array, kept: Array, rows: Array, options: Array, designs: Array, out: Array
) -> None:
    """Choose tile and split for every row and design; the least time wins.

    Args:
        m: Rows of A of one instance, (R, N).
        instances: Equal GEMMs run at once, (R, N).
        kept: Share of A, B and C that the cache holds when the row starts, (3, R, N).
        rows: ROW_FIELDS, (R, 8).
        options: Tile rows, tile columns and split of k, (O, 4).
        designs: DESIGN_FIELDS, (18, N).
        out: OUT_FIELDS, (14, R, N), filled.
    """
    for r in range(m.shape[0]):
        k, n, words = rows[r, 0], rows[r, 1], (rows[r, 2], rows[r, 3], rows[r, 4])
        for d in range(m.shape[1]):
            design, cell = designs[:, d].copy(), out[:, r, d]
            count_m, q = m[r, d], design[11]
            a_all, b_all, c_all = count_m * k * words[0], k * n * words[1], count_m * n * words[2]
            sizes, held = (a_all, b_all, c_all), (kept[0, r, d], kept[1, r, d], kept[2, r, d])
            first, last, turns = 0, options.shape[0], 2 if design[17] > 0.0 else 1
            for turn in range(turns):
                copies, best = instances[r, d] if turn == turns - 1 else 1.0, np.inf
                for o in range(first, last):
                    high, wide, split = options[o, 0], options[o, 1], options[o, 2]
                    steps = np.ceil(k / split / rows[r, 6])
                    depth = steps * rows[r, 6]
                    if depth * (split - 1.0) >= k:
                        continue  # a part of k without a single step is no part
                    down, across = tile_rows(count_m, high, rows[r, 7]), np.ceil(n / wide)
                    tiles = down * across * split * copies
                    waves = rounds(tiles, design[0], design[6])
                    if waves * max(high, design[12]) * wide * depth / design[1] >= best:
                        continue
                    shape, tile = (count_m, n, depth), (high, wide, steps)
                    work, latency, fixed, draw = tile_seconds(shape, tile, words, design)
                    drawn = (across * a_all + down * b_all) * copies
                    partial = (split - 1.0) * count_m * n * rows[r, 5] * copies
                    compute = waves * (max(work, latency) + fixed)
                    feed = max(waves * draw, drawn / design[13])
                    if max(compute, feed) >= best:
                        continue
                    active, aspect = min(tiles, design[0]), wide * words[1] / (high * words[0])
                    read, write, slow = from_memory(design, aspect, (down, across), sizes, held)
                    memory = (read + write + slow) * copies / min(design[9], active * design[10])
                    moved = (split + 1.0) * count_m * n * rows[r, 5] * copies
                    spill = design[7] + moved / (design[2] * design[0]) if split > 1.0 else 0.0
                    if max(compute, feed, memory) + spill >= best:
                        continue
                    compute = waves * (joined(work, latency, q) + fixed)
                    time = joined_three(compute, feed, memory, q) + spill
                    if time < best:
                        best = time
                        cell[0], cell[1], cell[2], cell[3], cell[4] = o, time, compute, feed, spill
                        cell[5], cell[6], cell[7] = read * copies, write * copies, drawn + partial
                        cell[8], cell[10], cell[13] = c_all * copies + partial, active, memory
                        cell[9] = tiles * depth * (high * words[0] + wide * words[1])
                        cell[11], cell[12] = np.ceil(tiles / design[0]), tiles * high * wide * depth
                first, last = int(cell[0]), int(cell[0]) + 1


@inlined
def joined_three(first: float, second: float, third: float, exponent: float) -> float:
    """Return (first^q + second^q + third^q)^(1/q), or the largest for q = 0."""
    largest = max(first, second, third)
    if exponent == 0.0:
        return largest
    total = (first / largest) ** exponent + (second / largest) ** exponent
    total += (third / largest) ** exponent
    joint: float = largest * total ** (1.0 / exponent)
    return joint
