"""Where the nodes of a layered drawing go: rows from top to bottom, no two boxes on one place.

The method of Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system
structures", 1981: rows are the topological generations, an edge that spans several rows passes
through an empty place in each, places of a row are ordered by the barycenter of their neighbors.
Positions then minimize the distance to the neighbors under the least distances within a row, which
is an isotonic regression, solved exactly by pooling adjacent violators.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import networkx as nx

_ORDER_SWEEPS = 6
_PLACE_SWEEPS = 8
_PASSAGE_WEIGHT = 0.02
"""How little a passage moves the boxes beside it; 1 is what a box does."""
_PASSING_PULL = 0.1
"""How much a long edge pulls on its ends; 1 is what an edge to the next row does."""
_AXIS_PULL = 0.08
"""How much every box is drawn to the middle, so that a long chain does not drift away."""

Passage = tuple[str, str, int]
"""Source and target of a long edge, and a row that it passes."""
Place = Passage | str
"""A node or a passage."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A layered drawing without its text and colors."""

    rows: tuple[tuple[Place, ...], ...]
    """Places of each row from left to right; every edge leads to a later row."""
    center: Mapping[Place, float]
    """Horizontal center of every place, the leftmost edge of all being 0."""
    width: float
    """Total width."""

    @property
    def row_of(self) -> dict[Place, int]:
        """Row of every place."""
        return {place: row for row, places in enumerate(self.rows) for place in places}

    def path(self, source: str, target: str) -> list[Place]:
        """Return the places that the edge from `source` to `target` passes, both included."""
        row_of = self.row_of
        return [source, *passages(source, target, row_of[source], row_of[target]), target]


def passages(source: str, target: str, first: int, last: int) -> list[Passage]:
    """Return the empty places that an edge between two rows passes through."""
    return [(source, target, row) for row in range(first + 1, last)]


def lay_out(
    graph: "nx.DiGraph[str]", width_of: Mapping[str, float], *, gap: float, passage: float
) -> Layout:
    """Return a layered layout of a directed acyclic graph.

    Args:
        graph: The graph; the order of its nodes breaks ties.
        width_of: Width of every node's box.
        gap: Least distance between boxes of a row.
        passage: Width that a long edge takes in a row that it passes.
    """
    generations = [list(names) for names in nx.topological_generations(graph)]
    row_of = {name: row for row, names in enumerate(generations) for name in names}
    rows: list[list[Place]] = [list(names) for names in generations]
    above: dict[Place, list[Place]] = {}
    below: dict[Place, list[Place]] = {}
    for source, target in graph.edges:
        inner = passages(source, target, row_of[source], row_of[target])
        for place in inner:
            rows[place[2]].append(place)
        chain: list[Place] = [source, *inner, target]
        for upper, lower in pairwise(chain):
            below.setdefault(upper, []).append(lower)
            above.setdefault(lower, []).append(upper)
    _order(rows, above=above, below=below)
    width = {place: width_of.get(place, passage) if isinstance(place, str) else passage
             for row in rows for place in row}  # fmt: skip
    center = _centers(rows, above=above, below=below, width=width, gap=gap)
    _straighten(rows, center)
    left = min((center[place] - width[place] / 2 for place in center), default=0.0)
    right = max((center[place] + width[place] / 2 for place in center), default=0.0)
    return Layout(
        rows=tuple(tuple(row) for row in rows),
        center={place: middle - left for place, middle in center.items()},
        width=right - left,
    )


def _order(
    rows: Sequence[list[Place]],
    *,
    above: Mapping[Place, Sequence[Place]],
    below: Mapping[Place, Sequence[Place]],
) -> None:
    """Order the places of each row by their neighbors', downward and upward in turn."""
    at = {place: float(index) for row in rows for index, place in enumerate(row)}
    for sweep in range(_ORDER_SWEEPS):
        downward = sweep % 2 == 0
        neighbors = above if downward else below
        for row in rows if downward else reversed(rows):
            key = {place: _mean([at[one] for one in neighbors.get(place, ())], at[place])
                   for place in row}  # fmt: skip
            # Boxes before passages where both are equal, so that the main chain stays on one side.
            row.sort(key=lambda place: (key[place], not isinstance(place, str)))
            at.update({place: float(index) for index, place in enumerate(row)})


