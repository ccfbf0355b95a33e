"""What a study or an evaluation looks like in a terminal of 80 columns.

Numbers are never cut: columns that hold them do not wrap, the others fold.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pentarch.contracts.figures import (
    binding_verdict,
    comparison_of,
    label_of,
    show_figure,
    show_margin,
    show_parameter,
    why_not,
    without_password,
)
from pentarch.results import Design, Evaluation, StudyResult, TargetId, Trial, Verdict, VerdictKind
from pentarch.targets import figure_of
from pentarch.units import percent

if TYPE_CHECKING:
    from rich.console import Console

OPERATORS = 10
"""Operators shown, those that take most time."""

_SYMBOLS = {
    VerdictKind.MET: ("✓", "+", "green"),
    VerdictKind.MISSED: ("✗", "x", "red"),
    VerdictKind.UNKNOWN: ("?", "?", "yellow"),
    VerdictKind.INFEASIBLE: ("⊘", "!", "magenta"),
}
"""Symbol, the same where the terminal has ASCII only, and color."""
_SIGNS = {"at most": "<=", "at least": ">=", "more than": ">", "threshold": ""}
_KEY_FIGURES = (
    ("ttft_s", "delivered_flops_per_s"),
    ("tpot_s", "peak_flops_per_s"),
    ("query_s", "mfu.query"),
    ("throughput_tokens_per_s", "mbu"),
    ("mean_w", "query_j"),
    ("peak_w", "j_per_token"),
    ("system_usd", "bom_usd"),
    ("query_usd", "programmability"),
)


def print_study(
    result: StudyResult, console: "Console", *, report: Path | None = None, designs: int = 10
) -> None:
    """Print the answer of a search.

    Args:
        result: The answer.
        console: Where to print; made for 80 columns and more.
        report: Where the report was written, if it was.
        designs: Designs of the front shown at most.
    """
    _print_line(
        console,
        f"{result.space}: {result.n_trials:,} designs, {result.n_feasible:,} meet all five "
        f"targets; stopped by {result.stopped_by}.",
    )
    if result.best is not None:
        _print_design(console, result.best, "Best")
    else:
        _print_line(console, why_not(result) or "")
        if result.nearest is not None:
            _print_design(console, result.nearest, "Nearest")
    _print_front(console, result, designs)
    _print_line(console, "")
    _print_place(console, "log", None if result.log is None else without_password(result.log))
    _print_place(console, "report", None if report is None else str(report))


def print_evaluation(evaluation: Evaluation, console: "Console") -> None:
    """Print an evaluation: verdicts, key figures, slowest operators and notes.

    Args:
        evaluation: What to print.
        console: Where to print; made for 80 columns and more.
    """
    query = evaluation.operating_point.query
    _print_line(
        console,
        f"{evaluation.workload} on {evaluation.system} ({evaluation.partitioner}, "
        f"{evaluation.operating_point.runtime}): {query.prompt_tokens:,} prompt and "
        f"{query.output_tokens:,} output tokens, {query.concurrency:,} in flight",
    )
    if not evaluation.feasible:
        _print_line(console, f"Cannot run: {evaluation.reason or 'no reason was given'}", "magenta")
    _print_line(console, "")
    _print_verdicts(console, evaluation.targets, known=evaluation.reason)
    _print_line(console, "")
    _print_figures(console, evaluation)
    _print_operators(console, evaluation)
    for note in evaluation.notes:
        _print_line(console, f"note: {note}", "dim")


def _print_design(console: "Console", design: Design, name: str) -> None:
    _print_line(console, f"\n{name}: trial {design.trial.number}", "bold")
    console.print(_parameters(design.trial), highlight=False)
    _print_verdicts(console, design.evaluation.targets)


def _parameters(trial: Trial) -> Text:
    shown = [f"{path} = {show_parameter(path, value)}" for path, value in trial.parameters.items()]
    return Text(", ".join(shown) or "no parameters", overflow="fold", style="dim")


def _print_verdicts(
    console: "Console", verdicts: Sequence[Verdict], *, known: str | None = None
) -> None:
    """Print verdicts, and their reasons but for the one that is `known` already."""
    if not verdicts:
        return
    binding = binding_verdict(verdicts)
    table = plain_table()
    table.add_column("target", overflow="fold", ratio=1)
    for name in ("verdict", "value", "threshold", "margin"):
        table.add_column(name, no_wrap=True, justify="left" if name == "verdict" else "right")
    for verdict in verdicts:
        target = Text(verdict.id.value)
        if verdict is binding:
            target.append(" (binding)", style="bold")
        target.append(f"\n  {label_of(verdict.figure)}", style="dim")
        sign = _SIGNS[comparison_of(verdict.figure)]
        table.add_row(
            target,
            _symbol(console, verdict.verdict, verdict.verdict.value),
            show_figure(verdict.figure, verdict.value),
            f"{sign} {show_figure(verdict.figure, verdict.threshold)}",
            show_margin(verdict.margin),
        )
    console.print(table, highlight=False)
    by_reason: dict[str, list[str]] = {}
    for verdict in verdicts:
        if verdict.reason and verdict.reason != known:
            by_reason.setdefault(verdict.reason, []).append(verdict.id.value)
        if verdict.assumption:
            by_reason.setdefault(f"assumption: {verdict.assumption}", []).append(verdict.id.value)
    for reason, targets in by_reason.items():
        _print_line(console, f"{', '.join(targets)}: {reason}")


def _symbol(console: "Console", kind: VerdictKind, word: str) -> Text:
    symbol, plain, color = _SYMBOLS[kind]
    try:
        symbol.encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        symbol = plain
    return Text(f"{symbol} {word}", style=color)


def _print_front(console: "Console", result: StudyResult, designs: int) -> None:
    trials = result.front[:designs]
    if not trials:
        return
    _print_line(console, "\nPareto front", "bold")
    legend = Text("  ").join(_symbol(console, kind, kind.value) for kind in VerdictKind)
    console.print(legend, highlight=False)
    table = plain_table()
    table.add_column("trial", no_wrap=True, justify="right")
    table.add_column("least margin\nbinding target", justify="right", no_wrap=True)
    table.add_column("verdicts and parameters", overflow="fold", ratio=1)
    for trial in trials:
        cell = _verdict_line(console, trial)
        objectives = [
            f"{label_of(name)} = {show_figure(name, trial.figures.get(name))}"
            for name in result.objectives
        ]
        cell.append("\n" + ", ".join(objectives) + "\n")
        cell.append_text(_parameters(trial))
        table.add_row(
            str(trial.number), f"{show_margin(trial.least_margin)}\n{trial.binding or ''}", cell
        )
    console.print(table, highlight=False)
    rest = len(result.front) - len(trials)
    if rest > 0:
        _print_line(console, f"and {rest:,} more designs on the front", "dim")


def _verdict_line(console: "Console", trial: Trial) -> Text:
    return Text(" ").join(
        _symbol(console, trial.verdicts[target.value], target.value)
        for target in TargetId
        if target.value in trial.verdicts
    )


def _print_figures(console: "Console", evaluation: Evaluation) -> None:
    table = plain_table()
    table.show_header = False
    for _ in range(2):
        table.add_column(overflow="fold", ratio=1)
        table.add_column(no_wrap=True, justify="right")
    for pair in _KEY_FIGURES:
        cells: list[str] = []
        for figure in pair:
            cells += [label_of(figure), show_figure(figure, figure_of(evaluation, figure))]
        table.add_row(*cells)
    console.print(table, highlight=False)


def _print_operators(console: "Console", evaluation: Evaluation) -> None:
    operators = sorted(evaluation.operators, key=lambda operator: -operator.total_s)
    if not operators:
        return
    total = sum(operator.total_s for operator in operators)
    _print_line(console, "")
    table = plain_table()
    table.add_column("operator", overflow="fold", ratio=1)
    table.add_column("phase", no_wrap=True)
    table.add_column("total", no_wrap=True, justify="right")
    table.add_column("share", no_wrap=True, justify="right")
    table.add_column("bottleneck", overflow="fold")
    table.add_column("next", overflow="fold")
    for operator in operators[:OPERATORS]:
        table.add_row(
            Text(operator.name),
            Text(operator.phase),
            show_figure("total_s", operator.total_s),
            percent(operator.total_s / total if total > 0 else None),
            Text(operator.bottleneck),
            Text(operator.next_bottleneck or "nothing"),
        )
    console.print(table, highlight=False)
    rest = operators[OPERATORS:]
    if rest:
        seconds = show_figure("total_s", sum(operator.total_s for operator in rest))
        _print_line(console, f"and {len(rest):,} more operators, {seconds} together", "dim")


def plain_table() -> Table:
    """Return an empty table without a frame, as wide as the terminal."""
    from rich.box import SIMPLE_HEAD

    return Table(
        box=SIMPLE_HEAD, expand=True, pad_edge=False, collapse_padding=True, show_edge=False,
        header_style="bold",
    )  # fmt: skip


def _print_place(console: "Console", name: str, place: str | None) -> None:
    if place is not None:
        # Paths are not wrapped, so that they can be copied whole.
        console.print(Text(f"{name}: {place}"), highlight=False, soft_wrap=True)


def _print_line(console: "Console", text: str, style: str = "") -> None:
    console.print(Text(text, style=style, overflow="fold"), highlight=False)
