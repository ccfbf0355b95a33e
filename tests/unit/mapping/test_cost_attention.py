from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import (
    PJ,
    array,
    attentions,
    cached_machine,
    gemms,
    level,
    machine,
    memory,
    request,
    vector,
)

from pentarch.errors import InputError
from pentarch.hardware.columns import columns
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Management, Overhead, Scope, Stationary
from pentarch.hardware.runtime import AttentionKernel, Runtime
from pentarch.mapping.attention import useful_scores
from pentarch.mapping.cost_attention import attention_rows, cost_attention
from pentarch.mapping.costs import RowCosts

FUSED = Runtime(name="fused", attention=AttentionKernel.FUSED)
UNFUSED = Runtime(name="unfused", attention=AttentionKernel.UNFUSED)


def with_buffer(size: float, **changes: Any) -> Any:
    return machine(levels=(memory(), level("buffer", size_bytes=size)), **changes)


# Decode: one query of 8 heads on 2 key-value heads of width 4 sees 10 keys; 3 sequences; bf16.
# Each of 6 key-value heads has 4 query rows and 40 scores.
DECODE_SCORES = 6 * 4 * 10
DECODE_KV = 6 * 10 * (4 + 4) * 2
DECODE_Q = DECODE_O = 6 * 4 * 4 * 2


def test_grouped_query_decode_as_worked_out_on_paper() -> None:
    costs = cost_attention(request(machine(), attentions({}), sequences=3.0))
    assert costs.fits.all()
    macs = DECODE_SCORES * (4 + 4)
    assert costs.executed_macs.item() == macs
    assert costs.read_bytes["memory"].item() == DECODE_KV + DECODE_Q
    assert costs.write_bytes["memory"].item() == DECODE_O
    # A 4 x 4 array: a key serves the 4 rows of a group, a query 4 keys; 2 bytes each.
    assert costs.read_bytes["buffer"].item() == macs * (2 / 4 + 2 / 4) + DECODE_O
    assert costs.write_bytes["buffer"].item() == DECODE_KV + DECODE_Q + DECODE_O
    # 6 tiles of 4 rows, one after the other: 10 keys are 3 columns of 4 of the array for Q K^T, of
    # 4 cycles each; 4 values are one column for P V, of 10 cycles. A start of 2 each.
    assert costs.compute_s["array"].item() == pytest.approx((6 * (12 + 10 + 2) + 8) * 1e-9)
    # a score: one exp of 4 cycles, two reductions, three elementwise operations, on 8 lanes; each
    # of 24 x 4 outputs is divided by its row's sum
    assert costs.compute_s["vector"].item() == pytest.approx((DECODE_SCORES * 9 + 96) / 8 * 1e-9)
    assert costs.energy_j["vector"].item() == pytest.approx((DECODE_SCORES * 6 + 96) * 5 * PJ)
    assert costs.energy_j["array"].item() == pytest.approx(macs * PJ)
    assert costs.detail["fused"].item() == costs.detail["split"].item() == 1


def test_heads_without_a_group_fill_one_row_of_the_array() -> None:
    costs = cost_attention(request(machine(), attentions({"heads": 2.0}), sequences=3.0))
    # a quarter of the work of a group of four, in the same time
    assert costs.executed_macs.item() == DECODE_SCORES * 8 / 4
    assert costs.compute_s["array"].item() == pytest.approx((6 * (22 + 2) + 8) * 1e-9)


def test_an_engine_without_an_array_pads_to_its_least_rows() -> None:
    bare = array(stationary=Stationary.NONE, rows=1.0, columns=1.0, min_rows=16.0)
    on = machine(engines=(bare, vector()))
    costs = cost_attention(request(on, attentions({}), sequences=3.0))
    assert costs.compute_s["array"].item() == pytest.approx((6 * (4 * 20 + 2) + 8) * 1e-9)


PREFILL = {"heads": 2.0, "kv_heads": 1.0, "query_tokens": 4.0, "keys": 4.0}


