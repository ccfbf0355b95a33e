"""The built-in report sections, as data."""

import pytest
from tests.unit.report.studies import TOO_BIG, evaluation, infeasible, operator, study

from pentarch.contracts.report_section import (
    BarBlock,
    LogPlotBlock,
    ReportSection,
    ScatterBlock,
    TableBlock,
    TextBlock,
    VerdictsBlock,
)
from pentarch.report.comparison import as_study
from pentarch.results import AmountEntry, Bounds, Fusion, Refetch, StudyResult, WattsPerPflops
from pentarch_report.answer import AnswerSection
from pentarch_report.breakdowns import BreakdownSection
from pentarch_report.designs import DesignsSection
from pentarch_report.operators import OperatorsSection
from pentarch_report.plugin import register_report_sections
from pentarch_report.provenance import ProvenanceSection
from pentarch_report.roofline import RooflineSection

COOL = WattsPerPflops(delivered=40.0, peak=50.0)


def table(section: ReportSection, result: StudyResult, title: str) -> TableBlock:
    return next(
        block
        for block in section.blocks(result)
        if isinstance(block, TableBlock) and block.title.startswith(title)
    )


def bars(result: StudyResult, title: str) -> BarBlock:
    return next(
        block
        for block in BreakdownSection().blocks(result)
        if isinstance(block, BarBlock) and block.title.startswith(title)
    )


def scatter(result: StudyResult) -> ScatterBlock:
    (block,) = DesignsSection().blocks(result)
    assert isinstance(block, ScatterBlock)
    return block


def test_hook_hands_over_sections_with_distinct_names_and_orders() -> None:
    sections = list(register_report_sections())
    assert [section.name for section in sorted(sections, key=lambda section: section.order)] == [
        "answer", "designs", "breakdowns", "roofline", "operators", "provenance",
    ]  # fmt: skip


def test_answer_leads_with_the_best_design_when_there_is_one() -> None:
    result = study(passing=evaluation(w_per_pflops=COOL))
    (alone, *_), (among, *_) = (
        AnswerSection().blocks(found) for found in (result, result.replace(n_feasible=2))
    )
    assert isinstance(alone, TextBlock)
    assert isinstance(among, TextBlock)
    assert alone.text == (
        "Trial 3 alone of 4 designs meets all five targets; its energy per query is 1.83 J."
    )
    assert among.text == (
        "Trial 3 meets all five targets and has the best energy per query of the 2 designs that "
        "do: 1.83 J."
    )


def test_answer_leads_with_why_not_otherwise() -> None:
    blocks = AnswerSection().blocks(study())
    assert isinstance(blocks[0], TextBlock)
    assert blocks[0].text.startswith("None of 3 designs meets all five targets. The nearest is")
    cards = [block for block in blocks if isinstance(block, VerdictsBlock)]
    assert [block.title for block in cards] == ["nearest (trial 0)"]


def test_best_and_nearest_stand_side_by_side_when_they_differ() -> None:
    result = study(passing=evaluation(w_per_pflops=COOL, query_j=0.5))
    found = table(AnswerSection(), result, "Figures")
    assert found.header == ("figure", "best (trial 3)", "nearest (trial 0)", "asked")
    assert ("energy per query", "500 mJ", "1.83 J", "") in found.rows
    assert ("bill of material", "unknown", "unknown", "") in found.rows
    assert ("system price", "4,000 USD", "4,000 USD", "at most 5,000 USD") in found.rows


def test_each_target_is_counted_alone() -> None:
    found = table(AnswerSection(), study(), "Each target")
    # Two designs run and miss energy by -25 %; of prices 4000, 3000 and 4000, 3000 leaves most.
    assert ("energy", "0", "2", "0", "1", "-25.0 %", "trial 0") in found.rows
    assert ("cost", "3", "0", "0", "0", "+40.0 %", "trial 1") in found.rows


def test_reasons_that_differ_in_numbers_only_are_counted_together() -> None:
    other = infeasible().replace(reason=TOO_BIG.replace("16.1", "32.2"))
    found = table(AnswerSection(), study(evaluation(), infeasible(), other), "Why designs")
    assert found.rows == (("2", f"trial 1: {TOO_BIG}"),)


def test_scatter_offers_figures_margins_and_numeric_parameters() -> None:
    block = scatter(study())
    assert (block.x, block.y) == ("query_j", "system_usd")
    assert block.columns["query_j"] == (1.83, 2.5, None)
    assert block.columns["lanes"] == (0.0, 64.0, 128.0)
    assert block.texts["memory"] == ("hbm3e",) * 3
    assert block.columns["margin.energy"] == (-0.25, -0.25, None)
    assert block.units["mfu.query"] == "%"
    # Cost and programmability are met even by the design that cannot run.
    assert block.groups == ("4 of 5 targets met", "4 of 5 targets met", "2 of 5 targets met")
    assert block.texts["ruled out because"][2] == TOO_BIG
    assert block.marks["nearest"] == (0,)


