"""What a study or an evaluation looks like in a terminal of 80 columns.

Numbers are never cut: columns that hold them do not wrap, the others fold.
"""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from pentarch.cli.operating_point import describe_point
from pentarch.contracts.figures import (
    binding_verdict,
    comparison_of,
    label_of,
    parameter_names,
    show_figure,
    show_margin,
    show_parameter,
    show_value,
    shown_ledger,
    why_not,
    without_password,
)
from pentarch.results import (
    AmountEntry,
    Design,
    Evaluation,
    LedgerEntry,
    StudyResult,
    TargetId,
    Trial,
    Verdict,
    VerdictKind,
)
from pentarch.targets import figure_of
from pentarch.units import percent

if TYPE_CHECKING:
    from rich.console import Console

OPERATORS = 10
"""Operators shown, those that take most time."""
LOSSES = 6
"""Entries of the ledger shown, the useful part among them."""
BAR = 24
"""Cells of a bar that stands for the whole."""
_DUST = 1e-9
"""Share of a ledger below which an entry is rounding of a sum."""
LEAST_TITLE = 7
"""Width that a column's title may take even where its cells are narrower."""
_QUANTITY = re.compile(r"([-+]?\d[\d,.]*(?:e-?\d+)?) ([A-Za-z%][A-Za-z0-9/%]*)")
"""A number and its unit, as cells show them."""

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
        _print_ledger(console, result.best.evaluation)
    else:
        _print_line(console, why_not(result) or "")
        if result.nearest is not None:
            _print_design(console, result.nearest, "Nearest")
    _print_front(console, result, designs)
    _print_line(console, "")
    _print_place(console, "log", None if result.log is None else without_password(result.log))
    _print_place(console, "report", None if report is None else str(report))


def print_evaluation(
    evaluation: Evaluation, console: "Console", *, operators: int = OPERATORS, explain: bool = False
) -> None:
    """Print an evaluation: verdicts, key figures, ledgers, slowest operators and notes.

    Args:
        evaluation: What to print.
        console: Where to print; made for 80 columns and more.
        operators: Operators listed at most, those that take most time.
        explain: Whether the ledgers of energy and cost are drawn as well, each operator listed is
            explained, and what the verdicts rest on, as far as that was computed.
    """
    _print_line(console, describe_point(evaluation))
    if not evaluation.feasible:
        _print_line(console, f"Cannot run: {evaluation.reason or 'no reason was given'}", "magenta")
    _print_line(console, "")
    _print_verdicts(console, evaluation.targets, known=evaluation.reason)
    _print_line(console, "")
    _print_figures(console, evaluation)
    print_ledger(console, "where the time goes", shown_ledger(evaluation))
    if explain:
        print_ledger(console, "where the energy goes", evaluation.energy_ledger, unit="J")
        print_ledger(console, "what the price pays for", evaluation.cost_ledger, unit="USD")
    else:
        _print_line(console, "")
        _print_summary(console, "energy", evaluation.energy_ledger)
        _print_summary(console, "price", evaluation.cost_ledger)
    _print_operators(console, evaluation, operators)
    if explain:
        from pentarch.cli.assumptions import print_assumptions
        from pentarch.cli.explained import print_explained

        print_explained(console, evaluation, operators)
        print_assumptions(console, evaluation)
    for note in evaluation.notes:
        _print_line(console, f"note: {note}", "dim")


def _print_design(console: "Console", design: Design, name: str) -> None:
    _print_line(console, f"\n{name}: trial {design.trial.number}", "bold")
    console.print(_parameters(design.trial), highlight=False)
    _print_verdicts(console, design.evaluation.targets)


