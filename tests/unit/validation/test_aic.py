from pathlib import Path

import pytest

from pentarch.errors import FieldError
from pentarch.validation.aic import (
    attention_rows,
    collective_rows,
    gemm_rows,
    moe_rows,
    routed,
)
from pentarch.validation.kernels import AttentionPart, GemmPart, VectorPart, subset_of
from pentarch.validation.lines import Line, read_lines
from pentarch.validation.routing_draws import RankLoad

MEASURED = Path(__file__).parents[2] / "validation" / "data" / "measured"


def line(**values: object) -> Line:
    return Line({key: str(value) for key, value in values.items()}, where="f.csv, line 2")


def gemm_line(**values: object) -> Line:
    base = {"device": "d", "dtype": "fp8", "m": 4, "n": 16, "k": 8, "latency_ms": 2, "vllm_ms": 1,
            "sglang_ms": 3, "trtllm_ms": 5, "flags": "L2fit;spread;"}  # fmt: skip
    return line(**(base | values))


def test_an_fp8_gemm_quantizes_its_activations_first() -> None:
    rows = list(gemm_rows([gemm_line()], "f.csv"))
    quantize, gemm = rows[0].parts
    assert isinstance(quantize, VectorPart)
    assert (quantize.bytes_in, quantize.bytes_out) == (4 * 8 * 2, 4 * 8)
    assert gemm == GemmPart(4, 8, 16, a_format="fp8", b_format="fp8", out_format="bf16")


def test_the_reference_is_the_median_of_the_stacks_that_its_header_names() -> None:
    fp8 = list(gemm_rows([gemm_line()], "f.csv"))
    bf16 = list(gemm_rows([gemm_line(dtype="bf16", trtllm_ms="")], "f.csv"))
    assert [one.framework for one in fp8] == ["", "vllm", "sglang", "trtllm"]
    assert [one.measured_s for one in fp8] == [0.002, 0.001, 0.003, 0.005]
    assert fp8[0].runtimes == ("vllm", "sglang")
    assert bf16[0].runtimes == ("vllm", "sglang")
    assert fp8[3].copies == 5.0


def test_rows_of_one_line_share_their_parts() -> None:
    rows = list(gemm_rows([gemm_line()], "f.csv"))
    assert len({id(one.parts) for one in rows}) == 1


@pytest.mark.parametrize(
    ("flags", "subset"),
    [("L2fit;L2bw;", "L2fit"), ("spread;peak;", "main"), ("", "main"), ("queueing;L2fit;", "flagged"),
     ("above_link;", "main"), ("slow_vs_peer;", "flagged")],
)  # fmt: skip
def test_subsets_follow_the_flags(flags: str, subset: str) -> None:
    assert subset_of(line(flags=flags).flags()) == subset


def test_weight_only_formats_multiply_in_16_bits() -> None:
    (row, *_) = gemm_rows([gemm_line(dtype="w4a16")], "f.csv")
    (gemm,) = row.parts
    assert isinstance(gemm, GemmPart)
    assert (gemm.a_format, gemm.b_format) == ("bf16", "int4_g128")


def test_prefill_and_decode_attention() -> None:
    common = {"device": "d", "kv_dtype": "fp8", "batch": 2, "heads": 8, "kv_heads": 2, "head_dim": 64,
              "latency_ms": 1, "vllm_ms": 1}  # fmt: skip
    (prefill, _) = attention_rows([line(**common, seq_len=128)], "f.csv")
    (decode, _) = attention_rows([line(**common, kv_len=128)], "f.csv")
    append, attention = prefill.parts
    assert isinstance(append, VectorPart)
    # keys and values of 2 x 128 tokens, 2 heads of 64: bf16 in, fp8 out
    assert (append.bytes_in, append.bytes_out) == (131072 * 1.0, 65536.0)
    assert isinstance(attention, AttentionPart)
    assert (attention.queries, attention.keys) == (128, 128)
    assert isinstance(decode.parts[1], AttentionPart)
    assert (decode.parts[1].queries, decode.operator) == (1, "attention_decode")


def moe_line(**values: object) -> Line:
    base = {"device": "d", "dtype": "bf16", "num_tokens": 1, "hidden_size": 2048, "inter_size": 768,
            "topk": 8, "num_experts": 128, "moe_tp_size": 1, "moe_ep_size": 1,
            "distribution": "balanced", "latency_ms": 1, "kernel": "k"}  # fmt: skip
    return line(**(base | values))


def test_balanced_routing_by_hand() -> None:
    assert routed(moe_line()) == RankLoad(8.0, 8.0)  # one token visits eight experts
    assert routed(moe_line(num_tokens=1024, moe_ep_size=2)) == RankLoad(64.0, 1024 * 8 / 2)


