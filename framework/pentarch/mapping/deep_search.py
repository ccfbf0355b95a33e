"""The search behind any number of buffer boundaries: tiles level by level, best bound first.

A node is a tile of one level inside the tile above. Its score is a lower bound on the objective of
every mapping below it: what its own boundaries move, and for every further boundary the least that
any tile inside it can move there. Children are tried in the order of (score, memory bytes, all
bytes, candidate), and left out once they cannot beat the best complete mapping. The tile of the
innermost level is the exact optimum of each stationarity given the tile above.
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import inlined
from pentarch.mapping.deep_tiles import (
    Above,
    Step,
    cover,
    cut,
    least_step,
    relaxed_step,
    step_face,
    tight,
)
from pentarch.mapping.nests import SLACK, other_dims

TIME, ENERGY, EDP = 0, 1, 2
BYTES, JOULES, DOWN = 0, 1, 2
"""What a boundary's traffic is weighed in: bytes, joules, bytes inwards only."""
KINDS = 3
WIDTH = 32
"""Children of a node that are kept."""
TRIED = 8.0
"""Nodes above the innermost two levels that are tried, all levels together."""
AT_BOUND = 3
"""Children of a node that are tried once objective and memory bytes are at their bounds."""
SIZES = 28
"""Tile sizes of a dimension that are tried."""
EVERY = 10
"""Dimension up to which every size is tried."""
FEWER = 1.0 - 1.0 / 64.0
"""Of mappings of equal objective the search goes on only for one that may move at most this share of
the best one's memory bytes, or at equal memory bytes of its bytes at all boundaries."""
NODE_FIELDS = 10
"""Score, memory bytes, all bytes, stationarity, tile (3), passes (3)."""


class Problem(NamedTuple):
    """One GEMM on one design."""

    dims: np.ndarray
    """(3,): M, K, N."""
    words: np.ndarray
    """(levels, 3): bytes of a word of B, C, A in each buffer, outermost first."""
    costs: np.ndarray
    """(KINDS, levels, 5): what one pass of B, C, A costs at each boundary, what no tile changes, and
    one final pass of C."""
    capacity: np.ndarray
    """(levels,)."""
    ports: np.ndarray
    """(levels + 1, 5): seconds per byte read and written, 1 where both have ports of their own,
    joules per byte read and written; memory first."""
    given: np.ndarray
    """(4,): compute seconds, other joules, bytes that the engine reads from and writes to the
    innermost buffer."""
    least: np.ndarray
    """(KINDS, levels): the least of each boundary on its own."""
    ideal: np.ndarray
    """(levels, 3, 3): tile of that least, by stationarity and dimension; 0 where it streams."""
    objective: int
    split: bool
    """Some level has ports of their own for reads and writes."""


class Search(NamedTuple):
    """What the search keeps, by depth."""

    moved: np.ndarray
    """(2, levels): bytes down and up at each boundary decided so far."""
    bound: np.ndarray
    """(KINDS, levels): the least of the boundaries not decided yet."""
    nodes: np.ndarray
    """(levels, WIDTH, NODE_FIELDS): children at each depth, the best first."""
    counts: np.ndarray
    """(levels,): children kept at each depth."""
    best: np.ndarray
    """(3,): objective, memory bytes and all bytes of the best complete mapping."""
    least: np.ndarray
    """(1,): the lower bound on the objective."""
    path: np.ndarray
    """(levels, 7): stationarity, tile and passes on the way to the node in hand."""
    found: np.ndarray
    """(levels, 7): the same for the best complete mapping."""


@inlined
def decide(problem: Problem, search: Search, depth: int, passes: np.ndarray) -> None:
    """Write what boundary `depth` moves when B, C, A pass so many times."""
    cost = problem.costs[BYTES, depth]
    spilled = 0.5 * cost[1] * (passes[1] - 1.0)
    search.moved[0, depth] = cost[0] * passes[0] + cost[2] * passes[2] + spilled
    search.moved[1, depth] = cost[4] + spilled


