"""The run log: every finished trial, in SQLite or PostgreSQL, committed batch by batch.

The log is the source of truth. The study lives in memory and can be rebuilt from it; a process
that is killed loses at most what it has not printed.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import sqlalchemy as sa
from sqlalchemy.exc import (
    DBAPIError,
    IntegrityError,
    NoSuchModuleError,
    OperationalError,
    SQLAlchemyError,
)

from pentarch.contracts.figures import without_password
from pentarch.errors import RunLogError
from pentarch.results import Evaluation
from pentarch.search.records import Outcome, Proposal, Record

SCHEMA_VERSION = 1
DEFAULT_FOLDER = Path("runs")
BUSY_SECONDS = 5.0
"""How long a commit waits for another process that holds the log."""

_METADATA = sa.MetaData()
_SCHEMA = sa.Table(
    "pentarch_schema", _METADATA,
    sa.Column("version", sa.Integer, primary_key=True),
)  # fmt: skip
_RUNS = sa.Table(
    "runs", _METADATA,
    sa.Column("run", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("space_name", sa.Text, nullable=False),
    sa.Column("space", sa.JSON, nullable=False),
    sa.Column("objectives", sa.JSON, nullable=False),
    sa.Column("strategy", sa.Text, nullable=False),
    sa.Column("population", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("batch", sa.Integer, nullable=False),
    sa.Column("versions", sa.JSON, nullable=False),
    sa.Column("created_utc", sa.Text, nullable=False),
    sa.Column("sampler_state", sa.JSON, nullable=False),
    sa.Column("stopped_by", sa.Text),
    sa.Column("seconds", sa.Float),
)  # fmt: skip
_TRIALS = sa.Table(
    "trials", _METADATA,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.run"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("dormant", sa.JSON, nullable=False),
    sa.Column("objective_values", sa.JSON, nullable=False),
    sa.Column("constraints", sa.JSON, nullable=False),
    sa.Column("figures", sa.JSON, nullable=False),
    sa.Column("verdicts", sa.JSON, nullable=False),
    sa.Column("margins", sa.JSON, nullable=False),
    sa.Column("system_attrs", sa.JSON, nullable=False),
)  # fmt: skip
_DESIGNS = sa.Table(
    "designs", _METADATA,
    sa.Column("run", sa.Integer, sa.ForeignKey("runs.run"), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("evaluation", sa.JSON, nullable=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunHeader:
    """What determines a run, and how far it came."""

    space_name: str
    """Name of the space."""
    space: Mapping[str, Any]
    """The space as JSON data, distributions included."""
    objectives: Sequence[Mapping[str, str]]
    """Figures and directions."""
    strategy: str
    """Sampling strategy."""
    population: int
    """Designs per generation."""
    seed: int
    """Seed of the run."""
    batch: int
    """Designs asked at once."""
    versions: Sequence[Mapping[str, str]]
    """Versions of pentarch and its libraries, one entry per start of the run."""
    created_utc: str = field(default_factory=lambda: utc_now().isoformat(timespec="seconds"))
    """When the run began."""
    sampler_state: Mapping[str, Any] = field(default_factory=dict)
    """What the sampler remembers beside the trials, as of the latest commit."""
    stopped_by: str | None = None
    """How the run ended; `None` while it runs or when it was killed."""
    seconds: float | None = None
    """Wall time so far, summed over starts."""


def utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class RunLog:
    """An open run log.

    Args:
        target: Path of an SQLite file, or a database URL.
        create: Whether a missing file is created.

    Raises:
        RunLogError: The log is missing, unreadable, foreign or of a newer pentarch.
    """

    def __init__(self, target: str | Path, *, create: bool = False) -> None:
        self.target = str(target)
        self._shown = without_password(self.target)
        plain = self.target.removeprefix("sqlite:///")
        self._path = None if "://" in plain else Path(plain)
        if self._path is not None:
            if create:
                _make_folder(self._path.parent)
            elif not self._path.is_file():
                raise RunLogError(
                    f"There is no run log at {self._path}. Check the path, or list `./runs`."
                )
        self._engine = self._connectable()
        try:
            with self._guarded():
                self._check_schema(create)
        except RunLogError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection to the log."""
        self._engine.dispose()

    def start(self, header: RunHeader) -> int:
        """Add a run and return its number."""
        with self._guarded(), self._engine.begin() as connection:
            insertion = sa.insert(_RUNS).values(**_row_of(header)).returning(_RUNS.c.run)
            return int(connection.execute(insertion).scalar_one())

    def restart(self, run: int, versions: Mapping[str, str]) -> None:
        """Note that a run is resumed, and with which versions."""
        header = self.header(run)
        with self._guarded(), self._engine.begin() as connection:
            connection.execute(
                sa.update(_RUNS)
                .where(_RUNS.c.run == run)
                .values(versions=[*header.versions, dict(versions)], stopped_by=None)
            )

    def append(self, run: int, records: Sequence[Record], sampler_state: Mapping[str, Any]) -> None:
        """Commit finished trials and the sampler's state in one transaction."""
        rows = [_row(run, record) for record in records]
        with self._guarded(), self._engine.begin() as connection:
            if rows:
                connection.execute(sa.insert(_TRIALS), rows)
            connection.execute(
                sa.update(_RUNS).where(_RUNS.c.run == run).values(sampler_state=dict(sampler_state))
            )

    def finish(
        self, run: int, *, stopped_by: str, seconds: float, evaluations: Mapping[int, Evaluation]
    ) -> None:
        """Note how a run ended and keep the full evaluations of the designs that it shows.

        Args:
            run: Number of the run.
            stopped_by: As in `StudyResult`.
            seconds: Wall time of the run, all starts together.
            evaluations: By trial number.
        """
        rows = [
            {"run": run, "number": number, "evaluation": evaluation.model_dump(mode="json")}
            for number, evaluation in evaluations.items()
        ]
        with self._guarded(), self._engine.begin() as connection:
            connection.execute(
                sa.update(_RUNS)
                .where(_RUNS.c.run == run)
                .values(stopped_by=stopped_by, seconds=seconds)
            )
            connection.execute(sa.delete(_DESIGNS).where(_DESIGNS.c.run == run))
            if rows:
                connection.execute(sa.insert(_DESIGNS), rows)

    def runs(self) -> dict[int, RunHeader]:
        """Return the runs of the log by number, in order."""
        names = [column.name for column in _RUNS.columns if column.name != "run"]
        with self._guarded(), self._engine.connect() as connection:
            rows = connection.execute(sa.select(_RUNS).order_by(_RUNS.c.run)).mappings().all()
        return {int(row["run"]): RunHeader(**{name: row[name] for name in names}) for row in rows}

    def header(self, run: int) -> RunHeader:
        """Return one run.

        Raises:
            RunLogError: The log has no such run.
        """
        runs = self.runs()
        if run not in runs:
            known = ", ".join(map(str, runs)) or "none"
            raise RunLogError(f"{self._shown} has no run {run}. It has: {known}.")
        return runs[run]

    def latest_run(self, space_name: str | None = None) -> int:
        """Return the number of the newest run, of one space if a name is given.

        Raises:
            RunLogError: There is none.
        """
        runs = self.runs()
        numbers = [n for n, header in runs.items() if space_name in (None, header.space_name)]
        if not numbers:
            held = ", ".join(sorted({header.space_name for header in runs.values()})) or "no run"
            wanted = "a run" if space_name is None else f"a run of the space {space_name!r}"
            raise RunLogError(f"{self._shown} does not hold {wanted}; it holds {held}.")
        return numbers[-1]

    def trial_counts(self) -> dict[int, int]:
        """Return the number of finished trials by run."""
        query = sa.select(_TRIALS.c.run, sa.func.count()).group_by(_TRIALS.c.run)
        with self._guarded(), self._engine.connect() as connection:
            return {int(run): int(count) for run, count in connection.execute(query)}

    def records(self, run: int) -> list[Record]:
        """Return the finished trials of a run by number.

        Raises:
            RunLogError: A trial is missing in between: the log was changed by other means.
        """
        query = sa.select(_TRIALS).where(_TRIALS.c.run == run).order_by(_TRIALS.c.number)
        with self._guarded(), self._engine.connect() as connection:
            records = [_record(dict(row)) for row in connection.execute(query).mappings()]
        for expected, record in enumerate(records):
            if record.proposal.number != expected:
                raise RunLogError(
                    f"{self._shown}: trial {expected} of run {run} is missing. The log was "
                    "changed; restore it from a copy or start a new run without --resume."
                )
        return records

    def evaluations(self, run: int) -> dict[int, Evaluation]:
        """Return the full evaluations kept of a run, by trial number."""
        query = sa.select(_DESIGNS.c.number, _DESIGNS.c.evaluation).where(_DESIGNS.c.run == run)
        with self._guarded(), self._engine.connect() as connection:
            rows = connection.execute(query).all()
        return {int(number): Evaluation.model_validate(evaluation) for number, evaluation in rows}

    def _connectable(self) -> sa.Engine:
        url = self.target if self._path is None else f"sqlite:///{self._path}"
        try:
            engine = sa.create_engine(url, json_serializer=_dump)
        except (NoSuchModuleError, ImportError, SQLAlchemyError) as error:
            raise RunLogError(
                f"Cannot open the run log {self._shown}: {error}. Give a file path, or a database "
                "URL such as postgresql+psycopg://user@host/name with its driver installed."
            ) from error
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _configure_sqlite)
        return engine

    def _check_schema(self, create: bool) -> None:
        tables = set(sa.inspect(self._engine).get_table_names())
        if _SCHEMA.name in tables:
            with self._engine.connect() as connection:
                version = connection.execute(sa.select(sa.func.max(_SCHEMA.c.version))).scalar()
            if version is None or version > SCHEMA_VERSION:
                raise RunLogError(
                    f"{self._shown} has the run-log schema {version}; this pentarch knows "
                    f"{SCHEMA_VERSION}. Update pentarch, or give another --log."
                )
            return
        if tables & {table.name for table in _METADATA.sorted_tables} or (
            tables and self._path is not None
        ):
            raise RunLogError(
                f"{self._shown} is a database, but no run log: it holds the tables "
                f"{', '.join(sorted(tables)[:5])}. Give another --log."
            )
        if not create:
            raise RunLogError(
                f"{self._shown} is empty: no run was ever logged there. Give another log."
            )
        with self._engine.begin() as connection:
            _METADATA.create_all(connection)
            connection.execute(sa.insert(_SCHEMA).values(version=SCHEMA_VERSION))

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except IntegrityError as error:
            raise RunLogError(
                f"{self._shown}: the trials to be written are there already. Another process "
                "continues the same run: let one of them end, then resume."
            ) from error
        except OperationalError as error:
            cause = str(error.orig)
            if "locked" in cause or "busy" in cause:
                raise RunLogError(
                    f"{self._shown} is in use by another process (waited {BUSY_SECONDS:g} s). Wait "
                    "for it, or give another --log."
                ) from error
            raise RunLogError(
                f"Cannot read or write the run log {self._shown}: {cause}. Check that "
                "the place exists, is writable and has space left, or give another --log."
            ) from error
        except DBAPIError as error:
            raise RunLogError(
                f"{self._shown} is no run log or is damaged: {error.orig}. Give another --log."
            ) from error


