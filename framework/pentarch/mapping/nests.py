"""Loop nests as numbers: the parts of the kernels that describe and bound one GEMM.

Dimensions are numbered 0 = M, 1 = K, 2 = N, and an operand by the dimension it lacks: 0 = B,
1 = C, 2 = A. Operand j is moved again for every trip over dimension j, unless j is the innermost
loop that moves nothing else: *stationarity* j keeps operand j and streams along dimension j. Any
loop order costs at least as much as the stationarity of its innermost loop with more than one
trip, so three cases cover all six orders.

Each case is one problem: least x_bytes * ceil(x / tx) + y_bytes * ceil(y / ty) over integers
under xy * tx * ty + xs * tx + ys * ty <= capacity. Without the ceilings it is convex in tx, with
the minimum at tx = capacity / (xs + sqrt(y_bytes * y * (xy * capacity + xs * ys) / (x_bytes * x))),
from setting the derivative to zero. Integers are kept in float64: divisions, floors and ceilings
are exact while every product stays below 2**52.
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import inlined

SLACK = 1e-12
"""Relative slack of a bound that is computed in another order than what it bounds."""

Triple = tuple[float, float, float]


class Gemm(NamedTuple):
    """One GEMM behind one boundary; triples are indexed by dimension or lacking dimension."""

    dims: Triple
    """M, K, N."""
    passes: Triple
    """Bytes of moving B once, of spilling and refetching C once, of moving A once."""
    words: Triple
    """Bytes a word of B, C (accumulator), A occupies in the buffer."""
    fixed: float
    """Bytes of the final C less one spill pass, so that C costs fixed + visits * passes[1]."""


class Face(NamedTuple):
    """The two-variable problem of one stationarity."""

    x: float
    y: float
    x_bytes: float
    y_bytes: float
    xy: float
    xs: float
    ys: float


@inlined
def make_gemm(m: float, row: np.ndarray, share: float, held: float) -> Gemm:
    """Return the GEMM of `row` = (k, n, a, b, out, accumulator, spill bytes) behind a boundary.

    Args:
        m: Rows of A.
        row: The other figures.
        share: Share of B that lives behind the boundary and does not cross it; all of B needs no
            room beyond its own either.
        held: 1 where A and C live behind the boundary and do not cross it, else 0.
    """
    k, n = row[0], row[1]
    moves = 1.0 - held
    spill = 2.0 * row[6] * m * n * moves
    return Gemm(
        (m, k, n),
        (row[3] * (1.0 - share) * k * n, spill, row[2] * m * k * moves),
        (0.0 if share >= 1.0 else row[3], row[5], row[2]),
        row[4] * m * n * moves - spill,
    )


@inlined
def make_face(gemm: Gemm, z: int) -> Face:
    """Return the problem of stationarity `z` with a tile of one along `z`."""
    x, y = other_dims(z)
    return Face(
        gemm.dims[x],
        gemm.dims[y],
        gemm.passes[x],
        gemm.passes[y],
        gemm.words[z],
        gemm.words[y],
        gemm.words[x],
    )


@inlined
def other_dims(z: int) -> tuple[int, int]:
    """Return the two dimensions other than `z`, in order."""
    if z == 0:
        return 1, 2
    if z == 1:
        return 0, 2
    return 0, 1


@inlined
def widest_tile(face: Face, capacity: float) -> float:
    """Return the largest tx that leaves room for ty = 1; below 1 nothing fits."""
    return float(np.floor((capacity - face.ys) / (face.xy + face.xs)))


@inlined
def relaxed_tile(face: Face, capacity: float) -> float:
    """Return the tx, 1 to the widest, that minimizes the relaxed and clipped problem."""
    widest = min(face.x, widest_tile(face, capacity))
    if face.y_bytes <= 0.0:
        return widest
    tile = 0.0
    if face.x_bytes > 0.0:
        ratio = face.y_bytes * face.y * (face.xy * capacity + face.xs * face.ys)
        tile = capacity / (face.xs + np.sqrt(ratio / (face.x_bytes * face.x)))
    whole_y = (capacity - face.ys * face.y) / (face.xy * face.y + face.xs)
    return max(1.0, min(widest, float(max(tile, whole_y))))


@inlined
def relaxed_cost(face: Face, capacity: float, tx: float) -> float:
    """Return the convex lower bound on the cost of every tile ty beside `tx`."""
    ty = (capacity - face.xs * tx) / (face.xy * tx + face.ys)
    return face.x_bytes * max(1.0, face.x / tx) + face.y_bytes * max(1.0, face.y / ty)


@inlined
def pair_cost(face: Face, capacity: float, trips_x: float) -> tuple[float, float]:
    """Return cost and trips over y with `trips_x` trips over x."""
    tx = np.ceil(face.x / trips_x)
    ty = np.floor((capacity - face.xs * tx) / (face.xy * tx + face.ys))
    trips_y = np.ceil(face.y / max(1.0, min(ty, face.y)))
    return face.x_bytes * trips_x + face.y_bytes * trips_y, trips_y


@inlined
def least_pair(face: Face, capacity: float) -> Triple:
    """Return least cost and its trips over x and y; fewest trips over x on a tie, -1 if none.

    Every distinct trip count is a candidate; the scan goes both ways from the relaxed minimum
    until the convex bound exceeds the best.
    """
    widest = widest_tile(face, capacity)
    if widest < 1.0:
        return -1.0, 0.0, 0.0
    first = np.ceil(face.x / np.floor(relaxed_tile(face, capacity)))
    best, best_y = pair_cost(face, capacity, first)
    best_x = first
    tile = np.ceil(face.x / first)
    while tile > 1.0:
        trips = np.ceil(face.x / (tile - 1.0))
        tile = np.ceil(face.x / trips)
        if relaxed_cost(face, capacity, tile) > best * (1.0 + SLACK):
            break
        cost, trips_y = pair_cost(face, capacity, trips)
        if cost < best:
            best, best_x, best_y = cost, trips, trips_y
    trips = first
    while trips > 1.0:
        tile = np.ceil(face.x / (trips - 1.0))
        if tile > widest or relaxed_cost(face, capacity, tile) > best * (1.0 + SLACK):
            break
        trips = np.ceil(face.x / tile)
        cost, trips_y = pair_cost(face, capacity, trips)
        if cost < best or (cost == best and trips < best_x):
            best, best_x, best_y = cost, trips, trips_y
    return best, best_x, best_y


@inlined
def covers(size: float, outer: float, inner: float) -> float:
    """Return inner tiles needed over `size` when outer tiles are cut separately, edges counted."""
    whole = np.floor(size / outer)
    rest = size - whole * outer
    return float(whole * np.ceil(outer / inner) + np.ceil(rest / inner))
