"""The public function `report` and the command of the same name."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pentarch.cli import report as command
from pentarch.contracts.report_section import Block, ReportSection, TextBlock
from pentarch.errors import InputError
from pentarch.report.api import report
from pentarch.results import StudyResult
from pentarch.search import api as search_api

from .studies import evaluation, study


class About(ReportSection):
    name = "about"
    title = "About"

    def blocks(self, result: StudyResult) -> list[Block]:
        return [TextBlock(text=f"{result.space}: {result.about}")]


LIBRARY: Any = SimpleNamespace(registry=SimpleNamespace(sections={"about": About()}))


def test_report_takes_a_study_an_evaluation_or_several(tmp_path: Path) -> None:
    for name, given, shown in (
        ("a", study(), "edge-test: A space for tests."),
        ("b", evaluation(), "evaluation: tiny-llama on 4xnpu"),
        ("c", [evaluation(), evaluation(system="8xnpu")], "comparison: tiny-llama on 4xnpu, tiny-"),
    ):
        path = report(given, tmp_path / name, library=LIBRARY)
        assert shown in path.read_text(encoding="utf-8")


@pytest.fixture
def run_of_log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int | None]]:
    asked: list[tuple[str, int | None]] = []

    def read_run(log: str, run: int | None, *, library: object) -> StudyResult:
        asked.append((log, run))
        return study(log=log, run=run or 7)

    monkeypatch.setattr(search_api, "read_run", read_run)
    monkeypatch.setattr(command, "library", lambda: LIBRARY)
    return asked


def test_command_writes_beside_the_log_and_prints_the_path(
    tmp_path: Path,
    run_of_log: list[tuple[str, int | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = str(tmp_path / "edge.sqlite")
    command.report(log, run=2)
    assert run_of_log == [(log, 2)]
    assert capsys.readouterr().out == f"{tmp_path / 'edge-run2.html'}\n"
    assert (tmp_path / "edge-run2.html").is_file()


def test_command_names_the_report_of_a_first_run_after_its_log(
    tmp_path: Path, run_of_log: list[tuple[str, int | None]]
) -> None:
    command.report(str(tmp_path / "edge.sqlite"), run=1)
    assert (tmp_path / "edge.html").is_file()


def test_command_as_json_names_report_log_and_run(
    tmp_path: Path,
    run_of_log: list[tuple[str, int | None]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    import json

    log, out = str(tmp_path / "edge.sqlite"), tmp_path / "x.html"
    command.report(log, out=out, as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found == {"report": str(out), "log": log, "run": 7}


def test_command_asks_for_a_name_when_the_log_is_a_database() -> None:
    with pytest.raises(InputError, match=r"--out report\.html"):
        command.report("postgresql://db/runs")
