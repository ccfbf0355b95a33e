"""Can a design run at all: memory, operators, power cap, reticle, countable resources."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.power import static_power
from pentarch.evaluate.stage_result import StageResult
from pentarch.hardware.columns import Floats, sum_rows
from pentarch.hardware.machine import MachineTable

Flags = npt.NDArray[np.bool_]

SHOWN = 4
"""Operators that a reason names."""


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """One thing that a design must satisfy."""

    good: Flags
    """Whether it does, shape (N,)."""
    explain: Callable[[int], str]
    """Returns the arithmetic for a design that does not."""


@dataclass(frozen=True, slots=True, eq=False)
class Feasibility:
    """Which of N designs can run; the arithmetic of the others is written when it is asked for."""

    fits: Flags
    """Whether a design can run, shape (N,)."""
    checks: tuple[Check, ...]
    """Everything that was checked, in order."""

    def reason(self, index: int) -> str | None:
        """Return why design `index` cannot run: the first check that it fails, or `None`."""
        for check in self.checks:
            if not check.good[index]:
                return check.explain(index)
        return None


def feasibility(stages: tuple[StageResult, ...]) -> Feasibility:
    """Check N designs."""
    checks = tuple(check for stage in stages for check in _checks(stage))
    fits: Flags = np.logical_and.reduce([check.good for check in checks])
    return Feasibility(fits=fits, checks=checks)


def _checks(stage: StageResult) -> Iterator[Check]:
    given = stage.costs.given
    machine = given.machine
    yield Check(
        stage.memory.fits,
        lambda index: stage.memory.reason(index, device=machine.name),
    )
    yield Check(stage.costs.fits, lambda index: _operator_reason(stage, index))
    yield Check(
        stage.prefill.is_possible & stage.decode.is_possible,
        lambda index: _cap_reason(machine, index),
    )
    if machine.area is not None:
        area = machine.area
        total = area.once("total", lambda: sum_rows(list(area.parts_mm2.values())))
        reticle = area.reticle_mm2
        yield Check(
            total <= reticle,
            lambda index: (
                f"the die of {machine.name} would be {total[index]:.0f} mm2, "
                f"the reticle exposes {reticle[index]:.0f} mm2"
            ),
        )
    yield from _budgets(machine)
    for segment in stage.costs.segments.values():
        yield from _budget_checks(machine, segment.used)


def _operator_reason(stage: StageResult, index: int) -> str:
    """Return which operators cannot run, and what was noted when they were costed."""
    failing: dict[str, None] = {}
    notes: dict[str, None] = {}
    for entry in stage.costs.kinds:
        for row in np.flatnonzero(~entry.costs.fits[:, index]):
            failing.setdefault(entry.rows.names[int(row)])
            notes.update(dict.fromkeys(entry.costs.notes))
    names = list(failing)
    shown = ", ".join(names[:SHOWN]) + (
        f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    )
    return f"{stage.costs.given.machine.name} cannot run {shown}" + (
        f": {'; '.join(notes)}" if notes else ""
    )


def _budgets(machine: MachineTable) -> Iterator[Check]:
    if machine.budget is not None:
        yield from _budget_checks(machine, machine.budget.used)


def _budget_checks(machine: MachineTable, used: Mapping[str, Floats]) -> Iterator[Check]:
    """Yield a check per resource; what the machine does not list it has none of."""
    budget = {} if machine.budget is None else machine.budget.available
    for name, taken in used.items():
        available = budget.get(name, np.zeros(machine.length))
        yield _budget_check(machine.name, name, used=taken, available=available)


def _budget_check(machine: str, name: str, *, used: Floats, available: Floats) -> Check:
    def explain(index: int) -> str:
        return f"{machine} needs {used[index]:.0f} {name}, it has {available[index]:.0f}"

    return Check(used <= available, explain)


def _cap_reason(machine: MachineTable, index: int) -> str:
    static = static_power(machine)
    drawn = "an unknown static power"
    if static is not None:  # clocks of idle logic can stand still
        drawn = f"{static[index] - machine.power.clock_w[index]:.1f} W of static power"
    cap = float(machine.power.cap_w[index])
    return f"the power cap of {machine.name}, {cap:.1f} W, does not cover {drawn}"
