"""Latent, chunked and cross attention, encoders, and graphs of every built-in family."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentarch.errors import FieldError
from pentarch.graph import flops
from pentarch.graph.build import build_graph
from pentarch.graph.export import from_graphml, from_json, to_graphml, to_json
from pentarch.graph.graph import WorkloadGraph, attention_keys, keys_read, visible_keys
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Attention, Gemm, Phase, Vector
from pentarch.registry import load_registry
from pentarch.workload.attention import GroupedQueryAttention, LatentAttention, Norm, NormKind
from pentarch.workload.layers import (
    Activation,
    CrossAttention,
    DenseFeedForward,
    ExpertFeedForward,
    Layer,
    LayerGroup,
)
from pentarch.workload.parameters import parameters
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Encoder, HeadKind, Workload

PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")
RMS = Norm(kind=NormKind.RMS)
TYPES = sorted(kind for family in load_registry().families.values() for kind in family.model_types)


def workload_of(layer: Layer, *, count: int = 2, **changes: Any) -> Workload:
    """Return a workload of 32 features and 100 tokens whose layers are all alike."""
    fields = {
        "name": "hand", "family": "hand", "hidden": 32, "vocab": 100, "positions": 4096,
        "layers": (LayerGroup(name="layer", count=count, layer=layer),), "final_norm": RMS,
    }  # fmt: skip
    return Workload(**{**fields, **changes})


BLOCK = DenseFeedForward(width=48, activation=Activation.SILU, gated=True)


def latent_workload(query_latent: int | None = 12) -> Workload:
    """Return a workload with 4 heads over a latent vector of 16 and a rotary key of 4 features."""
    attention = LatentAttention(
        heads=4, query_latent=query_latent, latent=16, plain_dim=8, rotary_dim=4, value_dim=6
    )
    layer = Layer(attention=attention, feed_forward=BLOCK, attention_norm=RMS,
                  feed_forward_norm=RMS)  # fmt: skip
    return workload_of(layer)


def chunked_workload(chunk: int) -> Workload:
    attention = GroupedQueryAttention(heads=4, kv_heads=2, head_dim=8, chunk=chunk)
    return workload_of(Layer(attention=attention, feed_forward=BLOCK, attention_norm=RMS,
                             feed_forward_norm=RMS))  # fmt: skip


def translator() -> Workload:
    """Return an encoder of three layers and a decoder of two with cross attention."""
    own = GroupedQueryAttention(heads=4, kv_heads=4, head_dim=8)
    blind = own.replace(causal=False)
    encoder = Layer(attention=blind, feed_forward=BLOCK, attention_norm=RMS)
    decoder = Layer(attention=own, feed_forward=BLOCK, attention_norm=RMS,
                    cross=CrossAttention(attention=blind, norm=RMS))  # fmt: skip
    return workload_of(
        decoder, tied=True,
        encoder=Encoder(
            positions=512, layers=(LayerGroup(name="encoder", count=3, layer=encoder),),
            final_norm=RMS,
        ),
    )  # fmt: skip


def build(workload: Workload, phase: Phase = Phase.DECODE, **changes: Any) -> WorkloadGraph:
    query = Query(prompt_tokens=10, output_tokens=4)
    return build_graph(workload, phase=phase, **{"query": query, "precisions": PLAIN, **changes})


def gemm(graph: WorkloadGraph, name: str) -> tuple[int, ...]:
    found = graph.operator(name)
    assert isinstance(found, Gemm)
    return found.batch, found.rows, found.k, found.n


def core(graph: WorkloadGraph, name: str = "layer.attention") -> Attention:
    found = graph.operator(name)
    assert isinstance(found, Attention)
    return found


def test_latent_attention_makes_keys_of_all_heads_in_prefill() -> None:
    graph = build(latent_workload(), Phase.PREFILL)
    assert gemm(graph, "layer.qkv_down") == (1, 10, 32, 12 + 16 + 4)
    assert gemm(graph, "layer.query_up") == (1, 10, 12, 4 * 12)
    assert gemm(graph, "layer.key_up") == (1, 10, 16, 4 * 8)
    assert gemm(graph, "layer.value_up") == (1, 10, 16, 4 * 6)
    attention = core(graph)
    assert (attention.kv_heads, attention.head_dim, attention.value_dim) == (4, 12, 6)
    assert not attention.values_in_keys


def test_latent_attention_is_absorbed_in_decode() -> None:
    graph = build(latent_workload())
    # one GEMM per head: a query of 8 features becomes one of 16, an output of 16 one of 6
    assert gemm(graph, "layer.key_up") == (4, 1, 8, 16)
    assert gemm(graph, "layer.value_up") == (4, 1, 16, 6)
    attention = core(graph)
    assert (attention.kv_heads, attention.head_dim, attention.value_dim) == (1, 20, 16)
    assert attention.values_in_keys
    # latent vector and rotary key of 13 tokens in 2 layers, 2 bytes each
    assert graph.kv_bytes == 2 * 13 * (16 + 4) * 2


@pytest.mark.parametrize("query_latent", [12, None])
def test_latent_weights_by_hand(query_latent: int | None) -> None:
    workload = latent_workload(query_latent)
    query = 32 * 48 if query_latent is None else 32 * 12 + 12 * 48 + 12
    layer = query + 32 * 20 + 16 + 16 * 4 * (8 + 6) + 4 * 6 * 32 + 3 * 32 * 48 + 2 * 32
    expected = 2 * layer + 2 * 100 * 32 + 32
    assert parameters(workload).total == expected
    for phase in Phase:
        assert build(workload, phase).parameters == expected


def test_latents_of_a_cached_prefix_are_expanded_again_but_are_no_useful_work() -> None:
    query = Query(prompt_tokens=10, prefix_tokens=7, output_tokens=4)
    graph = build(latent_workload(), Phase.PREFILL, query=query)
    assert gemm(graph, "layer.key_up") == (1, 10, 16, 32)
    assert graph.flops == flops.prefill_flops(latent_workload(), query)
    whole = flops.prefill_flops(latent_workload(), query.replace(prefix_tokens=0))
    before = flops.prefill_flops(latent_workload(), Query(prompt_tokens=7, output_tokens=4))
    assert whole == before + graph.flops - 2 * 32 * 100  # the logits of the first part


def test_a_latent_cache_is_not_shared_out_by_tensor_parallelism(make_plan: Any) -> None:
    workload, query = latent_workload(), Query(prompt_tokens=10, output_tokens=4)
    tables = {
        ways: lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload, ways=ways))
        for ways in (1, 2)
    }
    assert tables[1].kv_bytes_per_token == tables[2].kv_bytes_per_token == 2 * 20 * 2
    for ways, table in tables.items():
        rows = dict(zip(table.gemm.names, range(len(table.gemm.names)), strict=True))
        last = rows["layer.key_up"]  # the decode row comes last
        assert table.gemm.phases[last] is Phase.DECODE
        assert (table.gemm.experts[last], table.gemm.experts_per_token[last]) == (
            4 / ways,
            4 / ways,
        )
        assert (table.gemm.k[last], table.gemm.n[last]) == (8, 16)


def test_conversions_of_the_absorbed_form_run_although_no_plan_places_them(make_plan: Any) -> None:
    workload, query = latent_workload(), Query(prompt_tokens=10, output_tokens=4)
    formats = Precisions()
    plan = make_plan(workload, precisions=formats)
    table = lower(workload, query=query, precisions=formats, plan=plan)
    graph = build(workload, precisions=formats)
    decode = {
        operator.name: operator.repeat * 3
        for operator in graph.operators
        if isinstance(operator, Vector)
    }
    found = {
        name: times
        for name, phase, times in zip(
            table.vector.names, table.vector.phases, table.vector.executions, strict=True
        )
        if phase is Phase.DECODE and name in decode
    }
    assert found == decode
    assert {"layer.value_quantize", "layer.query_quantize"} <= set(found)


@given(first=st.integers(1, 60), length=st.integers(0, 60), chunk=st.integers(1, 70))
def test_chunked_keys_equal_the_explicit_sum(first: int, length: int, chunk: int) -> None:
    contexts = range(first, first + length)
    expected = sum((context - 1) % chunk + 1 for context in contexts)
    assert visible_keys(first=first, last=first + length - 1, chunk=chunk) == expected


@given(
    context=st.integers(1, 40), share=st.floats(0, 1), window=st.none() | st.integers(1, 45),
    chunk=st.none() | st.integers(1, 45),
)  # fmt: skip
def test_keys_read_are_those_that_some_query_sees(
    context: int, share: float, window: int | None, chunk: int | None
) -> None:
    tokens = max(1, round(share * context))
    window = None if chunk is not None else window
    seen = set()
    for query in range(context - tokens, context):
        start = 0 if chunk is None else query // chunk * chunk
        start = start if window is None else max(0, query - window + 1)
        seen |= set(range(start, query + 1))
    assert keys_read(tokens=tokens, context=context, window=window, chunk=chunk) == len(seen)


@settings(max_examples=40, deadline=None)
@given(
    prompt=st.integers(1, 30), output=st.integers(2, 60), chunk=st.integers(1, 25)
)  # fmt: skip
def test_rows_of_chunked_attention_add_up_to_all_decode_steps(
    make_plan: Any, prompt: int, output: int, chunk: int
) -> None:
    workload = chunked_workload(chunk)
    query = Query(prompt_tokens=prompt, output_tokens=output)
    table = lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload)).attention
    decode = table.is_decode
    assert table.executions[decode].sum() == 2 * (output - 1)
    steps = range(prompt + 1, prompt + output)
    expected = 2 * sum((context - 1) % chunk + 1 for context in steps)
    assert (table.executions * table.pairs)[decode].sum() == expected
    assert (table.executions * table.keys)[decode].sum() == expected
    assert decode.sum() <= 6  # whatever the number of chunks


@given(prompt=st.integers(1, 12), output=st.integers(1, 8), chunk=st.integers(1, 9))
def test_decoding_without_a_cache_repeats_every_prefill(
    prompt: int, output: int, chunk: int
) -> None:
    workload = chunked_workload(chunk)
    query = Query(prompt_tokens=prompt, output_tokens=output)
    every = [
        flops.prefill_flops(workload, Query(prompt_tokens=length, output_tokens=1))
        for length in range(prompt, prompt + output)
    ]
    assert flops.query_flops_without_cache(workload, query) == sum(every)


def test_cross_attention_by_hand() -> None:
    workload = translator()
    graph = build(workload, Phase.PREFILL)
    # Encoder: 10 tokens through 3 layers, each sees all 10. Decoder: one token; keys and values of
    # cross attention from the 10 tokens; one row of logits.
    layer = 4 * 32 * 32 + 3 * 32 * 48
    encoder = 3 * (10 * layer + 2 * 32 * 10 * 10)
    decoder = 2 * (layer + 2 * 32 * 1 + 2 * 32 * 32 + 10 * 2 * 32 * 32 + 2 * 32 * 10)
    assert graph.flops == 2 * (encoder + decoder + 32 * 100)
    assert graph.flops == flops.prefill_flops(workload, Query(prompt_tokens=10, output_tokens=4))
    step = build(workload, context=4)
    assert step.flops == 2 * (2 * (layer + 2 * 32 * 4 + 2 * 32 * 32 + 2 * 32 * 10) + 32 * 100)
    assert "encoder.qkv" not in step.networkx
    assert "layer.cross_kv" not in step.networkx
    assert attention_keys(core(step, "layer.cross_attention")) == 10


def test_an_encoder_decoder_decodes_from_one_token_on(make_plan: Any) -> None:
    workload, query = translator(), Query(prompt_tokens=10, output_tokens=4)
    table = lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload))
    rows = table.attention
    decode = {
        name: float((rows.executions * rows.pairs)[index])
        for index, name in enumerate(rows.names)
        if rows.phases[index] is Phase.DECODE and name == "layer.cross_attention"
    }
    assert decode == {"layer.cross_attention": 2 * 3 * 10}
    own = [i for i, name in enumerate(rows.names) if name == "layer.attention"]
    assert (rows.executions * rows.pairs)[own].sum() == 2 * (1 + 2 + 3 + 4)
    # keys and values of 4 heads 8 wide, 2 bytes, 2 layers: 5 own tokens, 10 of the encoder, and
    # half a block of 16 for each
    assert table.kv_bytes_per_query == 2 * (2 * 32 * 2) * (5 + 10 + 16)
    assert table.useful_flops == flops.query_flops(workload, query)


def encoder_alone() -> Workload:
    attention = GroupedQueryAttention(heads=4, kv_heads=4, head_dim=8, causal=False)
    layer = Layer(attention=attention, feed_forward=BLOCK, attention_sum_norm=RMS)
    return workload_of(layer, head=HeadKind.MASKED, final_norm=None)


def test_an_encoder_scores_all_of_its_tokens_at_once(make_plan: Any) -> None:
    workload, query = encoder_alone(), Query(prompt_tokens=10, output_tokens=1)
    graph = build(workload, Phase.PREFILL, query=query)
    layer = 4 * 32 * 32 + 3 * 32 * 48
    assert graph.flops == 2 * (2 * (10 * layer + 2 * 32 * 100) + 10 * 32 * 100)
    assert graph.flops == flops.dense_flops(workload, tokens=10)
    assert graph.kv_bytes == 0
    table = lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload))
    assert table.kv_bytes_per_query == 0
    assert not table.attention.causal.any()
    assert set(table.gemm.phases) == {Phase.PREFILL}


def test_an_encoder_neither_decodes_nor_keeps_a_prefix(make_plan: Any) -> None:
    workload, query = encoder_alone(), Query(prompt_tokens=10, output_tokens=4)
    with pytest.raises(FieldError, match="hand: output_tokens: the model makes no tokens"):
        build(workload)
    with pytest.raises(FieldError, match="hand: output_tokens: the model makes no tokens"):
        lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload))
    with pytest.raises(
        FieldError, match=r"prefix_tokens: found 3\. Expected 0: hand reads its whole"
    ):
        build(workload, Phase.PREFILL, query=query.replace(prefix_tokens=3))


def test_interleaved_layers_unfold_in_their_order() -> None:
    local = GroupedQueryAttention(heads=4, kv_heads=4, head_dim=8, window=4)
    layers = [
        Layer(attention=attention, feed_forward=BLOCK)
        for attention in (local, local.replace(window=None))
    ]
    groups = (
        LayerGroup(name="local", count=3, layer=layers[0]),
        LayerGroup(name="far", count=2, layer=layers[1]),
    )
    order = ("local", "far", "local", "local", "far")
    workload = workload_of(layers[0], layers=groups, order=order)
    graph = build(workload, fold=False)
    found = [core(graph, op.name).name for op in graph.operators if isinstance(op, Attention)]
    assert found == [
        "local.attention.0", "far.attention.0", "local.attention.1", "local.attention.2",
        "far.attention.1",
    ]  # fmt: skip
    assert graph.flops == build(workload).flops
    with pytest.raises(FieldError, match="an order that names each layer group as often"):
        workload.replace(order=("local", "far"))


def test_expert_gemms_tell_expected_and_worst_routing() -> None:
    block = ExpertFeedForward(experts=8, experts_per_token=2, expert=BLOCK)
    attention = GroupedQueryAttention(heads=4, kv_heads=4, head_dim=8)
    graph = build(workload_of(Layer(attention=attention, feed_forward=block)), Phase.PREFILL)
    node = graph.networkx.nodes["layer.expert_down"]
    # each of 10 tokens misses an expert with probability 3/4; at worst all choose the same two
    assert node["experts_expected"] == pytest.approx(8 * (1 - 0.75**10), rel=1e-12)
    assert (node["experts_worst"], node["rows_expected"], node["rows_worst"]) == (8, 2.5, 10)
    assert "experts_worst" not in graph.networkx.nodes["layer.o"]


def test_experts_may_have_weights_of_their_own_format() -> None:
    block = ExpertFeedForward(experts=8, experts_per_token=2, expert=BLOCK, shared=BLOCK)
    attention = GroupedQueryAttention(heads=4, kv_heads=4, head_dim=8)
    workload = workload_of(Layer(attention=attention, feed_forward=block))
    graph = build(workload, precisions=PLAIN.replace(experts="mxfp4"))
    formats = {op.name: op.b_format for op in graph.operators if isinstance(op, Gemm)}
    assert {name for name, found in formats.items() if found == "mxfp4"} == {
        "layer.expert_gate_up", "layer.expert_down",
    }  # fmt: skip
    assert formats["layer.shared_down"] == "bf16"


def test_weights_that_are_only_stored_in_a_format_say_what_they_become() -> None:
    formats = Precisions(weights="int4_g128", activations="bf16")
    graph = build(encoder_alone(), Phase.PREFILL, precisions=formats)
    assert graph.networkx.nodes["layer.o"]["dequantize"] == "int4_g128 to bf16"
    assert "dequantize" not in build(encoder_alone(), Phase.PREFILL).networkx.nodes["layer.o"]
    assert from_json(to_json(graph)).operators == graph.operators


def small(model_type: str) -> Workload:
    """Return a type's own architecture with three layers of its default width."""
    (family,) = (f for f in load_registry().families.values() if model_type in f.model_types)
    counts = dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers",
         "decoder_layers"), 4,
    )  # fmt: skip
    config: dict[str, Any] = {"model_type": model_type, **counts, "sliding_window": 5}
    config |= {"attention_chunk_size": 6, "attention_types": [[["global", "local"], 2]]}
    if model_type in ("llama4", "gemma3", "mistral3"):
        config = {"model_type": model_type, "text_config": config}
    return family.import_workload(config, name=model_type, where="config.json")