def _configure_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _dump(value: object) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":"))


def _row_of(header: RunHeader) -> dict[str, Any]:
    return {
        "space_name": header.space_name, "space": dict(header.space),
        "objectives": [dict(entry) for entry in header.objectives],
        "strategy": header.strategy, "population": header.population, "seed": header.seed,
        "batch": header.batch, "versions": [dict(entry) for entry in header.versions],
        "created_utc": header.created_utc, "sampler_state": dict(header.sampler_state),
        "stopped_by": header.stopped_by, "seconds": header.seconds,
    }  # fmt: skip


def _row(run: int, record: Record) -> dict[str, Any]:
    proposal, outcome = record.proposal, record.outcome
    return {
        "run": run, "number": proposal.number,
        "state": "complete" if outcome.feasible else "infeasible", "reason": outcome.reason,
        "parameters": proposal.point, "dormant": proposal.dormant,
        "objective_values": list(outcome.values), "constraints": outcome.constraints,
        "figures": outcome.figures, "verdicts": outcome.verdicts, "margins": outcome.margins,
        "system_attrs": record.system_attrs,
    }  # fmt: skip


def _record(row: Mapping[str, Any]) -> Record:
    return Record(
        proposal=Proposal(
            number=int(row["number"]), point=dict(row["parameters"]), dormant=dict(row["dormant"])
        ),
        outcome=Outcome(
            feasible=row["state"] == "complete", reason=row["reason"], figures=row["figures"],
            verdicts=row["verdicts"], margins=row["margins"],
            values=tuple(row["objective_values"]), constraints=row["constraints"],
        ),
        system_attrs=row["system_attrs"],
    )  # fmt: skip


