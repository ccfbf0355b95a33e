"""The compiled kernels that Python calls: mapping GEMMs behind one and two buffer boundaries.

One boundary: exact least traffic over the three stationarities of `nests`. Two boundaries: the
class of `scan`, by the direct route or by stored fronts. Arrays at the door are C-contiguous and
writable float64 (int64 for keys and modes); nothing is checked here, `gemm` does that.

Limits: integers in float64, so every byte count and product of dimensions stays below 2**52.
"""

import numpy as np

from pentarch.mapping.compilation import compiled, inlined
from pentarch.mapping.nests import (
    SLACK,
    Face,
    Gemm,
    Triple,
    covers,
    least_pair,
    make_face,
    make_gemm,
    other_dims,
    relaxed_cost,
    relaxed_tile,
)
from pentarch.mapping.scan import (
    DIRECT,
    FRONT,
    Nest,
    Rates,
    mapping_time,
    offer_direct,
    offer_front,
    scan_nest,
)

TRAFFIC_FIELDS = ("memory_read", "memory_write", "memory_b", "sram_read", "sram_write", "fits")
TILE_FIELDS = ("outer", "tile_m", "tile_k", "tile_n", "inner", "reg_m", "reg_k", "reg_n")
ONE_LEVEL_FIELDS = ("a", "b", "c_write", "c_read", "fits", "kept", "tile_m", "tile_k", "tile_n")
FRONT_FIELDS = ("memory", "sram_register", *TRAFFIC_FIELDS, *TILE_FIELDS)
LOAD_FIELDS = (
    "m", "share", "held", "floor_s", "register_bytes", "memory_wait_s", "sram_wait_s",
    "register_wait_s",
)  # fmt: skip
"""What a GEMM has on each design; all but `m` and what `make_gemm` takes as in `scan.Rates`."""
CANDIDATE_FIELDS = 7
"""D, Q, nest, tile along the nest's x, y, z, time."""


# One boundary


@inlined
def one_level_candidate(
    gemm: Gemm, z: int, capacity: float, uneven: float
) -> tuple[float, float, float]:
    """Return least traffic of the moving operands and trips of stationarity `z`.

    Uneven: the kept tile, one line of one other operand and one word of the third.
    """
    face = make_face(gemm, z)
    if uneven == 0.0:
        return least_pair(face, capacity)
    along_x = Face(face.x, face.y, face.x_bytes, face.y_bytes, face.xy, face.xs, 0.0)
    along_y = Face(face.x, face.y, face.x_bytes, face.y_bytes, face.xy, 0.0, face.ys)
    first = least_pair(along_x, capacity - face.ys)
    second = least_pair(along_y, capacity - face.xs)
    if first[0] < 0.0 or (0.0 <= second[0] < first[0]):
        return second
    return first


@inlined
def best_one_level(gemm: Gemm, capacity: float, uneven: float) -> tuple[float, int, float, float]:
    """Return least traffic, stationarity and trips over its x and y; traffic -1 if none fits.

    A stationarity whose relaxed minimum exceeds the best is left out; the lowest wins a tie.
    """
    if uneven == 0.0 and min(gemm.passes[0], gemm.passes[1], gemm.passes[2]) > 0.0:
        for z in range(
            3
        ):  # a whole operand fits: every word moves once, whatever else could be done
            face = make_face(gemm, z)
            if face.xy * face.x * face.y + face.xs * face.x + face.ys * face.y <= capacity:
                once = gemm.fixed + gemm.passes[0] + gemm.passes[1] + gemm.passes[2]
                return once, z, 1.0, 1.0
    best, kept, trips_x, trips_y = -1.0, 0, 0.0, 0.0
    for z in (1, 0, 2):
        once = gemm.fixed + gemm.passes[z]
        if best >= 0.0 and uneven == 0.0:
            face = make_face(gemm, z)
            bound = relaxed_cost(face, capacity, relaxed_tile(face, capacity))
            if bound * (1.0 - SLACK) + once > best:
                continue
        cost, first, second = one_level_candidate(gemm, z, capacity, uneven)
        if cost < 0.0:
            continue
        total = cost + once
        if best < 0.0 or total < best or (total == best and z < kept):
            best, kept, trips_x, trips_y = total, z, first, second
    return best, kept, trips_x, trips_y


