"""What stays on chip: hand-derived decisions, and an independent search over the same choices."""

from itertools import pairwise, permutations
from typing import Any

import numpy as np
import pytest

from pentarch.evaluate.residency import Residency
from pentarch.graph.operators import Phase
from pentarch.mapping import keeping

# One dense weight of 100 x 50 bytes in prefill (4 rows) and decode (1 row a sequence), T = 11.
STEPS = 10.0
DENSE, EXPERT = 5000.0, 0.0


def rows(*, tokens: float = 4.0, working: float = 600.0) -> np.ndarray:
    """Return a prefill row and its decode twin, all words one byte."""
    prefill = [tokens, 100.0, 50.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 4.0, tokens * working / 4]
    decode = [1.0, 100.0, 50.0, 0.0, 0.0, 1.0, STEPS, 1.0, 1.0, 1.0, 4.0, working / 4]
    return np.array([prefill, decode])


def table(**changes: float) -> np.ndarray:
    """Return the figures of that stage: a KV cache of 400 bytes a query, read 3,000 bytes by its steps."""
    figures = {
        "dense_bytes": DENSE, "expert_bytes": EXPERT, "visited_share": 0.0, "steps": STEPS,
        "cache_reads": 3000.0, "kv_per_query": 400.0, "working_prefill": 700.0,
        "working_decode": 200.0, "streamed_prefill": 800.0, "streamed_decode": 2000.0,
        "may_keep": 1.0,
    }  # fmt: skip
    assert tuple(figures) == keeping.TABLE_FIELDS
    return np.array(list({**figures, **changes}.values()))


def decide(
    whole: float, *, in_step: float = 1.0, kv: float = 400.0, **changes: Any
) -> dict[str, float]:
    """Return the decision for one design; 7/8 of the buffer may be taken."""
    out = np.empty((len(keeping.OUT_FIELDS), 1))
    designs = np.array([[whole], [whole * 7 / 8], [in_step], [kv]])
    keeping.choose(changes.pop("gemms", rows()), table(**changes), designs, out)
    return dict(zip(keeping.OUT_FIELDS, out[:, 0].tolist(), strict=True))


def test_a_large_buffer_keeps_everything() -> None:
    found = decide(1e6)
    assert (found["weights"], found["kv"]) == (1.0, 1.0)
    assert (found["prefill"], found["decode"]) == (700.0, 200.0)
    assert found["bytes"] == DENSE + 400.0
    assert found["traffic"] == 0.0


def test_alone_a_weight_byte_saves_more_than_a_cache_byte_and_in_company_less() -> None:
    # One query: a weight byte is read by prefill and 10 steps, 11 times; a cache byte 3000 / 400 =
    # 7.5 times. Of ten queries in flight each reads its own cache (90 times here, so that the loss of
    # room for tiles does not decide), and a weight byte 1 + 10 / 10 times.
    # Room for 2,700 bytes: prefill's activations would save 800 bytes with 500 more, weights 5,500.
    alone = decide(2700.0 * 8 / 7)
    assert (alone["prefill"], alone["decode"]) == (0.0, 200.0)
    assert alone["weights"] == pytest.approx(2500.0 / DENSE)
    assert alone["kv"] == 0.0
    # In company the cache of 4,000 bytes takes the 2,000 that decode's activations leave.
    company = decide(
        2700.0 * 8 / 7,
        in_step=10.0,
        kv=4000.0,
        working_decode=70.0,
        cache_reads=36000.0,
        streamed_decode=90000.0,
    )
    assert company["weights"] == 0.0
    assert company["kv"] == pytest.approx(0.5)


def test_activations_that_do_not_fit_stay_out() -> None:
    # 7/8 of 640 is 560: room for decode's 200, not for prefill's 700.
    found = decide(640.0)
    assert (found["prefill"], found["decode"]) == (0.0, 200.0)


def test_a_buffer_without_activations_keeps_none() -> None:
    found = decide(1e6, may_keep=0.0)
    assert (found["prefill"], found["decode"]) == (0.0, 0.0)
    assert found["weights"] == 1.0


def test_experts_are_kept_after_dense_weights() -> None:
    # Four experts of 25 x 10 bytes, one of which the single row of a step visits: 1 + 10 / 4 reads a
    # byte, fewer than the 7.5 of the cache and the 11 of dense weights.
    routed = rows()
    routed[:, 1:5] = [25.0, 10.0, 4.0, 1.0]
    found = decide(
        (DENSE + 700.0 + 400.0 + 500.0) * 8 / 7, gemms=np.concatenate([rows(), routed]),
        expert_bytes=1000.0, visited_share=0.25, streamed_prefill=9000.0,
    )  # fmt: skip
    assert (found["weights"], found["kv"]) == (1.0, 1.0)
    assert found["experts"] == pytest.approx(0.5)


