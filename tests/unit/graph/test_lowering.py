import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pentarch.errors import FieldError, UnknownNameError
from pentarch.graph import flops
from pentarch.graph.build import build_graph
from pentarch.graph.lowering import context_nodes, lower
from pentarch.graph.operators import Collective, Phase, Split
from pentarch.graph.table import OperatorTable
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")
QUERY = Query(prompt_tokens=100, output_tokens=28)


def table_of(workload: Workload, plan: Plan, **changes: Any) -> OperatorTable:
    request: dict[str, Any] = {"query": QUERY, "precisions": PLAIN, **changes}
    return lower(workload, plan=plan, **request)


def table_flops(table: OperatorTable, *, decode: bool | None = None) -> float:
    """Return the useful FLOPs of all rows, or of those of one phase."""
    gemm, attention = table.gemm, table.attention
    visits = np.where(gemm.experts > 0, gemm.experts_per_token, 1.0)
    of_gemm = 2 * gemm.executions * gemm.rows * gemm.k * gemm.n * visits
    widths = attention.head_dim + attention.value_dim
    of_attention = 2 * attention.executions * attention.heads * widths * attention.pairs
    if decode is not None:
        of_gemm = of_gemm[gemm.is_decode == decode]
        of_attention = of_attention[attention.is_decode == decode]
    return float(of_gemm.sum() + of_attention.sum())


@given(
    first=st.integers(1, 50),
    steps=st.integers(1, 80),
    kinks=st.lists(st.integers(1, 140), max_size=3),
    weights=st.lists(st.integers(-5, 5), min_size=3, max_size=3),
)
def test_nodes_integrate_piecewise_linear_costs_exactly(
    first: int, steps: int, kinks: list[int], weights: list[int]
) -> None:
    def cost(context: int) -> int:
        kinked = sum(w * min(context, k) for w, k in zip(weights, kinks, strict=False))
        return 3 + 2 * context + kinked

    last = first + steps - 1
    nodes = context_nodes(first=first, last=last, kinks=kinks)
    assert sum(weight for _, weight in nodes) == steps
    assert sum(weight * cost(context) for context, weight in nodes) == sum(
        cost(context) for context in range(first, last + 1)
    )
    assert len(nodes) <= 2 + len(set(kinks))
    assert all(weight > 0 for _, weight in nodes)


@settings(max_examples=20, deadline=None)
@given(
    windows=st.tuples(st.none() | st.integers(1, 150), st.none() | st.integers(1, 150)),
    experts=st.sampled_from([None, (4, 2, 0), (4, 1, 32)]),
    output=st.sampled_from([1, 2, 3, 28]),
    prefix=st.sampled_from([0, 60]),
)
def test_rows_add_up_to_the_useful_flops_of_the_query(
    make_llama: Any, make_plan: Any, windows: Any, experts: Any, output: int, prefix: int
) -> None:
    workload = make_llama(counts=(3, 1), windows=windows, experts=experts)
    query = Query(prompt_tokens=100, output_tokens=output, prefix_tokens=prefix)
    table = table_of(workload, make_plan(workload), query=query)
    assert table_flops(table, decode=False) == flops.prefill_flops(workload, query)
    assert table_flops(table, decode=True) == flops.decode_flops(workload, query)
    assert table.useful_flops == flops.query_flops(workload, query)
    assert table.useful_flops_prefill == flops.prefill_flops(workload, query)


def test_decode_attention_rows_read_the_keys_of_every_step(make_llama: Any, make_plan: Any) -> None:
    workload = make_llama(counts=(3, 1), windows=(110, None))
    table = table_of(workload, make_plan(workload)).attention
    decode = table.is_decode
    # steps at contexts 101 to 127; the window fills up at 110
    assert sorted(set(table.dense_pairs[decode])) == [101, 110, 127]
    read = (table.executions * table.keys)[decode].sum()
    assert read == sum(3 * min(context, 110) + context for context in range(101, 128))


def test_a_query_of_one_token_has_no_decode_rows(make_llama: Any, make_plan: Any) -> None:
    workload = make_llama()
    table = table_of(workload, make_plan(workload), query=QUERY.replace(output_tokens=1))
    for rows in (table.gemm, table.attention, table.vector, table.collective):
        assert not rows.is_decode.any()
    assert table.gemm.names.count("lm_head") == 1