def test_causal_prefill_computes_whole_tiles_of_the_array_on_the_diagonal() -> None:
    costs = cost_attention(request(machine(), attentions(PREFILL)))
    # 4 rows of the array are 2 positions of 2 heads: they see 2, then 4 keys.
    # Q and O are 2 x 4 x 4 words, K and V 4 x 8 words
    assert costs.executed_macs.item() == 4 * (2 + 4) * 8
    assert costs.read_bytes["memory"].item() == 64 + 64
    assert costs.write_bytes["memory"].item() == 64
    assert costs.compute_s["vector"].item() == pytest.approx((24 * 9 + 32) / 8 * 1e-9)
    assert costs.detail["row_block"].item() == 8


def test_causal_prefill_in_two_blocks_skips_what_lies_above_the_diagonal() -> None:
    # A row with all its scores takes 4 * 4 + 3 * 4 bytes, a streamed word 2: 114 bytes hold 4 rows,
    # two positions of two heads. They see 2, then 4 keys: 6 rows of K and V, 2 * (2*2 + 2*4) scores.
    wide = {**PREFILL, "head_dim": 64.0, "value_dim": 64.0}
    costs = cost_attention(request(with_buffer(114.0), attentions(wide), runtime=FUSED))
    assert costs.executed_macs.item() == 24 * 128
    assert costs.read_bytes["memory"].item() == 8 * 64 * 2 + 6 * 128 * 2
    assert costs.detail["row_block"].item() == 4


def test_keys_held_whole_are_read_once() -> None:
    # Of width 4, K and V take 64 bytes; 48 of 114 are left for a row of 28. The array holds two
    # positions of two heads: 2 * (2 * 2 + 2 * 4) scores.
    costs = cost_attention(request(with_buffer(114.0), attentions(PREFILL), runtime=FUSED))
    assert costs.executed_macs.item() == 24 * 8
    assert costs.read_bytes["memory"].item() == 64 + 64


def test_a_sliding_window_reads_and_computes_the_blocks_that_it_touches() -> None:
    # Windows of 2 keys: 1 + 2 + 2 + 2 = 7 of 10 causal pairs a head. Tiles of two positions touch
    # keys 0 and 1, then 1 to 3; all four keys are read once.
    full = cost_attention(request(machine(), attentions(PREFILL)))
    windowed = cost_attention(request(machine(), attentions({**PREFILL, "pairs": 7.0})))
    assert full.executed_macs.item() == 4 * (2 + 4) * 8
    assert windowed.executed_macs.item() == 4 * (2 + 3) * 8
    assert windowed.read_bytes["memory"].item() == full.read_bytes["memory"].item()
    assert windowed.write_bytes["memory"].item() == full.write_bytes["memory"].item() == 64


@pytest.mark.parametrize("tokens", [1, 2, 7, 16])
def test_the_window_of_a_row_follows_from_its_pairs(tokens: int) -> None:
    for context in range(tokens, tokens + 12):
        for window in range(1, context + 3):
            # As graph rows count them: keys that any query sees, pairs one query after another.
            keys = min(context, tokens + window - 1)
            pairs = sum(min(context - tokens + i + 1, window) for i in range(tokens))
            table = attentions({"query_tokens": tokens, "keys": keys, "pairs": pairs})
            rows = attention_rows(table, np.array([0]), np.ones((1, 1)))
            assert rows.window is not None
            seen = useful_scores(
                rows.positions, rows.kv_length, rows.group, causal=True, window=rows.window
            )
            assert seen.item() == 4 * pairs
            if tokens > 1 and window < context:
                assert rows.window.item() == window


def test_chunks_count_as_the_window_with_as_many_pairs() -> None:
    # 8 tokens in chunks of 4 see 1 2 3 4 1 2 3 4 keys: 20 pairs; windows of 2 and 3 have 15 and 21.
    table = attentions({"query_tokens": 8.0, "keys": 8.0, "pairs": 20.0})
    rows = attention_rows(table, np.array([0]), np.ones((1, 1)))
    assert rows.window is not None
    assert rows.window.item() == 3


