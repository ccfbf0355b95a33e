"""Kernels that runtimes choose by their conditions against those that measurements name."""

from pathlib import Path

import pytest

from pentarch.catalog import Library
from pentarch.hardware.kernel_set import KernelOperator, KernelUse
from pentarch.registry import load_registry
from pentarch.validation.aic import ACTIVATIONS
from pentarch.validation.fit_rows import RowFilter, read_rows
from pentarch.validation.kernels import GemmPart
from pentarch.validation.predict import family_of
from pentarch.workload.layers import ExpertFeedForward

MOE = Path(__file__).parent / "data" / "measured" / "aic_moe.csv"
BLACKWELL = ("b200_sxm", "gb200", "b300_sxm", "gb300")


def is_apart(a_format: str, b_format: str, function: str) -> bool:
    """Return whether vLLM on data-center Blackwell has kernels apart for a function of experts."""
    stack = Library(load_registry()).runtime("vllm").for_family("Blackwell")
    chosen = stack.kernel(KernelOperator.MOE, a_format, b_format, KernelUse(function=function))
    return bool(chosen.functions)


def test_vllm_leaves_functions_that_fused_kernels_lack_to_cutlass() -> None:
    chosen = RowFilter(devices=frozenset(BLACKWELL))
    rows = read_rows([MOE], Library(load_registry()), chosen)
    found = set()
    for row in rows:
        gemm = next(part for part in row.parts if isinstance(part, GemmPart))
        apart = is_apart(gemm.a_format, gemm.b_format, gemm.activation)
        assert apart == ("cutlass" in row.kernel), (row.label, row.kernel)
        found.add(apart)
    assert found == {False, True}


@pytest.mark.parametrize(
    ("number_format", "function", "apart"),
    [("bf16", "gelu_multiply", True), ("bf16", "relu_squared", False), ("fp8", "gelu_multiply", True),
     ("nvfp4", "gelu_multiply", False), ("nvfp4", "clamped_silu_multiply", True),
     ("fp8", "silu_multiply", False)],
)  # fmt: skip
def test_functions_that_the_kernels_of_vllm_support(
    number_format: str, function: str, apart: bool
) -> None:
    # `_supports_activation` of vLLM 0.24's trtllm_bf16_moe, trtllm_fp8_moe and trtllm_nvfp4_moe.
    assert is_apart(number_format, number_format, function) == apart


def test_gpt_oss_has_the_function_that_its_measured_kernels_are_chosen_by() -> None:
    expert = Library(load_registry()).workload("gpt-oss-120b").layers[0].layer.feed_forward
    assert isinstance(expert, ExpertFeedForward)
    graph_name = f"{expert.expert.activation}_multiply"
    assert expert.expert.gated
    assert ACTIVATIONS[2880.0, 2880.0, 128.0] == graph_name


@pytest.mark.parametrize("name", BLACKWELL)
def test_parts_of_one_compute_capability_run_the_same_kernels(name: str) -> None:
    library = Library(load_registry())
    device = library.device(name)
    assert family_of(library.backend_of(device), device) == "Blackwell"
