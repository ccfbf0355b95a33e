"""Attention: blocks counted one by one, masks, families and the estimate at the registers."""

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.mapping.attention import (
    FAMILIES,
    AttentionRows,
    executed_scores,
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
) -> AttentionRows:
    """Return one attention with one-byte words."""
    one = np.ones(1)
    return AttentionRows(
        np.full((1, designs), float(heads)), group * one, positions * one, keys * one, dim * one,
        dim * one, one, one, one, partial * one, np.array([causal]),
    )  # fmt: skip


def walk_mask(positions: int, keys: int, group: int, row_block: int, key_block: int) -> int:
    """Return the scores computed when blocks with no visible key are skipped, by visiting all."""
    wide = max(1, row_block // group)
    computed = 0
    for start in range(0, positions, wide):
        rows = range(start, min(start + wide, positions))
        for key in range(0, keys, key_block):
            block = range(key, min(key + key_block, keys))
            if any(k <= keys - positions + row for row in rows for k in block):
                computed += group * len(rows) * len(block)
    return computed


def test_executed_scores_equal_blocks_visited_one_by_one() -> None:
    generator = np.random.default_rng(1)
    for _ in range(300):
        positions, more = generator.integers(1, 30), generator.integers(0, 30)
        group = generator.integers(1, 5)
        row_block = generator.integers(1, group * positions + 1)
        key_block = generator.integers(1, 25)
        case = (positions, positions + more, group, row_block, key_block)
        found = executed_scores(*(np.array([float(x)]) for x in case), causal=True)
        assert found[0] == walk_mask(*(int(x) for x in case)), case


def test_useful_scores_are_the_lower_triangle() -> None:
    # 3 queries after 2 cached keys see 3, 4 and 5 keys; 2 query heads share them.
    three, five, two = (np.array([x]) for x in (3.0, 5.0, 2.0))
    assert useful_scores(three, five, two, causal=True) == 24.0
    assert useful_scores(three, five, two, causal=False) == 30.0
    assert executed_scores(three, five, two, two, causal=True) == 24.0


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


def test_a_group_wider_than_the_block_takes_several_passes() -> None:
    # 6 query heads on one position, 2 rows fit (105 bytes): 3 passes over the 7 keys.
    for causal in (False, True):
        found = map_attention(
            rows_of(positions=1, keys=7, group=6, causal=causal), np.array([105.0])
        )
        assert found.row_block[0, 0] == 2.0
        assert found.memory_kv_bytes[0, 0] == 3 * 7 * 16


def test_no_block_or_family_beats_the_one_chosen() -> None:
    generator = np.random.default_rng(2)
    winners = set()
    for _ in range(3000):
        keys, dim = int(generator.integers(1, 80)), int(generator.integers(1, 40))
        query_rows = int(generator.integers(1, 80))
        capacity = int(np.exp(generator.uniform(np.log(30), np.log(12000))))
        partial = float(generator.choice([1, 2, 4]))
        found = map_attention(
            rows_of(positions=query_rows, keys=keys, dim=dim, partial=partial),
            np.array([float(capacity)]),
        )
        wanted = brute_force_keys(query_rows, keys, dim, partial, capacity)
        assert found.fits[0, 0] == (wanted is not None)
        if wanted is not None:
            assert found.memory_kv_bytes[0, 0] == wanted
            winners.add(FAMILIES[found.family[0, 0]])
    assert {"flash", "flash+Kres", "flash+Kres+Vres", "panel"} <= winners


def brute_force_keys(
    query_rows: int, keys: int, dim: int, partial: float, capacity: int
) -> float | None:
    """Return the least bytes of K and V over all row blocks and families, one-byte words."""
    best = None
    for block in range(1, query_rows + 1):
        passes = -(-query_rows // block)
        column = 3 * block * partial + 1
        for base in (block * dim * (1 + partial) + column, block * keys * partial + column):
            for held_tensors in range(3):
                if base + held_tensors * keys * dim <= capacity:
                    moved = keys * dim * (held_tensors + (2 - held_tensors) * passes)
                    best = moved if best is None else min(best, moved)
    return best


@pytest.mark.parametrize("causal", [False, True])
def test_more_capacity_never_reads_more_without_a_mask_and_never_less_than_once(
    causal: bool,
) -> None:
    capacity = np.arange(60.0, 9000.0, 13.0)
    rows = rows_of(positions=50, keys=64, causal=causal, designs=len(capacity))
    found = map_attention(rows, capacity)
    assert found.fits.all()
    assert (found.memory_kv_bytes >= 64 * 16).all()
    assert found.memory_kv_bytes[0, -1] == 64 * 16
    if not causal:
        assert (np.diff(found.memory_kv_bytes[0]) <= 0).all()


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


def test_unfused_attention_spills_the_visible_scores_once_each_way() -> None:
    full = unfused_attention_bytes(rows_of(positions=6, keys=6, heads=3), np.array([2.0]))
    assert full[0][0, 0] == 3 * (6 * 8 + 2 * 6 * 8 + 36 * 2)
    assert full[1][0, 0] == 3 * (6 * 8 + 36 * 2)
    masked = unfused_attention_bytes(
        rows_of(positions=6, keys=6, heads=3, causal=True), np.array([2.0])
    )
    assert masked[1][0, 0] == 3 * (6 * 8 + 21 * 2)


def test_a_causal_row_with_more_queries_than_keys_is_refused() -> None:
    with pytest.raises(InputError, match="more query positions than keys"):
        map_attention(rows_of(positions=5, keys=4, causal=True), np.array([900.0]))
