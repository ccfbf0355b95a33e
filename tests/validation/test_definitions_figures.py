"""The figures that the definitions state, and what must hold of any evaluation, on real devices."""

from typing import Any

import numpy as np
import pytest

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.evaluate.bench import DESCRIPTIONS, run_bench
from pentarch.evaluate.evaluator import ScenarioEvaluator
from pentarch.evaluate.points import PointResults
from pentarch.evaluate.scenario import build_evaluator
from pentarch.targets import Economics, Targets
from pentarch.workload.query import Precisions, Query

CONTEXT = 1152
"""Keys that the one decode step of the ceiling's query sees: P + 1."""

RIDGE = 1978.9e12 / 3.35e12
"""H100: dense fp8 peak / HBM bandwidth, FLOP per byte."""


def points_of(workload: str, system: str, query: Query, **names: Any) -> ScenarioEvaluator:
    settings: dict[str, Any] = {
        "precisions": Precisions(), "runtime": "ideal", "partitioner": "single", "degree": None,
        "targets": Targets(), "economics": Economics(), **names,
    }  # fmt: skip
    return build_evaluator(
        library=default_library(), workload=workload, system=system, query=query, **settings
    )


def test_useful_work_of_a_query_of_llama_3_8b() -> None:
    # "0.019 PFLOP of useful work: 1 PFLOPS delivered within 2 s needs about 104 queries in flight"
    planned = pa.partition("llama-3-8b", "h100_sxm", Query(prompt_tokens=1024, output_tokens=256))
    useful = pa.evaluate(planned).useful_flops

    assert round(useful / 1e15, 3) == 0.019
    assert 2 * 1e15 / useful == pytest.approx(104, rel=0.05)
    # by hand: 2 FLOPs per MAC; 32 layers of 4096 x (4096 + 2 x 1024) + 4096^2 + 3 x 4096 x 14336
    # weights on 1024 + 255 tokens, a head of 4096 x 128256 on 256, and 2 x 4096 MACs per pair and
    # layer: the lower triangle of contexts 1 to 1279
    layer = 4096 * 6144 + 4096**2 + 3 * 4096 * 14336
    pairs = 1279 * 1280 // 2
    macs = 32 * layer * 1279 + 4096 * 128256 * 256 + 32 * 2 * 4096 * pairs
    assert useful == 2 * macs


# Layers x width of the KV cache of a token (1 byte each), FLOPs of a token at the context
CEILINGS = {
    "llama-3-8b": (
        32 * 2 * 1024,
        2 * (32 * (4096 * 6144 + 4096**2 + 3 * 4096 * 14336) + 4096 * 128256 + 32 * 2 * 4096 * CONTEXT),
        0.35,
    ),
    "gpt3-175b": (
        96 * 2 * 12288,
        2 * (96 * 12 * 12288**2 + 12288 * 50257 + 96 * 2 * 12288 * CONTEXT),
        0.22,
    ),
    "llama-2-70b": (
        80 * 2 * 1024,
        2 * (80 * (8192 * 10240 + 8192**2 + 3 * 8192 * 28672) + 8192 * 32000 + 80 * 2 * 8192 * CONTEXT),
        1.0,
    ),
}  # fmt: skip


