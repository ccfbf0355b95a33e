"""Every member of the two-boundary class of a small GEMM, without windows, bounds or fronts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from pentarch.mapping.gemm import Array
from pentarch.mapping.single import GemmShape


def all_candidates(shape: GemmShape, sram: float, registers: float) -> list[tuple[float, float]]:
    """Return the distinct (D, Q) of all outer and inner stationarities and tiles of the class."""
    dims = (int(shape.m), int(shape.k), int(shape.n))
    found = []
    for j in range(3):
        register = register_tile(shape, dims, j, registers)
        for z in range(3):
            sizes = [
                sorted(tile_sizes(dims[i], register[i]) if i != z else range(1, dims[i] + 1))
                for i in range(3)
            ]
            found.append(pairs(shape, dims, sizes, sram, register, (z, j)))
    return [(float(d), float(q)) for d, q in np.unique(np.concatenate(found), axis=0)]


def tile_sizes(size: int, register: int) -> set[int]:
    """Return the smallest tile of every trip count and every whole multiple of the register."""
    smallest = {-(-size // trips) for trips in range(1, size + 1)}
    return smallest | set(range(register, size + 1, register))


def live(shape: GemmShape, tile: Sequence[Any]) -> Any:
    """Return the bytes that a tile of each operand occupies."""
    m, k, n = tile
    return shape.a_bytes * m * k + shape.b_bytes * k * n + shape.accumulator_bytes * m * n


def one_pass(shape: GemmShape) -> tuple[float, float, float]:
    """Return bytes of B, of C spilled and refetched, and of A: the operand i lacks dimension i."""
    return (
        shape.b_bytes * shape.k * shape.n,
        2 * shape.spill_bytes * shape.m * shape.n,
        shape.a_bytes * shape.m * shape.k,
    )


def total(shape: GemmShape, passes: Sequence[Any]) -> Any:
    """Return the bytes of so many passes over B, C, A; the first visit of C is its final write."""
    b, c, a = one_pass(shape)
    final = shape.out_bytes * shape.m * shape.n
    return b * passes[0] + c * (passes[1] - 1) + a * passes[2] + final


def register_tile(
    shape: GemmShape, dims: tuple[int, int, int], j: int, registers: float
) -> list[int]:
    """Return the tile of least traffic that keeps operand j; dimension j is streamed whole.

    On a tie the fewest trips along the first dimension; of equal trips the smallest tile.
    """
    x, y = (i for i in range(3) if i != j)
    best = None
    for trips in {-(-dims[x] // size) for size in range(1, dims[x] + 1)}:
        tile = [1, 1, 1]
        tile[x] = -(-dims[x] // trips)
        fitting = [s for s in range(1, dims[y] + 1) if live(shape, put(tile, y, s)) <= registers]
        if not fitting:
            continue
        trips_y = -(-dims[y] // max(fitting))
        passes = [1, 1, 1]
        passes[x], passes[y] = trips, trips_y
        candidate = (total(shape, passes), trips, trips_y)
        best = candidate if best is None else min(best, candidate)
    chosen = list(dims)
    chosen[x], chosen[y] = -(-dims[x] // best[1]), -(-dims[y] // best[2])
    return chosen


def put(tile: Sequence[int], place: int, size: int) -> list[int]:
    """Return `tile` with `size` at `place`."""
    return [size if i == place else old for i, old in enumerate(tile)]


def pairs(
    shape: GemmShape,
    dims: tuple[int, int, int],
    sizes: list[list[int]],
    sram: float,
    register: Sequence[int],
    kept: tuple[int, int],
) -> Array:
    """Return (D, Q) of every combination of tile sizes that fits, edge tiles cut one by one."""
    z, j = kept
    outer, inner = [], []
    for i in range(3):
        cuts = [
            [min(size, dims[i] - start) for start in range(0, dims[i], size)] for size in sizes[i]
        ]
        outer.append([1.0 if i == z else float(len(pieces)) for pieces in cuts])
        inner.append([float(sum(-(-piece // register[i]) for piece in pieces)) for pieces in cuts])
    tiles = np.meshgrid(*sizes, indexing="ij")
    trips = np.meshgrid(*outer, indexing="ij")
    refills = np.meshgrid(*inner, indexing="ij")
    if z == j:
        x, y = (i for i in range(3) if i != z)
        refills[z][(tiles[x] <= register[x]) & (tiles[y] <= register[y])] = 1.0
    fitting = live(shape, tiles) <= sram
    return np.stack((total(shape, trips)[fitting], total(shape, refills)[fitting]), axis=1)
