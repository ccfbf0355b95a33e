"""The loss ledger: exact in sum, and its useful part is the MFU of the query."""

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluate.paper import (
    Given,
    PaperBackend,
    evaluate,
    one_stage,
    paper_costs,
    paper_scenario,
    paper_workload,
)
from tests.unit.evaluate.test_serving import pipeline

from pentarch.evaluate.stage_costs import OperatorKind
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowCosts, RowRequest

SCENARIOS: dict[str, dict[str, Any]] = {
    "ideal": {},
    "memory-bound": {"bytes_per_s": 300.0, "concurrency": 3},
    "capped": {"cap_w": 60.0, "concurrency": 5},
    "duty-cycled": {"cap_w": 9.0, "bytes_per_s": 300.0},
    "idle replicas": {"devices": 4, "concurrency": 2},
    "one token": {"output_tokens": 1, "concurrency": 2},
    "starts and steps": {"start_s": 0.1, "step_s": 0.2, "runtime": Runtime(name="slow", step_s=0.3)},
    "pipeline": {
        "workload": paper_workload(layers=2), "devices": 3, "concurrency": 2,
        "partitioner": Given(partial(pipeline, copies=2)),
    },
    "replicated": {
        "workload": paper_workload(heads=2, kv_heads=1), "devices": 2,
        "partitioner": Given(partial(one_stage, devices=2)),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", SCENARIOS)
def test_shares_sum_to_one_and_the_useful_one_is_the_mfu(name: str) -> None:
    found = evaluate(paper_scenario(**SCENARIOS[name]))
    assert found.mfu.query is not None

    assert sum(entry.share for entry in found.ledger) == pytest.approx(1.0, abs=1e-12)
    assert all(entry.share > 0 for entry in found.ledger)
    assert found.ledger[0].name == "useful work at peak"
    assert found.ledger[0].share == pytest.approx(found.mfu.query, rel=1e-9)


def shares(**changes: Any) -> dict[str, float]:
    return {entry.name: entry.share for entry in evaluate(paper_scenario(**changes)).ledger}


def test_waiting_for_memory_on_paper() -> None:
    # test_serving: 6.144 s, of which 4.176 s is work at peak. Decode waits (768 x 2 + 176) B / 500 less
    # as many MACs / 1000, the LM head of prefill 256 / 500 - 256 / 1000: all for memory.
    found = shares(bytes_per_s=500.0)

    assert found == pytest.approx(
        {"useful work at peak": 4.176 / 6.144, "waiting for memory": 1.968 / 6.144}
    )


def test_an_ideal_machine_loses_nothing() -> None:
    assert shares() == {"useful work at peak": pytest.approx(1.0)}


def test_starts_and_steps_on_paper() -> None:
    # Started are qkv, attention, o, up, down, the LM head, and what cannot ride on a neighbor:
    # embedding and sampling. Three passes (prefill, two steps) of 0.2 + 0.3 s.
    bare, slow = evaluate(paper_scenario()), SCENARIOS["starts and steps"]
    found, total = shares(**slow), evaluate(paper_scenario(**slow)).query_s
    assert bare.query_s is not None
    assert total is not None

    assert total == pytest.approx(bare.query_s + 3 * (8 * 0.1 + 0.5))
    assert found["operator starts"] == pytest.approx(3 * 8 * 0.1 / total)
    assert found["host and step overhead"] == pytest.approx(3 * 0.5 / total)


def test_the_cap_takes_what_it_costs() -> None:
    free, capped = evaluate(paper_scenario()), evaluate(paper_scenario(cap_w=300.0))
    assert free.query_s is not None
    assert capped.query_s is not None
    found = {entry.name: entry.share for entry in capped.ledger}

    assert found["power cap"] == pytest.approx(1 - free.query_s / capped.query_s)


def test_replicated_work_has_a_line_of_its_own() -> None:
    # See test_figures: 64 of 512 + ... executed weights a token are another device's, too.
    found = shares(**SCENARIOS["replicated"])
    useful = 6 * 448 + 3 * 256 + 16 * 21

    assert found["replicated work"] == pytest.approx(6 * 64 / (useful + 6 * 64))


def test_idle_replicas_are_three_quarters_of_four() -> None:
    assert shares(devices=4)["idle stages and replicas"] == pytest.approx(0.75)


class Timeless(PaperBackend):
    """Costs attention by a fixed time alone."""

    def cost_rows(self, request: RowRequest) -> RowCosts:
        costs = paper_costs(request)
        if request.kind is not OperatorKind.ATTENTION:
            return costs
        return replace(costs, compute_s={}, level_s={}, fixed_s=np.ones(costs.fixed_s.shape))


def test_rows_without_any_resource_still_sum() -> None:
    found = evaluate(paper_scenario(backend=Timeless()))
    assert sum(entry.share for entry in found.ledger) == pytest.approx(1.0, abs=1e-12)
    operators = {(cost.name, cost.phase): cost for cost in found.operators}
    assert operators["layer.attention", "decode"].bottleneck == "start"
