import pytest
from pydantic import ValidationError

from pentarch.hardware.kernel_set import CollectiveProtocol, KernelOperator, KernelSet, Protocol
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
