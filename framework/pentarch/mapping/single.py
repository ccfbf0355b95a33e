"""One GEMM behind one buffer as a design tool: best mapping, given mapping, bound, staircase.

Conventions are those of `pentarch.mapping.gemm`. Numbers are integers in float64: byte counts and
products of dimensions stay below 2**52.
"""

import math
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pentarch.errors import InputError
from pentarch.mapping.gemm import GemmRows, map_gemms_one_level

Array = NDArray[np.float64]
Convention = Literal["even", "even_db", "uneven"]

CONVENTIONS: tuple[Convention, ...] = ("even", "even_db", "uneven")
KEPT_ORDERS = {"b": "knm", "c": "mnk", "a": "mkn"}
"""Loop order, outer to inner, that keeps the operand named."""


@dataclass(frozen=True, slots=True)
class GemmShape:
    """C[M, N] = A[M, K] B[K, N] with the bytes of a word of each operand."""

    m: float
    k: float
    n: float
    a_bytes: float = 1.0
    b_bytes: float = 1.0
    out_bytes: float = 1.0
    accumulator_bytes: float = 1.0
    """A word of C while it is in the buffer."""
    spill_bytes: float = 1.0
    """An unfinished word of C on its way out or back."""


class Tile(NamedTuple):
    """A tile's size along M, K and N."""

    m: float
    k: float
    n: float


@dataclass(frozen=True, slots=True)
class GemmMapping:
    """A mapping of one GEMM behind one buffer and the bytes it moves."""

    a_bytes: float
    b_bytes: float
    c_write_bytes: float
    """Final writes and spill writes."""
    c_read_bytes: float
    """Spilled words read back."""
    tile: Tile
    order: str
    """Loops from outer to inner, for example `"mnk"`."""

    @property
    def traffic_bytes(self) -> float:
        """All bytes between memory and buffer."""
        return self.a_bytes + self.b_bytes + self.c_write_bytes + self.c_read_bytes


def map_gemm(
    shape: GemmShape,
    buffer_bytes: float,
    *,
    convention: Convention = "even",
    perfect: bool = False,
) -> GemmMapping | None:
    """Return a mapping with the least traffic, or `None` if not even a tile of one fits.

    Args:
        shape: The GEMM.
        buffer_bytes: Capacity of the buffer.
        convention: `"even"`: all three tiles live at once; `"even_db"`: the same in half the
            buffer; `"uneven"`: the kept tile, one line of another operand, one word of the third.
        perfect: Only tiles that divide the dimensions.

    Raises:
        InputError: A size is not positive and finite, or the convention is unknown.
    """
    if convention not in CONVENTIONS:
        raise InputError(f"{convention!r} is no convention. Expected one of {CONVENTIONS}.")
    double, uneven = convention == "even_db", convention == "uneven"
    found = map_gemms_one_level(
        _rows(shape), np.array([buffer_bytes]), double, uneven=uneven, detail=True
    )
    if not found.fits[0, 0] or found.detail is None:
        return None
    if perfect:
        capacity = math.floor(buffer_bytes / 2.0) if double else buffer_bytes
        return _best_perfect(shape, capacity, uneven=uneven)
    kept = ("b", "c", "a")[int(found.detail.outer[0, 0])]
    tile = Tile(*(float(size) for size in found.detail.tile[:, 0, 0]))
    return _kept_mapping(shape, tile, kept, uneven=uneven)


