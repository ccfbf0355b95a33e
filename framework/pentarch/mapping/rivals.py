"""Kernel: which decisions may be faster than the one that was costed, design by design.

Ordinary Python that numba compiles (`compilation`); `evaluate.settling` says what is decided and
prepares the arrays. A decision is a candidate of `keeping`. No state, no Python objects; integers
live in float64.
"""

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.compilation import compiled, inlined
from pentarch.mapping.keeping import (
    CANDIDATES,
    CHOICE_FIELDS,
    candidate,
    classes,
    following,
    take_design,
)
from pentarch.mapping.nests import make_face, make_gemm, relaxed_cost, relaxed_tile, widest_tile

Array = NDArray[np.float64]

RIVAL_FIELDS = (
    "k", "n", "a_word", "b_word", "out_word", "sum_word", "spill_word", "tokens", "experts",
    "is_decode", "passes", "working", "visits",
)  # fmt: skip
"""Columns of a GEMM row where candidates are held against each other; as `keeping.ROW_FIELDS`."""

ATTENTION_FIELDS = ("is_decode", "passes", "working")
"""Columns of an attention row; as `keeping.ROW_FIELDS`."""

FOUND_FIELDS = ("floor_s", "total_s", "bytes")
"""What is known of a row that was costed: time that no residency changes; its time; bytes that cross
the buffer whatever stays there (GEMM), keys and values that memory delivers if none stay (attention)."""

TOLERANCE = 6e-3
"""Relative time of a query up to which a candidate is not held against the one with the least
estimate."""


@inlined
def refetched(row: Array, m: float, room: float, share: float, once: float) -> float:
    """Return bytes of memory that no mapping of one GEMM goes below: the relaxed optimum of each nest.

    Args:
        row: k, n and the bytes of a, b, out, a sum on chip and a spilled sum.
        m: Rows of A.
        room: Bytes that tiles have.
        share: Share of B that lives on chip.
        once: Bytes where each word moves once.
    """
    k, n = row[0], row[1]
    if min(m * k * row[2], k * n * row[3], m * n * row[5]) <= room / 2.0:
        return once
    gemm = make_gemm(m, row, share, 0.0)
    least = np.inf
    for z in range(3):
        face = make_face(gemm, z)
        if widest_tile(face, room) < 1.0:
            return once
        moved = relaxed_cost(face, room, relaxed_tile(face, room))
        least = min(least, moved + gemm.passes[z] + gemm.fixed)
    return float(max(least * (1.0 - 1e-9), once))


@inlined
def weigh_rows(
    gemms: Array, attentions: Array, found: tuple[Array, Array, int], design: Array, load: Array
) -> int:
    """Fill load with what a row has on one design, and return how many rows can matter.

    Its fields: bytes of its weights (or keys and values) and its other bytes, time that no residency
    changes, its time, bytes inside, its share in a query, whether it decodes, rows of A of one
    instance, instances, class of what it reads, and its number. Rows that arithmetic limits, whatever
    they move, do not matter.
    """
    of_gemms, of_attentions, index = found
    r = 0
    for g in range(gemms.shape[0]):
        row = gemms[g]
        sequences = design[2] if row[9] > 0.0 else 1.0
        tokens = row[7] * sequences
        visited, work = 1.0, tokens
        if row[8] > 0.0:
            work = tokens * row[12]
            visited = row[8] * (1.0 - (1.0 - min(row[12] / row[8], 1.0)) ** tokens)
        load[r, 0], load[r, 1] = row[0] * row[1] * row[3] * visited, row[11] * sequences
        load[r, 2], load[r, 3] = of_gemms[0, g, index], of_gemms[1, g, index]
        load[r, 4] = of_gemms[2, g, index]
        load[r, 5], load[r, 6] = row[10] / sequences, row[9]
        load[r, 7], load[r, 8] = max(work / visited, 1.0), visited
        load[r, 9], load[r, 10] = 1.0 if row[8] > 0.0 else 0.0, float(g)
        r += 1 if matters(load, r, design) else 0
    for a in range(attentions.shape[0]):
        row = attentions[a]
        sequences = design[2] if row[0] > 0.0 else 1.0
        load[r, 0], load[r, 1] = of_attentions[2, a, index], row[2] * sequences
        load[r, 2], load[r, 3] = of_attentions[0, a, index], of_attentions[1, a, index]
        load[r, 4] = 0.0
        load[r, 5], load[r, 6] = row[1] / sequences, row[0]
        load[r, 7], load[r, 8], load[r, 9], load[r, 10] = 0.0, 1.0, 2.0, 0.0
        r += 1 if matters(load, r, design) else 0
    return r


