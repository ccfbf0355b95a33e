import os
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import pytest

from pentarch.cli import main as command_line
from pentarch.cli.main import VERBS, Verb, main
from pentarch.errors import InputError, PentarchError


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_what_help_says_of_a_verb_is_the_first_line_of_its_docstring(verb: Verb) -> None:
    function = getattr(import_module(verb.module), verb.function)

    assert (function.__doc__ or "").splitlines()[0] == verb.about


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_verb_has_help_and_json(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb.name, "--help"]) == 0
    shown = capsys.readouterr().out

    assert verb.about in shown
    assert "--json" in shown


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out

    for verb in VERBS:
        assert f"  {verb.name} " in shown
    assert "--no-plugin" in shown


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    import pentarch

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"pentarch {pentarch.__version__}\n"


@pytest.mark.parametrize("arguments", [["dance"], ["list", "--dance"], ["show"], ["--no-plugin"]])
def test_wrong_usage_exits_with_two_and_says_so_on_stderr(
    arguments: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err


def _as_verb(monkeypatch: pytest.MonkeyPatch, function: Any) -> None:
    module = type(sys)("pentarch_test_verb")
    module.act = function  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "pentarch_test_verb", module)
    monkeypatch.setattr(
        command_line, "VERBS", (*VERBS, Verb("act", "pentarch_test_verb", "act", "Act."))
    )


@pytest.mark.parametrize(
    ("error", "code"), [(InputError("Wrong input."), 2), (PentarchError("Failed."), 1)]
)
def test_an_error_is_its_message_on_stderr_and_its_exit_code(
    error: PentarchError, code: int, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    def act() -> None:
        raise error

    _as_verb(monkeypatch, act)

    assert main(["act"]) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"pentarch: {error}\n")


def test_an_interrupt_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        raise KeyboardInterrupt

    _as_verb(monkeypatch, act)

    assert main(["act"]) == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["--no-plugin", "gpu", "act", "--no-plugin=soc"],
        ["act", "--no-plugin", "gpu", "--no-plugin", "soc"],
    ],
)
def test_plugins_are_left_out_wherever_the_option_stands(
    arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def act() -> None:
        seen.append(os.environ["PENTARCH_DISABLE"])

    monkeypatch.setenv("PENTARCH_DISABLE", "report")
    _as_verb(monkeypatch, act)

    assert main(arguments) == 0
    assert seen == ["gpu,report,soc"]


def test_leaving_out_an_unknown_plugin_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pentarch", "--no-plugin", "no-such-plugin", "list"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 2
    assert "No plugin is called 'no-such-plugin'" in done.stderr
    assert done.stdout == ""


def test_a_reader_that_stops_reading_is_no_error() -> None:
    done = subprocess.run(
        f"{sys.executable} -m pentarch list --json | head -c 1",
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip

    assert done.stdout == "["
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["list"], ["list", "workloads"]])
def test_listing_does_not_import_what_it_does_not_need(arguments: Sequence[str]) -> None:
    code = (
        "import sys\nfrom pentarch.cli.main import main\n"
        f"assert main({list(arguments)!r}) == 0\n"
        "print(sorted({'numba', 'optuna', 'plotly', 'sqlalchemy', 'scipy', 'pandas', 'yaml'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-1] == "[]"


def test_help_is_quick() -> None:
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "pentarch", "--help"], capture_output=True, check=True
        )
        return time.perf_counter() - start

    assert min(seconds() for _ in range(3)) < 0.5