def reference(gemms: np.ndarray, figures: np.ndarray, design: np.ndarray) -> float:
    """Return the least traffic over all orders of filling, by another route: NumPy over rows."""
    _, room, in_step, kv = design
    named = dict(zip(keeping.TABLE_FIELDS, figures, strict=True))
    sizes = np.array([named["dense_bytes"], named["expert_bytes"], kv])
    per_step = named["steps"] / in_step
    visited = 1.0 - (1.0 - named["visited_share"]) ** in_step
    density = np.array(
        [1.0 + per_step, 1.0 + per_step * visited, named["cache_reads"] / named["kv_per_query"]]
    )
    # Of all orders, one that falls in density: ties leave several, and the first is taken.
    order = next(
        p for p in permutations(range(3)) if all(density[a] >= density[b] for a, b in pairwise(p))
    )
    decode = named["working_decode"] * in_step
    kept_choices = [(0.0, 0.0)]
    if decode <= room:
        kept_choices.append((0.0, decode))
        if named["working_prefill"] <= room:
            kept_choices.append((named["working_prefill"], decode))
    best = np.inf
    for kept in kept_choices:
        shares, left = np.zeros(3), room - max(kept)
        best = min(best, traffic(gemms, named, design, shares, kept))
        for index in order:
            taken = min(sizes[index], left)
            left -= taken
            shares[index] = taken / sizes[index] if sizes[index] else 0.0
            best = min(best, traffic(gemms, named, design, shares, kept))
    return best


def traffic(
    gemms: np.ndarray, named: dict[str, float], design: np.ndarray, shares: np.ndarray,
    kept: tuple[float, float],
) -> float:  # fmt: skip
    """Return the estimated memory bytes of one query under a decision."""
    tokens, k, n, experts, visits, is_decode, passes, a, b, out, wide, working = gemms.T
    whole, _, in_step, kv = design
    sequences = np.where(is_decode > 0, in_step, 1.0)
    tokens = tokens * sequences
    safe = np.maximum(experts, 1.0)
    hit = np.where(experts > 0, safe * (1 - (1 - np.minimum(visits / safe, 1.0)) ** tokens), 1.0)
    m = np.maximum(np.where(experts > 0, tokens * visits, tokens) / hit, 1.0)
    own = np.where(is_decode > 0, kept[1], kept[0])
    taken = shares @ np.array([named["dense_bytes"], named["expert_bytes"], kv])
    capacity = np.maximum(whole - taken - max(kept), 0.0) * np.ones_like(m)
    held = np.maximum(capacity, 1.0) / wide
    tile_m = np.clip(np.sqrt(held * b / a), 1.0, m)
    tile_n = np.clip(held / tile_m, 1.0, n)
    tile_m = np.clip(held / tile_n, 1.0, m)
    small = np.minimum(np.minimum(m * k * a, k * n * b), m * n * wide) <= capacity
    moved_a = m * k * a * np.where(small, 1.0, n / tile_n)
    moved_b = k * n * b * np.where(small, 1.0, m / tile_m)
    share = np.where(experts > 0, shares[1], shares[0])
    stays = (own > 0) & (working * sequences <= own)
    each = np.where(stays, k * n * b * (1 - share), moved_b * (1 - share) + moved_a + m * n * out)
    total = (each * hit * passes / sequences).sum() + named["cache_reads"] * (1 - shares[2])
    total += 0.0 if kept[0] else named["streamed_prefill"]
    return float(total + (0.0 if kept[1] else named["streamed_decode"]))


def test_the_kernel_finds_the_least_traffic_of_its_choices() -> None:
    generator = np.random.default_rng(5)
    for _ in range(200):
        count = int(generator.integers(1, 6))
        gemms = np.concatenate(
            [rows(tokens=float(generator.integers(1, 99))) for _ in range(count)]
        )
        gemms[:, 1:3] = generator.integers(8, 512, (2 * count, 2))
        routed = generator.random(2 * count) < 0.3
        gemms[routed, 3], gemms[routed, 4] = 8.0, 2.0
        figures = table(
            dense_bytes=float(generator.integers(1, 99999)),
            expert_bytes=float(generator.integers(0, 99999)), visited_share=0.25,
            cache_reads=float(generator.integers(0, 99999)),
        )  # fmt: skip
        whole = float(generator.integers(64, 200_000))
        design = np.array([whole, whole * 7 / 8, float(generator.integers(1, 9)), 4000.0])
        out = np.empty((len(keeping.OUT_FIELDS), 1))
        keeping.choose(gemms, figures, design[:, None].copy(), out)
        assert out[-1, 0] == pytest.approx(reference(gemms, figures, design), rel=1e-12)


def test_reserved_bytes_are_those_for_good_and_those_of_the_larger_phase() -> None:
    one = np.ones(1)
    found = Residency(one, one, one, {Phase.PREFILL: 3 * one, Phase.DECODE: 2 * one}, 10 * one)
    assert found.reserved.tolist() == [13.0]