def test_scatter_draws_thresholds_of_the_study() -> None:
    from_verdicts = scatter(study()).thresholds
    assert from_verdicts["system_usd"] == 5000.0
    own = scatter(study(settings={"targets": {"query_mfu": 0.3}})).thresholds
    assert own["mfu.query"] == 0.3
    # No verdict names the time of an update, and yet it is a condition.
    assert own["update_s"] == 3600.0


def test_every_condition_of_the_study_is_asked_of_the_figures() -> None:
    result = study(settings={"targets": {"query_mfu": 0.3}})
    found = table(AnswerSection(), result, "Figures")
    asked = {row[0]: row[-1] for row in found.rows if row[-1]}
    assert asked["query MFU"] == "more than 30.0 %"
    assert asked["time of an update"] == "at most 3,600 s"
    assert len(asked) == 7


def test_scatter_of_many_designs_keeps_front_and_nearest_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("pentarch_report.designs.POINTS", 10)
    found = [evaluation(query_j=1.0 + number) for number in range(40)]
    result = study(*found)
    result = result.replace(front=(result.trials[0], result.trials[33]))
    block = scatter(result)
    assert {"trial 0", "trial 33"} <= set(block.labels)
    assert len(block.labels) <= 11
    assert f"{len(block.labels)} of 40 designs are drawn" in block.note


def test_no_plot_is_explained_when_nothing_ran() -> None:
    (block,) = DesignsSection().blocks(
        study(infeasible().replace(system_usd=None), nearest=None, front=())
    )
    assert isinstance(block, TextBlock)


def test_energy_breakdown_names_unknown_components_instead_of_drawing_zero() -> None:
    block = bars(study(), "Energy of one query by component")
    assert block.parts["DRAM"] == (1.0,)
    assert block.note == "Unknown in nearest (trial 0), and missing from its bar: NIC."


def test_time_of_operators_sums_to_the_total_with_the_rest_in_the_note() -> None:
    many = tuple(operator(f"op{index}", 0.1 * (index + 1)) for index in range(14))
    block = bars(study(evaluation(operators=many)), "Time by operator")
    # The two fastest, 0.1 s and 0.2 s, are left out.
    assert block.bars[0] == "op13 (decode)"
    assert len(block.bars) == 12
    assert "2 further operators take 300 ms" in block.note
    assert sum(block.parts["bound by DRAM"]) == pytest.approx(sum(range(3, 15)) * 0.1)


def test_memory_capacity_is_a_note_and_no_part() -> None:
    block = bars(study(), "Memory")
    assert set(block.parts) == {"weights", "KV cache"}
    assert "8.00 GB" in block.note


def test_operators_come_slowest_first_with_their_share() -> None:
    found = table(OperatorsSection(), study(), "Operators")
    # 0.9 s and 0.6 s of 1.5 s
    assert [(row[0], row[2], row[3], row[4]) for row in found.rows] == [
        ("mlp", "60.0 %", "DRAM", "compute"),
        ("attention", "40.0 %", "exp", "compute"),
    ]


def test_decisions_say_how_an_operator_runs_and_what_its_traffic_lacks() -> None:
    known = operator("mlp", 0.9).replace(
        headroom=3.0, mapping={"tile": "m 128 k 64 n 256", "split": 4.0},
        bounds=Bounds(
            time_s=0.06, level="DRAM", time_gap=0.5, compulsory_bytes=2e6, moved_bytes=3e6,
            bytes_gap=0.5,
        ),
        fusion=Fusion(fused=True, reason="rides on a neighbor"),
        next_refetch=Refetch(level="SRAM", capacity_bytes=2e6, now_bytes=1e6, saved_bytes=5e5),
    )  # fmt: skip
    result = study(evaluation(operators=(known, operator("bare", 0.1))))
    decisions = table(OperatorsSection(), result, "Decisions")

    assert decisions.rows == (
        (
            "mlp", "decode", "tile m 128 k 64 n 256, split 4", "yes", "rides on a neighbor", "3.00 MB",
            "50.0 %", "SRAM of 2.00 MB, has 1.00 MB; saves 500 kB",
        ),
        ("bare", "decode", "unknown", "never", "", "unknown", "none", "none"),
    )  # fmt: skip
    times = table(OperatorsSection(), result, "Operators")
    assert [(row[5], row[8]) for row in times.rows] == [("3", "50.0 %"), ("none", "none")]