def _parameters(trial: Trial) -> Text:
    names = parameter_names(trial.parameters)
    shown = [f"{names[p]} = {show_parameter(p, value)}" for p, value in trial.parameters.items()]
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
    """Print the front, one line per design; further tables take the columns that do not fit."""
    trials = result.front[:designs]
    if not trials:
        return
    _print_line(console, "\nPareto front", "bold")
    kinds = {kind for trial in trials for kind in trial.verdicts.values()}
    legend = [_symbol(console, kind, kind.value) for kind in VerdictKind if kind in kinds]
    order = Text("verdicts: " + ", ".join(target.value for target in TargetId) + "  ")
    console.print(order + Text("  ").join(legend), highlight=False)
    differing, common = _split_parameters(trials)
    if common:
        names = "their common parameters" if len(trials) > 1 else "its parameters"
        _print_line(console, f"{names}: {', '.join(common)}", "dim")
    number = _Column("trial", [Text(str(trial.number)) for trial in trials])
    columns = [
        _Column("verdicts", [_symbols(console, trial) for trial in trials], is_number=False),
        _Column("least margin, binding target", [Text(_binding(trial)) for trial in trials]),
        *(
            _Column(
                label_of(name),
                [Text(show_figure(name, trial.figures.get(name))) for trial in trials],
            )
            for name in result.objectives
        ),
        *differing,
    ]  # fmt: skip
    shown = [number]
    for column in columns:
        if len(shown) > 1 and not _fits(console, [*shown, column]):
            console.print(_columns_table(shown), highlight=False)
            _print_line(console, "")
            shown = [number]
        shown.append(column)
    console.print(_columns_table(shown), highlight=False)
    rest = len(result.front) - len(trials)
    if rest > 0:
        _print_line(console, f"and {rest:,} more designs on the front", "dim")


@dataclass(frozen=True, slots=True)
class _Column:
    """One column of the front."""

    title: str
    """What it holds."""
    cells: list[Text]
    """One entry per design."""
    is_number: bool = True
    """Whether it is set flush right."""


def _binding(trial: Trial) -> str:
    return f"{show_margin(trial.least_margin)} {trial.binding or ''}".rstrip()


def _symbols(console: "Console", trial: Trial) -> Text:
    """Return the verdicts of a design as symbols in the order of the targets."""
    kinds = [trial.verdicts.get(target.value) for target in TargetId]
    return Text("").join(_symbol(console, kind, "") for kind in kinds if kind is not None)


def _split_parameters(trials: Sequence[Trial]) -> tuple[list[_Column], list[str]]:
    """Return the parameters in which designs differ as columns, the common ones as text."""
    paths = dict.fromkeys(path for trial in trials for path in trial.parameters)
    names = parameter_names(paths)
    columns: list[_Column] = []
    common: list[str] = []
    for path in paths:
        values = [trial.parameters.get(path) for trial in trials]
        cells = ["-" if value is None else show_parameter(path, value) for value in values]
        if len(set(cells)) == 1:
            common.append(f"{names[path]} = {cells[0]}")
            continue
        is_number = not any(isinstance(value, bool | str) for value in values)
        columns.append(_Column(names[path], [Text(cell) for cell in cells], is_number=is_number))
    return columns, common


def _columns_table(columns: Sequence[_Column]) -> Table:
    from rich.box import SIMPLE_HEAD

    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, header_style="bold"
    )
    for column in columns:
        title, cells = _hoisted(column)
        width = max(LEAST_TITLE, *(len(cell) for cell in cells))
        lines = textwrap.wrap(title, width, break_long_words=False, break_on_hyphens=False)
        table.add_column(
            Text("\n".join(lines)), overflow="fold", vertical="bottom",
            justify="right" if column.is_number else "left",
        )  # fmt: skip
    for row in zip(*(_hoisted(column)[1] for column in columns), strict=True):
        table.add_row(*row)
    return table


def _hoisted(column: _Column) -> tuple[str, list[Text]]:
    """Return title and cells of a column; a unit that all cells share stands in the title."""
    found = [_QUANTITY.fullmatch(cell.plain) for cell in column.cells]
    units = {match[2] if match else "" for match in found}
    unit = units.pop()
    if units or not unit:
        return column.title, column.cells
    return f"{column.title} ({unit})", [Text(match[1]) for match in found if match]


