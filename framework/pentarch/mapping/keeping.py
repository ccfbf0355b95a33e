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
    "sum_word", "working", "product",
)  # fmt: skip
"""Columns of a GEMM row: rows of A per sequence; inner dimension; output features; experts on the
device; experts a row visits; 1 in decode; executions of one query on one device; bytes per word of
A, B, C and a partial sum on chip; activation bytes per sequence; position among the products."""

TABLE_FIELDS = (
    "dense_bytes", "expert_bytes", "visited_share", "steps", "cache_reads", "kv_per_query",
    "working_prefill", "working_decode", "attention_prefill", "attention_decode",
    "vector_prefill", "vector_decode", "may_keep",
)  # fmt: skip
"""Figures of a stage: bytes of dense and of expert weights that may stay; share of the experts that
one row visits; decode steps; bytes of keys and values that all steps of a sequence read; KV bytes
of a query; bytes of the largest operator by phase (decode: per sequence); activation bytes that
attention and vector rows of a query move, by phase; whether activations may stay."""

PRODUCT_FIELDS = ("mac_s", "step_m", "step_k", "step_n")
"""Of a product of two formats: time of a multiply-accumulate at peak; sizes along m, k, n whose
multiples fill the engine."""

DESIGN_FIELDS = (
    "whole", "room", "in_step", "kv", "copies", "byte_s", "attention_prefill_s", "attention_decode_s",
    "vector_prefill_s", "vector_decode_s", "port_s", "inner",
)  # fmt: skip
"""Figures of a design: bytes of the buffer; bytes that data may take; sequences of a decode step;
bytes of the KV cache of all queries in flight that may stay; copies of a tile (2 where tiles are
double buffered); time of a byte of memory; time of the arithmetic of one query's attention and
vector rows, by phase; time of a byte of the buffer; bytes of a tile in the next inner buffer,
infinite where there is none."""

OUT_FIELDS = ("weights", "experts", "kv", "prefill", "decode", "bytes", "cost_s")
"""What is decided: shares of dense weights, expert weights and KV cache; bytes kept for the
activations of each phase; bytes taken for good; what decided, the estimated seconds of a query."""

HIDDEN = 0.01
"""What a second of memory traffic behind arithmetic counts for: it is energy, and no time. An
assumption; it decides where time does not."""


@inlined
def tiled(
    sizes: tuple[float, float, float], words: tuple[float, float, float, float], capacity: float
) -> tuple[float, float, float]:
    """Return the estimated memory bytes of A, B and C of one GEMM behind a buffer.

    An output tile of Tm x Tn partial sums fills the buffer: A is read n / Tn times, B m / Tm times.
    Where an operand or C fits in half the buffer, which leaves room for what streams through, all
    are moved once.
    """
    m, k, n = sizes
    a_word, b_word, out_word, sum_word = words
    a_once, b_once, c_once = m * k * a_word, k * n * b_word, m * n * out_word
    if min(a_once, b_once, m * n * sum_word) <= capacity / 2.0:
        return a_once, b_once, c_once
    held = max(capacity, 1.0) / sum_word
    tile_m = min(max(np.sqrt(held * b_word / a_word), 1.0), m)
    tile_n = min(max(held / tile_m, 1.0), n)
    tile_m = min(max(held / tile_n, 1.0), m)
    return a_once * (n / tile_n), b_once * (m / tile_m), c_once


@inlined
def padded(size: float, step: float) -> float:
    """Return the least multiple of `step` that holds `size`."""
    return float(np.ceil(size / step) * step)


@inlined
def spent(arithmetic_s: float, moved: float, inside: float, design: Array) -> float:
    """Return the seconds that count of arithmetic and of what it waits for.

    Bytes moved cross memory and the buffer, bytes inside the buffer alone.
    """
    memory_s, buffer_s = moved * design[5], (moved + inside) * design[10]
    return float(max(arithmetic_s, memory_s, buffer_s) + HIDDEN * memory_s)


