"""`pentarch compare` on the installed plug-ins."""

from collections.abc import Callable
from typing import Any

import pytest

from pentarch.cli.main import main


def test_each_column_is_the_evaluation_of_its_system(run_json: Callable[..., Any]) -> None:
    shown = run_json("compare", "llama-3-8b", "h100_sxm", "edge_soc", "--concurrency", "4")
    for system, entry in zip(("h100_sxm", "edge_soc"), shown, strict=True):
        alone = run_json("evaluate", "llama-3-8b", system, "--concurrency", "4")
        assert entry["system"] == system
        assert entry["query_s"] == pytest.approx(alone["query_s"])
        assert entry["targets"] == alone["targets"]


def test_what_cannot_run_is_said_beside_what_can(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["compare", "gpt3-175b", "8xh100", "h100_sxm"]) == 0
    out = capsys.readouterr().out
    assert "h100_sxm cannot run:" in out
    assert max(map(len, out.splitlines())) <= 80


def test_one_unknown_system_ends_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "llama-3-8b", "h100_sxm", "h100_sxn"]) == 2
    captured = capsys.readouterr()
    assert "Did you mean 'h100_sxm'" in captured.err
    assert captured.out == ""
