"""The search behind two buffer boundaries: every candidate of one loop nest that can matter.

Memory -> SRAM -> registers; D is memory traffic, Q is SRAM <-> register traffic. The class
searched: an SRAM tile (tx, ty, tz) with outer stationarity z, and an inner stationarity j with
one register tile, the one-level optimum of j on the whole GEMM. SRAM tiles along x and y take
every trip count, each with its smallest tile and with the smallest whole multiple of the register
tile; along z the best tile that fits is known in closed form. With E_i(t) the register tiles
needed over dimension i when it is cut every t,

    D = fixed + outer_x * ceil(x / tx) + outer_y * ceil(y / ty) + outer_z
    Q = fixed + inner_x * E_x(tx) + inner_y * E_y(ty) + inner_z * E_z(tz)

where the register tile spans the whole dimension along j. The best E_z is
ceil(z / min(r_z, largest tz that fits)). Registers keep nothing from one SRAM tile to the next,
but for one case: if j = z and the register tile covers tx by ty, operand z stays in registers
while SRAM tiles advance along z, and E_z is 1.

Of one register tile for each j the class is as wide as it can be searched in microseconds. It grows
with the SRAM, but a larger register file has another tile, which may suit the SRAM tiles less well:
over random sweeps of whole queries a larger one was slower in 4 of 100, by 4.3 % at most.

The direct and the front route walk the same candidates; they differ in what can still matter.
The direct route keeps the lexicographically least (time, D, Q, candidate), the front route all
non-dominated (D, Q), on equal (D, Q) the first candidate. Time grows with D and with Q, so the
direct winner lies on the front, and both come from the same expressions: identical bytes.
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import inlined
from pentarch.mapping.nests import (
    SLACK,
    Face,
    Triple,
    covers,
    relaxed_cost,
    relaxed_tile,
    widest_tile,
)

FRONT = 0
DIRECT = 1


class Nest(NamedTuple):
    """One outer and one inner stationarity of a GEMM behind two boundaries."""

    code: float
    face: Face
    z: float
    memory_fixed: float
    register_fixed: float
    inner_x: float
    inner_y: float
    inner_z: float
    register_x: float
    register_y: float
    register_z: float
    capacity: float
    least_q: float
    same: bool
    """Inner and outer stationarity are the same."""


class Rates(NamedTuple):
    """What turns traffic into time for one GEMM on one design, and the route."""

    route: int
    floor_s: float
    """Time that no mapping changes: arithmetic, and ports whose traffic is fixed."""
    memory_bytes_per_s: float
    sram_bytes_per_s: float
    register_bytes_per_s: float
    """Of the port that Q shares with `register_bytes`; infinite where it does not limit."""
    register_bytes: float
    memory_wait_s: float
    """Latency that comes on top of the transfers of a level; the same for SRAM and registers."""
    sram_wait_s: float
    register_wait_s: float


@inlined
def mapping_time(rates: Rates, d: float, q: float) -> float:
    """Return the time that the slowest of arithmetic, memory, SRAM and registers needs."""
    memory_s = d / rates.memory_bytes_per_s + rates.memory_wait_s if d > 0.0 else 0.0
    sram_s = (q + d) / rates.sram_bytes_per_s + rates.sram_wait_s
    ports_s = (q + rates.register_bytes) / rates.register_bytes_per_s + rates.register_wait_s
    return max(max(rates.floor_s, memory_s), max(sram_s, ports_s))


@inlined
def q_limit(rates: Rates, best: np.ndarray, count: int, d: float) -> float:
    """Return the largest Q with which a candidate of memory traffic `d` can still matter.

    It never grows with `d`. Ties in everything stay in, for the candidate order to decide.
    """
    if count == 0:
        return np.inf
    if rates.route == DIRECT:
        time = best[0, 6]
        floor_s = max(rates.floor_s, d / rates.memory_bytes_per_s)
        if floor_s > time or (d > best[0, 0] and floor_s >= time):
            return -np.inf
        time *= 1.0 + SLACK
        limit = (time - rates.sram_wait_s) * rates.sram_bytes_per_s - d
        if rates.register_bytes_per_s < np.inf:
            left = (time - rates.register_wait_s) * rates.register_bytes_per_s
            limit = min(limit, left * (1.0 + SLACK) - rates.register_bytes)
        return float(limit)
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if best[middle, 0] <= d:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        return np.inf
    if best[low - 1, 0] < d:
        return float(np.nextafter(best[low - 1, 1], -np.inf))
    return float(best[low - 1, 1])


@inlined
def precedes(new: np.ndarray, best: np.ndarray, point: int) -> bool:
    """Return whether `new` comes before a point kept: nest, then tiles along x, y, z."""
    for field in range(2, 6):
        if new[field] != best[point, field]:
            return bool(new[field] < best[point, field])
    return False


@inlined
def keep(new: np.ndarray, best: np.ndarray, point: int) -> None:
    """Write `new` over a point; assigning a slice would take seconds to compile."""
    for field in range(best.shape[1]):
        best[point, field] = new[field]


@inlined
def move(best: np.ndarray, source: int, target: int) -> None:
    """Write one point over another."""
    for field in range(best.shape[1]):
        best[target, field] = best[source, field]


@inlined
def offer_direct(rates: Rates, best: np.ndarray, count: int, new: np.ndarray) -> int:
    """Keep `new` if its (time, D, Q, candidate) is less than the best; return the count, 1."""
    new[6] = mapping_time(rates, new[0], new[1])
    if count > 0:
        if new[6] != best[0, 6]:
            better = new[6] < best[0, 6]
        elif new[0] != best[0, 0]:
            better = new[0] < best[0, 0]
        elif new[1] != best[0, 1]:
            better = new[1] < best[0, 1]
        else:
            better = precedes(new, best, 0)
        if not better:
            return count
    keep(new, best, 0)
    return 1


@inlined
def offer_front(best: np.ndarray, count: int, new: np.ndarray) -> int:
    """Insert `new` into the front (D ascending, Q descending); return the count, -1 if full."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        if best[middle, 0] < new[0]:
            low = middle + 1
        else:
            high = middle
    if low > 0 and best[low - 1, 1] <= new[1]:
        return count
    tied = low < count and best[low, 0] == new[0]
    if tied and best[low, 1] < new[1]:
        return count
    if tied and best[low, 1] == new[1] and not precedes(new, best, low):
        return count
    end = low
    while end < count and best[end, 1] >= new[1]:
        end += 1
    removed = end - low
    if removed == 0:
        if count == best.shape[0]:
            return -1
        for point in range(count, low, -1):
            move(best, point - 1, point)
    elif removed > 1:
        for point in range(end, count):
            move(best, point, point - removed + 1)
    keep(new, best, low)
    return count + 1 - removed


