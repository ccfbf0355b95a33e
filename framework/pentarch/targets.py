"""The five targets: thresholds, margins and verdicts (definitions.md, Verdict and margin).

One path: a batch of N figures is judged by arrays; one evaluation is a batch of one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.model import Model
from pentarch.results import Evaluation, TargetId, Verdict, VerdictKind
from pentarch.units import Flops, Seconds, Usd

Floats = npt.NDArray[np.float64]

PRICE_ASSUMPTION = "5,000 USD as what an edge product can carry is an assumption of this project"

USUAL_USD = 5000.0
"""Price of a system that targets ask for where nobody states another."""


class Targets(Model):
    """Thresholds and bases of the five targets."""

    delivered_flops_per_s: Flops = Field(default=1e15, gt=0)
    """Target 1: useful FLOPs per second of the whole system, at least."""
    query_mfu: float = Field(default=0.5, gt=0, lt=1)
    """Target 1: MFU over the whole query, more than."""
    query_s: Seconds = Field(default=2.0, gt=0)
    """Target 2: latency of a whole query, at most."""
    w_per_pflops: PositiveFloat = 50.0
    """Target 3: power per PFLOPS, at most."""
    w_basis: Literal["delivered", "peak"] = "delivered"
    """Target 3: mean power / delivered PFLOPS, or full-load power / dense peak."""
    system_usd: Usd = Field(default=USUAL_USD, gt=0)
    """Target 4: price of one system, at most; the default is an assumption."""
    usd_basis: Literal["price", "bom"] = "price"
    """Target 4: what a buyer pays, or the bill of material."""
    programmability: float = Field(default=0.9, gt=0, le=1)
    """Target 5: share of later operators at a useful rate, at least."""
    update_s: Seconds = Field(default=3600.0, gt=0)
    """Target 5: time of an update in the field, at most."""


class Economics(Model):
    """What turns a price into USD per query; defaults from the technology library's TCO block."""

    life_years: PositiveFloat = 5.0
    """Years over which the price is written off (`tco.life_it`)."""
    utilization: float = Field(default=0.5, gt=0, le=1)
    """Share of its life that the system answers queries at the operating point (`tco.utilisation_service`)."""
    usd_per_kwh: NonNegativeFloat = 0.08
    """Price of electricity (`tco.electricity`)."""
    pue: float = Field(default=1.0, ge=1)
    """Facility power / IT power; 1.0 at the edge."""
    operation_share_per_year: NonNegativeFloat = 0.0
    """Yearly cost of operation as a share of the price."""
    facility_usd_per_w: NonNegativeFloat = 0.0
    """Price of the data center per watt that the system may draw at the wall; 0 at the edge, 11 in a
    data center (`tco.facility_capex_per_w`)."""
    facility_life_years: PositiveFloat = 14.0
    """Years over which the data center is written off (`tco.life_facility`)."""
    operation_usd_per_w_year: NonNegativeFloat = 0.0
    """Yearly cost of operation per watt that the system may draw; 0.3 in a data center
    (`tco.opex_other`)."""


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison of a target."""

    target: TargetId
    """Target that it belongs to."""
    figure: str
    """Figure that is compared."""
    threshold: float
    """What it is compared with."""
    more_is_better: bool
    """Whether the figure has to reach the threshold or stay below it."""
    strict: bool
    """Whether equality misses."""


def conditions(targets: Targets) -> tuple[Condition, ...]:
    """Return every comparison that the five targets make, in order."""
    return (
        Condition(TargetId.PROCESSING, "delivered_flops_per_s", targets.delivered_flops_per_s, True, False),
        Condition(TargetId.PROCESSING, "mfu.query", targets.query_mfu, True, True),
        Condition(TargetId.LATENCY, "query_s", targets.query_s, False, False),
        Condition(TargetId.ENERGY, f"w_per_pflops.{targets.w_basis}", targets.w_per_pflops, False, False),
        Condition(
            TargetId.COST, "system_usd" if targets.usd_basis == "price" else "bom_usd",
            targets.system_usd, False, False,
        ),
        Condition(TargetId.PROGRAMMABILITY, "programmability", targets.programmability, True, False),
        Condition(TargetId.PROGRAMMABILITY, "update_s", targets.update_s, False, False),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class TargetColumn:
    """Verdicts of N designs on one target; arrays of shape (N,)."""

    target: TargetId
    """Which target."""
    met: npt.NDArray[np.bool_]
    """Whether it is met; false where it is unknown."""
    known: npt.NDArray[np.bool_]
    """Whether every figure it needs is known."""
    margin: Floats
    """Least margin of its conditions; NaN where unknown."""
    deciding: npt.NDArray[np.intp]
    """Index into `conditions` of the condition with the least margin, or the unknown one."""


def margin(value: Floats, condition: Condition) -> Floats:
    """Return the signed relative distance to the threshold, positive = met (definitions.md, Verdict and margin)."""
    return _margins(value, np.array(condition.threshold), np.array(condition.more_is_better))


def _margins(values: Floats, thresholds: Floats, more_is_better: npt.NDArray[np.bool_]) -> Floats:
    distance = np.where(more_is_better, values - thresholds, thresholds - values)
    found: Floats = distance / thresholds
    return found


def judge_columns(
    figures: Mapping[str, Floats | None], length: int, targets: Targets
) -> tuple[TargetColumn, ...]:
    """Judge N designs.

    Args:
        figures: Shape (N,) by name, NaN or `None` where unknown.
        length: Number of designs, N.
        targets: Thresholds and bases.

    Returns:
        One column per target, in the order of `TargetId`.
    """
    tests = _tests(targets)
    values = np.full((len(tests.conditions), length), np.nan)
    for row, condition in enumerate(tests.conditions):
        found = figures.get(condition.figure)
        if found is not None:
            values[row] = found
    judged = _judge(values, tests)
    return tuple(
        TargetColumn(
            target=target, met=judged.met[at], known=judged.known[at], margin=judged.margin[at],
            deciding=judged.deciding[at],
        )
        for at, target in enumerate(TargetId)
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """`TargetColumn` of all targets, T of them; arrays of shape (T, N)."""

    met: npt.NDArray[np.bool_]
    known: npt.NDArray[np.bool_]
    margin: Floats
    deciding: npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class _Tests:
    """The comparisons of all targets, C of them; those of a target follow one another."""

    conditions: tuple[Condition, ...]
    strict: npt.NDArray[np.bool_]
    """Whether equality misses, (C, 1)."""
    more_is_better: npt.NDArray[np.bool_]
    """Whether the figure has to reach the threshold, (C, 1)."""
    thresholds: Floats
    """What figures are compared with, (C, 1)."""
    starts: npt.NDArray[np.intp]
    """First comparison of each target, (T,)."""
    targets: npt.NDArray[np.intp]
    """Position of the target of each comparison, (C,)."""
    numbers: npt.NDArray[np.intp]
    """Position of each comparison, (C, 1)."""


@lru_cache(maxsize=16)
def _tests(targets: Targets) -> _Tests:
    found = conditions(targets)
    order = [list(TargetId).index(condition.target) for condition in found]
    return _Tests(
        conditions=found,
        strict=np.array([[condition.strict] for condition in found]),
        more_is_better=np.array([[condition.more_is_better] for condition in found]),
        thresholds=np.array([[float(condition.threshold)] for condition in found]),
        starts=np.array([order.index(target) for target in range(len(TargetId))]),
        targets=np.array(order), numbers=np.arange(len(found))[:, None],
    )  # fmt: skip


def _judge(values: Floats, tests: _Tests) -> _Judged:
    """Judge N designs by the figures of all comparisons, (C, N), NaN where unknown."""
    starts = tests.starts
    margins = _margins(values, tests.thresholds, tests.more_is_better)
    passed = np.where(tests.strict, margins > 0, margins >= 0)  # NaN passes nothing
    is_known = ~np.isnan(margins)
    ranked = np.where(is_known, margins, -np.inf)  # what is unknown decides
    is_least = ranked == np.minimum.reduceat(ranked, starts)[tests.targets]
    return _Judged(
        met=np.logical_and.reduceat(passed, starts),
        known=np.logical_and.reduceat(is_known, starts),
        margin=np.minimum.reduceat(margins, starts),  # NaN where one is unknown
        deciding=np.minimum.reduceat(
            np.where(is_least, tests.numbers, len(tests.conditions)), starts
        ),
    )


_SUPPLIER = {
    "delivered_flops_per_s": "the back-end's engine rates",
    "mfu.query": "the back-end's engine rates",
    "query_s": "the back-end's rates",
    "w_per_pflops.delivered": "the back-end: energy per byte and per MAC, static power",
    "w_per_pflops.peak": "the device's power cap, in its YAML",
    "system_usd": "the device's price_usd or the system's host_usd, in their YAML",
    "bom_usd": "the back-end's cost parts",
    "programmability": "the back-end's program description",
    "update_s": "the device's update_s, in its YAML",
}


def unknown_reason(figure: str, *, backend: str) -> str:
    """Return why a verdict is unknown: the figure it lacks, whose, and who could supply it."""
    return f"{figure} is unknown; it can be supplied by {_SUPPLIER[figure]} (back-end {backend})"


def figure_of(evaluation: Evaluation, name: str) -> float | None:
    """Return a figure of an evaluation by dotted name, `None` when it is unknown."""
    value: object = evaluation
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else getattr(value, part)
        if value is None:
            return None
    return float(value)  # type: ignore[arg-type]  # the names in `conditions` are all numbers


def judge(evaluation: Evaluation, targets: Targets | None = None) -> tuple[Verdict, ...]:
    """Return the five verdicts on an evaluation.

    Args:
        evaluation: One design at one operating point.
        targets: Thresholds and bases; by default those of definitions.md, Verdict and margin.
    """
    targets = targets or Targets()
    tests = _tests(targets)
    values = [figure_of(evaluation, condition.figure) for condition in tests.conditions]
    judged = _judge(np.array([[np.nan if value is None else value] for value in values]), tests)
    met, known, margin, deciding = (
        column[:, 0].tolist()
        for column in (judged.met, judged.known, judged.margin, judged.deciding)
    )
    return tuple(
        _verdict(
            evaluation, tests.conditions[at], values[at],
            is_met=met[row], margin=margin[row] if known[row] else None, targets=targets,
        )
        for row, at in enumerate(deciding)
    )  # fmt: skip


def _verdict(
    evaluation: Evaluation, condition: Condition, value: float | None, *, is_met: bool,
    margin: float | None, targets: Targets,
) -> Verdict:  # fmt: skip
    """Return the verdict on the target of the condition that decides; no margin means unknown."""
    target, reason = condition.target, None
    if not evaluation.feasible and target not in (TargetId.COST, TargetId.PROGRAMMABILITY):
        kind, reason, margin = VerdictKind.INFEASIBLE, evaluation.reason, None
    elif margin is None:
        kind = VerdictKind.UNKNOWN
        reason = unknown_reason(condition.figure, backend=evaluation.backend)
    else:
        kind = VerdictKind.MET if is_met else VerdictKind.MISSED
    is_assumed = target is TargetId.COST and targets.system_usd == USUAL_USD
    return Verdict(
        id=target, verdict=kind, figure=condition.figure, value=value,
        threshold=condition.threshold, margin=margin,
        bottleneck=evaluation.bottleneck if target in (TargetId.PROCESSING, TargetId.LATENCY) else None,
        reason=reason, assumption=PRICE_ASSUMPTION if is_assumed else None,
    )  # fmt: skip
