"""The compiled kernel that maps GEMMs behind any number of buffer boundaries.

Arrays at the door are C-contiguous float64; nothing is checked here, `deep` does that. Limits are
those of `kernels`: every byte count and product of dimensions stays below 2**52.
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.compilation import compiled, inlined
from pentarch.mapping.deep_search import (
    AT_BOUND,
    BYTES,
    JOULES,
    KINDS,
    NODE_FIELDS,
    TRIED,
    WIDTH,
    Problem,
    Search,
    all_bytes,
    boundary_step,
    decide,
    expand,
    is_weighed,
    least_energy,
    least_time,
    least_value,
    precedes,
    settled,
)
from pentarch.mapping.deep_tiles import Above, cut
from pentarch.mapping.nests import SLACK, other_dims

LEVEL_FIELDS = ("a", "b", "c_down", "c_up", "kept", "tile_m", "tile_k", "tile_n")
"""Of each boundary: bytes of A, B and unfinished C down, of C up; stationarity and tile."""
SUMMARY_FIELDS = (
    "fits", "time_s", "energy_j", "least_s", "least_j", "least_value", "value", "least_memory"
)  # fmt: skip
"""Of each mapping; `least_*` is what no loop nest goes below."""


class Designs(NamedTuple):
    """Designs as the kernel takes them, outermost level first."""

    capacity: np.ndarray
    """(levels, N), halved for double buffers."""
    ports: np.ndarray
    """(levels + 1, 5, N); see `Problem.ports`."""
    given: np.ndarray
    """(R, 4, N); see `Problem.given`."""
    resident: np.ndarray
    """(R, N): 1 where B already lies in the outermost buffer."""


@inlined
def make_problem(
    m: float, row: np.ndarray, designs: Designs, at: tuple[int, int], objective: int
) -> Problem:
    """Return GEMM `at[0]`, `row` = (k, n, a, b, out, accumulator, spill bytes), on design `at[1]`."""
    r, n = at
    levels = designs.capacity.shape[0]
    problem = Problem(
        np.array([m, row[0], row[1]]), np.empty((levels, 3)), np.empty((KINDS, levels, 5)),
        np.empty(levels), np.empty((levels + 1, 5)), np.empty(4), np.zeros((KINDS, levels)),
        np.zeros((levels, 3, 3)), objective, designs.ports[:, 2].max() > 0.0,
    )  # fmt: skip
    words = m * row[1]
    for level in range(levels + 1):
        for field in range(5):
            problem.ports[level, field] = designs.ports[level, field, n]
    for field in range(4):
        problem.given[field] = designs.given[r, field, n]
    for level in range(levels):
        here = 1.0 - designs.resident[r, n] if level == 0 else 1.0
        problem.capacity[level] = designs.capacity[level, n]
        problem.words[level, 0], problem.words[level, 1] = row[3] * here, row[5]
        problem.words[level, 2] = row[2]
        outer, inner = problem.ports[level], problem.ports[level + 1]
        for kind in range(KINDS):
            down = outer[3] + inner[4] if kind == JOULES else 1.0
            up = outer[4] + inner[3] if kind == JOULES else (1.0 if kind == BYTES else 0.0)
            cost = problem.costs[kind, level]
            cost[0] = down * row[3] * here * row[0] * row[1]
            cost[1] = (down + up) * row[6] * words
            cost[2] = down * row[2] * m * row[0]
            cost[3] = up * row[4] * words - cost[1]
            cost[4] = up * row[4] * words
    return problem


@inlined
def root_of(problem: Problem) -> Above:
    """Return the whole GEMM as the tile above the outermost buffer."""
    pieces = np.ones((3, 1, 2))
    for i in range(3):
        pieces[i, 0, 0] = problem.dims[i]
    return Above(pieces, 1, problem.dims.copy(), np.ones(3), np.ones(3), -1.0)


@inlined
def solve_alone(problem: Problem, root: Above) -> bool:
    """Fill the optimum of each boundary on its own; return whether every buffer holds a tile."""
    for level in range(problem.capacity.shape[0]):
        for kind in range(KINDS):
            least = np.inf
            for z in range(3):
                step = boundary_step(problem, root, level, kind, z)
                if step.cost < 0.0 and step.x == 0.0:
                    return False
                least = min(least, step.cost)
                if kind == BYTES:
                    x, y = other_dims(z)
                    problem.ideal[level, z, x], problem.ideal[level, z, y] = step.x, step.y
            problem.least[kind, level] = least
    return True


@inlined
def finish(problem: Problem, search: Search, above: Above) -> None:
    """Give the innermost level its optimum of each stationarity and keep the best mapping."""
    depth = problem.capacity.shape[0] - 1
    passes, tile = np.empty(3), np.empty(3)
    for kind in range(KINDS):
        for z in range(3 if is_weighed(problem, kind) else 0):
            step = boundary_step(problem, above, depth, kind, z)
            x, y = other_dims(z)
            tile[x], tile[y], tile[z] = step.x, step.y, 1.0
            for i in range(3):
                passes[i] = 0.0
                for piece in range(above.kinds):
                    size = above.pieces[i, piece, 0]
                    passes[i] += above.pieces[i, piece, 1] * np.ceil(size / tile[i])
            passes[z] = above.passes[z] if step.stays else above.counts[z]
            decide(problem, search, depth, passes)
            value = least_value(problem, search, depth + 1)
            memory = search.moved[0, 0] + search.moved[1, 0]
            everything = all_bytes(search, depth + 1)
            if precedes(value, memory, everything, search.best):
                search.best[0], search.best[1], search.best[2] = value, memory, everything
                note(search.path, depth, float(z), tile, passes)
                for at in range(depth + 1):
                    for field in range(7):
                        search.found[at, field] = search.path[at, field]


@inlined
def note(path: np.ndarray, depth: int, kept: float, tile: np.ndarray, passes: np.ndarray) -> None:
    """Write the choice of one level into a path."""
    path[depth, 0] = kept
    for i in range(3):
        path[depth, 1 + i], path[depth, 4 + i] = tile[i], passes[i]


@inlined
def enter(problem: Problem, search: Search, above: Above, depth: int) -> Above:
    """Return the path's choice at `depth` as the tile above the next boundary."""
    choice = search.path[depth]
    tile, passes, count = choice[1:4].copy(), choice[4:7].copy(), np.empty(3)
    pieces = np.zeros((3, above.kinds + 1, 2))
    cut(above, tile, pieces)
    for i in range(3):
        count[i] = 0.0
        for piece in range(above.kinds + 1):
            if pieces[i, piece, 0] > 0.0:
                count[i] += pieces[i, piece, 1]
    decide(problem, search, depth, passes)
    return Above(pieces, above.kinds + 1, tile, count, passes, float(choice[0]))


