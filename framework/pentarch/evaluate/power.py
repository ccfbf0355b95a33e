"""Power: dynamic energy over time, static power, and the cap that slows a phase down.

definitions.md, Power cap: per phase, t = max(t_free, E_dyn(V, f) / (P_cap - P_static)), with f found
by bisection on the V-f curve f = k (V - Vth)^alpha / V (Sakurai and Newton 1990). Energy of what
runs at core supply goes with V squared, clocks of idle logic with f V squared; leakage, memory and
links keep what they draw.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.phase_stack import ClockedPhase, PhaseStack
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Power

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
    """False where the cap does not even cover the static power with clocks that stand still."""
    saved_w: Floats | float = 0.0
    """Static power less that at nominal clock: clocks of idle logic run slower."""

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
    return machine.derived.once("static power", lambda: _static_power(machine))


def _static_power(machine: MachineTable) -> Floats | None:
    total: Floats | None = machine.power.static_w
    if total is None:
        return None
    for level in machine.levels:
        total = total + level.static_w
    return total


@dataclass(frozen=True, slots=True, eq=False)
class PhaseLoad:
    """What one phase asks of N designs."""

    busy_s: Floats
    """Time of the rows at nominal clock, shape (N,)."""
    step_s: Floats
    """Host and step time that draws no dynamic power, shape (N,)."""
    energy_j: dict[str, Floats | None]
    """Dynamic energy by component at nominal supply, shape (N,) each."""
    stack: Callable[[], PhaseStack]
    """Returns the rows: they are needed where a cap binds."""


def cap_phase(load: PhaseLoad, machine: MachineTable) -> PhasePower:
    """Apply the power cap of a device to one phase of N designs."""
    energy, free = load.energy_j, load.busy_s + load.step_s
    dynamic, static, cap = total_energy(energy), static_power(machine), machine.power.cap_w
    ones = np.ones(machine.length)
    if cap is None or dynamic is None or static is None:
        return PhasePower(free, free, energy, ones, ones > 0.0)
    # While the device waits its clocks stand still.
    possible, budget = static - machine.power.clock_w < cap, cap - static
    is_over = possible & (dynamic > budget * free)
    if not np.count_nonzero(is_over):
        return PhasePower(free, free, energy, ones, possible)
    over = np.flatnonzero(is_over)
    # Only designs whose cap binds are slowed: the others keep what they have.
    part = _Capped(
        phase=load.stack().take(over).at_clocks(unscaled_resources(machine)),
        energy={name: None if joules is None else joules[over] for name, joules in energy.items()},
        power=machine.power.take(over), step_s=load.step_s[over], nominal_w=budget[over],
        unscaled=unscaled_resources(machine),
    )  # fmt: skip
    supply = _find_supply(part)
    slower, capped = part.at(supply)
    saved = np.zeros_like(slower)
    needed = total_energy(capped)
    if needed is not None:  # at the lowest supply the device waits: duty cycling
        running, slower = slower, np.maximum(slower, part.waiting_s(supply, slower, needed))
        saved = part.power.clock_w - part.clock_w(supply) * running / slower
    return PhasePower(
        seconds=_changed(free, over, slower), free_seconds=free,
        energy_j={
            name: None if joules is None else _changed(joules, over, capped[name])
            for name, joules in energy.items()
        },
        clock_ratio=_changed(ones, over, clock_ratio(part.power, supply)), is_possible=possible,
        saved_w=_changed(ones - 1.0, over, saved),
    )  # fmt: skip


def _changed(values: Floats, designs: npt.NDArray[np.intp], changes: Floats | None) -> Floats:
    result = values.copy()
    if changes is not None:
        result[designs] = changes
    return result


@dataclass(frozen=True, slots=True, eq=False)
class _Capped:
    """A phase of the designs whose cap binds; arrays of shape (N,)."""

    phase: ClockedPhase
    energy: dict[str, Floats | None]
    power: Columns[Power]
    step_s: Floats
    nominal_w: Floats
    """The cap less the static power at nominal clock."""
    unscaled: frozenset[str]

    def clock_w(self, supply: Floats) -> Floats:
        """Return the power of the clocks of idle logic at a supply."""
        return idle_clock_w(self.power, supply)

    def budget_w(self, supply: Floats) -> Floats:
        """Return the cap less the static power at a supply."""
        budget: Floats = self.nominal_w + self.power.clock_w - self.clock_w(supply)
        return budget

    def waiting_s(self, supply: Floats, running_s: Floats, joules: Floats) -> Floats:
        """Return the time in which the cap covers leakage, so many joules and clocks that run for so long."""
        seconds: Floats = (joules + self.clock_w(supply) * running_s) / (
            self.nominal_w + self.power.clock_w
        )
        return seconds

    def at(self, supply: Floats) -> tuple[Floats, dict[str, Floats | None]]:
        """Return the time of the phase and its energy by component at a supply."""
        scale = (supply / self.power.nominal_v) ** 2
        energy = {
            name: joules if joules is None or name in self.unscaled else joules * scale
            for name, joules in self.energy.items()
        }
        return self.phase.time(clock_ratio(self.power, supply)) + self.step_s, energy


def clock_ratio(power: Columns[Power], supply: Floats) -> Floats:
    """Return the clock at a supply / nominal clock (alpha-power law), shape of the supply."""

    def speed(volts: Floats) -> Floats:
        result: Floats = np.maximum(volts - power.threshold_v, 0.0) ** power.alpha / volts
        return result

    ratio: Floats = speed(supply) / speed(power.nominal_v)
    return ratio


def idle_clock_w(power: Columns[Power], supply: Floats) -> Floats:
    """Return the power of the clocks of idle logic at a supply, in watts: it goes with f V^2."""
    drawn: Floats = power.clock_w * clock_ratio(power, supply) * (supply / power.nominal_v) ** 2
    return drawn


def lowest_supply(power: Columns[Power]) -> Floats:
    """Return the lowest supply that is tried, (N,): at the threshold the clock stands still."""
    least = np.maximum(power.min_v, ABOVE_THRESHOLD * power.threshold_v)
    lowest: Floats = np.minimum(least, power.nominal_v)
    return lowest


def unscaled_resources(machine: MachineTable) -> frozenset[str]:
    """Return the resources whose clock and supply do not follow the core: memory and links."""
    return frozenset({machine.levels[0].name, *(link.name for link in machine.links)})


def _find_supply(part: _Capped) -> Floats:
    """Return the highest supply at which a phase stays within its budget, shape (N,)."""
    power = part.power
    low, high = lowest_supply(power), power.nominal_v.copy()
    for _ in range(STEPS):
        middle = (low + high) / 2
        seconds, energy = part.at(middle)
        needed = total_energy(energy)
        if needed is None:
            raise ValueError("energies became unknown while the cap was applied")
        within = needed <= part.budget_w(middle) * seconds
        low, high = np.where(within, middle, low), np.where(within, high, middle)
    supply: Floats = low
    return supply
