"""Dies per wafer and yield."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError, MissingFigureError
from pentarch.hardware.technology import (
    ClusterAlpha,
    cluster_alpha,
    defects_per_mm2,
    dies_per_wafer,
    harvested_yield,
    murphy_yield,
    negative_binomial_yield,
    poisson_yield,
)


def test_h100_sites_on_a_wafer() -> None:
    assert dies_per_wafer(814.0) == pytest.approx(57.6, abs=0.05)


def test_dies_per_wafer_is_near_a_count_of_sites_on_a_grid() -> None:
    side = 10.0
    pitch, radius = side + 0.2, 145.0
    best = 0
    for shift_x in np.linspace(0, pitch, 8, endpoint=False):
        for shift_y in np.linspace(0, pitch, 8, endpoint=False):
            x = np.arange(-15, 15) * pitch + shift_x
            y = np.arange(-15, 15) * pitch + shift_y
            far_x = np.maximum(np.abs(x), np.abs(x + side))
            far_y = np.maximum(np.abs(y), np.abs(y + side))
            best = max(best, int((far_x[:, None] ** 2 + far_y**2 <= radius**2).sum()))
    assert dies_per_wafer(side**2) == pytest.approx(best, rel=0.05)


def test_no_die_larger_than_the_wafer() -> None:
    np.testing.assert_array_equal(dies_per_wafer(np.array([20_000.0])), [0.0])
    with pytest.raises(FieldError, match="above 0"):
        dies_per_wafer(0.0)


def test_four_yield_laws_of_h100() -> None:
    # 814 mm2 at 0.10 defects/cm2 and 295 USD raw: 607 to 666 USD without harvesting
    defects = 0.814
    laws = [
        poisson_yield(defects),
        murphy_yield(defects),
        negative_binomial_yield(defects, alpha=10.0),
        negative_binomial_yield(defects, alpha=3.0),
    ]
    costs = [295.16 / float(law) for law in laws]
    assert max(costs) == pytest.approx(666, abs=1)
    assert min(costs) == pytest.approx(607, abs=1)


@given(defects=st.floats(1e-3, 5.0))
def test_laws_are_ordered_by_clustering(defects: float) -> None:
    poisson, murphy = poisson_yield(defects), murphy_yield(defects)
    assert 0 < poisson <= murphy < 1
    assert (
        poisson
        <= negative_binomial_yield(defects, alpha=10)
        <= (negative_binomial_yield(defects, alpha=3))
    )
    assert negative_binomial_yield(defects, alpha=1e9) == pytest.approx(poisson, rel=1e-6)


def test_no_defects_no_loss() -> None:
    np.testing.assert_array_equal(murphy_yield(np.array([0.0])), [1.0])
    assert poisson_yield(0.0) == 1.0


def test_densities_and_clustering_are_read() -> None:
    assert defects_per_mm2("n5") == pytest.approx(0.0011)
    assert cluster_alpha() == 10
    assert cluster_alpha(ClusterAlpha.COMMON) == 3
    with pytest.raises(MissingFigureError, match=r"nodes\.n2\.d0"):
        defects_per_mm2("n2")


def test_harvesting_equals_the_sum_over_working_units() -> None:
    fixed, unit, units, needed = 0.3, 0.05, 20, 17
    good = math.exp(-unit)
    tail = sum(
        math.comb(units, working) * good**working * (1 - good) ** (units - working)
        for working in range(needed, units + 1)
    )
    expected = (1 + fixed / 10) ** -10 * tail
    found = harvested_yield(fixed, unit, units=units, needed=needed, alpha=10.0)
    assert found == pytest.approx(expected, rel=1e-12)


def test_harvesting_limits() -> None:
    fixed_only = negative_binomial_yield(0.2, alpha=10.0)
    assert harvested_yield(0.2, 0.5, units=8, needed=0, alpha=10.0) == pytest.approx(fixed_only)
    all_needed = harvested_yield(0.0, 0.1, units=8, needed=8, alpha=10.0)
    assert all_needed == pytest.approx(math.exp(-0.8))
    column = harvested_yield(np.zeros(3), np.array([0.0, 0.1, 0.2]), units=8, needed=7, alpha=3.0)
    assert isinstance(column, np.ndarray)
    assert column[0] == 1.0
    assert np.all(np.diff(column) < 0)
    with pytest.raises(FieldError, match="9 of 8"):
        harvested_yield(0.1, 0.1, units=8, needed=9, alpha=10.0)
