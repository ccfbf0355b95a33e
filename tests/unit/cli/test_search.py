"""`pentarch search` on a made-up evaluator; no plug-in is loaded."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pentarch.cli import main as command_line
from pentarch.cli.search import ProgressLines
from pentarch.results import Evaluation
from pentarch.search import api
from pentarch.search.progress import Progress

from ..search.fakes import SPACE, FakeEvaluator

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `pentarch search box.yaml` in an empty folder; returns exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENTARCH_DISABLE", "all")
    Path("box.yaml").write_text(yaml.safe_dump({**SPACE, "name": "box"}))

    def command(*options: str, evaluator: FakeEvaluator | None = None) -> tuple[int, str, str]:
        chosen = evaluator or FakeEvaluator()
        monkeypatch.setattr(api, "evaluator_of", lambda *_: chosen)
        code = command_line.main(["search", "box.yaml", *options])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return command


def test_json_is_one_document_with_the_promised_keys(run: Run) -> None:
    code, out, err = run("--trials", "40", "--seed", "1", "--json", "--no-report")
    document = json.loads(out)
    assert code == 0
    promised = ("space", "log", "n_trials", "n_feasible", "best", "nearest", "front", "stopped_by")
    assert document.keys() >= set(promised)
    assert "trials" not in document
    assert (document["space"], document["n_trials"]) == ("box", 40)
    assert Path(document["log"]).is_file()
    assert document["best"]["evaluation"]["query_j"] > 0
    assert "40/40 trials" in err
    assert api.read_run(document["log"]).n_feasible == document["n_feasible"]


def test_the_answer_is_printed_as_text(run: Run) -> None:
    code, out, _ = run("--trials", "30", "--no-report")
    assert code == 0
    assert "box: 30 designs" in out
    assert "runs/box-" in out


def test_options_reach_the_search(run: Run) -> None:
    _, out, _ = run(
        "--trials", "20", "--strategy", "random", "--batch", "7", "--seed", "3",
        "--log", "here.sqlite", "--json", "--no-report",
    )  # fmt: skip
    settings = json.loads(out)["settings"]
    assert (settings["strategy"], settings["batch"], settings["seed"]) == ("random", 7, 3)
    _, out, _ = run(
        "--trials", "30", "--strategy", "random", "--log", "here.sqlite", "--resume", "--json",
        "--no-report",
    )  # fmt: skip
    resumed = json.loads(out)
    assert (resumed["n_trials"], resumed["settings"]["seed"]) == (30, 3)


def test_exhaustive_takes_the_whole_space_by_default(run: Run) -> None:
    _, out, _ = run("--strategy", "exhaustive", "--json", "--no-report")
    assert (json.loads(out)["n_trials"], json.loads(out)["stopped_by"]) == (288, "exhausted")


def test_a_report_is_written_beside_the_log(run: Run) -> None:
    code, out, _ = run("--trials", "20", "--json")
    document = json.loads(out)
    assert code == 0
    assert document["report"] == str(Path(document["log"]).with_suffix(".html"))
    assert "box" in Path(document["report"]).read_text(encoding="utf-8")


def test_each_run_of_a_log_has_its_own_report(run: Run) -> None:
    reports = []
    for seed in ("1", "2"):
        code, out, _ = run("--trials", "20", "--log", "a.sqlite", "--seed", seed, "--json")
        assert code == 0
        reports.append(json.loads(out)["report"])
    assert reports == ["a.html", "a-run2.html"]


def test_a_report_that_cannot_be_written_does_not_hide_the_answer(run: Run) -> None:
    Path("mine.html").write_text("a page of mine")
    code, out, err = run("--trials", "20", "--report", "mine.html", "--json")
    assert code == 2
    assert json.loads(out)["n_trials"] == 20
    assert "mine.html" in err
    assert Path("mine.html").read_text() == "a page of mine"


def test_ctrl_c_prints_the_answer_and_exits_with_130(run: Run) -> None:
    def interrupt(evaluated: int) -> None:
        if evaluated >= 8:
            raise KeyboardInterrupt

    code, out, _ = run("--trials", "500", "--json", evaluator=FakeEvaluator(before=interrupt))
    assert code == 130
    assert json.loads(out)["stopped_by"] == "interrupt"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--strategy", "grid"), "No strategy is called 'grid'"),
        (("--resume",), "There is no run log of the space 'box' in runs/"),
        (("--resume", "--log", "absent.sqlite"), "There is no run log at absent.sqlite"),
    ],
)
def test_a_wrong_option_exits_with_2_and_says_why(
    run: Run, options: tuple[str, ...], message: str
) -> None:
    code, out, err = run(*options)
    assert (code, out) == (2, "")
    assert message in err


def test_a_wrong_space_exits_with_2_and_names_the_line(run: Run) -> None:
    Path("box.yaml").write_text(yaml.safe_dump({**SPACE, "search": {"chips": {"int": [9, 1]}}}))
    code, _, err = run()
    assert code == 2
    assert "box.yaml, line" in err
    assert "search.chips.int: found [9, 1]" in err


def test_lines_come_at_most_every_two_seconds_and_the_last_is_written() -> None:
    lines: list[str] = []
    time = iter([0.0, 0.5, 1.9, 2.0, 2.1, 3.9]).__next__
    shown = ProgressLines(lines.append, time)
    for done in range(1, 7):
        shown.show(_progress(done))
    assert [line.split("/")[0] for line in lines] == ["1", "4"]
    shown.close()
    shown.close()
    assert [line.split("/")[0] for line in lines] == ["1", "4", "6"]


def _progress(done: int, **changes: Any) -> Progress:
    values: dict[str, Any] = {
        "done": done, "total": 6, "feasible": 0, "targets_met": None, "margin": None,
        "binding": None, "seconds_left": None, "log": "a.sqlite", **changes,
    }  # fmt: skip
    return Progress(**values)


def test_a_progress_line_says_what_is_known() -> None:
    assert _progress(1).line() == "1/6 trials, no design can run yet"
    unknown = _progress(1, targets_met=4, binding="cost", seconds_left=3.6).line()
    assert unknown == "1/6 trials, best meets 4 of 5 targets, least margin unknown (cost), 4 s left"


def test_a_terminal_shows_a_bar(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "160")
    _, out, err = run("--trials", "20", "--json", "--no-report")
    assert "20/20" in err
    assert "best meets" in err
    assert json.loads(out)["n_trials"] == 20


def test_the_json_evaluation_is_a_whole_one(run: Run) -> None:
    _, out, _ = run("--trials", "20", "--json", "--no-report")
    found = Evaluation.model_validate(json.loads(out)["nearest"]["evaluation"])
    assert len(found.targets) == 5