def test_latent_attention_reads_its_keys_once() -> None:
    # Absorbed: 8 heads share one key of 6 features, the first 4 of which are its value.
    latent = {"kv_heads": 1.0, "head_dim": 6.0, "value_dim": 4.0}
    table = replace(attentions(latent), values_in_keys=np.array([True]))
    costs = cost_attention(request(machine(), table, sequences=3.0))
    queries, outputs = 3 * 8 * 6 * 2, 3 * 8 * 4 * 2
    assert costs.read_bytes["memory"].item() == 3 * 10 * 6 * 2 + queries
    assert costs.write_bytes["memory"].item() == outputs
    assert costs.executed_macs.item() == 3 * 8 * 10 * (6 + 4)
    apart = cost_attention(request(machine(), attentions(latent), sequences=3.0))
    assert apart.read_bytes["memory"].item() == 3 * 10 * (6 + 4) * 2 + queries


def test_unfused_attention_writes_scores_and_reads_them_back() -> None:
    costs = cost_attention(request(machine(), attentions({}), sequences=3.0, runtime=UNFUSED))
    spilled = DECODE_SCORES * 2
    assert costs.read_bytes["memory"].item() == DECODE_KV + DECODE_Q + spilled
    assert costs.write_bytes["memory"].item() == DECODE_O + spilled
    assert costs.detail["fused"].item() == 0
    # all of it passes the buffer, which the arrays read besides
    assert costs.read_bytes["buffer"].item() == DECODE_SCORES * 8 + DECODE_O + spilled
    moved = DECODE_KV + DECODE_Q + spilled + DECODE_O + spilled
    assert costs.write_bytes["buffer"].item() == moved


def test_unfused_rows_are_shared_among_units() -> None:
    # 512 queries of one head on 512 keys: 128 tiles of 4 rows, 8 on each of 16 units; a tile takes
    # 512 * 4 cycles for Q K^T, as many for P V, and a start of 2
    on = machine(engines=(array(units=16.0), vector()))
    row = {"heads": 1.0, "kv_heads": 1.0, "query_tokens": 512.0, "keys": 512.0, "causal": False}
    costs = cost_attention(request(on, attentions(row), runtime=UNFUSED))
    assert costs.compute_s["array"].item() == pytest.approx((8 * (512 * 2 + 2) + 8) * 1e-9)


def long_rows(buffer: float) -> dict[AttentionKernel, RowCosts]:
    # 16 queries and keys of width 64, no mask. One row in the buffer reads K and V 16 times:
    # 16 * 16 * 128 words; scores written and read are 2 * 256 words.
    row = {"heads": 1.0, "kv_heads": 1.0, "head_dim": 64.0, "value_dim": 64.0,
           "query_tokens": 16.0, "keys": 16.0, "causal": False}  # fmt: skip
    return {
        kernel: cost_attention(
            request(
                with_buffer(buffer), attentions(row), runtime=Runtime(name="r", attention=kernel)
            )
        )
        for kernel in AttentionKernel
    }


def test_the_better_kernel_is_unfused_where_the_buffer_rereads_keys_too_often() -> None:
    # A panel row takes 16 * 4 + 12 = 76 bytes: 80 hold one row and a word.
    costs = long_rows(80.0)
    fused, unfused, best = (costs[k] for k in ("fused", "unfused", "best"))
    assert fused.read_bytes["memory"].item() == 16 * 64 * 2 + 16 * 16 * 128 * 2
    assert unfused.read_bytes["memory"].item() == 16 * 64 * 2 + 16 * 128 * 2 + 256 * 2
    assert best.detail["fused"].item() == 0
    assert best.read_bytes["memory"].item() == unfused.read_bytes["memory"].item()


def test_the_better_kernel_is_fused_where_all_rows_fit() -> None:
    costs = long_rows(1e5)
    assert costs[AttentionKernel.BEST].detail["fused"].item() == 1
    assert costs[AttentionKernel.BEST].read_bytes["memory"].item() == 16 * 64 * 2 + 16 * 128 * 2


