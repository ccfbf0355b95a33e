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

LOAD_FIELDS = (
    "m", "weight", "working", "arithmetic_s", "inside", "a_once", "b_once", "c_once", "smallest",
    "root", "n", "sum_word", "is_decode", "experts",
)  # fmt: skip
"""Columns of a GEMM row on one design: rows of A of one instance; instances times executions of a
query; activation bytes; seconds of the arithmetic; bytes between the buffer and the next inner one;
bytes of A, B, C moved once, and the least of A, B and the partial sums; rows of a square tile for
each root of a byte; the others as ROW_FIELDS."""

CHOICE_FIELDS = ("weights", "experts", "kv", "prefill", "decode")
"""A candidate on one design: shares of the three classes, and bytes kept for activations by phase."""

CANDIDATES = 12
"""Decisions that are looked at."""

OUT_FIELDS = ("weights", "experts", "kv", "prefill", "decode", "bytes", "cost_s")
"""What is decided: shares of dense weights, expert weights and KV cache; bytes kept for the
activations of each phase; bytes taken for good; what decided, the estimated seconds of a query."""

HIDDEN = 0.01
"""What a second of memory traffic behind arithmetic counts for: it is energy, and no time. An
assumption; it decides where time does not."""


@inlined
def tiled(load: Array, r: int, capacity: float, side: float) -> tuple[float, float]:
    """Return how often A and B of a GEMM are estimated to be read behind a buffer.

    An output tile of Tm x Tn partial sums fills the buffer: A is read n / Tn times, B m / Tm times.
    Where an operand or C fits in half the buffer, which leaves room for what streams through, all
    are moved once.

    Args:
        load: LOAD_FIELDS of rows.
        r: Which row.
        capacity: Bytes of the buffer, at least 1.
        side: Their square root.
    """
    if load[r, 8] <= capacity / 2.0:
        return 1.0, 1.0
    m, n, held = load[r, 0], load[r, 10], capacity / load[r, 11]
    tile_m = min(max(side * load[r, 9], 1.0), m)
    tile_n = min(max(held / tile_m, 1.0), n)
    tile_m = min(max(held / tile_n, 1.0), m)
    return n / tile_n, m / tile_m


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
def estimate(load: Array, table: Array, design: Array, choice: Array, limit: float) -> float:
    """Return the estimated seconds of one query that count, no less than `limit` once it is reached.

    Args:
        load: LOAD_FIELDS of the rows.
        table: TABLE_FIELDS.
        design: DESIGN_FIELDS.
        choice: CHOICE_FIELDS.
        limit: The least seconds so far.
    """
    dense, experts, cached = choice[0], choice[1], choice[2]
    taken = dense * table[0] + experts * table[1] + cached * design[3]
    capacity = max(design[0] - taken - max(choice[3], choice[4]), 0.0) / design[4]
    total = 0.0
    for phase in range(2):
        moves = 0.0 if choice[3 + phase] > 0.0 else 1.0
        cache = table[4] * (1.0 - cached) if phase == 1 else 0.0
        total += spent(design[6 + phase], cache + moves * table[8 + phase], 0.0, design)
        total += spent(design[8 + phase], moves * table[10 + phase], 0.0, design)
    capacity = max(capacity, 1.0)
    side = np.sqrt(capacity)
    for r in range(load.shape[0]):
        if total >= limit:
            break
        own = choice[4] if load[r, 12] > 0.0 else choice[3]
        share = experts if load[r, 13] > 0.0 else dense
        if own > 0.0 and load[r, 2] <= own:
            moved = load[r, 6] * (1.0 - share)
        else:
            again_a, again_b = tiled(load, r, capacity, side)
            moved = load[r, 6] * again_b * (1.0 - share) + load[r, 5] * again_a + load[r, 7]
        total += spent(load[r, 3], moved, load[r, 4], design) * load[r, 1]
    return float(total)


