"""Back-ends that cost rows or segments themselves, and those that take one design at a time."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluate.paper import (
    PaperBackend,
    PaperDevice,
    evaluate,
    paper_costs,
    paper_scenario,
    run,
    value,
)

from pentarch import MachineTable, View
from pentarch.errors import CostError, PluginError
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.mapping.costs import (
    Fidelity,
    RowCosts,
    RowRequest,
    SegmentCosts,
    SegmentRequest,
)

BATCH = {"macs_per_s": [500.0, 1000.0, 2500.0], "bytes_per_s": [800.0, 200.0, 5000.0],
         "cap_w": [60.0, 1e6, 30.0]}  # fmt: skip


class Broken(PaperBackend):
    """Returns a NaN for the second design's LM head."""

    figure = "compute_s"

    def cost_rows(self, request: RowRequest) -> RowCosts:
        costs = paper_costs(request)
        if request.kind is OperatorKind.GEMM and request.machine.length > 1:
            costs.compute_s["array"][request.rows.names.index("lm_head"), 1] = np.nan
        return costs


def test_a_nan_names_figure_operator_machine_and_design() -> None:
    with pytest.raises(CostError) as caught:
        run(paper_scenario(backend=Broken()), length=2)

    assert caught.value.figure == "compute_s[array]"
    assert caught.value.operator == "lm_head"
    assert caught.value.machine == "paper, design 1"


class WrongShape(PaperBackend):
    """Forgets that rows have a second dimension."""

    def cost_rows(self, request: RowRequest) -> RowCosts:
        costs = paper_costs(request)
        return replace(costs, level_s={"memory": costs.level_s["memory"][:, 0]})


def test_a_cost_of_the_wrong_shape_names_back_end_and_figure() -> None:
    with pytest.raises(
        PluginError, match=r"'paper' costs gemm rows with level_s\[memory\] of shape"
    ):
        run(paper_scenario(backend=WrongShape()))


@pytest.mark.parametrize(
    ("method", "result", "message"),
    [
        ("machine", None, "`machine` of back-end 'paper' returned NoneType. Return a `MachineTable`"),
        ("cost_rows", 7, "`cost_rows` of back-end 'paper' returned int. Return `RowCosts` or `None`"),
        ("cost_segment", (), "`cost_segment` of back-end 'paper' returned tuple. Return `SegmentCosts`"),
    ],
)  # fmt: skip
def test_an_answer_of_the_wrong_type_names_back_end_and_method(
    method: str, result: object, message: str
) -> None:
    wrong = type("Wrong", (PaperBackend,), {method: lambda self, given: result})

    with pytest.raises(PluginError) as caught:
        run(paper_scenario(backend=wrong()))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("method", ["machine", "cost_rows", "cost_segment"])
def test_an_exception_in_a_back_end_is_a_plug_ins_error_that_keeps_its_cause(method: str) -> None:
    def fail(self: PaperBackend, given: object) -> None:
        raise ZeroDivisionError("no lanes")

    failing = type("Failing", (PaperBackend,), {method: fail})
    where = rf"{__file__}, line {fail.__code__.co_firstlineno + 1}\)"

    with pytest.raises(
        PluginError, match=rf"`{method}`.*ZeroDivisionError: no lanes \({where}"
    ) as caught:
        run(paper_scenario(backend=failing()))
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


class ReadOnly(PaperBackend):
    """Hands out one array for all it costs, which nobody may change."""

    shared: Any = None

    def cost_rows(self, request: RowRequest) -> RowCosts:
        nothing = np.broadcast_to(np.zeros(1), request.sequences.shape)
        return replace(paper_costs(request), fixed_s=nothing)


def test_a_back_ends_arrays_are_not_written_to() -> None:
    found = run(paper_scenario(backend=ReadOnly(), start_s=0.1))
    expected = run(paper_scenario(start_s=0.1))

    assert value(found, "query_s") == value(expected, "query_s")