@pytest.mark.parametrize("model_type", TYPES)
def test_prefill_is_the_sum_of_its_steps(model_type: str) -> None:
    workload, last = small(model_type), 9
    query = Query(prompt_tokens=last, output_tokens=1)
    prefill = build(workload, Phase.PREFILL, query=query)
    assert prefill.flops == flops.prefill_flops(workload, query)
    if not workload.generates or workload.encoder is not None:
        return
    head = 2 * flops.lm_head_macs(workload)
    steps = [build(workload, context=context).flops - head for context in range(1, last + 1)]
    assert prefill.flops - head == sum(steps)
    assert prefill.flops <= flops.dense_flops(workload, tokens=last)


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("formats", [PLAIN, Precisions()], ids=["plain", "fp8"])
def test_folded_and_unfolded_graphs_of_every_type_agree(
    model_type: str, formats: Precisions
) -> None:
    workload = small(model_type)
    for phase in Phase if workload.generates else (Phase.PREFILL,):
        folded = build(workload, phase, precisions=formats)
        unfolded = build(workload, phase, precisions=formats, fold=False)
        assert len(unfolded.operators) == sum(operator.repeat for operator in folded.operators)
        for figure in ("flops", "parameters", "gemm_weight_bytes", "kv_bytes", "compulsory_bytes"):
            expected = getattr(folded, figure)
            assert getattr(unfolded, figure) == pytest.approx(expected, rel=1e-12), figure


