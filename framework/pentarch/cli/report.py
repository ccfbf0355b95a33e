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
        typer.Option(help="HTML file to write.  [default: beside the log]"),
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
    from pentarch.errors import InputError
    from pentarch.report import api
    from pentarch.search.api import read_run

    found = library()
    if out is None and "://" in log:
        raise InputError(
            "A run log in a database has no folder that its report could lie in. "
            "Name the file, for example `--out report.html`."
        )
    result = read_run(log, run, library=found)
    path = out or report_beside(log, result.run)
    written = api.report(result, path, replace=force, library=found)
    if as_json:
        print_json({"report": str(written), "log": result.log, "run": result.run})
    else:
        print(written)


def report_beside(log: str, run: int | None) -> Path:
    """Return the default path of the report of a run: beside its log, and one for each run.

    Args:
        log: Path of the log file.
        run: Number of the run.
    """
    path = Path(log)
    name = path.stem if run in (None, 1) else f"{path.stem}-run{run}"
    return path.with_name(f"{name}.html")