def test_a_buffer_below_one_row_runs_unfused_or_not_at_all() -> None:
    costs = long_rows(70.0)
    assert not costs[AttentionKernel.FUSED].fits.any()
    assert "no on-chip buffer holds one row" in costs[AttentionKernel.FUSED].notes[0]
    assert costs[AttentionKernel.BEST].fits.all()
    assert costs[AttentionKernel.BEST].detail["fused"].item() == 0


def test_a_narrow_cache_is_converted_once_per_word_and_moves_fewer_bytes() -> None:
    bf16_only = machine(engines=(array(macs_per_cycle={"bf16": 16.0}), vector()))
    rows = attentions({"kv_formats": "fp8"})
    costs = cost_attention(request(bf16_only, rows, sequences=3.0))
    words = 6 * 10 * 8
    assert costs.read_bytes["memory"].item() == words + DECODE_Q
    plain = cost_attention(request(bf16_only, attentions({}), sequences=3.0))
    more = costs.compute_s["vector"].item() - plain.compute_s["vector"].item()
    assert more == pytest.approx(words / 8 * 1e-9)


def test_queries_and_cache_in_fp8_need_no_conversion() -> None:
    rows = attentions({"kv_formats": "fp8", "query_formats": "fp8"})
    costs = cost_attention(request(machine(), rows, sequences=3.0))
    assert costs.compute_s["vector"].item() == pytest.approx((DECODE_SCORES * 9 + 96) / 8 * 1e-9)


def test_a_resident_cache_is_read_on_chip_only() -> None:
    kept = cost_attention(
        request(machine(), attentions({}), sequences=3.0, resident_kv=np.array([True]))
    )
    plain = cost_attention(request(machine(), attentions({}), sequences=3.0))
    assert kept.read_bytes["memory"].item() == DECODE_Q
    assert kept.read_bytes["buffer"].item() == plain.read_bytes["buffer"].item()
    saved = plain.write_bytes["buffer"].item() - kept.write_bytes["buffer"].item()
    assert saved == DECODE_KV


def test_two_buffers_pass_queries_keys_and_outputs_through_both() -> None:
    inner = level("own", scope=Scope.UNIT, size_bytes=1024.0)
    on = machine(
        levels=(memory(), level("buffer"), inner), engines=(array(feeds_from="own"), vector())
    )
    costs = cost_attention(request(on, attentions({}), sequences=3.0, runtime=FUSED))
    # Both levels hold all of a head: each byte passes each of them once on its way in or out.
    moved_in, macs = DECODE_KV + DECODE_Q, DECODE_SCORES * 8
    assert costs.read_bytes["buffer"].item() == moved_in + DECODE_O
    assert costs.write_bytes["buffer"].item() == DECODE_O + moved_in
    assert costs.read_bytes["own"].item() == macs + DECODE_O
    assert costs.write_bytes["own"].item() == moved_in + DECODE_O


def wide_units(on: MachineTable) -> MachineTable:
    """Return the machine with 1 MiB in each unit."""
    own = level("own", scope=Scope.UNIT, instances=16.0, size_bytes=2.0**20)
    return replace(on, levels=(*on.levels[:2], own))


# One sequence of one KV head with 4 query heads of width 4 and a long context.
ALONE = {"heads": 4.0, "kv_heads": 1.0, "keys": 800.0}


