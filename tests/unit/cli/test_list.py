from collections.abc import Callable
from typing import Any

import pytest

from pentarch.catalog import Library
from pentarch.cli.main import main


def test_everything_is_listed_with_its_kind_and_plugin(pentarch_json: Callable[..., Any]) -> None:
    rows = pentarch_json("list")

    assert {(row["kind"], row["name"], row["plugin"]) for row in rows} == {
        ("workload", "tiny", "fake"), ("workload", "both", "fake"),
        ("device", "chip", "fake"), ("device", "both", "fake"), ("device", "broken", "fake"),
        ("runtime", "ideal", "pentarch"), ("backend", "fake", "fake"),
        ("partitioner", "alone", "fake"), ("workload family", "fake-family", "fake"),
        ("metric", "device_count", "fake"), ("plugin", "fake", "fake"), ("plugin", "lost", "lost"),
    }  # fmt: skip
    assert all(row["about"] for row in rows)


@pytest.mark.parametrize("what", ["workloads", "workload"])
def test_one_kind_is_listed_by_its_name(pentarch_json: Callable[..., Any], what: str) -> None:
    assert [row["name"] for row in pentarch_json("list", what)] == ["both", "tiny"]


def test_plugins_are_listed_with_status_and_cause(pentarch_json: Callable[..., Any]) -> None:
    rows = {row["name"]: row for row in pentarch_json("list", "plugins")}

    assert (rows["fake"]["status"], rows["fake"]["error"]) == ("loaded", None)
    assert rows["lost"]["status"] == "failed"
    assert rows["lost"]["error"] == "ImportError: no lost here"


def test_problems_are_what_cannot_be_loaded(pentarch_json: Callable[..., Any]) -> None:
    rows = {row["name"]: row["error"] for row in pentarch_json("list", "--problems")}

    assert set(rows) == {"broken", "lost"}
    assert "broken.yaml, line 4: lanes" in rows["broken"]


def test_text_has_one_line_for_each_name(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "workloads"]) == 0
    assert capsys.readouterr().out == "  both  A tiny one.\n  tiny  A tiny one.\n"


def test_an_unknown_kind_is_an_error(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", "gadgets"]) == 2
    assert "No list is called 'gadgets'" in capsys.readouterr().err