@inlined
def estimate(
    rows: Array, load: Array, table: Array, design: Array, choice: tuple[Array, Array, float]
) -> float:
    """Return the estimated seconds of one query that count, no less than `limit` once it is reached.

    Args:
        rows: ROW_FIELDS.
        load: What `loads` says of them.
        table: TABLE_FIELDS.
        design: DESIGN_FIELDS.
        choice: Shares (3,), kept bytes (2,), limit.
    """
    shares, kept, limit = choice
    taken = shares[0] * table[0] + shares[1] * table[1] + shares[2] * design[3]
    capacity = max(design[0] - taken - max(kept[0], kept[1]), 0.0) / design[4]
    total = 0.0
    for phase in range(2):
        moves = 0.0 if kept[phase] > 0.0 else 1.0
        cache = table[4] * (1.0 - shares[2]) if phase == 1 else 0.0
        total += spent(design[6 + phase], cache + moves * table[8 + phase], 0.0, design)
        total += spent(design[8 + phase], moves * table[10 + phase], 0.0, design)
    for r in range(rows.shape[0]):
        if total >= limit:
            break
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
        total += spent(load[r, 4], moved, load[r, 5], design) * load[r, 1] * load[r, 2]
    return float(total)


@inlined
def loads(rows: Array, products: Array, design: Array, load: Array) -> None:
    """Fill load (R, 6) with what does not depend on the decision, products (P, 4).

    Rows of A of one instance, instances, weight of a query, activation bytes, arithmetic seconds,
    bytes between the buffer and the next inner one.
    """
    for r in range(rows.shape[0]):
        sequences = design[2] if rows[r, 5] > 0.0 else 1.0
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
        product = products[int(rows[r, 12])]
        load[r, 4] = (
            product[0] * padded(load[r, 0], product[1]) * padded(rows[r, 1], product[2])
            * padded(rows[r, 2], product[3])
        )  # fmt: skip
        a, b, c = tiled(
            (load[r, 0], rows[r, 1], rows[r, 2]),
            (rows[r, 7], rows[r, 8], rows[r, 9], rows[r, 10]),
            design[11],
        )
        load[r, 5] = a + b + c


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
def choose(rows: Array, products: Array, table: Array, designs: Array, out: Array) -> None:
    """Decide for every design; see `evaluate.residency.choose_residency`.

    Args:
        rows: ROW_FIELDS of the GEMM rows, (R, 13).
        products: PRODUCT_FIELDS, (P, 4, N).
        table: TABLE_FIELDS, (13,).
        designs: DESIGN_FIELDS, (12, N).
        out: OUT_FIELDS, (7, N), filled.
    """
    load = np.empty((rows.shape[0], 6))
    sizes, density, shares, kept = np.empty(3), np.empty(3), np.empty(3), np.empty(2)
    is_taken = np.empty(3, np.bool_)
    for index in range(designs.shape[1]):
        design = designs[:, index].copy()
        loads(rows, products[:, :, index], design, load)
        classes(table, design, sizes, density)
        decode = table[7] * design[2]
        shares[:], kept[:] = 0.0, 0.0
        best = estimate(rows, load, table, design, (shares, kept, np.inf))
        settle(out, index, shares, kept, sizes, best)
        for choice in range(3):
            kept[0] = table[6] if choice == 2 else 0.0
            kept[1] = decode if choice > 0 and decode <= design[1] else 0.0
            impossible = choice > 0 and (table[12] <= 0.0 or kept[1] <= 0.0)
            if impossible or kept[0] > design[1]:
                break
            shares[:] = 0.0
            is_taken[:] = False
            left = max(design[1] - max(kept[0], kept[1]), 0.0)
            if choice > 0:
                cost = estimate(rows, load, table, design, (shares, kept, best))
                if cost < best:
                    best = cost
                    settle(out, index, shares, kept, sizes, cost)
            while left > 0.0:
                taken = densest(density, sizes, is_taken)
                if taken < 0:
                    break
                is_taken[taken] = True
                kept_bytes = min(sizes[taken], left)
                left -= kept_bytes
                shares[taken] = kept_bytes / sizes[taken]
                cost = estimate(rows, load, table, design, (shares, kept, best))
                if cost < best:
                    best = cost
                    settle(out, index, shares, kept, sizes, cost)