def evaluate_tiling(shape: GemmShape, tile: Tile, *, order: str) -> GemmMapping:
    """Return the traffic of a given tile and loop order.

    An operand is fetched again on every trip of a loop that does not move it, if a loop inside
    that one moves it and makes more than one trip.

    Args:
        shape: The GEMM.
        tile: Any tile of at least one and at most the dimension; it is not held against a buffer.
        order: The letters m, k, n from outer to inner.

    Raises:
        InputError: The order is no arrangement of m, k, n, or a tile lies outside its dimension.
    """
    if sorted(order) != ["k", "m", "n"]:
        raise InputError(f"{order!r} is no loop order. Expected the letters m, k and n, each once.")
    sizes = {"m": shape.m, "k": shape.k, "n": shape.n}
    tiles = tile._asdict()
    for name, size in sizes.items():
        if not 1 <= tiles[name] <= size:
            raise InputError(
                f"The tile along {name} is {tiles[name]:g}. Expected 1 to {size:g}, the dimension."
            )
    trips = {name: math.ceil(size / tiles[name]) for name, size in sizes.items()}

    def passes(still: str) -> float:
        """Return how often the operand that loop `still` does not move is fetched."""
        inside = order[order.index(still) + 1 :]
        return trips[still] if any(trips[name] > 1 for name in inside) else 1

    visits = passes("k")
    spilled = shape.m * shape.n * shape.spill_bytes * (visits - 1)
    return GemmMapping(
        a_bytes=shape.m * shape.k * shape.a_bytes * passes("n"),
        b_bytes=shape.k * shape.n * shape.b_bytes * passes("m"),
        c_write_bytes=shape.m * shape.n * shape.out_bytes + spilled,
        c_read_bytes=spilled,
        tile=tile,
        order=order,
    )


def traffic_lower_bound(shape: GemmShape, buffer_bytes: float) -> float:
    """Return bytes that no schedule, loop nest or not, can go below.

    The larger of every operand once and 2MNK / sqrt(S) - 2S words, with S the words that the
    buffer holds. Words of different size count as the smallest of them, which keeps it a bound.

    References:
        Smith, Lowery, Langou, van de Geijn, "A tight I/O lower bound for matrix multiplication",
        2019; Hong and Kung, "I/O complexity: the red-blue pebble game", 1981.
    """
    once = (
        shape.m * shape.k * shape.a_bytes
        + shape.k * shape.n * shape.b_bytes
        + shape.m * shape.n * shape.out_bytes
    )
    word: float = min(astuple(shape)[3:])
    held = buffer_bytes / word
    macs = shape.m * shape.n * shape.k
    return max(once, word * (2.0 * macs / math.sqrt(held) - 2.0 * held))


def traffic_staircase(shape: GemmShape, low_bytes: float, high_bytes: float) -> tuple[Array, Array]:
    """Return the steps of least traffic as a function of capacity (even tiles).

    Args:
        shape: The GEMM.
        low_bytes: Smallest capacity of interest.
        high_bytes: Largest capacity of interest.

    Returns:
        Capacities, ascending, at which the least traffic falls, and the traffic from there to the
        next one. The first is `low_bytes`, or the least capacity that holds a tile of one. Empty
        if nothing fits within `high_bytes`.

    Raises:
        InputError: A size is not positive and finite, or `low_bytes` exceeds `high_bytes`.
    """
    if not 0 < low_bytes <= high_bytes < math.inf:
        raise InputError(
            f"Capacities from {low_bytes:g} to {high_bytes:g} bytes are no range. "
            "Expected positive numbers, the lower one first."
        )
    steps = [np.empty((2, 0))]
    for need, traffic in _breakpoints(shape):
        inside = need <= high_bytes
        points = np.array([np.maximum(need[inside], low_bytes), traffic[inside]])
        steps.append(_falling(points))
    capacities, traffics = _falling(np.concatenate(steps, axis=1))
    return capacities, traffics


def _falling(points: Array) -> Array:
    """Return the points (capacity, traffic) below all that need no more capacity."""
    points = points[:, np.lexsort((points[1], points[0]))]
    best_before = np.minimum.accumulate(np.concatenate(([np.inf], points[1])))[:-1]
    return points[:, points[1] < best_before]


def _breakpoints(shape: GemmShape) -> Iterator[tuple[Array, Array]]:
    """Yield capacity needed and traffic of every pair of trip counts, one trip over x a time."""
    for face in capacity_faces(shape):
        tiles_x, tiles_y = smallest_tiles(face.x), smallest_tiles(face.y)
        trips_y = np.ceil(face.y / tiles_y)
        for tile in tiles_x:
            need = face.xy * tile * tiles_y + face.xs * tile + face.ys * tiles_y
            trips_x = math.ceil(face.x / tile)
            yield need, face.x_bytes * trips_x + face.y_bytes * trips_y + face.once