def _centers(
    rows: Sequence[Sequence[Place]],
    *,
    above: Mapping[Place, Sequence[Place]],
    below: Mapping[Place, Sequence[Place]],
    width: Mapping[Place, float],
    gap: float,
) -> dict[Place, float]:
    center: dict[Place, float] = {}
    for row in rows:
        offsets = _offsets(row, width, gap)
        boxes = [at for place, at in zip(row, offsets, strict=True) if isinstance(place, str)]
        axis = _mean(boxes, 0.0)
        center.update((place, at - axis) for place, at in zip(row, offsets, strict=True))
    for sweep in range(_PLACE_SWEEPS):
        downward = sweep % 2 == 0
        sides = [above, below]
        if sweep < _PLACE_SWEEPS // 2:
            sides = [above] if downward else [below]
        for row in rows if downward else reversed(rows):
            wanted = [_wanted(place, [one for side in sides for one in side.get(place, ())], center)
                      for place in row]  # fmt: skip
            weights = [1.0 if isinstance(place, str) else _PASSAGE_WEIGHT for place in row]
            offsets = _offsets(row, width, gap)
            moved = isotonic(
                [want - offset for want, offset in zip(wanted, offsets, strict=True)], weights
            )
            center.update(
                (place, shift + offset)
                for place, shift, offset in zip(row, moved, offsets, strict=True)
            )
    return center


def _wanted(place: Place, near: Sequence[Place], center: Mapping[Place, float]) -> float:
    """Return where a place wants to be: a box near its neighbors and the axis, a passage straight."""
    if not isinstance(place, str):
        straight = [one for one in near if not isinstance(one, str)]
        return _mean([center[one] for one in straight or near], center[place])
    boxes = [center[one] for one in near if isinstance(one, str)]
    passing = [center[one] for one in near if not isinstance(one, str)]
    total = len(boxes) + _PASSING_PULL * len(passing)
    if not total:
        return center[place]
    mean = (sum(boxes) + _PASSING_PULL * sum(passing)) / total
    return mean * (1.0 - _AXIS_PULL)


def _straighten(rows: Sequence[Sequence[Place]], center: dict[Place, float]) -> None:
    """Make long edges vertical that are the last place of every row that they pass."""
    passing: dict[tuple[str, str], list[Place]] = {}
    free: dict[tuple[str, str], bool] = {}
    for row in rows:
        for place in row:
            if not isinstance(place, str):
                edge = place[:2]
                passing.setdefault(edge, []).append(place)
                free[edge] = free.get(edge, True) and place == row[-1]
    for edge, places in passing.items():
        if free[edge]:
            center.update(dict.fromkeys(places, max(center[place] for place in places)))


def _offsets(row: Sequence[Place], width: Mapping[Place, float], gap: float) -> list[float]:
    """Return the centers of a row that is pushed together, from 0."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (width[left] + width[right]) / 2 + gap)
    return offsets[: len(row)]


def isotonic(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """Return the non-decreasing numbers nearest to `values` by weighted squares.

    Examples:
        >>> isotonic([1.0, 3.0, 2.0], [1.0, 1.0, 1.0])
        [1.0, 2.5, 2.5]
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        mean, total, count = value, weight, 1
        while blocks and blocks[-1][0] > mean:
            before, own, members = blocks.pop()
            mean = (before * own + mean * total) / (own + total)
            total, count = own + total, members + count
        blocks.append((mean, total, count))
    return [mean for mean, _, count in blocks for _ in range(count)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
