"""The command `pentarch`: imports the module of one verb, and turns errors into exit codes.

Exit codes: 0 the command did its work, 1 a check that was asked for failed, 2 usage or input
error, 130 interrupted.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Annotated, Any

import typer

from pentarch.errors import InputError, PentarchError

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
FEW_COLLECTIONS = (50_000, 20, 50)
"""Thresholds of the garbage collector in a process that runs one command."""
NO_PLUGIN = "--no-plugin"
"""The one option that every command takes, before or after its verb."""


@dataclass(frozen=True, slots=True)
class Verb:
    """One command."""

    name: str
    """As the user types it."""
    module: str
    """Module of the function."""
    function: str
    """The function: its parameters are the options, its docstring the help."""
    about: str
    """First line of the docstring, shown by `pentarch --help` without importing the module."""


VERBS = (
    Verb(
        "list", "pentarch.cli.list_", "list_",
        "List what plug-ins and catalogs provide.",
    ),
    Verb(
        "show", "pentarch.cli.show", "show",
        "Show one thing in full.",
    ),
    Verb(
        "graph", "pentarch.cli.graph", "graph",
        "Show or write the dataflow graph of a workload.",
    ),
    Verb(
        "map", "pentarch.cli.map_", "map_",
        "Map one GEMM behind a buffer or on a device.",
    ),
    Verb(
        "partition", "pentarch.cli.partition", "partition",
        "Plan a workload on the devices of a system.",
    ),
    Verb(
        "evaluate", "pentarch.cli.evaluate", "evaluate",
        "Evaluate one design at one operating point.",
    ),
    Verb(
        "compare", "pentarch.cli.evaluate", "compare",
        "Evaluate several systems side by side.",
    ),
    Verb(
        "search", "pentarch.cli.search", "search",
        "Search a space for designs that meet all five targets.",
    ),
    Verb(
        "report", "pentarch.cli.report", "report",
        "Write the report of a run.",
    ),
    Verb(
        "runs", "pentarch.cli.runs", "runs",
        "List, show or export run logs.",
    ),
    Verb(
        "validate", "pentarch.cli.validate", "validate",
        "Hold predictions against files of measurements.",
    ),
    Verb(
        "calibrate", "pentarch.cli.calibrate", "calibrate",
        "Fit physical parameters to measurements.",
    ),
    Verb(
        "schema", "pentarch.cli.schema", "schema",
        "Print the JSON schema of a YAML file.",
    ),
    Verb(
        "bench", "pentarch.cli.bench", "bench",
        "Measure how fast pentarch is on this machine.",
    ),
)  # fmt: skip
"""Every command in the order of `pentarch --help`."""


def run() -> None:
    """Run the command line and exit: the entry point of the script `pentarch`."""
    # What is imported stays: looking for garbage among it every few hundred objects finds none.
    gc.set_threshold(*FEW_COLLECTIONS)
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: As after the word `pentarch`.

    Returns:
        The exit code.
    """
    try:
        rest, left_out = _take_left_out(arguments)
        if left_out:
            _disable(left_out)
        application = _application(next((word for word in rest if not word.startswith("-")), None))
        application(args=rest, prog_name="pentarch")
    except PentarchError as error:
        print("\n".join([f"pentarch: {error}", *getattr(error, "__notes__", ())]), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # the reader of a pipe has seen enough, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _take_left_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    rest: list[str] = []
    left_out: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            rest += [word, *words]
        elif word == NO_PLUGIN:
            name = next(words, None)
            if name is None:
                raise InputError(
                    f"{NO_PLUGIN} has no name after it. Write `{NO_PLUGIN} NAME`; see "
                    "`pentarch list plugins`."
                )
            left_out.append(name)
        elif word.startswith(NO_PLUGIN + "="):
            left_out.append(word.removeprefix(NO_PLUGIN + "="))
        else:
            rest.append(word)
    return rest, left_out


def _disable(names: list[str]) -> None:
    # By way of the environment, so that the worker processes of a search leave out the same.
    from pentarch.catalog import DISABLE_VARIABLE, disabled_plugins

    os.environ[DISABLE_VARIABLE] = ",".join(sorted(disabled_plugins(os.environ) | set(names)))


def _application(wanted: str | None) -> typer.Typer:
    application = typer.Typer(
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        help="Find hardware for transformer inference that meets five targets at once.",
    )
    application.callback()(_global_options)
    for verb in VERBS:
        function = _loaded(verb) if verb.name == wanted else _named(verb)
        application.command(verb.name)(function)
    return application


def _global_options(
    no_plugin: Annotated[
        list[str] | None,
        typer.Option(NO_PLUGIN, metavar="NAME", help="Leave a plug-in out; may be repeated."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=lambda on: _show_version(on))
    ] = False,
) -> None:
    """Find hardware for transformer inference that meets five targets at once."""


def _show_version(on: bool) -> None:
    if on:
        from pentarch._version import VERSION

        print(f"pentarch {VERSION}")
        raise typer.Exit


def _loaded(verb: Verb) -> Callable[..., Any]:
    function: Callable[..., Any] = getattr(import_module(verb.module), verb.function)

    @wraps(function)
    def interruptible(*arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None

    return interruptible


def _named(verb: Verb) -> Callable[[], None]:
    def listed() -> None:
        raise AssertionError(f"{verb.name} is listed here and run only when it is asked for")

    listed.__doc__ = verb.about
    return listed