@inlined
def matters(load: Array, r: int, design: Array) -> bool:
    """Return whether a row takes longer than what no residency changes, or could."""
    least = load[r, 2]
    moved = load[r, 0] + load[r, 1]
    return bool(load[r, 3] > least or moved * design[5] > least)


@inlined
def advantage(
    gemms: Array, load: Array, count: int, design: Array, choice: Array,
    start: tuple[float, float],
) -> float:  # fmt: skip
    """Return the seconds of a query, at most, that rows of a candidate take less than those found.

    Args:
        gemms: RIVAL_FIELDS.
        load: What `weigh_rows` says.
        count: Of so many rows.
        design: DESIGN_FIELDS.
        choice: `keeping.CHOICE_FIELDS`.
        start: Bytes that tiles have, infinite for the bound that looks at bytes moved once only; what
            is saved elsewhere.
    """
    room, gain = start
    for r in range(count):
        own = choice[4] if load[r, 6] > 0.0 else choice[3]
        share = choice[int(load[r, 9])]
        moved = load[r, 0] * (1.0 - share)
        if not (own > 0.0 and load[r, 1] <= own):
            moved += load[r, 1]
            # Of a row that arithmetic limits now no other candidate takes anything off.
            if room < np.inf and load[r, 9] < 2.0 and load[r, 3] > load[r, 2]:
                once = moved / load[r, 8]
                row = gemms[int(load[r, 10])]
                moved = refetched(row, np.ceil(load[r, 7]), room, share, once) * load[r, 8]
        least = max(load[r, 2], moved * design[5])
        if load[r, 9] < 2.0:
            least = max(least, (load[r, 4] + moved) * design[10])
        gain += (load[r, 3] - least) * load[r, 5]
    return gain


@inlined
def most_kept(table: Array, designs: Array, most: Array, gain: Array) -> None:
    """Fill what no candidate exceeds, design by design.

    Args:
        table: TABLE_FIELDS.
        designs: DESIGN_FIELDS, (12, N).
        most: (5, N): shares of the three classes, and bytes kept for activations by phase.
        gain: (N,): seconds that are saved elsewhere than in the rows.
    """
    for index in range(designs.shape[1]):
        room, byte_s, port_s = designs[1, index], designs[5, index], designs[10, index]
        for position in range(3):
            size = designs[3, index] if position == 2 else table[position]
            most[position, index] = min(size, max(room, 0.0)) / size if size > 0.0 else 0.0
        decode = table[7] * designs[2, index]
        is_kept = table[12] > 0.0 and 0.0 < decode <= room
        most[4, index] = decode if is_kept else 0.0
        most[3, index] = table[6] if is_kept and table[6] <= room else 0.0
        saved = 0.0
        for phase in range(2):
            if most[3 + phase, index] > 0.0:
                saved += table[10 + phase] * max(byte_s, port_s)
        gain[index] = saved + table[5] * byte_s


@inlined
def add_advantages(
    row: tuple[float, float, float, float, float, float], kind: int,
    found: tuple[Array, Array, Array], designs: Array, most: Array, gain: Array,
) -> None:  # fmt: skip
    """Add to gain (N,) the seconds that no candidate exceeds in one row.

    Args:
        row: Bytes of its weights (0 of attention) for each instance; activation bytes; executions;
            rows of A, experts, and experts that a row of A visits.
        kind: Class of what it reads, and 3 more where it decodes.
        found: FOUND_FIELDS of the row, (N,) each.
        designs: As in `most_kept`.
        most: As in `most_kept`.
        gain: Increased.
    """
    weights, activations, passes, rows, experts, visits = row
    floor_s, total_s, others = found
    read, is_decode = kind % 3, kind >= 3
    for index in range(designs.shape[1]):
        sequences = designs[2, index] if is_decode else 1.0
        kept = most[4, index] if is_decode else most[3, index]
        visited, bytes_in, inside = 1.0, weights, others[index]
        if read == 2:
            bytes_in, inside = others[index], 0.0
        elif experts > 0.0:
            visited = experts * (1.0 - (1.0 - min(visits / experts, 1.0)) ** (rows * sequences))
        moved = bytes_in * visited * (1.0 - most[read, index])
        own = activations * sequences
        moved += 0.0 if kept > 0.0 and own <= kept else own
        least = max(floor_s[index], moved * designs[5, index])
        port_s = (inside + moved) * designs[10, index] if read < 2 else 0.0
        saved = (total_s[index] - max(least, port_s)) * (passes / sequences)
        gain[index] += max(saved, 0.0)


