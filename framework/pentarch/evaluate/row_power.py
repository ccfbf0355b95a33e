"""The power cap on one operator that runs over and over, as in a micro-benchmark loop.

In a query the cap acts on whole phases (`power`); in a benchmark each operator fills the power
window by itself (definitions.md, Power cap).
"""

import numpy as np

from pentarch.evaluate.power import (
    clock_ratio,
    idle_clock_w,
    lowest_supply,
    static_power,
    unscaled_resources,
)
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.mapping.costs import RowCosts
from pentarch.mapping.traffic import combine

STEPS = 24
"""Bisection steps: the supply is found to 10^-7 of its range."""


def capped_row_seconds(costs: RowCosts, machine: MachineTable) -> Floats:
    """Return the time of each row when it is repeated without a pause, at the supply the cap allows.

    Args:
        costs: R rows on N designs, at nominal clock.
        machine: The designs.

    Returns:
        Seconds, shape (R, N); without a cap, or where an energy is unknown, the time at nominal
        clock.
    """
    free = _seconds(costs, machine, None)
    static, cap = static_power(machine), machine.power.cap_w
    if cap is None or static is None or any(part is None for part in costs.energy_j.values()):
        return free
    kept = unscaled_resources(machine)
    nothing = np.zeros(free.shape)
    fixed_j, core_j = nothing, nothing
    for name, joules in costs.energy_j.items():
        if joules is None:
            raise ValueError("an unknown energy was not noticed")
        fixed_j, core_j = (fixed_j + joules, core_j) if name in kept else (fixed_j, core_j + joules)
    over = fixed_j + core_j > (cap - static) * free
    if not over.any():
        return free

    # What the cap leaves beside leakage, and a trace of it where leakage takes it all.
    budget = np.maximum(cap - static + machine.power.clock_w, 1e-9 * cap)
    nominal = machine.power.nominal_v
    low = np.broadcast_to(lowest_supply(machine.power), free.shape).copy()
    high = np.broadcast_to(nominal, free.shape).copy()
    for _ in range(STEPS):
        middle = (low + high) / 2
        seconds = _seconds(costs, machine, clock_ratio(machine.power, middle))
        drawn = fixed_j + core_j * (middle / nominal) ** 2
        within = drawn + idle_clock_w(machine.power, middle) * seconds <= budget * seconds
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    slow = _seconds(costs, machine, clock_ratio(machine.power, low))
    # At the lowest supply the device waits, and its clocks stand still.
    drawn = fixed_j + core_j * (low / nominal) ** 2
    waiting = (drawn + idle_clock_w(machine.power, low) * slow) / budget
    return np.where(over, np.maximum(slow, waiting), free)


def _seconds(costs: RowCosts, machine: MachineTable, ratio: Floats | None) -> Floats:
    """Return the time of each row with core clocks scaled by `ratio`, shape (R, N)."""
    kept = unscaled_resources(machine)
    terms: dict[str, Floats] = {}
    for group in (costs.compute_s, costs.level_s):
        for name, busy in group.items():
            scaled = busy if ratio is None or name in kept else busy / ratio
            terms[name] = terms[name] + scaled if name in terms else scaled
    if not terms:
        return costs.fixed_s
    overlap = machine.overhead.overlap if costs.overlap is None else costs.overlap
    total: Floats = costs.fixed_s + combine(list(terms.values()), overlap)
    return total
