"""Kernel: which data stay in the outermost on-chip buffer, design by design.

Ordinary Python that numba compiles (`compilation`); `evaluate.residency` says what is decided and
prepares the arrays. No state, no Python objects; integers live in float64.
"""

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.compilation import compiled, inlined

Array = NDArray[np.float64]

ROW_FIELDS = (
    "tokens", "k", "n", "experts", "visits", "is_decode", "passes", "a_word", "b_word", "out_word",
    "sum_word", "working",
)  # fmt: skip
"""Columns of a GEMM row: rows of A per sequence; inner dimension; output features; experts on the
device; experts a row visits; 1 in decode; executions of one query on one device; bytes per word of
A, B, C and a partial sum on chip; activation bytes per sequence."""

TABLE_FIELDS = (
    "dense_bytes", "expert_bytes", "visited_share", "steps", "cache_reads", "kv_per_query",
    "working_prefill", "working_decode", "streamed_prefill", "streamed_decode", "may_keep",
)  # fmt: skip
"""Figures of a stage: bytes of dense and of expert weights that may stay; share of the experts that
one row visits; decode steps; bytes of keys and values that all steps of a sequence read; KV bytes
of a query; bytes of the largest operator by phase (decode: per sequence); activation bytes that
attention and vector rows of a query move, by phase; whether activations may stay."""

DESIGN_FIELDS = ("whole", "room", "in_step", "kv")
"""Figures of a design: bytes of the buffer; bytes that data may take; sequences of a decode step;
bytes of the KV cache of all queries in flight that may stay."""

OUT_FIELDS = ("weights", "experts", "kv", "prefill", "decode", "bytes", "traffic")
"""What is decided: shares of dense weights, expert weights and KV cache; bytes kept for the
activations of each phase; bytes taken for good; estimated memory bytes of one query."""


@inlined
def tiled(
    sizes: tuple[float, float, float], words: tuple[float, float, float, float], capacity: float
) -> tuple[float, float, float]:
    """Return the estimated memory bytes of A, B and C of one GEMM behind a buffer.

    An output tile of Tm x Tn partial sums fills the buffer: A is read n / Tn times, B m / Tm times.
    Where an operand or C fits as a whole, all are moved once.
    """
    m, k, n = sizes
    a_word, b_word, out_word, sum_word = words
    a_once, b_once, c_once = m * k * a_word, k * n * b_word, m * n * out_word
    if min(a_once, b_once, m * n * sum_word) <= capacity:
        return a_once, b_once, c_once
    held = max(capacity, 1.0) / sum_word
    tile_m = min(max(np.sqrt(held * b_word / a_word), 1.0), m)
    tile_n = min(max(held / tile_m, 1.0), n)
    tile_m = min(max(held / tile_n, 1.0), m)
    return a_once * (n / tile_n), b_once * (m / tile_m), c_once


@inlined
def estimate(
    rows: Array, load: Array, table: Array, design: Array, shares: Array, kept: Array
) -> float:
    """Return the estimated memory bytes of one query, shares (3,), kept bytes (2,)."""
    taken = shares[0] * table[0] + shares[1] * table[1] + shares[2] * design[3]
    capacity = max(design[0] - taken - max(kept[0], kept[1]), 0.0)
    total = 0.0
    for r in range(rows.shape[0]):
        is_decode = rows[r, 5] > 0.0
        own = kept[1] if is_decode else kept[0]
        share = shares[1] if rows[r, 3] > 0.0 else shares[0]
        if own > 0.0 and load[r, 3] <= own:
            moved = rows[r, 1] * rows[r, 2] * rows[r, 8] * (1.0 - share)
        else:
            a, b, c = tiled(
                (load[r, 0], rows[r, 1], rows[r, 2]),
                (rows[r, 7], rows[r, 8], rows[r, 9], rows[r, 10]),
                capacity,
            )
            moved = b * (1.0 - share) + a + c
        total += moved * load[r, 1] * load[r, 2]
    total += table[4] * (1.0 - shares[2])
    if not kept[0] > 0.0:
        total += table[8]
    if not kept[1] > 0.0:
        total += table[9]
    return float(total)


