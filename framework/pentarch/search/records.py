"""Records: what a search keeps of each trial, and how figures become values and constraints."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pentarch.errors import CostError, UnknownNameError
from pentarch.evaluate.points import PointResults
from pentarch.results import Scalar, TargetId, Trial, VerdictKind
from pentarch.search.objectives import Objective, figure_names
from pentarch.targets import TargetColumn

PENALTY = 1e30
"""Objective value, in the worse direction, of a design whose figure is unknown or that cannot run.

Such a trial is told to the sampler as finished, not as failed: samplers forget failed trials, so
they would learn nothing and a genetic one would never complete a generation in a hard region. Its
constraints, violated by more than any missed target, keep it behind every design that runs.
"""
UNKNOWN_VIOLATION = 1e3
"""Violation of a target or objective whose figure is unknown."""
INFEASIBLE_VIOLATION = 1e4
"""Least violation of `runs` by a design that cannot run."""
STRICT_MISS = 1e-9
"""Violation of a target that is missed at a margin of exactly zero."""
SHORT_BYTES = "short_bytes"
"""Figure by which designs that cannot run are graded: bytes of memory that they lack."""

_PRICED_ANYWAY = (TargetId.COST, TargetId.PROGRAMMABILITY)


@dataclass(frozen=True, slots=True)
class Proposal:
    """A design to evaluate."""

    number: int
    """Number of the trial."""
    point: dict[str, Scalar]
    """Parameters that exist in the design, by path."""
    dormant: dict[str, Scalar] = field(default_factory=dict)
    """Values that the sampler drew for parameters that do not exist in it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a design is worth."""

    feasible: bool
    """Whether it can run at all."""
    reason: str | None
    """Why not, or which figure is unknown."""
    figures: dict[str, float | None]
    """Figures by name."""
    verdicts: dict[str, str]
    """Verdict by target."""
    margins: dict[str, float | None]
    """Margin by target."""
    values: tuple[float, ...]
    """Objective values as told to the sampler, finite."""
    constraints: dict[str, float]
    """Violations as told to the sampler, finite; at most 0 where fulfilled."""


@dataclass(frozen=True, slots=True)
class Record:
    """A finished trial."""

    proposal: Proposal
    """The design."""
    outcome: Outcome
    """What it is worth."""
    system_attrs: dict[str, Any]
    """What the sampler remembers about it."""

    def trial(self) -> Trial:
        """Return the trial as results show it."""
        outcome = self.outcome
        return Trial(
            number=self.proposal.number,
            parameters=self.proposal.point,
            feasible=outcome.feasible,
            reason=outcome.reason,
            figures=outcome.figures,
            verdicts={target: VerdictKind(kind) for target, kind in outcome.verdicts.items()},
            margins=outcome.margins,
        )


def point_key(point: Mapping[str, Scalar]) -> tuple[tuple[str, Scalar], ...]:
    """Return a hashable key that equal designs share."""
    return tuple(sorted(point.items()))


def outcomes(
    points: Sequence[Mapping[str, Scalar]], results: PointResults, objectives: Sequence[Objective]
) -> list[Outcome]:
    """Return the outcome of each evaluated design.

    Args:
        points: The designs, in the order of `results`.
        results: Their figures and verdicts.
        objectives: Figures to improve, directions resolved.

    A figure that the evaluator leaves out is unknown for all of them.

    Raises:
        UnknownNameError: An objective is no figure of an evaluation, nor given by the evaluator.
        CostError: A figure is infinite.
    """
    for objective in objectives:
        if results.figures and objective.figure not in {*results.figures, *figure_names()}:
            raise UnknownNameError(
                kind="figure", name=objective.figure, known=results.figures,
                hint="These are the figures that the evaluator gives.",
            )  # fmt: skip
    columns = {
        name: _column(name, np.asarray(values, dtype=np.float64), points)
        for name, values in results.figures.items()
    }
    feasible = [bool(entry) for entry in results.feasible]
    judged = [_judged(column, feasible) for column in results.targets]
    gathered = []
    for index, reason in enumerate(results.reasons):
        figures = {name: values[index] for name, values in columns.items()}
        verdicts = {target: kinds[index] for target, kinds, _ in judged}
        margins = {target: entries[index] for target, _, entries in judged}
        runs = feasible[index]
        gathered.append(
            Outcome(
                feasible=runs,
                reason=reason,
                figures=figures,
                verdicts=verdicts,
                margins=margins,
                values=_values(figures, objectives, runs),
                constraints=_constraints(figures, verdicts, margins, objectives, runs),
            )
        )
    return gathered


def _column(
    name: str, values: np.ndarray[Any, np.dtype[np.float64]], points: Sequence[Mapping[str, Scalar]]
) -> list[float | None]:
    infinite = np.flatnonzero(np.isinf(values))
    if infinite.size:
        index = int(infinite[0])
        raise CostError(
            figure=name, operator="whole query", machine=f"design {dict(points[index])}",
            value=float(values[index]),
        )  # fmt: skip
    return [None if value != value else value for value in values.tolist()]


def _judged(
    column: TargetColumn, feasible: Sequence[bool]
) -> tuple[str, list[str], list[float | None]]:
    kinds: list[str] = []
    margins: list[float | None] = []
    for runs, met, known, margin in zip(
        feasible, column.met.tolist(), column.known.tolist(), column.margin.tolist(), strict=True
    ):
        if not runs and column.target not in _PRICED_ANYWAY:
            kind = VerdictKind.INFEASIBLE
        elif not known:
            kind = VerdictKind.UNKNOWN
        else:
            kind = VerdictKind.MET if met else VerdictKind.MISSED
        kinds.append(kind.value)
        margins.append(margin if known and math.isfinite(margin) else None)
    return column.target.value, kinds, margins


def _values(
    figures: Mapping[str, float | None], objectives: Sequence[Objective], runs: bool
) -> tuple[float, ...]:
    values = []
    for objective in objectives:
        figure = figures.get(objective.figure) if runs else None
        worst = -PENALTY if objective.direction == "maximize" else PENALTY
        values.append(worst if figure is None else figure)
    return tuple(values)


def violation(margin: float | None, *, met: bool) -> float:
    """Return by how much a target is violated, at most 0 when it is met.

    Up to 1 it is the margin with its sign turned. Beyond, where only figures that should be small
    can be, it grows with the logarithm, so that a latency a thousand times too long does not
    outweigh all other targets in a sum of violations.

    Args:
        margin: Signed relative distance to the threshold; `None` when unknown.
        met: Whether the target is met; an equality can miss.
    """
    if margin is None:
        return UNKNOWN_VIOLATION
    distance = -margin
    if met:
        return min(distance, 0.0)
    if distance <= 1.0:
        return max(distance, STRICT_MISS)
    return min(1.0 + math.log(distance), 100.0)


def _constraints(
    figures: Mapping[str, float | None],
    verdicts: Mapping[str, str],
    margins: Mapping[str, float | None],
    objectives: Sequence[Objective],
    runs: bool,
) -> dict[str, float]:
    constraints = {"runs": 0.0 if runs else INFEASIBLE_VIOLATION * (1.0 + _shortage(figures))}
    lacking = sum(figures.get(objective.figure) is None for objective in objectives)
    constraints["objectives"] = UNKNOWN_VIOLATION * lacking
    for target, margin in margins.items():
        constraints[target] = violation(margin, met=verdicts[target] == VerdictKind.MET)
    return constraints


def _shortage(figures: Mapping[str, float | None]) -> float:
    """Return a grade from 0 to 1 of a design that cannot run.

    Only a lack of memory is comparable between designs: it is graded by the logarithm of the
    bytes, 1 standing for a yottabyte. Any other reason is the worst, so that the search does not
    prefer one impossibility over another by accident.
    """
    short = figures.get(SHORT_BYTES)
    if short is None or short <= 0:
        return 1.0
    return min(math.log10(1.0 + short) / 24.0, 1.0)
