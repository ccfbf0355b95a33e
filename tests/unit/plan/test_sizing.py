import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError
from pentarch.plan.sizing import devices_needed


def test_a_petaflops_at_five_and_at_fifty_percent() -> None:
    # 1 PFLOPS / (1 PFLOPS x 0.05) = 20, and / 0.5 = 2
    assert devices_needed(1e15, 1e15, efficiency=0.05) == 20
    assert devices_needed(1e15, 1e15, efficiency=0.5) == 2


@pytest.mark.parametrize(
    ("efficiency", "expected"), [(0.1, 10), (0.01, 100), (0.7, 2), (1.0, 1), (0.03, 34)]
)
def test_decimal_shares_round_up_only_when_they_must(efficiency: float, expected: int) -> None:
    assert devices_needed(1e15, 1e15, efficiency=efficiency) == expected


@given(st.integers(1, 10**6), st.integers(1, 10**4), st.integers(1, 1000))
def test_agrees_with_decimal_arithmetic(target: int, peak: int, permille: int) -> None:
    share = permille / 1000
    quotient = Decimal(target) * 1000 / (Decimal(peak) * permille)

    assert devices_needed(target, peak, efficiency=share) == math.ceil(quotient)


@pytest.mark.parametrize(
    ("target", "peak", "efficiency", "field"),
    [
        (0.0, 1e15, 0.5, "target_flops_per_s"),
        (1e15, -1.0, 0.5, "peak_flops_per_s"),
        (1e15, math.inf, 0.5, "peak_flops_per_s"),
        (math.nan, 1e15, 0.5, "target_flops_per_s"),
        (1e15, 1e15, 0.0, "efficiency"),
        (1e15, 1e15, 1.5, "efficiency"),
    ],
)
def test_impossible_inputs_are_refused(
    target: float, peak: float, efficiency: float, field: str
) -> None:
    with pytest.raises(FieldError, match=field):
        devices_needed(target, peak, efficiency=efficiency)