def test_ledgers_of_energy_and_price_are_bars_of_their_amounts() -> None:
    def entry(name: str, share: float) -> AmountEntry:
        return AmountEntry(name=name, share=share, amount=share * 200.0)

    energy = (
        entry("useful", 0.6),
        entry("static", 0.396),
        entry("norms", 0.003),
        entry("x", 0.001),
    )
    cost = (entry("die", 1.1), entry("margin", -0.1))
    result = study(evaluation(energy_ledger=energy, cost_ledger=cost))

    parts = bars(result, "Where the energy of one query goes").parts
    assert {name: values[0] for name, values in parts.items()} == pytest.approx(
        {"useful": 120.0, "static": 79.2, "smaller parts": 0.8}
    )
    price = bars(result, "What the price of the system pays for")
    assert {name: values[0] for name, values in price.parts.items()} == pytest.approx(
        {"die": 220.0, "margin": 0.0}
    )
    assert price.note == "Below zero in nearest (trial 0), and missing from its bar: margin."


def test_share_of_operators_counts_a_prefill_for_every_query_in_flight() -> None:
    # 64 prefills of 0.01 s against decode steps of 0.36 s: 0.64 of 1.00.
    prefill = operator("mlp", 0.01).replace(phase="prefill", busy_s=0.64)
    decode = operator("attention", 0.36).replace(busy_s=0.36)
    result = study(evaluation(operators=(decode, prefill)))
    found = table(OperatorsSection(), result, "Operators")
    assert [(row[0], row[1], row[2]) for row in found.rows] == [
        ("mlp", "prefill", "64.0 %"),
        ("attention", "decode", "36.0 %"),
    ]
    assert bars(result, "Time by operator").parts == {"bound by DRAM": (0.64, 0.36)}


def test_roofline_places_operators_under_the_roofs_of_their_device() -> None:
    idle = operator("norm", 0.5).replace(executed_macs=0.0)
    (block,) = RooflineSection().blocks(study(evaluation(operators=(operator("mlp", 0.9), idle))))
    assert isinstance(block, LogPlotBlock)
    # 1e9 MACs in 0.09 s on 1e6 bytes read and 1e3 written; 0.9 s of 1.4 s are drawn.
    assert block.labels == ("mlp",)
    assert block.x == pytest.approx((2e9 / 1.001e6,))
    assert block.y == pytest.approx((2e9 / 0.09,))
    assert block.weights == pytest.approx((0.9 / 1.4,))
    assert block.groups == ("decode",)
    assert "1 operators" in block.note
    assert "35.7 % of the time" in block.note
    # fp8 5e14 / 1e11 = 5000 FLOP/byte; the bf16 roof is half as high and drawn lighter.
    assert block.callouts == {"ridge 5.00 kFLOP/byte": (5000.0, 5e14)}
    slope, main, other = block.lines
    assert slope.y[0] / slope.x[0] == pytest.approx(1e11)
    assert (slope.x[1], slope.y[1]) == (5000.0, 5e14)
    assert (main.y, main.dashed) == ((5e14, 5e14), False)
    assert (other.x[0], other.y[0], other.dashed) == (2500.0, 2.5e14, True)


def test_no_roofline_where_nothing_multiplies() -> None:
    idle = operator("norm", 0.5).replace(executed_macs=0.0)
    assert list(RooflineSection().blocks(study(evaluation(operators=(idle,))))) == []


def test_comparison_shows_all_its_designs_by_system() -> None:
    result = as_study([evaluation(), evaluation(system="8xnpu"), evaluation(system="2xnpu")])
    names = ["4xnpu (trial 0)", "8xnpu (trial 1)", "2xnpu (trial 2)"]
    assert table(AnswerSection(), result, "Figures").header[1:-1] == tuple(names)
    assert bars(result, "Energy").bars == tuple(names)
    (lead, *_) = AnswerSection().blocks(result)
    assert isinstance(lead, TextBlock)
    assert "The nearest is 4xnpu (trial 0): " in lead.text


def test_sections_without_matter_are_left_out() -> None:
    bare = study(infeasible(), nearest=None, front=())
    assert list(OperatorsSection().blocks(bare)) == []
    assert list(BreakdownSection().blocks(bare)) == []


def test_provenance_names_inputs_assumptions_settings_and_hides_the_password() -> None:
    result = study(log="postgresql://ann:secret@db/runs")
    blocks = ProvenanceSection().blocks(result)
    cells = [
        cell
        for block in blocks
        if isinstance(block, TableBlock)
        for row in block.rows
        for cell in row
    ]
    for wanted in ("abc123", "0.1.0", "3 of grade A", "technology figure dram.x", "settings: seed"):
        assert wanted in cells
    assert "threshold of cost" in cells
    assert "postgresql://ann:***@db/runs" in cells
    assert not any("secret" in cell for cell in cells)
    notes = [block.text for block in blocks if isinstance(block, TextBlock)]
    assert notes == ["Note on nearest (trial 0): the router stays at bf16"]
