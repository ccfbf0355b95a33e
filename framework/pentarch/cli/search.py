"""`pentarch search`: a space, one command, the answer."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentarch.cli.output import JsonFlag, library, print_json
from pentarch.cli.report import report_beside
from pentarch.errors import PentarchError

if TYPE_CHECKING:
    from rich.console import Console

    from pentarch.results import StudyResult
    from pentarch.search.progress import Progress, ShowProgress

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""
LINE_SECONDS = 2.0
"""Least time between two progress lines where there is no terminal."""


SpaceName = Annotated[
    str, typer.Argument(metavar="SPACE", help="Catalog name, or path of a YAML space.")
]
Trials = Annotated[
    int | None,
    typer.Option(
        min=1, max=10**9, help="Trials in total.  [default: 500; the whole space when exhaustive]"
    ),
]
Seed = Annotated[
    int | None, typer.Option(min=0, max=2**32 - 1, help="Seed of the random numbers.  [default: 0]")
]
StrategyName = Annotated[
    str | None,
    typer.Option(help="nsga2, tpe, random or exhaustive.  [default: as the space says]"),
]
Log = Annotated[
    str | None,
    typer.Option(
        metavar="PATH",
        help="Run log: file or database URL.  [default: ./runs/<space>-<UTC>.sqlite]",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the newest run of the space, or of --log.")
]
Batch = Annotated[
    int | None,
    typer.Option(min=1, max=10**6, help="Designs asked at once.  [default: a population]"),
]
Report = Annotated[
    Path | None, typer.Option(help="HTML report to write.  [default: beside the log]")
]
NoReport = Annotated[bool, typer.Option("--no-report", help="Write no report.")]


def search(
    space: SpaceName,
    trials: Trials = None,
    seed: Seed = None,
    strategy: StrategyName = None,
    log: Log = None,
    resume: Resume = False,
    batch: Batch = None,
    report: Report = None,
    no_report: NoReport = False,
    as_json: JsonFlag = False,
) -> None:
    """Search a space for designs that meet all five targets."""
    from pentarch.search.api import search as run_search
    from pentarch.search.space import known_strategy

    found = library()
    with _shown_progress() as show:
        result = run_search(
            space, trials=trials, seed=seed, strategy=known_strategy(strategy), log=log,
            resume=resume, batch=batch, library=found, progress=show,
        )  # fmt: skip
    written, failure = None, None
    if not no_report:
        try:
            written = _write_report(result, report)
        except PentarchError as error:  # the answer comes first
            failure = error
    if as_json:
        print_json(study_document(result, report=written))
    else:
        from rich.console import Console

        from pentarch.cli.tables import print_study

        print_study(result, Console(), report=written)
    if failure is not None:
        raise failure
    if result.stopped_by == "interrupt":
        raise typer.Exit(INTERRUPTED)


def study_document(result: "StudyResult", *, report: Path | None) -> dict[str, Any]:
    """Return the JSON document of a search: the answer without every trial.

    Args:
        result: The answer.
        report: Where the report was written, if it was.
    """
    from pentarch.contracts.figures import without_password

    document = result.model_dump(mode="json", exclude={"trials"})
    if result.log is not None:
        document["log"] = without_password(result.log)
    document["report"] = None if report is None else str(report)
    return document


def _write_report(result: "StudyResult", path: Path | None) -> Path | None:
    """Write the report, by default beside the log; a log in a database has no such place."""
    from pentarch.report import api

    if path is None:
        if result.log is None or "://" in result.log:
            return None
        path = report_beside(result.log, result.run)
    return api.report(result, path, library=library())


@contextmanager
def _shown_progress() -> "Iterator[ShowProgress]":
    """Show progress on stderr: a bar on a terminal, else a line now and then."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = ProgressLines(lambda text: print(text, file=sys.stderr, flush=True))
        yield lines.show
        lines.close()
        return
    with _bar(console) as show:
        yield show


@contextmanager
def _bar(console: "Console") -> "Iterator[ShowProgress]":
    from rich import progress as bars

    columns = (
        bars.BarColumn(bar_width=24),
        bars.MofNCompleteColumn(),
        bars.TextColumn("{task.fields[state]}"),
        bars.TimeRemainingColumn(),
    )
    with bars.Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("search", total=None, state="")

        def show(progress: "Progress") -> None:
            bar.update(task, total=progress.total, completed=progress.done, state=progress.state)

        yield show


class ProgressLines:
    """Plain progress lines, at most one in `LINE_SECONDS`, and the last state at the end.

    Args:
        write: Writes one line.
        clock: Seconds since any fixed time.
    """

    def __init__(
        self, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._write = write
        self._clock = clock
        self._written_at: float | None = None
        self._waiting: Progress | None = None

    def show(self, progress: "Progress") -> None:
        """Write the state, unless the last line is too young."""
        now = self._clock()
        if self._written_at is not None and now - self._written_at < LINE_SECONDS:
            self._waiting = progress
            return
        self._write(progress.line())
        self._written_at = now
        self._waiting = None

    def close(self) -> None:
        """Write the state that is still waiting."""
        if self._waiting is not None:
            self._write(self._waiting.line())
            self._waiting = None
