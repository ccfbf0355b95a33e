"""The next step of the capacity staircase: how much more buffer would remove a refetch."""

from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.gemm import GemmRows, map_gemms_one_level
from pentarch.mapping.single import GemmShape, capacity_faces, smallest_tiles

Array = NDArray[np.float64]


def next_refetch_bytes(
    shape: GemmShape, buffer_bytes: float, *, double: bool = False
) -> tuple[float, float] | None:
    """Return the least larger capacity that moves less, and what it moves (even tiles).

    For every number of trips over one dimension of a stationarity, the trips over the other that
    move less than now follow in closed form, and with them the tile and the room it needs.

    Args:
        shape: The GEMM.
        buffer_bytes: Capacity now.
        double: Tiles are double buffered, which halves the capacity.

    Returns:
        Capacity and memory traffic in bytes. From a capacity that holds no tile at all, the least
        that holds one. `None` when every operand already moves once.

    Raises:
        InputError: A size is not positive and finite.
    """
    scale = 2.0 if double else 1.0
    used = float(np.floor(buffer_bytes / scale)) if double else buffer_bytes
    found = map_gemms_one_level(_rows(shape), np.array([used]), False)
    now = float((found.memory_read_bytes + found.memory_write_bytes)[0, 0])
    if not found.fits[0, 0]:
        now = np.inf
    need = min(_least_room(shape, z, now) for z in range(3))
    if not np.isfinite(need):
        return None
    # Where words are fractions of a byte, a capacity still comes in whole bytes.
    capacity = float(np.ceil(need))
    better = map_gemms_one_level(_rows(shape), np.array([capacity]), False)
    traffic = float((better.memory_read_bytes + better.memory_write_bytes)[0, 0])
    return capacity * scale, traffic


def _least_room(shape: GemmShape, z: int, now: float) -> float:
    """Return the least room with which stationarity `z` moves less than `now`, else infinity."""
    face = capacity_faces(shape)[z]
    tiles_x = smallest_tiles(face.x)
    left = now - face.once - face.x_bytes * np.ceil(face.x / tiles_x)
    trips_y = np.minimum(np.ceil(left / face.y_bytes) - 1.0, face.y)
    # The division may round up to the trips that move just as much as now.
    trips_y -= (trips_y * face.y_bytes >= left) & (trips_y >= 1.0)
    possible = trips_y >= 1.0
    if not possible.any():
        return float(np.inf)
    tiles_x, tiles_y = tiles_x[possible], np.ceil(face.y / trips_y[possible])
    room: Array = face.xy * tiles_x * tiles_y + face.xs * tiles_x + face.ys * tiles_y
    return float(room.min())


def _rows(shape: GemmShape) -> GemmRows:
    values = [np.array([value], dtype=np.float64) for value in astuple(shape)]
    m, k, n, a, b, out, held, spill = values
    return GemmRows(m[:, None], k, n, a, b, out, held, spill)
