"""Token copies of experts as the benchmark of mixtures of experts deals them out.

The collection's generator (`collector/helper.py` of aiconfigurator, read for its rules) draws a load
for each expert, scales the loads to the copies that there are, rounds them, and mends the sum: what
is missing goes to the least loaded experts of each rank in turn, what is too much is taken from the
most loaded ones. No expert gets more copies than there are tokens. Ranks hold consecutive experts,
and the fullest one is measured. An older generator mended the sum at the most loaded experts, those
with the lowest numbers where all have none, and let tokens that would choose an expert twice choose
those with the lowest numbers. A balanced row gives copies to experts at equal distances, and the
rank with the first experts is measured. Here expectations over a few draws stand for the
benchmark's own, which are not known.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

DRAWS = 24
"""Draws of which the mean is taken; the benchmark takes 5 to 10 of its own."""
SEED = 2026
"""Of the draws: the same in every run."""
FEW = (0.01, 2.0)
"""Least and largest load drawn where there are fewer copies than experts."""
MOST = 0.8
"""Largest load drawn elsewhere, in tokens; the least is one copy."""


@dataclass(frozen=True, slots=True)
class RankLoad:
    """What the measured rank gets."""

    visited: float
    """Its experts that some token chooses."""
    pairs: float
    """Its token-expert pairs."""


@dataclass(frozen=True, slots=True)
class Routing:
    """A routed layer on several ranks."""

    tokens: int
    """Tokens of all ranks."""
    top: int
    """Experts that each token chooses."""
    experts: int
    """Experts of the layer."""
    ranks: int
    """Ranks that share them."""


@lru_cache(maxsize=4096)
def balanced_load(routing: Routing) -> RankLoad:
    """Return what the first rank gets when copies go to experts at equal distances.

    Token t of T gives its copy i to expert i s + t, with s = experts / top rounded up; of fewer
    tokens than s, to expert i s + t s / T.
    """
    stride = -(-routing.experts // routing.top)
    held = -(-routing.experts // routing.ranks)
    copies = routing.tokens * routing.top
    if routing.tokens >= stride:
        return RankLoad(float(held), copies * held / routing.experts)
    first = np.arange(routing.tokens) * stride // routing.tokens
    chosen = (first[:, None] + np.arange(routing.top) * stride) % routing.experts
    mine = chosen[chosen < held]
    return RankLoad(float(max(len(np.unique(mine)), 1)), float(max(len(mine), 1)))


@lru_cache(maxsize=4096)
def power_law_load(routing: Routing, exponent: float, *, older: bool = False) -> RankLoad:
    """Return what the fullest rank gets when the density of loads falls as load^-exponent.

    Args:
        routing: The layer.
        exponent: Any but 1.
        older: Whether the older generator made the copies.
    """
    copies = routing.tokens * routing.top
    low, high = FEW if copies <= routing.experts else (1.0, max(MOST * routing.tokens, 1.0))
    chance = np.random.default_rng(SEED).random((DRAWS, routing.experts))
    power = 1.0 - exponent
    drawn = ((high**power - low**power) * chance + low**power) ** (1.0 / power)
    counts = np.round(drawn / drawn.sum(axis=1, keepdims=True) * copies)
    held, most = -(-routing.experts // routing.ranks), float(routing.tokens)
    if older:
        for one in counts:
            _mend_sorted(one, copies)
        unlike = np.maximum(counts - most, 0.0).sum(axis=1)
    else:
        counts = np.minimum(counts, most)
    places = np.full((DRAWS, held * routing.ranks), -1.0)  # some that no expert takes
    places[:, : routing.experts] = counts
    by_rank = places.reshape(DRAWS, routing.ranks, held)
    if not older:
        for one in by_rank:
            _mend(one, copies, most)
    loads = np.maximum(by_rank, 0.0)
    fullest = loads.sum(axis=2).argmax(axis=1)
    mine = loads[np.arange(DRAWS), fullest]
    if older:
        mine = np.minimum(mine, most)
        for one, left in zip(mine, unlike.tolist(), strict=True):
            room = np.minimum(np.cumsum(most - one), left)
            one += np.diff(room, prepend=0.0)
    return RankLoad(
        visited=max(float((mine > 0.0).sum(axis=1).mean()), 1.0),
        pairs=max(float(mine.sum(axis=1).mean()), 1.0),
    )


def _mend_sorted(counts: Floats, copies: int) -> None:
    """Change the counts of experts, (experts,), in place until they add up: one each, sorted by load."""
    missing = int(copies - counts.sum())
    order = np.argsort(-counts, kind="stable")
    if missing < 0:
        order = order[::-1]
        order = order[counts[order] > 0.0]
    whole, rest = divmod(abs(missing), len(order))
    step = 1.0 if missing > 0 else -1.0
    counts[order] += step * whole
    counts[order[:rest]] += step
    np.maximum(counts, 0.0, out=counts)


def _mend(counts: Floats, copies: int, most: float) -> None:
    """Change the counts of all ranks, (ranks, experts), in place until they add up.

    Args:
        counts: Copies by rank and expert; negative where there is no expert.
        copies: Their sum as it has to be.
        most: Copies that an expert can have.
    """
    for _ in range(len(counts)):
        missing = copies - float(counts[counts >= 0.0].sum())
        open_ranks = [
            own for own in counts
            if ((own >= 0.0) & ((own < most) if missing > 0 else (own > 0.0))).any()
        ]  # fmt: skip
        if missing == 0.0 or not open_ranks:
            return
        whole, rest = divmod(abs(missing), len(open_ranks))
        for index, own in enumerate(open_ranks):
            there = np.flatnonzero(own >= 0.0)
            amount = whole + (1.0 if index < rest else 0.0)
            if missing > 0:
                own[there] = _filled(own[there], amount, most)
            else:
                own[there] = most - _filled(most - own[there], amount, most)


def _filled(counts: Floats, amount: float, most: float) -> Floats:
    """Return counts after `amount` copies went to the least of them, one after another, up to `most`."""
    amount = min(amount, float((most - counts).sum()))
    order = np.argsort(counts, kind="stable")
    rising = counts[order]
    # Those below the level are raised to it: the largest number of them that `amount` can level.
    needed = rising * np.arange(1, len(rising) + 1) - np.cumsum(rising)
    count = int(np.flatnonzero(needed <= amount)[-1]) + 1
    level, rest = divmod(amount - needed[count - 1], count)
    rising[:count] = rising[count - 1] + level
    rising[: int(rest)] += 1.0
    result = np.empty_like(rising)
    result[order] = np.minimum(rising, most)
    return result
