"""The one-boundary GEMM solved again in NumPy: every breakpoint, no window, no bound.

Slow, independent of the kernels, and the measure they are held against.
"""

import math

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.single import GemmShape

Array = NDArray[np.float64]


def least_traffic(shape: GemmShape, buffer_bytes: float) -> float | None:
    """Return the least bytes between memory and one buffer (even tiles), `None` if none fits.

    For each loop order with dimension z innermost, the two outer tiles run over all trip counts;
    a larger tile with the same trips only costs room, and the tile along z is one because the
    traffic does not depend on it.

    Args:
        shape: The GEMM.
        buffer_bytes: Capacity of the buffer.
    """
    dims = (shape.m, shape.k, shape.n)
    operands = (
        # dimensions, word in the buffer, bytes of one pass, passes that are free
        ((0, 1), shape.a_bytes, shape.m * shape.k * shape.a_bytes, 0.0),
        ((1, 2), shape.b_bytes, shape.k * shape.n * shape.b_bytes, 0.0),
        ((0, 2), shape.accumulator_bytes, 2.0 * shape.m * shape.n * shape.spill_bytes, 1.0),
    )
    least = math.inf
    for z in range(3):
        tiles: list[Array] = [np.ones(1), np.ones(1), np.ones(1)]
        first, second = (axis for axis in range(3) if axis != z)
        tiles[first] = breakpoints(dims[first])[:, None]
        tiles[second] = breakpoints(dims[second])[None, :]
        live: Array = np.zeros(1)
        moved: Array = np.full(1, shape.m * shape.n * shape.out_bytes)
        for axes, word, one_pass, free in operands:
            live = live + word * tiles[axes[0]] * tiles[axes[1]]
            lacking = 3 - axes[0] - axes[1]
            trips = np.ceil(dims[lacking] / tiles[lacking]) if lacking != z else np.ones(1)
            moved = moved + one_pass * (trips - free)
        fitting = np.broadcast_to(moved, live.shape)[live <= buffer_bytes]
        if fitting.size:
            least = min(least, float(fitting.min()))
    return least if math.isfinite(least) else None


def breakpoints(size: float) -> Array:
    """Return the smallest tile of every trip count that `size` allows, ascending."""
    trips = np.unique(np.ceil(size / np.arange(1.0, size + 1.0)))
    return np.unique(np.ceil(size / trips))