class OnlyAttention(PaperBackend):
    """Leaves everything but attention to the engine."""

    def machine(self, device: View[PaperDevice]) -> MachineTable:
        assert device.length == 1 or self.batch, "one design at a time"
        return super().machine(device)

    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        assert request.machine.length == 1 or self.batch, "one design at a time"
        if request.kind is OperatorKind.ATTENTION:
            return replace(paper_costs(request), notes=("attention is the back-end's own",))
        return None


class OneByOne(OnlyAttention):
    """The same, one design at a time."""

    batch = False


def assert_equal_figures(found: Any, expected: Any) -> None:
    for name, column in expected.values.items():
        if column is None:
            assert found.values[name] is None
        else:
            np.testing.assert_array_equal(found.values[name], column, err_msg=name)


def test_one_design_at_a_time_gives_the_same_figures_as_a_batch() -> None:
    class Single(PaperBackend):
        batch = False

        def machine(self, device: View[PaperDevice]) -> MachineTable:
            assert device.length == 1
            return super().machine(device)

        def cost_rows(self, request: RowRequest) -> RowCosts:
            assert request.machine.length == 1
            assert request.sequences.shape[1] == 1
            return paper_costs(request)

    scenario = paper_scenario(cap_w=1.0, buffer_bytes=1300.0)
    loads = [1.0, 3.0, 7.0]
    found = run(replace(scenario, backend=Single()), concurrency=loads, **BATCH)

    assert_equal_figures(found, run(scenario, concurrency=loads, **BATCH))
    assert found.stages[0].costs.given.residency.weights.tolist() == [True] * 3


def test_one_by_one_keeps_what_only_some_designs_have() -> None:
    class Patchy(PaperBackend):
        batch = False

        def cost_rows(self, request: RowRequest) -> RowCosts:
            costs = paper_costs(request)
            if float(request.machine.engines[0].macs_per_cycle["fp8"][0]) < 600:
                unknown = {**costs.energy_j, "array": None}
                return replace(costs, energy_j=unknown, notes=("slow",))
            extra = {**costs.compute_s, "helper": np.full(costs.fixed_s.shape, 9.0)}
            return replace(costs, compute_s=extra)

    figures = run(paper_scenario(backend=Patchy()), macs_per_s=[500.0, 1000.0])
    kinds = figures.stages[0].costs.kinds

    assert kinds[0].costs.compute_s["helper"].max(axis=0).tolist() == [0.0, 9.0]
    assert kinds[0].costs.energy_j["array"] is None
    assert kinds[0].costs.notes == ("slow",)


def test_designs_with_different_parts_cannot_share_a_batch() -> None:
    class Shifting(PaperBackend):
        batch = False

        def machine(self, device: View[PaperDevice]) -> MachineTable:
            machine = super().machine(device)
            return replace(machine, area=None) if device.macs_per_s[0] > 600 else machine

    with pytest.raises(PluginError, match="designs 0 and 1 of paper with different parts"):
        run(paper_scenario(backend=Shifting(), die_mm2=1.0), macs_per_s=[500.0, 1000.0])


class Measured(PaperBackend):
    """Has measured attention, simulates its GEMMs, and leaves the rest to the engine."""

    fidelity = Fidelity.MEASURED

    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        costs = paper_costs(request)
        if request.kind is OperatorKind.GEMM:
            return replace(costs, fidelity=Fidelity.SIMULATED)
        return costs if request.kind is OperatorKind.ATTENTION else None


class MeasuredInPart(Measured):
    """The same, with a measurement of slow designs only, and one design at a time."""

    batch = False

    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        is_slow = request.machine.engines[0].macs_per_cycle["fp8"][0] < 600
        return super().cost_rows(request) if is_slow else self._table(request)

    def _table(self, request: RowRequest) -> RowCosts:
        return replace(paper_costs(request), fidelity=Fidelity.TABULATED)