def _fits(console: "Console", columns: Sequence[_Column]) -> bool:
    from rich.measure import Measurement

    table = _columns_table(columns)
    return (
        Measurement.get(console, console.options.update(width=1000), table).maximum <= console.width
    )


def _print_ledger(console: "Console", evaluation: Evaluation) -> None:
    """Print where the time goes in one sentence: the useful part, then the largest losses."""
    _print_summary(console, "time", shown_ledger(evaluation))


def _print_summary(console: "Console", name: str, entries: Sequence[LedgerEntry]) -> None:
    """Print a ledger in one sentence: its first entries, the ideal ones before the losses."""
    ledger = [entry for entry in entries if abs(entry.share) > _DUST]
    shown, rest = ledger[:LOSSES], ledger[LOSSES:]
    if not shown:
        return
    parts = [f"{percent(entry.share)} {entry.name}" for entry in shown]
    if rest:
        parts.append(f"{percent(sum(entry.share for entry in rest))} in {len(rest)} smaller parts")
    _print_line(console, f"{name}: {', '.join(parts)}")


def print_ledger(
    console: "Console", title: str, entries: Sequence[LedgerEntry], *, unit: str | None = None
) -> None:
    """Print a ledger as bars, the ideal entries in another color than the losses.

    Args:
        console: Where to print.
        title: What is shared out.
        entries: The ledger.
        unit: Unit of the amounts: then every entry is printed with its amount, not only the first
            ones with their shares.
    """
    ledger = [entry for entry in entries if abs(entry.share) > _DUST]
    shown, rest = (ledger, []) if unit else (ledger[:LOSSES], ledger[LOSSES:])
    if not shown:
        return
    _print_line(console, "")
    table = plain_table()
    table.add_column(title, overflow="fold", ratio=1)
    if unit:
        table.add_column("amount", no_wrap=True, justify="right")
    table.add_column("share", no_wrap=True, justify="right")
    table.add_column("", no_wrap=True, width=BAR)
    for entry in shown:
        bar = Text(_bar(console, entry.share), style="green" if entry.ideal else "yellow")
        amount = [show_value(entry.amount, unit)] if unit and isinstance(entry, AmountEntry) else []
        table.add_row(Text(entry.name), *amount, percent(entry.share), bar)
    if rest:
        share = sum(entry.share for entry in rest)
        bar = Text(_bar(console, share), style="yellow")
        table.add_row(Text(f"{len(rest)} smaller parts", style="dim"), percent(share), bar)
    console.print(table, highlight=False)


def _bar(console: "Console", share: float) -> str:
    """Return a bar; an entry that is too small for a cell, or negative, has none."""
    cell = "█"
    try:
        cell.encode(console.encoding)
    except (LookupError, UnicodeEncodeError):
        cell = "#"
    return cell * round(max(share, 0.0) * BAR)


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


def _print_operators(console: "Console", evaluation: Evaluation, count: int) -> None:
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    if not operators:
        return
    total = sum(operator.device_s for operator in operators)
    _print_line(console, "")
    table = plain_table()
    table.add_column("operator", overflow="fold", ratio=1)
    table.add_column("phase", no_wrap=True)
    table.add_column("per query", no_wrap=True, justify="right")
    table.add_column("share", no_wrap=True, justify="right")
    table.add_column("bottleneck", overflow="fold")
    table.add_column("next", overflow="fold")
    for operator in operators[:count]:
        table.add_row(
            Text(operator.name),
            Text(operator.phase),
            show_figure("total_s", operator.total_s),
            percent(operator.device_s / total if total > 0 else None),
            Text(operator.bottleneck),
            Text(operator.next_bottleneck or "nothing"),
        )
    console.print(table, highlight=False)
    rest = operators[count:]
    if rest:
        share = percent(sum(operator.device_s for operator in rest) / total if total > 0 else None)
        _print_line(console, f"and {len(rest):,} more operators, {share} together", "dim")
    if evaluation.operating_point.query.concurrency > 1:
        _print_line(
            console,
            "share: while the queries in flight are answered, a prefill for each of them and decode "
            "steps for all together",
            "dim",
        )


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
