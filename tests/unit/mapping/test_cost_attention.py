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
from pentarch.hardware.parts import Management, Scope, Stationary
from pentarch.hardware.runtime import AttentionKernel, Runtime
from pentarch.mapping.cost_attention import cost_attention
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
    # 6 blocks of 4 rows by 10 keys, one after the other: 320 MACs of 16 a cycle and a start of 2
    assert costs.compute_s["array"].item() == pytest.approx((6 * (20 + 2) + 8) * 1e-9)
    # a score: one exp of 4 cycles, two reductions, three elementwise operations, on 8 lanes
    assert costs.compute_s["vector"].item() == pytest.approx(DECODE_SCORES * 9 / 8 * 1e-9)
    assert costs.energy_j["vector"].item() == pytest.approx(DECODE_SCORES * 6 * 5 * PJ)
    assert costs.energy_j["array"].item() == pytest.approx(macs * PJ)
    assert costs.detail["fused"].item() == 1


def test_heads_without_a_group_fill_one_row_of_the_array() -> None:
    costs = cost_attention(request(machine(), attentions({"heads": 2.0}), sequences=3.0))
    # a quarter of the work of a group of four, in the same time
    assert costs.executed_macs.item() == DECODE_SCORES * 8 / 4
    assert costs.compute_s["array"].item() == pytest.approx((6 * (20 + 2) + 8) * 1e-9)


def test_an_engine_without_an_array_pads_to_its_least_rows() -> None:
    bare = array(stationary=Stationary.NONE, rows=1.0, columns=1.0, min_rows=16.0)
    on = machine(engines=(bare, vector()))
    costs = cost_attention(request(on, attentions({}), sequences=3.0))
    assert costs.compute_s["array"].item() == pytest.approx((6 * (4 * 20 + 2) + 8) * 1e-9)


PREFILL = {"heads": 2.0, "kv_heads": 1.0, "query_tokens": 4.0, "keys": 4.0}


def test_causal_prefill_in_one_block_computes_the_whole_square() -> None:
    costs = cost_attention(request(machine(), attentions(PREFILL)))
    # 2 heads x 4 queries x 4 keys; Q and O are 2 x 4 x 4 words, K and V 4 x 8 words
    assert costs.executed_macs.item() == 32 * 8
    assert costs.read_bytes["memory"].item() == 64 + 64
    assert costs.write_bytes["memory"].item() == 64
    assert costs.compute_s["vector"].item() == pytest.approx(32 * 9 / 8 * 1e-9)


def test_causal_prefill_in_two_blocks_skips_what_lies_above_the_diagonal() -> None:
    # A row with all its scores takes 4 * 4 + 3 * 4 bytes, a streamed word 2: 114 bytes hold 4 rows,
    # two positions of two heads. They see 2, then 4 keys: 6 rows of K and V, 2 * (2*2 + 2*4) scores.
    wide = {**PREFILL, "head_dim": 64.0, "value_dim": 64.0}
    costs = cost_attention(request(with_buffer(114.0), attentions(wide), runtime=FUSED))
    assert costs.executed_macs.item() == 24 * 128
    assert costs.read_bytes["memory"].item() == 8 * 64 * 2 + 6 * 128 * 2
    assert costs.detail["row_block"].item() == 4


def test_keys_held_whole_are_read_once_and_single_rows_stop_at_their_own() -> None:
    # Of width 4, K and V take 64 bytes; 48 of 114 are left for a row of 28: 2 * (1 + 2 + 3 + 4) scores.
    costs = cost_attention(request(with_buffer(114.0), attentions(PREFILL), runtime=FUSED))
    assert costs.executed_macs.item() == 20 * 8
    assert costs.read_bytes["memory"].item() == 64 + 64


def test_a_sliding_window_takes_off_keys_and_scores_but_no_queries() -> None:
    # Windows of 2 keys: 1 + 2 + 2 + 2 = 7 of 10 causal pairs a head.
    full = cost_attention(request(machine(), attentions(PREFILL)))
    windowed = cost_attention(request(machine(), attentions({**PREFILL, "pairs": 7.0})))
    assert windowed.executed_macs.item() == pytest.approx(0.7 * full.executed_macs.item())
    assert windowed.read_bytes["memory"].item() == pytest.approx(64 + 0.7 * 64)
    assert windowed.write_bytes["memory"].item() == full.write_bytes["memory"].item() == 64


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
    # 512 queries of one head on 512 keys: 4 x 4 tiles of 128, on 16 units one each
    on = machine(engines=(array(units=16.0), vector()))
    row = {"heads": 1.0, "kv_heads": 1.0, "query_tokens": 512.0, "keys": 512.0, "causal": False}
    costs = cost_attention(request(on, attentions(row), runtime=UNFUSED))
    assert costs.compute_s["array"].item() == pytest.approx((128 * 128 * 8 / 16 + 2 + 8) * 1e-9)


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
    assert costs.compute_s["vector"].item() == pytest.approx(DECODE_SCORES * 9 / 8 * 1e-9)


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


def test_heads_in_flight_that_fit_the_cache_read_keys_once() -> None:
    # 1024 queries of one head, 1024 keys of width 64; a unit's 64 KiB hold some of the rows only.
    row = {"heads": 1.0, "kv_heads": 1.0, "head_dim": 64.0, "value_dim": 64.0,
           "query_tokens": 1024.0, "keys": 1024.0, "causal": False}  # fmt: skip
    keys_and_values, queries = 1024 * 128 * 2, 1024 * 64 * 2
    large = cost_attention(request(cached_machine(), attentions(row), runtime=FUSED))
    assert large.read_bytes["memory"].item() == queries + keys_and_values
    small = cached_machine(cache={"size_bytes": keys_and_values - 1.0})
    reread = cost_attention(request(small, attentions(row), runtime=FUSED))
    passes = np.ceil(1024 / reread.detail["row_block"].item())
    assert passes > 1
    assert reread.read_bytes["memory"].item() == queries + passes * keys_and_values


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
