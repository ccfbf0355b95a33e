"""Scatter plots of predicted against measured figures, as SVG files that need nothing else."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from pentarch.validation.rows import ScoredRow

SIZE, MARGIN, LEGEND = 420, 56, 170
"""Pixels of the square plot, of the space for its labels, and of the legend beside it."""
COLORS = ("#1b6ca8", "#d1495b", "#3a7d44", "#e09f3e", "#6a4c93", "#2a9d8f", "#8d6b4b", "#5c6370",
          "#c05299", "#7a9e1f")  # fmt: skip
"""One for each device, in turn."""
BAND = 1.25
"""Predictions within this factor lie between the dotted lines."""
UNITS: Mapping[str, str] = {
    "throughput": "tokens/s", "power": "W", "energy": "J", "traffic": "B",
}  # fmt: skip
"""Unit by metric; seconds for all others."""


def write_scatters(rows: Iterable[ScoredRow], folder: Path) -> tuple[Path, ...]:
    """Write one plot for every file, operator and metric, and return the files.

    Only reference columns are drawn; rows of several software stacks would cover each other.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[tuple[str, str, str], list[ScoredRow]] = {}
    for row in rows:
        if (
            row.predicted > 0
            and row.measured > 0
            and not (row.framework and row.operator != "query")
        ):
            groups.setdefault((row.file, row.operator, row.metric), []).append(row)
    written = []
    for (file, operator, metric), members in sorted(groups.items()):
        path = folder / f"{Path(file).stem}-{operator}-{metric}.svg"
        title = f"{file}: {operator}, {metric}"
        path.write_text(
            scatter(members, title=title, unit=UNITS.get(metric, "s")), encoding="utf-8"
        )
        written.append(path)
    return tuple(written)


def scatter(rows: Sequence[ScoredRow], *, title: str, unit: str) -> str:
    """Return an SVG of predictions over measurements on logarithmic axes, a color for each device.

    Args:
        rows: At least one, all of positive figures.
        title: Heading.
        unit: Unit of both axes.
    """
    values = [value for row in rows for value in (row.measured, row.predicted)]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)

    def at(value: float) -> float:
        return MARGIN + (math.log10(value) - low) / (high - low) * SIZE

    parts = [*_frame(title, unit, range(low, high + 1), at)]
    devices = sorted({row.device for row in rows})
    colors = {name: COLORS[index % len(COLORS)] for index, name in enumerate(devices)}
    bottom = 2 * MARGIN + SIZE
    for row in rows:
        opacity = 0.35 if row.subset == "flagged" else 0.65
        parts.append(
            f'<circle cx="{at(row.measured):.1f}" cy="{bottom - at(row.predicted):.1f}" r="2.4" '
            f'fill="{colors[row.device]}" fill-opacity="{opacity}"><title>{escape(row.label)}</title>'
            "</circle>"
        )
    for index, name in enumerate(devices):
        y = MARGIN + 14 + 18 * index
        x = MARGIN + SIZE + 16
        parts.append(f'<circle cx="{x}" cy="{y - 4}" r="4" fill="{colors[name]}"/>')
        parts.append(f'<text x="{x + 10}" y="{y}">{escape(name or "all rows")}</text>')
    width = MARGIN + SIZE + LEGEND
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}" '
        f'viewBox="0 0 {width} {bottom}" font-family="sans-serif" font-size="12" role="img">'
        f'<rect width="{width}" height="{bottom}" fill="#ffffff"/>' + "".join(parts) + "</svg>\n"
    )


def _frame(title: str, unit: str, decades: range, at: Callable[[float], float]) -> Iterable[str]:
    bottom, right = MARGIN + SIZE, MARGIN + SIZE
    yield f"<title>{escape(title)}</title>"
    yield f'<text x="{MARGIN}" y="{MARGIN - 20}" font-size="14">{escape(title)}</text>'
    low, high = 10.0 ** decades[0], 10.0 ** decades[-1]
    turned = 2 * MARGIN + SIZE
    for decade in decades:
        place = at(10.0**decade)
        yield f'<path d="M{place:.1f} {MARGIN}V{bottom}M{MARGIN} {turned - place:.1f}H{right}" stroke="#ddd"/>'
        yield f'<text x="{place:.1f}" y="{bottom + 18}" text-anchor="middle">1e{decade}</text>'
        yield f'<text x="{MARGIN - 6}" y="{turned - place + 4:.1f}" text-anchor="end">1e{decade}</text>'
    for factor, dash in ((1.0, ""), (BAND, "3 3"), (1.0 / BAND, "3 3")):
        start, end = (low, high / factor) if factor >= 1 else (low / factor, high)
        yield (
            f'<line x1="{at(start):.1f}" y1="{turned - at(start * factor):.1f}" x2="{at(end):.1f}" '
            f'y2="{turned - at(end * factor):.1f}" stroke="#333" stroke-dasharray="{dash}"/>'
        )
    middle = MARGIN + SIZE / 2
    yield f'<text x="{middle}" y="{bottom + 38}" text-anchor="middle">measured, {unit}</text>'
    yield (
        f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})">'
        f"predicted, {unit}</text>"
    )