def test_skewed_routing_loads_one_rank_more_and_visits_fewer_experts() -> None:
    flat = routed(moe_line(num_tokens=64, moe_ep_size=4))
    skewed = routed(moe_line(num_tokens=64, moe_ep_size=4, distribution="power_law_1.2"))
    assert skewed.pairs > flat.pairs
    assert skewed.visited < flat.visited


def test_kernels_with_the_older_benchmark_got_its_routing() -> None:
    few = {"num_experts": 256, "moe_ep_size": 8, "distribution": "power_law_1.2"}
    assert routed(moe_line(**few, kernel="vllm_fused_moe")) == RankLoad(8.0, 8.0)


def test_a_mixture_of_experts_is_two_grouped_gemms_with_what_lies_between() -> None:
    (row,) = moe_rows([moe_line(num_tokens=256, inter_size=1024, moe_tp_size=2)], "f.csv")
    up, act, down, combine = row.parts
    assert isinstance(up, GemmPart)
    assert isinstance(down, GemmPart)
    assert (up.n, up.k, down.n, down.k) == (1024, 2048, 2048, 512)
    assert up.instances * up.m == pytest.approx(256 * 8)
    assert isinstance(act, VectorPart)
    assert isinstance(combine, VectorPart)
    assert combine.bytes_out == 256 * 2048 * 2


def gemms(**values: object) -> tuple[GemmPart, GemmPart]:
    (row,) = moe_rows([moe_line(**values)], "f.csv")
    up, down = (part for part in row.parts if isinstance(part, GemmPart))
    return up, down


def vectors(**values: object) -> dict[str, VectorPart]:
    (row,) = moe_rows([moe_line(**values)], "f.csv")
    return {part.function: part for part in row.parts if isinstance(part, VectorPart)}


def test_experts_have_the_function_of_the_model_whose_shape_they_have() -> None:
    nemotron = {"hidden_size": 2688, "inter_size": 1856, "num_experts": 128}
    up, down = gemms(**nemotron)
    assert (up.activation, down.activation) == ("relu_squared", "relu_squared")
    assert (up.n, down.k) == (1856, 1856)  # nothing multiplies it: one product, not two
    gemma = gemms(hidden_size=2816, inter_size=704, num_experts=128)
    assert (gemma[0].activation, gemma[0].n) == ("gelu_multiply", 2 * 704)
    assert gemms()[0].activation == "silu_multiply"
    # The bare function ran its default whatever the model.
    bare = gemms(**nemotron, kernel="vllm_fused_moe")
    assert (bare[0].activation, bare[0].n) == ("silu_multiply", 2 * 1856)


def test_some_kernels_pass_rows_of_absent_experts_on() -> None:
    shape = {"num_tokens": 1024, "moe_ep_size": 4}
    plain, filling = vectors(**shape), vectors(**shape, kernel="vllm_x_triton_y")
    pairs, mine, inner, hidden = 1024 * 8, 1024 * 2, 768, 2048
    assert plain["silu_multiply"].bytes_in == 2 * mine * 2 * inner
    assert filling["silu_multiply"].bytes_in == 2 * pairs * 2 * inner
    zeros = 2 * (pairs - mine) * (2 * inner + hidden)
    assert filling["silu_multiply"].bytes_out == 2 * pairs * inner + zeros
    assert filling["combine"].bytes_in == 2 * pairs * hidden


def test_some_kernels_apply_the_function_within_the_first_product() -> None:
    fused = vectors(dtype="fp8", kernel="vllm_flashinfer_trtllm_x", num_tokens=64)
    assert list(fused) == ["quantize", "combine"]
    assert fused["quantize"].convert == 64 * 2048
    assert gemms(dtype="fp8", kernel="vllm_flashinfer_trtllm_x")[0].out_format == "fp8"
    apart = vectors(dtype="fp8_block", kernel="vllm_flashinfer_trtllm_x")
    assert "silu_multiply" in apart


def test_an_unknown_distribution_or_library_is_named() -> None:
    with pytest.raises(FieldError, match="distribution: found 'zipf'"):
        list(moe_rows([moe_line(distribution="zipf")], "f.csv"))
    wrong = line(
        device="d", library="mpi-4", op="all_reduce", num_gpus=2, message_bytes=1, latency_ms=1
    )
    with pytest.raises(FieldError, match="library: found 'mpi-4'"):
        list(collective_rows([wrong], "f.csv"))


def test_collectives_are_run_by_their_library() -> None:
    lines = read_lines(MEASURED / "aic_collectives.csv")
    for one, read in zip(collective_rows(lines, "f.csv"), lines, strict=True):
        first = read["library"].split("-")[0]
        expected = {"nccl": "nccl-tests", "oneccl": "oneccl"}.get(first, first)
        if "custom" in read["library"] and read["mode"] == "eager":
            expected = "framework-eager"
        assert one.runtimes == (expected,)