@inlined
def fixed_loads(rows: Array, load: Array) -> None:
    """Fill the columns of load (R, 14), LOAD_FIELDS, that no design changes."""
    for r in range(rows.shape[0]):
        row = rows[r]
        load[r, 9] = np.sqrt(row[8] / (row[7] * row[10]))
        load[r, 10], load[r, 11], load[r, 12], load[r, 13] = row[2], row[10], row[5], row[3]


@inlined
def sized_loads(rows: Array, products: Array, in_step: float, load: Array, sizes: Array) -> None:
    """Fill those that follow from sequences and array sizes; products (P, 4).

    Sizes (R, 3) become those along m, k, n, padded to the array.
    """
    for r in range(rows.shape[0]):
        row = rows[r]
        sequences = in_step if row[5] > 0.0 else 1.0
        tokens = row[0] * sequences
        visited, work = 1.0, tokens
        if row[3] > 0.0:
            work = tokens * row[4]
            visited = row[3] * (1.0 - (1.0 - min(row[4] / row[3], 1.0)) ** tokens)
        m, k, n = max(work / visited, 1.0), row[1], row[2]
        load[r, 0], load[r, 1] = m, row[6] / sequences * visited
        load[r, 2] = row[11] * sequences
        load[r, 5], load[r, 6], load[r, 7] = m * k * row[7], k * n * row[8], m * n * row[9]
        load[r, 8] = min(load[r, 5], load[r, 6], m * n * row[10])
        product = products[int(row[12])]
        sizes[r, 0], sizes[r, 1] = padded(m, product[1]), padded(k, product[2])
        sizes[r, 2] = padded(n, product[3])


@inlined
def timed_loads(rows: Array, products: Array, inner: float, load: Array, sizes: Array) -> None:
    """Fill what follows from clock and inner buffer: seconds of the arithmetic, bytes inside."""
    side = np.sqrt(inner)
    for r in range(rows.shape[0]):
        mac_s = products[int(rows[r, 12]), 0]
        load[r, 3] = mac_s * sizes[r, 0] * sizes[r, 1] * sizes[r, 2]
        again_a, again_b = tiled(load, r, inner, side)
        load[r, 4] = load[r, 5] * again_a + load[r, 6] * again_b + load[r, 7]


@inlined
def take_product(products: Array, index: int, own: Array) -> bool:
    """Copy the products of design `index` to own (P, 4); return whether a size along m, k, n differs."""
    differs = False
    for p in range(own.shape[0]):
        own[p, 0] = products[p, 0, index]
        for field in range(1, 4):
            size = products[p, field, index]
            if size != own[p, field]:
                own[p, field] = size
                differs = True
    return differs


@inlined
def take_design(designs: Array, index: int, own: Array) -> None:
    """Copy the figures of design `index` to own (12,)."""
    for field in range(own.shape[0]):
        own[field] = designs[field, index]


@inlined
def classes(table: Array, design: Array, classed: Array) -> None:
    """Fill classed (6,): bytes of dense weights, expert weights, KV cache; bytes saved per byte."""
    per_step = table[3] / design[2]
    classed[0], classed[1], classed[2] = table[0], table[1], design[3]
    classed[3] = 1.0 + per_step
    visited = 0.0 if table[2] == 0.0 else 1.0 - (1.0 - table[2]) ** design[2]
    classed[4] = 1.0 + per_step * visited
    classed[5] = table[4] / max(table[5], 1.0)


@inlined
def densest(classed: Array, is_taken: NDArray[np.bool_]) -> int:
    """Return the class not yet taken that saves most per byte, the first of equals; -1 for none."""
    best = -1
    for index in range(3):
        if is_taken[index] or classed[index] <= 0.0 or classed[3 + index] <= 0.0:
            continue
        if best < 0 or classed[3 + index] > classed[3 + best]:
            best = index
    return best


