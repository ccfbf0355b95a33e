"""Which partial sums are reduced together, on graphs by hand."""

from collections.abc import Sequence
from typing import Any

import pytest

from pentarch.graph.build import build_graph
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.operators import Gemm, Operator, Phase, Split, Tensor, Vector
from pentarch.plan.reductions import reductions
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import LayerGroup, Norm, NormKind, Workload

PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")
HIDDEN = 64


def reduced(workload: Workload, phase: Phase = Phase.PREFILL, *, fold: bool = True) -> list[Any]:
    query = Query(prompt_tokens=32, output_tokens=8)
    graph = build_graph(workload, phase=phase, query=query, precisions=PLAIN, fold=fold)
    return [tuple(gemm.name for gemm in one.gemms) for one in reductions(graph)]


def cut(name: str, *, repeat: int = 1) -> Gemm:
    return Gemm(
        name=name, layer="group", repeat=repeat, split=Split.ROWS, rows=1, k=HIDDEN, n=HIDDEN,
        a_format="bf16", b_format="bf16", out_format="bf16",
    )  # fmt: skip


def vector(name: str, function: str, *, repeat: int = 1) -> Vector:
    return Vector(
        name=name, layer="group", repeat=repeat, function=function, values_in=HIDDEN,
        values_out=HIDDEN, format="bf16", out_format="bf16",
    )  # fmt: skip


def graph(operators: Sequence[Operator], *edges: tuple[str, str]) -> WorkloadGraph:
    tensor = Tensor(shape=(1, HIDDEN), format="bf16", bytes=2 * HIDDEN)
    return WorkloadGraph.from_operators(
        operators, [(source, target, tensor) for source, target in edges], workload="hand",
        phase=Phase.DECODE, tokens=1, context=8,
    )  # fmt: skip


def found(*arguments: Any) -> list[tuple[str, ...]]:
    return [tuple(gemm.name for gemm in one.gemms) for one in reductions(graph(*arguments))]


@pytest.mark.parametrize("phase", list(Phase))
def test_dense_layers_reduce_each_block(make_llama: Any, phase: Phase) -> None:
    assert reduced(make_llama(counts=(5,)), phase) == [("group0.o",), ("group0.down",)]


@pytest.mark.parametrize("phase", list(Phase))
def test_shared_and_routed_experts_are_reduced_together(make_llama: Any, phase: Phase) -> None:
    together = ("group0.expert_down", "group0.shared_down")
    assert reduced(make_llama(experts=(8, 2, 64)), phase) == [("group0.o",), together]


def test_a_gate_of_the_shared_expert_is_a_factor(make_llama: Any) -> None:
    workload = make_llama(experts=(8, 2, 64))
    (group,) = workload.layers
    block = group.layer.feed_forward.replace(shared_gate=True)
    gated = LayerGroup(name="moe", count=2, layer=group.layer.replace(feed_forward=block))
    assert reduced(workload.replace(layers=(gated,)))[-1] == ("moe.expert_down", "moe.shared_down")


def test_routed_experts_alone_are_reduced_as_a_dense_block(make_llama: Any) -> None:
    assert reduced(make_llama(experts=(8, 2, 0))) == [("group0.o",), ("group0.expert_down",)]


def test_parallel_blocks_are_reduced_once_and_beside_the_residual_stream(make_llama: Any) -> None:
    assert reduced(make_llama(parallel=True)) == [("group0.o", "group0.down")]
    both = make_llama(parallel=True, experts=(8, 2, 64))
    assert reduced(both) == [("group0.o", "group0.expert_down", "group0.shared_down")]


def test_a_norm_behind_a_block_needs_its_whole_sum(make_llama: Any) -> None:
    workload = make_llama(parallel=True)
    (group,) = workload.layers
    layer = group.layer.replace(feed_forward_output_norm=Norm(kind=NormKind.RMS))
    normed = workload.replace(layers=(group.replace(layer=layer),))
    assert sorted(reduced(normed)) == [("group0.down",), ("group0.o",)]


def test_layers_written_out_reduce_as_often_as_folded_ones(make_llama: Any) -> None:
    workload = make_llama(counts=(3,), parallel=True)
    names = [(f"group0.o.{index}", f"group0.down.{index}") for index in range(3)]
    assert reduced(workload, fold=False) == names


def test_sums_of_sums_wait_for_the_last_of_them() -> None:
    operators = [cut("a"), cut("b"), vector("ab", "add"), cut("c"), vector("abc", "add")]
    edges = (("a", "ab"), ("b", "ab"), ("ab", "abc"), ("c", "abc"))
    assert found(operators, *edges) == [("a", "b", "c")]
    # with the residual stream in the first sum, that one is complete behind its reduction
    residual = vector("x", "rms_norm")
    assert found([residual, *operators], ("x", "ab"), *edges) == [("a", "b"), ("c",)]


def test_a_sum_that_something_else_reads_is_reduced_before() -> None:
    operators = [cut("a"), cut("b"), vector("norm", "rms_norm"), vector("sum", "add")]
    edges = (("a", "sum"), ("b", "sum"), ("a", "norm"))
    assert found(operators, *edges) == [("a",), ("b",)]


def test_a_nonlinear_function_of_both_takes_both_whole() -> None:
    operators = [cut("a"), cut("b"), vector("product", "multiply")]
    assert found(operators, ("a", "product"), ("b", "product")) == [("a",), ("b",)]


def test_products_of_unequal_repeats_are_reduced_each_as_often_as_it_runs() -> None:
    operators = [cut("a", repeat=2), cut("b", repeat=3), vector("sum", "add", repeat=3)]
    assert found(operators, ("a", "sum"), ("b", "sum")) == [("a",), ("b",)]
