import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import attentions, cached_machine, level, request, vector

from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Scope
from pentarch.hardware.runtime import AttentionKernel, Runtime
from pentarch.mapping.cost_attention import cost_attention
from pentarch.mapping.costs import CacheState

PARTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128)
UNITS, MACS = 16, 256 * 0.8e9
UNIT_MEMORY, MEMORY, FEED = 2e10, 1e11, 3e10
Q, START_S = 3.0, 120e-9
SCORE_S = (1 / 0.25 + 2 + 3) / 1e9
"""One exp at a quarter per cycle, two reductions and three simple operations, one after the other."""

DECODE: dict[str, Any] = {
    "tiles_per_unit": 2.0, "wave_share": 0.7, "overlap": Q, "part_s": 1e-7,
    "query_tiles": (16,), "efficiency": 0.5, "feed": 0.8, "tile_start_s": 1e-6, "token_s": 1e-9,
    "start_s": 3e-6,
}  # fmt: skip


def on_units(**engine: Any) -> MachineTable:
    """Return the cached machine with 1 MiB in each unit and a vector unit for each."""
    on = cached_machine(cache={"read_bytes_per_s": 1e13}, **engine)
    own = level("own", scope=Scope.UNIT, instances=16.0, size_bytes=2.0**20)
    units = vector(feeds_from="own", units=float(UNITS))
    return replace(on, levels=(*on.levels[:2], own), engines=(on.engines[0], units))


def stack(*kernels: KernelSet) -> Runtime:
    return Runtime(name="stack", kernels=kernels)


def joined(*terms: float) -> float:
    return sum(term**Q for term in terms) ** (1 / Q)


def decode_seconds(kv_heads: int, group: int, keys: int, width: int, parts: int) -> float:
    """Return the time of one split on the made-up machine under DECODE, with plain numbers."""
    rows = math.ceil(group / 16) * 16
    each = math.ceil(keys / parts / 64) * 64
    filled = kv_heads * parts / (UNITS * 2)
    waves = max(filled + 0.7 * (math.ceil(filled) - filled), 1)
    multiply = rows * 2 * width * each * 2 / (MACS * 0.5)
    softmax, load = rows * each * SCORE_S * 2, each * 2 * width * 2 * 2 / UNIT_MEMORY
    unit = waves * ((START_S + 1e-6) * 2 + joined(multiply, softmax, load))
    stored, moved = kv_heads * keys * 2 * width * 2, kv_heads * group * 2 * width * 2
    memory, cache = (stored + moved) / MEMORY, (stored + moved) / (FEED * UNITS * 0.8)
    combine = 0.0
    if parts > 1:
        combine = 5e-7 + parts * 1e-7 + kv_heads * group * width * 8 * parts / (FEED * UNITS)
    return joined(unit, memory, cache) + combine


@pytest.mark.parametrize(
    ("kv_heads", "group", "keys", "width"),
    [(2, 4, 4096, 128), (1, 1, 8192, 64), (64, 1, 700, 64), (3, 24, 300, 128), (1, 8, 63, 64)],
)
def test_decode_takes_the_split_with_the_least_time(
    kv_heads: int, group: int, keys: int, width: int
) -> None:
    possible = [parts for parts in PARTS if parts == 1 or keys / parts >= 64]
    times = [decode_seconds(kv_heads, group, keys, width, parts) for parts in possible]
    best = min(range(len(times)), key=times.__getitem__)
    row = {
        "heads": float(kv_heads * group), "kv_heads": float(kv_heads), "keys": float(keys),
        "head_dim": float(width), "value_dim": float(width),
    }  # fmt: skip
    kernel = KernelSet(operator=KernelOperator.ATTENTION_DECODE, **DECODE)
    costs = cost_attention(request(on_units(split_s=5e-7), attentions(row), runtime=stack(kernel)))
    assert costs.detail["split"].item() == possible[best]
    terms = [*costs.compute_s.values(), *costs.level_s.values()]
    combine = costs.fixed_s.item() - 3e-6 - 1e-9
    found = joined(*(term.item() for term in terms)) + combine
    assert found == pytest.approx(times[best], rel=1e-9)
    assert costs.overlap is not None
    assert costs.overlap.item() == Q


