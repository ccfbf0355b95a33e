from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.graph.build import build_graph
from pentarch.graph.graph import WorkloadGraph, visible_keys
from pentarch.graph.operators import Attention, Gather, Gemm, Phase, Split, Vector
from pentarch.workload.parameters import parameters
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")
QUERY = Query(prompt_tokens=10, output_tokens=4)


def build(workload: Workload, phase: Phase = Phase.DECODE, **changes: Any) -> WorkloadGraph:
    request = {"query": QUERY, "precisions": PLAIN, **changes}
    return build_graph(workload, phase=phase, **request)


def test_decode_reads_every_gemm_weight_once(make_llama: Any) -> None:
    # 2 layers x (4 x 64 x 64 attention + 3 x 64 x 256 MLP) weights + a 1000 x 64 LM head, 2 bytes.
    expected = 2 * (2 * (4 * 64 * 64 + 3 * 64 * 256) + 1000 * 64)
    assert build(make_llama()).gemm_weight_bytes == expected


def test_decode_flops_by_hand(make_llama: Any) -> None:
    # The last of T = 4 tokens comes from the third step, which sees 13 keys: 4 heads x 16 wide,
    # scores and values, in 2 layers.
    gemm = 2 * (4 * 64 * 64 + 3 * 64 * 256) + 1000 * 64
    graph = build(make_llama())
    assert graph.context == 13
    assert graph.flops == 2 * (gemm + 2 * 2 * 4 * 16 * 13)


def test_prefill_counts_the_lower_triangle_and_one_row_of_logits(make_llama: Any) -> None:
    layers = 2 * (4 * 64 * 64 + 3 * 64 * 256)
    pairs = sum(range(1, 11))
    graph = build(make_llama(), Phase.PREFILL)
    assert graph.flops == 2 * (10 * layers + 1000 * 64 + 2 * 2 * 4 * 16 * pairs)
    head = graph.operator("lm_head")
    assert isinstance(head, Gemm)
    assert head.rows == 1


def test_cached_prefix_is_seen_but_not_processed(make_llama: Any) -> None:
    graph = build(make_llama(), Phase.PREFILL, query=QUERY.replace(prefix_tokens=7))
    assert (graph.tokens, graph.context) == (3, 10)
    attention = graph.operator("group0.attention")
    assert isinstance(attention, Attention)
    assert (attention.query_tokens, attention.context) == (3, 10)


@pytest.mark.parametrize("shape", ["llama", "gpt", "experts", "shared", "parallel", "local"])
@pytest.mark.parametrize("fold", [True, False])
def test_graph_has_every_parameter_once(
    make_llama: Any, make_gpt: Any, shape: str, fold: bool
) -> None:
    workload = {
        "llama": lambda: make_llama(kv_heads=2),
        "gpt": make_gpt,
        "experts": lambda: make_llama(experts=(8, 2, 0)),
        "shared": lambda: make_llama(experts=(8, 2, 32), tied=True),
        "parallel": lambda: make_llama(parallel=True),
        "local": lambda: make_llama(counts=(3, 1), windows=(4, None)),
    }[shape]()
    assert build(workload, fold=fold).parameters == parameters(workload).total


@settings(max_examples=25, deadline=None)
@given(
    counts=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    window=st.none() | st.integers(1, 20),
    kv_heads=st.sampled_from([1, 2, 4]),
    experts=st.sampled_from([None, (4, 1, 0), (6, 3, 32)]),
    phase=st.sampled_from(list(Phase)),
    formats=st.sampled_from([PLAIN, Precisions(), Precisions(weights="int4_g128", kv="fp8")]),
)
def test_folded_and_unfolded_totals_are_equal(
    make_llama: Any, counts: Any, window: Any, kv_heads: Any, experts: Any, phase: Any, formats: Any
) -> None:
    windows = (window, *[None] * (len(counts) - 1))
    workload = make_llama(counts=tuple(counts), windows=windows, kv_heads=kv_heads, experts=experts)
    folded = build(workload, phase, precisions=formats)
    unfolded = build(workload, phase, precisions=formats, fold=False)
    assert all(operator.repeat == 1 for operator in unfolded.operators)
    assert len(unfolded.operators) == sum(operator.repeat for operator in folded.operators)
    for total in ("flops", "parameters", "gemm_weight_bytes", "kv_bytes"):
        assert getattr(folded, total) == pytest.approx(getattr(unfolded, total), rel=1e-12)
    for field in ("values_in", "values_out"):
        sums = [
            sum(
                operator.repeat * getattr(operator, field)
                for operator in graph.operators
                if isinstance(operator, Vector | Gather)
            )
            for graph in (folded, unfolded)
        ]
        assert sums[0] == sums[1]


@pytest.mark.parametrize("fold", [True, False])
def test_graph_is_one_acyclic_flow_from_embedding_to_sampling(make_gpt: Any, fold: bool) -> None:
    graph = build(make_gpt(), fold=fold).networkx
    assert nx.is_directed_acyclic_graph(graph)
    assert {node for node in graph if graph.in_degree(node) == 0} == {
        "embedding",
        "position_embedding",
    }
    assert [node for node in graph if graph.out_degree(node) == 0] == ["sampling"]
    assert nx.is_frozen(graph)


def test_edges_carry_what_the_consumer_reads(make_llama: Any) -> None:
    graph = build(make_llama(kv_heads=2), Phase.PREFILL, precisions=Precisions())
    for source, target, tensor in graph.edges:
        operator = graph.operator(target)
        if isinstance(operator, Gemm):
            assert tensor.shape == (operator.rows, operator.k), (source, target)
            assert tensor.format == operator.a_format
        if isinstance(operator, Vector):
            assert tensor.format == operator.format
    stored = graph.networkx.edges["group0.kv_append", "group0.attention"]
    # 10 tokens, keys and values of 2 heads 16 wide, one byte each
    assert (stored["shape"], stored["bytes"]) == ((10, 2 * 2 * 16), 10 * 64)


