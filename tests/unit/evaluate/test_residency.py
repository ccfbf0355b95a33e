"""What stays on chip: hand-derived decisions, and an independent search over the same choices."""

from itertools import pairwise, permutations

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
    own = tokens * working / 4
    prefill = [tokens, 100.0, 50.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0, 4.0, own, 0.0]
    decode = [1.0, 100.0, 50.0, 0.0, 0.0, 1.0, STEPS, 1.0, 1.0, 1.0, 4.0, working / 4, 0.0]
    return np.array([prefill, decode])


def table(**changes: float) -> np.ndarray:
    """Return the figures of that stage: a KV cache of 400 bytes a query, read 3,000 bytes by its steps."""
    figures = {
        "dense_bytes": DENSE, "expert_bytes": EXPERT, "visited_share": 0.0, "steps": STEPS,
        "cache_reads": 3000.0, "kv_per_query": 400.0, "working_prefill": 700.0,
        "working_decode": 200.0, "attention_prefill": 800.0, "attention_decode": 2000.0,
        "vector_prefill": 0.0, "vector_decode": 0.0, "may_keep": 1.0,
    }  # fmt: skip
    assert tuple(figures) == keeping.TABLE_FIELDS
    return np.array(list({**figures, **changes}.values()))


def design(whole: float, **changes: float) -> np.ndarray:
    """Return a design whose memory moves a byte a second and whose arithmetic takes no time.

    7/8 of the buffer may be taken; its own port does not limit.
    """
    figures = {
        "whole": whole, "room": whole * 7 / 8, "in_step": 1.0, "kv": 400.0, "copies": 1.0,
        "byte_s": 1.0, "attention_prefill_s": 0.0, "attention_decode_s": 0.0,
        "vector_prefill_s": 0.0, "vector_decode_s": 0.0, "port_s": 0.0, "inner": np.inf,
    }  # fmt: skip
    assert tuple(figures) == keeping.DESIGN_FIELDS
    return np.array(list({**figures, **changes}.values()))


def decide(
    whole: float, *, mac_s: float = 0.0, gemms: np.ndarray | None = None,
    figures: dict[str, float] | None = None, **changes: float,
) -> dict[str, float]:  # fmt: skip
    """Return the decision for one design; `figures` change the stage, `changes` the design."""
    out = np.empty((len(keeping.OUT_FIELDS), 1))
    products = np.array([[[mac_s], [1.0], [1.0], [1.0]]])
    keeping.choose(
        rows() if gemms is None else gemms, products, table(**figures or {}),
        design(whole, **changes)[:, None].copy(), np.full(1, -1), out,
    )  # fmt: skip
    return dict(zip(keeping.OUT_FIELDS, out[:, 0].tolist(), strict=True))


def test_a_large_buffer_keeps_everything() -> None:
    found = decide(1e6)
    assert (found["weights"], found["kv"]) == (1.0, 1.0)
    assert (found["prefill"], found["decode"]) == (700.0, 200.0)
    assert found["bytes"] == DENSE + 400.0
    assert found["cost_s"] == 0.0


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
        figures={"working_decode": 70.0, "cache_reads": 36000.0, "attention_decode": 90000.0},
    )
    assert company["weights"] == 0.0
    assert company["kv"] == pytest.approx(0.5)


def test_activations_that_do_not_fit_stay_out() -> None:
    # 7/8 of 640 is 560: room for decode's 200, not for prefill's 700.
    found = decide(640.0)
    assert (found["prefill"], found["decode"]) == (0.0, 200.0)


def test_a_buffer_without_activations_keeps_none() -> None:
    found = decide(1e6, figures={"may_keep": 0.0})
    assert (found["prefill"], found["decode"]) == (0.0, 0.0)
    assert found["weights"] == 1.0


def test_experts_are_kept_after_dense_weights() -> None:
    # Four experts of 25 x 10 bytes, one of which the single row of a step visits: 1 + 10 / 4 reads a
    # byte, fewer than the 7.5 of the cache and the 11 of dense weights.
    routed = rows()
    routed[:, 1:5] = [25.0, 10.0, 4.0, 1.0]
    found = decide(
        (DENSE + 700.0 + 400.0 + 500.0) * 8 / 7, gemms=np.concatenate([rows(), routed]),
        figures={"expert_bytes": 1000.0, "visited_share": 0.25, "attention_prefill": 9000.0},
    )  # fmt: skip
    assert (found["weights"], found["kv"]) == (1.0, 1.0)
    assert found["experts"] == pytest.approx(0.5)