@inlined
def scan_y(
    nest: Nest, rates: Rates, tx: float, best: np.ndarray, count: int, new: np.ndarray
) -> int:
    """Offer the candidates with tile `tx`, from the widest ty down; return the count.

    A ty that leaves too little room for the tz which Q needs is skipped at once: the limit on Q
    falls and the room for tz grows as ty shrinks.
    """
    face = nest.face
    d_rest = nest.memory_fixed + face.x_bytes * np.ceil(face.x / tx)
    q_rest = nest.register_fixed + nest.inner_x * covers(face.x, tx, nest.register_x)
    q_least = q_rest + nest.inner_y * np.ceil(face.y / nest.register_y)
    fewest_z = np.ceil(nest.z / nest.register_z)
    stays = nest.register_y if nest.same and tx <= nest.register_x else 0.0
    ty = min(face.y, np.floor((nest.capacity - face.xs * tx) / (face.xy * tx + face.ys)))
    new[2], new[3] = nest.code, tx
    while ty >= 1.0:
        trips_y = np.ceil(face.y / ty)
        d = d_rest + face.y_bytes * trips_y
        limit = q_limit(rates, best, count, d)
        if q_least + nest.inner_z * fewest_z > limit:
            return count
        needed = needed_tile(nest, q_least, limit)
        if needed > 1.0:
            room = nest.capacity - face.xs * tx * needed
            widest = max(stays, np.floor(room / (face.xy * tx + face.ys * needed)))
            if widest < 1.0:
                return count
            if np.ceil(face.y / widest) > trips_y:
                ty = widest
                continue
        least_ty = np.ceil(face.y / trips_y)
        new[0] = d
        count = offer_tile(nest, rates, (tx, least_ty, q_rest), best, count, new)
        whole = nest.register_y * np.ceil(least_ty / nest.register_y)
        if least_ty < whole <= ty and count >= 0:
            count = offer_tile(nest, rates, (tx, whole, q_rest), best, count, new)
        if count < 0:
            return count
        ty = least_ty - 1.0
    return count


