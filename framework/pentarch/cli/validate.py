"""`pentarch validate`: predictions against files of measurements and proven optima."""

from pathlib import Path
from typing import Annotated

import typer

from pentarch.cli.output import JsonFlag, print_json

EXACT = 0.0
"""Largest mean error of traffic that `--check` accepts: below the optimum is a bug too."""


def validate(
    paths: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="CSV files, or folders of them.")
    ],
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless every row of an oracle is equal.")
    ] = False,
    worst: Annotated[int, typer.Option(min=0, help="Show so many of the worst rows.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Hold predictions against files of measurements."""
    from pentarch.validation.files import score_files
    from pentarch.validation.rows import group_rows

    rows = score_files(paths)
    groups = group_rows(rows)
    ranked = sorted(rows, key=lambda row: -abs(row.ratio - 1.0))[:worst]
    if as_json:
        print_json(
            {
                "groups": groups,
                "worst": [
                    {
                        "file": row.file, "row": row.label, "subset": row.subset,
                        "predicted": row.predicted, "measured": row.measured,
                    }
                    for row in ranked
                ],
            }
        )  # fmt: skip
    else:
        print(
            f"{'file':<26}{'operator':<11}{'subset':<18}{'n':>4}{'equal':>7}{'MAPE':>8}{'bias':>7}"
        )
        for group in groups:
            print(
                f"{group.file:<26}{group.operator:<11}{group.subset:<18}{group.n:>4}{group.equal:>7}"
                f"{group.mape:>8.2%}{group.bias:>7.3f}"
            )
        for row in ranked:
            print(f"  {row.label} {row.subset}: {row.predicted:g}, file says {row.measured:g}")
    if check and any(group.metric == "traffic" and group.mape > EXACT for group in groups):
        raise typer.Exit(1)
