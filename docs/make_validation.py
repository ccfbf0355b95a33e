"""Writes docs/explanation/validation.md: predictions held against files of measurements.

    python docs/make_validation.py [FOLDER]       write the page and its plots
    python docs/make_validation.py --excerpts     write anew only what rests on the excerpts

FOLDER holds the files of measurements (by default ../shared/validation beside the checkout). The
excerpts under tests/validation/data come with the project, so their table can be made anywhere, and
the tests compare it with the page. The result depends on the files, the catalog and the engine
alone. `--out` names another folder for the page.
"""

import argparse
import os
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.validation.files import Score
    from pentarch.validation.kernels import KernelRow
    from pentarch.validation.rows import Group, ScoredRow

ROOT = Path(__file__).resolve().parents[1]
MEASURED = ROOT.parent / "shared" / "validation"
EXCERPTS = ROOT / "tests" / "validation" / "data" / "measured"
PAGE = ROOT / "docs" / "explanation"
TEMPLATE = ROOT / "docs" / "validation.template"
"""The sentences of the page, and where its tables stand."""
PLOTTED = 200
"""Points of a plot: of more rows, every n-th by device and size is drawn."""
LEAST_ROWS = 20
"""Rows from which an aim counts and a plot is drawn."""
WORST = 3
"""Worst rows named for each file."""
BEGIN, END = "<!-- excerpts -->", "<!-- end of excerpts -->"
HOPPER_ON = ("h100_sxm", "b200_sxm", "gb200", "rtx_pro_6000_server")
"""Devices for which the aim for attention is a mean."""
KERNEL_FILES = ("aic_gemm.csv", "aic_context_attention.csv", "aic_generation_attention.csv")
MATRIX_FILES = ("llmcompass_ops.csv", "vidur_ops.csv", "neusight_fp32_ops.csv")
COLLECTIVE_FILES = ("aic_collectives.csv", "vidur_collectives.csv")
RUN_FILES = (
    "aic_e2e_serving.csv",
    "llama70b_8xa100.csv",
    "mlperf_llm.csv",
    "neusight_fp32_e2e.csv",
)

_POINT = re.compile(r"><title>[^<]*</title></circle>")


@dataclass(frozen=True)
class Scored:
    """What the page is made of."""

    library: "Library"
    score: "Score"
    groups: tuple["Group", ...]
    folder: Path


def main(arguments: Sequence[str]) -> int:
    """Write the page; return the exit code."""
    parser = argparse.ArgumentParser(description="Write docs/explanation/validation.md.")
    parser.add_argument("folder", nargs="?", type=Path, default=MEASURED)
    parser.add_argument("--out", type=Path, default=PAGE, help="folder of the page")
    parser.add_argument("--excerpts", action="store_true", help="only what rests on the excerpts")
    chosen = parser.parse_args(arguments)
    _only_this_distribution()
    page = chosen.out / "validation.md"
    if chosen.excerpts:
        before, _, rest = page.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        page.write_text(f"{before}{excerpts()}{after}", "utf-8")
        return 0
    if not chosen.folder.is_dir():
        sys.stderr.write(
            f"{chosen.folder} is no folder. Name the one that holds the measurements.\n"
        )
        return 2
    scored = score(chosen.folder)
    plots = write_plots(scored.score.rows, chosen.out / "validation")
    page.write_text(page_of(scored, plots), "utf-8")
    return 0


def _only_this_distribution() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    own = set(project["entry-points"]["pentarch"])
    others = {found.name for found in entry_points(group="pentarch")} - own
    os.environ["PENTARCH_DISABLE"] = ",".join(sorted(others))


def score(folder: Path) -> Scored:
    """Return the predictions of a folder's files."""
    from pentarch.catalog import default_library
    from pentarch.validation.files import score_files
    from pentarch.validation.rows import group_rows

    library = default_library()
    found = score_files([folder], library)
    return Scored(library, found, group_rows(found.rows), folder)


