import pytest
from pydantic import ValidationError

from pentarch.hardware.kernel_set import (
    CollectiveProtocol,
    KernelOperator,
    KernelSet,
    KernelUse,
    Protocol,
)
from pentarch.hardware.runtime import Runtime

FP8_HOPPER = KernelSet(
    operator=KernelOperator.GEMM, a_formats=frozenset({"fp8"}), architectures=frozenset({"Hopper"}),
    step=1.2,
)  # fmt: skip
FP8 = KernelSet(operator=KernelOperator.GEMM, a_formats=frozenset({"fp8"}), step=1.5)
WEIGHTS = KernelSet(
    operator=KernelOperator.GEMM, a_formats=frozenset({"bf16"}), b_formats=frozenset({"int4_g128"})
)
STACK = Runtime(name="stack", kernels=(FP8_HOPPER, FP8, WEIGHTS))


def test_the_first_kernels_that_suit_operator_and_formats_count() -> None:
    assert STACK.kernel(KernelOperator.GEMM, "fp8", "fp8") is FP8_HOPPER
    assert STACK.kernel(KernelOperator.GEMM, "bf16", "int4_g128") is WEIGHTS
    assert STACK.kernel(KernelOperator.GEMM, "bf16", "bf16") == KernelSet(
        operator=KernelOperator.GEMM
    )
    assert STACK.kernel(KernelOperator.MOE, "fp8", "fp8") == KernelSet(operator=KernelOperator.MOE)


def test_on_a_family_only_its_own_kernels_and_those_for_all_remain() -> None:
    assert STACK.for_family("Ampere").kernel(KernelOperator.GEMM, "fp8", "fp8") is FP8
    assert STACK.for_family(None).kernels == (FP8, WEIGHTS)
    assert STACK.for_family("Hopper") is STACK


def test_without_kernels_a_library_limits_nothing() -> None:
    neutral = Runtime(name="ideal").kernel(KernelOperator.ATTENTION_DECODE, "bf16", "fp8")
    factors = ("efficiency", "step", "drain", "feed", "stream", "split", "convert", "cache",
               "wide", "softmax", "passes", "start")  # fmt: skip
    assert [getattr(neutral, name) for name in factors] == [1.0] * len(factors)
    times = ("start_s", "token_s", "part_s", "tile_start_s", "row_s", "least_area")
    assert [getattr(neutral, name) for name in times] == [0.0] * len(times)


def test_kernels_survive_json_with_their_sets_in_order() -> None:
    text = STACK.model_dump_json()
    assert Runtime.model_validate_json(text) == STACK
    both = KernelSet(operator=KernelOperator.GEMM, a_formats=frozenset({"int8", "fp8"}))
    assert both.model_dump()["a_formats"] == ["fp8", "int8"]


def test_times_and_factors_are_checked() -> None:
    with pytest.raises(ValidationError):
        KernelSet(operator=KernelOperator.GEMM, efficiency=0.0)
    with pytest.raises(ValidationError):
        CollectiveProtocol(protocol=Protocol.RING, efficiency=1.5)


def test_kernels_may_be_for_some_shapes_and_functions_only() -> None:
    decode = KernelOperator.ATTENTION_DECODE
    single = KernelSet(operator=decode, most_group=1)
    wide = KernelSet(operator=decode, least_head_dim=129, most_head_dim=256, least_group=2)
    gelu = KernelSet(operator=KernelOperator.MOE, functions=frozenset({"gelu_multiply"}))
    stack = Runtime(name="stack", kernels=(single, wide, gelu))

    def chosen(group: float, head_dim: float) -> KernelSet:
        return stack.kernel(decode, "bf16", "bf16", KernelUse(group=group, head_dim=head_dim))

    assert chosen(1.0, 256.0) is single
    assert chosen(2.0, 256.0) is wide
    neutral = KernelSet(operator=decode)
    assert chosen(2.0, 128.0) == chosen(128.0, 576.0) == neutral
    assert stack.kernel(decode, "bf16", "bf16") == neutral  # nothing known: none for some only
    moe = KernelOperator.MOE
    assert stack.kernel(moe, "bf16", "bf16", KernelUse(function="gelu_multiply")) is gelu
    others = (KernelUse(function="silu_multiply"), KernelUse())
    assert {stack.kernel(moe, "bf16", "bf16", use) for use in others} == {KernelSet(operator=moe)}


@pytest.mark.parametrize(
    ("operator", "conditions", "message"),
    [
        ("attention_decode", {"least_group": 8, "most_group": 2}, "at most most_group = 2"),
        ("gemm", {"most_head_dim": 64}, "no bounds of `head_dim`: gemm has no heads"),
        ("attention_decode", {"functions": ["softmax"]}, "those of collective, moe, vector are"),
        ("moe", {"functions": ["swiglu"]}, "among clamped_silu, clamped_silu_multiply, gelu"),
        ("gemm", {"b_formats": ["fp7"]}, "fp7"),
    ],
)
def test_conditions_that_no_operator_fulfills_are_refused(
    operator: str, conditions: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        KernelSet.model_validate({"operator": operator, **conditions})


def test_quantization_is_fused_on_the_families_that_a_stack_names() -> None:
    stack = Runtime(
        name="stack", quantize_fused=True, static_formats=frozenset({"fp8"}),
        fused_families=frozenset({"Blackwell"}),
    )  # fmt: skip
    assert stack.for_family("Blackwell") is stack
    for family in ("Hopper", None):
        other = stack.for_family(family)
        assert (other.quantize_fused, other.static_formats) == (False, frozenset())
    assert Runtime(name="any").for_family("Hopper").quantize_fused
