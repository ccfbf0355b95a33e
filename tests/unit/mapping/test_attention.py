"""Attention: blocks counted one by one, masks, windows, families, the estimate at the registers."""

from dataclasses import replace
from math import inf

import numpy as np
import pytest
from tests.unit.mapping.attention_reference import Walk, closed_form

from pentarch.errors import InputError
from pentarch.mapping.attention import (
    FAMILIES,
    AttentionRows,
    map_attention,
    unfused_attention_bytes,
    useful_scores,
)


def rows_of(
    *,
    positions: int,
    keys: int,
    group: int = 1,
    dim: int = 8,
    causal: bool = False,
    heads: int = 1,
    designs: int = 1,
    partial: float = 4.0,
    window: float | None = None,
) -> AttentionRows:
    """Return one attention with one-byte words."""
    one = np.ones(1)
    return AttentionRows(
        np.full((1, designs), float(heads)), group * one, positions * one, keys * one, dim * one,
        dim * one, one, one, one, partial * one, np.array([causal]),
        window=None if window is None else window * one,
    )  # fmt: skip


def random_walk(generator: np.random.Generator, most: int) -> Walk:
    """Return a random KV head: masked or not, windowed or not, values in keys or not."""
    causal = bool(generator.random() < 0.6)
    positions = int(generator.integers(1, most))
    keys = positions + int(generator.integers(0, most))
    windowed = causal and generator.random() < 0.5
    value = int(generator.integers(1, 12))
    shared = bool(generator.random() < 0.3)
    return Walk(
        group=int(generator.integers(1, 5)), positions=positions, keys=keys, value_dim=value,
        head_dim=value + int(generator.integers(0, 6)), partial=int(generator.choice([1, 2, 4])),
        causal=causal, window=float(generator.integers(1, keys + 3)) if windowed else inf,
        shared=shared,
    )  # fmt: skip


def test_no_block_or_family_beats_the_one_chosen_under_any_mask() -> None:
    generator = np.random.default_rng(2)
    winners = set()
    for _ in range(400):
        walk = random_walk(generator, 12)
        capacity = float(int(np.exp(generator.uniform(np.log(20), np.log(3000)))))
        found = map_attention(walk.rows(), np.array([capacity]))
        wanted = walk.least_kv(capacity)
        assert found.fits[0, 0] == (wanted is not None), walk
        if wanted is not None:
            assert found.memory_kv_bytes[0, 0] == wanted, walk
            winners.add(FAMILIES[found.family[0, 0]])
    assert {"flash", "flash+Kres", "flash+Kres+Vres", "panel"} <= winners


def test_executed_scores_are_those_of_the_passes() -> None:
    generator = np.random.default_rng(5)
    for _ in range(300):
        walk = random_walk(generator, 20)
        found = map_attention(walk.rows(), np.array([float(generator.integers(100, 2000))]))
        passes = walk.passes(int(found.row_block[0, 0]))
        assert found.executed_scores[0, 0] == pytest.approx(sum(r * k for r, k in passes)), walk


def test_the_kernel_equals_closed_forms_in_numpy() -> None:
    generator = np.random.default_rng(3)
    for _ in range(300):
        one, positions = np.ones(1), int(generator.integers(1, 3000))
        rows = AttentionRows(
            np.ones((1, 4)), generator.integers(1, 9) * one, positions * one,
            (positions + generator.integers(0, 3000)) * one, generator.integers(8, 200) * one,
            generator.integers(8, 200) * one, generator.choice([0.5, 1, 2]) * one,
            generator.choice([0.5, 1, 2]) * one, one, generator.choice([2, 4]) * one,
            np.array([generator.random() < 0.5]),
        )  # fmt: skip
        capacity = np.floor(np.exp(generator.uniform(np.log(3e3), np.log(5e6), 4)))
        perfect = bool(generator.random() < 0.2 and not rows.causal[0])
        found = map_attention(rows, capacity, perfect=perfect)
        wanted = closed_form(rows, capacity, perfect=perfect)
        assert np.isfinite(wanted.kv_words).tolist() == found.fits.tolist()
        fits = found.fits
        assert found.row_block[fits].tolist() == wanted.row_block[fits].tolist()
        assert found.family[fits].tolist() == wanted.family[fits].tolist()
        words = wanted.kv_words * rows.kv_bytes[:, None]
        assert found.memory_kv_bytes[fits].tolist() == words[fits].tolist()
        assert found.executed_scores[fits].tolist() == wanted.executed[fits].tolist()


