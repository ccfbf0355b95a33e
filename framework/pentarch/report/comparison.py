"""Evaluations as a study, so that one report serves both."""

from collections.abc import Sequence

from pentarch.errors import InputError
from pentarch.results import Design, Evaluation, StudyResult, Trial
from pentarch.search.answer import best_trial, front, nearest_trial
from pentarch.search.objectives import Objective
from pentarch.targets import figure_of, judge

_FIGURES = (
    "ttft_s", "tpot_s", "query_s", "throughput_tokens_per_s", "queries_per_s",
    "delivered_flops_per_s", "peak_flops_per_s", "mfu.prefill", "mfu.decode", "mfu.query", "mbu",
    "hfu", "mean_w", "peak_w", "full_load_w", "w_per_pflops.delivered", "w_per_pflops.peak",
    "j_per_token", "query_j", "system_usd", "bom_usd", "query_usd", "programmability", "update_s",
)  # fmt: skip
_OBJECTIVES = (
    Objective(figure="query_j", direction="minimize"),
    Objective(figure="system_usd", direction="minimize"),
)


def as_study(evaluations: Sequence[Evaluation]) -> StudyResult:
    """Return evaluations as the trials of a study that nobody searched.

    Args:
        evaluations: At least one; those without verdicts are judged by the default targets.

    Returns:
        A study without a log, whose objectives are the energy of a query and the price.

    Raises:
        InputError: There is no evaluation.
    """
    if not evaluations:
        raise InputError("A report needs at least one evaluation, and none was given.")
    designs = [_design(number, evaluation) for number, evaluation in enumerate(evaluations)]
    trials = tuple(design.trial for design in designs)
    best, nearest = best_trial(trials, _OBJECTIVES), nearest_trial(trials)
    shown_nearest = None if nearest is None else designs[nearest.number]
    return StudyResult(
        space="comparison" if len(designs) > 1 else "evaluation",
        about=", ".join(dict.fromkeys(f"{e.workload} on {e.system}" for e in evaluations)),
        log=None,
        objectives=tuple(objective.figure for objective in _OBJECTIVES),
        directions=tuple(objective.direction or "" for objective in _OBJECTIVES),
        n_trials=len(designs),
        n_feasible=sum(trial.meets_all for trial in trials),
        best=None if best is None else designs[best.number],
        # One design is shown even if it cannot run: its reason is the answer.
        nearest=designs[0] if len(designs) == 1 else shown_nearest,
        front=front(trials, _OBJECTIVES),
        compared=tuple(designs) if len(designs) > 1 else (),
        trials=trials,
        stopped_by="exhausted",
        settings={"version": evaluations[0].inputs.version},
    )


def _design(number: int, evaluation: Evaluation) -> Design:
    if not evaluation.targets:
        evaluation = evaluation.replace(targets=judge(evaluation))
    trial = Trial(
        number=number,
        parameters={
            "workload": evaluation.workload,
            "system": evaluation.system,
            "partitioner": evaluation.partitioner,
            "runtime": evaluation.operating_point.runtime,
            "query.concurrency": evaluation.operating_point.query.concurrency,
        },
        feasible=evaluation.feasible,
        reason=evaluation.reason,
        figures={name: figure_of(evaluation, name) for name in _FIGURES},
        verdicts={verdict.id.value: verdict.verdict for verdict in evaluation.targets},
        margins={verdict.id.value: verdict.margin for verdict in evaluation.targets},
    )
    return Design(trial=trial, evaluation=evaluation)
