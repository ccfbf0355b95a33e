"""Run logs seen from outside: which there are, and their trials as flat rows."""

import csv
import io
import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

from pydantic import NonNegativeInt

from pentarch.contracts.figures import without_password
from pentarch.errors import InputError, RunLogError
from pentarch.model import Model
from pentarch.results import Trial
from pentarch.search.answer import best_trial, nearest_trial
from pentarch.search.objectives import Objective
from pentarch.search.runlog import DEFAULT_FOLDER, RunLog

_SUFFIXES = (".sqlite", ".db", ".sqlite3")
_FIXED = (
    "space", "run", "trial", "feasible", "meets_all", "targets_met", "least_margin", "binding",
    "reason",
)  # fmt: skip
"""Columns that every export has; parameters, figures, verdicts and margins follow."""


class RunSummary(Model):
    """One run of a log, in a line."""

    log: str
    """Path or URL of the log."""
    run: int
    """Number of the run inside it."""
    space: str
    """Name of the space."""
    created_utc: str
    """When it began."""
    strategy: str
    """How designs were proposed."""
    seed: int
    """Seed."""
    trials: NonNegativeInt
    """Trials finished."""
    feasible: NonNegativeInt
    """Trials that meet all five targets."""
    trial: int | None
    """The best design, else the nearest; `None` when nothing can run."""
    targets_met: int | None
    """How many of the five targets that design meets."""
    least_margin: float | None
    """Its least margin; `None` when unknown."""
    stopped_by: str | None
    """How the run ended; `None` while it runs or when it was killed."""
    seconds: float | None
    """Wall time; `None` while it runs or when it was killed."""


class Unreadable(Model):
    """A file that looks like a run log and is none, or cannot be read."""

    log: str
    """Path of the file."""
    problem: str
    """What is wrong with it."""


def summaries(
    folder: str | Path = DEFAULT_FOLDER,
) -> tuple[tuple[RunSummary, ...], tuple[Unreadable, ...]]:
    """Return the runs of all logs in a folder, the newest first, and what cannot be read.

    Args:
        folder: Folder of logs, or one log.

    Raises:
        RunLogError: There is no such folder or file.
    """
    place = Path(folder)
    if not place.exists():
        raise RunLogError(
            f"There is no folder {place}. Run a search, or name the folder its logs are in."
        )
    files = [place]
    if place.is_dir():
        files = sorted(file for file in place.iterdir() if file.suffix in _SUFFIXES)
    found: list[RunSummary] = []
    broken: list[Unreadable] = []
    for file in files:
        try:
            found += summaries_of(file)
        except RunLogError as error:
            broken.append(Unreadable(log=str(file), problem=str(error)))
    found.sort(key=lambda one: (one.created_utc, one.log, one.run), reverse=True)
    return tuple(found), tuple(broken)


def summaries_of(log: str | Path) -> list[RunSummary]:
    """Return the runs of one log in order.

    Raises:
        RunLogError: It is no run log, or cannot be read.
    """
    check_is_log(log)
    with RunLog(log) as store:
        result = []
        for run, header in store.runs().items():
            trials = [record.trial() for record in store.records(run)]
            objectives = tuple(Objective.model_validate(entry) for entry in header.objectives)
            shown = best_trial(trials, objectives) or nearest_trial(trials)
            result.append(
                RunSummary(
                    log=without_password(store.target), run=run, space=header.space_name,
                    created_utc=header.created_utc, strategy=header.strategy, seed=header.seed,
                    trials=len(trials), feasible=sum(trial.meets_all for trial in trials),
                    trial=None if shown is None else shown.number,
                    targets_met=None if shown is None else shown.targets_met,
                    least_margin=None if shown is None else shown.least_margin,
                    stopped_by=header.stopped_by, seconds=header.seconds,
                )
            )  # fmt: skip
    return result


def rows(log: str | Path, run: int | None = None) -> list[dict[str, Any]]:
    """Return every trial of a run as one flat row.

    All rows have the same keys: what a trial lacks is `None`. Parameters, figures, verdicts and
    margins have their names after `parameter.`, `figure.`, `verdict.` and `margin.`.

    Args:
        log: Path or URL of the log.
        run: Number of the run; by default the newest.

    Raises:
        RunLogError: The log cannot be read, or has no such run.
    """
    check_is_log(log)
    with RunLog(log) as store:
        number = store.latest_run() if run is None else run
        header = store.header(number)
        trials = [record.trial() for record in store.records(number)]
    flat = [_flat(trial, space=header.space_name, run=number) for trial in trials]
    keys = list(dict.fromkeys([*_FIXED, *(key for row in flat for key in row)]))
    order = {"parameter": 1, "figure": 2, "verdict": 3, "margin": 4}
    keys.sort(key=lambda key: order.get(key.split(".", 1)[0], 0))
    return [{key: row.get(key) for key in keys} for row in flat]


def _flat(trial: Trial, *, space: str, run: int) -> dict[str, Any]:
    groups: Mapping[str, Mapping[str, Any]] = {
        "parameter": trial.parameters,
        "figure": trial.figures,
        "verdict": {name: kind.value for name, kind in trial.verdicts.items()},
        "margin": trial.margins,
    }
    return {
        "space": space, "run": run, "trial": trial.number, "feasible": trial.feasible,
        "meets_all": trial.meets_all, "targets_met": trial.targets_met,
        "least_margin": trial.least_margin, "binding": trial.binding, "reason": trial.reason,
        **{f"{group}.{name}": value for group, values in groups.items()
           for name, value in values.items()},
    }  # fmt: skip


def to_csv(table: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV text with a header; unknown is an empty field, truth is true or false."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table[0] if table else _FIXED)
    writer.writerows([_cell(value) for value in row.values()] for row in table)
    return stream.getvalue()


def to_json(table: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as a JSON list of objects."""
    return json.dumps(list(table), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def to_parquet(table: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows as a Parquet file.

    Raises:
        InputError: pandas and pyarrow are not installed, or a column mixes text and numbers.
    """
    try:
        pandas, pyarrow = import_module("pandas"), import_module("pyarrow")
    except ImportError as error:
        raise InputError(
            f"Parquet needs pandas and pyarrow, and {error.name} is not installed. Install both "
            "(`pip install pandas pyarrow`), or name a file that ends in .csv or .json."
        ) from error
    stream = io.BytesIO()
    try:
        pandas.DataFrame(list(table)).to_parquet(stream, index=False)
    except (pyarrow.ArrowException, ValueError) as error:
        raise InputError(
            f"The trials do not fit into Parquet columns: {error}. Name a file that ends in .csv "
            "or .json."
        ) from error
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else value


def check_is_log(log: str | Path) -> None:
    """Raise unless `log` is a run log, without writing to what may be someone else's database.

    Args:
        log: Path of a file; a database URL passes, as its server is asked when it is opened.

    Raises:
        RunLogError: There is no such file, it is damaged, or it is another database.
    """
    if "://" in str(log):
        return
    path = Path(log)
    if not path.is_file():
        raise RunLogError(f"There is no run log at {path}. Check the path, or list `./runs`.")
    if path.stat().st_size == 0:
        raise RunLogError(f"{path} is empty: no run was ever logged there.")
    address = f"{path.resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as connection:
            names = {row[0] for row in connection.execute("select name from sqlite_master")}
    except sqlite3.Error as error:
        raise RunLogError(f"{path} is no run log or is damaged: {error}.") from error
    if "pentarch_schema" not in names:
        shown = ", ".join(sorted(names)[:5]) or "none"
        raise RunLogError(f"{path} is a database, but no run log: its tables are {shown}.")
