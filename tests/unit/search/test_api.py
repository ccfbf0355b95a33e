import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

import pentarch
from pentarch.errors import CostError, FieldError, InputError, RunLogError, UnknownNameError
from pentarch.evaluate.points import Point, PointResults
from pentarch.model import load
from pentarch.results import StudyResult
from pentarch.search.api import read_run, search
from pentarch.search.progress import Progress
from pentarch.search.space import Strategy
from pentarch.search.study import Pacer
from pentarch.targets import Targets

from .fakes import FakeEvaluator, figures_of, make_space, reason_of

STRATEGIES: tuple[Strategy, ...] = ("nsga2", "tpe", "random", "exhaustive")


def run(log: Path, **options: Any) -> StudyResult:
    options = {
        "space": make_space(), "trials": 60, "seed": 2, "batch": 20, "strategy": "nsga2",
        "evaluator": FakeEvaluator(), **options,
    }  # fmt: skip
    return search(options.pop("space"), log=log, **options)


def answer_of(result: StudyResult) -> str:
    """Return the answer as JSON, without what differs between two equal runs."""
    document = result.model_dump(
        mode="json", exclude={"log": True, "seconds": True, "settings": {"created_utc", "versions"}}
    )
    return json.dumps(document)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_twice_the_same_gives_the_same_bytes(tmp_path: Path, strategy: Strategy) -> None:
    first, second = (run(tmp_path / f"{name}.sqlite", strategy=strategy) for name in "ab")
    assert answer_of(first) == answer_of(second)
    assert first.n_trials == 60


def test_the_seed_matters(tmp_path: Path) -> None:
    first, second = (run(tmp_path / f"{seed}.sqlite", seed=seed) for seed in (1, 2))
    assert first.trials != second.trials


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("stop", [7, 20, 33])
def test_a_resumed_run_equals_an_undisturbed_one(
    tmp_path: Path, strategy: Strategy, stop: int
) -> None:
    undisturbed = run(tmp_path / "a.sqlite", strategy=strategy)
    run(tmp_path / "b.sqlite", strategy=strategy, trials=stop)
    resumed = run(tmp_path / "b.sqlite", strategy=strategy, resume=True)
    assert answer_of(resumed) == answer_of(undisturbed)
    assert len(resumed.settings["versions"]) == 2


def test_resuming_takes_seed_and_batch_from_the_log(tmp_path: Path) -> None:
    log = tmp_path / "a.sqlite"
    run(log, trials=20, seed=9)
    resumed = run(log, resume=True, seed=None, batch=None)
    assert resumed.settings["seed"] == 9
    assert resumed.settings["batch"] == 20
    assert resumed.n_trials == 60


def test_settings_say_every_threshold_of_the_space(tmp_path: Path) -> None:
    result = run(tmp_path / "a.sqlite", trials=5)
    assert load(Targets, result.settings["targets"], where="settings") == make_space().targets
    assert result.settings["targets"]["update_s"] == 3600.0


def test_resuming_a_finished_run_evaluates_nothing(tmp_path: Path) -> None:
    log = tmp_path / "a.sqlite"
    first = run(log)
    idle = FakeEvaluator()
    again = run(log, resume=True, evaluator=idle)
    assert idle.evaluated == []
    assert answer_of(again) == answer_of(first)


def test_trials_of_another_sampler_version_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "a.sqlite"
    first = run(log, trials=33)
    # a version that draws other random numbers from the same seed
    monkeypatch.setattr("numpy.random.SeedSequence", lambda entropy: _Shifted(entropy))
    resumed = run(log, resume=True)
    assert resumed.trials[:33] == first.trials
    assert [trial.number for trial in resumed.trials] == list(range(60))


class _Shifted:
    def __init__(self, entropy: list[int]) -> None:
        self._entropy = entropy

    def generate_state(self, words: int) -> list[int]:
        return [hash(tuple(self._entropy)) % 2**31 + word for word in range(words)]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed: 2 in the log, 3 now"),
        ({"batch": 10}, "batch: 20 in the log, 10 now"),
        ({"strategy": "tpe"}, "sampler.strategy: nsga2 in the log, tpe now"),
        ({"space": make_space(runtime="other")}, "runtime: ideal in the log, other now"),
        (
            {"space": make_space(targets={"query_s": 1.0})},
            r"targets\.query_s: 2\.0 in the log, 1\.0 now",
        ),
        (
            {"space": make_space(search={"chips": {"int": [1, 16]}})},
            r"search\.chips\.log: True in the log, False now",
        ),
    ],
)
def test_resuming_another_search_says_what_differs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    log = tmp_path / "a.sqlite"
    run(log, trials=20)
    with pytest.raises(RunLogError, match=message):
        run(log, resume=True, **change)


def test_another_about_line_is_no_difference(tmp_path: Path) -> None:
    run(tmp_path / "a.sqlite", trials=20)
    run(tmp_path / "a.sqlite", resume=True, space=make_space(about="Better words."))