@inlined
def stand(problem: Problem, search: Search, root: Above, depth: int) -> Above:
    """Return the tile above boundary `depth` on the path, with what the boundaries before moved."""
    above = root
    for at in range(depth):
        above = enter(problem, search, above, at)
    return above


@inlined
def explore(problem: Problem, search: Search, root: Above) -> None:
    """Search depth first, the best bound first; a node is left once nothing below can be better."""
    levels = problem.capacity.shape[0]
    if levels == 1:
        finish(problem, search, root)
        return
    for thorough in range(2):
        descend(problem, search, root, thorough > 0)


@inlined
def is_proven(problem: Problem, search: Search) -> bool:
    """Return whether the best mapping has the least objective and memory bytes there can be."""
    least = search.least[0] * (1.0 + SLACK), problem.least[BYTES, 0] * (1.0 + SLACK)
    return bool(search.best[0] <= least[0] and search.best[1] <= least[1])


@inlined
def descend(problem: Problem, search: Search, root: Above, thorough: bool) -> None:
    """Walk the nodes below the root; the first, quick walk gives the second one its measure."""
    levels = problem.capacity.shape[0]
    tried = np.zeros(levels, dtype=np.int64)
    limit = int(max(2.0, np.floor(TRIED ** (1.0 / max(1, levels - 2)) + 1e-9)))
    # Of a literal 0 every function of the search would be compiled a second time.
    depth = int(np.int64(0))
    expand(problem, search, root, depth, thorough)
    while depth >= 0:
        child = tried[depth]
        node = search.nodes[depth, child % WIDTH]
        last = depth == levels - 2
        over = child >= search.counts[depth] or (child >= limit and not last)
        # Proven least already: what is left is to move fewer bytes further in.
        over = over or (child >= AT_BOUND and is_proven(problem, search))
        if over or settled(search, node[0], node[1], node[2]):
            depth -= 1
            continue
        tried[depth] += 1
        note(search.path, depth, node[3], node[4:7], node[7:10])
        above = stand(problem, search, root, depth + 1)
        if last:
            finish(problem, search, above)
            continue
        depth += 1
        tried[depth] = 0
        expand(problem, search, above, depth, thorough)


