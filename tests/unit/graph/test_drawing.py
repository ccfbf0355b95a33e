import itertools
import re
import time
from typing import Any
from xml.etree import ElementTree

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentarch.graph.build import build_graph
from pentarch.graph.drawing import frame_of, shape_of, to_svg
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.layout import isotonic, lay_out
from pentarch.graph.operators import Attention, Gather, Gemm, Phase, Vector
from pentarch.workload.query import Precisions, Query

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER = 12 * 0.6
"""Width of a character of 12 px in a fixed-width font."""


@pytest.fixture(scope="module")
def graph(make_llama: Any) -> WorkloadGraph:
    return built(make_llama(experts=(8, 2, 32), counts=(3,)))


def built(workload: Any, *, fold: bool = True) -> WorkloadGraph:
    return build_graph(
        workload, phase=Phase.PREFILL, query=Query(prompt_tokens=24), precisions=Precisions(),
        fold=fold,
    )  # fmt: skip


def boxes(text: str) -> dict[str, tuple[float, float, float, float]]:
    """Return left, top, right and bottom of the box of each operator, by the first line in it."""
    found = {}
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        if group.get("class") == "box":
            rectangle, name = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
            assert rectangle is not None
            assert name is not None
            left, top, width, height = (
                float(str(rectangle.get(key))) for key in ("x", "y", "width", "height")
            )
            found[str(name.text).split("  ")[0]] = (left, top, left + width, top + height)
    return found


@pytest.mark.parametrize("fold", [True, False])
def test_boxes_do_not_overlap_and_hold_their_text(make_llama: Any, fold: bool) -> None:
    graph = built(make_llama(experts=(8, 2, 32), counts=(3,)), fold=fold)
    text = to_svg(graph)
    drawn = boxes(text)
    assert set(drawn) == {operator.name for operator in graph.operators}
    for (left, top, right, bottom), other in itertools.combinations(drawn.values(), 2):
        apart = right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top
        assert apart
    root = ElementTree.fromstring(text)
    for group in root.iter(f"{SVG}g"):
        lines = [str(line.text) for line in group.iter(f"{SVG}text")]
        rectangle = group.find(f"{SVG}rect")
        if lines and rectangle is not None:
            assert max(map(len, lines)) * CHARACTER * 11 / 12 < float(str(rectangle.get("width")))
    width, height = float(str(root.get("width"))), float(str(root.get("height")))
    assert all(
        left >= 0 and right <= width and top >= 0 and bottom <= height
        for left, top, right, bottom in drawn.values()
    )


def test_every_edge_is_drawn_downward_with_its_tensor_on_hover(graph: WorkloadGraph) -> None:
    text = to_svg(graph)
    titles = []
    for group in ElementTree.fromstring(text).iter(f"{SVG}g"):
        if group.get("class") == "edge":
            title, line = group.find(f"{SVG}title"), group.find(f"{SVG}path")
            assert title is not None
            assert line is not None
            titles.append(str(title.text))
            heights = [float(y) for y in re.findall(r" (-?[\d.]+)(?=[CV]|$)", str(line.get("d")))]
            assert heights == sorted(heights)
    assert len(titles) == len(graph.edges)
    assert "lm_head to sampling\n1 x 1000 bf16, 2.00 kB" in titles
    drawn = boxes(text)
    assert all(drawn[source][3] < drawn[target][1] for source, target, _ in graph.edges)


def test_frames_hold_the_operators_of_their_layer_and_no_others(make_llama: Any) -> None:
    graph = built(make_llama(counts=(2,)), fold=False)
    text = to_svg(graph)
    drawn = boxes(text)
    frames = [
        (float(x), float(y), float(x) + float(width), float(y) + float(height))
        for x, y, width, height in re.findall(
            r'<rect class="frame" x="([\d.]+)" y="([\d.]+)" rx="8" width="([\d.]+)" '
            r'height="([\d.]+)"', text
        )
    ]  # fmt: skip
    assert len(frames) == 2
    labels = re.findall(r'class="frame-name"[^>]*>([^<]+)<', text)
    assert labels == ["group0 0", "group0 1"]
    for index, (left, top, right, bottom) in enumerate(frames):
        inside = {
            name for name, box in drawn.items()
            if left <= box[0] and box[2] <= right and top <= box[1] and box[3] <= bottom
        }  # fmt: skip
        assert inside == {
            operator.name for operator in graph.operators
            if frame_of(operator) == ("group0", index)
        }  # fmt: skip


