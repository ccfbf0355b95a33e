"""`pentarch validate`: predictions against files of measurements and proven optima."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pentarch.cli.output import JsonFlag, library, print_json

if TYPE_CHECKING:
    from pentarch.validation.rows import Group, ScoredRow, Unscored

EXACT = 0.0
"""Largest mean error of traffic that `--check` accepts: below the optimum is a bug too."""
SHOWN_REASONS = 12
"""Kinds of rows without a prediction that a table of a file names; `--json` has them all."""


def validate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="CSV files, or folders of them.")
    ],
    leave_out: Annotated[
        str | None,
        typer.Option(
            "--leave-out",
            metavar="DEVICE|FAMILY",
            help="Predict as if it had never been measured, and score only its rows.",
        ),
    ] = None,
    calibration: Annotated[
        list[Path] | None,
        typer.Option(
            "--calibration", metavar="FILE", help="Use this calibration first; may be repeated."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless every row of an oracle is equal.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="DIR", help="Write scatter plots (SVG) into a folder."),
    ] = None,
    worst: Annotated[int, typer.Option(min=0, help="Show so many of the worst rows.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Hold predictions against files of measurements."""
    from pentarch.validation.files import Score, score_files
    from pentarch.validation.rows import group_rows, worst_rows

    found = library().with_fits(*calibration) if calibration else library()
    chosen = found if leave_out is None else found.leaving_out(leave_out)
    score = score_files(paths, chosen)
    if leave_out is not None:
        names = chosen.devices_left_out
        kept = tuple(row for row in score.rows if row.device in names)
        score = Score(rows=kept, unscored=score.unscored)
    groups = group_rows(score.rows)
    ranked = worst_rows(score.rows, worst)
    if plot is not None:
        _plot(score.rows, plot)
    if as_json:
        print_json({
            "groups": groups,
            "unscored": [
                {"file": one.file, "reason": one.reason, "name": one.name, "n": one.n}
                for one in score.unscored
            ],
            "worst": [_worst(row) for row in ranked],
        })  # fmt: skip
    else:
        _print_groups(groups)
        _print_unscored(score.unscored)
        for row in ranked:
            print(_worst_line(row))
    if check and any(group.metric == "traffic" and group.mape > EXACT for group in groups):
        raise typer.Exit(1)


def _plot(rows: "Sequence[ScoredRow]", folder: Path) -> None:
    from pentarch.errors import InputError
    from pentarch.validation.scatter import write_scatters

    try:
        write_scatters(rows, folder)
    except OSError as error:
        raise InputError(f"{folder} cannot be written: {error}. Name another folder.") from None


def _worst(row: "ScoredRow") -> dict[str, object]:
    return {
        "file": row.file, "row": row.label, "device": row.device, "operator": row.operator,
        "metric": row.metric, "precision": row.precision, "subset": row.subset,
        "framework": row.framework, "predicted": row.predicted, "measured": row.measured,
    }  # fmt: skip


def _worst_line(row: "ScoredRow") -> str:
    owner = " ".join(part for part in (row.device, row.label, row.subset, row.framework) if part)
    return f"  {owner}: {row.predicted:.4g}, file says {row.measured:.4g} ({row.ratio:.2f}x)"


def _print_groups(groups: "Sequence[Group]") -> None:
    """Print one table for every file, 80 columns wide; kernels are left to `--json`.

    `roof` is the mean error of the plain roofline on the same rows.
    """
    file = None
    for group in groups:
        if group.kernel:
            continue
        if group.file != file:
            file = group.file
            print(f"{file}")
            print(
                f"  {'device':<14}{'operator':<11}{'what':<13}{'subset':<8}"
                f"{'n':>5}{'MAPE':>7}{'median':>7}{'bias':>6}{'roof':>7}"
            )
        is_traffic = group.metric == "traffic"
        what = " ".join(part for part in (group.precision, group.framework) if part)
        shown = f"{group.metric if group.operator == 'query' else group.operator}"
        shown = shown.removeprefix("attention_")
        print(
            f"  {_cut(group.device or '-', 14)}{_cut(shown, 11)}"
            f"{_cut(group.subset if is_traffic else what, 13)}"
            f"{_cut('-' if is_traffic else group.subset, 8)}"
            f"{group.n:>5}{_percent(group.mape)}{_percent(group.median_ape)}{group.bias:>6.2f}"
            f"{_percent(group.roofline_mape)}"
        )
        if is_traffic:
            print(f"    {group.equal} of {group.n} equal")


def _print_unscored(unscored: "Sequence[Unscored]") -> None:
    by_file: dict[str, list[Unscored]] = {}
    for one in unscored:
        by_file.setdefault(one.file, []).append(one)
    for file, members in by_file.items():
        print(f"{file}: {sum(one.n for one in members)} rows or figures without a prediction")
        for one in members[:SHOWN_REASONS]:
            print(f"  {one.n:>5}  {one.reason}: {one.name}"[:80])
        if len(members) > SHOWN_REASONS:
            rest = members[SHOWN_REASONS:]
            print(f"  {sum(one.n for one in rest):>5}  others, named by --json")


def _cut(text: str, width: int) -> str:
    return f"{text[: width - 1]:<{width}}"


def _percent(value: float | None) -> str:
    if value is None:
        return f"{'-':>7}"
    return f"{value:>7.1%}" if value < 10 else f"{'>999%':>7}"
