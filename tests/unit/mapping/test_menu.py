import math
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import MENU, cached_machine, machine

from pentarch.errors import InputError
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.mapping.arithmetic import resolve
from pentarch.mapping.cached_rates import CacheRates
from pentarch.mapping.menu import (
    SPLITS,
    MenuChoice,
    MenuRules,
    MenuShape,
    choose_tiles,
    kept_share,
)

CACHE_BYTES = 1e6
PLAIN = KernelSet(operator=KernelOperator.GEMM)

# The figures of the made-up machine that the loop below works with.
UNITS, MACS, FEED, MEMORY = 16, 256 * 0.8e9, 3e10, 1e11
STEP_S, DRAIN, PAID, SPLIT_S, Q = 4e-8, 1.2e10, 0.6, 2e-6, 3.0
DETAILED: dict[str, Any] = {
    "k_step_bytes": 64.0, "k_step_s": STEP_S, "drain_bytes_per_s": DRAIN, "wave_share": PAID,
    "split_s": SPLIT_S,
}  # fmt: skip


def choose(
    m: float, k: float, n: float, *, instances: float = 1.0, cache: dict[str, Any] | None = None,
    kernel: KernelSet = PLAIN, kept: Any = None, converted: float | None = None,
    grouped: bool = False, **engine: Any,
) -> MenuChoice:  # fmt: skip
    on = cached_machine(cache=cache, **engine)
    product = resolve(on, "bf16", "bf16")
    assert product is not None
    one = [np.array([[size]]) for size in (m, k, n, instances, 2.0, 2.0, 2.0, 4.0)]
    held = None if kept is None else np.array(kept).reshape(3, 1, 1)
    rules = MenuRules(
        kernel=kernel, rates=CacheRates.of(on, product.engine, on.levels[1], kernel),
        converted_per_s=None if converted is None else np.array([converted]),
    )  # fmt: skip
    shape = MenuShape(*one, kept=held, grouped=grouped)
    return choose_tiles(shape, product, on.levels[1], rules)


def joined(*terms: float) -> float:
    return sum(term**Q for term in terms) ** (1 / Q)


def time_of_option(m: int, k: int, n: int, tile: tuple[int, int, int], split: int) -> float:
    """Return the time of one option on the made-up machine, worked out with plain numbers."""
    tall, wide, _ = tile
    words = 32  # 64 bytes of a row of A
    steps = math.ceil(k / split / words)
    depth = steps * words
    if depth * (split - 1) >= k:  # a unit would be left without work
        return math.inf
    down, across = math.ceil(m / tall), math.ceil(n / wide)
    filled = down * across * split / UNITS
    waves = max(filled + PAID * (math.ceil(filled) - filled), 1)
    multiply = joined(max(tall, 16) * wide * depth / MACS, steps * STEP_S)
    fixed = 120e-9 + min(tall, m) * min(wide, n) * 2 / DRAIN
    draw = (min(tall, m) + min(wide, n)) * 2 * depth / FEED
    through_cache = (across * m * k + down * k * n) * 2 / 4e11
    high = min(max(math.sqrt(UNITS * wide / tall), 1), down)
    broad = min(max(UNITS / high, 1), across)
    high = min(max(UNITS / broad, 1), down)
    a_reads = 1 if m * k * 2 <= CACHE_BYTES / 2 else math.ceil(across / broad)
    b_reads = 1 if k * n * 2 <= CACHE_BYTES / 2 else math.ceil(down / high)
    moved = m * k * 2 * a_reads + k * n * 2 * b_reads + m * n * 2
    spill = 0.0 if split == 1 else SPLIT_S + (split + 1) * m * n * 4 / (FEED * UNITS)
    overlapped = joined(
        waves * (multiply + fixed), max(waves * draw, through_cache), moved / MEMORY
    )
    return overlapped + spill


@pytest.mark.parametrize(
    "shape", [(1, 4096, 512), (64, 64, 64), (300, 2000, 700), (2048, 512, 2048), (17, 9999, 33)]
)
def test_the_choice_is_that_of_a_loop_over_tiles_and_splits(shape: tuple[int, int, int]) -> None:
    options = [(tile, split) for tile in MENU for split in SPLITS]
    times = [time_of_option(*shape, tile, split) for tile, split in options]
    best = times.index(min(times))
    kernel = KernelSet(operator=KernelOperator.GEMM, overlap=Q)
    choice = choose(*shape, kernel=kernel, **DETAILED)
    assert MENU[int(choice.tile.item())] == options[best][0]
    assert choice.split.item() == options[best][1]
    parts = (choice.compute_s, choice.feed_s, choice.memory_s)
    found = joined(*(part.item() for part in parts)) + choice.spill_s.item()
    assert found == pytest.approx(times[best], rel=1e-12)