@inlined
def write_bounds(problem: Problem, search: Search, design: int, out: np.ndarray) -> None:
    """Write what no loop nest goes below into column `design`, and forget the design before."""
    first = problem.capacity.shape[0] * len(LEVEL_FIELDS)
    known = int(np.int64(0))
    for at in range(problem.capacity.shape[0]):
        for kind in range(KINDS):
            search.bound[kind, at] = problem.least[kind, at]
    for field in range(3):
        search.best[field] = np.inf
    out[first + 3, design] = least_time(problem, search, known)
    out[first + 4, design] = least_energy(problem, search, known)
    out[first + 5, design] = least_value(problem, search, known)
    search.least[0] = out[first + 5, design]
    out[first + 7, design] = problem.least[BYTES, 0]


@inlined
def write_mapping(problem: Problem, search: Search, design: int, out: np.ndarray) -> None:
    """Write the mapping found, level by level, into column `design`."""
    levels = problem.capacity.shape[0]
    for level in range(levels):
        found, cost = search.found[level], problem.costs[BYTES, level]
        first = level * len(LEVEL_FIELDS)
        out[first, design] = cost[2] * found[6]
        out[first + 1, design] = cost[0] * found[4]
        spilled = 0.5 * cost[1] * (found[5] - 1.0)
        out[first + 2, design], out[first + 3, design] = spilled, cost[4] + spilled
        for field in range(4):
            out[first + 4 + field, design] = found[field]
        decide(problem, search, level, found[4:7])
    first = levels * len(LEVEL_FIELDS)
    out[first + 1, design] = least_time(problem, search, levels)
    out[first + 2, design] = least_energy(problem, search, levels)
    out[first + 6, design] = least_value(problem, search, levels)


@compiled
def map_any_boundaries(
    rows: np.ndarray, m: np.ndarray, designs: Designs, objective: int, out: np.ndarray
) -> None:
    """Map every GEMM on every design.

    Args:
        rows: (R, 7): k, n, bytes of a, b, out, accumulator, spill.
        m: (R, N).
        designs: The designs.
        objective: 0 time, 1 energy, 2 energy times time.
        out: (R, fields, N): LEVEL_FIELDS of each level, then SUMMARY_FIELDS. Where nothing fits,
            the traffic of a tile of one and no tiles.
    """
    levels = designs.capacity.shape[0]
    first = levels * len(LEVEL_FIELDS)
    search = Search(
        np.zeros((2, levels)), np.zeros((KINDS, levels)), np.zeros((levels, WIDTH, NODE_FIELDS)),
        np.zeros(levels, dtype=np.int64), np.empty(3), np.empty(1), np.zeros((levels, 7)),
        np.zeros((levels, 7)),
    )  # fmt: skip
    for r in range(m.shape[0]):
        for n in range(m.shape[1]):
            problem = make_problem(m[r, n], rows[r], designs, (r, n), objective)
            root = root_of(problem)
            fits = solve_alone(problem, root)
            if fits:
                write_bounds(problem, search, n, out[r])
                explore(problem, search, root)
            else:
                passes = np.array([problem.dims[0], 1.0, problem.dims[2]])
                for level in range(levels):
                    note(search.found, level, 0.0, np.zeros(3), passes)
            out[r, first, n] = 1.0 if fits else 0.0
            write_mapping(problem, search, n, out[r])
