"""Power: dynamic energy over time, static power, and the cap that slows a phase down.

definitions.md, Power cap: per phase, t = max(t_free, E_dyn(V, f) / (P_cap - P_static)), with f found
by bisection on the V-f curve f = k (V - Vth)^alpha / V (Sakurai and Newton 1990). Energy of what
runs at core supply goes with V squared; memory and links keep clock and supply.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.stage_costs import PhaseStack
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable

STEPS = 48
"""Bisection steps: the supply is found to a few parts in 10^15 of its range."""

ABOVE_THRESHOLD = 1.01
"""Lowest supply that is tried / threshold voltage, where a machine's own lowest supply is less."""


@dataclass(frozen=True, slots=True, eq=False)
class PhasePower:
    """One phase of N designs after the cap; per device, arrays of shape (N,)."""

    seconds: Floats
    """Time of the phase for one query's passes."""
    free_seconds: Floats
    """The time without a cap."""
    energy_j: dict[str, Floats | None]
    """Dynamic energy by component for the same passes, at the supply found."""
    clock_ratio: Floats
    """Core clock / nominal clock."""
    is_possible: npt.NDArray[np.bool_]
    """False where the cap does not even cover the static power."""

    @property
    def dynamic_j(self) -> Floats | None:
        """Sum of the components; `None` when one is unknown."""
        return total_energy(self.energy_j)


def total_energy(energy: Mapping[str, Floats | None]) -> Floats | None:
    """Return the sum over components, or `None` when one is unknown or there are none."""
    total: Floats | None = None
    for joules in energy.values():
        if joules is None:
            return None
        total = joules if total is None else total + joules
    return total


def static_power(machine: MachineTable) -> Floats | None:
    """Return the work-independent power of one device with its memory, shape (N,), `None` if unknown."""
    if machine.power.static_w is None:
        return None
    total: Floats = machine.power.static_w.copy()
    for level in machine.levels:
        total = total + level.static_w
    return total


def cap_phase(
    stack: PhaseStack, energy: dict[str, Floats | None], machine: MachineTable, step_s: Floats
) -> PhasePower:
    """Apply the power cap of a device to one phase.

    Args:
        stack: The rows of the phase.
        energy: Dynamic energy by component at nominal supply, shape (N,) each.
        machine: N designs.
        step_s: Host and step time of the phase that draws no dynamic power, shape (N,).
    """
    free = stack.time() + step_s
    dynamic, static, cap = total_energy(energy), static_power(machine), machine.power.cap_w
    ones = np.ones(machine.length)
    possible = np.ones(machine.length, dtype=np.bool_)
    if cap is None or dynamic is None or static is None:
        return PhasePower(free, free, energy, ones, possible)
    possible = static < cap
    over = possible & (dynamic > (cap - static) * free)
    if not over.any():
        return PhasePower(free, free, energy, ones, possible)
    budget = np.where(possible, cap - static, np.inf)
    unscaled = unscaled_resources(machine)
    supply = _find_supply(stack, energy, machine, step_s, budget=budget, over=over)
    ratio = np.where(over, _clock_ratio(machine, supply), 1.0)
    scale = np.where(over, (supply / machine.power.nominal_v) ** 2, 1.0)
    capped = _scaled(energy, scale, unscaled)
    seconds = stack.time(ratio, unscaled) + step_s
    needed = total_energy(capped)
    if needed is not None:  # at the lowest supply the device waits: duty cycling
        seconds = np.where(over, np.maximum(seconds, needed / budget), free)
    return PhasePower(seconds, free, capped, ratio, possible)


def unscaled_resources(machine: MachineTable) -> frozenset[str]:
    """Return the resources whose clock and supply do not follow the core: memory and links."""
    return frozenset({machine.levels[0].name, *(link.name for link in machine.links)})


def _find_supply(
    stack: PhaseStack, energy: dict[str, Floats | None], machine: MachineTable, step_s: Floats,
    *, budget: Floats, over: npt.NDArray[np.bool_],
) -> Floats:  # fmt: skip
    """Return the highest supply at which the phase stays within its budget, shape (N,)."""
    unscaled = unscaled_resources(machine)
    nominal = machine.power.nominal_v
    # At the threshold the clock stands still: the search stays above it.
    least = np.maximum(machine.power.min_v, ABOVE_THRESHOLD * machine.power.threshold_v)
    low, high = np.minimum(least, nominal), nominal.copy()
    for _ in range(STEPS):
        middle = (low + high) / 2
        ratio = np.where(over, _clock_ratio(machine, middle), 1.0)
        needed = total_energy(_scaled(energy, (middle / nominal) ** 2, unscaled))
        if needed is None:
            raise ValueError("energies became unknown while the cap was applied")
        within = needed <= budget * (stack.time(ratio, unscaled) + step_s)
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    supply: Floats = low
    return supply


def _clock_ratio(machine: MachineTable, supply: Floats) -> Floats:
    power = machine.power

    def speed(volts: Floats) -> Floats:
        result: Floats = np.maximum(volts - power.threshold_v, 0.0) ** power.alpha / volts
        return result

    return speed(supply) / speed(power.nominal_v)


def _scaled(
    energy: Mapping[str, Floats | None], scale: Floats, unscaled: frozenset[str]
) -> dict[str, Floats | None]:
    return {
        name: joules if joules is None or name in unscaled else joules * scale
        for name, joules in energy.items()
    }
