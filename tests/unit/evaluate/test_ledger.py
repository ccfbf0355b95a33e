"""The loss ledger: exact in sum, and its useful part is the MFU of the query."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace
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

import pentarch as pa
from pentarch.evaluate.array_losses import array_losses
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import GemmTable
from pentarch.hardware.columns import columns
from pentarch.hardware.parts import Engine, EngineKind, Stationary
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.arrays import array_seconds
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
    # as many MACs / 1000, the LM head of prefill 256 / 500 - 256 / 1000: all for memory, 176 B of it
    # for keys and values.
    found = shares(bytes_per_s=500.0)

    assert found == pytest.approx(
        {
            "useful work at peak": 4.176 / 6.144,
            "waiting for memory: weights": (1.968 - 0.176) / 6.144,
            "waiting for memory: keys and values": 0.176 / 6.144,
        }
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
    assert shares(devices=4)["idle replicas"] == pytest.approx(0.75)


def test_a_pipeline_waits_for_its_other_stages() -> None:
    found = shares(**SCENARIOS["pipeline"])
    # one of two queries in each of three stages at most: a third of the devices waits at least
    assert 1 / 3 <= found["idle stages"] < 1
    assert "idle replicas" not in found


def test_launches_by_the_host_are_told_from_starts_of_the_device() -> None:
    slow = Runtime(name="slow", launch_s=0.3)
    found = evaluate(paper_scenario(start_s=0.1, runtime=slow))
    assert found.query_s is not None
    named = {entry.name: entry.share * found.query_s for entry in found.ledger}

    assert named["operator starts"] == pytest.approx(3 * 8 * 0.1)
    assert named["launches by the host"] == pytest.approx(3 * 8 * 0.3)


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
    assert found.ledger[0].ideal
    assert not any(entry.ideal for entry in found.ledger[1:])
    operators = {(cost.name, cost.phase): cost for cost in found.operators}
    assert operators["layer.attention", "decode"].bottleneck == "start"


@pytest.mark.parametrize("system", ["h100_sxm", "edge_soc"])
@pytest.mark.parametrize("query", [(512, 4, 1), (300, 7, 33)])
def test_shares_of_real_devices_sum_to_one(system: str, query: tuple[int, int, int]) -> None:
    prompt, output, load = query
    asked = pa.Query(prompt_tokens=prompt, output_tokens=output, concurrency=load)
    found = pa.evaluate(pa.partition("llama-3-8b", system, asked))

    assert sum(entry.share for entry in found.ledger) == pytest.approx(1.0, abs=1e-12)
    assert all(entry.share >= 0 for entry in found.ledger)
    assert found.ledger[0].share == pytest.approx(found.mfu.query, rel=1e-9)


class EngineCosted(PaperBackend):
    """Leaves the costs to the engine."""

    cost_rows = pa.Backend.cost_rows  # type: ignore[assignment]  # as if it were not overridden


def test_collectives_are_bytes_and_hops() -> None:
    # Eight devices and one query: a token's all-reduce of 4096 values is latency and little else; a
    # prompt's of 4,096 tokens is bytes.
    def of(prompt: int, output: int) -> dict[str, float]:
        asked = pa.Query(prompt_tokens=prompt, output_tokens=output)
        found = pa.evaluate(pa.partition("llama-3-8b", "8xh100_sxm", asked))
        return {entry.name: entry.share for entry in found.ledger}

    sent, hops = "bytes of collectives on nvlink4", "hops and overhead of collectives"
    short, long = of(1, 64), of(4096, 1)
    assert short[hops] > 5 * short[sent] > 0
    assert long[sent] > 2 * long[hops] > 0


def one_gemm(*, m: int, k: int, n: int) -> GemmTable:
    """Return a table of one dense GEMM in fp8."""
    numbers = {"rows": m, "k": k, "n": n, "executions": 1, "experts": 0, "experts_per_token": 0,
               "experts_total": 0, "layers": 1}  # fmt: skip
    return GemmTable(
        names=("gemm",), phases=(Phase.PREFILL,), stage=np.zeros(1, dtype=np.int64),
        a_formats=("fp8",), b_formats=("fp8",), out_formats=("fp8",),
        streams_weights=np.ones(1, dtype=np.bool_),
        **{name: np.array([float(value)]) for name, value in numbers.items()},
    )  # fmt: skip


def rows_of(dataflow: Stationary, *, units: float, m: int, n: int) -> dict[str, float]:
    """Return where the arrays' time beyond the useful goes, for one GEMM of k = 64."""
    engine = Engine(
        name="arrays", kind=EngineKind.MATRIX, feeds_from="memory", stationary=dataflow, units=units,
        clock_hz=1.0, macs_per_cycle={"fp8": 256.0}, rows=16, columns=16, fill_cycles=10.0,
        tile_start_cycles=3.0, issue_efficiency=0.8,
    )  # fmt: skip
    sizes = {"m": np.array([[float(m)]]), "k": np.array([[64.0]]), "n": np.array([[float(n)]])}
    busy, _ = array_seconds(product_of(engine), **sizes, instances=np.ones((1, 1)))
    found = losses(
        engine, m=m, n=n, busy_s=float(busy[0, 0]), executed_s=m * n * 64 / (256 * units)
    )
    assert found.pop("short steps and drains of tiles") == pytest.approx(0.0, abs=1e-9)
    return found