@pytest.mark.parametrize("model_type", TYPES)
def test_graphs_of_every_type_survive_json_and_graphml(model_type: str) -> None:
    workload = small(model_type)
    graph = build(workload, Phase.DECODE if workload.generates else Phase.PREFILL)
    for again in (from_json(to_json(graph)), from_graphml(to_graphml(graph))):
        assert again.operators == graph.operators
        assert again.edges == graph.edges


@pytest.mark.parametrize("model_type", TYPES)
def test_every_operator_of_every_type_gets_its_rows(make_plan: Any, model_type: str) -> None:
    workload = small(model_type)
    query = Query(prompt_tokens=9, output_tokens=4 if workload.generates else 1)
    table = lower(workload, query=query, precisions=PLAIN, plan=make_plan(workload))
    graphs = {Phase.PREFILL: build(workload, Phase.PREFILL, query=query)}
    if workload.generates:
        graphs[Phase.DECODE] = build(workload, query=query)
    rows = {
        (name, phase)
        for part in (table.gemm, table.attention, table.vector)
        for name, phase in zip(part.names, part.phases, strict=True)
    }
    expected = {
        (operator.name, phase) for phase, graph in graphs.items() for operator in graph.operators
    }
    assert rows == expected
    weights = sum(
        (table.gemm.k * table.gemm.n * table.gemm.layers)[index]
        * max(1.0, table.gemm.experts[index])
        for index in range(len(table.gemm.names))
        if table.gemm.streams_weights[index]
    )
    assert weights * 2 == pytest.approx(graphs[Phase.PREFILL].gemm_weight_bytes, rel=1e-12)
