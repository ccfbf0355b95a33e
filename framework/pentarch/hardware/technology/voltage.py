"""Supply voltage: clock, dynamic energy and leakage."""

from dataclasses import dataclass

import numpy as np

from pentarch.errors import FieldError
from pentarch.hardware.technology.library import FigureLog, check_node, reading
from pentarch.hardware.technology.quantities import FloatArray, Values

_NEWTON_STEPS = 12
"""Newton steps; from the left of a concave function they double the digits each time."""


@dataclass(frozen=True, slots=True)
class VoltageCurve:
    """The alpha-power law of one node: f(V) = k · (V - Vth)^alpha / V.

    References:
        T. Sakurai, A. R. Newton, Alpha-power law MOSFET model, IEEE JSSC 25(2), 1990.
    """

    nominal_v: float
    """Supply at which rated clock and energy hold."""
    threshold_v: float
    """Threshold voltage."""
    alpha: float
    """Velocity-saturation exponent."""
    minimum_v: float
    """Lowest supply at which memories and logic work."""
    maximum_v: float
    """Highest supply that reliability allows."""

    def frequency_ratio(self, voltage_v: Values) -> Values:
        """Return clock over nominal clock at `voltage_v`, which must exceed the threshold."""
        return self._speed(voltage_v) / self._speed(self.nominal_v)

    def energy_ratio(self, voltage_v: Values) -> Values:
        """Return dynamic energy over nominal energy: (V/Vnom)²."""
        return (voltage_v / self.nominal_v) ** 2

    def voltage_for(self, frequency_ratio: Values) -> "VoltageChoice":
        """Return the lowest allowed supply that reaches a clock.

        Args:
            frequency_ratio: Wanted clock over nominal clock.

        Returns:
            The supply, at least the minimum; where even the maximum is too slow, the maximum and
            `is_reached` false.
        """
        wanted = np.asarray(frequency_ratio, dtype=np.float64)
        slowest, fastest = (
            float(self.frequency_ratio(v)) for v in (self.minimum_v, self.maximum_v)
        )
        target = np.log(np.clip(wanted, slowest, fastest) * self._speed(self.nominal_v))
        supply = np.full(wanted.shape, self.minimum_v)
        for _ in range(_NEWTON_STEPS):
            headroom = supply - self.threshold_v
            error = self.alpha * np.log(headroom) - np.log(supply) - target
            supply = supply - error / (self.alpha / headroom - 1.0 / supply)
        supply = np.clip(supply, self.minimum_v, self.maximum_v)
        reached = wanted <= fastest * (1 + 1e-12)
        if wanted.ndim == 0:
            return VoltageChoice(float(supply), bool(reached))
        return VoltageChoice(supply, reached)

    def _speed(self, voltage_v: Values) -> Values:
        headroom = voltage_v - self.threshold_v
        if np.any(np.asarray(headroom) <= 0):
            raise FieldError(
                where="VoltageCurve",
                path="voltage_v",
                problem=f"found {voltage_v!r}",
                expected=f"more than the threshold of {self.threshold_v} V",
            )
        speed: Values = headroom**self.alpha / voltage_v
        return speed


@dataclass(frozen=True, slots=True, eq=False)
class VoltageChoice:
    """A supply voltage and whether it reaches the wanted clock."""

    voltage_v: Values
    """Supply, within the allowed range."""
    is_reached: "bool | np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"
    """Whether the clock is reached at it, per design."""


def voltage_curve(node: str, *, used: FigureLog | None = None) -> VoltageCurve:
    """Return the voltage curve of a node.

    Threshold, exponent and range are known for N7 only; at other nodes they are used unchanged
    around that node's nominal supply, which the log notes.

    Args:
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its nominal supply is unknown (n10).
    """
    log = reading(used)
    owner = f"voltage curve of {check_node(node)}"
    if node != "n7":
        log.note(f"voltage curve of {node}: threshold, exponent and range of N7 are used")
    return VoltageCurve(
        nominal_v=log.si(f"nodes.{node}.vdd", owner=owner),
        threshold_v=log.si("power.dvfs.vth_n7", owner=owner),
        alpha=log.si("power.dvfs.alpha_n7", owner=owner),
        minimum_v=log.si("power.dvfs.vmin_n7", owner=owner),
        maximum_v=log.si("power.dvfs.vmax_n7", owner=owner),
    )


