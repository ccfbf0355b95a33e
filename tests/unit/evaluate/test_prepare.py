"""Shares of useful work, and the rows of each stage."""

from functools import partial

import numpy as np
import pytest
from tests.unit.evaluate.paper import (
    Given,
    evaluate,
    one_stage,
    paper_scenario,
    paper_workload,
)
from tests.unit.evaluate.test_serving import pipeline

from pentarch.contracts.partitioner import PartitionRequest
from pentarch.evaluate.prepare import prepare
from pentarch.evaluate.table_rows import select_rows
from pentarch.graph.operators import Phase, Split
from pentarch.plan.plan import Plan
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    ExpertFeedForward,
    LayerGroup,
    Workload,
)


def experts_workload() -> Workload:
    """Return the workload with four experts in place of its feed-forward block, two per token."""
    dense = paper_workload()
    layer = dense.layers[0].layer.replace(
        feed_forward=ExpertFeedForward(
            experts=4, experts_per_token=2,
            expert=DenseFeedForward(width=16, activation=Activation.RELU),
        )
    )  # fmt: skip
    return dense.replace(layers=(LayerGroup(name="layer", count=1, layer=layer),))


def by_experts(request: PartitionRequest, *, devices: int) -> Plan:
    """Return a plan that cuts experts only: all else runs on every device."""
    plan = one_stage(request, devices=devices)
    stage = plan.stages[0]
    placements = tuple(
        placement.replace(
            **(
                {"cut": Split.EXPERTS, "ways": devices}
                if placement.operator in ("layer.expert_up", "layer.expert_down")
                else {"cut": Split.NONE, "ways": 1}
            )
        )
        for placement in stage.placements
    )
    return plan.replace(stages=(stage.replace(placements=placements),))


def test_uneven_parts_are_less_than_useful() -> None:
    # 32 logits on three devices: 11 columns each, 33 executed. The hidden layer: 6 of 16, 18.
    prepared = prepare(paper_scenario(devices=3, partitioner=Given(partial(one_stage, devices=3))))
    shares = prepared.useful[0]

    assert shares["lm_head"] == pytest.approx(32 / 33)
    assert shares["layer.up"] == shares["layer.down"] == pytest.approx(16 / 18)
    assert shares["layer.attention"] == pytest.approx(1 / 3)  # one head, on each device


def test_experts_are_shared_out_and_the_rest_repeated() -> None:
    scenario = paper_scenario(
        workload=experts_workload(), devices=4, partitioner=Given(partial(by_experts, devices=4))
    )
    shares = prepare(scenario).useful[0]
    gemms = set(prepare(scenario).tables[0].gemm.names)
    experts = {"layer.expert_up", "layer.expert_down"}

    assert experts < gemms
    assert all(shares[name] == pytest.approx(1.0) for name in experts)
    assert all(shares[name] == pytest.approx(0.25) for name in gemms - experts)
    found = evaluate(scenario)
    assert found.delivered_flops_per_s is not None
    assert found.peak_flops_per_s is not None
    assert found.mfu.query == pytest.approx(found.delivered_flops_per_s / found.peak_flops_per_s)


def test_on_one_device_everything_is_useful() -> None:
    assert set(prepare(paper_scenario()).useful[0].values()) == {1.0}


def test_each_stage_has_its_own_rows_and_memory() -> None:
    workload = paper_workload(layers=2)
    prepared = prepare(
        paper_scenario(workload=workload, devices=3, partitioner=Given(partial(pipeline, copies=2)))
    )
    layers, ends = prepared.tables

    assert set(layers.gemm.names) == {"layer.qkv", "layer.o", "layer.up", "layer.down"}
    assert set(ends.gemm.names) == {"lm_head"}
    assert not ends.attention.names
    assert ends.kv_bytes_per_query.tolist() == [0.0]
    # both copies of the layer run in sequence, each once a pass
    prefill = [phase is Phase.PREFILL for phase in layers.gemm.phases]
    assert set(layers.gemm.executions[prefill]) == {2.0}
    assert layers.useful_flops == ends.useful_flops == prepared.tables[0].useful_flops


def test_selected_rows_keep_every_column() -> None:
    table = prepare(paper_scenario()).tables[0].attention
    kept = select_rows(table, np.flatnonzero(table.is_decode))

    assert set(kept.phases) == {Phase.DECODE}
    assert kept.keys.tolist() == [5.0, 6.0]
    assert len(kept.kv_formats) == len(kept.names) == len(kept.causal) == 2
    assert kept.accumulator_format == table.accumulator_format
