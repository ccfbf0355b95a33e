from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import machine

from pentarch.hardware.columns import columns
from pentarch.hardware.parts import Overhead
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowCosts
from pentarch.mapping.engine import row_times
from pentarch.mapping.launching import started

OVERHEAD = columns(Overhead, 1, operator_start_s=3e-6, barrier_s=1e-6)


def costs(*busy_s: float, **changes: Any) -> RowCosts:
    busy = np.array(busy_s)[:, None]
    plain = RowCosts(
        compute_s={"array": busy}, level_s={}, fixed_s=np.zeros_like(busy), read_bytes={},
        write_bytes={}, energy_j={}, executed_macs=np.zeros_like(busy),
        fits=np.ones(busy.shape, dtype=np.bool_),
    )  # fmt: skip
    return replace(plain, **changes)


def totals(found: RowCosts) -> list[float]:
    return [float(time) for time in row_times(found, overlap=None).total_s[:, 0]]


def test_a_host_that_waits_adds_its_time_to_barrier_and_start() -> None:
    on, stack = machine(overhead=OVERHEAD), Runtime(name="eager", launch_s=10e-6)
    assert totals(started(costs(5e-6, 50e-6), on, stack)) == pytest.approx([19e-6, 64e-6])
    bare = Runtime(name="bare", launch_s=10e-6, hardware_start=False)
    assert totals(started(costs(5e-6), on, bare)) == pytest.approx([16e-6])


def test_of_a_host_that_issues_ahead_and_the_device_the_slower_counts() -> None:
    on = machine(overhead=OVERHEAD)
    stack = Runtime(name="ahead", launch_s=30e-6, issues_ahead=True)
    short, equal, long = totals(started(costs(2e-6, 26e-6, 500e-6), on, stack))
    assert short == pytest.approx(30e-6, rel=1e-4)
    assert equal == pytest.approx(30e-6 * 2 ** (1 / 8))
    assert long == pytest.approx(504e-6, rel=1e-4)


def test_rows_that_ride_on_a_neighbor_start_nothing() -> None:
    on = machine(overhead=OVERHEAD)
    alone = np.array([True, False])
    for ahead in (False, True):
        stack = Runtime(name="stack", launch_s=20e-6, issues_ahead=ahead)
        first, second = totals(started(costs(1e-6, 1e-6), on, stack, alone))
        assert first >= 20e-6
        assert second == 1e-6


def test_a_kernel_may_have_a_start_and_a_host_time_of_its_own() -> None:
    on, stack = machine(overhead=OVERHEAD), Runtime(name="stack", launch_s=20e-6)
    own = costs(
        1e-6, 1e-6, start_share=np.array([[0.5], [1.0]]), host_s=np.array([[7e-6], [20e-6]])
    )
    assert totals(started(own, on, stack)) == pytest.approx([1e-6 + 1e-6 + 1.5e-6 + 7e-6, 25e-6])
