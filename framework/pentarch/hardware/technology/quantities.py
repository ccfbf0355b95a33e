"""Units of the technology library and their factors to pentarch's base units."""

from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pentarch.errors import InputError

FloatArray = npt.NDArray[np.float64]
Values = float | FloatArray
"""One number, or one number per design; what goes in as an array comes out with its shape."""

MIB_BYTES = 2.0**20
"""Bytes of one MiB."""

_YEAR_S = 365.25 * 86400.0
_KWH_J = 3.6e6


class BaseUnit(NamedTuple):
    """What a unit of the library is in base units."""

    factor: float
    """Multiply a value by this."""
    unit: str
    """To have it in this unit."""


_UNITS = MappingProxyType({
    # energy: a bit is an eighth of a byte, so pJ/bit times 8e-12 is J per byte
    "pJ": BaseUnit(1e-12, "J"), "pJ/MAC": BaseUnit(1e-12, "J/MAC"),
    "fJ/MAC": BaseUnit(1e-15, "J/MAC"), "pJ/access": BaseUnit(1e-12, "J/access"),
    "pJ/instruction": BaseUnit(1e-12, "J/instruction"), "pJ/bit": BaseUnit(8e-12, "J/B"),
    "pJ/bit/mm": BaseUnit(8e-12, "J/B/mm"), "pJ/bit/hop": BaseUnit(8e-12, "J/B/hop"),
    "Wh": BaseUnit(3600.0, "J"), "kWh/cm2": BaseUnit(_KWH_J / 100.0, "J/mm2"),
    # power
    "W": BaseUnit(1.0, "W"), "W/mm2": BaseUnit(1.0, "W/mm2"),
    "mW/Mib": BaseUnit(1e-3 / 2.0**17, "W/B"), "V": BaseUnit(1.0, "V"),
    "1/V": BaseUnit(1.0, "1/V"), "1/K": BaseUnit(1.0, "1/K"),
    # rates and storage
    "GB/s": BaseUnit(1e9, "B/s"), "Gb/s/pin": BaseUnit(1e9 / 8, "B/s"),
    "GB/s/mm": BaseUnit(1e9, "B/s/mm"), "GB": BaseUnit(1e9, "B"), "MB": BaseUnit(1e6, "B"),
    "TFLOPS": BaseUnit(1e12, "FLOPS"), "TOPS": BaseUnit(1e12, "FLOPS"),
    "TOPS/W": BaseUnit(1e12, "FLOPS/W"), "W/PFLOPS": BaseUnit(1e-15, "W/FLOPS"),
    "MAC/cycle": BaseUnit(1.0, "MAC/cycle"), "MHz": BaseUnit(1e6, "Hz"),
    "queries/year": BaseUnit(1.0 / _YEAR_S, "query/s"),
    # time
    "s": BaseUnit(1.0, "s"), "years": BaseUnit(_YEAR_S, "s"),
    "1/year": BaseUnit(1.0 / _YEAR_S, "1/s"), "ps/mm": BaseUnit(1e-12, "s/mm"),
    # geometry: pentarch counts chip areas in mm2 and lengths in mm
    "mm": BaseUnit(1.0, "mm"), "nm": BaseUnit(1e-6, "mm"), "mm2": BaseUnit(1.0, "mm2"),
    "um2": BaseUnit(1e-6, "mm2"), "um2/bit": BaseUnit(8e-6, "mm2/B"),
    "mm2/MiB": BaseUnit(1.0 / MIB_BYTES, "mm2/B"), "Mib/mm2": BaseUnit(2.0**17, "B/mm2"),
    "MTr/mm2": BaseUnit(1e6, "transistors/mm2"), "wires/um": BaseUnit(1e3, "1/mm"),
    "1/cm2": BaseUnit(0.01, "1/mm2"), "1/mm2": BaseUnit(1.0, "1/mm2"),
    "transistors": BaseUnit(1.0, "transistors"),
    "gate equivalents": BaseUnit(1.0, "gate equivalents"),
    # money
    "USD": BaseUnit(1.0, "USD"), "USD/GB": BaseUnit(1e-9, "USD/B"),
    "USD/W": BaseUnit(1.0, "USD/W"), "USD/GW": BaseUnit(1e-9, "USD/W"),
    "USD/mm2": BaseUnit(1.0, "USD/mm2"), "USD/kWh": BaseUnit(1.0 / _KWH_J, "USD/J"),
    "USD/year": BaseUnit(1.0 / _YEAR_S, "USD/s"),
    "USD/W/year": BaseUnit(1.0 / _YEAR_S, "USD/W/s"),
    "USD/MW/year": BaseUnit(1e-6 / _YEAR_S, "USD/W/s"),
    # pure numbers
    "x": BaseUnit(1.0, ""), "-": BaseUnit(1.0, ""), "fraction": BaseUnit(1.0, ""),
    "count": BaseUnit(1.0, ""), "%": BaseUnit(0.01, ""),
})  # fmt: skip


def base_unit(unit: str) -> BaseUnit:
    """Return the factor from `unit` to pentarch's base unit, and that unit's name.

    Args:
        unit: A unit as the technology files write it, for example `"pJ/bit"`.

    Raises:
        InputError: The unit is not in the table.

    Examples:
        >>> base_unit("pJ/bit")
        BaseUnit(factor=8e-12, unit='J/B')
    """
    found = _UNITS.get(unit)
    if found is None:
        raise InputError(
            f"{unit!r} is not a unit of the technology library. Expected one of "
            f"{', '.join(sorted(_UNITS))}. Write the figure in one of them, with what it is "
            "counted per under `basis`."
        )
    return found