@compiled
def map_one_boundary(
    rows: np.ndarray,
    m: np.ndarray,
    capacity: np.ndarray,
    on_chip: np.ndarray,
    uneven: float,
    out: np.ndarray,
) -> None:
    """Fill `out` (R, fields, N) with ONE_LEVEL_FIELDS, the tile fields only if it has them.

    Args:
        rows: (R, 7): k, n, bytes of a, b, out, accumulator, spill.
        m: (R, N).
        capacity: (N,), already halved for double buffers.
        on_chip: (2, R, N): share of B that does not cross the boundary, and 1 where A and C do not
            either, else 0; (2, 0, 0) where everything crosses it.
        uneven: 1 for tiles at their own loop depth, else 0.
        out: Result; see `ONE_LEVEL_FIELDS`.
    """
    stays = on_chip.shape[1] > 0
    for r in range(m.shape[0]):
        for n in range(m.shape[1]):
            share = on_chip[0, r, n] if stays else 0.0
            gemm = make_gemm(m[r, n], rows[r], share, on_chip[1, r, n] if stays else 0.0)
            if stays and on_chip[1, r, n] > 0.0:  # kept in tiles of one, B crosses once
                kept, trips_x, trips_y = 0, gemm.dims[1], gemm.dims[2]
                best = gemm.passes[0] if rows[r, 3] <= capacity[n] else -1.0
            else:
                best, kept, trips_x, trips_y = best_one_level(gemm, capacity[n], uneven)
            write_one_level(gemm, (float(kept), trips_x, trips_y, best), n, out[r])


@inlined
def write_one_level(
    gemm: Gemm,
    winner: tuple[float, float, float, float],
    n: int,
    out: np.ndarray,
) -> None:
    """Write column `n` of `out`; without a winner the traffic of a tile of one."""
    fits = winner[3] >= 0.0
    z = int(winner[0]) if fits else 1
    x, y = other_dims(z)
    trips_x = winner[1] if fits else gemm.dims[x]
    trips_y = winner[2] if fits else gemm.dims[y]
    b, visits, a = by_dim(z, trips_x, trips_y, 1.0)
    spilled = 0.5 * gemm.passes[1] * (visits - 1.0)
    out[0, n] = gemm.passes[2] * a
    out[1, n] = gemm.passes[0] * b
    out[2, n] = gemm.fixed + gemm.passes[1] + spilled
    out[3, n] = spilled
    out[4, n] = 1.0 if fits else 0.0
    if out.shape[0] > 5:
        tx, ty = np.ceil(gemm.dims[x] / trips_x), np.ceil(gemm.dims[y] / trips_y)
        out[5, n] = z
        out[6, n], out[7, n], out[8, n] = by_dim(z, tx, ty, 1.0)


@inlined
def by_dim(z: int, x_value: float, y_value: float, z_value: float) -> Triple:
    """Return the values in the order M, K, N."""
    if z == 0:
        return z_value, x_value, y_value
    if z == 1:
        return x_value, z_value, y_value
    return x_value, y_value, z_value


# Two boundaries


@inlined
def prepare(
    gemm: Gemm, inner: Gemm, sizes: tuple[float, float], held: float, work: np.ndarray
) -> bool:
    """Fill `work` (3, 5) and return whether any tile fits both buffers, of SRAM and registers.

    Row j holds least Q and register tile (M, K, N) of inner stationarity j, and least D of
    outer stationarity j. The three operands share a buffer, so if one case fits all do. Where A and
    C are held in SRAM only B needs room there beside them.
    """
    capacity, registers = sizes
    for j in range(3):
        x, y = other_dims(j)
        q, trips_x, trips_y = least_pair(make_face(inner, j), registers)
        if held > 0.0:
            d = 0.0 if capacity >= inner.words[0] else -1.0
        else:
            d = least_pair(make_face(gemm, j), capacity)[0]
        if q < 0.0 or d < 0.0:
            return False
        work[j, 0] = q + inner.passes[j] + inner.fixed
        work[j, 1 + j] = inner.dims[j]
        work[j, 1 + x] = np.ceil(inner.dims[x] / trips_x)
        work[j, 1 + y] = np.ceil(inner.dims[y] / trips_y)
        work[j, 4] = d + gemm.passes[j] + gemm.fixed
    return True


@inlined
def make_nest(gemm: Gemm, inner: Gemm, code: int, capacity: float, work: np.ndarray) -> Nest:
    """Return nest `code` = 3 * outer stationarity + inner stationarity."""
    z, j = code // 3, code % 3
    x, y = other_dims(z)
    return Nest(
        float(code),
        make_face(gemm, z),
        gemm.dims[z],
        gemm.fixed + gemm.passes[z],
        inner.fixed,
        inner.passes[x],
        inner.passes[y],
        inner.passes[z],
        work[j, 1 + x],
        work[j, 1 + y],
        work[j, 1 + z],
        capacity,
        work[j, 0],
        z == j,
    )


