"""The report file: one document that loads nothing, whole or absent, never over another run's."""

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pentarch.contracts.report_section import (
    BarBlock,
    Block,
    ReportSection,
    ScatterBlock,
    TableBlock,
    TextBlock,
    VerdictsBlock,
)
from pentarch.errors import InputError, PluginError
from pentarch.report.page import embed_json
from pentarch.report.writing import run_identity, write_evaluation_report, write_report
from pentarch.results import StudyResult

from .studies import evaluation, infeasible, study

VOID = {"meta", "link", "input", "br", "img", "hr"}
HOSTILE = '</script><img src="http://evil.example/x" onerror=alert(1)>'


class Verdicts(ReportSection):
    name = "verdicts"
    title = "Verdicts"
    order = 2

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        assert result.nearest is not None
        return [
            VerdictsBlock(title=result.space, verdicts=result.nearest.evaluation.targets),
            TextBlock(text=result.about),
        ]


class Plots(ReportSection):
    name = "plots"
    title = "Plots"
    order = 1

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        return [
            ScatterBlock(
                labels=(result.space, "b"), columns={"c": (1.0, 2.0)}, x="c", y="c",
                groups=("g", result.space),
            ),
            BarBlock(unit="J", bars=(result.space,), parts={result.space: (1.0,)}),
        ]  # fmt: skip


class Empty(ReportSection):
    name = "empty"
    title = "Nothing to say"

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        return []


class Broken(ReportSection):
    name = "broken"
    title = "Broken"

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        return [TextBlock(text=str(1 / (result.n_feasible * 0)))]