def fidelities(backend: PaperBackend, **columns: Any) -> dict[OperatorKind, Fidelity | None]:
    kinds = run(paper_scenario(backend=backend), **columns).stages[0].costs.kinds
    return {entry.kind: entry.costs.fidelity for entry in kinds}


def test_costs_have_the_fidelity_of_their_author() -> None:
    assert fidelities(Measured()) == {
        OperatorKind.GEMM: Fidelity.SIMULATED,
        OperatorKind.ATTENTION: Fidelity.MEASURED,
        OperatorKind.VECTOR: Fidelity.ANALYTICAL,
    }


def test_joined_costs_have_the_least_fidelity_of_their_designs() -> None:
    assert fidelities(MeasuredInPart(), macs_per_s=[500.0, 1000.0]) == {
        OperatorKind.GEMM: Fidelity.TABULATED,
        OperatorKind.ATTENTION: Fidelity.TABULATED,
        OperatorKind.VECTOR: Fidelity.ANALYTICAL,
    }


def test_operators_that_a_back_end_does_not_list_cannot_run() -> None:
    class NoAttention(PaperBackend):
        operators = frozenset(OperatorKind) - {OperatorKind.ATTENTION}

    feasibility = run(paper_scenario(backend=NoAttention())).feasibility
    assert not feasibility.fits[0]
    assert feasibility.reason(0) == (
        "paper cannot run layer.attention: back-end 'paper' runs no attention operators"
    )


class LayerPipeline(PaperBackend):
    """Runs a phase as a layer pipeline: its slowest operator decides, two seconds a pass."""

    asked: list[tuple[Phase, list[str]]]
    pass_s = 2.0

    def __init__(self) -> None:
        self.asked = []

    def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
        names = [name for rows in request.requests for name in rows.rows.names]
        self.asked.append((request.phase, names))
        length = request.requests[0].machine.length
        return SegmentCosts(
            rows=tuple(paper_costs(rows) for rows in request.requests),
            pass_s=np.full(length, self.pass_s), interval_s=np.full(length, 0.5),
            bottleneck=("array", "memory", "memory")[:length],
        )  # fmt: skip


def test_the_time_of_a_segment_replaces_the_sum_over_rows() -> None:
    backend = LayerPipeline()
    figures = run(paper_scenario(backend=backend, concurrency=4, start_s=99.0, step_s=0.25))

    # a prefill is one pass, decode two; the host's step comes on top, operator starts do not
    assert value(figures, "prefill_s") == 2.25
    assert value(figures, "decode_s") == 4.5
    # the other three queries' prefills keep it waiting for their interval: 0.5 of 2 s of a pass
    assert value(figures, "query_s") == 2.25 + 3 * 2.25 * 0.25 + 4.5
    segments = figures.stages[0].costs.segments
    assert segments[Phase.DECODE].interval_s.tolist() == [0.5]


def test_an_interval_longer_than_its_pass_is_an_error() -> None:
    class Late(LayerPipeline):
        pass_s = 0.25

    with pytest.raises(CostError, match="interval_s"):
        run(paper_scenario(backend=Late()))


def test_a_segment_that_takes_more_than_the_budget_is_infeasible() -> None:
    class Greedy(LayerPipeline):
        def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
            found = super().cost_segment(request)
            assert found is not None
            return replace(found, used={"dsp": np.full(len(found.pass_s), 12.0)})

    feasibility = run(paper_scenario(backend=Greedy())).feasibility
    assert not feasibility.fits[0]
    assert feasibility.reason(0) == "paper needs 12 dsp, it has 0"