@inlined
def loads(rows: Array, in_step: float, load: Array) -> None:
    """Fill load (R, 4): rows of A of one instance, instances, weight of a query, activation bytes."""
    for r in range(rows.shape[0]):
        sequences = in_step if rows[r, 5] > 0.0 else 1.0
        tokens = rows[r, 0] * sequences
        visited, work = 1.0, tokens
        if rows[r, 3] > 0.0:
            work = tokens * rows[r, 4]
            share = min(rows[r, 4] / rows[r, 3], 1.0)
            visited = rows[r, 3] * (1.0 - (1.0 - share) ** tokens)
        load[r, 0] = max(work / visited, 1.0)
        load[r, 1] = visited
        load[r, 2] = rows[r, 6] / sequences
        load[r, 3] = rows[r, 11] * sequences


@inlined
def classes(table: Array, design: Array, sizes: Array, density: Array) -> None:
    """Fill sizes (3,) and bytes saved per byte (3,) of dense weights, expert weights, KV cache."""
    per_step = table[3] / design[2]
    sizes[0], sizes[1], sizes[2] = table[0], table[1], design[3]
    density[0] = 1.0 + per_step
    density[1] = 1.0 + per_step * (1.0 - (1.0 - table[2]) ** design[2])
    density[2] = table[4] / max(table[5], 1.0)


@inlined
def densest(density: Array, sizes: Array, is_taken: NDArray[np.bool_]) -> int:
    """Return the class not yet taken that saves most per byte, the first of equals; -1 for none."""
    best = -1
    for index in range(3):
        if is_taken[index] or sizes[index] <= 0.0 or density[index] <= 0.0:
            continue
        if best < 0 or density[index] > density[best]:
            best = index
    return best


@inlined
def settle(out: Array, index: int, shares: Array, kept: Array, sizes: Array, cost: float) -> None:
    """Store a decision for design `index`."""
    for position in range(3):
        out[position, index] = shares[position]
    out[3, index], out[4, index] = kept[0], kept[1]
    out[5, index] = shares[0] * sizes[0] + shares[1] * sizes[1] + shares[2] * sizes[2]
    out[6, index] = cost


@compiled
def choose(rows: Array, table: Array, designs: Array, out: Array) -> None:
    """Decide for every design; see `evaluate.residency.choose_residency`.

    Args:
        rows: ROW_FIELDS of the GEMM rows, (R, 12).
        table: TABLE_FIELDS, (11,).
        designs: DESIGN_FIELDS, (4, N).
        out: OUT_FIELDS, (7, N), filled.
    """
    load = np.empty((rows.shape[0], 4))
    sizes, density, shares, kept = np.empty(3), np.empty(3), np.empty(3), np.empty(2)
    is_taken = np.empty(3, np.bool_)
    for index in range(designs.shape[1]):
        design = designs[:, index].copy()
        loads(rows, design[2], load)
        classes(table, design, sizes, density)
        decode = table[7] * design[2]
        best = np.inf
        for choice in range(3):
            kept[0] = table[6] if choice == 2 else 0.0
            kept[1] = decode if choice > 0 and decode <= design[1] else 0.0
            impossible = choice > 0 and (table[10] <= 0.0 or kept[1] <= 0.0)
            if impossible or kept[0] > design[1]:
                break
            shares[:] = 0.0
            is_taken[:] = False
            left = max(design[1] - max(kept[0], kept[1]), 0.0)
            while True:
                cost = estimate(rows, load, table, design, shares, kept)
                if cost < best:
                    best = cost
                    settle(out, index, shares, kept, sizes, cost)
                taken = densest(density, sizes, is_taken)
                if taken < 0 or left <= 0.0:
                    break
                is_taken[taken] = True
                kept_bytes = min(sizes[taken], left)
                left -= kept_bytes
                shares[taken] = kept_bytes / sizes[taken]
