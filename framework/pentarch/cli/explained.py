"""What a chip designer needs to know of each operator, in a terminal of 80 columns."""

import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from pentarch.contracts.figures import show_value
from pentarch.results import Bounds, Evaluation, Fusion, OperatorCost, Refetch
from pentarch.units import percent

if TYPE_CHECKING:
    from rich.console import Console

LARGE_GAP = 10.0
"""Gaps from here on are shown as a factor, not in percent."""


def print_explained(console: "Console", evaluation: Evaluation, count: int) -> None:
    """Print what binds the slowest operators, and which operators are fused or not, and why.

    Args:
        console: Where to print.
        evaluation: What to explain.
        count: Operators at most, those that take most time.
    """
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    for operator in operators[:count]:
        _print(console, "")
        _print(console, f"{operator.name}, {operator.phase}", "bold")
        for line in explanation(operator):
            _print_indented(console, line)
    _print_fusion(console, operators)


def _print_fusion(console: "Console", operators: Sequence[OperatorCost]) -> None:
    """Print every decision on fusion, operators with the same reason together."""
    decisions: dict[Fusion, dict[str, None]] = {}
    for operator in operators:
        if operator.fusion is not None:
            decisions.setdefault(operator.fusion, {}).setdefault(operator.name)
    for is_fused, heading in ((False, "not fused"), (True, "fused")):
        found = {fusion: names for fusion, names in decisions.items() if fusion.fused is is_fused}
        if not found:
            continue
        _print(console, "")
        _print(console, heading, "bold")
        for fusion, names in found.items():
            _print_indented(console, f"{', '.join(names)}: {fusion.reason}")


def explanation(operator: OperatorCost) -> Iterator[str]:
    """Yield the lines that explain one operator.

    Args:
        operator: The operator.
    """
    terms = sorted(operator.terms_s.items(), key=lambda term: -term[1])
    shown = ", ".join(f"{name} {show_value(seconds, 's')}" for name, seconds in terms)
    each = f"{show_value(operator.time_s, 's')} each, {show_value(operator.executions, '')} times"
    yield f"{each}: {shown or 'nothing takes time'}"
    if operator.headroom is not None:
        yield (
            f"bound by {operator.bottleneck}; {operator.next_bottleneck} binds once that is "
            f"{operator.headroom:.3g} times as fast"
        )
    if operator.bounds is not None:
        yield _bound(operator.bounds)
    if operator.mapping:
        yield f"runs with {show_mapping(operator)}"
    if operator.fusion is not None:
        yield f"{'fused' if operator.fusion.fused else 'not fused'}: {operator.fusion.reason}"
    if operator.next_refetch is not None:
        yield _refetch(operator.next_refetch)
    yield f"cost is {operator.fidelity}"


def show_mapping(operator: OperatorCost) -> str:
    """Return how an operator runs, in one line."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in operator.mapping.items()
    )


def _bound(bounds: Bounds) -> str:
    where = "its work at peak" if bounds.level is None else bounds.level
    text = f"at least {show_value(bounds.time_s, 's')} by {where}{_gap(bounds.time_gap)}"
    if not bounds.moved_bytes:
        return f"{text}; moves nothing through memory"
    return (
        f"{text}; moves {show_value(bounds.moved_bytes, 'B')} of at least "
        f"{show_value(bounds.compulsory_bytes, 'B')}{_gap(bounds.bytes_gap)}"
    )


def _gap(gap: float | None) -> str:
    if gap is None:
        return ""
    shown = f"{gap + 1.0:.3g} times that" if gap >= LARGE_GAP else f"+{percent(max(gap, 0.0))}"
    return f" ({shown})"


def _refetch(step: Refetch) -> str:
    return (
        f"would fetch {show_value(step.saved_bytes, 'B')} less with "
        f"{show_value(step.capacity_bytes, 'B')} of {step.level} instead of "
        f"{show_value(step.now_bytes, 'B')}"
    )


def _print_indented(console: "Console", text: str) -> None:
    lines = textwrap.wrap(
        text, console.width, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
    )
    _print(console, "\n".join(lines))


def _print(console: "Console", text: str, style: str = "") -> None:
    console.print(Text(text, style=style, overflow="fold"), highlight=False)