def page_of(scored: Scored, plots: Sequence[Path]) -> str:
    """Return the page: the template with its tables."""
    tables: dict[str, Callable[[], Iterable[str]]] = {
        "aims": lambda: aims(scored),
        "kernels": lambda: (line for file in KERNEL_FILES for line in kernel_table(scored, file)),
        "stacks": lambda: (line for file in KERNEL_FILES for line in stack_table(scored, file)),
        "experts": lambda: experts_table(scored),
        "others": lambda: operators_table(scored, MATRIX_FILES),
        "collectives": lambda: operators_table(scored, COLLECTIVE_FILES),
        "runs": lambda: runs_table(scored),
        "left_out": lambda: left_out_table(scored),
        "worst": lambda: worst_table(scored),
        "unscored": lambda: unscored_table(scored),
        "plots": lambda: (f"![{path.stem}](validation/{path.name})\n" for path in plots),
        "excerpts": lambda: [excerpts()],
    }
    page = re.sub(
        r"^\{\{(\w+)\}\}$", lambda name: "\n".join(tables[name[1]]()),
        TEMPLATE.read_text("utf-8"), flags=re.MULTILINE,
    )  # fmt: skip
    return re.sub(r"\n{3,}", "\n\n", page).strip() + "\n"


# Aims ---------------------------------------------------------------------------------------------


def aims(scored: Scored) -> Iterator[str]:
    """Yield how many groups reach each aim, then those that miss theirs."""
    judged: dict[str, list[bool]] = {}
    missed: list[str] = []
    for group in scored.groups:
        aim = aim_of(group)
        if aim is None or (group.n < LEAST_ROWS and group.operator != "layer"):
            continue
        limit, uses_median, asks_bias = aim
        reached = group.median_ape if uses_median else group.mape
        holds = reached <= limit and (not asks_bias or 0.95 <= group.bias <= 1.05)
        asked = f"{'median ' if uses_median else ''}{limit:.0%}".replace("%", " %")
        asked += ", bias 0.95 to 1.05" if asks_bias else ""
        subject = (
            "narrow formats" if group.file == "aic_gemm.csv" and group.framework else group.operator
        )
        judged.setdefault(f"{group.file} | {subject} | {asked}", []).append(holds)
        if not holds:
            what = " ".join(
                part
                for part in (group.operator, group.precision, group.framework, group.kernel)
                if part
            )
            missed.append(_row(
                group.file, group.device, what, group.n, asked, _percent(reached), f"{group.bias:.2f}",
                _percent(group.roofline_mape),
            ))  # fmt: skip
    yield _row("file", "what", "aim", "groups", "that reach it")
    yield _rule(5)
    for name, found in sorted(judged.items()):
        yield _row(name, len(found), sum(found))
    yield ""
    if missed:
        yield "Missed:\n"
        yield _row("file", "device", "what", "n", "aim", "error", "bias", "roofline")
        yield _rule(8)
        yield from missed
        yield ""


def aim_of(group: "Group") -> tuple[float, bool, bool] | None:
    """Return the largest error asked for, whether it is a median, and whether the bias counts."""
    if group.subset != "main" or group.metric != "latency":
        return None
    if group.file == "aic_moe.csv":
        return (0.25, False, False) if group.kernel else None
    if group.kernel:
        return None
    if group.file == "aic_gemm.csv":
        if group.precision == "bf16":
            if group.framework:
                return None
            return (0.15, False, False) if group.device == "b60" else (0.10, False, True)
        return (0.15, False, False) if group.framework else None
    if group.file in KERNEL_FILES and not group.framework:
        return (0.12, False, False) if group.device in HOPPER_ON else (0.15, True, False)
    if group.file in MATRIX_FILES and group.operator == "gemm":
        return 0.12, False, False
    if group.file == "llmcompass_ops.csv" and group.operator == "layer":
        return 0.10, False, False
    return None


# Tables of kernels --------------------------------------------------------------------------------


def kernel_table(scored: Scored, file: str) -> Iterator[str]:
    """Yield the reference column of a file: main rows, then rows that fit the cache."""
    own = [
        one for one in scored.groups if one.file == file and not one.framework and not one.kernel
    ]
    if not own:
        return
    yield f"**{file}**\n"
    yield _row(
        "device", "format", "n", "MAPE", "median", "bias", "roofline", "n in cache", "MAPE", "bias"
    )
    yield _rule(10)
    cached = {(one.device, one.precision): one for one in own if one.subset == "L2fit"}
    for one in own:
        if one.subset != "main":
            continue
        other = cached.get((one.device, one.precision))
        rest = (
            ("", "", "") if other is None else (other.n, _percent(other.mape), f"{other.bias:.2f}")
        )
        yield _row(one.device, one.precision, one.n, *_errors(one), *rest)
    yield ""


