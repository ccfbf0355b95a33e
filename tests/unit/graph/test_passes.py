"""Chunked prefill, drafts, decode without a cache: rows against sums over single tokens."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.graph.test_attention import chunked_workload, latent_workload

from pentarch.errors import FieldError
from pentarch.graph import flops
from pentarch.graph.build import build_graph
from pentarch.graph.graph import visible_keys
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Phase
from pentarch.graph.passes import quadratic_nodes
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

PLAIN = Precisions(weights="bf16", activations="bf16", kv="bf16")


def table_of(workload: Workload, query: Query, draft: Workload | None = None) -> OperatorTable:
    """Return the table of a query whose whole graph is on one device."""
    graph = build_graph(workload, phase=Phase.PREFILL, query=query, precisions=PLAIN)
    placements = tuple(Placement(operator=op.name, repeat=op.repeat) for op in graph.operators)
    plan = Plan(
        workload=workload.name, system="one", partitioner="test", degrees=Degrees(),
        stages=(Stage(backend="none", device="none", devices=1, placements=placements),),
    )  # fmt: skip
    return lower(workload, query=query, precisions=PLAIN, plan=plan, draft=draft)


def row_flops(rows: GemmTable | AttentionTable, *, useful: bool) -> Any:
    """Return the FLOPs of each row over a query, of useful work only or of all that runs."""
    if isinstance(rows, GemmTable):
        visits = np.where(rows.experts > 0, rows.experts_per_token, 1.0)
        found = 2 * rows.executions * rows.rows * rows.k * rows.n * visits
    else:
        widths = rows.head_dim + rows.value_dim
        found = 2 * rows.executions * rows.heads * widths * rows.pairs
    return found * rows.useful if useful and rows.useful is not None else found


def total(table: OperatorTable, phase: Phase, *, useful: bool = True) -> float:
    """Return the FLOPs of a phase."""
    return float(
        sum(
            row_flops(rows, useful=useful)[rows.is_decode == (phase is Phase.DECODE)].sum()
            for rows in (table.gemm, table.attention)
        )
    )


windowed = st.tuples(st.none() | st.integers(1, 60), st.none() | st.integers(1, 60))


def any_workload(make_llama: Any, kind: int, windows: Any, chunk: int) -> Workload:
    """Return sliding windows, chunks of attention, or a latent cache."""
    if kind == 0:
        made: Workload = make_llama(counts=(2, 1), windows=windows)
        return made
    if kind == 1:
        return chunked_workload(chunk)
    return latent_workload()


shapes = {"kind": st.integers(0, 2), "windows": windowed, "border": st.integers(1, 25)}


@given(first=st.integers(1, 40), count=st.integers(1, 60),
       kinks=st.lists(st.integers(1, 100), max_size=3))  # fmt: skip
def test_quadratic_nodes_sum_piecewise_parabolas_exactly(
    first: int, count: int, kinks: list[int]
) -> None:
    def cost(x: int) -> int:
        return 5 + 3 * x * x + sum(max(x - kink, 0) * (x + 7) for kink in kinks)

    nodes = quadratic_nodes(first=first, last=first + count - 1, kinks=kinks)
    exact = sum(cost(x) for x in range(first, first + count))
    assert sum(weight * cost(x) for x, weight in nodes) == pytest.approx(exact, rel=1e-12)
    assert sum(weight for _, weight in nodes) == pytest.approx(count)
    assert all(weight > 0 for _, weight in nodes)
    assert len(nodes) <= 4 * (1 + len(set(kinks)))


@settings(max_examples=60, deadline=None)
@given(**shapes, prompt=st.integers(2, 90), chunk=st.integers(1, 100), prefix=st.integers(0, 40))
def test_chunked_prefill_executes_the_same_useful_work(
    make_llama: Any, kind: int, windows: Any, border: int, prompt: int, chunk: int, prefix: int
) -> None:
    workload = any_workload(make_llama, kind, windows, border)
    query = Query(prompt_tokens=prompt, output_tokens=3, prefix_tokens=min(prefix, prompt - 1))
    whole, parts = table_of(workload, query), table_of(workload, query.replace(chunk_tokens=chunk))
    assert total(whole, Phase.PREFILL) == pytest.approx(flops.prefill_flops(workload, query))
    assert total(parts, Phase.PREFILL) == pytest.approx(flops.prefill_flops(workload, query))
    assert total(parts, Phase.DECODE) == pytest.approx(total(whole, Phase.DECODE))
    assert parts.chunks == -(-query.prefill_tokens // chunk)
    assert parts.weight_bytes.tolist() == whole.weight_bytes.tolist()
    assert parts.kv_bytes_per_query.tolist() == whole.kv_bytes_per_query.tolist()
    for table in (whole, parts):  # each weight is stored once, the head runs once
        stored = np.array(table.gemm.names)[table.gemm.streams_weights]
        assert sorted(stored) == sorted(set(stored))
        head = [name == "lm_head" for name in table.gemm.names] & ~table.gemm.is_decode
        assert table.gemm.executions[head].sum() == 1


@settings(max_examples=40, deadline=None)
@given(**shapes, prompt=st.integers(2, 90), chunk=st.integers(1, 60))
def test_each_chunk_sees_the_keys_before_it(
    make_llama: Any, kind: int, windows: Any, border: int, prompt: int, chunk: int
) -> None:
    workload = any_workload(make_llama, min(kind, 1), windows, border)
    query = Query(prompt_tokens=prompt, output_tokens=1, chunk_tokens=chunk)
    table = table_of(workload, query).attention
    expected = {"keys": 0, "dense_pairs": 0, "pairs": 0}
    for group in workload.layers:
        one = group.layer.attention
        for start in range(0, prompt, chunk):
            end = min(start + chunk, prompt)
            seen: set[int] = set()
            for token in range(start, end):
                first = token // one.chunk * one.chunk if one.chunk else 0
                first = max(first, token - one.window + 1) if one.window else first
                seen |= set(range(first, token + 1))
                expected["pairs"] += group.count * (token + 1 - first)
            expected["keys"] += group.count * len(seen)
            expected["dense_pairs"] += group.count * (end - start) * end
    for name, value in expected.items():
        found = (table.executions * getattr(table, name)).sum()
        assert found == pytest.approx(value), name


@settings(max_examples=50, deadline=None)
@given(**shapes, prompt=st.integers(1, 60), output=st.integers(1, 70))
def test_without_a_cache_every_token_is_a_prefill(
    make_llama: Any, kind: int, windows: Any, border: int, prompt: int, output: int
) -> None:
    workload = any_workload(make_llama, kind, windows, border)
    query = Query(prompt_tokens=prompt, output_tokens=output, kv_cache=False)
    table = table_of(workload, query)
    every = total(table, Phase.PREFILL, useful=False) + total(table, Phase.DECODE, useful=False)
    assert every == pytest.approx(flops.query_flops_without_cache(workload, query))
    assert total(table, Phase.DECODE) == pytest.approx(flops.decode_flops(workload, query))
    assert table.useful_flops == flops.query_flops(workload, query)
    assert not table.kv_bytes_per_query.any()
    assert not table.kv_bytes_per_token.any()
    assert "kv_append" not in table.vector.functions
    assert table.steps == pytest.approx(output - 1)


@settings(max_examples=50, deadline=None)
@given(**shapes, prompt=st.integers(1, 60), output=st.integers(1, 70), drafts=st.integers(1, 6),
       acceptance=st.floats(0.0, 1.0))  # fmt: skip
def test_drafts_are_executed_and_only_accepted_ones_are_useful(
    make_llama: Any, kind: int, windows: Any, border: int, prompt: int, output: int, drafts: int,
    acceptance: float,
) -> None:  # fmt: skip
    workload = any_workload(make_llama, min(kind, 1), windows, border)
    query = Query(
        prompt_tokens=prompt, output_tokens=output, draft_tokens=drafts, acceptance=acceptance
    )
    table = table_of(workload, query)
    made = (drafts + 1.0 if acceptance == 1 else
            (1 - acceptance ** (drafts + 1)) / (1 - acceptance))  # fmt: skip
    made = min(made, max(1.0, output - 1.0))  # what lies beyond the last token is thrown away
    assert query.tokens_per_step == pytest.approx(made)
    assert table.passes(Phase.DECODE) == pytest.approx((output - 1) / made)
    assert total(table, Phase.DECODE) == pytest.approx(flops.decode_flops(workload, query))
    # All that runs: at every context with a chance of 1 / made, drafts + 1 tokens through all.
    executed = 0.0
    per_token = flops.layer_macs_per_token(workload) + flops.lm_head_macs(workload)
    for context in range(prompt + 1, prompt + output):
        pairs = flops.attention_macs(workload, first=context, last=context + drafts)
        executed += 2 * ((drafts + 1) * per_token + pairs) / made
    assert total(table, Phase.DECODE, useful=False) == pytest.approx(executed)


def test_a_draft_model_runs_a_step_for_each_draft_and_is_stored(make_llama: Any) -> None:
    workload, draft = make_llama(counts=(3,)), make_llama(counts=(1,))
    query = Query(prompt_tokens=20, output_tokens=11, draft_tokens=4, acceptance=0.5)
    alone, small = table_of(workload, query), table_of(draft, query.replace(draft_tokens=0))
    table = table_of(workload, query.replace(draft="small"), draft)
    steps = 10 / (1 + 0.5 + 0.25 + 0.125 + 0.0625)
    rows = table.gemm
    drafted = np.array([name.startswith("draft.") for name in rows.names])
    assert rows.useful is not None
    assert not rows.useful[drafted].any()
    head = drafted & rows.is_decode & [name.endswith("lm_head") for name in rows.names]
    assert rows.executions[head].tolist() == pytest.approx([4 * steps])
    assert total(table, Phase.DECODE) == total(alone, Phase.DECODE)
    assert table.weight_bytes == alone.weight_bytes + small.weight_bytes
    assert total(table, Phase.PREFILL, useful=False) == pytest.approx(
        flops.prefill_flops(workload, query) + flops.prefill_flops(draft, query)
    )


def test_a_share_of_a_step_costs_that_share_of_every_row(make_llama: Any) -> None:
    workload = make_llama()
    query = Query(prompt_tokens=20, output_tokens=11, draft_tokens=3, acceptance=0.0)
    table = table_of(workload, query.replace(draft_share=0.25))
    free = total(table_of(workload, query), Phase.DECODE, useful=False)
    plain = flops.decode_flops(workload, query)  # one token a step, as nothing is accepted
    drafts = total(table, Phase.DECODE, useful=False) - free
    assert drafts == pytest.approx(3 * 0.25 * plain)


@pytest.mark.parametrize(
    "changes",
    [{"chunk_tokens": 3}, {"draft_tokens": 2, "acceptance": 0.5}, {"kv_cache": False}],
)
def test_a_query_of_one_token_has_no_decode(make_llama: Any, changes: dict[str, Any]) -> None:
    workload, query = make_llama(), Query(prompt_tokens=7, output_tokens=1, **changes)
    table = table_of(workload, query)
    for rows in (table.gemm, table.attention, table.vector):
        assert not rows.is_decode.any()
    assert table.passes(Phase.DECODE) == 0
    assert total(table, Phase.PREFILL) == flops.query_flops(workload, query)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"draft_tokens": 2}, "acceptance: missing"),
        ({"kv_cache": False, "prefix_tokens": 3}, "prefix_tokens: found 3, without a KV cache"),
        ({"kv_cache": False, "chunk_tokens": 3}, "chunk_tokens: found 3, without a KV cache"),
        ({"kv_cache": False, "draft_tokens": 3, "acceptance": 0.5}, "draft_tokens: found 3"),
        (
            {"draft_tokens": 3, "acceptance": 0.5, "draft": "x", "draft_share": 0.1},
            "one of the two",
        ),
    ],
)
def test_options_that_contradict_each_other_are_named(
    make_llama: Any, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(FieldError, match=message):
        table_of(make_llama(), Query(prompt_tokens=7, output_tokens=5, **changes))


def test_the_plain_query_has_no_columns_of_its_own(make_llama: Any) -> None:
    table = table_of(make_llama(), Query(prompt_tokens=7, output_tokens=5))
    assert table.gemm.useful is None
    assert table.gemm.routing_skew is None
    assert (table.chunks, table.steps, table.step_tokens) == (1.0, None, 1.0)


def test_absorbed_attention_is_useful_as_far_as_its_plain_form() -> None:
    # Plain: 8 + 4 features of a key, 6 of a value. Absorbed: 20 of the latent key, 16 of its value.
    table = table_of(latent_workload(), Query(prompt_tokens=7, output_tokens=5)).attention
    assert table.useful is not None
    assert table.useful[table.is_decode] == pytest.approx((12 + 6) / (20 + 16))
    assert table.useful[~table.is_decode].tolist() == [1.0]
    assert visible_keys(first=8, last=11) == 38