def test_residual_sums_read_each_of_their_inputs(make_llama: Any) -> None:
    for workload, name, terms in (
        (make_llama(), "group0.attention_add", 2),
        (make_llama(parallel=True), "group0.layer_add", 3),
    ):
        graph = build(workload, Phase.PREFILL)
        incoming = graph.networkx.in_edges(name, data=True)
        assert [values["shape"] for *_, values in incoming] == [(10, 64)] * terms
        operator = graph.operator(name)
        assert isinstance(operator, Vector)
        assert operator.values_in == terms * 10 * 64
        assert operator.elementwise == (terms - 1) * 10 * 64


def test_conversions_stand_only_where_formats_change(make_llama: Any) -> None:
    def converted(precisions: Precisions) -> set[str]:
        graph = build(make_llama(), precisions=precisions)
        return {
            operator.name.removeprefix("group0.")
            for operator in graph.operators
            if isinstance(operator, Vector) and operator.convert
        }

    inputs = {"qkv_quantize", "query_quantize", "o_quantize", "up_quantize", "down_quantize"}
    assert converted(PLAIN) == set()
    assert converted(PLAIN.replace(kv="fp8")) == {"kv_quantize"}
    assert converted(Precisions()) == {*inputs, "kv_quantize", "lm_head_quantize"}
    assert converted(Precisions(kv="bf16", lm_head="bf16")) == inputs


def test_cuts_follow_the_tensor_parallel_pattern(make_llama: Any) -> None:
    graph = build(make_llama(experts=(8, 2, 32)), precisions=Precisions())
    cuts: dict[Split, set[str]] = {}
    for operator in graph.operators:
        if isinstance(operator, Gemm | Attention):
            cuts.setdefault(operator.split, set()).add(operator.name.removeprefix("group0."))
    assert cuts == {
        Split.COLUMNS: {"qkv", "expert_gate_up", "shared_gate_up", "lm_head"},
        Split.ROWS: {"o", "expert_down", "shared_down"},
        Split.HEADS: {"attention"},
        Split.NONE: {"router"},
    }


def test_router_stays_in_the_format_of_the_residual_stream(make_llama: Any) -> None:
    graph = build(make_llama(experts=(8, 2, 0)), precisions=Precisions(weights="int4_g128"))
    router, expert = graph.operator("group0.router"), graph.operator("group0.expert_down")
    assert isinstance(router, Gemm)
    assert isinstance(expert, Gemm)
    assert (router.a_format, router.b_format) == ("bf16", "bf16")
    assert expert.b_format == "int4_g128"


def test_networkx_graph_gives_its_operators_back(make_llama: Any) -> None:
    graph = build(make_llama(windows=(4,)), Phase.PREFILL, fold=False)
    copy = graph.networkx.copy()
    again = WorkloadGraph.from_networkx(copy)
    assert again.operators == graph.operators
    assert again.edges == graph.edges
    assert (again.workload, again.phase, again.tokens, again.context) == (
        "tiny-llama",
        Phase.PREFILL,
        10,
        10,
    )


def test_damaged_graphs_are_refused_with_the_place(make_llama: Any) -> None:
    def damaged() -> Any:
        return build(make_llama()).networkx.copy()

    graph = damaged()
    graph.nodes["lm_head"]["rows"] = -1
    with pytest.raises(FieldError, match=r"node 'lm_head': gemm\.rows: found -1"):
        WorkloadGraph.from_networkx(graph)
    graph = damaged()
    graph.add_edge("lm_head", "embedding", shape=(1,), format="bf16", bytes=2)
    with pytest.raises(InputError, match="cycle"):
        WorkloadGraph.from_networkx(graph)
    graph = damaged()
    graph.edges["lm_head", "sampling"].pop("bytes")
    with pytest.raises(FieldError, match="edge 'lm_head' to 'sampling': bytes: is missing"):
        WorkloadGraph.from_networkx(graph)
    graph = damaged()
    del graph.graph["phase"]
    with pytest.raises(InputError, match="no attribute 'phase'"):
        WorkloadGraph.from_networkx(graph)
    graph = damaged()
    graph.nodes["lm_head"]["name"] = "head"
    with pytest.raises(FieldError, match=r"found 'head'\. Expected the name of the node"):
        WorkloadGraph.from_networkx(graph)
    with pytest.raises(InputError, match="is a Graph"):
        WorkloadGraph.from_networkx(damaged().to_undirected())


def test_unknown_operator_names_the_nearest(make_llama: Any) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'lm_head'"):
        build(make_llama()).operator("lmhead")


def test_lengths_that_leave_nothing_to_do_are_refused(make_llama: Any) -> None:
    with pytest.raises(FieldError, match="prefix_tokens: 10 cached tokens leave nothing"):
        build(make_llama(), Phase.PREFILL, query=QUERY.replace(prefix_tokens=10))
    with pytest.raises(FieldError, match=r"context: found 9\. Expected at least the 10 tokens"):
        build(make_llama(), Phase.PREFILL, context=9)


@given(first=st.integers(1, 60), length=st.integers(0, 60), window=st.none() | st.integers(1, 130))
def test_visible_keys_equal_the_explicit_sum(first: int, length: int, window: int | None) -> None:
    contexts = range(first, first + length)
    expected = sum(context if window is None else min(context, window) for context in contexts)
    assert visible_keys(first=first, last=first + length - 1, window=window) == expected