def test_keys_are_split_over_units_that_would_idle_and_parts_are_combined() -> None:
    # Slow arrays: 1 of 16 MACs a cycle, so that the matrix time decides.
    slow = array(units=8.0, macs_per_cycle={"bf16": 1.0})
    on = machine(engines=(slow, vector(units=1e6)), levels=(memory(), level("buffer")))
    costs = cost_attention(request(on, attentions(ALONE), runtime=FUSED))
    assert costs.detail["split"].item() == 8
    # 100 keys a unit: 4 rows x 100 keys x 8 MACs
    assert costs.compute_s["array"].item() == pytest.approx((4 * 100 * 8 + 2 + 8) * 1e-9)
    # 8 partial outputs of 4 values, maximum and sum, 4 bytes each, for 4 rows: both ways
    parts = 8 * 4 * (4 + 2) * 4
    kv, queries = 800 * 8 * 2, 4 * 4 * 2
    streamed = 4 * 800 * 8 * (2 / 4 + 2 / 4)
    assert costs.write_bytes["buffer"].item() == kv + queries + parts + queries
    assert costs.read_bytes["buffer"].item() == streamed + parts + queries
    assert costs.read_bytes["memory"].item() == kv + queries
    one = array(units=1.0, macs_per_cycle={"bf16": 1.0})
    alone = machine(engines=(one, vector(units=1e6)), levels=(memory(), level("buffer")))
    single = cost_attention(request(alone, attentions(ALONE), runtime=FUSED))
    # a part: 1 exp, 2 reductions, 1 + 2 * 4 elementwise a row; the rest is the same
    more = costs.energy_j["vector"].item() - single.energy_j["vector"].item()
    assert more == pytest.approx(8 * 4 * (1 + 2 + 9) * 5 * PJ)
    assert costs.fixed_s.item() == 0.0


def test_a_barrier_of_split_keys_is_paid_where_it_pays() -> None:
    slow = array(units=8.0, macs_per_cycle={"bf16": 1.0})
    matrix_s = 4 * 800 * 8 * 1e-9
    for barrier_s, split in ((1e-6, 8.0), (2 * matrix_s, 1.0)):
        on = machine(
            engines=(slow, vector(units=1e6)), overhead=columns(Overhead, 1, barrier_s=barrier_s)
        )
        costs = cost_attention(request(on, attentions(ALONE), runtime=FUSED))
        assert costs.detail["split"].item() == split
        assert costs.fixed_s.item() == (barrier_s if split > 1 else 0.0)


def test_partial_results_that_the_buffer_cannot_hold_go_through_memory() -> None:
    # A part leaves 4 rows of 6 words of 4 bytes, 96 bytes: 8 of them are 768.
    slow = array(units=8.0, macs_per_cycle={"bf16": 1.0})
    for size, spilled in ((767.0, 768.0), (768.0, 0.0)):
        on = with_buffer(size, engines=(slow, vector(units=1e6)))
        costs = cost_attention(request(on, attentions(ALONE), runtime=FUSED))
        assert costs.detail["split"].item() == 8
        assert costs.read_bytes["memory"].item() == 800 * 8 * 2 + 4 * 4 * 2 + spilled
        assert costs.write_bytes["memory"].item() == 4 * 4 * 2 + spilled


def test_one_unit_cannot_draw_the_bandwidth_so_decode_behind_a_cache_splits_keys() -> None:
    # A unit draws 20 of 100 GB/s: five of sixteen units draw it all.
    row = {"heads": 4.0, "kv_heads": 1.0, "head_dim": 64.0, "value_dim": 64.0, "keys": 4096.0}
    on = wide_units(cached_machine(cache={"requester_bytes_per_s": 1e12, "read_bytes_per_s": 1e13}))
    on = replace(on, engines=(on.engines[0], vector(feeds_from="own", units=1e5)))
    costs = cost_attention(request(on, attentions(row), runtime=FUSED))
    split = costs.detail["split"].item()
    assert 5 <= split <= 16
    moved = 4096 * 128 * 2 + 2 * 4 * 64 * 2
    assert costs.level_s["memory"].item() == pytest.approx(moved / 1e11)
    parts = split * 4 * (64 + 2) * 4
    assert costs.write_bytes["cache"].item() == 4 * 64 * 2 + parts + moved - 4 * 64 * 2
    many = cost_attention(request(on, attentions(row), sequences=64.0, runtime=FUSED))
    assert many.detail["split"].item() == 1


