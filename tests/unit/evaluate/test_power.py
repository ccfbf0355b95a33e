"""The power cap: bisection against closed forms, and what it must never do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluate.paper import PaperBackend, PaperDevice, evaluate, paper_scenario, run

from pentarch.evaluate.phase_stack import PhaseStack
from pentarch.evaluate.power import PhaseLoad, PhasePower, cap_phase
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.view import View


def machine_of(length: int = 1, **fields: Any) -> MachineTable:
    """Return machines whose clock is proportional to the supply: 1 V nominal, 0.5 V least."""
    device = PaperDevice(name="paper", **{"memory_w": 0.0, **fields})
    return PaperBackend().machine(View(device, length))


def stack_of(*, array_s: float, memory_s: float, length: int = 1) -> PhaseStack:
    """Return a phase of one row that keeps both resources busy side by side."""
    terms = np.array([[[array_s] * length], [[memory_s] * length]])
    return PhaseStack(
        resources=("array", "memory"), terms_s=terms, fixed_s=np.zeros((1, length)),
        weights=np.ones((1, 1)), overlap=None,
    )  # fmt: skip


def load_of(
    stack: PhaseStack, energy: dict[str, Floats | None], *, step_s: float = 0.0
) -> PhaseLoad:
    """Return what a phase asks of designs that differ in nothing."""
    busy = stack.time()
    return PhaseLoad(
        busy_s=busy, step_s=np.full(busy.shape, step_s), energy_j=energy, stack=lambda: stack
    )


def cap(
    *, array_s: float, memory_s: float, array_j: float, memory_j: float, cap_w: float | None,
    static_w: float | None = 0.0, step_s: float = 0.0,
) -> PhasePower:  # fmt: skip
    machine = machine_of(cap_w=cap_w, static_w=static_w)
    energy = {"array": np.array([array_j]), "memory": np.array([memory_j])}
    stack = stack_of(array_s=array_s, memory_s=memory_s)
    return cap_phase(load_of(stack, dict(energy), step_s=step_s), machine)


def test_a_compute_bound_phase_slows_to_the_closed_form() -> None:
    # f ~ V and E ~ V^2: power ~ V^3. 100 J in 1 s under 12.5 W: V = (1/8)^(1/3) = 1/2,
    # and half the clock takes 2 s for a quarter of the energy.
    found = cap(array_s=1.0, memory_s=0.0, array_j=100.0, memory_j=0.0, cap_w=12.5 + 1e-9)

    assert found.clock_ratio[0] == pytest.approx(0.5)
    assert found.seconds[0] == pytest.approx(2.0)
    assert found.energy_j["array"][0] == pytest.approx(25.0)  # type: ignore[index]  # known here


@given(share=st.floats(0.13, 0.999), static=st.floats(0, 50))
@settings(max_examples=30, deadline=None)
def test_the_supply_found_meets_the_cap_with_equality(share: float, static: float) -> None:
    # V = share^(1/3) as long as that is at least 0.5 V.
    found = cap(
        array_s=3.0, memory_s=0.0, array_j=60.0, memory_j=0.0, cap_w=static + 20 * share,
        static_w=static,
    )  # fmt: skip
    assert found.dynamic_j is not None

    assert found.clock_ratio[0] == pytest.approx(share ** (1 / 3))
    assert static + found.dynamic_j[0] / found.seconds[0] == pytest.approx(static + 20 * share)


def test_a_memory_bound_phase_gives_up_supply_before_time() -> None:
    # 8 J of MACs in 1 s hide behind 4 s of memory that take 4 J. Under 2.5 W: 10 J in 4 s, so
    # 8 V^2 = 6: V = 0.866, and 1 / 0.866 s of MACs still hide.
    found = cap(array_s=1.0, memory_s=4.0, array_j=8.0, memory_j=4.0, cap_w=2.5)

    assert found.seconds[0] == found.free_seconds[0] == 4.0
    assert found.clock_ratio[0] == pytest.approx(0.75**0.5)
    assert found.energy_j["array"][0] == pytest.approx(6.0)  # type: ignore[index]  # known here
    assert found.energy_j["memory"][0] == 4.0  # type: ignore[index]  # known here


def test_below_the_lowest_supply_the_device_waits() -> None:
    # At 0.5 V: 8 / 4 = 2 J of MACs + 4 J of memory. 1 W takes 6 s for what could be done in 4.
    found = cap(array_s=1.0, memory_s=4.0, array_j=8.0, memory_j=4.0, cap_w=1.0)

    assert found.clock_ratio[0] == pytest.approx(0.5)
    assert found.seconds[0] == pytest.approx(6.0)
    assert found.dynamic_j is not None
    assert found.dynamic_j[0] / found.seconds[0] == pytest.approx(1.0)


def test_the_time_of_a_step_draws_no_dynamic_power() -> None:
    # 100 J in 1 s of work and 9 s of host: 10 W on average, within the cap.
    found = cap(array_s=1.0, memory_s=0.0, array_j=100.0, memory_j=0.0, cap_w=10.0, step_s=9.0)

    assert found.seconds[0] == 10.0
    assert found.clock_ratio[0] == 1.0


@pytest.mark.parametrize("unknown", ["cap_w", "static_w"])
def test_without_a_cap_or_static_power_nothing_changes(unknown: str) -> None:
    fields = {"cap_w": 1.0, "static_w": 0.0, unknown: None}
    found = cap(array_s=1.0, memory_s=0.0, array_j=100.0, memory_j=0.0, **fields)

    assert found.seconds[0] == found.free_seconds[0] == 1.0
    assert found.energy_j["array"][0] == 100.0  # type: ignore[index]  # known here


def test_a_cap_that_does_not_cover_the_static_power_is_infeasible() -> None:
    # 7 W of the core and 1 W of memory under a cap of 8 W leave nothing.
    found = evaluate(paper_scenario(cap_w=8.0))

    assert not found.feasible
    assert found.reason == "the power cap of paper, 8.0 W, does not cover 8.0 W of static power"
    assert evaluate(paper_scenario(cap_w=8.1)).feasible


def test_a_machine_may_go_no_lower_than_its_threshold() -> None:
    # Energy that the supply cannot lower, and a least supply below the threshold: waits, no 1 / 0.
    machine = machine_of(cap_w=1.0, static_w=0.0)
    power = machine.power
    numbers = {**power.numbers, "threshold_v": np.array([0.6]), "min_v": np.array([0.1])}
    machine = type(machine)(
        **{name: getattr(machine, name) for name in machine.__slots__}
        | {"power": type(power)(power.model, 1, numbers, power.groups, power.structure)}
    )
    stack = stack_of(array_s=0.0, memory_s=1.0)
    found = cap_phase(load_of(stack, {"memory": np.array([5.0])}), machine)

    assert found.seconds[0] == pytest.approx(5.0)


def test_no_phase_of_a_query_exceeds_the_cap() -> None:
    caps = np.linspace(8.5, 4000, 60)
    figures = run(paper_scenario(concurrency=6, bytes_per_s=300.0), cap_w=caps)
    free = run(paper_scenario(concurrency=6, bytes_per_s=300.0))
    stage = figures.stages[0]

    for name in ("prefill", "decode"):
        phase, unlimited = getattr(stage, name), getattr(free.stages[0], name)
        drawn = 8 + phase.dynamic_j / phase.seconds
        assert (drawn <= caps * (1 + 1e-12)).all()
        needed = 8 + unlimited.dynamic_j / unlimited.seconds
        is_free = caps >= needed
        assert is_free.any()
        assert (~is_free).any()
        np.testing.assert_array_equal(phase.seconds[is_free], unlimited.seconds[0])
    times = figures.values["query_s"]
    assert times is not None
    assert (np.diff(times) <= 1e-9 * times[:-1]).all()  # a higher cap is never slower


def test_a_cap_that_cannot_be_applied_is_said() -> None:
    found = evaluate(paper_scenario(cap_w=50.0, byte_j=None))

    assert any("power cap of paper was not applied" in note for note in found.notes)


def test_clocks_of_idle_logic_fall_with_the_clock_and_stand_still_while_waiting() -> None:
    # f ~ V: of 8 W of idle clocks V^3 are left. 4 W of leakage, 60 J in 1 s at 1 V under 30 W.
    # At V the phase takes 1 / V s and 60 V^2 J: 60 V^3 + 8 V^3 + 4 = 30, V = (26 / 68)^(1/3).
    stack = stack_of(array_s=1.0, memory_s=0.0)

    def capped(cap_w: float) -> PhasePower:
        found = machine_of(cap_w=cap_w, static_w=12.0)
        numbers = {**found.power.numbers, "clock_w": np.array([8.0])}
        on = replace(found, power=replace(found.power, numbers=numbers))
        return cap_phase(load_of(stack, {"array": np.array([60.0])}), on)

    found, supply = capped(30.0), (26.0 / 68.0) ** (1 / 3)
    assert found.clock_ratio[0] == pytest.approx(supply)
    assert found.dynamic_j is not None
    assert found.saved_w == pytest.approx(8.0 * (1.0 - supply**3))
    drawn = 12.0 - found.saved_w + found.dynamic_j / found.seconds
    assert drawn == pytest.approx(30.0)
    # At 0.5 V: 2 s, 15 J, 1 W of idle clocks. 6 W leave 2 beside leakage: (15 + 1 * 2) / 2 s.
    waits = capped(6.0)
    assert waits.clock_ratio[0] == pytest.approx(0.5)
    assert waits.seconds[0] == pytest.approx(8.5)
    assert waits.saved_w == pytest.approx(8.0 - 2.0 / 8.5)
    assert waits.is_possible[0]
    assert not capped(3.9).is_possible[0]