@inlined
def most_gained(
    gemms: Array, attentions: Array, table: Array, designs: Array, found: tuple[Array, Array],
    gain: Array,
) -> None:  # fmt: skip
    """Fill gain (N,) with the seconds of a query that no candidate saves more of.

    Each row is given the largest share and the most room that any candidate has. The terms are those
    of `advantage`, in its order, none of them smaller: what rounds, rounds no lower.
    """
    of_gemms, of_attentions = found
    most = np.empty((5, designs.shape[1]))
    most_kept(table, designs, most, gain)
    for g in range(gemms.shape[0]):
        row = gemms[g]
        add_advantages(
            (row[0] * row[1] * row[3], row[11], row[10], row[7], row[8], row[12]),
            (1 if row[8] > 0.0 else 0) + (3 if row[9] > 0.0 else 0),
            (of_gemms[0, g], of_gemms[1, g], of_gemms[2, g]), designs, most, gain,
        )  # fmt: skip
    for a in range(attentions.shape[0]):
        row = attentions[a]
        add_advantages(
            (0.0, row[2], row[1], 0.0, 0.0, 0.0), 2 + (3 if row[0] > 0.0 else 0),
            (of_attentions[0, a], of_attentions[1, a], of_attentions[2, a]), designs, most, gain,
        )  # fmt: skip


@compiled
def rivals(
    gemms: Array, attentions: Array, table: Array, designs: Array, found: tuple[Array, Array, Array],
    out: NDArray[np.bool_],
) -> None:  # fmt: skip
    """Tell which candidates may take less time than the one that was costed, design by design.

    Args:
        gemms: RIVAL_FIELDS, (R, 13).
        attentions: ATTENTION_FIELDS, (A, 3).
        table: TABLE_FIELDS, (13,).
        designs: DESIGN_FIELDS, (12, N).
        found: FOUND_FIELDS of the GEMM and of the attention rows, (3, R, N) and (3, A, N); number of
            the candidate that was costed and seconds of a query with it, (2, N).
        out: (N, CANDIDATES), false; those are set to true.
    """
    classed, is_taken = np.empty(6), np.empty(3, np.bool_)
    choice, held = np.empty(len(CHOICE_FIELDS)), np.empty(len(CHOICE_FIELDS))
    load = np.empty((gemms.shape[0] + attentions.shape[0] + 1, 11))
    design, gains = np.empty(designs.shape[0]), np.empty(designs.shape[1])
    most_gained(gemms, attentions, table, designs, (found[0], found[1]), gains)
    for index in range(designs.shape[1]):
        chosen, least = int(found[2][0, index]), found[2][1, index] * TOLERANCE
        if not gains[index] > least:
            continue
        take_design(designs, index, design)
        classes(table, design, classed)
        candidate(chosen, table, design, classed, is_taken, held)
        rows = weigh_rows(gemms, attentions, (found[0], found[1], index), design, load)
        number = -1
        while number < CANDIDATES - 1:
            number += 1
            if not candidate(number, table, design, classed, is_taken, choice):
                number = following(number) - 1
                continue
            if number == chosen:
                continue
            elsewhere = 0.0
            for phase in range(2):
                if (choice[3 + phase] > 0.0) != (held[3 + phase] > 0.0):
                    elsewhere += table[10 + phase] * max(design[5], design[10])
            if choice[2] != held[2]:
                elsewhere += table[5] * design[5]
            gain = advantage(gemms, load, rows, design, choice, (np.inf, elsewhere))
            if gain > least:
                taken = choice[0] * classed[0] + choice[1] * classed[1] + choice[2] * classed[2]
                room = max(design[0] - taken - max(choice[3], choice[4]), 0.0) / design[4]
                gain = advantage(gemms, load, rows, design, choice, (room, elsewhere))
                out[index, number] = gain > least