@inlined
def least_time(problem: Problem, search: Search, known: int) -> float:
    """Return a lower bound on time with `known` boundaries decided; exact when all are.

    On a port of its own the reads of a level are what its next boundary brings down and what its
    own takes up, each at its least.
    """
    levels = problem.capacity.shape[0]
    time = problem.given[0]
    for at in range(levels + 1):
        read, write, total = 0.0, 0.0, 0.0
        if at < levels:
            down, up, moved = boundary_bytes(problem, search, known, at)
            read, write, total = down, up, moved
        else:
            read, write = problem.given[2], problem.given[3]
            total = read + write
        if at > 0:
            down, up, moved = boundary_bytes(problem, search, known, at - 1)
            read, write, total = read + up, write + down, total + moved
        port = problem.ports[at]
        if port[2] == 0.0:
            time = max(time, total * port[0])
        else:
            both = port[0] * port[1] / (port[0] + port[1])
            time = max(time, max(total * both, max(read * port[0], write * port[1])))
    return float(time)


@inlined
def boundary_bytes(
    problem: Problem, search: Search, known: int, at: int
) -> tuple[float, float, float]:
    """Return bytes down, up and both at one boundary, each at its least while it is not decided."""
    if at < known:
        down, up = search.moved[0, at], search.moved[1, at]
        return down, up, down + up
    final = problem.costs[BYTES, at, 4]
    return search.bound[DOWN, at], final, search.bound[BYTES, at]


@inlined
def least_energy(problem: Problem, search: Search, known: int) -> float:
    """Return a lower bound on energy with `known` boundaries decided; exact when all are."""
    levels = problem.capacity.shape[0]
    inner = problem.ports[levels]
    joules = problem.given[1] + problem.given[2] * inner[3] + problem.given[3] * inner[4]
    for at in range(levels):
        if at < known:
            outer, inner = problem.ports[at], problem.ports[at + 1]
            joules += search.moved[0, at] * (outer[3] + inner[4])
            joules += search.moved[1, at] * (outer[4] + inner[3])
        else:
            joules += search.bound[JOULES, at]
    return float(joules)


@inlined
def least_value(problem: Problem, search: Search, known: int) -> float:
    """Return a lower bound on the objective with `known` boundaries decided."""
    if problem.objective == TIME:
        return least_time(problem, search, known)
    joules = least_energy(problem, search, known)
    if problem.objective == ENERGY:
        return joules
    return joules * least_time(problem, search, known)


@inlined
def all_bytes(search: Search, known: int) -> float:
    """Return a lower bound on the bytes of all boundaries."""
    total = 0.0
    for at in range(search.bound.shape[1]):
        if at < known:
            total += search.moved[0, at] + search.moved[1, at]
        else:
            total += search.bound[BYTES, at]
    return total


@inlined
def boundary_step(problem: Problem, above: Above, depth: int, kind: int, z: int) -> Step:
    """Return the least bytes or joules of stationarity `z` at one boundary below a tile."""
    cost = problem.costs[kind, depth]
    face = step_face(problem.dims, problem.words[depth], cost, z)
    return least_step(face, problem.capacity[depth], above, z, cost[z], cost[3])


@inlined
def is_weighed(problem: Problem, kind: int) -> bool:
    """Return whether a weight of traffic bears on the objective or on its ties."""
    if kind == JOULES:
        return problem.objective != TIME
    return kind == BYTES or (problem.split and problem.objective != ENERGY)


@inlined
def bound_below(problem: Problem, search: Search, above: Above, depth: int, exact: int) -> None:
    """Fill the bounds of all boundaries from `depth` on, given the tile above them."""
    for kind in range(KINDS):
        if not is_weighed(problem, kind):
            continue
        for at in range(depth, problem.capacity.shape[0]):
            least = np.inf
            cost = problem.costs[kind, at]
            for z in range(3):
                if exact > 0:
                    value = boundary_step(problem, above, at, kind, z).cost
                else:
                    face = step_face(problem.dims, problem.words[at], cost, z)
                    stays = above.passes[z] if above.kept == z else above.counts[z]
                    value = relaxed_step(face, problem.capacity[at], above, z)
                    value = value + cost[z] * stays + cost[3]
                least = min(least, value)
            search.bound[kind, at] = max(problem.least[kind, at], least)


