"""Voltage, clock and leakage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError, MissingFigureError
from pentarch.hardware.technology import FigureLog, VoltageCurve, leakage_w, voltage_curve


def test_lowering_n7_from_0v75_to_0v60() -> None:
    curve = voltage_curve("n7")
    assert curve.energy_ratio(0.60) == pytest.approx(0.64)
    assert curve.frequency_ratio(0.60) == pytest.approx(0.74, abs=0.005)


def test_voltage_for_a_clock_agrees_with_bisection() -> None:
    curve = voltage_curve("n7")
    wanted = np.linspace(0.75, 1.27, 23)

    def bisected(target: float) -> float:
        low, high = 0.6, 0.95
        for _ in range(60):
            middle = (low + high) / 2
            speed = (middle - 0.3) ** 1.3 / middle / (0.45**1.3 / 0.75)
            low, high = (middle, high) if speed < target else (low, middle)
        return low

    choice = curve.voltage_for(wanted)
    np.testing.assert_allclose(choice.voltage_v, [bisected(t) for t in wanted], rtol=1e-10)
    assert np.all(choice.is_reached)


def test_voltage_stays_within_its_range_and_says_when_a_clock_is_out_of_reach() -> None:
    choice = voltage_curve("n7").voltage_for(np.array([0.1, 2.0]))
    np.testing.assert_allclose(choice.voltage_v, [0.60, 0.95])
    np.testing.assert_array_equal(choice.is_reached, [True, False])
    single = voltage_curve("n7").voltage_for(1.0)
    assert single.is_reached is True
    assert single.voltage_v == pytest.approx(0.75)


@given(
    alpha=st.floats(1.0, 2.0),
    threshold_v=st.floats(0.2, 0.45),
    wanted=st.floats(0.3, 1.6),
)
def test_voltage_choice_returns_the_clock(alpha: float, threshold_v: float, wanted: float) -> None:
    curve = VoltageCurve(
        nominal_v=0.75, threshold_v=threshold_v, alpha=alpha, minimum_v=0.5, maximum_v=1.05
    )
    choice = curve.voltage_for(wanted)
    reached = curve.frequency_ratio(choice.voltage_v)
    slowest, fastest = curve.frequency_ratio(0.5), curve.frequency_ratio(1.05)
    assert reached == pytest.approx(min(max(wanted, slowest), fastest), rel=1e-9)
    assert choice.is_reached == (wanted <= fastest * (1 + 1e-12))


def test_supply_below_threshold_is_refused() -> None:
    with pytest.raises(FieldError, match="threshold"):
        voltage_curve("n7").frequency_ratio(0.25)


def test_curve_of_another_node_says_what_it_borrows() -> None:
    used = FigureLog()
    assert voltage_curve("n2", used=used).nominal_v == 0.70
    assert used.notes == ("voltage curve of n2: threshold, exponent and range of N7 are used",)
    with pytest.raises(MissingFigureError, match="vdd"):
        voltage_curve("n10")


def test_leakage_of_logic_and_sram() -> None:
    # 100 mm2 at 0.04 W/mm2 and 128 MiB = 1024 Mibit at 1 mW
    assert leakage_w("n7", logic_mm2=100.0, sram_bytes=128 * 2**20) == pytest.approx(4 + 1.024)


def test_leakage_follows_voltage_and_temperature() -> None:
    found = leakage_w("n7", logic_mm2=np.array([100.0, 200.0]), voltage_v=0.60, temperature_c=60.0)
    factor = 0.60 / 0.75 * math.exp(3 * -0.15) * math.exp(0.02 * -25)
    np.testing.assert_allclose(found, [4 * factor, 8 * factor])


def test_leakage_elsewhere_notes_the_borrowed_density() -> None:
    used = FigureLog()
    leakage_w("n3e", logic_mm2=10.0, used=used)
    assert "densities of N7" in used.notes[0]
