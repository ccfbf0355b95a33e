"""`pentarch runs` on logs that a search on a made-up evaluator wrote."""

import csv
import json
import shutil
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from pentarch.cli.main import main
from pentarch.search import api

from ..search.fakes import SPACE, FakeEvaluator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of two runs of the space `box`, of 40 and 20 trials."""
    folder = tmp_path_factory.mktemp("logs")
    space = folder / "box.yaml"
    space.write_text(yaml.safe_dump({**SPACE, "name": "box"}))
    path = folder / "box.sqlite"
    for trials, seed in ((40, 1), (20, 2)):
        api.search(space, trials=trials, seed=seed, log=path, evaluator=FakeEvaluator())
    return path


@pytest.fixture
def run(
    log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """Run `pentarch runs` in a folder whose `runs/` holds the log; returns code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(api, "evaluator_of", lambda *_: FakeEvaluator())
    Path("runs").mkdir()
    shutil.copy(log, "runs/box.sqlite")

    def command(*options: str) -> tuple[int, str, str]:
        code = main(["runs", *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return command


def test_runs_are_listed_newest_first_with_what_the_best_meets(run: Run, log: Path) -> None:
    code, out, _ = run("list", "--json")
    assert code == 0
    listed = json.loads(out)
    assert listed["unreadable"] == []
    assert [(one["run"], one["trials"]) for one in listed["runs"]] == [(2, 20), (1, 40)]
    for one in listed["runs"]:
        answer = api.read_run(log, one["run"], evaluator=FakeEvaluator())
        shown = answer.best or answer.nearest
        assert shown is not None
        assert (one["trial"], one["feasible"]) == (shown.trial.number, answer.n_feasible)
        assert one["targets_met"] == shown.trial.targets_met
        assert (one["space"], one["stopped_by"]) == ("box", "trials")


def test_the_list_is_a_table_of_80_columns(run: Run) -> None:
    code, out, _ = run("list")
    assert code == 0
    assert "box.sqlite, run 2" in out
    assert max(map(len, out.splitlines())) <= 80


def test_no_folder_yet_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["runs", "list"]) == 0
    assert "pentarch search" in capsys.readouterr().out
    assert main(["runs", "list", "elsewhere"]) == 2


def test_what_is_no_log_is_named_and_left_as_it_is(run: Run) -> None:
    Path("runs/empty.sqlite").touch()
    Path("runs/noise.sqlite").write_bytes(bytes(range(256)) * 9)
    with sqlite3.connect("runs/other.db") as connection:
        connection.execute("create table pets (name text)")
    connection.close()
    before = Path("runs/other.db").read_bytes()

    code, out, _ = run("list", "--json")

    assert code == 0
    assert len(json.loads(out)["runs"]) == 2
    problems = {Path(one["log"]).name: one["problem"] for one in json.loads(out)["unreadable"]}
    assert problems.keys() == {"empty.sqlite", "noise.sqlite", "other.db"}
    assert "pets" in problems["other.db"]
    for verb in (("show", "runs/other.db"), ("export", "runs/other.db", "--out", "a.csv")):
        code, _, err = run(*verb)
        assert (code, "no run log" in err) == (2, True)
    assert Path("runs/other.db").read_bytes() == before
    assert not Path("runs/other.db-wal").exists()


def test_show_is_the_answer_of_the_search(run: Run) -> None:
    code, out, _ = run("show", "runs/box.sqlite", "--run", "1", "--json")
    assert code == 0
    shown = json.loads(out)
    assert (shown["space"], shown["run"], shown["n_trials"]) == ("box", 1, 40)
    assert "trials" not in shown
    code, out, _ = run("show", "runs/box.sqlite")
    assert (code, "box: 20 designs" in out) == (0, True)


def test_export_has_every_trial_with_all_that_was_found(run: Run) -> None:
    assert run("export", "runs/box.sqlite", "--run", "1", "--out", "all.json")[0] == 0
    rows = json.loads(Path("all.json").read_text(encoding="utf-8"))
    trials = api.read_run("runs/box.sqlite", 1).trials
    assert len(rows) == len(trials) == 40
    assert len({tuple(row) for row in rows}) == 1
    for row, trial in zip(rows, trials, strict=True):
        groups = {
            "parameter": trial.parameters, "figure": trial.figures, "verdict": trial.verdicts,
            "margin": trial.margins,
        }  # fmt: skip
        expected = {
            f"{group}.{name}": value for group, values in groups.items()
            for name, value in values.items()
        }  # fmt: skip
        assert {key: row[key] for key in expected} == expected
        assert (row["trial"], row["meets_all"]) == (trial.number, trial.meets_all)


def test_csv_holds_the_same_as_json(run: Run) -> None:
    assert run("export", "runs/box.sqlite", "--out", "all.json")[0] == 0
    code, out, _ = run("export", "runs/box.sqlite", "--out", "all.csv")
    assert (code, "20 trials" in out) == (0, True)
    rows = json.loads(Path("all.json").read_text(encoding="utf-8"))
    with Path("all.csv").open(encoding="utf-8", newline="") as stream:
        read = list(csv.DictReader(stream))
    truth = {True: "true", False: "false", None: ""}
    for text, row in zip(read, rows, strict=True):
        for key, value in row.items():
            if value is None or isinstance(value, bool):
                assert text[key] == truth[value]
            elif isinstance(value, str):
                assert text[key] == value
            else:
                assert float(text[key]) == value


def test_parquet_without_its_library_is_a_clear_error(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    code, _, err = run("export", "runs/box.sqlite", "--out", "all.parquet")
    assert (code, "pyarrow" in err, ".csv" in err) == (2, True, True)
    assert not Path("all.parquet").exists()


def test_an_existing_export_is_kept_unless_force_is_given(run: Run) -> None:
    Path("all.csv").write_text("mine")
    assert run("export", "runs/box.sqlite", "--out", "all.csv")[0] == 2
    assert Path("all.csv").read_text() == "mine"
    assert run("export", "runs/box.sqlite", "--out", "all.csv", "--force")[0] == 0
    assert Path("all.csv").read_text().startswith("space,run,trial")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("show",), "needs the log"),
        (("export", "runs/box.sqlite"), "--out trials.csv"),
        (("export", "runs/box.sqlite", "--out", "a.xls"), ".parquet"),
        (("show", "runs/box.sqlite", "--run", "7"), "It has: 1, 2"),
        (("show", "nowhere.sqlite"), "no run log at nowhere.sqlite"),
        (("list", "--out", "a.csv"), "belongs to"),
        (("dance",), "dance"),
    ],
)
def test_wrong_usage_says_what_is_right(arguments: tuple[str, ...], said: str, run: Run) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_every_command_has_json(run: Run) -> None:
    _, out, _ = run("export", "runs/box.sqlite", "--out", "all.csv", "--json")
    assert json.loads(out)["trials"] == 20
