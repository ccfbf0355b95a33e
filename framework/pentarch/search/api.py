"""`pentarch.search`: from a space to the answer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from pentarch._version import VERSION
from pentarch.catalog import Library, default_library, is_path
from pentarch.errors import InputError, PentarchError, RunLogError
from pentarch.evaluate.points import PointEvaluator
from pentarch.results import Design, Evaluation, StudyResult, Trial
from pentarch.search.answer import best_trial, front, nearest_trial
from pentarch.search.objectives import Objective, resolve
from pentarch.search.progress import ShowProgress
from pentarch.search.runlog import RunHeader, RunLog, claim_default_path, newest_log
from pentarch.search.space import Space, Strategy, read_space, space_from, space_of
from pentarch.search.study import Study, StudySetup

DEFAULT_TRIALS = 500
"""Trials when the user names no number; `exhaustive` then tries the whole space."""
_BATCH: Mapping[str, int] = {"tpe": 10, "random": 50, "exhaustive": 500}
"""Designs asked at once; `nsga2` asks one population."""
_SHOWN_DIFFERENCES = 6


def search(
    space: str | Path | Mapping[str, Any] | Space,
    *,
    trials: int | None = None,
    seed: int | None = None,
    strategy: Strategy | None = None,
    log: str | Path | None = None,
    resume: bool = False,
    batch: int | None = None,
    library: Library | None = None,
    progress: ShowProgress | None = None,
    evaluator: PointEvaluator | None = None,
) -> StudyResult:
    """Search a space for designs that meet all five targets.

    `seed`, `batch` and the space determine the result. A run that is resumed goes on as if it had
    not been stopped, as long as the versions of pentarch and its libraries are the same.

    Args:
        space: Name in the catalog, path of a YAML file, its parsed content, or a space.
        trials: Trials in total; by default 500, or the whole space when exhaustive.
        seed: Seed of the random numbers; by default 0, or the log's when resuming.
        strategy: How designs are proposed; by default as the space says.
        log: Path or database URL of the run log; by default a new file in `./runs`, or when
            resuming the newest one of the space there.
        resume: Whether to continue the newest run of the space in the log.
        batch: Designs asked at once; by default a population, or the log's when resuming.
        library: Where names are looked up; by default all installed plug-ins.
        progress: Called after every commit.
        evaluator: Evaluates designs; by default made from the space.

    Returns:
        Best and nearest design in full, the exact front, and every trial. After Ctrl-C, the
        answer over the trials finished until then.

    Raises:
        InputError: The space or an option is wrong.
        RunLogError: The log cannot be used, or does not belong to this search.

    Examples:
        >>> import pentarch as pa
        >>> study = pa.search("edge-soc", trials=500, seed=1)  # doctest: +SKIP
        >>> print(study.best or study.nearest)  # doctest: +SKIP
    """
    wishes = _Wishes(trials=trials, seed=seed, batch=batch)
    wishes.check()
    resolved = resolve_space(space, library)
    if strategy is not None:
        resolved = resolved.replace(sampler=resolved.sampler.replace(strategy=strategy))
    if evaluator is None:
        library = library or default_library()
        evaluator = evaluator_of(resolved, library)
    objectives = resolve(resolved.objectives, library.registry.metrics if library else {})
    evaluator.check(resolved.extremes())
    return _in_log(
        wishes, resolved, objectives, evaluator=evaluator, log=log, resume=resume, show=progress
    )


def _in_log(
    wishes: "_Wishes", resolved: Space, objectives: tuple[Objective, ...], *,
    evaluator: PointEvaluator, log: str | Path | None, resume: bool, show: ShowProgress | None,
) -> StudyResult:  # fmt: skip
    """Open the log, start or continue the run in it, and search."""
    with opened(resolved, log=log, resume=resume) as (store, run, header):
        setup = wishes.setup(resolved, objectives, evaluator=evaluator, header=header)
        new = _header(setup)
        if header is None:
            run = store.start(new)
        else:
            _check_same(header, new, target=store.target)
            store.restart(run, new.versions[0])
        return _run(setup, store=store, run=run, header=header or new, show=show)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """Counts that the user named, or `None`."""

    trials: int | None
    seed: int | None
    batch: int | None

    def check(self) -> None:
        """Raise when a count is too small."""
        least = {"trials": 1, "seed": 0, "batch": 1}
        for name, low in least.items():
            value: int | None = getattr(self, name)
            if value is not None and value < low:
                raise InputError(f"{name} is {value}. Expected {low} or more.")

    def setup(
        self,
        space: Space,
        objectives: tuple[Objective, ...],
        *,
        evaluator: PointEvaluator,
        header: RunHeader | None,
    ) -> StudySetup:
        """Return what determines the run; what is not named comes from the log or the defaults."""
        settings = space.sampler
        seed = 0 if header is None else header.seed
        batch = _BATCH.get(settings.strategy, settings.population)
        if header is not None:
            batch = header.batch
        trials = DEFAULT_TRIALS
        if settings.strategy == "exhaustive":
            trials = space.size or DEFAULT_TRIALS  # the enumeration refuses a continuous space
        return StudySetup(
            space=space, objectives=objectives, settings=settings, evaluator=evaluator,
            seed=seed if self.seed is None else self.seed,
            batch=self.batch or batch, trials=self.trials or trials,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Finished:
    """A run whose trials are all there."""

    store: RunLog
    run: int
    objectives: tuple[Objective, ...]
    trials: Sequence[Trial]


def _run(
    setup: StudySetup, *, store: RunLog, run: int, header: RunHeader, show: ShowProgress | None
) -> StudyResult:
    with _quiet(setup):
        study = Study(setup, log=store, run=run, show=show)
        stopped_by = _run_study(study, store=store, run=run, header=header)
    seconds = (header.seconds or 0.0) + study.seconds
    finished = _Finished(store, run, setup.objectives, study.trials)
    kept = store.evaluations(run)
    evaluations = {
        trial.number: kept.get(trial.number) or setup.evaluator.evaluation(trial.parameters)
        for trial in _shown(finished)
    }
    store.finish(run, stopped_by=stopped_by, seconds=seconds, evaluations=evaluations)
    return _result(finished, store.header(run), evaluations)


def _run_study(study: Study, *, store: RunLog, run: int, header: RunHeader) -> str:
    """Run the study and return why it stopped; an error says where the finished trials are."""
    try:
        return study.run(store.records(run), header.sampler_state)
    except PentarchError as error:
        error.add_note(
            f"The {len(study.trials)} trials finished before are kept: `pentarch runs show {store.target}`."
        )
        raise


@contextmanager
def _quiet(setup: StudySetup) -> Iterator[None]:
    if setup.settings.strategy == "exhaustive":
        yield
        return
    from pentarch.search.sampling import quiet_optuna

    with quiet_optuna():
        yield


def read_run(
    log: str | Path,
    run: int | None = None,
    *,
    evaluator: PointEvaluator | None = None,
    library: Library | None = None,
) -> StudyResult:
    """Return the result of a logged run, finished or not.

    Args:
        log: Path or database URL of the run log.
        run: Number of the run; by default the newest.
        evaluator: Evaluates the shown designs of a run that was killed before it could keep
            them; by default made from the logged space.
        library: Where names are looked up for that.

    Raises:
        RunLogError: The log cannot be read, or has no such run.
    """
    with RunLog(log) as store:
        number = store.latest_run() if run is None else run
        header = store.header(number)
        objectives = tuple(Objective.model_validate(entry) for entry in header.objectives)
        trials = [record.trial() for record in store.records(number)]
        finished = _Finished(store, number, objectives, trials)
        evaluations = store.evaluations(number)
        missing = [trial for trial in _shown(finished) if trial.number not in evaluations]
        if missing and evaluator is None:
            space = space_from(header.space, where=f"{log}, run {number}")
            evaluator = evaluator_of(space, library or default_library())
        for trial in missing:
            if evaluator is not None:
                evaluations[trial.number] = evaluator.evaluation(trial.parameters)
        return _result(finished, header, evaluations)


def resolve_space(space: str | Path | Mapping[str, Any] | Space, library: Library | None) -> Space:
    """Return the space that `space` names or is.

    Args:
        space: Name in the catalog, path, parsed YAML or a space.
        library: Where names are looked up; by default all installed plug-ins.

    Raises:
        UnknownNameError: The catalog has no such space.
        InputError: The file cannot be read, or is no valid space.
    """
    if isinstance(space, Space):
        return space
    if isinstance(space, Mapping):
        return space_from(space, where="space")
    if isinstance(space, Path) or is_path(space):
        return read_space(space)
    document, name = (library or default_library()).space(space)
    return space_of(document, name=name)


def evaluator_of(space: Space, library: Library) -> PointEvaluator:
    """Return the evaluator of the scenario that a space states."""
    from pentarch.evaluate.scenario import build_evaluator

    return build_evaluator(
        workload=space.workload, system=space.system, query=space.query,
        precisions=space.precisions, runtime=space.runtime, partitioner=space.partitioner,
        degree=space.degree, targets=space.targets, economics=space.economics, library=library,
    )  # fmt: skip


@contextmanager
def opened(
    space: Space, *, log: str | Path | None, resume: bool
) -> Iterator[tuple[RunLog, int, RunHeader | None]]:
    """Open the log of a search.

    Yields:
        The log, and with `resume` number and header of the newest run of the space; else 0 and
        `None`.

    Raises:
        RunLogError: The log cannot be used, or there is nothing to resume.
    """
    name = space.name or "space"
    if resume:
        target = newest_log(name) if log is None else log
    else:
        target = claim_default_path(name) if log is None else log
    with RunLog(target, create=not resume) as store:
        if not resume:
            yield store, 0, None
            return
        run = store.latest_run(name)
        yield store, run, store.header(run)


def _header(setup: StudySetup) -> RunHeader:
    return RunHeader(
        space_name=setup.space.name or "space",
        space=setup.space.record(),
        objectives=[
            {"figure": objective.figure, "direction": objective.direction or "minimize"}
            for objective in setup.objectives
        ],
        strategy=setup.settings.strategy,
        population=setup.settings.population,
        seed=setup.seed,
        batch=setup.batch,
        versions=[_versions()],
    )


def _versions() -> dict[str, str]:
    libraries = {name: metadata.version(name) for name in ("optuna", "numpy", "sqlalchemy")}
    return {"pentarch": VERSION, **libraries}


def _check_same(old: RunHeader, new: RunHeader, *, target: str) -> None:
    """Raise when a run is to be resumed with another space or other settings."""
    before, now = dict(_flat("", old.space)), dict(_flat("", new.space))
    before |= {"seed": old.seed, "batch": old.batch, "sampler.strategy": old.strategy}
    now |= {"seed": new.seed, "batch": new.batch, "sampler.strategy": new.strategy}
    different = [
        f"{path}: {before.get(path, 'absent')} in the log, {now.get(path, 'absent')} now"
        for path in sorted(before.keys() | now.keys())
        if path not in ("about", "name") and before.get(path) != now.get(path)
    ]
    if different:
        shown = "\n  ".join(different[:_SHOWN_DIFFERENCES])
        more = len(different) - _SHOWN_DIFFERENCES
        rest = f"\n  and {more} more" if more > 0 else ""
        raise RunLogError(
            f"{target} belongs to another search:\n  {shown}{rest}\n"
            "Undo the difference, or leave out --resume to start a new run."
        )


def _flat(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, entry in value.items():
            yield from _flat(f"{path}.{key}" if path else str(key), entry)
    else:
        yield path, list(value) if isinstance(value, tuple) else value


def _shown(finished: _Finished) -> list[Trial]:
    chosen = (best_trial(finished.trials, finished.objectives), nearest_trial(finished.trials))
    return [trial for trial in chosen if trial is not None]


def _result(
    finished: _Finished, header: RunHeader, evaluations: Mapping[int, Evaluation]
) -> StudyResult:
    def design(trial: Trial | None) -> Design | None:
        return None if trial is None else Design(trial=trial, evaluation=evaluations[trial.number])

    trials, objectives = finished.trials, finished.objectives
    return StudyResult(
        space=header.space_name,
        about=str(header.space.get("about", "")),
        log=finished.store.target,
        run=finished.run,
        objectives=tuple(objective.figure for objective in objectives),
        directions=tuple(objective.direction or "minimize" for objective in objectives),
        n_trials=len(trials),
        n_feasible=sum(trial.meets_all for trial in trials),
        best=design(best_trial(trials, objectives)),
        nearest=design(nearest_trial(trials)),
        front=front(trials, objectives),
        trials=tuple(trials),
        stopped_by=header.stopped_by or "interrupt",
        seconds=header.seconds,
        settings={
            "strategy": header.strategy, "population": header.population, "seed": header.seed,
            "batch": header.batch, "versions": [dict(entry) for entry in header.versions],
            "created_utc": header.created_utc, "targets": dict(header.space.get("targets", {})),
        },
    )  # fmt: skip
