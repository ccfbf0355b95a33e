import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pentarch.validation.rows import ScoredRow
from pentarch.validation.scatter import scatter, write_scatters


def row(predicted: float, measured: float, device: str = "d", **more: str) -> ScoredRow:
    return ScoredRow(
        label="<a & b>", file="f.csv", device=device, operator="gemm", metric="latency",
        precision="bf16", subset="main", predicted=predicted, measured=measured, **more,  # type: ignore[arg-type]  # texts only
    )  # fmt: skip


def circles(svg: str) -> list[tuple[float, float]]:
    found = re.findall(r'<circle cx="([0-9.]+)" cy="([0-9.]+)" r="2.4"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_a_plot_is_xml_with_a_point_for_each_row() -> None:
    svg = scatter([row(1e-3, 1e-3), row(2e-3, 1e-3, "e")], title="a < b", unit="s")
    ElementTree.fromstring(svg)
    assert len(circles(svg)) == 2
    assert "measured, s" in svg


def test_points_lie_where_their_figures_say() -> None:
    svg = scatter([row(1e-3, 1e-3), row(1e-1, 1e-3), row(1e-2, 1e-1)], title="t", unit="s")
    (x0, y0), (x1, y1), (x2, y2) = circles(svg)
    assert x0 == x1
    assert y0 - y1 == pytest.approx(2 * (x2 - x0) / 2, abs=0.2)  # two decades up, two to the right
    assert (y0 - y2) == pytest.approx((y0 - y1) / 2, abs=0.2)


def test_one_file_for_each_operator_and_metric_of_reference_columns(tmp_path: Path) -> None:
    rows = [row(1, 1), row(2, 1, framework="vllm")]
    (path,) = write_scatters(rows, tmp_path / "new" / "folder")
    assert path.name == "f-gemm-latency.svg"
    assert len(circles(path.read_text())) == 1
