"""Blocks as HTML, and the data that the page's script draws plots from.

Every text goes through `html.escape`: names come from users' files.
"""

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

from pentarch.contracts.figures import (
    binding_verdict,
    comparison_of,
    label_of,
    show_figure,
    show_margin,
    show_value,
)
from pentarch.contracts.report_section import (
    BarBlock,
    Block,
    LogPlotBlock,
    ScatterBlock,
    TableBlock,
    TextBlock,
    VerdictsBlock,
)
from pentarch.results import Verdict, VerdictKind

FOLDED_ROWS = 25
"""Tables with more rows are folded behind a summary that says how many."""
NARROW_COLUMNS = 3
"""Tables with more columns stand alone; narrower ones stand side by side where there is room."""

_SYMBOLS = {
    VerdictKind.MET: "✓",
    VerdictKind.MISSED: "✗",
    VerdictKind.UNKNOWN: "?",
    VerdictKind.INFEASIBLE: "⊘",
}


def draw(block: Block, *, key: str, plots: dict[str, Mapping[str, Any]]) -> str:
    """Return a block as HTML; a plot adds its data to `plots` under `key`.

    Args:
        block: What to draw.
        key: Identifier of the block, unique in its page.
        plots: Data of the page's plots so far; changed in place.
    """
    match block:
        case TextBlock():
            return _text(block)
        case TableBlock():
            return _table(block)
        case VerdictsBlock():
            return _cards(block)
        case BarBlock():
            plots[key] = block.model_dump(mode="json", exclude={"title", "note"})
            return _figure(block.title, block.note, _bar_plot(block, key))
        case LogPlotBlock():
            plots[key] = block.model_dump(mode="json", exclude={"title", "note"})
            return _figure(block.title, block.note, _log_plot(block, key))
        case ScatterBlock():
            plots[key] = block.model_dump(mode="json", exclude={"title", "note"})
            return _figure(block.title, block.note, _scatter_plot(block, key))


def verdict_chip(kind: str) -> str:
    """Return a verdict as a colored word; any other text is only escaped."""
    try:
        verdict = VerdictKind(kind)
    except ValueError:
        return escape(kind)
    return f'<span class="chip {verdict}">{_SYMBOLS[verdict]} {verdict}</span>'


def _heading(title: str) -> str:
    return f"<h3>{escape(title)}</h3>" if title else ""


def _note(note: str) -> str:
    return f'<p class="note">{escape(note)}</p>' if note else ""


def _text(block: TextBlock) -> str:
    return f'<p class="{"lead" if block.is_lead else "text"}">{escape(block.text)}</p>'


def _table(block: TableBlock) -> str:
    classes = ["number" if index in block.numeric else "" for index in range(len(block.header))]
    head = "".join(
        f'<th scope="col" class="{name}">{escape(title)}</th>'
        for name, title in zip(classes, block.header, strict=True)
    )
    cell: list[Callable[[str], str]] = [
        verdict_chip if index in block.verdicts else escape for index in range(len(block.header))
    ]
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{name}">{show(text)}</td>'
            for name, show, text in zip(classes, cell, row, strict=True)
        )
        + "</tr>"
        for row in block.rows
    )
    label = escape(block.title or "table", quote=True)
    table = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{label}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    if len(block.rows) > FOLDED_ROWS:
        table = f"<details><summary>{len(block.rows):,} rows</summary>{table}</details>"
    width = "block narrow" if len(block.header) <= NARROW_COLUMNS else "block"
    return f'<div class="{width}">{_heading(block.title)}{table}{_note(block.note)}</div>'


def _cards(block: VerdictsBlock) -> str:
    binding = binding_verdict(block.verdicts)
    cards = "".join(_card(verdict, verdict is binding) for verdict in block.verdicts)
    return f'<div class="block">{_heading(block.title)}<ul class="cards">{cards}</ul></div>'


def _card(verdict: Verdict, is_binding: bool) -> str:
    mark = '<span class="binding">binding target</span>' if is_binding else ""
    threshold = show_figure(verdict.figure, verdict.threshold)
    rows = [
        (comparison_of(verdict.figure), threshold),
        ("margin", show_margin(verdict.margin)),
    ]
    if verdict.bottleneck:
        rows.append(("set by", verdict.bottleneck))
    facts = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    further = "".join(
        f'<p class="{name}">{escape(prefix + text)}</p>'
        for name, prefix, text in (
            ("reason", "", verdict.reason),
            ("assumption", "Assumption: ", verdict.assumption),
        )
        if text
    )
    return (
        f'<li class="card {verdict.verdict}"><h4>{escape(verdict.id)}</h4>'
        f"<p>{verdict_chip(verdict.verdict)}{mark}</p>"
        f'<p class="value">{escape(show_figure(verdict.figure, verdict.value))}</p>'
        f'<p class="figure">{escape(label_of(verdict.figure))}</p>'
        f"<dl>{facts}</dl>{further}</li>"
    )


def _figure(title: str, note: str, body: str) -> str:
    return f'<div class="block">{_heading(title)}{body}{_note(note)}</div>'


def _bar_plot(block: BarBlock, key: str) -> str:
    totals = [
        sum(values[index] for values in block.parts.values()) for index in range(len(block.bars))
    ]
    label = "; ".join(
        f"{name}: {show_value(total, block.unit)}"
        for name, total in zip(block.bars, totals, strict=True)
    )
    return (
        f'<div class="plot bars" data-plot="{escape(key, quote=True)}" role="img" '
        f'aria-label="{escape(label, quote=True)}"></div>'
    )


def _log_plot(block: LogPlotBlock, key: str) -> str:
    label = f"{block.y_title} against {block.x_title} of {len(block.labels):,} points"
    return (
        f'<div class="plot logs" data-plot="{escape(key, quote=True)}" role="img" '
        f'aria-label="{escape(label, quote=True)}"></div>'
    )


def _scatter_plot(block: ScatterBlock, key: str) -> str:
    name = escape(key, quote=True)
    count = f"{len(block.labels):,} designs"
    axes = "".join(
        f'<label>{title} <select data-axis="{axis}"></select></label>'
        f'<label class="check"><input type="checkbox" data-log="{axis}"> log</label>'
        for axis, title in (("x", "horizontal"), ("y", "vertical"))
    )
    return (
        f'<div class="scatter" data-scatter="{name}"><form class="controls">{axes}'
        '<label>show design <input type="text" data-pick list="'
        f'{name}-names" size="12" autocomplete="off"></label>'
        f'<datalist id="{name}-names"></datalist></form>'
        f'<div class="split"><div class="plot points" data-plot="{name}" role="img" '
        f'aria-label="{count}"></div><aside class="panel" aria-live="polite" tabindex="0">'
        "<p>Choose a point, or type the name of a design, to see its parameters, figures and "
        'verdicts.</p></aside></div><p class="note" data-missing></p></div>'
    )