@inlined
def precedes(score: float, memory: float, everything: float, kept: np.ndarray) -> bool:
    """Return whether (score, memory bytes, all bytes) comes before that of `kept`."""
    if score != kept[0]:
        return bool(score < kept[0])
    if memory != kept[1]:
        return bool(memory < kept[1])
    return bool(everything < kept[2])


@inlined
def settled(search: Search, score: float, memory: float, everything: float) -> bool:
    """Return whether nothing with these bounds is worth more than the best complete mapping."""
    best = search.best
    if score < best[0]:
        return False
    fewer = memory < best[1] * FEWER or (memory <= best[1] and everything < best[2] * FEWER)
    return score > best[0] or not fewer


@inlined
def hopeless(problem: Problem, search: Search, depth: int) -> bool:
    """Return whether a child with the bounds in hand comes after all that are kept."""
    score = least_value(problem, search, depth + 1) * (1.0 - SLACK)
    memory = search.moved[0, 0] + search.moved[1, 0]
    everything = all_bytes(search, depth + 1) * (1.0 - SLACK)
    if settled(search, score, memory, everything):
        return True
    count = search.counts[depth]
    full = count == search.nodes.shape[1]
    return full and not precedes(score, memory, everything, search.nodes[depth, count - 1])


@inlined
def offer(problem: Problem, search: Search, above: Above, inside: Above, depth: int) -> None:
    """Offer the tile `inside` with every stationarity as a child."""
    moved, is_cut = np.empty(3), False
    for z in range(3):
        x, y = other_dims(z)
        covers = inside.tile[x] >= above.tile[x] and inside.tile[y] >= above.tile[y]
        for i in range(3):
            moved[i] = inside.counts[i]
        moved[z] = above.passes[z] if above.kept == z and covers else above.counts[z]
        decide(problem, search, depth, moved)
        for kind in range(KINDS):
            for at in range(depth + 1, problem.capacity.shape[0]):
                search.bound[kind, at] = problem.least[kind, at]
        if hopeless(problem, search, depth):
            continue
        if not is_cut:
            cut(above, inside.tile, inside.pieces)
            is_cut = True
        below = Above(inside.pieces, inside.kinds, inside.tile, inside.counts, moved, float(z))
        is_hopeless = False
        for exact in range(2):
            bound_below(problem, search, below, depth + 1, exact)
            is_hopeless = is_hopeless or hopeless(problem, search, depth)
            if is_hopeless:
                break
        if not is_hopeless:
            insert(problem, search, below, depth)


@inlined
def insert(problem: Problem, search: Search, below: Above, depth: int) -> None:
    """Put a child in its place among those kept, unless it is there."""
    nodes, count = search.nodes[depth], search.counts[depth]
    score = least_value(problem, search, depth + 1)
    memory = search.moved[0, 0] + search.moved[1, 0]
    everything = all_bytes(search, depth + 1)
    place = count
    while place > 0 and precedes(score, memory, everything, nodes[place - 1]):
        place -= 1
    twin = place - 1
    while twin >= 0 and nodes[twin, 0] == score and nodes[twin, 2] == everything:
        same = nodes[twin, 3] == below.kept
        for i in range(3):
            same = same and nodes[twin, 4 + i] == below.tile[i]
        if same:
            return
        twin -= 1
    if place == nodes.shape[0]:
        return
    last = min(count, nodes.shape[0] - 1)
    for at in range(last, place, -1):
        for field in range(NODE_FIELDS):
            nodes[at, field] = nodes[at - 1, field]
    nodes[place, 0], nodes[place, 1], nodes[place, 2] = score, memory, everything
    nodes[place, 3] = below.kept
    for i in range(3):
        nodes[place, 4 + i], nodes[place, 7 + i] = below.tile[i], below.passes[i]
    search.counts[depth] = min(count + 1, nodes.shape[0])