def test_compute_time_is_a_staircase_in_whole_waves() -> None:
    # One tile shape, long k, no split worth its partial sums: 16 tiles of 128 rows fill a wave.
    only = {"tile_menu": ((128, 128, 32),)}
    took = [choose(128.0 * tiles, 32, 128, **only).compute_s.item() for tiles in range(1, 34)]
    one = (128 * 128 * 32 / (256 * 0.8) + 120) * 1e-9
    assert took == pytest.approx([math.ceil(tiles / 16) * one for tiles in range(1, 34)])


def test_of_an_unfilled_wave_the_stated_share_is_paid_and_at_least_one_wave() -> None:
    only = {"tile_menu": ((128, 128, 32),), "wave_share": 0.25}
    took = [choose(128.0 * tiles, 32, 128, **only).compute_s.item() for tiles in (8, 16, 24, 32)]
    one = (128 * 128 * 32 / (256 * 0.8) + 120) * 1e-9
    assert took == pytest.approx([one, one, (1.5 + 0.25 * 0.5) * one, 2 * one])


def test_rows_below_the_least_cost_as_much_as_the_least() -> None:
    only = {"tile_menu": ((4, 64, 32), (16, 64, 32))}
    took = {m: choose(m, 512, 1024, min_rows=16.0, **only).compute_s.item() for m in (1, 4, 16)}
    assert took[1] == took[4] == took[16]


def test_few_rows_take_as_long_as_the_smallest_tile_holds() -> None:
    # The menu ends at 16 rows: up to there a product of few rows takes the same time.
    took = [choose(m, 4096, 4096).compute_s.item() for m in (1, 8, 16, 512)]
    assert took[0] == took[1] == took[2] < took[3]


def test_a_k_step_takes_no_less_than_its_latency() -> None:
    # 16 x 64 x 32 MACs take 160 ns of multiplying; with 1 us a step 128 steps take 128 us.
    only = {"tile_menu": ((16, 64, 32),), "k_step_bytes": 64.0, "k_step_s": 1e-6}
    narrow = KernelSet(operator=KernelOperator.GEMM, most_parts=1)
    took = choose(16, 4096, 64, kernel=narrow, **only).compute_s.item()
    assert took == pytest.approx(128 * 1e-6 + 120e-9)
    hurried = KernelSet(operator=KernelOperator.GEMM, most_parts=1, step=0.5)
    assert choose(16, 4096, 64, kernel=hurried, **only).compute_s.item() == pytest.approx(
        64e-6 + 120e-9
    )


def test_a_library_without_split_k_or_small_tiles_is_held_to_that() -> None:
    free = choose(16, 16384, 64)
    assert free.split.item() > 1
    bound = KernelSet(operator=KernelOperator.GEMM, most_parts=1, least_area=128 * 128)
    found = choose(16, 16384, 64, kernel=bound)
    assert (found.split.item(), MENU[int(found.tile.item())]) == (1, (128, 128, 32))
    none = KernelSet(operator=KernelOperator.GEMM, least_area=1e6)
    with pytest.raises(InputError, match="Lower `least_area`"):
        choose(16, 16384, 64, kernel=none)


def test_a_library_has_the_tiles_it_names() -> None:
    named = KernelSet(operator=KernelOperator.GEMM, tiles=((64, 128),))
    assert MENU[int(choose(16, 512, 64, kernel=named).tile.item())] == (64, 128, 32)
    none = KernelSet(operator=KernelOperator.GEMM, tiles=((48, 48),))
    with pytest.raises(InputError, match=r"none above among 48 x 48.*name other `tiles`"):
        choose(16, 512, 64, kernel=none)


def test_k_is_filled_up_to_whole_steps_of_the_library() -> None:
    # Steps of 64 bytes are 32 words, four times that 128: k = 96 takes as long as 128.
    only = {"tile_menu": ((128, 128, 32),), "k_step_bytes": 64.0}
    deep = KernelSet(operator=KernelOperator.GEMM, most_parts=1, k_step=4.0)
    took = [choose(512, k, 512, kernel=deep, **only) for k in (64, 96, 128, 130)]
    assert [one.executed_macs.item() for one in took] == [
        512 * 512 * k for k in (128,) * 3 + (256,)
    ]
    assert took[0].compute_s == took[2].compute_s < took[3].compute_s