@dataclass(frozen=True, slots=True)
class Supplied:
    """A process at a supply."""

    process: str
    """`"n45"`, `"n32"`, `"n20"`, `"n16"`, `"n14"`, `"n10"` or `"n7"`."""
    voltage_v: float
    """Supply."""


def stillmaker_energy_ratio(
    start: Supplied, end: Supplied, *, used: FigureLog | None = None
) -> float:
    """Return the energy of a logic operation at `end` over that at `start`, as Stillmaker fits it.

    E(V) = a V² + b V + c per process. Good for the effect of voltage within one process; from 45 to
    7 nm it claims 15-fold, where published operation tables show 2 to 7, so that the library's
    operations come from those (`operation_energies`).

    Args:
        start: What to compare with.
        end: What is compared.
        used: Log of the figures read.

    Raises:
        MissingFigureError: A process has no fit.

    References:
        A. Stillmaker, B. Baas, Scaling equations for the accurate prediction of CMOS device
        performance from 180 nm to 7 nm, Integration 58, 2017.
    """
    log = reading(used)

    def energy(at: Supplied) -> float:
        path = f"node_scaling.stillmaker_energy_poly.{at.process}"
        found = log.figure(path, owner=f"scaling of {at.process}")
        if not isinstance(found.value, tuple):
            raise FieldError(
                where="technology library", path=path, problem=f"holds {found.value!r}",
                expected="the coefficients of V², V and 1",
            )  # fmt: skip
        return float(np.polyval(found.value, at.voltage_v))

    return energy(end) / energy(start)


_LEAKAGE_AT_C = 85.0
"""Junction temperature at which leakage figures are stated."""


def leakage_w(
    node: str,
    *,
    logic_mm2: Values = 0.0,
    sram_bytes: Values = 0.0,
    voltage_v: Values | None = None,
    temperature_c: Values = _LEAKAGE_AT_C,
    used: FigureLog | None = None,
) -> Values:
    """Return leakage watts of logic and SRAM together.

    P = (0.04 W/mm² · logic + 1 mW/Mib · SRAM) · V/Vn · exp(3 (V - Vn)) · exp(0.02 (T - 85 °C)).
    The densities are N7's; at other nodes they are used unchanged, which the log notes.

    Args:
        node: Logic process; sets the nominal supply.
        logic_mm2: Area of logic, SRAM excluded.
        sram_bytes: SRAM on the die.
        voltage_v: Supply; nominal by default.
        temperature_c: Junction temperature.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: A voltage is given and the node's nominal supply is unknown.
    """
    log = reading(used)
    owner = f"leakage of {check_node(node)}"
    if node != "n7":
        log.note(f"leakage of {node}: densities of N7 per mm2 and per bit are used")
    logic_w = logic_mm2 * log.si("power.static.leak_logic_n7", owner=owner)
    sram_w = sram_bytes * log.si("sram.leakage_7nm", owner=owner)
    temperature_per_k = log.si("power.dvfs.leakage_temp_coeff", owner=owner)
    heat = np.exp(temperature_per_k * (np.asarray(temperature_c) - _LEAKAGE_AT_C))
    total: FloatArray = np.asarray((logic_w + sram_w) * heat, dtype=np.float64)
    if voltage_v is not None:
        nominal_v = log.si(f"nodes.{node}.vdd", owner=owner)
        per_v = log.si("power.dvfs.leakage_voltage_coeff", owner=owner)
        supply = np.asarray(voltage_v, dtype=np.float64)
        total = total * (supply / nominal_v) * np.exp(per_v * (supply - nominal_v))
    return float(total) if total.ndim == 0 else total
