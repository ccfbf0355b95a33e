"""Literal brute force for any depth: every chain of nested tiles and every loop order, walked."""

from itertools import pairwise, permutations, product

import numba
import numpy as np

ORDERS = np.array(list(permutations(range(3))))
OPERAND_DIMS = np.array([[1, 2], [0, 2], [0, 1]])
"""Dimensions of B, C and A: the operand in row i lacks dimension i."""


@numba.njit
def visit(level, start, size, tiles, orders, held, words):
    """Walk the tiles of one level inside a box; count words of operands not held at the last one.

    An operand's tile is known by where it starts; whatever differs from what is held is fetched.
    """
    first, second, third = orders[level]
    for i in range(start[first], start[first] + size[first], tiles[level, first]):
        for j in range(start[second], start[second] + size[second], tiles[level, second]):
            for k in range(start[third], start[third] + size[third], tiles[level, third]):
                at = np.empty(3, dtype=np.int64)
                at[first], at[second], at[third] = i, j, k
                inside = np.minimum(tiles[level], start + size - at)
                if level + 1 < tiles.shape[0]:
                    visit(level + 1, at, inside, tiles, orders, held, words)
                    continue
                for operand in range(3):
                    p, q = OPERAND_DIMS[operand]
                    if held[operand, 0] != at[p] or held[operand, 1] != at[q]:
                        held[operand, 0], held[operand, 1] = at[p], at[q]
                        words[operand] += inside[p] * inside[q]


@numba.njit
def moved(dims, tiles, orders, word_bytes):
    """Return bytes down and up at the boundary outside the last tile; words of b, c, a come back."""
    words = np.zeros(3, dtype=np.int64)
    held = np.full((3, 2), -1, dtype=np.int64)
    visit(0, np.zeros(3, dtype=np.int64), dims, tiles, orders, held, words)
    a, b, out, _, spill = word_bytes
    once = dims[0] * dims[2]
    spilled = (words[1] - once) * spill
    return words[2] * a + words[0] * b + spilled, once * out + spilled


@numba.njit
def live(tile, word_bytes):
    """Return the bytes that a tile of each operand occupies."""
    return (
        tile[0] * tile[1] * word_bytes[0]
        + tile[1] * tile[2] * word_bytes[1]
        + tile[0] * tile[2] * word_bytes[3]
    )


@numba.njit
def is_repeat(order, box, tile):
    """Return whether an order differs from another only in loops that make a single trip."""
    last = -1
    for dim in order:
        if tile[dim] >= box[dim]:
            if dim < last:
                return True
            last = dim
    for place in range(2):
        if (
            tile[order[place]] < box[order[place]]
            and tile[order[place + 1]] >= box[order[place + 1]]
        ):
            return True
    return False


@numba.njit
def least(dims, word_bytes, capacities, ports, chains):
    """Return least memory bytes, time, energy and energy * time over all chains and orders.

    Args:
        dims: M, K, N.
        word_bytes: Bytes of a, b, out, accumulator, spill.
        capacities: By buffer, outermost first.
        ports: By storage level, memory first: seconds and joules per byte.
        chains: (any, levels, 3): nested tiles.
    """
    best = np.full(4, np.inf)
    levels = capacities.shape[0]
    orders = np.zeros((levels, 3), dtype=np.int64)
    down, up = np.zeros(levels), np.zeros(levels)
    for chain in chains:
        fits = True
        for level in range(levels):
            fits = fits and live(chain[level], word_bytes) <= capacities[level]
        if not fits:
            continue
        for number in range(6**levels):
            skip, rest = False, number
            for level in range(levels):
                orders[level] = ORDERS[rest % 6]
                rest //= 6
                box = dims if level == 0 else chain[level - 1]
                skip = skip or is_repeat(orders[level], box, chain[level])
            if skip:
                continue
            for level in range(levels):
                down[level], up[level] = moved(
                    dims, chain[: level + 1], orders[: level + 1], word_bytes
                )
            time, joules = 0.0, 0.0
            for at in range(levels + 1):
                through = 0.0
                if at < levels:
                    through += down[at] + up[at]
                if at > 0:
                    through += down[at - 1] + up[at - 1]
                time, joules = max(time, through * ports[at, 0]), joules + through * ports[at, 1]
            values = (down[0] + up[0], time, joules, time * joules)
            for at in range(4):
                best[at] = min(best[at], values[at])
    return best


def nested_tiles(dims: tuple[int, ...], levels: int) -> np.ndarray:
    """Return every chain of tiles, each inside the one before: (chains, levels, 3)."""
    single = [
        [sizes for sizes in product(range(1, dim + 1), repeat=levels) if falling(sizes)]
        for dim in dims
    ]
    return np.array([np.array(chain).T for chain in product(*single)], dtype=np.int64)


def falling(sizes: tuple[int, ...]) -> bool:
    """Return whether no size exceeds the one before."""
    return all(inner <= outer for outer, inner in pairwise(sizes))