def smallest_tiles(size: float) -> Array:
    """Return the smallest tile of every distinct trip count, descending."""
    tile, tiles = size, [size]
    while tile > 1:
        tile = math.ceil(size / math.ceil(size / (tile - 1)))
        tiles.append(tile)
    return np.array(tiles, dtype=np.float64)


class CapacityFace(NamedTuple):
    """One stationarity: kept operand, dimensions of its tile, passes, words in the buffer."""

    kept: str
    x: float
    y: float
    x_bytes: float
    y_bytes: float
    once: float
    xy: float
    xs: float
    ys: float


def capacity_faces(shape: GemmShape) -> list[CapacityFace]:
    """Return the stationarities B, C, A in the order in which ties are broken."""
    m, k, n, a, b, out, held, spill = astuple(shape)
    a_once, b_once, c_once, c_again = a * m * k, b * k * n, out * m * n, 2.0 * spill * m * n
    return [
        CapacityFace("b", k, n, c_again, a_once, b_once + c_once - c_again, b, a, held),
        CapacityFace("c", m, n, b_once, a_once, c_once, held, a, b),
        CapacityFace("a", m, k, b_once, c_again, a_once + c_once - c_again, a, held, b),
    ]


def _best_perfect(shape: GemmShape, capacity: float, *, uneven: bool) -> GemmMapping | None:
    """Return the best mapping whose tiles divide the dimensions, by scanning all divisors."""
    best: tuple[float, str, float, float] | None = None
    for face in capacity_faces(shape):
        x, y = np.meshgrid(_divisors(face.x), _divisors(face.y), indexing="ij")
        need = face.xy * x * y
        if uneven:
            need += np.minimum(face.xs * x + face.ys, face.ys * y + face.xs)
        else:
            need += face.xs * x + face.ys * y
        traffic = face.x_bytes * (face.x / x) + face.y_bytes * (face.y / y) + face.once
        traffic[need > capacity] = np.inf
        at = np.unravel_index(np.argmin(traffic), traffic.shape)
        if np.isfinite(traffic[at]) and (best is None or traffic[at] < best[0]):
            best = (float(traffic[at]), face.kept, float(x[at]), float(y[at]))
    if best is None:
        return None
    _, kept, tile_x, tile_y = best
    tiles = {
        "b": Tile(1.0, tile_x, tile_y),
        "c": Tile(tile_x, 1.0, tile_y),
        "a": Tile(tile_x, tile_y, 1.0),
    }
    return _kept_mapping(shape, tiles[kept], kept, uneven=uneven)


def _kept_mapping(shape: GemmShape, tile: Tile, kept: str, *, uneven: bool) -> GemmMapping:
    """Return what moves while one operand is kept.

    Even tiles that stay for want of a loop that moves them count once. Of uneven ones only a line
    and a word are held of the other operands, so that each is fetched anew for every kept tile.
    """
    order = KEPT_ORDERS[kept]
    if not uneven:
        return evaluate_tiling(shape, tile, order=order)
    m, k, n = math.ceil(shape.m / tile.m), math.ceil(shape.k / tile.k), math.ceil(shape.n / tile.n)
    spilled = shape.m * shape.n * shape.spill_bytes * ((1 if kept == "c" else k) - 1)
    return GemmMapping(
        a_bytes=shape.m * shape.k * shape.a_bytes * (1 if kept == "a" else n),
        b_bytes=shape.k * shape.n * shape.b_bytes * (1 if kept == "b" else m),
        c_write_bytes=shape.m * shape.n * shape.out_bytes + spilled,
        c_read_bytes=spilled,
        tile=tile,
        order=order,
    )


def _divisors(size: float) -> Array:
    candidates = np.arange(1.0, math.isqrt(int(size)) + 1.0)
    small = candidates[size % candidates == 0]
    return np.unique(np.concatenate((small, size / small)))


def _rows(shape: GemmShape) -> GemmRows:
    values = [np.array([value], dtype=np.float64) for value in astuple(shape)]
    m, k, n, a, b, out, held, spill = values
    return GemmRows(m[:, None], k, n, a, b, out, held, spill)
