"""Routing of tokens to experts, against counting and sampling."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.query import Query
from pentarch.workload.routing import choice_chances, distinct_experts, fullest_load, routing_skew

TOKENS = np.array([1.0, 8.0, 64.0, 4096.0])


@given(
    experts=st.integers(2, 64), chosen=st.integers(1, 8),
    skew=st.sampled_from([0.0, 0.3, 1.0, 2.5]),
)  # fmt: skip
def test_chances_are_chances_and_sum_to_the_experts_of_a_token(
    experts: int, chosen: int, skew: float
) -> None:
    chosen = min(chosen, experts)
    chances = choice_chances(experts, chosen, skew)
    assert chances.sum() == pytest.approx(chosen)
    assert np.all((chances >= 0) & (chances <= 1 + 1e-12))
    assert np.all(np.diff(chances) <= 1e-12)


def test_distinct_experts_by_hand() -> None:
    uniform = distinct_experts(16, 2, np.array([8.0]), skew=0.0)
    assert uniform == pytest.approx(16 * (1 - 0.875**8))
    # popularity 1 : 1/2 : 1/3 : 1/4 is 12 : 6 : 4 : 3 of 25
    chances = np.array([12, 6, 4, 3]) / 25
    assert choice_chances(4, 1, 1.0) == pytest.approx(chances)
    found = distinct_experts(4, 1, np.array([1.0, 3.0]), skew=1.0)
    assert found == pytest.approx([1.0, (1 - (1 - chances) ** 3).sum()])
    assert distinct_experts(4, 3, np.array([1.0, 2.0]), skew=math.inf).tolist() == [3.0, 4.0]


def test_popular_experts_leave_fewer_to_visit_and_the_worst_case_most() -> None:
    found = [distinct_experts(64, 6, TOKENS, skew=skew) for skew in (0.0, 0.5, 1.5, math.inf)]
    assert np.all(found[0] >= found[1] - 1e-9)
    assert np.all(found[1] >= found[2] - 1e-9)
    assert np.all(found[3] >= found[0] - 1e-9)


@pytest.mark.parametrize("skew", [0.0, 1.0])
def test_the_fullest_device_is_near_what_sampling_finds(skew: float) -> None:
    experts, devices, tokens = 32, 8, 512
    rng = np.random.default_rng(7)
    chances = choice_chances(experts, 1, skew)
    loads = []
    for _ in range(400):
        chosen = rng.choice(experts, size=tokens, p=chances / chances.sum())
        loads.append(np.bincount(chosen % devices, minlength=devices).max())
    found = fullest_load(experts, 1, np.array([float(tokens)]), devices=devices, skew=skew)[0]
    assert found == pytest.approx(np.mean(loads), rel=0.2)
    assert found > tokens / devices


def test_one_device_and_the_worst_case_carry_all() -> None:
    assert fullest_load(8, 2, TOKENS, devices=1, skew=0.0).tolist() == (2 * TOKENS).tolist()
    assert fullest_load(8, 2, TOKENS, devices=4, skew=math.inf).tolist() == (2 * TOKENS).tolist()
    assert fullest_load(8, 2, TOKENS, devices=8, skew=math.inf).tolist() == TOKENS.tolist()
    many = fullest_load(8, 2, np.array([1e9]), devices=4, skew=0.0)[0]
    assert many == pytest.approx(1e9 * 2 / 4, rel=1e-3)  # the mean, as chance evens out


@pytest.mark.parametrize(
    ("name", "skew"), [("uniform", 0), ("zipf(1.2)", 1.2), ("worst", math.inf)]
)
def test_routings_have_names(name: str, skew: float) -> None:
    assert routing_skew(name) == skew
    assert Query(routing=name).routing_skew == skew


@pytest.mark.parametrize("name", ["zipf", "zipf(0)", "zipf(-1)", "zipf(11)", "trace", "zipf(nan)"])
def test_other_routings_are_refused(name: str) -> None:
    with pytest.raises(FieldError, match=r"uniform, worst, or zipf\(ALPHA\)"):
        load(Query, {"routing": name}, where="test")