def test_weights_do_not_displace_tiles_where_arithmetic_hides_them() -> None:
    # Prefill of 4,000 rows alone, one word of A, B, C and a sum each 1, 1, 1, 4 bytes: a whole buffer
    # of 4,096 bytes holds tiles of 32 x 32 sums, so 100 x (4000 x 50 / 32 + 50 x 4000 / 32) bytes cross
    # memory for 2e7 MACs. Kept weights of 3,584 bytes leave 512: tiles of 11.3 x 11.3.
    prefill = rows(tokens=4000.0)[:1]
    quiet = {"cache_reads": 0.0, "attention_decode": 0.0, "may_keep": 0.0, "steps": 0.0}
    # Displaced tiles cost more than 3,584 of the 5,000 bytes of weights save.
    assert decide(4096.0, gemms=prefill, figures=quiet, kv=0.0)["weights"] == 0.0
    # At 1 s a MAC, a hundredth of the traffic still counts; the 800 bytes of attention hide nowhere.
    slow = decide(4096.0, gemms=prefill, figures=quiet, kv=0.0, mac_s=1.0)
    assert slow["weights"] == 0.0
    moved = 800.0 + 100.0 * (4000.0 * 50.0 / 32.0) * 2.0 + 4000.0 * 50.0
    arithmetic = 4000.0 * 100.0 * 50.0
    assert slow["cost_s"] == pytest.approx(arithmetic + 808.0 + 0.01 * (moved - 800.0), rel=1e-12)


def test_double_buffers_halve_the_room_for_tiles() -> None:
    prefill = rows(tokens=4000.0)[:1]
    quiet = {"cache_reads": 0.0, "attention_decode": 0.0, "may_keep": 0.0, "steps": 0.0}
    once = decide(4096.0, gemms=prefill, figures=quiet, kv=0.0, room=0.0)
    twice = decide(8192.0, gemms=prefill, figures=quiet, kv=0.0, room=0.0, copies=2.0)
    assert once["cost_s"] == twice["cost_s"]


def reference(
    gemms: np.ndarray, products: np.ndarray, figures: np.ndarray, numbers: np.ndarray
) -> float:
    """Return the least cost over all orders of filling, by another route: NumPy over rows."""
    one = dict(zip(keeping.DESIGN_FIELDS, numbers, strict=True))
    named = dict(zip(keeping.TABLE_FIELDS, figures, strict=True))
    sizes = np.array([named["dense_bytes"], named["expert_bytes"], one["kv"]])
    per_step = named["steps"] / one["in_step"]
    visited = 1.0 - (1.0 - named["visited_share"]) ** one["in_step"]
    density = np.array(
        [1.0 + per_step, 1.0 + per_step * visited, named["cache_reads"] / named["kv_per_query"]]
    )
    # Of all orders, one that falls in density: ties leave several, and the first is taken.
    order = next(
        p for p in permutations(range(3)) if all(density[a] >= density[b] for a, b in pairwise(p))
    )
    decode = named["working_decode"] * one["in_step"]
    kept_choices = [(0.0, 0.0)]
    if decode <= one["room"]:
        kept_choices.append((0.0, decode))
        if named["working_prefill"] <= one["room"]:
            kept_choices.append((named["working_prefill"], decode))
    best = np.inf
    for kept in kept_choices:
        shares, left = np.zeros(3), one["room"] - max(kept)
        best = min(best, cost(gemms, products, named, one, (shares, kept)))
        for index in order:
            taken = min(sizes[index], left)
            left -= taken
            shares[index] = taken / sizes[index] if sizes[index] else 0.0
            best = min(best, cost(gemms, products, named, one, (shares, kept)))
    return best


def tile_bytes(gemms: np.ndarray, m: np.ndarray, capacity: float) -> np.ndarray:
    """Return the bytes of A, B and C, (3, R), of output tiles that fill a buffer."""
    _, k, n, *_, a, b, out, wide, _, _ = gemms.T
    held = np.maximum(capacity, 1.0) / wide
    tile_m = np.clip(np.sqrt(held * b / a), 1.0, m)
    tile_n = np.clip(held / tile_m, 1.0, n)
    tile_m = np.clip(held / tile_n, 1.0, m)
    small = np.minimum(np.minimum(m * k * a, k * n * b), m * n * wide) <= capacity / 2
    moved_a = m * k * a * np.where(small, 1.0, n / tile_n)
    return np.array([moved_a, k * n * b * np.where(small, 1.0, m / tile_m), m * n * out])


