"""A workload graph as an SVG picture that needs nothing else: one box per operator, top to bottom.

Colors are kinds of operators. A frame holds the operators of one layer, or of all layers that a
folded graph stands for. The pointer over a box or edge shows its figures in full.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from types import MappingProxyType

from pentarch.graph.graph import WorkloadGraph, operator_flops, operator_parameters
from pentarch.graph.layout import Layout, Place, lay_out
from pentarch.graph.operators import (
    Attention,
    Collective,
    Gemm,
    Operator,
    OperatorKind,
    Tensor,
    Vector,
)
from pentarch.units import show

COLORS = MappingProxyType(
    {
        OperatorKind.GEMM: ("#dbe9fb", "#2b6cb0"),
        OperatorKind.ATTENTION: ("#fde6cf", "#c05621"),
        OperatorKind.VECTOR: ("#e3f3e1", "#3c7a3a"),
        OperatorKind.GATHER: ("#ece6f6", "#6b46c1"),
        OperatorKind.COLLECTIVE: ("#fbe0e4", "#b83256"),
    }
)
"""Fill and outline by kind of operator."""

_CHARACTER = 7.4
"""Width of a character of 12 px in any common fixed-width font, 0.6 em, and a little."""
_SMALL = 6.8
"""The same of 11 px."""
_BOX_HEIGHT = 46.0
_PADDING = 12.0
_ROW_GAP = 30.0
_BOX_GAP = 26.0
_PASSAGE = 10.0
_MARGIN = 28.0
_HEAD = 74.0
_FRAME_PADDING = 16.0
_FRAME_HEAD = 30.0
_LEGEND_SWATCH = 14.0
_STYLE = """\
text{font-family:ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;fill:#1a202c}
.name{font-size:12px;font-weight:600}.shape{font-size:11px;fill:#4a5568}
.title{font-size:16px;font-weight:600}.about{font-size:12px;fill:#4a5568}
.frame{fill:#f7fafc;stroke:#718096;stroke-dasharray:5 4}.frame-name{font-size:12px;fill:#4a5568}
.line{fill:none;stroke:#718096;stroke-width:1.3}.hit{fill:none;stroke:#000;stroke-opacity:0;stroke-width:10}
.edge:hover .line{stroke:#c53030;stroke-width:2.4}.box:hover rect{stroke-width:2.6}
"""


def to_svg(graph: WorkloadGraph) -> str:
    """Return the graph as SVG text."""
    boxes = {operator.name: _lines(operator) for operator in graph.operators}
    widths = {name: _width(lines) for name, lines in boxes.items()}
    layout = lay_out(graph.networkx, widths, gap=_BOX_GAP, passage=_PASSAGE)
    sheet = _sheet(graph, layout, widths)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{sheet.width:.0f}" '
        f'height="{sheet.height:.0f}" viewBox="0 0 {sheet.width:.0f} {sheet.height:.0f}">',
        f"<title>{escape(f'{graph.workload}, {graph.phase}')}</title>",
        f"<style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0 8 4 0 8z" fill="#718096"/></marker></defs>',
        f'<rect width="{sheet.width:.0f}" height="{sheet.height:.0f}" fill="#fff"/>',
        *_head(graph),
        *(_frame(frame, sheet) for frame in sheet.frames),
        *_edges(graph, sheet),
        *(_box(operator, boxes[operator.name], sheet) for operator in graph.operators),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def shape_of(operator: Operator) -> str:
    """Return the dimensions of an operator as one line, for one sequence.

    Examples:
        >>> shape_of(Gemm(name="o", rows=8, k=64, n=32, a_format="fp8", b_format="fp8",
        ...               out_format="bf16"))
        '8 x 64 x 32 fp8'
    """
    if isinstance(operator, Gemm):
        formats = operator.b_format
        if operator.a_format != operator.b_format:
            formats = f"{operator.a_format}*{operator.b_format}"
        experts = f" {operator.experts_per_token} of {operator.experts}" if operator.experts else ""
        batch = f"{operator.batch} of " if operator.batch > 1 else ""
        return f"{batch}{operator.rows} x {operator.k} x {operator.n}{experts} {formats}"
    if isinstance(operator, Attention):
        heads = f"{operator.heads}/{operator.kv_heads} heads of {operator.head_dim}"
        seen = f"{operator.query_tokens} of {operator.context} keys"
        if operator.window is not None:
            seen += f" (last {operator.window})"
        if operator.chunk is not None:
            seen += f" (chunks of {operator.chunk})"
        return f"{seen}, {heads} {operator.kv_format}"
    if isinstance(operator, Collective):
        return f"{operator.values:,.0f} values, {operator.degree} devices {operator.format}"
    values = f"{operator.values_in:,.0f}"
    if operator.values_in != operator.values_out:
        values += f" to {operator.values_out:,.0f}"
    formats = operator.format
    if isinstance(operator, Vector) and operator.out_format != operator.format:
        formats += f" to {operator.out_format}"
    return f"{values} values {formats}"


def frame_of(operator: Operator) -> tuple[str, int | None] | None:
    """Return layer group and index of the layer that an operator belongs to, `None` outside layers.

    The index is `None` in a folded graph, where a frame stands for all layers of the group.
    """
    if not operator.layer:
        return None
    end = operator.name.rsplit(".", 1)[-1]
    return operator.layer, int(end) if end.isdecimal() else None


@dataclass(frozen=True, slots=True)
class _Frame:
    label: str
    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class _Sheet:
    layout: Layout
    widths: Mapping[str, float]
    tops: Sequence[float]
    """Upper edge of the boxes of each row."""
    row_of: Mapping[Place, int]
    frames: Sequence[_Frame]
    width: float
    height: float
    shift: float
    """What is added to every horizontal position of the layout."""

    def center(self, place: Place) -> float:
        return self.layout.center[place] + self.shift

    def top(self, place: Place) -> float:
        return self.tops[self.row_of[place]]


def _sheet(graph: WorkloadGraph, layout: Layout, widths: Mapping[str, float]) -> _Sheet:
    row_of = layout.row_of
    members: dict[tuple[str, int | None], list[Operator]] = {}
    for operator in graph.operators:
        frame = frame_of(operator)
        if frame is not None:
            members.setdefault(frame, []).append(operator)
    spans = {
        frame: (min(row_of[one.name] for one in inside), max(row_of[one.name] for one in inside))
        for frame, inside in members.items()
    }
    tops = _tops(len(layout.rows), spans.values())
    shift = _MARGIN + _FRAME_PADDING
    frames = [
        _frame_box(frame, members[frame], span=spans[frame], layout=layout, widths=widths,
                   tops=tops, shift=shift)
        for frame in members
    ]  # fmt: skip
    head = max(len(_about(graph)) * _CHARACTER, _legend_width())
    width = max(layout.width + 2 * shift, head + 2 * _MARGIN,
                *(frame.right + _MARGIN for frame in frames), 0.0)  # fmt: skip
    height = (tops[-1] if tops else _HEAD) + _BOX_HEIGHT + _FRAME_PADDING + _MARGIN
    spare = (width - layout.width - 2 * shift) / 2
    moved = [_Frame(f.label, f.left + spare, f.top, f.right + spare, f.bottom) for f in frames]
    return _Sheet(layout=layout, widths=widths, tops=tops, row_of=row_of, frames=moved,
                  width=width, height=height, shift=shift + spare)  # fmt: skip


def _tops(rows: int, spans: Collection[tuple[int, int]]) -> list[float]:
    """Return the upper edges of the rows, with room for the head and foot of frames."""
    firsts, lasts = {first for first, _ in spans}, {last for _, last in spans}
    tops: list[float] = []
    at = _MARGIN + _HEAD
    for row in range(rows):
        if row in firsts:
            at += _FRAME_HEAD
        tops.append(at)
        at += _BOX_HEIGHT + _ROW_GAP
        if row in lasts:
            at += _FRAME_PADDING
    return tops


def _frame_box(
    frame: tuple[str, int | None], inside: Sequence[Operator], *, span: tuple[int, int],
    layout: Layout, widths: Mapping[str, float], tops: Sequence[float], shift: float,
) -> _Frame:  # fmt: skip
    names = {operator.name for operator in inside}
    first, last = span
    edges: list[float] = []
    for row in layout.rows[first : last + 1]:
        for place in row:
            own = place if isinstance(place, str) else place[1]
            if own in names:
                half = (widths[place] if isinstance(place, str) else _PASSAGE) / 2
                edges += [layout.center[place] - half, layout.center[place] + half]
    group, index = frame
    repeat = max(operator.repeat for operator in inside)
    label = f"{group} {index}" if index is not None else f"{group}, {repeat} layers"
    left = min(edges) + shift - _FRAME_PADDING
    right = max(max(edges) + shift + _FRAME_PADDING,
                left + len(label) * _CHARACTER + 2 * _PADDING)  # fmt: skip
    top = tops[first] - _FRAME_HEAD
    return _Frame(label, left, top, right, tops[last] + _BOX_HEIGHT + _FRAME_PADDING)


def _frame(frame: _Frame, sheet: _Sheet) -> str:
    return (
        f'<rect class="frame" x="{frame.left:.1f}" y="{frame.top:.1f}" rx="8" '
        f'width="{frame.right - frame.left:.1f}" height="{frame.bottom - frame.top:.1f}"/>'
        f'<text class="frame-name" x="{frame.left + _PADDING:.1f}" y="{frame.top + 19:.1f}">'
        f"{escape(frame.label)}</text>"
    )


def _head(graph: WorkloadGraph) -> Iterator[str]:
    yield f'<text class="title" x="{_MARGIN}" y="{_MARGIN + 8}">{escape(graph.workload)}</text>'
    yield f'<text class="about" x="{_MARGIN}" y="{_MARGIN + 28}">{escape(_about(graph))}</text>'
    at = _MARGIN
    for kind, (fill, stroke) in COLORS.items():
        if kind is OperatorKind.COLLECTIVE:
            continue  # a workload graph has none before it is cut
        yield (
            f'<rect x="{at:.1f}" y="{_MARGIN + 40}" width="{_LEGEND_SWATCH}" '
            f'height="{_LEGEND_SWATCH}" rx="3" fill="{fill}" stroke="{stroke}"/>'
            f'<text class="about" x="{at + 20:.1f}" y="{_MARGIN + 51}">{kind.value}</text>'
        )
        at += _legend_step(kind)


def _legend_step(kind: OperatorKind) -> float:
    return 20 + len(kind.value) * _CHARACTER + 22


def _legend_width() -> float:
    return sum(_legend_step(kind) for kind in COLORS if kind is not OperatorKind.COLLECTIVE)


def _about(graph: WorkloadGraph) -> str:
    tokens = "1 token" if graph.tokens == 1 else f"{graph.tokens:,} tokens"
    return (
        f"{graph.phase}: {tokens}, context {graph.context:,}; per sequence "
        f"{show(float(graph.flops), 'FLOP')}, {show(float(graph.parameters), '')} parameters"
    )


def _lines(operator: Operator) -> tuple[str, str]:
    name = operator.name if operator.repeat == 1 else f"{operator.name}  x{operator.repeat}"
    return name, shape_of(operator)


def _width(lines: tuple[str, str]) -> float:
    return max(len(lines[0]) * _CHARACTER, len(lines[1]) * _SMALL) + 2 * _PADDING


def _box(operator: Operator, lines: tuple[str, str], sheet: _Sheet) -> str:
    fill, stroke = COLORS[operator.kind]
    width, middle = sheet.widths[operator.name], sheet.center(operator.name)
    top = sheet.top(operator.name)
    return (
        f'<g class="box"><title>{escape(_box_title(operator))}</title>'
        f'<rect x="{middle - width / 2:.1f}" y="{top:.1f}" width="{width:.1f}" '
        f'height="{_BOX_HEIGHT:.0f}" rx="5" fill="{fill}" stroke="{stroke}"/>'
        f'<text class="name" text-anchor="middle" x="{middle:.1f}" y="{top + 19:.1f}" '
        f'xml:space="preserve">{escape(lines[0])}</text>'
        f'<text class="shape" text-anchor="middle" x="{middle:.1f}" y="{top + 36:.1f}">'
        f"{escape(lines[1])}</text></g>"
    )


def _box_title(operator: Operator) -> str:
    function = getattr(operator, "function", None)
    lines = [operator.name, f"kind: {operator.kind}" + (f", {function}" if function else "")]
    lines.append(f"each: {show(float(operator_flops(operator)), 'FLOP')}, "
                 f"{operator_parameters(operator):,} parameters")  # fmt: skip
    lines.append(f"times: {operator.repeat}")
    lines.append(f"tensor parallelism cuts: {operator.split}")
    return "\n".join(lines)


def _edges(graph: WorkloadGraph, sheet: _Sheet) -> Iterator[str]:
    ports = _ports(graph, sheet)
    for source, target, tensor in graph.edges:
        path = _path(source, target, sheet, ports)
        yield (
            f'<g class="edge"><title>{escape(_edge_title(source, target, tensor))}</title>'
            f'<path class="line" marker-end="url(#tip)" d="{path}"/><path class="hit" d="{path}"/></g>'
        )


def _edge_title(source: str, target: str, tensor: Tensor) -> str:
    shape = " x ".join(str(size) for size in tensor.shape)
    return f"{source} to {target}\n{shape} {tensor.format}, {show(tensor.bytes, 'B')}"


def _chain(source: str, target: str, sheet: _Sheet) -> list[Place]:
    rows = sheet.row_of
    between = range(rows[source] + 1, rows[target])
    return [source, *((source, target, row) for row in between), target]


def _ports(graph: WorkloadGraph, sheet: _Sheet) -> dict[tuple[str, str, bool], float]:
    """Return where edges leave and enter boxes: side by side, in the order of their next places."""
    leaving: dict[str, list[tuple[float, str, str]]] = {}
    entering: dict[str, list[tuple[float, str, str]]] = {}
    for source, target, _ in graph.edges:
        chain = _chain(source, target, sheet)
        leaving.setdefault(source, []).append((sheet.center(chain[1]), source, target))
        entering.setdefault(target, []).append((sheet.center(chain[-2]), source, target))
    ports: dict[tuple[str, str, bool], float] = {}
    for is_exit, sides in ((True, leaving), (False, entering)):
        for name, edges in sides.items():
            edges.sort()
            step = min(28.0, (sheet.widths[name] - 2 * _PADDING) / len(edges))
            for index, (_, source, target) in enumerate(edges):
                at = sheet.center(name) + (index - (len(edges) - 1) / 2) * step
                ports[source, target, is_exit] = at
    return ports


def _path(
    source: str, target: str, sheet: _Sheet, ports: Mapping[tuple[str, str, bool], float]
) -> str:
    x, y = ports[source, target, True], sheet.top(source) + _BOX_HEIGHT
    text = f"M{x:.1f} {y:.1f}"
    for place in _chain(source, target, sheet)[1:]:
        is_end = place == target
        next_x = ports[source, target, False] if is_end else sheet.center(place)
        next_y = sheet.top(place)
        bend = (next_y - y) / 2
        if abs(next_x - x) < 0.05:
            text += f"V{next_y:.1f}"
        else:
            text += f"C{x:.1f} {y + bend:.1f} {next_x:.1f} {next_y - bend:.1f} {next_x:.1f} {next_y:.1f}"
        x, y = next_x, next_y
        if not is_end:
            y = next_y + _BOX_HEIGHT
            text += f"V{y:.1f}"
    return text