def claim_default_path(
    space_name: str, *, folder: Path = DEFAULT_FOLDER, now: datetime | None = None
) -> Path:
    """Create and return a new empty file for a log; an existing one is never taken.

    Args:
        space_name: Name of the space, the start of the file's name.
        folder: Where logs are kept.
        now: Time in the file's name; by default the current one.
    """
    stamp = (now or utc_now()).strftime("%Y%m%dT%H%M%SZ")
    _make_folder(folder)
    attempt = 1
    while True:
        suffix = "" if attempt == 1 else f"-{attempt}"
        path = folder / f"{space_name}-{stamp}{suffix}.sqlite"
        try:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        except FileExistsError:
            attempt += 1
            continue
        except OSError as error:
            raise RunLogError(
                f"No run log can be written in {folder}/: {error.strerror}. Name another place "
                "with --log."
            ) from error
        return path


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise RunLogError(
            f"The folder {folder} cannot be made: {getattr(error, 'strerror', None) or error}. "
            "Name another place with --log."
        ) from error


def newest_log(space_name: str, *, folder: Path = DEFAULT_FOLDER) -> Path:
    """Return the newest log of a space among those with default names.

    Raises:
        RunLogError: There is none.
    """
    pattern = re.compile(re.escape(space_name) + r"-(\d{8}T\d{6}Z)(?:-(\d+))?\.sqlite")
    found: list[tuple[str, int, Path]] = []
    for path in folder.glob("*.sqlite"):
        match = pattern.fullmatch(path.name)
        if match is not None:
            found.append((match[1], int(match[2] or 1), path))
    if not found:
        raise RunLogError(
            f"There is no run log of the space {space_name!r} in {folder}/. Name one with --log, "
            "or leave out --resume to start a new run."
        )
    return max(found)[2]