def stack_table(scored: Scored, file: str) -> Iterator[str]:
    """Yield the columns of software stacks: mean error and number of main rows."""
    own = [
        one for one in scored.groups
        if one.file == file and one.framework and not one.kernel and one.subset == "main"
    ]  # fmt: skip
    if not own:
        return
    stacks = sorted({one.framework for one in own})
    yield f"**{file}**\n"
    yield _row("device", "format", *stacks)
    yield _rule(2 + len(stacks))
    found = {(one.device, one.precision, one.framework): one for one in own}
    for device, precision in sorted({(one.device, one.precision) for one in own}):
        cells = [found.get((device, precision, stack)) for stack in stacks]
        shown = ["" if one is None else f"{_percent(one.mape)} ({one.n})" for one in cells]
        yield _row(device, precision, *shown)
    yield ""


def experts_table(scored: Scored) -> Iterator[str]:
    """Yield mixtures of experts by kernel."""
    own = [
        one
        for one in scored.groups
        if one.file == "aic_moe.csv" and one.kernel and not one.framework
    ]
    yield _row("device", "format", "kernel", "subset", "n", "MAPE", "median", "bias", "roofline")
    yield _rule(9)
    for one in own:
        yield _row(one.device, one.precision, one.kernel, one.subset, one.n, *_errors(one))
    yield ""


def operators_table(scored: Scored, files: Sequence[str]) -> Iterator[str]:
    """Yield the operators of files, a row for each device."""
    yield _row(
        "file", "device", "operator", "format", "subset", "n", "MAPE", "median", "bias", "roofline"
    )
    yield _rule(10)
    for one in scored.groups:
        if one.file in files and not one.framework and not one.kernel:
            yield _row(
                one.file, one.device, one.operator, one.precision, one.subset, one.n, *_errors(one)
            )
    yield ""


# Whole models -------------------------------------------------------------------------------------


def runs_table(scored: Scored) -> Iterator[str]:
    """Yield runs of whole models: published figures by tag, all others by device and stack."""
    from pentarch.validation.rows import group_rows

    rows = [row for row in scored.score.rows if row.operator == "query" and row.subset != "flagged"]
    served = [replace(row, precision="") for row in rows if row.file in RUN_FILES]
    published = [
        replace(row, precision="", device="all") for row in rows if row.file not in RUN_FILES
    ]
    yield _row(
        "file", "device", "figure", "stack or tag", "n", "MAPE", "median", "bias", "roofline"
    )
    yield _rule(9)
    for one in group_rows([*served, *published]):
        yield _row(one.file, one.device, one.metric, one.framework, one.n, *_errors(one))
    yield ""


# Leaving out --------------------------------------------------------------------------------------


def left_out_table(scored: Scored) -> Iterator[str]:
    """Yield errors on devices as if they, or their family, had never been measured."""
    from pentarch.validation.files import kernel_rows

    yield _row(
        "file", "device", "what", "n", "fitted", "device left out", "bias", "family left out", "bias",
        "roofline", "roofline / family left out",
    )  # fmt: skip
    yield _rule(11)
    for file in (*KERNEL_FILES, *MATRIX_FILES):
        if not (scored.folder / file).exists():
            continue
        rows = [
            row for row in kernel_rows(scored.folder / file, scored.library)[0]
            if row.subset == "main" and not row.framework and row.operator not in ("vector", "all_reduce", "layer")
        ]  # fmt: skip
        if file == "aic_gemm.csv":
            rows = [row for row in rows if row.precision == "bf16"]
        yield from _left_out_rows(rows, scored.library)
    yield ""


def _left_out_rows(rows: Sequence["KernelRow"], library: "Library") -> Iterator[str]:
    for device in sorted({row.device for row in rows}):
        own = [row for row in rows if row.device == device]
        family = _family(library, device)
        fitted, alone = _score(own, library), _score(own, library.leaving_out(device))
        family_out = None if family is None else _score(own, library.leaving_out(family))
        for one, out in zip(fitted, alone, strict=True):
            kin = _same(family_out, one)
            gain = (
                ""
                if kin is None or not kin.roofline_mape
                else f"{kin.roofline_mape / kin.mape:.1f}"
            )
            yield _row(
                one.file, device, f"{one.operator} {one.precision}".replace("attention_", ""), one.n,
                _percent(one.mape), _percent(out.mape), f"{out.bias:.2f}",
                "" if kin is None else _percent(kin.mape), "" if kin is None else f"{kin.bias:.2f}",
                _percent(one.roofline_mape), gain,
            )  # fmt: skip


def _same(groups: Iterable["Group"] | None, wanted: "Group") -> "Group | None":
    key = (wanted.operator, wanted.precision)
    return next((one for one in groups or () if (one.operator, one.precision) == key), None)


def _family(library: "Library", device: str) -> str | None:
    from pentarch.validation.predict import family_of

    found = library.device(device)
    return family_of(library.backend_of(found), found)


