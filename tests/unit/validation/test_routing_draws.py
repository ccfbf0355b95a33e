import numpy as np
import pytest

from pentarch.validation.routing_draws import (
    RankLoad,
    Routing,
    _filled,
    balanced_load,
    power_law_load,
)


def layer(tokens: int, top: int, experts: int, ranks: int = 1) -> Routing:
    return Routing(tokens=tokens, top=top, experts=experts, ranks=ranks)


def test_balanced_copies_lie_at_equal_distances() -> None:
    assert balanced_load(layer(1, 8, 128)) == RankLoad(8.0, 8.0)
    # Three tokens begin at experts 0, 5 and 10 and go on in steps of 16; the rank holds 0 to 15.
    assert balanced_load(layer(3, 8, 128, 8)) == RankLoad(3.0, 3.0)
    assert balanced_load(layer(1024, 8, 128, 2)) == RankLoad(64.0, 4096.0)


def test_a_rank_that_no_copy_reaches_still_runs() -> None:
    # Steps of 64 among 128 experts: the rank with one of them gets the copy of the first token.
    assert balanced_load(layer(2, 2, 128, 128)) == RankLoad(1.0, 1.0)


@pytest.mark.parametrize("exponent", [1.01, 1.2])
@pytest.mark.parametrize("routing", [layer(4, 8, 128), layer(300, 2, 8), layer(64, 8, 160)])
def test_all_copies_are_dealt_out(routing: Routing, exponent: float) -> None:
    found = power_law_load(routing, exponent)
    assert found.pairs == pytest.approx(routing.tokens * routing.top)
    assert found.visited <= min(routing.experts, routing.tokens * routing.top)


def test_one_token_visits_as_many_experts_as_it_chooses() -> None:
    # All loads are below a half and round to nothing; the copies go to experts of ranks in turn.
    assert power_law_load(layer(1, 8, 128), 1.2) == RankLoad(8.0, 8.0)
    assert power_law_load(layer(1, 4, 128, 8), 1.01) == RankLoad(1.0, 1.0)


def test_the_older_generator_gave_copies_that_rounding_lost_to_the_first_experts() -> None:
    assert power_law_load(layer(1, 8, 256, 8), 1.2, older=True) == RankLoad(8.0, 8.0)
    assert power_law_load(layer(1, 8, 256, 256), 1.2, older=True) == RankLoad(1.0, 1.0)


def test_no_expert_gets_more_copies_than_there_are_tokens() -> None:
    for older in (False, True):
        one_each = power_law_load(layer(4096, 2, 8, 8), 1.2, older=older)
        assert one_each.visited == 1.0
        assert 1024.0 < one_each.pairs <= 4096.0


def literal(routing: Routing, exponent: float, random: np.random.Generator) -> tuple[int, int]:
    """Return visited experts and pairs of one draw, copy by copy."""
    copies = routing.tokens * routing.top
    low, high = (0.01, 2.0) if copies <= routing.experts else (1.0, 0.8 * routing.tokens)
    power = 1.0 - exponent
    loads = [
        (low**power + (high**power - low**power) * float(random.random())) ** (1.0 / power)
        for _ in range(routing.experts)
    ]
    held = routing.experts // routing.ranks
    counts = [min(round(load / sum(loads) * copies), routing.tokens) for load in loads]
    while sum(counts) != copies:
        for rank in range(routing.ranks):
            mine = range(rank * held, (rank + 1) * held)
            if sum(counts) < copies:
                counts[min(mine, key=lambda one: counts[one])] += 1
            elif sum(counts) > copies and any(counts[one] for one in mine):
                counts[max(mine, key=lambda one: counts[one])] -= 1
    ranks = [counts[rank * held : (rank + 1) * held] for rank in range(routing.ranks)]
    fullest = max(ranks, key=sum)
    return sum(1 for count in fullest if count), sum(fullest)


@pytest.mark.parametrize(
    "routing", [layer(16, 4, 64, 4), layer(200, 2, 16, 2), layer(8, 2, 32), layer(40, 6, 48, 8)]
)
def test_the_mean_is_that_of_a_generator_that_deals_copy_by_copy(routing: Routing) -> None:
    random = np.random.default_rng(7)
    draws = [literal(routing, 1.2, random) for _ in range(300)]
    visited, pairs = (float(np.mean(column)) for column in zip(*draws, strict=True))
    found = power_law_load(routing, 1.2)
    assert found.visited == pytest.approx(visited, rel=0.12)
    assert found.pairs == pytest.approx(pairs, rel=0.12)


@pytest.mark.parametrize("amount", [0, 1, 4, 9, 30])
def test_the_least_are_filled_first(amount: int) -> None:
    counts = np.array([5.0, 0.0, 2.0, 0.0, 7.0])
    expected = counts.copy()
    for _ in range(amount):
        if expected.min() < 8.0:
            expected[expected.argmin()] += 1.0
    found = _filled(counts, float(amount), 8.0)
    assert sorted(found) == sorted(expected)