@pytest.mark.parametrize(("columns", "sharing"), [(512, 4.0), (2048, 1.0), (8192, 1.0)])
def test_tiles_in_row_order_share_weights_only_in_one_row_of_units(
    columns: int, sharing: float
) -> None:
    # 16 units hold one row of 2048 columns, or four rows of 512. B is far beyond the cache.
    only = {"tile_menu": ((128, 128, 32),)}
    m, k, down = 4096, 4096, 32
    in_rows = KernelSet(operator=KernelOperator.GEMM, most_parts=1, row_order=True, scattered=0.25)
    found = choose(m, k, columns, kernel=in_rows, **only)
    a_bytes, b_bytes = m * k * 2, k * columns * 2
    a_times, b_times = math.ceil(columns / 128 / 16), down / sharing
    assert found.memory_read_bytes.item() == a_bytes * a_times + b_bytes * b_times
    # Each byte that is read again takes as long as four.
    moved = a_bytes * a_times + b_bytes * (1 + 4 * (b_times - 1)) + m * columns * 2
    assert found.memory_s.item() == pytest.approx(moved / MEMORY)


def test_more_tiles_on_a_unit_let_more_rows_of_tiles_share_weights() -> None:
    only = {"tile_menu": ((128, 128, 32),)}
    one, two = (
        choose(4096, 4096, 2048, kernel=KernelSet(
            operator=KernelOperator.GEMM, most_parts=1, row_order=True, tiles_per_unit=tiles
        ), **only)
        for tiles in (1, 2)
    )  # fmt: skip
    again = 2 * 4096 * 2048
    assert (one.memory_read_bytes - two.memory_read_bytes).item() == (32 - 16) * again


def test_a_tile_chosen_for_one_of_a_batch_is_timed_for_all() -> None:
    # Alone, 16 x 64 tiles fill the units; 64 of these products fill them with the largest as well.
    free = KernelSet(operator=KernelOperator.BATCHED, most_parts=1)
    single = KernelSet(operator=KernelOperator.BATCHED, most_parts=1, chosen_alone=True)
    best = choose(256, 512, 128, instances=64.0, kernel=free)
    taken = choose(256, 512, 128, instances=64.0, kernel=single)
    alone = choose(256, 512, 128, kernel=free)
    small = KernelSet(operator=KernelOperator.BATCHED, most_parts=1, tiles=((16, 64),))
    same = choose(256, 512, 128, instances=64.0, kernel=small)
    assert MENU[int(best.tile.item())] == (128, 128, 32)
    assert MENU[int(taken.tile.item())] == MENU[int(alone.tile.item())] == (16, 64, 32)
    for name in ("compute_s", "feed_s", "memory_s", "memory_read_bytes", "waves", "executed_macs"):
        assert getattr(taken, name).item() == getattr(same, name).item()


def test_rates_of_a_unit_may_be_stated_for_a_multiply_accumulate() -> None:
    # 256 MACs a cycle: 0.25 bytes in the time of one are 64 bytes a cycle.
    only = {"tile_menu": ((128, 128, 32),)}
    stated = KernelSet(
        operator=KernelOperator.GEMM, most_parts=1, feed_per_mac=0.25, drain_per_mac=0.125
    )
    found = choose(128, 512, 128, kernel=stated, **only)
    assert found.feed_s.item() == pytest.approx(2 * 128 * 512 * 2 / (64 * 1e9))
    multiply = 128 * 128 * 512 / (256 * 0.8) * 1e-9
    assert found.compute_s.item() == pytest.approx(multiply + 120e-9 + 128 * 128 * 2 / (32 * 1e9))


def test_factors_of_a_library_multiply_the_figures_of_the_machine() -> None:
    narrow = {"most_parts": 1, "operator": KernelOperator.GEMM}
    plain = choose(4096, 4096, 4096, kernel=KernelSet(**narrow), **DETAILED)
    slow = choose(4096, 4096, 4096, kernel=KernelSet(**narrow, feed=0.5, stream=0.25), **DETAILED)
    assert slow.tile.item() == plain.tile.item()
    assert slow.feed_s.item() == pytest.approx(2 * plain.feed_s.item())
    moved = plain.memory_read_bytes + plain.memory_write_bytes
    assert slow.memory_s.item() == pytest.approx(moved.item() / (MEMORY * 0.25))


def test_units_convert_narrow_weights_no_faster_than_they_can() -> None:
    only = {"tile_menu": ((16, 64, 32),)}
    narrow = KernelSet(operator=KernelOperator.GEMM, most_parts=1)
    took = choose(16, 3200, 64, kernel=narrow, converted=1e9, **only).compute_s.item()
    assert took == pytest.approx(64 * 3200 / 1e9 + 120e-9)


def test_what_the_cache_holds_is_not_fetched() -> None:
    cold, warm = choose(16, 500, 64), choose(16, 500, 64, kept=[1.0, 0.25, 1.0])
    assert cold.memory_read_bytes.item() == (16 * 500 + 500 * 64) * 2
    assert warm.memory_read_bytes.item() == 0.75 * 500 * 64 * 2
    assert (cold.memory_write_bytes.item(), warm.memory_write_bytes.item()) == (16 * 64 * 2, 0)