@inlined
def needed_tile(nest: Nest, q_least: float, limit: float) -> float:
    """Return the least tz with which Q can be within `limit`."""
    if nest.inner_z <= 0.0 or limit == np.inf:
        return 1.0
    trips = np.floor((limit - q_least) / nest.inner_z) + 1.0
    while q_least + nest.inner_z * trips > limit:
        trips -= 1.0
    if trips >= nest.z:
        return 1.0
    return float(np.ceil(nest.z / max(1.0, trips)))


@inlined
def offer_tile(
    nest: Nest, rates: Rates, tile: Triple, best: np.ndarray, count: int, new: np.ndarray
) -> int:
    """Complete the candidate `new` with tile = (tx, ty, Q of x and fixed) and offer it."""
    face = nest.face
    tx, ty = tile[0], tile[1]
    room = nest.capacity - face.xy * tx * ty
    tz = min(nest.z, np.floor(room / (face.xs * tx + face.ys * ty)))
    if tz < 1.0:
        return count
    trips_z = np.ceil(nest.z / min(tz, nest.register_z))
    if nest.same and tx <= nest.register_x and ty <= nest.register_y:
        trips_z = 1.0
    q = tile[2] + nest.inner_y * covers(face.y, ty, nest.register_y)
    new[1] = q + nest.inner_z * trips_z
    new[4] = ty
    new[5] = settled_tile(nest.z, tz, nest.register_z)
    if rates.route == DIRECT:
        return offer_direct(rates, best, count, new)
    return offer_front(best, count, new)


@inlined
def settled_tile(z: float, widest: float, register: float) -> float:
    """Return the tile along z, at most `widest`, that needs the fewest register tiles."""
    if widest >= z:
        return z
    if widest < register:
        return float(np.ceil(z / np.ceil(z / widest)))
    return float(register * np.floor(widest / register))


@inlined
def scan_tx(
    nest: Nest, rates: Rates, tx: float, best: np.ndarray, count: int, new: np.ndarray
) -> int:
    """Offer the candidates of the smallest tile with the trips of `tx`, and its whole multiple."""
    face = nest.face
    trips = np.ceil(face.x / tx)
    count = scan_y(nest, rates, tx, best, count, new)
    whole = nest.register_x * np.ceil(tx / nest.register_x)
    if count >= 0 and tx < whole <= face.x and np.ceil(face.x / whole) == trips:
        count = scan_y(nest, rates, whole, best, count, new)
    return count


@inlined
def matters(nest: Nest, rates: Rates, tx: float, best: np.ndarray, count: int) -> bool:
    """Return whether `tx` or a tile further from the relaxed minimum can still matter."""
    least_d = nest.memory_fixed + relaxed_cost(nest.face, nest.capacity, tx) * (1.0 - SLACK)
    return bool(nest.least_q <= q_limit(rates, best, count, least_d))


@inlined
def scan_nest(nest: Nest, rates: Rates, best: np.ndarray, count: int, new: np.ndarray) -> int:
    """Offer each candidate of `nest` that can matter; return the count, -1 if the front is full."""
    face = nest.face
    widest = widest_tile(face, nest.capacity)
    if widest < 1.0:
        return count
    first = np.ceil(face.x / np.floor(relaxed_tile(face, nest.capacity)))
    tile = np.ceil(face.x / first)
    while count >= 0 and matters(nest, rates, tile, best, count):
        count = scan_tx(nest, rates, tile, best, count, new)
        if tile == 1.0:
            break
        tile = np.ceil(face.x / np.ceil(face.x / (tile - 1.0)))
    trips = first
    while count >= 0 and trips > 1.0:
        tile = np.ceil(face.x / (trips - 1.0))
        if tile > widest or not matters(nest, rates, tile, best, count):
            break
        count = scan_tx(nest, rates, tile, best, count, new)
        trips = np.ceil(face.x / tile)
    return count