def cost(
    gemms: np.ndarray, products: np.ndarray, named: dict[str, float], one: dict[str, float],
    choice: tuple[np.ndarray, tuple[float, float]],
) -> float:  # fmt: skip
    """Return the estimated seconds of one query under a decision, 1 % of hidden traffic included."""
    shares, kept = choice
    tokens, k, n, experts, visits, is_decode, passes, *_ = gemms.T
    b, working = gemms[:, 8], gemms[:, 11]
    sequences = np.where(is_decode > 0, one["in_step"], 1.0)
    tokens = tokens * sequences
    safe = np.maximum(experts, 1.0)
    hit = np.where(experts > 0, safe * (1 - (1 - np.minimum(visits / safe, 1.0)) ** tokens), 1.0)
    m = np.maximum(np.where(experts > 0, tokens * visits, tokens) / hit, 1.0)
    own = np.where(is_decode > 0, kept[1], kept[0])
    taken = shares @ np.array([named["dense_bytes"], named["expert_bytes"], one["kv"]])
    capacity = max(one["whole"] - taken - max(kept), 0.0) / one["copies"]
    moved_a, moved_b, moved_c = tile_bytes(gemms, m, capacity)
    share = np.where(experts > 0, shares[1], shares[0])
    stays = (own > 0) & (working * sequences <= own)
    moved = np.where(stays, k * n * b * (1 - share), moved_b * (1 - share) + moved_a + moved_c)
    inside = tile_bytes(gemms, m, one["inner"]).sum(axis=0)
    mac_s, step_m, step_k, step_n = products[gemms[:, 12].astype(int), :, 0].T
    padded = [-(-size // step) * step for size, step in ((m, step_m), (k, step_k), (n, step_n))]
    arithmetic = mac_s * padded[0] * padded[1] * padded[2]
    times = np.max([arithmetic, moved * one["byte_s"], (moved + inside) * one["port_s"]], axis=0)
    total = ((times + 0.01 * moved * one["byte_s"]) * hit * passes / sequences).sum()
    for phase, stay in (("prefill", kept[0]), ("decode", kept[1])):
        cache = named["cache_reads"] * (1 - shares[2]) if phase == "decode" else 0.0
        for kind, always in (("attention", cache), ("vector", 0.0)):
            crosses = always + (0.0 if stay else named[f"{kind}_{phase}"])
            memory, port = crosses * one["byte_s"], crosses * one["port_s"]
            total += max(one[f"{kind}_{phase}_s"], memory, port) + 0.01 * memory
    return float(total)


def test_the_kernel_finds_the_least_cost_of_its_choices() -> None:
    generator = np.random.default_rng(5)
    for _ in range(200):
        count = int(generator.integers(1, 6))
        gemms = np.concatenate(
            [rows(tokens=float(generator.integers(1, 99))) for _ in range(count)]
        )
        gemms[:, 1:3] = generator.integers(8, 512, (2 * count, 2))
        gemms[:, 12] = generator.integers(0, 2, 2 * count)
        routed = generator.random(2 * count) < 0.3
        gemms[routed, 3], gemms[routed, 4] = 8.0, 2.0
        products = np.array([[[1e-3], [8.0], [1.0], [16.0]], [[4e-3], [1.0], [32.0], [32.0]]])
        figures = table(
            dense_bytes=float(generator.integers(1, 99999)),
            expert_bytes=float(generator.integers(0, 99999)), visited_share=0.25,
            cache_reads=float(generator.integers(0, 99999)),
            vector_decode=float(generator.integers(0, 999)),
        )  # fmt: skip
        one = design(
            float(generator.integers(64, 200_000)), in_step=float(generator.integers(1, 9)),
            kv=4000.0, copies=float(generator.integers(1, 3)), port_s=float(generator.uniform()),
            inner=float(generator.integers(64, 4096)), byte_s=float(generator.uniform(0.1, 2.0)),
            attention_decode_s=float(generator.integers(0, 50000)), vector_decode_s=500.0,
        )  # fmt: skip
        out = np.empty((len(keeping.OUT_FIELDS), 1))
        keeping.choose(gemms, products, figures, one[:, None].copy(), np.full(1, -1), out)
        expected = reference(gemms, products, figures, one)
        assert out[-1, 0] == pytest.approx(expected, rel=1e-12)


def test_reserved_bytes_are_those_for_good_and_those_of_the_larger_phase() -> None:
    one = np.ones(1)
    found = Residency(one, one, one, {Phase.PREFILL: 3 * one, Phase.DECODE: 2 * one}, 10 * one)
    assert found.reserved.tolist() == [13.0]