def test_a_segment_gets_all_rows_of_its_phase_and_no_others() -> None:
    backend = LayerPipeline()
    figures = run(paper_scenario(backend=backend))

    assert [phase for phase, _ in backend.asked] == [Phase.PREFILL, Phase.DECODE]
    for (phase, names), attention_rows in zip(backend.asked, (1, 2), strict=True):
        # decode has attention at two contexts
        assert names.count("layer.attention") == attention_rows, phase
        assert {"layer.qkv", "lm_head", "embedding", "sampling"} <= set(names)
    assert {entry.phases[0] for k in figures.stages[0].costs.kinds for entry in [k.rows]} == set(
        Phase
    )


def test_energy_and_bytes_of_a_segment_are_those_of_its_rows() -> None:
    backend = LayerPipeline()
    backend.pass_s = 4.0
    own, rows = evaluate(paper_scenario(backend=backend)), evaluate(paper_scenario())

    for name in ("array", "memory"):
        assert own.energy_j[name] == pytest.approx(rows.energy_j[name])
    assert own.bottleneck == "array"
    # 4.176 s of work at peak in 3 passes of 4 s
    assert own.mfu.query == pytest.approx(4.176 / 12)
    assert sum(entry.share for entry in own.ledger) == pytest.approx(1.0, abs=1e-12)
    assert own.ledger[0].share == pytest.approx(4.176 / 12)


def test_a_capped_segment_slows_where_its_bottleneck_follows_the_core() -> None:
    # Prefill: 2464 x 2 J + 832 x 3 B in 2 s. Where memory is the bottleneck, the supply falls first.
    scenario = paper_scenario(backend=LayerPipeline(), bytes_per_s=1000.0)
    free = 8 + (2464 * 2 + 832 * 3) / 2
    figures = run(scenario, cap_w=[free * 0.9, free * 0.9, free * 1.1])
    prefill = figures.stages[0].prefill

    assert prefill.seconds[0] > 2
    assert prefill.seconds[1:].tolist() == [2.0, 2.0]
    assert prefill.clock_ratio[1] < 1
    assert prefill.clock_ratio[2] == 1


def test_a_segment_can_be_declined_for_one_phase() -> None:
    class OnlyDecode(LayerPipeline):
        def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
            return super().cost_segment(request) if request.phase is Phase.DECODE else None

    figures = run(paper_scenario(backend=OnlyDecode()))

    assert value(figures, "prefill_s") == pytest.approx(2.464)
    assert value(figures, "decode_s") == 4.0


def test_segments_one_design_at_a_time() -> None:
    class Single(LayerPipeline):
        batch = False

        def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
            found = super().cost_segment(request)
            assert found is not None
            rate = request.requests[0].machine.engines[0].macs_per_cycle["fp8"]
            return replace(found, pass_s=1e3 / rate)

    figures = run(paper_scenario(backend=Single()), macs_per_s=[500.0, 1000.0])

    assert figures.values["decode_s"] is not None
    assert figures.values["decode_s"].tolist() == [4.0, 2.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": ()}, "returned costs of 0 kinds of rows"),
        ({"pass_s": np.ones(2)}, r"pass_s of shape \(2,\)"),
        ({"interval_s": np.ones(2)}, r"interval_s of shape \(2,\)"),
        ({"used": {"LUT": np.ones((1, 1))}}, r"LUT of shape \(1, 1\)"),
        ({"bottleneck": ()}, "0 bottlenecks"),
    ],
)
def test_an_incomplete_segment_is_a_plug_ins_error(changes: dict[str, Any], message: str) -> None:
    class Incomplete(LayerPipeline):
        def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
            found = super().cost_segment(request)
            assert found is not None
            return replace(found, **changes)

    with pytest.raises(PluginError, match=message):
        run(paper_scenario(backend=Incomplete()))


@pytest.mark.parametrize("seconds", [np.nan, np.inf, 0.0, -1.0])
def test_the_time_of_a_segment_must_be_a_positive_number(seconds: float) -> None:
    backend = LayerPipeline()
    backend.pass_s = seconds

    with pytest.raises(CostError, match=r"pass_s of operator 'layer\.qkv and what follows'"):
        run(paper_scenario(backend=backend))