def test_a_kernel_that_cannot_split_single_heads_leaves_units_idle() -> None:
    row = {"heads": 2.0, "kv_heads": 2.0, "keys": 16384.0, "head_dim": 64.0, "value_dim": 64.0}
    free = cost_attention(request(on_units(), attentions(row)))
    bound = KernelSet(operator=KernelOperator.ATTENTION_DECODE, splits_single=False)
    whole = cost_attention(request(on_units(), attentions(row), runtime=stack(bound)))
    assert free.detail["split"].item() > whole.detail["split"].item() == 1
    # 14 of 16 units idle: the load of one unit decides
    assert whole.compute_s["array"].item() >= 16384 * 128 * 2 / UNIT_MEMORY
    grouped = cost_attention(
        request(on_units(), attentions({**row, "heads": 8.0}), runtime=stack(bound))
    )
    assert grouped.detail["split"].item() > 1


def test_kernels_are_chosen_by_group_and_width_row_by_row() -> None:
    row = {"heads": 8.0, "kv_heads": 2.0, "keys": 16384.0, "head_dim": 64.0, "value_dim": 64.0}
    rows = [row, row | {"heads": 2.0}, row | {"head_dim": 256.0, "value_dim": 256.0}]
    decode = KernelOperator.ATTENTION_DECODE
    kernels = (
        KernelSet(operator=decode, most_group=1, most_parts=3),
        KernelSet(operator=decode, least_head_dim=129, most_parts=2),
        KernelSet(operator=decode, splits_groups=False),
    )
    found = cost_attention(request(on_units(), attentions(*rows), runtime=stack(*kernels)))
    assert found.detail["split"][:, 0].tolist() == [1.0, 3.0, 2.0]


def test_tiles_that_share_a_unit_wait_for_their_keys_side_by_side() -> None:
    row = {"heads": 32.0, "kv_heads": 32.0, "keys": 6400.0, "head_dim": 64.0, "value_dim": 64.0}
    waiting = {"most_parts": 1, "key_tile_s": 1e-3, "query_tiles": (16,)}

    def unit_s(**figures: Any) -> float:
        kernel = KernelSet(operator=KernelOperator.ATTENTION_DECODE, **figures)
        costs = cost_attention(request(on_units(), attentions(row), runtime=stack(kernel)))
        return float(max(values.item() for values in costs.compute_s.values()))

    # 32 tiles on 16 units, 100 tiles of keys each: two rounds, or one where two share a unit.
    assert unit_s(**waiting) == pytest.approx(2 * 100e-3, rel=0.01)
    assert unit_s(**waiting, tiles_per_unit=2.0) == pytest.approx(100e-3, rel=0.01)


def test_keys_stay_whole_where_tiles_fill_enough_units() -> None:
    row = {"heads": 12.0, "kv_heads": 12.0, "keys": 16384.0, "head_dim": 64.0, "value_dim": 64.0}
    few = row | {"heads": 11.0, "kv_heads": 11.0}
    kernel = KernelSet(operator=KernelOperator.ATTENTION_DECODE, splits_below=0.75)
    found = cost_attention(request(on_units(), attentions(row, few), runtime=stack(kernel)))
    whole, cut = found.detail["split"][:, 0].tolist()
    assert whole == 1.0  # 12 tiles are 0.75 of 16 units
    assert cut > 1.0