def _score(rows: Sequence["KernelRow"], library: "Library") -> tuple["Group", ...]:
    """Return the errors of a library on rows, kernels together."""
    import numpy as np

    from pentarch.validation.predict import predict_all
    from pentarch.validation.rows import ScoredRow, group_rows

    found = predict_all(rows, library)
    return group_rows(
        ScoredRow(
            label=row.label, file=row.file, device=row.device, operator=row.operator,
            metric="latency", precision=row.precision, subset=row.subset, predicted=seconds,
            measured=row.measured_s, roofline=plain if np.isfinite(plain) else None,
        )
        for row, seconds, plain in zip(
            rows, found.seconds.tolist(), found.rooflines.tolist(), strict=True
        )
        if np.isfinite(seconds)
    )  # fmt: skip


# Rows ---------------------------------------------------------------------------------------------


def worst_table(scored: Scored) -> Iterator[str]:
    """Yield the rows of each file that the model misses most."""
    from pentarch.validation.rows import worst_rows

    yield _row("file", "device", "row", "predicted", "measured", "ratio")
    yield _rule(6)
    for file in sorted({row.file for row in scored.score.rows}):
        own = [row for row in scored.score.rows if row.file == file and row.metric != "traffic"]
        for row in worst_rows(own, WORST):
            label = " ".join(part for part in (row.label, row.metric, row.framework) if part)
            yield _row(
                file, row.device, label.replace("|", "/").replace(" latency", ""),
                f"{row.predicted:.3g}", f"{row.measured:.3g}", f"{row.ratio:.2f}",
            )  # fmt: skip
    yield ""


def unscored_table(scored: Scored) -> Iterator[str]:
    """Yield how many rows have no prediction, by file and reason."""
    counts: dict[tuple[str, str], int] = {}
    for one in scored.score.unscored:
        counts[one.file, one.reason] = counts.get((one.file, one.reason), 0) + one.n
    yield _row("file", "reason", "rows or figures")
    yield _rule(3)
    for (file, reason), count in sorted(counts.items()):
        yield _row(file, reason, count)
    yield ""


def write_plots(rows: Iterable["ScoredRow"], folder: Path) -> list[Path]:
    """Write a plot for every file, operator and metric with enough rows, and return the files."""
    from pentarch.validation.scatter import write_scatters

    groups: dict[tuple[str, str, str], list[ScoredRow]] = {}
    for row in rows:
        is_reference = not row.framework or row.operator == "query"
        if row.subset != "flagged" and row.metric != "traffic" and is_reference:
            groups.setdefault((row.file, row.operator, row.metric), []).append(row)
    chosen: list[ScoredRow] = []
    for members in groups.values():
        ranked = sorted(members, key=lambda row: (row.device, row.measured, row.label))
        step = -(-len(ranked) // PLOTTED)
        chosen += ranked[::step] if len(ranked) >= LEAST_ROWS else []
    for old in folder.glob("*.svg"):
        old.unlink()
    written = list(write_scatters(chosen, folder))
    for path in written:
        path.write_text(_POINT.sub("/>", path.read_text("utf-8")), "utf-8")
    return written


# The excerpts that come with the project ----------------------------------------------------------


def excerpts() -> str:
    """Return the table of the excerpts, between its marks."""
    scored = score(EXCERPTS)
    lines = [
        BEGIN,
        "",
        _row("file", "operator or figure", "subset", "n", "MAPE", "median", "bias"),
        _rule(7),
    ]
    for one in pooled(scored.score.rows):
        what = one.metric if one.operator == "query" else one.operator
        lines.append(_row(one.file, what, one.subset, one.n, *_errors(one)[:3]))
    return "\n".join([*lines, "", END])


def pooled(rows: Iterable["ScoredRow"]) -> tuple["Group", ...]:
    """Return the errors of reference columns by file, operator, metric and subset."""
    from pentarch.validation.rows import group_rows

    return group_rows(
        replace(row, device="", precision="", framework="", kernel="")
        for row in rows
        if not row.framework or row.operator == "query"
    )


# Cells --------------------------------------------------------------------------------------------


def _errors(group: "Group") -> tuple[str, str, str, str]:
    return (
        _percent(group.mape),
        _percent(group.median_ape),
        f"{group.bias:.2f}",
        _percent(group.roofline_mape),
    )


def _percent(value: float | None) -> str:
    show: Callable[[float], str] = "{:.1%}".format
    return "" if value is None else show(value).replace("%", " %")


def _row(*cells: Any) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _rule(columns: int) -> str:
    return "|" + "---|" * columns


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