@inlined
def scan_all(
    gemm: Gemm,
    inner: Gemm,
    rates: Rates,
    capacity: float,
    work: np.ndarray,
    best: np.ndarray,
) -> int:
    """Scan the nine nests, the most promising first; return the points kept, -1 if too many."""
    # Of a literal 0 every function of the scan would be compiled a second time.
    count, done = int(np.int64(0)), 0
    new = np.empty(CANDIDATE_FIELDS)
    for _ in range(9):
        least, code = np.inf, -1
        for candidate in range(9):
            if (done >> candidate) & 1:
                continue
            bound = mapping_time(rates, work[candidate // 3, 4], work[candidate % 3, 0])
            if bound < least:
                least, code = bound, candidate
        done |= 1 << code
        nest = make_nest(gemm, inner, code, capacity, work)
        count = scan_nest(nest, rates, best, count, new)
        if count < 0:
            return count
    return count


@inlined
def offer_held(
    gemm: Gemm, inner: Gemm, rates: Rates, capacity: float, work: np.ndarray, best: np.ndarray
) -> int:
    """Offer the mappings of a GEMM whose A and C are held in SRAM; return the points kept.

    SRAM has room for whole panels of B or streams it. Each inner stationarity j takes its least Q.
    One that keeps B reads each word of it once. The others read B again for every register tile
    along M: from SRAM where a panel fits, K by the register tile or the register tile by N, else
    from memory.
    """
    count, new = int(np.int64(0)), np.empty(CANDIDATE_FIELDS)
    for j in range(3):
        tile_m, tile_k, tile_n = work[j, 1], work[j, 2], work[j, 3]
        panel = inner.words[0] * tile_k * tile_n  # the register tile is as long as K or N itself
        once = j == 0 or tile_m >= gemm.dims[0] or panel <= capacity
        trips = 1.0 if once else np.ceil(gemm.dims[0] / tile_m)
        z = 0 if once else j
        new[0], new[1], new[2] = gemm.passes[0] * trips, work[j, 0], float(3 * z + j)
        if once:
            new[3], new[4], new[5] = tile_k, tile_n, gemm.dims[0]
        elif j == 1:
            new[3], new[4], new[5] = tile_m, tile_n, gemm.dims[1]
        else:
            new[3], new[4], new[5] = tile_m, tile_k, gemm.dims[2]
        if rates.route == DIRECT:
            count = offer_direct(rates, best, count, new)
        else:
            count = offer_front(best, count, new)
    return count


@inlined
def write_two_level(
    gemm: Gemm,
    inner: Gemm,
    winner: np.ndarray,
    work: np.ndarray,
    column: np.ndarray,
) -> None:
    """Fill `column` with TRAFFIC_FIELDS and TILE_FIELDS of candidate `winner`."""
    z, j = int(winner[2]) // 3, int(winner[2]) % 3
    tiles = by_dim(z, winner[3], winner[4], winner[5])
    trips = (
        1.0 if z == 0 else np.ceil(gemm.dims[0] / tiles[0]),
        1.0 if z == 1 else np.ceil(gemm.dims[1] / tiles[1]),
        1.0 if z == 2 else np.ceil(gemm.dims[2] / tiles[2]),
    )
    x, y = other_dims(z)
    stays = z == j and winner[3] <= work[j, 1 + x] and winner[4] <= work[j, 1 + y]
    refills = (
        1.0 if stays and z == 0 else covers(gemm.dims[0], tiles[0], work[j, 1]),
        1.0 if stays and z == 1 else covers(gemm.dims[1], tiles[1], work[j, 2]),
        1.0 if stays and z == 2 else covers(gemm.dims[2], tiles[2], work[j, 3]),
    )
    write_traffic(gemm, inner, trips, refills, column)
    column[5] = 1.0
    column[6], column[7], column[8], column[9] = float(z), tiles[0], tiles[1], tiles[2]
    column[10] = float(j)
    for i in range(3):
        column[11 + i] = 1.0 if i == j else min(tiles[i], work[j, 1 + i])


@inlined
def write_unfit(gemm: Gemm, inner: Gemm, column: np.ndarray) -> None:
    """Fill `column` with the traffic of a tile of one and no tiles."""
    visits = (gemm.dims[0], 1.0, gemm.dims[2])
    write_traffic(gemm, inner, visits, visits, column)
    for field in range(5, column.shape[0]):
        column[field] = 0.0


@inlined
def write_traffic(
    gemm: Gemm, inner: Gemm, trips: Triple, refills: Triple, column: np.ndarray
) -> None:
    """Fill the traffic of `column` from the passes of each operand, by lacking dimension."""
    spilled = 0.5 * gemm.passes[1] * (trips[1] - 1.0)
    column[2] = gemm.passes[0] * trips[0]
    column[0] = gemm.passes[2] * trips[2] + column[2] + spilled
    column[1] = gemm.fixed + gemm.passes[1] + spilled
    spilled = 0.5 * inner.passes[1] * (refills[1] - 1.0)
    column[3] = inner.passes[2] * refills[2] + inner.passes[0] * refills[0] + spilled + column[1]
    column[4] = inner.fixed + inner.passes[1] + spilled + column[0]


@compiled
def map_two_boundaries(
    rows: np.ndarray,
    loads: np.ndarray,
    designs: np.ndarray,
    modes: np.ndarray,
    out: np.ndarray,
) -> int:
    """Map by the direct route where `modes` asks for it, or find the front of one GEMM.

    One function for both, because compiling the search is what takes long.

    Args:
        rows: (R, 7): k, n, bytes of a, b, out, accumulator, spill.
        loads: (8, R, N): LOAD_FIELDS.
        designs: (5, N): SRAM bytes, register bytes (halved for double buffers), bytes per second of
            memory, SRAM and registers.
        modes: (R, N): 0 leave alone, 1 map. One GEMM on one design only: 3 its front; times and
            rates are not used then.
        out: (R, fields, N) for TRAFFIC_FIELDS, and TILE_FIELDS if there is room for them; for a
            front (1, 16, points) for FRONT_FIELDS, D ascending.

    Returns:
        Points of the last search: 1 unless it is a front; -1 if `out` is too small for a front.
    """
    fronts = modes[0, 0] >= 3
    best = np.empty((out.shape[2] if fronts else 1, CANDIDATE_FIELDS))
    work, column = np.empty((3, 5)), np.empty(14)
    fields, count = out.shape[1], 0
    for r in range(modes.shape[0]):
        for n in range(modes.shape[1]):
            if modes[r, n] == 0:
                continue
            gemm = make_gemm(loads[0, r, n], rows[r], loads[1, r, n], loads[2, r, n])
            inner = make_gemm(loads[0, r, n], rows[r], 0.0, 0.0)
            held = loads[2, r, n]
            fits = prepare(gemm, inner, (designs[0, n], designs[1, n]), held, work)
            rates = Rates(
                FRONT if fronts else DIRECT, loads[3, r, n], designs[2, n], designs[3, n],
                designs[4, n], loads[4, r, n], loads[5, r, n], loads[6, r, n], loads[7, r, n],
            )  # fmt: skip
            count = 1
            if fits and held > 0.0:
                count = offer_held(gemm, inner, rates, designs[0, n], work, best)
            elif fits:
                count = scan_all(gemm, inner, rates, designs[0, n], work, best)
            for point in range(count):
                if fits:
                    write_two_level(gemm, inner, best[point], work, column)
                else:
                    write_unfit(gemm, inner, column)
                    best[0, 0], best[0, 1] = column[0] + column[1], column[3] + column[4]
                for field in range(2 if fronts else 0):
                    out[0, field, point] = best[point, field]
                for field in range(column.shape[0] if fronts else fields):
                    if fronts:
                        out[0, 2 + field, point] = column[field]
                    else:
                        out[r, field, n] = column[field]
    return count


@compiled
def select_from_fronts(
    fronts: np.ndarray,
    offsets: np.ndarray,
    key: np.ndarray,
    rates: np.ndarray,
    objective: int,
    out: np.ndarray,
) -> None:
    """Fill `out` (fields, N) with the best point of each design's front.

    Args:
        fronts: (16, points of all fronts): FRONT_FIELDS, D ascending in each front.
        offsets: First point of each front, and the end of the last.
        key: (N,): number of the front, -1 to leave the column alone.
        rates: (11, N): the numbers of `scan.Rates`, then memory and SRAM joules per byte and other
            joules.
        objective: 0 time, 1 energy, 2 energy times time; ties go to least D, then least Q.
        out: TRAFFIC_FIELDS, and TILE_FIELDS if it has room for them.
    """
    for n in range(key.shape[0]):
        if key[n] < 0:
            continue
        speed = Rates(
            FRONT, rates[0, n], rates[1, n], rates[2, n], rates[3, n], rates[4, n], rates[5, n],
            rates[6, n], rates[7, n],
        )  # fmt: skip
        chosen, least = offsets[key[n]], np.inf
        for point in range(offsets[key[n]], offsets[key[n] + 1]):
            d, q = fronts[0, point], fronts[1, point]
            if objective == 0 and d / speed.memory_bytes_per_s > least:
                break
            value = mapping_time(speed, d, q)
            if objective > 0:
                joules = rates[8, n] * d + rates[9, n] * (q + d) + rates[10, n]
                value = joules if objective == 1 else joules * value
            if value < least:
                chosen, least = point, value
        for field in range(out.shape[0]):
            out[field, n] = fronts[2 + field, chosen]