def test_useful_scores_are_the_lower_triangle_or_the_band() -> None:
    # 3 queries after 2 cached keys see 3, 4 and 5 keys; 2 query heads share them.
    three, five, two = (np.array([x]) for x in (3.0, 5.0, 2.0))
    assert useful_scores(three, five, two, causal=True) == 24.0
    assert useful_scores(three, five, two, causal=False) == 30.0
    assert useful_scores(three, five, two, causal=True, window=4.0) == 22.0
    assert useful_scores(three, five, two, causal=True, window=2.0) == 12.0


def test_key_traffic_of_a_causal_prefill_is_that_of_its_row_blocks() -> None:
    # d = 8, p = 4, one-byte words: a row needs 8 + 32 + 12 = 52 bytes, one streamed word 1.
    # 160 bytes hold 3 rows: blocks of 3, 3, 3, 1 positions end at keys 3, 6, 9, 10 -> 28 keys.
    # Holding K of the head takes 80 bytes more, leaving 1 row: 80 + 8 * 55 > 2 * 8 * 28.
    found = map_attention(rows_of(positions=10, keys=10, causal=True), np.array([160.0]))
    assert FAMILIES[found.family[0, 0]] == "flash"
    assert found.row_block[0, 0] == 3.0
    assert found.memory_kv_bytes[0, 0] == 28 * 8 * 2
    assert found.memory_read_bytes[0, 0] == 28 * 8 * 2 + 10 * 8
    assert found.memory_write_bytes[0, 0] == 10 * 8
    assert found.executed_scores[0, 0] == 3 * 3 + 3 * 6 + 3 * 9 + 1 * 10
    assert found.spare_bytes[0, 0] == 160 - 1 - 3 * 52


def test_a_window_takes_off_the_keys_that_no_row_of_a_block_sees() -> None:
    # Blocks of 3 positions, window 2: keys 0-2, 2-5, 5-8, 8-9; a panel of 2 scores needs 20 bytes
    # a row, so 63 bytes hold 3 rows of it.
    found = map_attention(rows_of(positions=10, keys=10, causal=True, window=2.0), np.array([63.0]))
    assert FAMILIES[found.family[0, 0]] == "panel"
    assert found.memory_kv_bytes[0, 0] == (3 + 4 + 4 + 2) * 8 * 2
    assert found.executed_scores[0, 0] == 3 * 3 + 3 * 4 + 3 * 4 + 1 * 2


def test_a_value_that_is_part_of_its_key_is_read_once() -> None:
    # Latent attention: 4 heads share keys of 8 + 2 features, the first 8 of which are the value.
    latent = replace(
        rows_of(positions=1, keys=30, group=4), head_dim=np.array([10.0]),
        value_in_key=np.array([True]),
    )  # fmt: skip
    found = map_attention(latent, np.array([900.0]))
    assert found.memory_kv_bytes[0, 0] == 30 * 10
    assert found.memory_write_bytes[0, 0] == 4 * 8
    read, _ = unfused_attention_bytes(latent, np.ones(1))
    assert read[0, 0] == 4 * 10 + 30 * 10 + 4 * 30
    apart = map_attention(replace(latent, value_in_key=None), np.array([900.0]))
    assert apart.memory_kv_bytes[0, 0] == 30 * (10 + 8)


def test_a_group_wider_than_the_block_takes_several_passes() -> None:
    # 6 query heads on one position, 2 rows fit (105 bytes): 3 passes over the 7 keys.
    for causal in (False, True):
        found = map_attention(
            rows_of(positions=1, keys=7, group=6, causal=causal), np.array([105.0])
        )
        assert found.row_block[0, 0] == 2.0
        assert found.memory_kv_bytes[0, 0] == 3 * 7 * 16


@pytest.mark.parametrize(
    ("causal", "window"), [(False, None), (True, None), (True, 20.0), (True, 3.0)]
)
def test_more_capacity_never_reads_more_and_never_less_than_once(
    causal: bool, window: float | None
) -> None:
    capacity = np.arange(60.0, 9000.0, 13.0)
    for positions, group in ((50, 1), (23, 3), (64, 1)):
        rows = rows_of(
            positions=positions, keys=64, causal=causal, designs=len(capacity), group=group,
            window=window,
        )  # fmt: skip
        found = map_attention(rows, capacity)
        assert found.fits.all()
        once = min(64, positions - 1 + (64 if window is None else window)) * 16
        assert (found.memory_kv_bytes >= once).all()
        assert (np.diff(found.memory_kv_bytes[0]) <= 0).all()


