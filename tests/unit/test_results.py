"""What follows from verdicts: margins, targets met, and which one binds."""

from typing import Any

import pytest
from tests.unit.test_targets import evaluation_of

from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.results import Evaluation, Infeasible, TargetId, Trial, VerdictKind
from pentarch.targets import judge

MARGINS = {"processing": 0.3, "latency": 0.1, "energy": 0.2, "cost": 0.4, "programmability": 0.05}


def trial(**changes: Any) -> Trial:
    met: dict[str, Any] = {
        name: VerdictKind.MET if margin >= 0 else VerdictKind.MISSED
        for name, margin in MARGINS.items()
    }
    return Trial(**{
        "number": 3, "parameters": {"arrays": 4}, "feasible": True, "verdicts": met,
        "margins": MARGINS, **changes,
    })  # fmt: skip


def judged(**changes: float | None) -> Evaluation:
    evaluation = evaluation_of(**changes)
    return evaluation.replace(targets=judge(evaluation))


def test_the_least_margin_of_an_evaluation() -> None:
    # (0.95 - 0.9) / 0.9, see test_targets
    assert judged().least_margin == pytest.approx(0.05 / 0.9)
    assert judged().meets_all


@pytest.mark.parametrize("changes", [{"system_usd": None}, {"feasible": False}])
def test_without_all_margins_there_is_no_least(changes: dict[str, Any]) -> None:
    assert judged(**changes).least_margin is None
    assert not judged(**changes).meets_all


def test_an_evaluation_without_verdicts_meets_nothing() -> None:
    assert not evaluation_of().meets_all
    assert evaluation_of().least_margin is None


def test_a_missed_target_is_not_met() -> None:
    assert not judged(query_s=3.0).meets_all
    assert judged(query_s=3.0).least_margin == pytest.approx(-0.5)


def test_a_trial_that_meets_all() -> None:
    found = trial()

    assert (found.targets_met, found.meets_all) == (len(TargetId), True)
    assert found.least_margin == 0.05
    assert found.binding == "programmability"


def test_a_trial_that_cannot_run_has_no_margin() -> None:
    found = trial(feasible=False, reason="5 GB short")

    assert not found.meets_all
    assert found.least_margin is None


def test_an_unknown_margin_binds_first() -> None:
    found = trial(margins={**MARGINS, "cost": None})

    assert found.binding == "cost"
    assert found.least_margin is None


def test_a_trial_at_exactly_its_threshold_has_a_margin_of_zero() -> None:
    found = trial(margins={**MARGINS, "energy": 0.0})

    assert found.least_margin == 0.0
    assert found.binding == "energy"


def test_a_trial_without_verdicts() -> None:
    found = trial(verdicts={}, margins={})

    assert (found.targets_met, found.meets_all, found.least_margin, found.binding) == (
        0, False, None, None,
    )  # fmt: skip


def test_an_impossible_design_says_why() -> None:
    found = Infeasible(reason="weights need 16.1 GB, the board has 8 GB", short_bytes=8.1e9)
    assert found.short_bytes == 8.1e9


def test_results_refuse_what_is_no_number() -> None:
    with pytest.raises(FieldError, match="query_s"):
        load(Evaluation, {**dict(evaluation_of()), "query_s": float("nan")}, where="evaluation")
