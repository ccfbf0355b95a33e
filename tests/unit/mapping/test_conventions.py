"""Every convention of the traffic oracle against tiles and orders walked one by one."""

from itertools import permutations

import numba
import numpy as np
import pytest

from pentarch.mapping.single import GemmShape, map_gemm, traffic_lower_bound

ORDERS = np.array(list(permutations(range(3))))
CONVENTIONS = [
    ("even", False), ("even", True), ("even_db", False), ("uneven", False), ("uneven", True),
]  # fmt: skip


@numba.njit
def walked(dims, tile, order):
    """Return the words of A, B and C that a walk over the tiles fetches."""
    trips = (dims + tile - 1) // tile
    held, at = np.full(3, -1, dtype=np.int64), np.zeros(3, dtype=np.int64)
    words = np.zeros(3, dtype=np.int64)
    for i in range(trips[order[0]]):
        at[order[0]] = i
        for j in range(trips[order[1]]):
            at[order[1]] = j
            for k in range(trips[order[2]]):
                at[order[2]] = k
                for operand, (p, q) in enumerate(((0, 1), (1, 2), (0, 2))):
                    name = at[p] * 1000 + at[q]
                    if name != held[operand]:
                        held[operand] = name
                        sides = np.minimum(tile, dims - at * tile)
                        words[operand] += sides[p] * sides[q]
    return words


@numba.njit
def uneven_bytes(dims, tile, kept, word, partial):
    """Return room and traffic of a kept tile, a line of one operand and a word of the third.

    Loops outside the tile move it, the one inside streams; what is not kept is dropped on the way.
    """
    x, y = (1 if kept == 0 else 0), (1 if kept == 2 else 2)
    bytes_of = np.array([word, partial, word])
    whole = bytes_of[kept] * tile[x] * tile[y]
    along_y, along_x = bytes_of[x] * tile[y] + bytes_of[y], bytes_of[y] * tile[x] + bytes_of[x]
    passes = np.ones(3)
    passes[x], passes[y] = np.ceil(dims[x] / tile[x]), np.ceil(dims[y] / tile[y])
    traffic = word * (dims[1] * dims[2] * passes[0] + dims[0] * dims[1] * passes[2])
    traffic += dims[0] * dims[2] * (word + 2.0 * partial * (passes[1] - 1.0))
    return whole + min(along_x, along_y), traffic


@numba.njit
def least(dims, word, partial, capacity):
    """Return the least bytes of each convention, infinity where nothing fits."""
    best, tile, sides = np.full(5, np.inf), np.ones(3, dtype=np.int64), dims + 1
    for number in range(1, sides[0] * sides[1] * sides[2]):
        tile[0], tile[1] = number % sides[0], number // sides[0] % sides[1]
        tile[2] = number // sides[0] // sides[1]
        if tile.min() == 0:
            continue
        divides = (dims % tile == 0).all()
        live = word * (tile[0] * tile[1] + tile[1] * tile[2]) + partial * tile[0] * tile[2]
        if live <= capacity:
            for order in ORDERS:
                words = walked(dims, tile, order)
                once = dims[0] * dims[2]
                moved = word * (words[0] + words[1] + once) + 2.0 * partial * (words[2] - once)
                best[0] = min(best[0], moved)
                if divides:
                    best[1] = min(best[1], moved)
                if live <= np.floor(capacity / 2):
                    best[2] = min(best[2], moved)
        for kept in range(3):
            if tile[kept] == 1:
                room, moved = uneven_bytes(dims, tile, kept, word, partial)
                if room <= capacity:
                    best[3] = min(best[3], moved)
                    if divides or (dims % tile == 0).sum() == 3:
                        best[4] = min(best[4], moved)
    return best


def test_every_convention_equals_all_tiles_and_orders_walked() -> None:
    generator = np.random.default_rng(3)
    primes = [1, 2, 3, 5, 7, 11, 12, 13]
    unfit = 0
    for index in range(600):
        dims = generator.integers(1, 10, 3) if index % 2 else generator.choice(primes, 3)
        word = float(generator.choice([1, 2, 3, 0.5, 0.53125]))
        partial = float(generator.choice([1, 2, 3, 4, 8, 0.5]))
        capacity = float(np.floor(np.exp(generator.uniform(0.5, 7.0))))
        shape = GemmShape(*(float(size) for size in dims), word, word, word, partial, partial)
        wanted = least(dims.astype(np.int64), word, partial, capacity)
        for (convention, perfect), traffic in zip(CONVENTIONS, wanted, strict=True):
            found = map_gemm(shape, capacity, convention=convention, perfect=perfect)
            unfit += found is None
            assert (np.inf if found is None else found.traffic_bytes) == traffic, (
                shape, capacity, convention, perfect,
            )  # fmt: skip
    assert unfit > 50


def traffic_of(shape: GemmShape, capacity: float, convention: str) -> float:
    found = map_gemm(shape, capacity, convention=convention)
    return np.inf if found is None else found.traffic_bytes


@pytest.mark.parametrize("convention", ["even", "even_db", "uneven"])
def test_traffic_obeys_what_holds_for_every_optimum(convention: str) -> None:
    generator = np.random.default_rng(4)
    for _ in range(300):
        m, k, n = (float(size) for size in np.floor(np.exp(generator.uniform(0, 8, 3))))
        word, partial = generator.choice([1.0, 2.0]), generator.choice([1.0, 4.0])
        shape = GemmShape(m, k, n, word, word, word, partial, partial)
        capacity = float(np.floor(np.exp(generator.uniform(2, 15))))
        now = traffic_of(shape, capacity, convention)
        assert now >= word * (m * k + k * n + m * n)
        assert now >= traffic_lower_bound(shape, capacity) * (1 - 1e-12)
        assert traffic_of(shape, capacity * 1.1, convention) <= now
        larger = [GemmShape(m + 1, k, n), GemmShape(m, k + 1, n), GemmShape(m, k, n + 1)]
        for size in larger:
            grown = GemmShape(size.m, size.k, size.n, word, word, word, partial, partial)
            assert traffic_of(grown, capacity, convention) >= now