def test_a_window_is_never_dearer_and_a_longer_context_never_cheaper() -> None:
    generator = np.random.default_rng(9)
    for _ in range(200):
        walk = replace(random_walk(generator, 40), causal=True, window=inf, shared=False)
        capacity = np.array([float(generator.integers(300, 4000))])
        full = map_attention(walk.rows(), capacity)
        longer = map_attention(replace(walk, keys=walk.keys + 1).rows(), capacity)
        band = replace(walk, window=float(generator.integers(1, walk.keys + 1)))
        windowed = map_attention(band.rows(), capacity)
        for name in ("memory_read_bytes", "memory_write_bytes"):
            assert getattr(windowed, name)[0, 0] <= getattr(full, name)[0, 0], band
            assert getattr(longer, name)[0, 0] >= getattr(full, name)[0, 0], walk


def test_a_batch_equals_its_designs_one_by_one() -> None:
    capacity, registers = np.array([900.0, 5000.0, 40.0]), np.array([64.0, 300.0, 300.0])
    rows = rows_of(positions=33, keys=40, group=2, causal=True, designs=3, heads=5)
    whole = map_attention(rows, capacity, register_bytes=registers)
    assert whole.fits.tolist() == [[True, True, False]]
    single = rows_of(positions=33, keys=40, group=2, causal=True, heads=5)
    for design in range(3):
        alone = map_attention(single, capacity[[design]], register_bytes=registers[[design]])
        for name in ("memory_read_bytes", "sram_read_bytes", "sram_write_bytes", "row_block"):
            assert getattr(alone, name)[0, 0] == getattr(whole, name)[0, design], name


def test_registers_that_hold_all_rows_read_the_keys_once() -> None:
    # 4 rows of 52 bytes and one word: 209 bytes. K and V once: 2 * 16 * 8; Q 32, O 32.
    found = map_attention(
        rows_of(positions=4, keys=16), np.array([4000.0]), register_bytes=np.array([209.0])
    )
    assert found.sram_read_bytes[0, 0] == 256 + 32 + found.memory_write_bytes[0, 0]
    assert found.sram_write_bytes[0, 0] == 32 + found.memory_read_bytes[0, 0]
    # Half the rows: twice the keys; fewer bytes at the registers is never less traffic.
    half = map_attention(
        rows_of(positions=4, keys=16), np.array([4000.0]), register_bytes=np.array([105.0])
    )
    assert half.sram_read_bytes[0, 0] == 2 * 256 + 32 + half.memory_write_bytes[0, 0]


def test_more_sram_never_moves_more_between_sram_and_registers() -> None:
    capacity = np.arange(200.0, 9000.0, 37.0)
    registers = np.full(len(capacity), 300.0)
    rows = rows_of(positions=60, keys=64, causal=True, designs=len(capacity), group=2)
    found = map_attention(rows, capacity, register_bytes=registers)
    assert found.sram_read_bytes is not None
    assert (np.diff(found.sram_read_bytes[0]) <= 0).all()


def test_unfused_attention_spills_the_visible_scores_once_each_way() -> None:
    full = unfused_attention_bytes(rows_of(positions=6, keys=6, heads=3), np.array([2.0]))
    assert full[0][0, 0] == 3 * (6 * 8 + 2 * 6 * 8 + 36 * 2)
    assert full[1][0, 0] == 3 * (6 * 8 + 36 * 2)
    masked = unfused_attention_bytes(
        rows_of(positions=6, keys=6, heads=3, causal=True), np.array([2.0])
    )
    assert masked[1][0, 0] == 3 * (6 * 8 + 21 * 2)
    # 1 + 2 + 2 + 2 + 2 + 2 of them under a window of two keys
    banded = unfused_attention_bytes(
        rows_of(positions=6, keys=6, heads=3, causal=True, window=2.0), np.array([2.0])
    )
    assert banded[1][0, 0] == 3 * (6 * 8 + 11 * 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kv_length": np.array([4.0])}, "more query positions than keys"),
        ({"head_dim": np.array([0.0])}, "AttentionRows.head_dim is not positive"),
        ({"window": np.array([0.0])}, "AttentionRows.window is below 1"),
        ({"group": np.ones(2)}, r"AttentionRows.group has the shape \(2,\)"),
        (
            {"value_in_key": np.array([True]), "value_dim": np.array([9.0])},
            "Values are part of keys that are narrower",
        ),
    ],
)
def test_impossible_rows_are_refused_by_name(change: dict[str, np.ndarray], words: str) -> None:
    rows = replace(rows_of(positions=5, keys=5, causal=True), **change)
    with pytest.raises(InputError, match=words):
        map_attention(rows, np.array([900.0]))
