"""What explains one operator: bounds, what binds next, fusion, mapping, the next refetch."""

from dataclasses import replace

import pytest
from tests.unit.evaluate.paper import evaluate, paper_scenario

import pentarch as pa
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.explain import evaluation_of
from pentarch.evaluate.prepare import prepare
from pentarch.hardware.runtime import AttentionKernel, Runtime
from pentarch.mapping.single import GemmShape, map_gemm
from pentarch.results import Evaluation, OperatorCost


def edge(
    *, sram_bytes: int | None = None, runtime: Runtime | None = None, prompt: int = 512
) -> Evaluation:
    """Return the edge device, with another scratchpad or runtime."""
    planned = pa.partition(
        "llama-3-8b", "edge_soc", pa.Query(prompt_tokens=prompt, output_tokens=4)
    )
    scenario = planned.scenario
    if sram_bytes is not None:
        scenario = replace(scenario, device=scenario.device.replace(sram_bytes=sram_bytes))
    if runtime is not None:
        scenario = replace(scenario, runtime=runtime)
    prepared = prepare(scenario)
    return evaluation_of(prepared, run_designs(prepared, length=1), 0, scenario=scenario)


def one(found: Evaluation, name: str, phase: str = "prefill") -> OperatorCost:
    (cost,) = (cost for cost in found.operators if (cost.name, cost.phase) == (name, phase))
    return cost


def test_bounds_and_headroom_on_paper() -> None:
    found = evaluate(paper_scenario(bytes_per_s=250.0, concurrency=2, start_s=0.5))
    head = one(found, "lm_head", "decode")

    # two sequences: 2 x 256 MACs / 1000 = 0.512 s against 256 B / 250 = 1.024 s, and a start
    assert head.headroom == pytest.approx(2.0)
    assert head.bounds is not None
    assert (head.bounds.time_s, head.bounds.level) == (pytest.approx(1.024), "memory")
    assert head.bounds.time_gap == pytest.approx(0.5 / 1.024)
    assert (head.bounds.compulsory_bytes, head.bounds.moved_bytes) == (256.0, 256.0)
    assert head.bounds.bytes_gap == 0.0
    qkv = one(found, "layer.qkv")
    # four tokens of one prompt: 768 MACs take as long as 192 B; the work sets the bound of ties
    assert qkv.bounds is not None
    assert (qkv.bounds.time_s, qkv.bounds.level) == (pytest.approx(0.768), None)
    assert qkv.mapping == {"engine": "array", "format": "fp8"}
    assert qkv.next_refetch is None


@pytest.mark.parametrize("system", ["h100_sxm", "8xh100_sxm", "edge_soc"])
@pytest.mark.parametrize("load", [1, 40])
def test_nothing_is_below_its_bounds(system: str, load: int) -> None:
    asked = pa.Query(prompt_tokens=700, output_tokens=3, concurrency=load)
    found = pa.evaluate(pa.partition("llama-3-8b", system, asked))
    bounded = [cost for cost in found.operators if cost.bounds is not None]

    assert {cost.phase for cost in bounded} == {"prefill", "decode"}
    for cost in bounded:
        assert cost.bounds is not None
        assert cost.time_s >= cost.bounds.time_s * (1 - 1e-12), cost.name
        assert cost.bounds.moved_bytes >= cost.bounds.compulsory_bytes * (1 - 1e-12), cost.name
        assert max(cost.terms_s.values()) == cost.terms_s[cost.bottleneck]
        if cost.headroom is not None:
            assert cost.headroom >= 1


def test_compulsory_bytes_of_a_gemm_are_its_operands() -> None:
    gate_up = one(edge(prompt=512), "decoder.gate_up")
    assert gate_up.bounds is not None
    # A 512 x 4096, B 4096 x 28672 and C 512 x 28672, of which A and B are fp8 and C is 16 bits or fp8
    least = 512 * 4096 + 4096 * 28672 + 512 * 28672
    assert least <= gate_up.bounds.compulsory_bytes <= least + 512 * 28672


