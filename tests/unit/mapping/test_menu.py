import math
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import MENU, cached_machine, machine

from pentarch.mapping.arithmetic import resolve
from pentarch.mapping.menu import SPLITS, MenuChoice, MenuShape, choose_tiles

CACHE_BYTES = 1e6


def choose(
    m: float, k: float, n: float, *, instances: float = 1.0, cache: dict[str, Any] | None = None,
    **engine: Any,
) -> MenuChoice:  # fmt: skip
    on = cached_machine(cache=cache, **engine)
    product = resolve(on, "bf16", "bf16")
    assert product is not None
    one = [np.array([[size]]) for size in (m, k, n, instances, 2.0, 2.0, 2.0, 4.0)]
    return choose_tiles(MenuShape(*one), product, on.levels[0], on.levels[1])


def time_of_option(m: int, k: int, n: int, tile: tuple[int, int, int], split: int) -> float:
    """Return the time of one option on the made-up machine, worked out with plain numbers."""
    tile_m, tile_n, tile_k = tile
    down, across = math.ceil(m / tile_m), math.ceil(n / tile_n)
    depth = math.ceil(k / split / tile_k) * tile_k
    tiles = down * across * split
    cycles = max(tile_m, 16) * tile_n * depth / (256 * 0.8) + 20 + 100
    compute = math.ceil(tiles / 16) * cycles * 1e-9
    busy = min(tiles, 16)
    if depth * (split - 1) >= k:  # a unit would be left without work
        return math.inf
    partial = (split - 1) * m * n * 4
    through_cache = across * m * k * 2 + down * k * n * 2 + m * n * 2 + 2 * partial
    cache = through_cache / min(4e11, busy * 3e10)
    tall = min(max(math.sqrt(16 * tile_n / tile_m), 1), down)
    wide = min(max(16 / tall, 1), across)
    tall = min(max(16 / wide, 1), down)
    a_reads = 1 if m * k * 2 <= CACHE_BYTES / 2 else math.ceil(across / wide)
    b_reads = 1 if k * n * 2 <= CACHE_BYTES / 2 else math.ceil(down / tall)
    moved = m * k * 2 * a_reads + k * n * 2 * b_reads + m * n * 2
    return max(compute, cache, moved / min(1e11, busy * 2e10))


@pytest.mark.parametrize(
    "shape", [(1, 4096, 512), (64, 64, 64), (300, 2000, 700), (2048, 512, 2048), (17, 9999, 33)]
)
def test_the_choice_is_that_of_a_loop_over_tiles_and_splits(shape: tuple[int, int, int]) -> None:
    options = [(tile, split) for tile in MENU for split in SPLITS]
    times = [time_of_option(*shape, tile, split) for tile, split in options]
    best = times.index(min(times))
    choice = choose(*shape)
    assert MENU[int(choice.tile.item())] == options[best][0]
    assert choice.split.item() == options[best][1]
    moved = choice.memory_read_bytes + choice.memory_write_bytes
    bound = [
        choice.compute_s,
        (choice.cache_read_bytes + choice.cache_write_bytes)
        / np.minimum(4e11, choice.active_units * 3e10),
        moved / np.minimum(1e11, choice.active_units * 2e10),
    ]
    assert max(part.item() for part in bound) == pytest.approx(times[best])


def test_compute_time_is_a_staircase_in_whole_waves() -> None:
    # One tile shape, long k, no split worth its partial sums: 16 tiles of 128 rows fill a wave.
    only = {"tile_menu": ((128, 128, 32),)}
    took = [choose(128.0 * tiles, 32, 128, **only).compute_s.item() for tiles in range(1, 34)]
    one = (128 * 128 * 32 / (256 * 0.8) + 120) * 1e-9
    assert took == pytest.approx([math.ceil(tiles / 16) * one for tiles in range(1, 34)])


def test_rows_below_the_least_cost_as_much_as_the_least() -> None:
    only = {"tile_menu": ((4, 64, 32), (16, 64, 32))}
    took = {m: choose(m, 512, 1024, min_rows=16.0, **only).compute_s.item() for m in (1, 4, 16)}
    assert took[1] == took[4] == took[16]


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


def test_an_engine_without_a_menu_is_refused() -> None:
    on = machine()
    product = resolve(on, "bf16", "bf16")
    assert product is not None
    shape = MenuShape(*[np.ones((1, 1))] * 8)
    with pytest.raises(ValueError, match="array has no tile menu"):
        choose_tiles(shape, product, on.levels[0], on.levels[1])