def test_a_running_output_is_rescaled_once_per_further_block_of_scores() -> None:
    # One row of width 16 on 20 keys: 16 * 2 + 19 * 4 bytes and a word are 110; all scores take 80
    # bytes more, else they come in blocks of four, the columns of the array.
    row = {"heads": 1.0, "kv_heads": 1.0, "head_dim": 16.0, "value_dim": 16.0, "keys": 20.0,
           "causal": False}  # fmt: skip
    for size, blocks in ((110.0, 5), (189.0, 5), (190.0, 1), (4096.0, 1)):
        costs = cost_attention(request(with_buffer(size), attentions(row), runtime=FUSED))
        work = 20 * 6 + 16 + (blocks - 1) * (1 + 2 + 16)
        assert costs.energy_j["vector"].item() == pytest.approx(work * 5 * PJ)


def test_special_function_units_are_a_term_of_their_own() -> None:
    units = vector(name="exp", values_per_cycle={"transcendental": 0.5}, value_j=None)
    on = machine(engines=(array(), vector(), units))
    costs = cost_attention(request(on, attentions({}), sequences=3.0))
    assert costs.compute_s["exp"].item() == pytest.approx(DECODE_SCORES / 0.5 / 8 * 1e-9)
    assert costs.compute_s["vector"].item() == pytest.approx((DECODE_SCORES * 5 + 96) / 8 * 1e-9)


def random_case(generator: np.random.Generator) -> dict[str, Any]:
    """Return a random attention row."""
    decode = generator.random() < 0.5
    tokens = 1.0 if decode else float(generator.integers(2, 300))
    kv_heads = float(generator.integers(1, 5))
    return {
        "heads": kv_heads * generator.integers(1, 9), "kv_heads": kv_heads,
        "head_dim": float(generator.integers(4, 130)), "value_dim": float(generator.integers(4, 130)),
        "query_tokens": tokens, "keys": tokens + generator.integers(0, 2000),
    }  # fmt: skip


def random_machine(generator: np.random.Generator, length: int, cached: bool) -> MachineTable:
    """Return machines of random sizes and rates, behind a cache or a scratchpad."""

    def between(low: float, high: float) -> Any:
        return np.exp(generator.uniform(np.log(low), np.log(high), length))

    units = np.floor(between(1, 64))
    outer = memory(length, read_bytes_per_s=between(1e9, 1e12), latency_s=0.0)
    if cached:
        cache = level(
            "cache", length, management=Management.CACHE, size_bytes=between(1e4, 1e7),
            read_bytes_per_s=between(1e10, 1e13), requester_bytes_per_s=between(1e9, 1e11),
        )  # fmt: skip
        own = level("own", length, scope=Scope.UNIT, instances=units, size_bytes=between(5e3, 3e5))
        found = cached_machine(length).engines
        engine = replace(found[0], numbers={**found[0].numbers, "units": units})
        return machine(
            length, levels=(outer, cache, own),
            engines=(engine, vector(length, feeds_from="own", units=between(8, 1e4))),
        )  # fmt: skip
    buffer = level(
        "buffer", length, size_bytes=between(4e3, 3e6), read_bytes_per_s=between(1e10, 1e13)
    )
    engine = array(length, units=units, rows=np.floor(between(4, 128)), columns=32.0)
    return machine(
        length, levels=(outer, buffer), engines=(engine, vector(length, units=between(8, 1e4)))
    )


@pytest.mark.parametrize("cached", [False, True])
def test_a_batch_costs_what_its_designs_cost_one_by_one(cached: bool) -> None:
    generator = np.random.default_rng(4)
    table = attentions(*(random_case(generator) for _ in range(5)))
    on = random_machine(generator, 6, cached)
    whole = cost_attention(request(on, table, sequences=2.0))
    for design in range(6):
        at = np.array([design])
        one = replace(
            on, length=1, levels=tuple(part.take(at) for part in on.levels),
            engines=tuple(part.take(at) for part in on.engines),
            overhead=on.overhead.take(at), power=on.power.take(at), cost=on.cost.take(at),
        )  # fmt: skip
        alone = cost_attention(request(one, table, sequences=2.0))
        for name in ("compute_s", "level_s", "read_bytes", "write_bytes", "energy_j", "detail"):
            for key, values in getattr(whole, name).items():
                assert getattr(alone, name)[key].tobytes() == values[:, at].tobytes(), (name, key)
        assert alone.executed_macs.tobytes() == whole.executed_macs[:, at].tobytes()