class Page(HTMLParser):
    """What a browser would see: elements in order, text outside scripts, and what is not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.data: dict[str, object] = {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            if self.elements[-1][1].get("type") == "application/json":
                self.data = json.loads(data)
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def read(path: Path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_report_is_one_file_that_loads_nothing(tmp_path: Path) -> None:
    path = write_report(
        study(), tmp_path / "deep" / "er" / "r.html", sections=[Verdicts(), Plots()]
    )
    assert [entry.name for entry in path.parent.iterdir()] == ["r.html"]
    page = read(path)
    for tag, attributes in page.elements:
        assert tag not in {"iframe", "img", "object", "embed", "base"}
        assert "src" not in attributes
        for value in (attributes.get("href"), attributes.get("action")):
            assert value is None or value.startswith("#") or value == "data:,"
    policy = next(a["content"] for t, a in page.elements if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    # What scripts and styles may do is bounded by that policy; styles must not even try.
    style = re.search(r"<style>(.*?)</style>", path.read_text(encoding="utf-8"), re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_report_with_plots_stays_small(tmp_path: Path) -> None:
    path = write_report(study(), tmp_path / "r.html", sections=[Plots()])
    assert 1e6 < path.stat().st_size < 5.5e6  # the plotting library is in it, once


def test_report_without_plots_leaves_the_plotting_library_out(tmp_path: Path) -> None:
    path = write_report(study(), tmp_path / "r.html", sections=[Verdicts()])
    assert path.stat().st_size < 1e5


def test_sections_come_in_their_order_and_empty_ones_are_left_out(tmp_path: Path) -> None:
    path = write_report(study(), tmp_path / "r.html", sections=[Verdicts(), Empty(), Plots()])
    text = read(path).text
    headings = ["Plots Verdicts", "Plots horizontal", "Verdicts edge-test"]
    assert [text.index(heading) for heading in headings] == sorted(map(text.index, headings))
    assert "Nothing to say" not in text


def test_verdict_cards_show_value_threshold_and_signed_margin(tmp_path: Path) -> None:
    text = read(write_report(study(), tmp_path / "r.html", sections=[Verdicts()])).text
    # By hand: (50 - 62.5) / 50 = -25 %; (5000 - 4000) / 5000 = +20 %; (2 - 1.5) / 2 = +25 %;
    # of (1.25 - 1) / 1 and (0.625 - 0.5) / 0.5, both +25 %, the first condition stands.
    for card in (
        "processing ✓ met 1.25 PFLOPS delivered at least 1.00 PFLOPS margin +25.0 %",
        "latency ✓ met 1.50 s query latency at most 2.00 s margin +25.0 %",
        "energy ✗ missed binding target 62.5 W/PFLOPS power per PFLOPS delivered at most "
        "50.0 W/PFLOPS margin -25.0 %",
        "cost ✓ met 4,000 USD system price at most 5,000 USD margin +20.0 %",
        "programmability ✓ met 95.0 % programmability score at least 90.0 % margin +5.56 %",
    ):
        assert card in text
    assert text.count("binding target") == 1
    assert "Assumption: 5,000 USD" in text


def test_unknown_figure_reads_unknown_and_names_its_supplier(tmp_path: Path) -> None:
    result = study(evaluation(system_usd=None))
    text = read(write_report(result, tmp_path / "r.html", sections=[Verdicts()])).text
    assert "cost ? unknown binding target unknown system price" in text
    assert "system_usd is unknown; it can be supplied by" in text


def test_infeasible_design_carries_its_arithmetic(tmp_path: Path) -> None:
    result = study(infeasible())
    text = read(write_report(result, tmp_path / "r.html", sections=[Verdicts()])).text
    assert text.count("weights need 16.1 GB, the board has 8.0 GB: 8.1 GB short") == 3
    assert text.count("⊘ infeasible") == 3


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    result = study(space=HOSTILE, about=HOSTILE)
    path = write_report(result, tmp_path / "r.html", sections=[Verdicts(), Plots()])
    page = read(path)
    assert "img" not in {tag for tag, _ in page.elements}
    assert HOSTILE in page.text
    plots = page.data
    assert HOSTILE in json.dumps(plots, ensure_ascii=False).replace('\\"', '"')
    assert "evil.example/x" not in re.sub(
        r"&lt;.*?&gt;|\\u003c.*?\\u003e", "", path.read_text("utf-8")
    )


def test_table_cells_and_verdict_columns_are_escaped(tmp_path: Path) -> None:
    class Table(ReportSection):
        name = "table"
        title = "Table"

        def blocks(self, result: StudyResult) -> Sequence[Block]:
            return [
                TableBlock(header=("<b>", "v"), rows=(("<i>", "met"), ("", "<u>")), verdicts=(1,))
            ]

    page = read(write_report(study(), tmp_path / "r.html", sections=[Table()]))
    assert {"b", "i", "u"}.isdisjoint({tag for tag, _ in page.elements})
    assert "<b> v <i> ✓ met <u>" in page.text


def test_embedded_json_survives_and_cannot_end_its_element() -> None:
    data = {"a": "</script><!--", "b": [1.5, None, "\u2028&"]}
    text = embed_json(data)
    assert json.loads(text) == data
    assert not set("<>&\u2028") & set(text)


def test_same_run_is_written_over_and_another_run_is_not(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(study(about="first"), path, sections=[Verdicts()])
    write_report(study(about="second"), path, sections=[Verdicts()])
    assert "second" in read(path).text
    with pytest.raises(InputError, match=r"report of another run .*edge-test\.sqlite 1.*--force"):
        write_report(study(run=2), path, sections=[Verdicts()])
    assert "second" in read(path).text
    write_report(study(run=2, about="third"), path, sections=[Verdicts()], replace=True)
    assert "third" in read(path).text


@pytest.mark.parametrize("content", ["my notes", "<!DOCTYPE html><title>pentarch report</title>"])
def test_what_is_no_report_is_not_written_over(tmp_path: Path, content: str) -> None:
    path = tmp_path / "r.html"
    path.write_text(content)
    with pytest.raises(InputError, match="is no pentarch report"):
        write_report(study(), path, sections=[Verdicts()])
    assert path.read_text() == content


def test_a_folder_is_refused_even_when_replacing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        write_report(study(), tmp_path, sections=[Verdicts()], replace=True)


def test_failing_section_leaves_the_old_report_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "r.html"
    write_report(study(), path, sections=[Verdicts()])
    before = path.read_bytes()
    with pytest.raises(PluginError, match=r"'broken'.*division by zero.*--no-plugin") as caught:
        write_report(study(), path, sections=[Verdicts(), Broken()])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_identity_hides_the_password_of_a_database() -> None:
    identity = run_identity(study(log="postgresql://ann:secret@db.example/runs", run=3))
    assert "secret" not in identity
    assert identity.endswith("runs 3")


def test_single_infeasible_evaluation_is_reported_with_its_reason(tmp_path: Path) -> None:
    path = write_evaluation_report([infeasible()], tmp_path / "r.html", sections=[Verdicts()])
    assert "8.1 GB short" in read(path).text


def test_no_evaluation_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one evaluation"):
        write_evaluation_report([], tmp_path / "r.html", sections=[Verdicts()])
