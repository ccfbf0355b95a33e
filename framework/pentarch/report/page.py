"""The page around the blocks: head, contents, sections, script and data, in one string."""

import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any

from pentarch.contracts.report_section import Block, ReportSection
from pentarch.report.blocks import draw
from pentarch.results import StudyResult

GENERATOR = "pentarch report"
"""Content of the `generator` tag, by which a report is recognized."""

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'"
)
"""Content policy of the page: nothing may be loaded from anywhere."""


def page(
    result: StudyResult,
    drawn: Sequence[tuple[ReportSection, Sequence[Block]]],
    *,
    identity: str,
    plot_library: str,
) -> str:
    """Return the whole report as one HTML document.

    Args:
        result: What the report is about.
        drawn: Sections with their blocks, in order.
        identity: What tells this run from others; kept in a tag.
        plot_library: Source text of the plotting library.
    """
    plots: dict[str, Mapping[str, Any]] = {}
    contents, bodies = [], []
    for index, (section, blocks) in enumerate(drawn):
        anchor = f"section-{index}"
        parts = [
            draw(block, key=f"plot-{index}-{position}", plots=plots)
            for position, block in enumerate(blocks)
        ]
        contents.append(f'<li><a href="#{anchor}">{escape(section.title)}</a></li>')
        bodies.append(
            f'<section id="{anchor}"><h2>{escape(section.title)}</h2>{"".join(parts)}</section>'
        )
    title = f"{result.space} - pentarch"
    library = f"<script>{_script_text(plot_library)}</script>" if plots else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_POLICY)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="generator" content="{GENERATOR}">'
        f'<meta name="pentarch-run" content="{escape(identity)}">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{_asset('page.css')}</style></head>\n<body>"
        f"{_header(result)}"
        f'<nav aria-label="contents"><ul>{"".join(contents)}</ul></nav>'
        f"<main>{''.join(bodies)}</main>\n"
        f'<script type="application/json" id="plots">{embed_json(plots)}</script>\n'
        f"{library}\n<script>{_script_text(_asset('page.js'))}</script></body></html>\n"
    )


def embed_json(data: object) -> str:
    r"""Return `data` as JSON that cannot end the script element it stands in.

    Examples:
        >>> embed_json({"name": "</script>"})
        '{"name":"\\u003c/script\\u003e"}'
    """
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script_text(source: str) -> str:
    """Return JavaScript in which no string literal can end the script element."""
    return source.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _asset(name: str) -> str:
    return files("pentarch.report").joinpath(name).read_text(encoding="utf-8")


def _header(result: StudyResult) -> str:
    about = f"<p>{escape(result.about)}</p>" if result.about else ""
    facts = f"{result.n_trials:,} designs, {result.n_feasible:,} of them meet all five targets"
    return f"<header><h1>{escape(result.space)}</h1>{about}<p>{facts}</p></header>"
