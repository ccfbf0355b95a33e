"""`pentarch report`: the report of a run."""

from pathlib import Path
from typing import Annotated

import typer

from pentarch.cli.output import JsonFlag, library, print_json


def report(
    log: Annotated[
        str, typer.Argument(metavar="LOG", help="Run log: a path, or the URL of a database.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="HTML file to write.  [default: the log's name with .html]"),
    ] = None,
    run: Annotated[
        int | None, typer.Option(min=1, help="Number of the run.  [default: the newest]")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write over what is there, whatever it is.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the report of a run."""
    from pentarch.report import api
    from pentarch.search.api import read_run

    found = library()
    path = out or _beside(log)
    result = read_run(log, run, library=found)
    written = api.report(result, path, replace=force, library=found)
    if as_json:
        print_json({"report": str(written), "log": result.log, "run": result.run})
    else:
        print(written)


def _beside(log: str) -> Path:
    """Return the default path of the report of a log.

    Raises:
        InputError: The log is a database and has no folder of its own.
    """
    if "://" in log:
        from pentarch.errors import InputError

        raise InputError(
            "A run log in a database has no folder that its report could lie in. "
            "Name the file, for example `--out report.html`."
        )
    return Path(log).with_suffix(".html")