def test_a_log_that_exists_gets_a_further_run(tmp_path: Path) -> None:
    log = tmp_path / "a.sqlite"
    first = run(log, trials=20)
    second = run(log, trials=40, seed=5)
    assert (first.run, second.run) == (1, 2)
    assert read_run(log, 1) == first
    assert read_run(log) == second


def test_default_logs_are_new_files_and_resume_finds_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluator = FakeEvaluator()
    first = search(make_space(), trials=20, evaluator=evaluator)
    second = search(make_space(), trials=20, seed=8, evaluator=evaluator)
    assert first.log != second.log
    assert sorted(path.suffix for path in (tmp_path / "runs").iterdir()) == [".sqlite"] * 2
    resumed = search(make_space(), trials=30, resume=True, evaluator=evaluator)
    assert resumed.log == second.log
    assert resumed.settings["seed"] == 8


def test_exhaustive_tries_every_design_once_and_knows_the_front(tmp_path: Path) -> None:
    space = make_space()
    result = run(tmp_path / "a.sqlite", strategy="exhaustive", trials=None)
    assert result.stopped_by == "exhausted"
    assert [trial.parameters for trial in result.trials] == list(space.designs())
    values = {
        (figures["query_j"], figures["system_usd"])
        for point in space.designs()
        for figures in [figures_of(point)]
        if reason_of(point) is None and passes(figures)
    }
    # nobody in the front is beaten, and everybody else is
    front = {
        pair
        for pair in values
        if not any(a <= pair[0] and b <= pair[1] and (a, b) != pair for a, b in values)  # type: ignore[operator]  # known
    }
    shown = {(trial.figures["query_j"], trial.figures["system_usd"]) for trial in result.front}
    assert shown == front
    assert result.n_feasible == sum(
        reason_of(point) is None and passes(figures_of(point)) for point in space.designs()
    )


def passes(figures: dict[str, Any]) -> bool:
    """Return whether the default thresholds are met, written out."""
    return bool(
        figures["delivered_flops_per_s"] >= 1e15
        and figures["mfu.query"] > 0.5
        and figures["query_s"] <= 2.0
        and figures["w_per_pflops.delivered"] <= 50
        and figures["system_usd"] <= 5000
    )


def test_exhaustive_needs_a_finite_space(tmp_path: Path) -> None:
    space = make_space(search={"clock_hz": {"float": [1, 2]}})
    with pytest.raises(FieldError, match=r"search\.clock_hz: is continuous"):
        run(tmp_path / "a.sqlite", space=space, strategy="exhaustive")


def test_equal_designs_are_evaluated_once(tmp_path: Path) -> None:
    evaluator = FakeEvaluator()
    result = run(tmp_path / "a.sqlite", evaluator=evaluator, trials=200)
    designs = {tuple(sorted(trial.parameters.items())) for trial in result.trials}
    assert len(evaluator.evaluated) == len(designs) < 200
    # nor after a resume
    later = FakeEvaluator()
    run(tmp_path / "a.sqlite", evaluator=later, trials=300, resume=True)
    assert not designs & {tuple(sorted(point.items())) for point in later.evaluated}


def test_best_and_nearest_come_with_their_evaluation(tmp_path: Path) -> None:
    result = run(tmp_path / "a.sqlite")
    assert result.best is not None
    assert result.nearest is not None
    assert result.best.evaluation.query_j == result.best.trial.figures["query_j"]
    assert result.best.evaluation.meets_all
    margins = [trial.least_margin for trial in result.trials if trial.least_margin is not None]
    assert result.nearest.trial.least_margin == max(margins)


def test_a_search_without_a_passing_design_still_answers(tmp_path: Path) -> None:
    evaluator = FakeEvaluator(unknown=("system_usd",))
    space = make_space(objectives=["query_j"])
    result = run(tmp_path / "a.sqlite", evaluator=evaluator, space=space)
    assert result.n_feasible == 0
    assert result.best is None
    assert result.nearest is not None
    assert {trial.verdicts["cost"] for trial in result.trials} == {"unknown"}
    assert result.front


def test_a_search_where_nothing_runs_answers_that(tmp_path: Path) -> None:
    space = make_space(
        search={
            "memory": {"choice": ["gddr7"]},
            "chips": {"int": [1, 1]},
            "sram_bytes": {"choice": [2**23, 2**24]},
        }
    )
    result = run(tmp_path / "a.sqlite", space=space)
    assert (result.best, result.nearest, result.front) == (None, None, ())
    assert result.trials[0].reason == "weights need 16 GB, the board has 8 GB"


def test_the_evaluator_checks_the_space_before_a_log_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    class Strict(FakeEvaluator):
        def check(self, parameters: Any) -> None:
            super().check(parameters)
            raise InputError("chips names nothing")

    evaluator = Strict()
    with pytest.raises(InputError, match="chips names nothing"):
        search(make_space(), evaluator=evaluator)
    assert evaluator.checked == make_space().extremes()
    assert list(tmp_path.iterdir()) == []