def test_single_device_stores_every_parameter_in_its_format(
    make_gpt: Any, make_llama: Any, make_plan: Any
) -> None:
    # 4.125 bits for GEMM weights; a 1000 x 64 embedding, 5 norms, a router of 8 at 16 bits
    workload = make_llama(experts=(8, 2, 0))
    formats = Precisions(weights="int4_g128", lm_head="fp8")
    table = table_of(workload, make_plan(workload, precisions=formats), precisions=formats)
    gemm = 2 * (4 * 64 * 64 + 8 * 3 * 64 * 256)
    expected = gemm * 4.125 / 8 + 64 * 1000 + 2 * (1000 * 64 + 5 * 64 + 2 * 64 * 8)
    assert table.weight_bytes.tolist() == [expected]
    # tied: one table, in the LM head's format; biases, norms and positions at 16 bits
    workload = make_gpt()
    formats = Precisions()
    table = table_of(workload, make_plan(workload, precisions=formats), precisions=formats)
    gemm = 2 * 12 * 64 * 64 + 1000 * 64
    assert table.weight_bytes.tolist() == [gemm + 2 * (2 * 13 * 64 + 2 * 64 + 512 * 64)]


def test_kv_cache_is_counted_at_the_end_with_half_a_block(make_llama: Any, make_plan: Any) -> None:
    workload = make_llama(counts=(3, 1), windows=(16, None), kv_heads=2)
    table = table_of(workload, make_plan(workload))
    one_layer = 2 * 2 * 16 * 2
    assert table.kv_bytes_per_token.tolist() == [4 * one_layer]
    assert table.kv_bytes_per_query.tolist() == [one_layer * (3 * (16 + 8) + 128 + 8)]


def test_tensor_cut_leaves_each_device_its_share(llama_2_70b: Workload, make_plan: Any) -> None:
    table = table_of(llama_2_70b, make_plan(llama_2_70b, ways=8))
    sizes = zip(table.gemm.k, table.gemm.n, strict=True)
    shapes = dict(zip(table.gemm.names, sizes, strict=True))
    assert shapes == {
        "group0.qkv": (8192, 1024 + 2 * 128),
        "group0.o": (1024, 8192),
        "group0.gate_up": (8192, 2 * 3584),
        "group0.down": (3584, 8192),
        "lm_head": (8192, 4000),
    }
    assert set(table.attention.heads) == {8.0}
    assert set(table.attention.kv_heads) == {1.0}
    # everything but 161 norms of 8192 is cut into eighths
    assert table.weight_bytes[0] == 2 * ((68_976_648_192 - 161 * 8192) / 8 + 161 * 8192)
    assert table.kv_bytes_per_token[0] == 80 * 2 * 128 * 2
    assert table.devices == 8


def test_key_value_heads_fewer_than_the_degree_are_replicated(
    llama_2_70b: Workload, make_plan: Any
) -> None:
    table = table_of(llama_2_70b, make_plan(llama_2_70b, ways=16))
    assert set(table.attention.heads) == {4.0}
    assert set(table.attention.kv_heads) == {1.0}
    assert table.gemm.n[table.gemm.names.index("group0.qkv")] == 4 * 128 + 2 * 128
    assert table.kv_bytes_per_token[0] == 80 * 2 * 128 * 2
    vector = table.vector
    appended = vector.bytes_out[vector.functions.index("kv_append")]
    assert appended == 100 * 2 * 128 * 2
    rotated = vector.bytes_out[vector.functions.index("rotary")]
    assert rotated == pytest.approx(100 * (4 * 128 + 128) * 2)


def test_expert_cut_shares_whole_experts(make_llama: Any, make_plan: Any) -> None:
    workload = make_llama(experts=(8, 2, 0))
    plan = make_plan(workload, ways=4)
    placements = tuple(
        placement.replace(cut=Split.EXPERTS)
        if ".expert_" in placement.operator and placement.cut in (Split.COLUMNS, Split.ROWS)
        else placement
        for placement in plan.stages[0].placements
    )
    plan = plan.replace(stages=(plan.stages[0].replace(placements=placements),))
    gemm = table_of(workload, plan).gemm
    row = gemm.names.index("group0.expert_gate_up")
    assert (gemm.k[row], gemm.n[row]) == (64, 512)
    assert (gemm.experts[row], gemm.experts_total[row], gemm.experts_per_token[row]) == (2, 8, 0.5)


def pipeline_plan(workload: Workload, graph_names: list[str], layers: int) -> Plan:
    """Return embedding | `layers` equal stages of one layer | head, with a send between stages."""
    in_layers = [name for name in graph_names if "." in name]
    before = graph_names[: graph_names.index(in_layers[0])]
    after = graph_names[graph_names.index(in_layers[-1]) + 1 :]
    send = Collective(name="send", function="send", values=64, format="bf16", degree=2)
    stages = [
        Stage(
            backend="hand",
            device="hand",
            devices=1,
            copies=copies,
            placements=tuple(Placement(operator=name, repeat=1) for name in names),
            sends=sends,
        )
        for names, copies, sends in (
            (before, 1, (send,)),
            (in_layers, layers, (send,)),
            (after, 1, ()),
        )
    ]
    return Plan(
        workload=workload.name, system="hand", partitioner="hand",
        degrees=Degrees(pipeline=layers + 2), stages=tuple(stages),
    )  # fmt: skip