def product_of(engine: Engine) -> Product:
    part = columns(Engine, 1, **{name: getattr(engine, name) for name in Engine.model_fields})
    return Product(engine=part, format="fp8", dequantized=False, note=None)


def losses(
    engine: Engine, *, m: int, n: int, busy_s: float, executed_s: float,
    detail: dict[str, Any] | None = None,
) -> dict[str, float]:  # fmt: skip
    """Return the causes of an engine's time beyond the useful for one GEMM of k = 64, all of it."""
    work = m * n * 64 / (256 * engine.units)
    view: Any = SimpleNamespace(
        executed_s=np.array([executed_s]), ideal_s=np.array([work]), replicated_s=np.zeros(1), index=0,
        given=SimpleNamespace(backend=EngineCosted(), machine=SimpleNamespace(levels=())),
        products=(product_of(engine),), sequences=np.ones(1), terms_s=np.array([[busy_s]]),
        of=lambda values: values[:, 0],
        entry=SimpleNamespace(
            rows=one_gemm(m=m, k=64, n=n), costs=SimpleNamespace(detail=detail or {}),
            times=SimpleNamespace(resources=("arrays",)),
        ),
    )  # fmt: skip
    left, found = busy_s - work, {}
    for name, seconds in array_losses(view, np.array([0])):
        found[name] = min(float(seconds[0]), left)
        left -= found[name]
    assert left == pytest.approx(0.0, abs=1e-9)
    return found


def test_losses_of_an_array_on_paper() -> None:
    # 64 x 40 weights in tiles of 16 x 16: 4 x 3 = 12 tiles, each for 20 rows, on 5 units. Three waves
    # of 20 + 3 cycles and a fill of 10 are 79 cycles at an issue of 0.8: 98.75 s. Work at peak takes
    # 20 x 64 x 40 / 1280 = 40 s, its issue 10 s more; 12 full tiles on 5 units 48 / 0.8 = 60 s; three
    # waves 60 / 0.8 = 75 s.
    found = rows_of(Stationary.WEIGHT, units=5, m=20, n=40)

    assert found == pytest.approx(
        {
            "issue of engines": 10.0,
            "fill and tile starts": 98.75 - 75.0,
            "padding of tiles": 60.0 - 50.0,
            "partly filled waves": 75.0 - 60.0,
        }
    )


def test_losses_of_a_menu_of_tiles_on_paper() -> None:
    # 20 x 40 results in tiles of 16 x 16 x 64: 2 x 3 = 6 tiles on 4 units are 1.5 full waves, and two
    # are paid. A tile takes 64 cycles at an issue of 0.8, 13 of start and end, and 5 of drain: 98 s,
    # two waves 196 s. All 6 tiles at peak are 96 s, of which 50 s are useful.
    engine = Engine(
        name="arrays", kind=EngineKind.MATRIX, feeds_from="cache", units=4, clock_hz=1.0,
        macs_per_cycle={"fp8": 256.0}, fill_cycles=10.0, tile_start_cycles=3.0, issue_efficiency=0.8,
        tile_menu=((16, 16, 64),),
    )  # fmt: skip
    detail = {name: np.array([[value]]) for name, value in
              (("tile", 0.0), ("split", 1.0), ("waves", 2.0))}  # fmt: skip
    found = losses(engine, m=20, n=40, busy_s=196.0, executed_s=96.0, detail=detail)

    assert found == pytest.approx(
        {
            "issue of engines": 96 / 0.8 - 96,
            "fill and tile starts": 1.5 * 13,
            "padding of tiles": 96 - 50,
            "partly filled waves": 0.5 * 98,
            "short steps and drains of tiles": 1.5 * 5,
        }
    )


def test_tiles_that_come_out_even_are_not_padded() -> None:
    found = rows_of(Stationary.OUTPUT, units=2, m=32, n=32)
    assert found["padding of tiles"] == found["partly filled waves"] == pytest.approx(0.0, abs=1e-9)