def test_a_drawing_needs_nothing_else(graph: WorkloadGraph) -> None:
    text = to_svg(graph)
    assert re.findall(r"(?:href|src|url)\W", text) == ["url("] * len(graph.edges)
    assert set(re.findall(r"url\([^)]*\)", text)) == {"url(#tip)"}
    assert "<script" not in text


def test_names_are_escaped() -> None:
    odd = Vector(name="<a&b>", function="copy", values_in=1, values_out=1, format="bf16",
                 out_format="bf16")  # fmt: skip
    text = to_svg(
        WorkloadGraph.from_operators(
            [odd], [], workload='"x" & <y>', phase=Phase.DECODE, tokens=1, context=1
        )
    )
    assert set(boxes(text)) == {"<a&b>"}


def test_a_hundred_layers_one_by_one_take_little_time_and_no_more_width(make_llama: Any) -> None:
    few, many = (built(make_llama(counts=(count,)), fold=False) for count in (2, 100))
    start = time.perf_counter()
    text = to_svg(many)
    assert time.perf_counter() - start < 5.0

    def width(svg: str) -> float:
        return float(str(ElementTree.fromstring(svg).get("width")))

    # names are a digit longer, nothing else makes it wider
    assert width(text) < width(to_svg(few)) + 100


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (Gemm(name="o", rows=8, k=64, n=32, experts=4, experts_per_token=2, a_format="fp8",
              b_format="int4_g128", out_format="bf16"), "8 x 64 x 32 2 of 4 fp8*int4_g128"),
        (Attention(name="o", heads=8, kv_heads=2, head_dim=16, value_dim=16, query_tokens=4,
                   context=9, query_format="fp8", kv_format="fp8", out_format="bf16"),
         "4 of 9 keys, 8/2 heads of 16 fp8"),
        (Gather(name="o", function="embedding", values_in=4096, values_out=4096, format="bf16"),
         "4,096 values bf16"),
        (Vector(name="o", function="quantize", values_in=8, values_out=4, format="bf16",
                out_format="fp8"), "8 to 4 values bf16 to fp8"),
    ],
)  # fmt: skip
def test_a_shape_is_one_line(operator: Any, expected: str) -> None:
    assert shape_of(operator) == expected


@settings(max_examples=60, deadline=1000)
@given(st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)), max_size=30), st.data())
def test_layouts_keep_boxes_apart_and_edges_pointing_down(
    pairs: list[tuple[int, int]], data: st.DataObject
) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(map(str, range(12)))
    graph.add_edges_from((str(a), str(b)) for a, b in pairs if a < b)
    widths = {name: data.draw(st.floats(10, 200)) for name in graph}
    layout = lay_out(graph, widths, gap=20, passage=10)
    row_of = layout.row_of
    assert all(row_of[source] < row_of[target] for source, target in graph.edges)
    for row in layout.rows:
        for left, right in itertools.pairwise(row):
            half = (widths.get(left, 10) + widths.get(right, 10)) / 2  # type: ignore[call-overload]  # passages have no entry
            assert layout.center[right] - layout.center[left] >= half + 20 - 1e-6
    assert all(
        layout.center[name] - widths[name] / 2 >= -1e-6
        and layout.center[name] + widths[name] / 2 <= layout.width + 1e-6
        for name in graph
    )


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(1, 3)), min_size=1, max_size=5))
def test_isotonic_regression_is_the_least_squares_optimum(pairs: list[tuple[int, int]]) -> None:
    values, weights = [float(v) for v, _ in pairs], [float(w) for _, w in pairs]
    found = isotonic(values, weights)
    assert found == sorted(found)

    def loss(candidate: Any) -> float:
        return sum(w * (v - c) ** 2 for v, w, c in zip(values, weights, candidate, strict=True))

    # The optimum is constant on blocks, each at its weighted mean: try every way to cut blocks.
    best = min(
        loss(candidate)
        for cuts in itertools.product((False, True), repeat=len(values) - 1)
        if (candidate := _block_means(values, weights, cuts)) == sorted(candidate)
    )
    assert loss(found) == pytest.approx(best)


def _block_means(values: list[float], weights: list[float], cuts: Any) -> list[float]:
    edges = [0, *(index + 1 for index, cut in enumerate(cuts) if cut), len(values)]
    means = []
    for first, last in itertools.pairwise(edges):
        total = sum(weights[first:last])
        mean = sum(v * w for v, w in zip(values[first:last], weights[first:last], strict=True))
        means += [mean / total] * (last - first)
    return means
