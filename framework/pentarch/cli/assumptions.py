"""Which assumption moves each verdict most, in a terminal of 80 columns."""

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from pentarch.contracts.figures import show_figure
from pentarch.results import Evaluation, InputEffect, Sensitivity

if TYPE_CHECKING:
    from rich.console import Console

LISTED = 3
"""Inputs shown for each verdict, those that change it first; twice as many where so many do."""


def print_assumptions(console: "Console", evaluation: Evaluation) -> None:
    """Print what the weakly graded inputs do to each verdict; nothing where they were not tested.

    Args:
        console: Where to print.
        evaluation: What was evaluated, with its `sensitivity`.
    """
    if not evaluation.sensitivity:
        return
    console.print()
    console.print(Text("what the verdicts rest on", style="bold"))
    for entry in evaluation.sensitivity:
        for line in rests_on(entry):
            lines = textwrap.wrap(
                line, console.width, initial_indent="  ", subsequent_indent="    ",
                break_on_hyphens=False,
            )  # fmt: skip
            console.print(Text("\n".join(lines), overflow="fold"), highlight=False)


def rests_on(entry: Sensitivity) -> Iterator[str]:
    """Yield the lines on one verdict.

    Args:
        entry: Its sensitivity.
    """
    shown = "" if entry.value is None else f" at {show_figure(entry.figure, entry.value)}"
    head = f"{entry.target} is {entry.verdict}{shown}"
    if not entry.inputs:
        yield f"{head}: none of {entry.tested} estimates and assumptions moves it"
        return
    flipping = sum(effect.flips for effect in entry.inputs)
    others = [_others(entry, effect) for effect in entry.inputs if not effect.flips]
    changing = sum(map(bool, others))
    outcome = f"of {entry.tested} estimates and assumptions {_count(flipping, 'flip')} it"
    if changing:
        kinds = " or ".join(sorted(set().union(*others)))
        outcome += f", {_count(changing, 'make')} it {kinds}"
    yield f"{head}; {outcome}"
    for effect in entry.inputs[: max(LISTED, min(flipping + changing, 2 * LISTED))]:
        yield f"- {_line(entry, effect)}"


def _others(entry: Sensitivity, effect: InputEffect) -> set[str]:
    """Return the other verdicts that an input leads to."""
    return {
        str(kind) for kind in (effect.verdict_low, effect.verdict_high) if kind != entry.verdict
    }


def _count(number: int, verb: str) -> str:
    return f"{number or 'none'} {verb}{'' if number > 1 else 's'}"


def _line(entry: Sensitivity, effect: InputEffect) -> str:
    ends = [
        f"{show_figure(entry.figure, figure)}{'' if verdict == entry.verdict else f' ({verdict})'} "
        f"at {number:.3g}"
        for figure, verdict, number in (
            (effect.figure_low, effect.verdict_low, effect.low),
            (effect.figure_high, effect.verdict_high, effect.high),
        )
    ]
    why = "" if effect.interval_stated else ", no interval stated"
    slope = ""
    if effect.elasticity is not None and abs(effect.elasticity) >= 0.005:
        slope = f"; elasticity {effect.elasticity:+.2f}"
    return f"{effect.path} ({effect.grade}{why}), {effect.value:.3g}: {', '.join(ends)}{slope}"
