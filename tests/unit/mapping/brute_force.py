"""Literal brute force: walk the tiles of every mapping of a tiny GEMM and count what moves."""

from itertools import permutations

import numba
import numpy as np

ORDERS = np.array(list(permutations(range(3))))
OPERAND_DIMS = np.array([[1, 2], [0, 2], [0, 1]])
"""Dimensions of B, C and A: the operand in row i lacks dimension i."""


@numba.njit
def walk(dims, outer, outer_order, inner, inner_order, changes):
    """Count, per operand, the words fetched into the buffer (row 0) and the registers (row 1).

    A register tile is known by its buffer tile and its place therein; whatever differs from what
    is held is fetched. Dimensions are walked with edge tiles of their real size.
    """
    held = np.full((2, 3, 4), -1, dtype=np.int64)
    changes[:] = 0
    at = np.zeros(3, dtype=np.int64)
    trips = (dims + outer - 1) // outer
    for i in range(trips[outer_order[0]]):
        at[outer_order[0]] = i
        for j in range(trips[outer_order[1]]):
            at[outer_order[1]] = j
            for k in range(trips[outer_order[2]]):
                at[outer_order[2]] = k
                size = np.minimum(outer, dims - at * outer)
                fetch(changes, held, 0, at, at * 0, size)
                walk_inner(size, at, inner, inner_order, held, changes)


@numba.njit
def walk_inner(size, at, inner, order, held, changes):
    """Walk the register tiles of one buffer tile."""
    trips = (size + inner - 1) // inner
    place = np.zeros(3, dtype=np.int64)
    for i in range(trips[order[0]]):
        place[order[0]] = i
        for j in range(trips[order[1]]):
            place[order[1]] = j
            for k in range(trips[order[2]]):
                place[order[2]] = k
                fetch(changes, held, 1, at, place, np.minimum(inner, size - place * inner))


@numba.njit
def fetch(changes, held, level, at, place, size):
    """Count the words of the operands that are not held yet, and hold them."""
    for operand in range(3):
        p, q = OPERAND_DIMS[operand]
        same = (
            held[level, operand, 0] == at[p]
            and held[level, operand, 1] == at[q]
            and held[level, operand, 2] == place[p]
            and held[level, operand, 3] == place[q]
        )
        if not same:
            held[level, operand, 0], held[level, operand, 1] = at[p], at[q]
            held[level, operand, 2], held[level, operand, 3] = place[p], place[q]
            changes[level, operand] += size[p] * size[q]


@numba.njit
def traffic(dims, words, moved):
    """Return bytes from words fetched; words = bytes of a, b, out, accumulator, spill."""
    once = dims[0] * dims[2]
    return (
        moved[0] * words[1] + moved[2] * words[0] + once * words[2]
        + 2.0 * (moved[1] - once) * words[4]
    )  # fmt: skip


@numba.njit
def live(tile, words):
    """Return the bytes that a tile of each operand occupies."""
    return (
        tile[0] * tile[1] * words[0] + tile[1] * tile[2] * words[1] + tile[0] * tile[2] * words[3]
    )


@numba.njit
def least_one_boundary(dims, words, capacity):
    """Return the least bytes over every tile and order, -1 if nothing fits."""
    best = -1.0
    changes = np.zeros((2, 3), dtype=np.int64)
    outer = np.ones(3, dtype=np.int64)
    for m in range(1, dims[0] + 1):
        for k in range(1, dims[1] + 1):
            for n in range(1, dims[2] + 1):
                outer[0], outer[1], outer[2] = m, k, n
                if live(outer, words) > capacity:
                    continue
                for order in ORDERS:
                    walk(dims, outer, order, outer, order, changes)
                    moved = traffic(dims, words, changes[0])
                    if best < 0.0 or moved < best:
                        best = moved
    return best


@numba.njit
def least_two_boundaries(dims, words, capacities, rates):
    """Return the least time over every pair of tiles and all 36 pairs of orders, -1 if none fits.

    Rates are compute seconds, memory and SRAM bytes per second.
    """
    best = -1.0
    changes = np.zeros((2, 3), dtype=np.int64)
    for pair in range((dims[0] * dims[1] * dims[2]) ** 2):
        outer, inner, number = np.ones(3, dtype=np.int64), np.ones(3, dtype=np.int64), pair
        for i in range(3):
            outer[i] = 1 + number % dims[i]
            number //= dims[i]
            inner[i] = 1 + number % dims[i]
            number //= dims[i]
        if live(outer, words) > capacities[0] or live(inner, words) > capacities[1]:
            continue
        if (inner > outer).any():
            continue
        for first in ORDERS:
            for second in ORDERS:
                walk(dims, outer, first, inner, second, changes)
                d, q = traffic(dims, words, changes[0]), traffic(dims, words, changes[1])
                time = max(rates[0], d / rates[1], (d + q) / rates[2])
                if best < 0.0 or time < best:
                    best = time
    return best
