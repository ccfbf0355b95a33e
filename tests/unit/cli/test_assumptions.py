"""What the verdicts rest on, in a terminal and in JSON."""

import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.report.studies import evaluation

from pentarch.cli.assumptions import LISTED, print_assumptions, rests_on
from pentarch.cli.main import main
from pentarch.results import InputEffect, Sensitivity, TargetId, VerdictKind


def effect(path: str, *, flips: bool = False, **changes: object) -> InputEffect:
    """Return an input that moves a latency of 1 s to 0.5 s and 2.5 s."""
    return InputEffect(
        path=path, grade="asm", source="a guess", value=0.5, low=0.25, high=1.0,
        interval_stated=True, figure_low=0.5, figure_high=2.5, verdict_low=VerdictKind.MET,
        verdict_high=VerdictKind.MISSED if flips else VerdictKind.MET, elasticity=1.16, flips=flips,
    ).replace(**changes)  # fmt: skip


def latency(*inputs: InputEffect) -> Sensitivity:
    """Return the sensitivity of a latency that is met."""
    return Sensitivity(
        target=TargetId.LATENCY, figure="query_s", value=1.0, verdict=VerdictKind.MET, inputs=inputs,
        tested=9,
    )  # fmt: skip


def test_an_input_is_shown_with_both_ends_and_what_flips() -> None:
    assert list(rests_on(latency(effect("share", flips=True)))) == [
        "latency is met at 1.00 s; of 9 estimates and assumptions 1 flips it",
        "- share (asm), 0.5: 500 ms at 0.25, 2.50 s (missed) at 1; elasticity +1.16",
    ]


def test_an_unknown_end_and_an_interval_of_nobody_are_said() -> None:
    bare = effect("share", figure_high=None, elasticity=None, interval_stated=False)
    lines = list(rests_on(latency(bare)))
    assert lines[0].endswith("of 9 estimates and assumptions none flips it")
    assert lines[1] == ("- share (asm, no interval stated), 0.5: 500 ms at 0.25, unknown at 1")


def test_what_changes_a_verdict_without_flipping_it_is_told_apart() -> None:
    missed = latency(
        effect("room", verdict_low=VerdictKind.MISSED, verdict_high=VerdictKind.INFEASIBLE)
    ).replace(verdict=VerdictKind.MISSED)
    lines = list(rests_on(missed))
    assert lines[0].endswith("9 estimates and assumptions none flips it, 1 makes it infeasible")
    assert "2.50 s (infeasible) at 1" in lines[1]


def test_an_unknown_figure_is_said_once_and_no_slope_is_no_elasticity() -> None:
    unknown = latency(effect("share", elasticity=0.001)).replace(
        verdict=VerdictKind.UNKNOWN, value=None
    )
    lines = list(rests_on(unknown))
    assert lines[0].startswith("latency is unknown; ")
    assert "elasticity" not in lines[1]


def test_few_inputs_are_listed_but_more_where_they_flip() -> None:
    quiet = [effect(f"input {at}") for at in range(8)]
    assert len(list(rests_on(latency(*quiet)))) == 1 + LISTED
    loud = [effect(f"input {at}", flips=True) for at in range(8)]
    assert len(list(rests_on(latency(*loud)))) == 1 + 2 * LISTED


def test_nothing_is_printed_where_nothing_was_tested_and_no_line_is_too_long() -> None:
    silent = io.StringIO()
    print_assumptions(Console(file=silent, width=80), evaluation())
    assert silent.getvalue() == ""
    text = io.StringIO()
    wide = effect("a.very.long.path.of.an.input.that.needs.its.own.line", flips=True)
    print_assumptions(
        Console(file=text, width=80), evaluation().replace(sensitivity=(latency(wide),))
    )
    lines = text.getvalue().splitlines()
    assert "what the verdicts rest on" in lines
    assert max(map(cell_len, lines)) <= 80


def test_json_has_it_only_with_explain(
    fake_library: object, capsys: pytest.CaptureFixture[str]
) -> None:
    point = [
        "evaluate",
        "tiny",
        "chip",
        "--prompt",
        "64",
        "--output",
        "8",
        "--partitioner",
        "alone",
        "--json",
    ]
    assert main(point) == 0
    assert json.loads(capsys.readouterr().out)["sensitivity"] == []
    assert main([*point, "--explain"]) == 0
    found = json.loads(capsys.readouterr().out)["sensitivity"]
    assert [entry["target"] for entry in found] == [target.value for target in TargetId]