def prefill_seconds(heads: int, tokens: int, keys: int, width: int, tall: int = 64) -> float:
    """Return the time of the units for causal attention in blocks, counted block by block."""
    step = 128
    blocks = math.ceil(tokens / tall)
    whole = math.ceil(keys / step) * step
    seen = [keys - tokens + block * tall + (tall + step) / 2 for block in range(blocks)]
    scores = min(sum(seen) * tall, blocks * tall * whole)
    each = max(2 * width / MACS, SCORE_S)
    tiles = heads * blocks
    filled = tiles / UNITS
    paid = 1 / math.sqrt(blocks)
    waves = max(filled + paid * (math.ceil(filled) - filled), 1)
    work = max(waves / tiles * heads * scores * each, tall * whole * each)
    return work + waves * START_S


@pytest.mark.parametrize(
    ("heads", "tokens", "keys"), [(4, 2048, 2048), (1, 100, 100), (8, 512, 4096), (2, 64, 64)]
)
def test_prefill_computes_whole_tiles_at_the_diagonal_and_waits_for_the_longest_block(
    heads: int, tokens: int, keys: int
) -> None:
    row = {
        "heads": float(heads), "kv_heads": float(heads), "query_tokens": float(tokens),
        "keys": float(keys), "head_dim": 64.0, "value_dim": 64.0,
    }  # fmt: skip
    kernel = KernelSet(operator=KernelOperator.ATTENTION_PREFILL, query_tiles=(64,))
    costs = cost_attention(request(on_units(), attentions(row), runtime=stack(kernel)))
    expected = prefill_seconds(heads, tokens, keys, 64)
    assert costs.compute_s["array"].item() == pytest.approx(expected, rel=1e-9)
    once = heads * (keys + tokens) * 64 * 2 * 2
    moved = costs.read_bytes["memory"] + costs.write_bytes["memory"]
    assert moved.item() == pytest.approx(once)


def test_a_window_leaves_out_the_keys_before_it() -> None:
    row = {
        "heads": 4.0, "kv_heads": 4.0, "query_tokens": 8192.0, "keys": 8192.0, "head_dim": 64.0,
        "value_dim": 64.0,
    }  # fmt: skip
    near = 8192.0 * 512 - 512 * 511 / 2  # pairs of a window of 512
    full, window = (
        cost_attention(request(on_units(), attentions({**row, **more})))
        for more in ({}, {"pairs": near})
    )
    assert window.executed_macs.item() < 0.2 * full.executed_macs.item()
    assert window.executed_macs.item() >= 4 * near * 128
    assert window.compute_s["array"].item() < 0.2 * full.compute_s["array"].item()


def test_values_inside_keys_are_read_once() -> None:
    row = {"heads": 16.0, "kv_heads": 1.0, "keys": 4096.0, "head_dim": 96.0, "value_dim": 64.0}
    apart = attentions(row)
    shared = replace(apart, values_in_keys=np.array([True]))
    both, one = (cost_attention(request(on_units(), table)) for table in (apart, shared))
    queries = 16 * 96 * 2
    assert both.read_bytes["memory"].item() == queries + 4096 * 160 * 2
    assert one.read_bytes["memory"].item() == queries + 4096 * 96 * 2


def test_later_rounds_of_a_head_read_its_keys_again_where_the_cache_lost_them() -> None:
    # 4096 rows in tiles of 128: 32 tiles on 16 units, two rounds
    row = {
        "heads": 1.0, "kv_heads": 1.0, "query_tokens": 4096.0, "keys": 4096.0, "head_dim": 64.0,
        "value_dim": 64.0, "causal": False,
    }  # fmt: skip
    stored, queries = 4096 * 128 * 2, 4096 * 64 * 2
    kernel = KernelSet(operator=KernelOperator.ATTENTION_PREFILL, query_tiles=(128,))
    for size, again in ((float(stored), 0.0), (1e3, 1.0)):
        on = on_units()
        held = replace(
            on.levels[1], numbers={**on.levels[1].numbers, "size_bytes": np.array([size])}
        )
        on = replace(on, levels=(on.levels[0], held, on.levels[2]))
        costs = cost_attention(request(on, attentions(row), runtime=stack(kernel)))
        assert costs.read_bytes["memory"].item() == pytest.approx(queries + (1 + again) * stored)


