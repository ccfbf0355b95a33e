"""The public function `pentarch.report`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pentarch.report.writing import write_evaluation_report, write_report
from pentarch.results import Evaluation, StudyResult

if TYPE_CHECKING:
    from pentarch.catalog import Library


def report(
    result: StudyResult | Evaluation | Sequence[Evaluation],
    path: str | os.PathLike[str],
    *,
    replace: bool = False,
    library: "Library | None" = None,
) -> Path:
    """Write a report as one HTML file that needs nothing else.

    Args:
        result: A study, an evaluation, or several to be shown side by side.
        path: Where to write it; missing folders are made.
        replace: Whether to write over what is there, even the report of another run.
        library: Whose sections are shown; by default those of every installed plug-in.

    Returns:
        The path written.

    Raises:
        InputError: `path` is a folder, a file that is no report, or the report of another run.
        PluginError: A section failed.
    """
    from pentarch.catalog import default_library

    found = library or default_library()
    sections = tuple(found.registry.sections.values())
    if isinstance(result, StudyResult):
        return write_report(result, Path(path), sections=sections, replace=replace)
    evaluations = [result] if isinstance(result, Evaluation) else result
    return write_evaluation_report(evaluations, Path(path), sections=sections, replace=replace)