def test_what_progress_says_is_in_the_log(tmp_path: Path) -> None:
    log = tmp_path / "a.sqlite"
    seen: list[Progress] = []

    def look(progress: Progress) -> None:
        seen.append(progress)
        assert read_run(log, evaluator=FakeEvaluator()).n_trials == progress.done

    result = run(log, progress=look)
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert seen[-1].done == seen[-1].total == 60
    assert seen[-1].feasible == result.n_feasible
    assert seen[-1].targets_met == 5
    assert result.nearest is not None
    assert seen[-1].margin == result.nearest.trial.least_margin
    assert seen[-1].binding == result.nearest.trial.binding
    assert seen[-1].seconds_left == 0
    assert "60/60 trials, best meets 5 of 5 targets, least margin +" in seen[-1].line()


def test_ctrl_c_keeps_the_slice_and_answers(tmp_path: Path) -> None:
    def interrupt(evaluated: int) -> None:
        if evaluated >= 8:
            signal.raise_signal(signal.SIGINT)

    handler = signal.getsignal(signal.SIGINT)
    log = tmp_path / "a.sqlite"
    result = run(log, evaluator=FakeEvaluator(before=interrupt))
    assert result.stopped_by == "interrupt"
    assert 8 < result.n_trials < 60
    assert signal.getsignal(signal.SIGINT) is handler
    assert read_run(log) == result
    assert answer_of(run(log, resume=True)) == answer_of(run(tmp_path / "b.sqlite"))


def test_an_error_ends_the_search_and_says_where_the_finished_trials_are(tmp_path: Path) -> None:
    class Breaking(FakeEvaluator):
        asked = 0

        def evaluate(self, points: Sequence[Point]) -> PointResults:
            self.asked += len(points)
            if self.asked > 25:
                raise CostError(figure="time_s", operator="qkv", machine="fake", value=float("nan"))
            return super().evaluate(points)

    log = tmp_path / "a.sqlite"
    with pytest.raises(CostError, match="qkv") as caught:
        run(log, evaluator=Breaking())

    kept = read_run(log, evaluator=FakeEvaluator())
    assert 0 < kept.n_trials < 60
    (note,) = caught.value.__notes__
    assert note.startswith(f"The {kept.n_trials} trials finished before are kept")
    assert str(log) in note


def test_a_keyboard_interrupt_drops_only_what_was_being_evaluated(tmp_path: Path) -> None:
    def interrupt(evaluated: int) -> None:
        if evaluated >= 8:
            raise KeyboardInterrupt

    result = run(tmp_path / "a.sqlite", evaluator=FakeEvaluator(before=interrupt))
    assert result.stopped_by == "interrupt"
    assert 8 <= result.n_trials < 60
    assert result.nearest is not None


@pytest.mark.parametrize("strategy", ["nsga2", "exhaustive"])
def test_killed_in_the_middle_nothing_printed_is_lost(tmp_path: Path, strategy: Strategy) -> None:
    log = tmp_path / "a.sqlite"
    here = Path(__file__).parent
    roots = [str(here), str(Path(pentarch.__file__).parents[1])]
    code = (
        "from pathlib import Path; from fakes import killed_search; "
        f"killed_search(Path({str(log)!r}), strategy={strategy!r}, trials=100, kill_after=45)"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(roots)},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    printed = [json.loads(line)["done"] for line in killed.stdout.splitlines()]
    assert 0 < printed[-1] < 100
    assert read_run(log, evaluator=FakeEvaluator()).n_trials == printed[-1]
    space = make_space(sampler={"strategy": strategy, "population": 20})
    same: dict[str, Any] = {"space": space, "strategy": None, "trials": 100, "seed": 3}
    resumed = run(log, resume=True, **same)
    assert answer_of(resumed) == answer_of(run(tmp_path / "b.sqlite", **same))


def test_optuna_is_quiet_and_left_as_it_was(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for strategy in STRATEGIES:
            run(tmp_path / f"{strategy}.sqlite", strategy=strategy)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"trials": 0}, "trials is 0"), ({"batch": -1}, "batch is -1"), ({"seed": -1}, "seed is -1")],
)
def test_counts_are_checked(tmp_path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run(tmp_path / "a.sqlite", **options)


def test_an_objective_that_nobody_knows_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="query_joule"):
        run(tmp_path / "a.sqlite", space=make_space(objectives=["query_joule"]))


def test_a_slow_evaluator_is_asked_in_slices() -> None:
    pacer = Pacer()
    assert pacer.size() == 8
    pacer.measured(designs=8, seconds=4.0)
    assert pacer.size() == 2
    pacer.measured(designs=2, seconds=30.0)
    assert pacer.size() == 1
    pacer.measured(designs=1, seconds=0.001)
    assert pacer.size() == 512