def test_the_mapping_is_that_of_the_mapper_where_it_explains_the_traffic() -> None:
    down = one(edge(sram_bytes=2**25), "decoder.down")
    assert down.bounds is not None
    assert down.mapping["dataflow"] == "output stationary"
    # 512 x 14336 by 14336 x 4096 fits behind 32 MiB with every operand moved once.
    assert down.bounds.bytes_gap == 0.0
    shape = GemmShape(512, 14336, 4096, accumulator_bytes=4, spill_bytes=4)
    best = map_gemm(shape, 2.0**25)
    assert best is not None
    assert down.mapping["loops"] == best.order
    assert down.mapping["tile"] == "m {:g} k {:g} n {:g}".format(*best.tile)


def test_a_gpu_says_its_tile_split_and_waves() -> None:
    found = pa.evaluate(pa.partition("llama-3-8b", "h100_sxm"))
    mapping = one(found, "decoder.gate_up").mapping

    assert str(mapping["tile"]).startswith("m ")
    assert {"split", "waves"} <= set(mapping)
    assert (mapping["engine"], mapping["format"]) == ("tensor cores", "fp8")


def test_with_the_capacity_of_the_next_refetch_the_bytes_are_saved() -> None:
    before = edge(sram_bytes=2**20, prompt=2048)
    steps = {
        cost.name: cost.next_refetch
        for cost in before.operators
        if cost.phase == "prefill" and cost.next_refetch is not None
    }
    assert {"decoder.gate_up", "decoder.down", "decoder.qkv", "decoder.o"} <= set(steps)
    for name, step in steps.items():
        after = one(edge(sram_bytes=int(step.capacity_bytes), prompt=2048), name).bounds
        least = one(before, name).bounds
        assert least is not None
        assert after is not None
        assert step.level == "scratchpad"
        assert step.capacity_bytes > step.now_bytes == 2**20
        assert least.moved_bytes - after.moved_bytes == pytest.approx(step.saved_bytes)


def test_where_nothing_is_fetched_again_there_is_no_next_refetch() -> None:
    found = edge(sram_bytes=2**26)
    assert all(cost.next_refetch is None for cost in found.operators)


def test_a_runtime_that_fuses_nothing_is_the_reason() -> None:
    runtime = Runtime(
        name="plain", fused_functions=frozenset(), attention=AttentionKernel.UNFUSED,
        quantize_fused=False,
    )  # fmt: skip
    found = edge(runtime=runtime)
    reasons = {cost.name: cost.fusion for cost in found.operators if cost.phase == "decode"}
    norm, sampling = reasons["decoder.attention_norm"], reasons["sampling"]
    attention = reasons["decoder.attention"]

    assert norm is not None
    assert (norm.fused, norm.reason) == (False, "runtime plain does not fuse rms_norm")
    assert sampling is not None
    assert sampling.reason == "sampling cannot ride on a neighbor"
    assert attention is not None
    assert (attention.fused, attention.reason) == (False, "runtime plain runs unfused attention")
    assert reasons["decoder.qkv"] is None


def test_what_an_ideal_runtime_fuses_rides_on_a_neighbor() -> None:
    found = edge()
    norm, attention = one(found, "decoder.attention_norm"), one(found, "decoder.attention")

    assert norm.fusion is not None
    assert norm.fusion.fused
    assert attention.fusion is not None
    assert attention.fusion.fused
    assert "faster" in attention.fusion.reason


def test_what_is_looked_up_late_is_in_the_document() -> None:
    found = edge(sram_bytes=2**20)
    again = Evaluation.model_validate_json(found.model_dump_json())

    assert again == found
    gate_up = one(again, "decoder.gate_up")
    assert gate_up.next_refetch == one(found, "decoder.gate_up").next_refetch is not None
    assert again.energy_ledger == found.energy_ledger
    assert again.inputs.hash == found.inputs.hash