@inlined
def settle(out: Array, index: int, choice: Array, classed: Array, cost: float) -> None:
    """Store a decision for design `index`."""
    for position in range(5):
        out[position, index] = choice[position]
    out[5, index] = choice[0] * classed[0] + choice[1] * classed[1] + choice[2] * classed[2]
    out[6, index] = cost


@inlined
def candidate(
    number: int, table: Array, design: Array, classed: Array, is_taken: NDArray[np.bool_],
    choice: Array,
) -> bool:  # fmt: skip
    """Fill choice, CHOICE_FIELDS, of a candidate; return whether it is one of its own.

    Four candidates each without activations, with those of decode, and with those of both phases:
    nothing else, then one, two and three classes in the order of what they save, as far as there is
    room. With more room each keeps no less.

    Args:
        number: 0 to CANDIDATES - 1.
        table: TABLE_FIELDS.
        design: DESIGN_FIELDS.
        classed: As in `classes`.
        is_taken: Scratch, (3,).
        choice: Filled.
    """
    decode = table[7] * design[2]
    choice[0] = choice[1] = choice[2] = 0.0
    choice[3] = table[6] if number >= 8 else 0.0
    choice[4] = decode if number >= 4 and decode <= design[1] else 0.0
    impossible = number >= 4 and (table[12] <= 0.0 or choice[4] <= 0.0)
    if impossible or choice[3] > design[1]:
        return False
    is_taken[0] = is_taken[1] = is_taken[2] = False
    left = max(design[1] - max(choice[3], choice[4]), 0.0)
    for _ in range(number % 4):
        taken = densest(classed, is_taken) if left > 0.0 else -1
        if taken < 0:
            return False
        is_taken[taken] = True
        kept_bytes = min(classed[taken], left)
        left -= kept_bytes
        choice[taken] = kept_bytes / classed[taken]
    return True


@inlined
def following(number: int) -> int:
    """Return the next candidate to look at behind one that is none of its own.

    Behind activations that do not stay none with more of them do; behind classes that leave no room
    none with more classes is of its own.
    """
    return CANDIDATES if number % 4 == 0 else 4 * (number // 4 + 1)


@compiled
def choose(
    rows: Array, products: Array, table: Array, designs: Array, numbers: NDArray[np.int64],
    out: Array,
) -> None:  # fmt: skip
    """Decide for every design; see `evaluate.residency.choose_residency`.

    Args:
        rows: ROW_FIELDS of the GEMM rows, (R, 13).
        products: PRODUCT_FIELDS, (P, 4, N).
        table: TABLE_FIELDS, (13,).
        designs: DESIGN_FIELDS, (12, N).
        numbers: (N,): the candidate to take, or -1 for the one with the least estimate, the first of
            equals, which is filled in.
        out: OUT_FIELDS, (7, N), filled; no estimate where the candidate was given.
    """
    load, padding = np.empty((rows.shape[0], 14)), np.empty((rows.shape[0], 3))
    classed, choice = np.empty(6), np.empty(len(CHOICE_FIELDS))
    is_taken, design = np.empty(3, np.bool_), np.empty(designs.shape[0])
    own, in_step = np.full(products.shape[:2], np.nan), np.nan
    fixed_loads(rows, load)
    for index in range(designs.shape[1]):
        take_design(designs, index, design)
        classes(table, design, classed)
        given = numbers[index]
        if given >= 0:
            candidate(given, table, design, classed, is_taken, choice)
            settle(out, index, choice, classed, np.nan)
            continue
        if take_product(products, index, own) or design[2] != in_step:
            in_step = design[2]
            sized_loads(rows, own, in_step, load, padding)
        timed_loads(rows, own, design[11], load, padding)
        best, number = np.inf, 0
        while number < CANDIDATES:
            if not candidate(number, table, design, classed, is_taken, choice):
                number = following(number)
                continue
            cost = estimate(load, table, design, choice, best)
            if cost < best:
                best = cost
                numbers[index] = number
                settle(out, index, choice, classed, cost)
            number += 1