def test_a_tile_needs_room_for_its_queries_and_some_keys_in_a_units_buffer() -> None:
    row = {"heads": 1.0, "kv_heads": 1.0, "query_tokens": 512.0, "keys": 512.0, "head_dim": 64.0,
           "value_dim": 64.0}  # fmt: skip
    on = on_units(tile_menu=((64, 128, 32), (16, 64, 32)))
    # keys and values of 16 positions: 4096 bytes; 64 rows of queries 8192, 16 rows 2048
    for size, tile, fits in ((12_288.0, 64, True), (12_287.0, 16, True), (6_143.0, 16, False)):
        own = level("own", scope=Scope.UNIT, instances=16.0, size_bytes=size)
        small = replace(on, levels=(*on.levels[:2], own))
        costs = cost_attention(request(small, attentions(row)))
        assert costs.fits.item() is fits
        if tile == 16:
            assert costs.detail["tile_rows"].item() == 16


def test_a_loop_finds_what_the_cache_kept_and_a_layer_only_what_was_just_written() -> None:
    row = {"heads": 4.0, "kv_heads": 1.0, "keys": 1024.0, "head_dim": 64.0, "value_dim": 64.0}
    table = attentions(row)

    def read(state: CacheState | None) -> float:
        costs = cost_attention(request(on_units(), table, cached=state))
        return float((costs.read_bytes["memory"] + costs.write_bytes["memory"]).item())

    stored, moved = 1024 * 128 * 2, 2 * 4 * 64 * 2
    assert read(None) == stored + moved
    assert read(CacheState.layer()) == stored
    assert read(CacheState(copies=np.array([1.0]))) == 0.0
    assert read(CacheState(copies=np.array([np.inf]))) == stored
    fresh = attentions({**row, "query_tokens": 1024.0})
    costs = cost_attention(request(on_units(), fresh, cached=CacheState.layer()))
    # queries, keys, values and outputs are more than half of the cache: all pass through memory
    assert costs.read_bytes["memory"].item() > 0


def test_unfused_stacks_keep_writing_scores() -> None:
    row = {"heads": 4.0, "kv_heads": 4.0, "query_tokens": 1024.0, "keys": 1024.0, "head_dim": 64.0,
           "value_dim": 64.0}  # fmt: skip
    plain = Runtime(name="plain", attention=AttentionKernel.UNFUSED)
    costs = cost_attention(request(on_units(), attentions(row), runtime=plain))
    scores = 4 * 1024 * 1025 / 2 * 2
    assert costs.write_bytes["memory"].item() == pytest.approx(4 * 1024 * 64 * 2 + scores)


def test_a_batch_gives_the_bytes_of_its_designs() -> None:
    rates = np.array([5e10, 1e11, 3e11])
    table = attentions(
        {"heads": 4.0, "keys": 4000.0, "head_dim": 64.0, "value_dim": 64.0},
        {"query_tokens": 300.0, "keys": 900.0, "head_dim": 64.0, "value_dim": 64.0},
    )

    def costed(values: Any) -> Any:
        length = len(values)
        on = cached_machine(length)
        own = level("own", length, scope=Scope.UNIT, instances=16.0, size_bytes=2.0**20)
        outer = replace(on.levels[0], numbers={**on.levels[0].numbers, "read_bytes_per_s": values})
        on = replace(on, levels=(outer, on.levels[1], own))
        kernel = KernelSet(operator=KernelOperator.ATTENTION_DECODE, overlap=2.5)
        return cost_attention(request(on, table, runtime=stack(kernel), cached=CacheState.layer()))

    whole = costed(rates)
    for design in range(3):
        alone = costed(rates[[design]])
        for name in ("compute_s", "level_s", "detail", "energy_j"):
            for key, values in getattr(whole, name).items():
                part = np.ascontiguousarray(values[:, [design]])
                assert getattr(alone, name)[key].tobytes() == part.tobytes()
        assert alone.overlap.tolist() == [[2.5], [np.inf]]
