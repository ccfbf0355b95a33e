"""Evaluations shown as a study."""

from pentarch.report.comparison import as_study
from pentarch.results import WattsPerPflops

from .studies import TOO_BIG, evaluation, infeasible


def test_best_of_a_comparison_is_the_passing_one_with_least_energy() -> None:
    cool = WattsPerPflops(delivered=40.0, peak=50.0)
    found = as_study(
        [
            evaluation(query_j=1.0),  # least energy, but 62.5 W/PFLOPS misses the target
            evaluation(query_j=3.0, w_per_pflops=cool),
            evaluation(query_j=2.0, w_per_pflops=cool),
        ]
    )
    assert found.best is not None
    assert found.best.trial.number == 2
    assert (found.n_trials, found.n_feasible) == (3, 2)
    # Equal prices: the one with less energy dominates the other that passes.
    assert [entry.number for entry in found.front] == [2]


def test_evaluations_without_verdicts_are_judged() -> None:
    bare = evaluation().model_copy(update={"targets": ()})
    found = as_study([bare])
    assert found.nearest is not None
    assert [verdict.verdict.value for verdict in found.nearest.evaluation.targets] == [
        "met", "met", "missed", "met", "met",
    ]  # fmt: skip


def test_infeasible_trial_keeps_reason_and_unknown_figures() -> None:
    found = as_study([evaluation(), infeasible()])
    assert found.trials[1].reason == TOO_BIG
    assert found.trials[1].figures["query_s"] is None
    assert found.nearest is not None
    assert found.nearest.trial.number == 0