def test_equal_stages_are_executed_once_each_and_store_one_copy(make_gpt: Any) -> None:
    workload = make_gpt(count=6)
    graph = build_graph(workload, phase=Phase.PREFILL, query=QUERY, precisions=PLAIN)
    plan = pipeline_plan(workload, [operator.name for operator in graph.operators], 6)
    table = table_of(workload, plan)
    assert table_flops(table) == flops.query_flops(workload, QUERY)
    row = table.gemm.names.index("decoder.down")
    assert (table.gemm.executions[row], table.gemm.layers[row], table.gemm.stage[row]) == (6, 1, 1)
    # the tied table is held by the first stage and, for the LM head, by the last
    layer = 12 * 64 * 64 + 13 * 64
    assert table.weight_bytes.tolist() == [
        2 * (1000 * 64 + 512 * 64),
        2 * layer,
        2 * (1000 * 64 + 2 * 64),
    ]
    assert table.devices == 8
    sent = table.collective
    assert sent.bytes.tolist() == [100 * 128, 128, 100 * 128, 128]
    assert sent.executions.tolist() == [1, 27, 6, 6 * 27]


def test_collectives_of_logits_do_not_grow_with_the_prompt(make_llama: Any, make_plan: Any) -> None:
    workload = make_llama()
    plan = make_plan(workload, ways=2)
    gather = Collective(
        name="logits", function="all_gather", values=1000, format="bf16", degree=2, per_token=False
    )
    reduce = Collective(
        name="o_reduce", function="all_reduce", values=64, format="bf16", degree=2, repeat=2
    )
    plan = plan.replace(stages=(plan.stages[0].replace(collectives=(gather, reduce)),))
    table = table_of(workload, plan).collective
    assert table.bytes.tolist() == [2000, 2000, 12800, 128]
    assert table.executions.tolist() == [1, 27, 2, 54]
    assert table.functions == ("all_gather", "all_gather", "all_reduce", "all_reduce")


def test_weights_are_counted_by_prefill_rows_only(make_gpt: Any, make_plan: Any) -> None:
    workload = make_gpt()
    gemm = table_of(workload, make_plan(workload)).gemm
    stored = gemm.streams_weights * gemm.layers * gemm.k * gemm.n
    assert stored.sum() == 2 * 12 * 64 * 64 + 1000 * 64
    assert not (gemm.streams_weights & gemm.is_decode).any()


def test_live_activations_cover_the_widest_operator(make_llama: Any, make_plan: Any) -> None:
    # the activation reads 512 and writes 256 values per token, at two bytes
    workload = make_llama()
    table = table_of(workload, make_plan(workload))
    assert table.activation_bytes_per_token.tolist() == [2 * (512 + 256)]


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        ({"operator": "lmhead"}, UnknownNameError, "Did you mean 'lm_head'"),
        ({"repeat": 2}, FieldError, "'lm_head' runs 2 times over all stages. Expected 1"),
        ({"cut": Split.EXPERTS, "ways": 2}, FieldError, "'lm_head': cut: found 'experts'"),
    ],
)
def test_plans_that_do_not_fit_the_workload_are_refused(
    make_llama: Any, make_plan: Any, damage: dict[str, Any], error: type[Exception], said: str
) -> None:
    workload = make_llama()
    plan = make_plan(workload)
    placements = tuple(
        placement.replace(**damage) if placement.operator == "lm_head" else placement
        for placement in plan.stages[0].placements
    )
    plan = plan.replace(stages=(plan.stages[0].replace(placements=placements),))
    with pytest.raises(error, match=said):
        table_of(workload, plan)


def test_a_plan_of_another_workload_is_refused(make_llama: Any, make_plan: Any) -> None:
    with pytest.raises(FieldError, match="workload: found 'other'"):
        table_of(make_llama(), make_plan(make_llama("other")))


def test_lowering_is_fast_whatever_the_depth(
    llama_2_70b: Workload, gpt3_175b: Workload, make_plan: Any
) -> None:
    # Budgets of 5 and 50 ms on a free machine; five times that allows for a busy one.
    for workload, budget_s in ((llama_2_70b, 0.025), (gpt3_175b, 0.25)):
        plan = make_plan(workload, precisions=Precisions())
        taken = []
        for _ in range(5):
            start = time.perf_counter()
            table_of(workload, plan, query=Query(), precisions=Precisions())
            taken.append(time.perf_counter() - start)
        assert min(taken) < budget_s
