import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import CostError, UnknownNameError
from pentarch.evaluate.points import PointResults
from pentarch.results import Scalar
from pentarch.search.objectives import Objective
from pentarch.search.records import (
    INFEASIBLE_VIOLATION,
    PENALTY,
    UNKNOWN_VIOLATION,
    Outcome,
    outcomes,
    violation,
)
from pentarch.targets import Targets, judge_columns

from .fakes import FakeEvaluator

J = Objective(figure="query_j", direction="minimize")
RATE = Objective(figure="delivered_flops_per_s", direction="maximize")
GOOD: dict[str, Scalar] = {"memory": "hbm3e", "chips": 4, "stacks": 2, "sram_bytes": 2**24}
LACKING: dict[str, Scalar] = {"memory": "gddr7", "chips": 1, "sram_bytes": 2**24}


def outcome_of(results: PointResults, objective: Objective = J) -> Outcome:
    return outcomes([GOOD], results, [objective])[0]


def short_by(short_bytes: float) -> PointResults:
    figures = {"query_j": np.array([5.0]), "short_bytes": np.array([short_bytes])}
    return PointResults(
        figures=figures, feasible=np.array([False]), reasons=("too little memory",),
        targets=judge_columns(figures, 1, Targets()),
    )  # fmt: skip


@given(st.floats(-1e12, 1.0), st.floats(-1e12, 1.0))
def test_a_smaller_margin_is_never_a_smaller_violation(first: float, second: float) -> None:
    low, high = sorted((first, second))
    assert violation(low, met=low >= 0) >= violation(high, met=high >= 0)


@given(st.floats(-1e300, 1e300))
def test_a_missed_target_violates_less_than_an_unknown_one(margin: float) -> None:
    missed = violation(margin, met=False)
    assert 0 < missed < UNKNOWN_VIOLATION
    assert violation(margin, met=True) <= 0


def test_a_moderate_violation_is_the_margin() -> None:
    assert violation(-0.25, met=False) == 0.25
    assert violation(0.25, met=True) == -0.25
    # equality misses a strict target: MFU has to be more than its threshold
    assert violation(0.0, met=False) > 0


def test_what_a_sampler_is_told_is_finite_even_when_nothing_is_known() -> None:
    names = ("query_j", "query_s", "system_usd", "mfu.query", "programmability")
    results = FakeEvaluator(unknown=names).evaluate([GOOD, LACKING])
    for found in outcomes([GOOD, LACKING], results, [J, RATE]):
        assert all(map(math.isfinite, found.values))
        assert all(map(math.isfinite, found.constraints.values()))
        assert found.figures["query_j"] is None


def test_the_penalty_is_in_the_worse_direction() -> None:
    results = FakeEvaluator().evaluate([LACKING])
    assert outcomes([LACKING], results, [J, RATE])[0].values == (PENALTY, -PENALTY)


def test_a_design_that_cannot_run_has_infeasible_verdicts_but_a_price() -> None:
    found = outcome_of(FakeEvaluator().evaluate([LACKING]))
    assert not found.feasible
    assert found.reason == "weights need 16 GB, the board has 8 GB"
    assert found.verdicts["latency"] == "infeasible"
    assert found.verdicts["cost"] == "met"
    assert found.constraints["runs"] >= INFEASIBLE_VIOLATION


def test_any_design_that_runs_violates_less_than_one_that_cannot() -> None:
    unknown = FakeEvaluator(unknown=("query_s", "system_usd", "query_j", "mfu.query"))
    runs = outcome_of(unknown.evaluate([GOOD]))
    cannot = outcome_of(short_by(1.0))
    assert sum(max(v, 0) for v in runs.constraints.values()) < cannot.constraints["runs"]


def test_less_short_of_memory_is_a_smaller_violation_and_no_grade_the_largest() -> None:
    near, far, none = (
        outcome_of(short_by(short_bytes)).constraints["runs"] for short_bytes in (1e9, 1e11, np.nan)
    )
    assert near < far < none


def test_an_unknown_objective_is_a_violation() -> None:
    found = outcome_of(FakeEvaluator(unknown=("query_j",)).evaluate([GOOD]))
    assert found.constraints["objectives"] == UNKNOWN_VIOLATION


def test_an_unknown_figure_never_meets_its_target() -> None:
    found = outcome_of(FakeEvaluator(unknown=("system_usd",)).evaluate([GOOD]))
    assert found.verdicts["cost"] == "unknown"
    assert found.margins["cost"] is None
    assert found.constraints["cost"] == UNKNOWN_VIOLATION


def test_a_figure_that_is_left_out_is_unknown_and_one_that_nobody_knows_is_an_error() -> None:
    results = FakeEvaluator().evaluate([GOOD])
    absent = outcome_of(results, Objective(figure="bom_usd", direction="minimize"))
    assert absent.values == (absent.figures["bom_usd"],)
    left_out = outcome_of(results, Objective(figure="tpot_s", direction="minimize"))
    assert left_out.values == (PENALTY,)
    with pytest.raises(UnknownNameError, match="carbon_kg"):
        outcome_of(results, Objective(figure="carbon_kg", direction="minimize"))


def test_an_infinite_figure_is_an_error_that_names_the_design() -> None:
    results = FakeEvaluator().evaluate([GOOD])
    results.figures["query_s"][0] = np.inf
    with pytest.raises(CostError, match=r"query_s.*'memory': 'hbm3e'"):
        outcome_of(results)