def decode_mfu(workload: str, loads: list[int]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the decode MFU of one H100 with memory for any number of caches."""
    points = points_of(workload, "h100_sxm", Query(prompt_tokens=CONTEXT - 1, output_tokens=2))
    found = points.evaluate([{"memory_bytes": 1e16, "query.concurrency": load} for load in loads])
    assert found.feasible.all(), found.reasons
    return found.figures["mfu.decode"]


@pytest.mark.parametrize("workload", CEILINGS)
def test_reading_the_kv_cache_caps_decode_mfu_at_any_load(workload: str) -> None:
    cache, flops, stated = CEILINGS[workload]
    ceiling = min(flops / (CONTEXT * cache) / RIDGE, 1.0)
    assert round(ceiling, 2) == stated

    loads = [2**power for power in range(0, 17, 2)]
    found = decode_mfu(workload, loads)
    assert (found < ceiling).all()
    # a limit, not a bound far away: GEMMs and the cache take turns, and neither reaches its peak
    assert found[-1] > 0.4 * ceiling
    assert (np.diff(found[:4]) > 0).all()


def test_the_load_for_a_wanted_mfu_is_a_lower_bound() -> None:
    # C = eta ridge W / (F - eta ridge KV); a real device needs more.
    cache, flops, _ = CEILINGS["llama-3-8b"]
    weights = 32 * (4096 * 6144 + 4096**2 + 3 * 4096 * 14336) + 4096 * 128256
    for wanted in (0.05, 0.1, 0.2):
        load = wanted * RIDGE * weights / (flops - wanted * RIDGE * CONTEXT * cache)
        assert decode_mfu("llama-3-8b", [int(load)])[0] < wanted
    # beyond the ceiling the denominator is negative: never
    assert flops - 0.36 * RIDGE * CONTEXT * cache < 0


SYSTEMS = {
    "h100": ("llama-3-8b", "h100_sxm", "single"), "8xh100": ("llama-2-70b", "8xh100_sxm", "tensor"),
    "soc": ("llama-3-8b", "edge_soc", "single"),
}  # fmt: skip


@pytest.fixture(scope="module", params=SYSTEMS)
def results(request: pytest.FixtureRequest) -> PointResults:
    workload, system, partitioner = SYSTEMS[request.param]
    points = points_of(workload, system, Query(), partitioner=partitioner)
    return points.evaluate([{"query.concurrency": load} for load in (1, 2, 7, 32, 100)])


def test_utilizations_are_in_order_on_real_devices(results: PointResults) -> None:
    figures = results.figures
    mfu, limit = figures["mfu.query"], 1 + 1e-12

    assert (mfu > 0).all()
    assert (mfu <= figures["hfu"] * limit).all()
    assert (figures["hfu"] < 1).all()
    assert (figures["mbu"] < 1).all()
    assert (figures["mfu.decode"] <= mfu * limit).all()
    assert (mfu <= figures["mfu.prefill"] * limit).all()


def test_delivered_is_mfu_times_peak_in_one_format(results: PointResults) -> None:
    figures = results.figures
    np.testing.assert_allclose(
        figures["delivered_flops_per_s"], figures["mfu.query"] * figures["peak_flops_per_s"],
        rtol=1e-9,
    )  # fmt: skip


def test_power_is_between_idle_and_full_load(results: PointResults) -> None:
    figures = results.figures

    np.testing.assert_allclose(figures["mean_w"], figures["query_j"] * figures["queries_per_s"])
    assert (figures["mean_w"] <= figures["peak_w"] * (1 + 1e-9)).all()
    assert (figures["peak_w"] <= figures["full_load_w"] * (1 + 1e-9)).all()


def test_mbu_stays_within_what_a_stream_reaches() -> None:
    # The H100 of the catalog streams at 90 % of its peak bandwidth.
    points = points_of("llama-3-8b", "h100_sxm", Query())
    device = points.scenario.device
    found = points.evaluate([{"query.concurrency": load} for load in (1, 4, 16, 64)])

    assert (found.figures["mbu"] <= device.memory_efficiency).all()
    assert found.figures["mbu"][0] > 0.5  # one query streams the weights


@pytest.mark.parametrize("system", ["h100_sxm", "edge_soc"])
def test_batches_of_real_devices_equal_single_designs(system: str) -> None:
    field = {"h100_sxm": "memory_bytes_per_s", "edge_soc": "sram_bytes"}[system]
    rng = np.random.default_rng(5)
    base = {"h100_sxm": 3e12, "edge_soc": 3e7}[system]
    sampled = [
        {
            field: float(np.floor(base * rng.uniform(0.5, 2))),
            "query.concurrency": int(rng.integers(1, 40)),
        }
        for _ in range(12)
    ]
    together = points_of("llama-3-8b", system, Query()).evaluate(sampled)
    for index, point in enumerate(sampled):
        alone = points_of("llama-3-8b", system, Query()).evaluate([point])
        for name, column in together.figures.items():
            np.testing.assert_array_equal(column[index], alone.figures[name][0], err_msg=name)
        assert together.reasons[index] == alone.reasons[0]


@pytest.mark.parametrize("system", ["h100_sxm", "8xh100_sxm", "edge_soc"])
@pytest.mark.parametrize("load", [1, 48])
def test_ledgers_and_energies_of_real_devices_sum(system: str, load: int) -> None:
    found = pa.evaluate(pa.partition("llama-3-8b", system, Query(concurrency=load)))
    assert found.mfu.query is not None

    assert sum(entry.share for entry in found.ledger) == pytest.approx(1, abs=1e-12)
    assert found.ledger[0].share == pytest.approx(found.mfu.query, rel=1e-9)
    assert sum(joules or 0.0 for joules in found.energy_j.values()) == pytest.approx(found.query_j)
    assert None not in found.energy_j.values()


def test_a_power_cap_holds_on_a_gpu() -> None:
    points = points_of("llama-3-8b", "h100_sxm", Query(concurrency=32))
    caps = [300.0, 400.0, 500.0, 700.0]
    found = points.evaluate([{"power_cap_w": cap} for cap in caps])
    host = 575.0

    # its own static share follows the cap, so only the bound is compared
    assert found.feasible.all()
    assert (found.figures["peak_w"] - host <= np.array(caps) * (1 + 1e-9)).all()


def test_a_model_too_large_is_answered_in_bytes() -> None:
    # 175e9 bytes of fp8 weights and 2-byte embeddings on 80 GB
    found = pa.evaluate(pa.partition("gpt3-175b", "h100_sxm"))

    assert not found.feasible
    assert found.reason is not None
    assert "of weights" in found.reason
    assert "80.0 GB" in found.reason
    assert found.reason.endswith("GB short")
    assert [str(verdict.verdict) for verdict in found.targets[:3]] == ["infeasible"] * 3


def test_the_benchmark_measures_every_figure_that_it_describes() -> None:
    found = run_bench(default_library(), designs=64, trials=4)
    measured = {name: value for name, value in found.items() if name != "descriptions"}

    assert set(measured) == set(DESCRIPTIONS) == set(found["descriptions"])
    for name, value in measured.items():
        values = value.values() if isinstance(value, dict) else [value]
        assert all(number > 0 for number in values), name
