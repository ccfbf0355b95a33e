import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import array, machine

from pentarch.hardware.parts import Stationary
from pentarch.mapping.arithmetic import Product, resolve
from pentarch.mapping.arrays import SPLITS, array_seconds


def product_of(**changes: Any) -> Product:
    on = machine(engines=(array(**changes),))
    found = resolve(on, "fp8", "fp8")
    assert found is not None
    return found


def seconds(
    product: Product, m: float, k: float, n: float, *, instances: float = 1.0, spill_s: float = 0.0
) -> tuple[float, float]:
    one = [np.array([[float(size)]]) for size in (m, k, n, instances, spill_s)]
    took, split = array_seconds(
        product, m=one[0], k=one[1], n=one[2], instances=one[3], spill_s=one[4]
    )
    return took.item(), split.item()


@pytest.mark.parametrize("units", [1, 3, 16])
@pytest.mark.parametrize("shape", [(1, 7, 5), (9, 100, 2), (33, 31, 65), (4, 1000, 4)])
def test_an_output_stationary_array_agrees_with_a_loop_over_splits_and_orientations(
    shape: tuple[int, int, int], units: int
) -> None:
    m, k, n = shape
    rows, across, spill = 8, 2, 3e-9
    product = product_of(rows=8.0, columns=2.0, units=float(units), issue_efficiency=0.5)
    best = (math.inf, 0)
    for split in SPLITS:
        for a, b in ((m, n), (n, m)):
            tiles = -(-a // rows) * -(-b // across) * split
            rounds = -(-tiles // units)
            cycles = rounds * (-(-k // split) * (rows * across / 16) + 2) + 8
            best = min(best, (cycles / 0.5 * 1e-9 + (split - 1) * spill, split))
    assert seconds(product, m, k, n, spill_s=spill) == (pytest.approx(best[0]), best[1])


def test_a_full_array_reaches_its_peak_on_a_long_inner_dimension() -> None:
    took, _ = seconds(product_of(), 4, 1e6, 4)
    assert 4 * 4 * 1e6 / took == pytest.approx(16e9, rel=1e-4)


def test_a_single_row_uses_one_row_of_the_array() -> None:
    # No orientation helps where the array is square: n / 4 tiles of k cycles for 1 / 4 of the work.
    took, _ = seconds(product_of(), 1, 1000, 400)
    assert took == pytest.approx((100 * 1002 + 8) * 1e-9)


def test_more_units_are_never_slower_when_partial_sums_cost_time() -> None:
    took = [seconds(product_of(units=float(u)), 20, 300, 20, spill_s=1e-8)[0] for u in range(1, 70)]
    assert all(later <= earlier for earlier, later in pairwise(took))


@pytest.mark.parametrize(("m", "streaming"), [(2, 10), (10, 10), (11, 11), (500, 500)])
def test_a_weight_stationary_tile_takes_the_longer_of_stream_and_load(
    m: int, streaming: int
) -> None:
    took, split = seconds(product_of(stationary=Stationary.WEIGHT, units=2.0), m, 10, 5)
    # ceil(10 / 4) * ceil(5 / 4) = 6 tiles of B on 2 units
    assert took == pytest.approx((3 * (streaming + 2) + 8) * 1e-9)
    assert split == 1


def test_without_an_array_work_is_shared_evenly_among_units() -> None:
    product = product_of(stationary=Stationary.NONE, units=4.0, min_rows=8.0)
    took, _ = seconds(product, 9, 32, 4, instances=3)
    assert took == pytest.approx((16 * 32 * 4 * 3 / (16 * 4) + 2 + 8) * 1e-9)
