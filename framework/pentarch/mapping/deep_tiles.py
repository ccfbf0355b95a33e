"""One boundary below a given tile: pieces of dimensions, least traffic, and its bounds.

Dimensions, operands and stationarities are numbered as in `nests`. Nested tiles cut a dimension
into pieces: a tile of 300 over 1000 leaves three pieces of 300 and one of 100, and a tile inside it
cuts each piece on its own. `pieces[i, p]` holds size and number of the p-th kind of piece of
dimension i. The number of tiles that a tile size t needs is the sum of number * ceil(size / t).
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import inlined
from pentarch.mapping.nests import SLACK, Face, other_dims, relaxed_cost


class Above(NamedTuple):
    """The tile above a boundary, and how often it is visited."""

    pieces: np.ndarray
    """(3, kinds, 2): size and number."""
    kinds: int
    """Kinds of pieces in use."""
    tile: np.ndarray
    """(3,): its size along M, K, N."""
    counts: np.ndarray
    """(3,): how many of it each dimension needs."""
    passes: np.ndarray
    """(3,): how often B, C, A is moved into it; below `counts` for what stays."""
    kept: float
    """The operand kept while it advances, -1 above the outermost buffer."""


class Step(NamedTuple):
    """The least traffic of one stationarity below a tile."""

    cost: float
    """Bytes or joules of all operands; negative when nothing fits."""
    x: float
    """Tile along its first dimension."""
    y: float
    """Tile along its second dimension."""
    stays: bool
    """Whether the kept operand is not even moved when the tile above advances."""


@inlined
def cover(above: Above, i: int, tile: float) -> float:
    """Return how many tiles of this size dimension `i` needs inside the tiles above."""
    total = 0.0
    for kind in range(above.kinds):
        total += above.pieces[i, kind, 1] * np.ceil(above.pieces[i, kind, 0] / tile)
    return total


@inlined
def tight(above: Above, i: int, tile: float) -> float:
    """Return the smallest tile that needs as few tiles as `tile` does."""
    least = 1.0
    for kind in range(above.kinds):
        size = above.pieces[i, kind, 0]
        if size > 0.0:
            least = max(least, float(np.ceil(size / np.ceil(size / tile))))
    return least


@inlined
def wider(above: Above, i: int, tile: float) -> float:
    """Return the smallest tile that needs fewer tiles than `tile` does, infinity if none."""
    least = np.inf
    for kind in range(above.kinds):
        size = above.pieces[i, kind, 0]
        trips = np.ceil(size / tile)
        if trips > 1.0:
            least = min(least, float(np.ceil(size / (trips - 1.0))))
    return least


@inlined
def cut(above: Above, tile: np.ndarray, pieces: np.ndarray) -> None:
    """Fill `pieces` with what `tile` leaves of the pieces above, one kind more than there were."""
    for i in range(3):
        whole = 0.0
        for kind in range(above.kinds):
            size, number = above.pieces[i, kind, 0], above.pieces[i, kind, 1]
            times = np.floor(size / tile[i])
            whole += number * times
            rest = size - times * tile[i]
            pieces[i, kind + 1, 0] = rest
            pieces[i, kind + 1, 1] = number if rest > 0.0 else 0.0
        pieces[i, 0, 0], pieces[i, 0, 1] = tile[i], whole


@inlined
def step_face(dims: np.ndarray, words: np.ndarray, costs: np.ndarray, z: int) -> Face:
    """Return the problem of stationarity `z`; costs are those of one pass of B, C, A."""
    x, y = other_dims(z)
    return Face(dims[x], dims[y], costs[x], costs[y], words[z], words[y], words[x])


@inlined
def boxed_start(face: Face, capacity: float, box_x: float, box_y: float) -> float:
    """Return the tx, 1 to `box_x`, that minimizes the relaxed problem inside a box."""
    widest = min(box_x, float(np.floor((capacity - face.ys) / (face.xy + face.xs))))
    if face.y_bytes <= 0.0:
        return widest
    tile = 0.0
    if face.x_bytes > 0.0:
        ratio = face.y_bytes * face.y * (face.xy * capacity + face.xs * face.ys)
        tile = capacity / (face.xs + np.sqrt(ratio / (face.x_bytes * face.x)))
    whole_y = (capacity - face.ys * box_y) / (face.xy * box_y + face.xs)
    return max(1.0, min(widest, float(max(tile, whole_y))))


@inlined
def relaxed_step(face: Face, capacity: float, above: Above, z: int) -> float:
    """Return a lower bound on what the two moving operands cost, without a scan."""
    x, y = other_dims(z)
    start = boxed_start(face, capacity, above.tile[x], above.tile[y])
    ty = min(above.tile[y], (capacity - face.xs * start) / (face.xy * start + face.ys))
    smooth = face.x_bytes * face.x / start + face.y_bytes * face.y / ty
    ragged = face.x_bytes * above.counts[x] + face.y_bytes * above.counts[y]
    return float(max(smooth * (1.0 - SLACK), ragged))


@inlined
def least_step(
    face: Face, capacity: float, above: Above, z: int, kept_cost: float, fixed: float
) -> Step:
    """Return the least cost of stationarity `z` below a tile, exactly.

    Every tile size that needs another number of tiles is a candidate; the scan goes both ways from
    the relaxed minimum until the convex bound exceeds the best. `kept_cost` is the cost of one pass
    of the kept operand and `fixed` what no tile changes.
    """
    x, y = other_dims(z)
    box_x, box_y = above.tile[x], above.tile[y]
    widest = min(box_x, float(np.floor((capacity - face.ys) / (face.xy + face.xs))))
    if widest < 1.0 or face.xy + face.xs + face.ys > capacity:
        return Step(-1.0, 0.0, 0.0, False)
    rest = fixed + kept_cost * above.counts[z]
    start = tight(above, x, float(np.floor(boxed_start(face, capacity, box_x, box_y))))
    ragged = face.x_bytes * above.counts[x] + face.y_bytes * above.counts[y]
    best, best_y = step_cost(face, capacity, above, z, start)
    best_x, tile = start, start
    while tile > 1.0 and best > ragged:
        tile = tight(above, x, tile - 1.0)
        if relaxed_cost(face, capacity, tile) >= best * (1.0 - SLACK):
            break
        cost, ty = step_cost(face, capacity, above, z, tile)
        if cost < best:
            best, best_x, best_y = cost, tile, ty
    tile = wider(above, x, start)
    while tile <= widest and best > ragged:
        if relaxed_cost(face, capacity, tile) >= best * (1.0 - SLACK):
            break
        cost, ty = step_cost(face, capacity, above, z, tile)
        if cost < best:
            best, best_x, best_y = cost, tile, ty
        tile = wider(above, x, tile)
    whole = face.xy * box_x * box_y + face.xs * box_x + face.ys * box_y <= capacity
    if above.kept == z and whole:
        moved = face.x_bytes * above.counts[x] + face.y_bytes * above.counts[y]
        return Step(moved + kept_cost * above.passes[z] + fixed, box_x, box_y, True)
    return Step(best + rest, best_x, best_y, False)


@inlined
def step_cost(face: Face, capacity: float, above: Above, z: int, tx: float) -> tuple[float, float]:
    """Return the cost of the moving operands with `tx` and the widest ty, and that ty made tight."""
    x, y = other_dims(z)
    ty = np.floor((capacity - face.xs * tx) / (face.xy * tx + face.ys))
    ty = max(1.0, min(float(ty), above.tile[y]))
    cost = face.x_bytes * cover(above, x, tx) + face.y_bytes * cover(above, y, ty)
    return cost, tight(above, y, ty)