def test_a_cyclic_stream_survives_by_chance() -> None:
    # h = exp(-(1 - h) x) by bisection, for 2 and 1.2 times the room
    def survives(turns: float) -> float:
        low, high = 0.0, 1.0 - 1e-9
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (
                (middle, high) if math.exp(-(1 - middle) * turns) > middle else (low, middle)
            )
        return low

    footprints = np.array([[50.0], [100.0], [200.0]])
    found = kept_share(footprints, np.array([100.0]))[:, 0]
    assert found[:2].tolist() == [1.0, 1.0]
    assert found[2] == pytest.approx(survives(2.0), abs=1e-2)
    assert kept_share(np.array([[np.inf]]), np.array([1.0])).item() == 0.0


def test_an_operand_that_fits_half_the_cache_is_read_once() -> None:
    # A is far larger than the cache, B 2 * 250 * 1000 bytes = exactly half of it.
    fits = choose(100_000, 250, 1000, tile_menu=((128, 128, 32),))
    a_bytes, b_bytes = 2 * 100_000 * 250, 2 * 250 * 1000
    # 8 tiles across, 4 at once beside 4 down: A passes twice
    assert fits.memory_read_bytes.item() == 2 * a_bytes + b_bytes
    smaller = choose(
        100_000, 250, 1000, cache={"size_bytes": CACHE_BYTES - 8}, tile_menu=((128, 128, 32),)
    )
    down, tall = math.ceil(100_000 / 128), 4
    assert smaller.memory_read_bytes.item() == 2 * a_bytes + math.ceil(down / tall) * b_bytes


def test_wide_tiles_are_stacked_so_that_a_wave_reads_a_square() -> None:
    # Tiles of 64 x 256: 8 down by 2 across read 512 rows of each operand. 32 x 16 tiles of both
    # operands far beyond the cache: A passes 16 / 2 times, B 32 / 8 times.
    choice = choose(32 * 64, 1000, 16 * 256, tile_menu=((64, 256, 32),))
    a_bytes, b_bytes = 2048 * 1000 * 2, 1000 * 4096 * 2
    assert choice.memory_read_bytes.item() == 8 * a_bytes + 4 * b_bytes


def test_partial_sums_of_a_split_are_written_and_read_by_all_units_but_one() -> None:
    choice = choose(16, 16384, 64, tile_menu=((16, 64, 32),))
    split = choice.split.item()
    assert split > 1
    assert choice.cache_write_bytes.item() == 16 * 64 * 2 + (split - 1) * 16 * 64 * 4
    assert choice.memory_write_bytes.item() == 16 * 64 * 2


def test_a_split_leaves_no_unit_without_a_step_of_k() -> None:
    # Two units would draw twice the bandwidth of one, but there is one step of k only.
    assert choose(16, 32, 64, tile_menu=((16, 64, 32),)).split.item() == 1


def test_equal_gemms_fill_units_together() -> None:
    one, eight = (choose(16, 32, 64, instances=i, tile_menu=((16, 64, 32),)) for i in (1.0, 8.0))
    assert eight.active_units.item() == 8 * one.active_units.item() == 8
    assert eight.compute_s.item() == one.compute_s.item()
    assert eight.memory_read_bytes.item() == 8 * one.memory_read_bytes.item()


def test_gemms_of_unequal_heights_leave_half_of_their_last_tiles_empty() -> None:
    only = {"tile_menu": ((16, 64, 32),)}
    # mean heights of 40 and 8 rows, 16 of each: 16 (40 / 16 + 1/2) tiles, and one tile each
    tall = choose(40, 32, 64, instances=16.0, grouped=True, **only)
    assert tall.executed_macs.item() == 16 * 3 * 16 * 64 * 32
    low = choose(8, 32, 64, instances=16.0, grouped=True, **only)
    assert low.executed_macs.item() == 16 * 16 * 64 * 32
    even = choose(40, 32, 64, instances=16.0, **only)
    assert even.executed_macs.item() == 16 * 3 * 16 * 64 * 32


def test_an_engine_without_a_menu_is_refused() -> None:
    on = machine()
    product = resolve(on, "bf16", "bf16")
    assert product is not None
    shape = MenuShape(*[np.ones((1, 1))] * 8)
    rules = MenuRules(kernel=PLAIN, rates=CacheRates.of(on, product.engine, on.levels[1], PLAIN))
    with pytest.raises(ValueError, match="array has no tile menu"):
        choose_tiles(shape, product, on.levels[1], rules)