def slowest(costs: RowCosts) -> Any:
    """Return the time of the slowest resource and what nothing overlaps."""
    terms = [*costs.compute_s.values(), *costs.level_s.values()]
    return np.where(costs.fits, np.maximum.reduce(terms) + costs.fixed_s, np.inf)


def scaled(on: MachineTable, part: str, index: int, field: str, factor: float) -> MachineTable:
    """Return the machine with one figure of one part multiplied."""
    parts = list(getattr(on, part))
    found = parts[index]
    parts[index] = replace(found, numbers={**found.numbers, field: found.numbers[field] * factor})
    return replace(on, **{part: tuple(parts)})


@pytest.mark.parametrize("cached", [False, True])
def test_more_of_anything_is_never_slower_and_traffic_never_below_the_operands(
    cached: bool,
) -> None:
    generator = np.random.default_rng(6)
    table = attentions(*(random_case(generator) for _ in range(12)))
    on = random_machine(generator, 40, cached)
    base = cost_attention(request(on, table, sequences=2.0))
    once = table.kv_heads * table.keys * (table.head_dim + table.value_dim)
    once = 2.0 * 2.0 * (once + table.heads * table.query_tokens * table.head_dim)
    assert (base.read_bytes["memory"] >= once[:, None] * (1 - 1e-12)).all()
    changes = [
        ("levels", 0, "read_bytes_per_s"), ("levels", 1, "read_bytes_per_s"),
        ("levels", 1, "size_bytes"), ("engines", 0, "clock_hz"), ("engines", 1, "clock_hz"),
        ("engines", 1, "units"), ("engines", 0, "units"),
    ]  # fmt: skip
    for part, index, field in changes:
        for factor in (2.0, 3.0):
            more = scaled(on, part, index, field, factor)
            faster = cost_attention(request(more, table, sequences=2.0))
            before, after = slowest(base)[base.fits], slowest(faster)[base.fits]
            assert (before >= after * (1 - 1e-9)).all(), (part, index, field, factor)


@pytest.mark.parametrize("cached", [False, True])
def test_longer_contexts_and_more_sequences_are_never_cheaper(cached: bool) -> None:
    generator = np.random.default_rng(8)
    cases = [random_case(generator) for _ in range(12)]
    on = random_machine(generator, 40, cached)
    base = slowest(cost_attention(request(on, attentions(*cases), sequences=2.0)))
    more = slowest(cost_attention(request(on, attentions(*cases), sequences=3.0)))
    longer = [{**case, "keys": case["keys"] * 1.3 // 1} for case in cases]
    further = slowest(cost_attention(request(on, attentions(*longer), sequences=2.0)))
    for name, found in (("sequences", more), ("context", further)):
        assert (found >= base * (1 - 1e-9)).all(), name


def test_without_softmax_rates_or_a_vector_engine_nothing_runs() -> None:
    alone = cost_attention(request(machine(engines=(array(),)), attentions({})))
    assert not alone.fits.any()
    assert alone.notes == ("made-up has no vector engine for the softmax",)
    lacking = vector(values_per_cycle={"elementwise": 1.0, "reduce": 1.0})
    costs = cost_attention(request(machine(engines=(array(), lacking)), attentions({})))
    assert not costs.fits.any()
    assert costs.notes == ("vector of made-up has no rate for transcendental",)


def test_an_engine_that_no_buffer_feeds_is_an_error_that_names_the_levels() -> None:
    on = machine(
        levels=(memory(),), engines=(array(feeds_from="memory"), vector(feeds_from="memory"))
    )
    with pytest.raises(InputError, match=r"no attention mapper for the levels memory"):
        cost_attention(request(on, attentions({})))
    streaming = machine(levels=(memory(), level("buffer", management=Management.FIFO)))
    with pytest.raises(InputError, match=r"memory \(software\) -> buffer \(fifo\)"):
        cost_attention(request(streaming, attentions({})))


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="attention rows expected"):
        cost_attention(request(machine(), gemms({})))
