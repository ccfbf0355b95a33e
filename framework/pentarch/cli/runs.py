"""`pentarch runs`: the run logs of a folder, the answer of one, and its trials as a table."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pentarch.cli.files import Force, known_suffix, write_whole
from pentarch.cli.output import JsonFlag, library, print_json
from pentarch.errors import InputError

if TYPE_CHECKING:
    from pentarch.search.runs import RunSummary, Unreadable

SUFFIXES = (".csv", ".json", ".parquet")
"""Formats that trials can be exported in."""
TARGETS = 5
"""Targets that a design can meet."""


class Action(StrEnum):
    """What to do with run logs."""

    LIST = "list"
    SHOW = "show"
    EXPORT = "export"


def runs(
    action: Annotated[Action, typer.Argument(help="list [FOLDER], show LOG, or export LOG.")],
    place: Annotated[
        str | None,
        typer.Argument(
            metavar="[FOLDER|LOG]",
            help="Folder of logs, or a log: a path or database URL.  [default for list: ./runs]",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help=f"File to export to, by its suffix: {', '.join(SUFFIXES)}."),
    ] = None,
    run: Annotated[
        int | None,
        typer.Option(min=1, max=2**31 - 1, help="Number of the run.  [default: the newest]"),
    ] = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """List, show or export run logs."""
    if out is not None and action is not Action.EXPORT:
        raise InputError(
            f"--out belongs to `pentarch runs export`. Leave it out of {action.value}."
        )
    if action is Action.LIST:
        _list(place, as_json=as_json)
        return
    if place is None:
        raise InputError(
            f"`pentarch runs {action.value}` needs the log: its path or the URL of its database. "
            "`pentarch runs list` shows those in ./runs."
        )
    if action is Action.SHOW:
        _show(place, run, as_json=as_json)
    elif out is None:
        raise InputError(
            "`pentarch runs export` needs the file to write, for example `--out trials.csv`. "
            f"Its suffix tells the format: {', '.join(SUFFIXES)}."
        )
    else:
        _export(place, run, out=out, force=force, as_json=as_json)


def _list(place: str | None, *, as_json: bool) -> None:
    from pentarch.search.runlog import DEFAULT_FOLDER
    from pentarch.search.runs import summaries

    folder = Path(place) if place is not None else DEFAULT_FOLDER
    # Before the first search there is no folder, which is no error unless one was named.
    found, broken = summaries(folder) if place is not None or folder.exists() else ((), ())
    if as_json:
        print_json({"runs": found, "unreadable": broken})
    else:
        _print_list(found, broken, folder)


def _print_list(
    found: "Sequence[RunSummary]", broken: "Sequence[Unreadable]", folder: Path
) -> None:
    from rich.console import Console
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.contracts.figures import show_margin

    console = Console()
    if not found:
        print(f"No run in {folder}/. `pentarch search SPACE` makes one.")
    else:
        table = plain_table()
        table.add_column("log", overflow="fold", ratio=1)
        for name in ("trials", "targets met", "least margin"):
            table.add_column(name, no_wrap=True, justify="right")
        table.add_column("end", no_wrap=True)
        for one in found:
            name = Path(one.log).name + (f", run {one.run}" if one.run > 1 else "")
            began = one.created_utc[:16].replace("T", " ")
            met = "nothing runs" if one.targets_met is None else f"{one.targets_met} of {TARGETS}"
            table.add_row(
                Text(f"{name}\n  {one.space}, {began} UTC"), f"{one.trials:,}", met,
                show_margin(one.least_margin), one.stopped_by or "unfinished",
            )  # fmt: skip
        console.print(table, highlight=False)
    for entry in broken:
        console.print(Text(f"not listed: {entry.problem}", style="yellow"), highlight=False)


def _show(place: str, run: int | None, *, as_json: bool) -> None:
    from pentarch.cli.search import study_document
    from pentarch.search.api import read_run
    from pentarch.search.runs import check_is_log

    check_is_log(place)
    result = read_run(place, run, library=library())
    if as_json:
        print_json(study_document(result, report=None))
        return
    from rich.console import Console

    from pentarch.cli.tables import print_study

    print_study(result, Console())


def _export(place: str, run: int | None, *, out: Path, force: bool, as_json: bool) -> None:
    from pentarch.search import runs as logs

    suffix = known_suffix(out, SUFFIXES)
    table = logs.rows(place, run)
    content: str | bytes
    if suffix == ".csv":
        content = logs.to_csv(table)
    elif suffix == ".json":
        content = logs.to_json(table)
    else:
        content = logs.to_parquet(table)
    written = write_whole(out, content, force=force)
    columns = list(table[0]) if table else []
    if as_json:
        print_json({"out": str(written), "trials": len(table), "columns": columns})
    else:
        print(f"{written}: {len(table):,} trials, {len(columns):,} columns")
