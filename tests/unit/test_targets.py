"""The five targets: thresholds, margins and every kind of verdict, by hand."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError
from pentarch.results import (
    Evaluation,
    Inputs,
    MfuFigures,
    OperatingPoint,
    TargetId,
    Verdict,
    VerdictKind,
    WattsPerPflops,
)
from pentarch.targets import (
    Condition,
    Economics,
    Targets,
    conditions,
    figure_of,
    judge,
    judge_columns,
    margin,
)
from pentarch.workload.query import Precisions, Query

MEETS_ALL: dict[str, float | None] = {
    "delivered_flops_per_s": 2e15, "mfu.query": 0.6, "query_s": 1.0, "w_per_pflops.delivered": 40.0,
    "w_per_pflops.peak": 30.0, "system_usd": 4000.0, "bom_usd": 1000.0, "programmability": 0.95,
    "update_s": 1800.0,
}  # fmt: skip


def evaluation_of(**changes: float | None) -> Evaluation:
    """Return an evaluation that meets all five targets; figures changed by name (`.` as `__`)."""
    feasible = changes.pop("feasible", True)
    figures = {**MEETS_ALL, **{name.replace("__", "."): value for name, value in changes.items()}}
    none = dict.fromkeys(
        ("ttft_s", "tpot_s", "throughput_tokens_per_s", "queries_per_s", "peak_flops_per_s", "mbu",
         "hfu", "mean_w", "peak_w", "full_load_w", "j_per_token", "query_j", "query_usd")
    )  # fmt: skip
    plain = {name: value for name, value in figures.items() if "." not in name}
    return Evaluation(
        workload="w", system="s", backend="soc", partitioner="p", devices=1,
        operating_point=OperatingPoint(
            query=Query(), precisions=Precisions(), runtime="ideal", degrees={}
        ),
        feasible=bool(feasible), reason=None if feasible else "it is 5 GB short",
        useful_flops=1.0, **none, **plain,  # type: ignore[arg-type]  # figures by name
        mfu=MfuFigures(prefill=None, decode=None, query=figures["mfu.query"]),
        w_per_pflops=WattsPerPflops(
            delivered=figures["w_per_pflops.delivered"], peak=figures["w_per_pflops.peak"]
        ),
        energy_j={}, price_parts_usd={}, area_mm2={}, memory_bytes={}, bottleneck="memory",
        inputs=Inputs(hash="0", version="0", grades={}),
    )  # fmt: skip


def verdicts(targets: Targets | None = None, **changes: float | None) -> dict[str, Verdict]:
    return {str(verdict.id): verdict for verdict in judge(evaluation_of(**changes), targets)}


def test_the_defaults_are_those_of_the_interface() -> None:
    # delivered >= 1 PFLOPS and query MFU > 0.5; query <= 2 s; <= 50 W/PFLOPS delivered;
    # system price <= 5,000 USD; programmability score >= 0.9, an update within an hour
    found = [(str(c.target), c.figure, c.threshold, c.more_is_better, c.strict)
             for c in conditions(Targets())]  # fmt: skip

    assert found == [
        ("processing", "delivered_flops_per_s", 1e15, True, False),
        ("processing", "mfu.query", 0.5, True, True),
        ("latency", "query_s", 2.0, False, False),
        ("energy", "w_per_pflops.delivered", 50.0, False, False),
        ("cost", "system_usd", 5000.0, False, False),
        ("programmability", "programmability", 0.9, True, False),
        ("programmability", "update_s", 3600.0, False, False),
    ]


def test_margins_in_both_directions_by_hand() -> None:
    found = verdicts()

    # (0.6 - 0.5) / 0.5 is less than (2 - 1) / 1
    assert (found["processing"].figure, found["processing"].margin) == (
        "mfu.query", pytest.approx(0.2),
    )  # fmt: skip
    assert found["latency"].margin == pytest.approx((2 - 1) / 2)
    assert found["energy"].margin == pytest.approx((50 - 40) / 50)
    assert found["cost"].margin == pytest.approx((5000 - 4000) / 5000)
    # (0.95 - 0.9) / 0.9 = 0.056 is less than half an hour of an hour
    assert found["programmability"].margin == pytest.approx(0.05 / 0.9)
    assert all(verdict.verdict is VerdictKind.MET for verdict in found.values())


def test_the_least_margin_of_two_conditions_decides() -> None:
    slow = verdicts(delivered_flops_per_s=0.9e15)["processing"]
    assert (slow.verdict, slow.figure, slow.value, slow.threshold) == (
        VerdictKind.MISSED, "delivered_flops_per_s", 0.9e15, 1e15,
    )  # fmt: skip
    assert slow.margin == pytest.approx(-0.1)

    late = verdicts(update_s=7200.0)["programmability"]
    assert (late.verdict, late.figure, late.margin) == (VerdictKind.MISSED, "update_s", -1.0)


@pytest.mark.parametrize(
    ("figure", "threshold", "target", "met_at_equality"),
    [
        ("delivered_flops_per_s", 1e15, "processing", True),
        ("mfu__query", 0.5, "processing", False),
        ("query_s", 2.0, "latency", True),
        ("w_per_pflops__delivered", 50.0, "energy", True),
        ("system_usd", 5000.0, "cost", True),
        ("programmability", 0.9, "programmability", True),
        ("update_s", 3600.0, "programmability", True),
    ],
)
def test_exactly_the_threshold(
    figure: str, threshold: float, target: str, met_at_equality: bool
) -> None:
    found = verdicts(**{figure: threshold})[target]

    assert found.margin == 0
    assert (found.verdict is VerdictKind.MET) == met_at_equality
    above, below = np.nextafter(threshold, np.inf), np.nextafter(threshold, 0)
    one_is_met = [
        verdicts(**{figure: float(value)})[target].verdict is VerdictKind.MET
        for value in (below, above)
    ]
    assert sorted(one_is_met) == [False, True]


@pytest.mark.parametrize(
    ("figure", "target", "supplier"),
    [
        ("delivered_flops_per_s", "processing", "engine rates"),
        ("mfu__query", "processing", "engine rates"),
        ("query_s", "latency", "the back-end's rates"),
        ("w_per_pflops__delivered", "energy", "energy per byte and per MAC, static power"),
        ("system_usd", "cost", "price_usd"),
        ("programmability", "programmability", "program description"),
        ("update_s", "programmability", "update_s, in its YAML"),
    ],
)
def test_an_unknown_figure_is_named_with_back_end_and_supplier(
    figure: str, target: str, supplier: str
) -> None:
    found = verdicts(**{figure: None})[target]

    assert found.verdict is VerdictKind.UNKNOWN
    assert (found.value, found.margin) == (None, None)
    assert found.figure == figure.replace("__", ".")
    assert found.reason is not None
    assert found.reason.startswith(f"{found.figure} is unknown; it can be supplied by ")
    assert found.reason.endswith("(back-end soc)")
    assert supplier in found.reason
    others = [v for v in verdicts(**{figure: None}).values() if v.id != target]
    assert all(verdict.verdict is VerdictKind.MET for verdict in others)


def test_an_unknown_figure_outweighs_a_missed_one() -> None:
    # Half of target 1 is missed, the other half unknown: no verdict, and never a pass.
    found = verdicts(delivered_flops_per_s=1.0, mfu__query=None)["processing"]
    assert (found.verdict, found.figure) == (VerdictKind.UNKNOWN, "mfu.query")


def test_a_design_that_cannot_run_is_infeasible_but_has_a_price() -> None:
    found = verdicts(feasible=False)

    for name in ("processing", "latency", "energy"):
        assert found[name].verdict is VerdictKind.INFEASIBLE
        assert found[name].reason == "it is 5 GB short"
        assert found[name].margin is None
    assert found["cost"].verdict is VerdictKind.MET
    assert found["programmability"].verdict is VerdictKind.MET


def test_both_bases_of_power_and_price() -> None:
    targets = Targets(w_basis="peak", usd_basis="bom")
    found = verdicts(targets, w_per_pflops__delivered=99.0, system_usd=None)

    assert (found["energy"].figure, found["energy"].value) == ("w_per_pflops.peak", 30.0)
    assert found["energy"].margin == pytest.approx(0.4)
    assert (found["cost"].figure, found["cost"].value) == ("bom_usd", 1000.0)
    assert found["cost"].margin == pytest.approx(0.8)


def test_the_assumed_price_threshold_is_marked_where_it_decides() -> None:
    assert verdicts()["cost"].assumption is not None
    assert "5,000 USD" in str(verdicts()["cost"].assumption)
    assert verdicts(Targets(system_usd=4500.0))["cost"].assumption is None
    assert all(v.assumption is None for name, v in verdicts().items() if name != "cost")


def test_the_bottleneck_goes_with_what_time_decides() -> None:
    named = {name for name, verdict in verdicts().items() if verdict.bottleneck == "memory"}
    assert named == {"processing", "latency"}


def test_own_thresholds() -> None:
    found = verdicts(Targets(query_s=0.5, query_mfu=0.7))
    assert found["latency"].margin == pytest.approx(-1.0)
    assert found["processing"].margin == pytest.approx(-0.1 / 0.7)


FIGURE = st.one_of(st.none(), st.floats(1e-3, 1e4))


@given(
    st.lists(
        st.fixed_dictionaries(dict.fromkeys(MEETS_ALL, FIGURE)), min_size=1, max_size=6
    ),
    st.sampled_from(["delivered", "peak"]), st.sampled_from(["price", "bom"]),
)  # fmt: skip
def test_judging_columns_equals_judging_one_by_one(
    designs: list[dict[str, float | None]], w_basis: Any, usd_basis: Any
) -> None:
    targets = Targets(delivered_flops_per_s=10.0, w_basis=w_basis, usd_basis=usd_basis)
    columns = {
        name: np.array([np.nan if one[name] is None else one[name] for one in designs], dtype=float)
        for name in MEETS_ALL
    }
    entries = conditions(targets)
    found = judge_columns(columns, len(designs), targets)
    assert [column.target for column in found] == list(TargetId)
    for index, design in enumerate(designs):
        changes = {name.replace(".", "__"): value for name, value in design.items()}
        for verdict, column in zip(judge(evaluation_of(**changes), targets), found, strict=True):
            assert (verdict.verdict is VerdictKind.MET) == column.met[index]
            assert (verdict.verdict is VerdictKind.UNKNOWN) == (not column.known[index])
            assert verdict.figure == entries[int(column.deciding[index])].figure
            expected = None if np.isnan(column.margin[index]) else column.margin[index]
            assert verdict.margin == expected


def test_columns_that_are_left_out_are_unknown() -> None:
    found = judge_columns({"query_s": np.array([1.0, np.nan])}, 2, Targets())

    assert [column.known.tolist() for column in found] == [
        [False, False], [True, False], [False, False], [False, False], [False, False],
    ]  # fmt: skip
    assert found[1].met.tolist() == [True, False]
    assert np.isnan(found[0].margin).all()


def test_margin_of_a_column() -> None:
    more = Condition(TargetId.PROCESSING, "x", 4.0, True, False)
    less = Condition(TargetId.LATENCY, "x", 4.0, False, False)
    values = np.array([2.0, 4.0, 5.0])

    assert margin(values, more).tolist() == [-0.5, 0.0, 0.25]
    assert margin(values, less).tolist() == [0.5, 0.0, -0.25]


def test_figures_are_found_by_their_dotted_names() -> None:
    evaluation = evaluation_of()
    for name, value in MEETS_ALL.items():
        assert figure_of(evaluation, name) == value
    assert figure_of(evaluation_of(mfu__query=None), "mfu.query") is None


@pytest.mark.parametrize(
    "changes",
    [{"query_mfu": 1.0}, {"query_s": 0.0}, {"w_basis": "mean"}, {"programmability": 1.1}],
)
def test_impossible_thresholds_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(FieldError):
        Targets().replace(**changes)


def test_quantities_of_targets_can_be_text() -> None:
    assert Targets.model_validate({"query_s": "500 ms"}).query_s == 0.5
    assert (
        Targets.model_validate({"delivered_flops_per_s": "2 PFLOPS"}).delivered_flops_per_s == 2e15
    )
    assert Economics().pue == 1.0  # at the edge
