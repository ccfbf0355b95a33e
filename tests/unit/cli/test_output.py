import json
import math

import pytest

from pentarch.cli.output import plain, print_json, print_rows
from pentarch.results import TargetId
from pentarch.workload.query import Query


def test_what_is_not_finite_is_null() -> None:
    assert plain({"a": math.nan, "b": [math.inf, 1.5], "c": None}) == {
        "a": None, "b": [None, 1.5], "c": None,
    }  # fmt: skip


def test_models_enums_and_sets_become_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({TargetId.COST: Query(), "names": frozenset({"x"}), "on": True})

    shown = json.loads(capsys.readouterr().out)
    assert shown["cost"]["prompt_tokens"] == 1024
    assert (shown["names"], shown["on"]) == (["x"], True)


def test_rows_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows([("a", "first"), ("long", ""), ("bb", "last")])

    assert capsys.readouterr().out == "  a     first\n  long\n  bb    last\n"
