import sqlite3
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from pentarch.errors import RunLogError
from pentarch.search import runlog
from pentarch.search.records import Outcome, Proposal, Record
from pentarch.search.runlog import RunHeader, RunLog, claim_default_path, newest_log

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def header(**changes: Any) -> RunHeader:
    values: dict[str, Any] = {
        "space_name": "box", "space": {"workload": "w"},
        "objectives": [{"figure": "query_j", "direction": "minimize"}], "strategy": "nsga2",
        "population": 50, "seed": 1, "batch": 50, "versions": [{"pentarch": "0"}],
    }  # fmt: skip
    return RunHeader(**{**values, **changes})


def record(number: int, value: float = 0.1) -> Record:
    outcome = Outcome(
        feasible=number % 2 == 0, reason=None if number % 2 == 0 else "too big",
        figures={"query_j": value, "query_s": None}, verdicts={"latency": "unknown"},
        margins={"latency": None}, values=(value,), constraints={"latency": 1e3},
    )  # fmt: skip
    proposal = Proposal(
        number=number, point={"x": 1, "y": "a", "z": 0.1 + 0.2, "b": True}, dormant={"d": 1e-7}
    )
    return Record(proposal=proposal, outcome=outcome, system_attrs={"generation": 3})


def logged(path: Path, count: int = 3) -> int:
    with RunLog(path, create=True) as log:
        run = log.start(header())
        log.append(run, [record(number) for number in range(count)], {"parents": {"1": [0]}})
        return run


def test_what_is_logged_is_read_back_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.sqlite"
    run = logged(path)
    with RunLog(path) as log:
        assert log.records(run) == [record(number) for number in range(3)]
        found = log.header(run)
        assert found.space == {"workload": "w"}
        assert found.sampler_state == {"parents": {"1": [0]}}
        assert found.stopped_by is None
        assert log.trial_counts() == {run: 3}


def test_a_log_holds_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    logged(path)
    with RunLog(path, create=True) as log:
        other = log.start(header(space_name="other"))
        assert list(log.runs()) == [1, 2]
        assert log.latest_run() == other == 2
        assert log.latest_run("box") == 1
        with pytest.raises(RunLogError, match="'third'; it holds box, other"):
            log.latest_run("third")
        with pytest.raises(RunLogError, match=r"no run 7\. It has: 1, 2"):
            log.header(7)


def test_a_default_path_is_never_taken_twice(tmp_path: Path) -> None:
    first, second, third = (claim_default_path("box", folder=tmp_path, now=NOW) for _ in range(3))
    assert first.name == "box-20260102T030405Z.sqlite"
    assert second.name == "box-20260102T030405Z-2.sqlite"
    assert third.name == "box-20260102T030405Z-3.sqlite"
    assert newest_log("box", folder=tmp_path) == third


def test_the_newest_log_is_of_the_space_and_by_time(tmp_path: Path) -> None:
    late = claim_default_path("box", folder=tmp_path, now=NOW.replace(month=11))
    claim_default_path("box", folder=tmp_path, now=NOW)
    claim_default_path("box-large", folder=tmp_path, now=NOW.replace(year=2027))
    assert newest_log("box", folder=tmp_path) == late
    with pytest.raises(RunLogError, match=r"'tower'.*--log"):
        newest_log("tower", folder=tmp_path)
    with pytest.raises(RunLogError):
        newest_log("box", folder=tmp_path / "absent")


def test_a_missing_log_is_not_made_by_reading(tmp_path: Path) -> None:
    with pytest.raises(RunLogError, match="There is no run log at"):
        RunLog(tmp_path / "a.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("these are notes, " * 100)
    before = path.read_bytes()
    with pytest.raises(RunLogError, match=r"no run log or is damaged.*another --log"):
        RunLog(path, create=True)
    assert path.read_bytes() == before


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    with pytest.raises(RunLogError, match="no run log: it holds the tables songs"):
        RunLog(path, create=True)


def test_an_empty_database_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    path.touch()
    with pytest.raises(RunLogError, match="is empty"):
        RunLog(path)
    RunLog(path, create=True).close()
    RunLog(path).close()


def test_a_newer_schema_asks_for_an_update(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    logged(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE pentarch_schema SET version = {runlog.SCHEMA_VERSION + 1}")
    connection.close()
    with pytest.raises(RunLogError, match="Update pentarch"):
        RunLog(path)


def test_a_log_with_a_gap_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    run = logged(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM trials WHERE number = 1")
    connection.close()
    with RunLog(path) as log, pytest.raises(RunLogError, match="trial 1 of run 1 is missing"):
        log.records(run)


def test_a_locked_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlog, "BUSY_SECONDS", 0.01)
    path = tmp_path / "a.sqlite"
    run = logged(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        with RunLog(path) as log, pytest.raises(RunLogError, match="in use by another process"):
            log.append(run, [record(3)], {})
    finally:
        holder.close()


def test_a_second_process_on_the_same_run_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    run = logged(path)
    with RunLog(path) as log:
        with pytest.raises(RunLogError, match="Another process continues"):
            log.append(run, [record(3), record(2, value=7.0)], {})
        assert log.records(run) == [record(number) for number in range(3)]


def test_an_unknown_database_driver_is_explained_without_the_password() -> None:
    with pytest.raises(RunLogError, match="driver installed") as caught:
        RunLog("nosuchdb://ann:secret@host/runs")
    assert "secret" not in str(caught.value)


def test_not_a_number_is_never_written(tmp_path: Path) -> None:
    with RunLog(tmp_path / "a.sqlite", create=True) as log:
        run = log.start(header())
        with pytest.raises(Exception, match="Out of range float"):
            log.append(run, [record(0, value=float("nan"))], {})
        assert log.records(run) == []


def test_finishing_keeps_how_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "a.sqlite"
    run = logged(path)
    evaluations: Mapping[int, Any] = {}
    with RunLog(path) as log:
        log.finish(run, stopped_by="trials", seconds=1.5, evaluations=evaluations)
        log.restart(run, {"pentarch": "1"})
        assert log.header(run).versions == [{"pentarch": "0"}, {"pentarch": "1"}]
        assert log.header(run).seconds == 1.5


def test_a_file_can_be_named_by_url(tmp_path: Path) -> None:
    logged(tmp_path / "a.sqlite")
    with RunLog(f"sqlite:///{tmp_path / 'a.sqlite'}") as log:
        assert log.trial_counts() == {1: 3}
    with pytest.raises(RunLogError, match="There is no run log at"):
        RunLog(f"sqlite:///{tmp_path / 'b.sqlite'}")


def test_the_tables_can_be_made_in_postgresql() -> None:
    statements = [
        str(CreateTable(table).compile(dialect=postgresql.dialect()))
        for table in runlog._METADATA.sorted_tables
    ]
    assert any("BIGINT" in statement for statement in statements)
    assert sum("JSON" in statement for statement in statements) == 3
