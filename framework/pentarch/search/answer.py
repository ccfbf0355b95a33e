"""The answer of a search: best design, nearest design and the exact front."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pentarch.results import Trial
from pentarch.search.objectives import Objective

Floats = npt.NDArray[np.float64]


def best_trial(trials: Sequence[Trial], objectives: Sequence[Objective]) -> Trial | None:
    """Return the design that meets all five targets with the best first objective.

    Ties go to the lower trial number; a design whose first objective is unknown comes last.
    """
    first = objectives[0]
    sign = -1.0 if first.direction == "maximize" else 1.0

    def rank(trial: Trial) -> tuple[bool, float, int]:
        value = trial.figures.get(first.figure)
        return value is None, sign * (value or 0.0), trial.number

    return min((trial for trial in trials if trial.meets_all), key=rank, default=None)


def nearness(trial: Trial) -> tuple[int, float, int]:
    """Return a key that orders designs that can run by nearness to the targets, nearest first.

    The nearest has the largest least margin. Where verdicts are unknown, designs with fewer
    unknown ones come first and the least of the known margins counts.
    """
    known = [margin for margin in trial.margins.values() if margin is not None]
    least = min(known) if known else -np.inf
    return len(trial.margins) - len(known), -least, trial.number


def nearest_trial(trials: Sequence[Trial]) -> Trial | None:
    """Return the design that can run with the largest least margin, ties by trial number."""
    return min((trial for trial in trials if trial.feasible), key=nearness, default=None)


def front(trials: Sequence[Trial], objectives: Sequence[Objective]) -> tuple[Trial, ...]:
    """Return the non-dominated designs, the best by the first objective first.

    Candidates are the designs that meet all five targets or, when there is none, those that can
    run; a design with an unknown objective is none. Of designs with equal objectives the one with
    the lowest number stands for all.
    """
    candidates = [trial for trial in trials if trial.meets_all]
    if not candidates:
        candidates = [trial for trial in trials if trial.feasible]
    values: list[tuple[float, ...]] = []
    known: list[Trial] = []
    for trial in sorted(candidates, key=lambda entry: entry.number):
        figures = [trial.figures.get(objective.figure) for objective in objectives]
        complete = [figure for figure in figures if figure is not None]
        if len(complete) == len(objectives):
            known.append(trial)
            values.append(tuple(complete))
    signs = [-1.0 if objective.direction == "maximize" else 1.0 for objective in objectives]
    losses = np.array(values, dtype=np.float64).reshape(len(known), len(objectives)) * signs
    return tuple(known[index] for index in non_dominated(losses))


def non_dominated(losses: Floats) -> list[int]:
    """Return the rows that no other row dominates, of equal rows the first.

    In lexicographic order a row can only be dominated by an earlier one. For two columns it is so
    exactly when its second value is not below the least so far, which takes O(n log n); for more,
    each row is compared with the front found so far.

    Args:
        losses: To be minimized, shape (n, k), without NaN.

    Returns:
        Row indices in lexicographic order of their values.
    """
    if losses.shape[0] == 0:
        return []
    order = np.lexsort(losses.T[::-1])
    ordered = losses[order]
    if losses.shape[1] == 1:
        return [int(order[0])]
    if losses.shape[1] == 2:
        least_before = np.concatenate([[np.inf], np.minimum.accumulate(ordered[:-1, 1])])
        return [int(index) for index in order[ordered[:, 1] < least_before]]
    kept = np.empty_like(ordered)
    rows: list[int] = []
    for index, row in zip(order, ordered, strict=True):
        count = len(rows)
        if count and bool((kept[:count] <= row).all(axis=1).any()):
            continue
        kept[count] = row
        rows.append(int(index))
    return rows
