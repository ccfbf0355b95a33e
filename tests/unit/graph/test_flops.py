from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentarch.errors import FieldError
from pentarch.graph import flops
from pentarch.graph.build import build_graph
from pentarch.graph.operators import Phase
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

H100_FP8_RIDGE = 1978.9e12 / 3.35e12
"""FLOP per byte: dense fp8 peak over HBM bandwidth, both from the data sheet."""


def step_flops(workload: Workload, context: int) -> int:
    """Return the FLOPs of a decode graph at `context`, summed over its operators."""
    graph = build_graph(
        workload, phase=Phase.DECODE, query=Query(), precisions=Precisions(), context=context
    )
    return graph.flops


def test_llama_3_8b_query_is_the_documented_19_tflop(llama_3_8b: Workload) -> None:
    # definitions.md, Useful FLOPs: P = 1024, T = 256 is 0.019 PFLOP. By hand: 6.98 G weights in the layers, a
    # 0.525 G head; 32 layers of 4096-wide scores and values over the triangle and the decode steps.
    query = Query(prompt_tokens=1024, output_tokens=256)
    layers = 32 * (2 * 4096**2 + 2 * 4096 * 1024 + 3 * 4096 * 14336)
    head = 4096 * 128256
    triangle = sum(range(1, 1025))
    later = sum(range(1025, 1280))
    attention = 32 * 2 * 4096
    expected = 2 * (1279 * layers + 256 * head + attention * (triangle + later))
    assert flops.query_flops(llama_3_8b, query) == expected
    assert round(expected / 1e15, 3) == 0.019
    assert flops.prefill_flops(llama_3_8b, query) == 2 * (
        1024 * layers + head + attention * triangle
    )


def test_kv_traffic_caps_decode_mfu_as_documented(
    llama_3_8b: Workload, llama_2_70b: Workload, gpt3_175b: Workload
) -> None:
    # definitions.md, MBU: H100 fp8, context 1152, fp8 KV.
    expected = {"llama-3-8b": "35 %", "gpt3-175b": "22 %", "llama-2-70b": "100 %"}
    for workload in (llama_3_8b, llama_2_70b, gpt3_175b):
        ceiling = flops.decode_mfu_ceiling(
            workload, context=1152, kv_format="fp8", ridge_flops_per_byte=H100_FP8_RIDGE
        )
        assert f"{ceiling:.0%}".replace("%", " %") == expected[workload.name]


def test_kv_bytes_by_hand(llama_3_8b: Workload, llama_2_70b: Workload) -> None:
    # 2 x 8 heads x 128 wide x layers x bytes
    assert flops.kv_bytes_per_token(llama_3_8b, "bf16") == 2 * 8 * 128 * 32 * 2 == 131072
    assert flops.kv_bytes_per_token(llama_2_70b, "fp8") == 163840
    assert flops.kv_bytes_per_token(llama_3_8b, "mxfp8") == 2 * 8 * 128 * 32 * 8.25 / 8
    assert flops.kv_bytes_at(llama_3_8b, context=100, kv_format="bf16") == 100 * 131072


def test_windows_bound_kv_bytes_and_attention(make_llama: Any) -> None:
    workload = make_llama(counts=(3, 1), windows=(16, None))
    # keys and values of 4 heads 16 wide, one byte: 3 layers hold 16 tokens, one holds all
    assert flops.kv_bytes_at(workload, context=50, kv_format="fp8") == 128 * (3 * 16 + 50)
    assert flops.kv_bytes_per_token(workload, "fp8") == 4 * 128
    gap = flops.useful_flops_per_token(workload, context=60)
    gap -= flops.useful_flops_per_token(workload, context=50)
    assert gap == 2 * 2 * 64 * 10


def test_dense_flops_are_twice_the_gemm_weights(llama_3_8b: Workload, make_llama: Any) -> None:
    # all parameters but the embedding table and 65 norms
    weights = 8_030_261_248 - 128256 * 4096 - 65 * 4096
    assert flops.dense_flops_per_token(llama_3_8b) == 2 * weights
    # two of eight experts, the shared block, the router
    mixture = make_llama(experts=(8, 2, 32))
    layer = 4 * 64 * 64 + 64 * 8 + 2 * 3 * 64 * 256 + 3 * 64 * 32
    assert flops.dense_flops_per_token(mixture) == 2 * (2 * layer + 64 * 1000)


workloads = st.fixed_dictionaries(
    {
        "counts": st.just((2, 1)),
        "windows": st.tuples(st.none() | st.integers(1, 25), st.none() | st.integers(1, 25)),
        "kv_heads": st.sampled_from([1, 2, 4]),
        "experts": st.sampled_from([None, (4, 2, 0), (4, 1, 32)]),
    }
)


@settings(max_examples=20, deadline=None)
@given(shape=workloads, prompt=st.integers(1, 12), output=st.integers(1, 8), data=st.data())
def test_query_flops_equal_the_sum_over_decode_graphs(
    make_llama: Any, shape: Any, prompt: int, output: int, data: Any
) -> None:
    workload = make_llama(**shape)
    prefix = data.draw(st.integers(0, prompt - 1))
    query = Query(prompt_tokens=prompt, output_tokens=output, prefix_tokens=prefix)
    head = 2 * flops.lm_head_macs(workload)
    # Prefill is one step for each token of the prompt, of which only the last needs logits.
    prefill = sum(step_flops(workload, c) - head for c in range(prefix + 1, prompt + 1)) + head
    decode = sum(step_flops(workload, c) for c in range(prompt + 1, prompt + output))
    assert flops.prefill_flops(workload, query) == prefill
    assert flops.decode_flops(workload, query) == decode
    assert flops.query_flops(workload, query) == prefill + decode
    graph = build_graph(workload, phase=Phase.PREFILL, query=query, precisions=Precisions())
    assert graph.flops == prefill


@settings(max_examples=20, deadline=None)
@given(shape=workloads, prompt=st.integers(1, 30), output=st.integers(1, 30))
def test_flops_without_cache_equal_one_prefill_for_each_token(
    make_llama: Any, shape: Any, prompt: int, output: int
) -> None:
    workload = make_llama(**shape)
    passes = sum(
        flops.prefill_flops(workload, Query(prompt_tokens=length, output_tokens=1))
        for length in range(prompt, prompt + output)
    )
    query = Query(prompt_tokens=prompt, output_tokens=output)
    assert flops.query_flops_without_cache(workload, query) == passes


def test_useful_flops_per_token_are_those_of_the_graph(make_gpt: Any) -> None:
    workload = make_gpt()
    assert flops.useful_flops_per_token(workload, context=77) == step_flops(workload, 77)


def test_a_token_sees_at_least_itself(make_gpt: Any) -> None:
    with pytest.raises(FieldError, match="context: found 0"):
        flops.useful_flops_per_token(make_gpt(), context=0)