@inlined
def list_sizes(problem: Problem, above: Above, depth: int, i: int, sizes: np.ndarray) -> int:
    """Fill `sizes` with the tile sizes to try along dimension `i`, ascending; return how many."""
    box, count = above.tile[i], 0
    if box <= EVERY:
        for size in range(1, int(box) + 1):
            sizes[count] = float(size)
            count += 1
        return count
    trips, last = 1.0, np.inf
    while count < SIZES - 12:
        size = np.ceil(box / trips)
        if size < last:
            sizes[count] = size
            count, last = count + 1, size
        if size <= 1.0:
            break
        trips = max(trips + 1.0, np.floor(trips * 1.6))
    for z in range(3):
        size = problem.ideal[depth + 1, z, i]
        while 1.0 < size < box and count < SIZES:
            sizes[count] = size
            count, size = count + 1, size * 2.0
    return sort_unique(sizes, count)


@inlined
def sort_unique(values: np.ndarray, count: int) -> int:
    """Sort the first values, drop repeats, return how many are left."""
    for at in range(1, count):
        value, place = values[at], at
        while place > 0 and values[place - 1] > value:
            values[place] = values[place - 1]
            place -= 1
        values[place] = value
    left = 0
    for at in range(count):
        if at == 0 or values[at] != values[left - 1]:
            values[left] = values[at]
            left += 1
    return left


@inlined
def try_tile(problem: Problem, search: Search, above: Above, inside: Above, depth: int) -> None:
    """Complete the tile `inside` with its counts and offer it."""
    for i in range(3):
        inside.counts[i] = cover(above, i, inside.tile[i])
    offer(problem, search, above, inside, depth)


@inlined
def try_widest(
    problem: Problem, search: Search, above: Above, inside: Above, depth: int, i: int
) -> bool:
    """Offer the tiles whose size along `i` is the widest that fits; return whether one fits.

    The widest comes as it is, made tight, and as a whole multiple of the ideal tiles of the next level.
    """
    x, y = other_dims(i)
    words, tile = problem.words[depth], inside.tile
    room = problem.capacity[depth] - words[i] * tile[x] * tile[y]
    widest = np.floor(room / (words[x] * tile[y] + words[y] * tile[x]))
    widest = min(above.tile[i], float(widest))
    if widest < 1.0:
        return False
    for option in range(5):
        size = widest
        if option == 1:
            size = tight(above, i, widest)
        elif option > 1:
            unit = problem.ideal[depth + 1, option - 2, i]
            size = np.floor(widest / unit) * unit if unit > 1.0 else 0.0
        if size >= 1.0 and (size < widest or option == 0):
            tile[i] = size
            try_tile(problem, search, above, inside, depth)
    return True


@inlined
def expand(problem: Problem, search: Search, above: Above, depth: int, thorough: bool) -> None:
    """Fill the children of a tile at `depth`, the best first; only the optima unless `thorough`."""
    sizes, counts = np.empty((3, SIZES)), np.empty(3, dtype=np.int64)
    inside = Above(
        np.zeros((3, above.kinds + 1, 2)), above.kinds + 1, np.empty(3), np.empty(3), np.empty(3),
        -1.0,
    )  # fmt: skip
    search.counts[depth] = 0
    for i in range(3 if thorough else 0):
        counts[i] = list_sizes(problem, above, depth, i, sizes[i])
    offer_optima(problem, search, above, inside, depth)
    for i in range(3 if thorough else 0):
        x, y = other_dims(i)
        for at in range(counts[x]):
            for beside in range(counts[y]):
                inside.tile[x], inside.tile[y] = sizes[x, at], sizes[y, beside]
                if not try_widest(problem, search, above, inside, depth, i):
                    break


@inlined
def offer_optima(problem: Problem, search: Search, above: Above, inside: Above, depth: int) -> None:
    """Offer the exact optima of the boundary given the tile above."""
    for kind in range(KINDS):
        for z in range(3 if is_weighed(problem, kind) else 0):
            x, y = other_dims(z)
            step = boundary_step(problem, above, depth, kind, z)
            inside.tile[x], inside.tile[y] = step.x, step.y
            try_widest(problem, search, above, inside, depth, z)
