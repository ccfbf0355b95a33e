"""Writing a report: one file, whole or not at all, never over what it is not."""

import hashlib
import os
import re
import secrets
from collections.abc import Sequence
from html import escape, unescape
from importlib.resources import files
from pathlib import Path
from typing import NoReturn

from pentarch.contracts.figures import without_password
from pentarch.contracts.report_section import Block, ReportSection
from pentarch.errors import InputError, PluginError
from pentarch.report.comparison import as_study
from pentarch.report.page import GENERATOR, page
from pentarch.results import Evaluation, StudyResult

_HEAD_CHARACTERS = 4096
_IDENTITY = re.compile(r'<meta name="pentarch-run" content="([^"]*)">')


def write_report(
    result: StudyResult,
    path: str | Path,
    *,
    sections: Sequence[ReportSection],
    replace: bool = False,
) -> Path:
    """Write the report of a study as one HTML file that needs nothing else.

    The file appears whole or not at all. A report of the same run is written over.

    Args:
        result: What the report is about.
        path: Where to write it; missing folders are made.
        sections: What it shows, in any order; a section without blocks is left out.
        replace: Whether to write over whatever `path` is.

    Returns:
        The path written.

    Raises:
        InputError: `path` is a folder, a file that is no report, or the report of another run.
        PluginError: A section failed.
    """
    target = Path(path)
    identity = run_identity(result)
    if not replace:
        _check_target(target, identity)
    elif target.is_dir():
        _refuse(target, "is a folder", "Name a file in it.")
    ordered = sorted(sections, key=lambda section: (section.order, section.name))
    drawn = [(section, blocks) for section in ordered if (blocks := _blocks(section, result))]
    text = page(result, drawn, identity=identity, plot_library=_plot_library())
    _write_whole(target, text)
    return target


def write_evaluation_report(
    evaluations: Sequence[Evaluation],
    path: str | Path,
    *,
    sections: Sequence[ReportSection],
    replace: bool = False,
) -> Path:
    """Write the report of evaluations that no search made, side by side.

    Args:
        evaluations: At least one.
        path: As for `write_report`.
        sections: As for `write_report`.
        replace: As for `write_report`.

    Raises:
        InputError: There is no evaluation, or as for `write_report`.
        PluginError: A section failed.
    """
    return write_report(as_study(evaluations), path, sections=sections, replace=replace)


def run_identity(result: StudyResult) -> str:
    """Return what tells a run from others: name of its log and number, else a digest."""
    if result.log is not None:
        log = without_password(result.log).replace("\\", "/").rsplit("/", 1)[-1]
        return f"{result.space} {log} {result.run if result.run is not None else 1}"
    digest = hashlib.sha256(result.model_dump_json().encode()).hexdigest()
    return f"{result.space} {digest[:16]}"


def _check_target(target: Path, identity: str) -> None:
    if target.is_dir():
        _refuse(target, "is a folder", "Name a file in it.")
    if not target.exists():
        return
    with target.open(encoding="utf-8", errors="replace") as stream:
        head = stream.read(_HEAD_CHARACTERS)
    if f'<meta name="generator" content="{escape(GENERATOR)}">' not in head:
        _refuse(
            target, "exists and is no pentarch report",
            "Choose another name, or remove the file first.",
        )  # fmt: skip
    match = _IDENTITY.search(head)
    found = unescape(match[1]) if match else "an unknown run"
    if found != identity:
        _refuse(
            target, f"is the report of another run ({found}; this one is {identity})",
            "Choose another name, or ask for it to be replaced (`--force`).",
        )  # fmt: skip


def _refuse(target: Path, problem: str, advice: str) -> NoReturn:
    raise InputError(f"The report cannot be written: {str(target)!r} {problem}. {advice}")


def _blocks(section: ReportSection, result: StudyResult) -> Sequence[Block]:
    try:
        return tuple(section.blocks(result))
    except Exception as error:  # plug-in boundary: the cause is kept
        raise PluginError(
            f"The report section {section.name!r} ({type(section).__module__}) failed: {error}. "
            "Leave its plug-in out with `--no-plugin`, or mend it; the run log is unharmed."
        ) from error


def _plot_library() -> str:
    """Return the plotting library's source text, which the plotly distribution carries."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _write_whole(target: Path, text: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        with part.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
