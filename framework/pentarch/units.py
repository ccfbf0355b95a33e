"""Conversion between SI floats and text such as `"3.35 TB/s"`, at the edge of the program only.

Inside pentarch every quantity is a plain float in SI base units. Decimal prefixes mean powers
of 1000 and binary prefixes (`Ki`, `Mi`, ...) powers of 1024.
"""

import math
import re
from typing import Annotated

from pydantic import BeforeValidator

from pentarch.errors import InputError

_DECIMAL = {
    "f": 1e-15, "p": 1e-12, "n": 1e-9, "u": 1e-6, "µ": 1e-6, "m": 1e-3, "": 1.0,
    "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18,
}  # fmt: skip
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}

_SUFFIX_UNIT = {
    "bytes_per_s": "B/s", "flops_per_s": "FLOPS", "macs_per_s": "MAC/s", "j_per_byte": "J/B",
    "j_per_token": "J/token", "tokens_per_s": "token/s", "queries_per_s": "query/s",
    "bytes": "B", "bits": "bit", "hz": "Hz",
    "usd": "USD", "mm2": "mm2", "flops": "FLOP", "macs": "MAC", "s": "s", "j": "J", "w": "W",
    "c": "C", "v": "V",
}  # fmt: skip
"""Unit of a field by the longest matching suffix of its name."""

_NUMBER = re.compile(r"^\s*([+-]?(?:\d[\d_,]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(.*?)\s*$")
_UNPREFIXED = frozenset({"USD", "mm2", "C", "token/s", "query/s", "J/token", "J/B", "W/PFLOPS"})


def unit_of(field: str) -> str | None:
    """Return the unit that the suffix of `field` states, or `None` for a ratio or count.

    Examples:
        >>> unit_of("read_bytes_per_s")
        'B/s'
        >>> unit_of("mfu") is None
        True
    """
    for suffix in sorted(_SUFFIX_UNIT, key=len, reverse=True):
        if field == suffix or field.endswith("_" + suffix):
            return _SUFFIX_UNIT[suffix]
    return None


def parse(text: str, unit: str) -> float:
    """Return the SI value of `text`, which carries `unit` with an optional prefix.

    Args:
        text: For example `"3.35 TB/s"`, `"32 MiB"` or a bare number in base units.
        unit: The base unit expected, for example `"B/s"`.

    Raises:
        InputError: The text is no number, or its unit is another one.

    Examples:
        >>> parse("3.35 TB/s", "B/s")
        3350000000000.0
        >>> parse("32 MiB", "B")
        33554432.0
    """
    match = _NUMBER.match(text)
    if match is None:
        raise InputError(f"{text!r} is not a quantity. Write a number and a unit, e.g. '2 {unit}'.")
    number, shown_unit = float(match[1].replace("_", "").replace(",", "")), match[2]
    if shown_unit in ("", unit):
        return number
    if shown_unit.endswith(unit):
        prefix = shown_unit[: -len(unit)]
        factor = _BINARY.get(prefix) or _DECIMAL.get(prefix)
        if factor is not None:
            return number * factor
    raise InputError(
        f"{text!r} has the unit {shown_unit!r}. Expected {unit!r}, with a prefix such as k, M, G, T"
        + (" or Ki, Mi, Gi." if unit == "B" else ".")
    )


def show(value: float | None, unit: str, digits: int = 3) -> str:
    """Return `value` with `digits` significant digits and a decimal prefix.

    Args:
        value: In base units; `None` is shown as `"unknown"`.
        unit: The base unit, for example `"B/s"`; money, areas and ratios get no prefix.
        digits: Significant digits.

    Examples:
        >>> show(3.35e12, "B/s")
        '3.35 TB/s'
        >>> show(None, "W")
        'unknown'
    """
    if value is None:
        return "unknown"
    if not math.isfinite(value):
        return f"{value} {unit}"
    if value == 0:
        return f"0 {unit}".rstrip()
    if unit in _UNPREFIXED or not unit:
        return _plain(value, digits) + (f" {unit}" if unit else "")
    magnitude = abs(value)
    steps = [(1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""),
             (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"), (1e-15, "f")]  # fmt: skip
    factor, prefix = next(
        ((f, p) for f, p in steps if magnitude >= f * (1 - 0.5 * 10.0**-digits)), steps[-1]
    )
    return f"{_plain(value / factor, digits)} {prefix}{unit}"


def percent(ratio: float | None, digits: int = 3) -> str:
    """Return a ratio as shown text, for example `"51.2 %"`."""
    return "unknown" if ratio is None else f"{_plain(ratio * 100, digits)} %"


def _plain(value: float, digits: int) -> str:
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    return f"{value:,.{min(decimals, 12)}f}"


def quantity(unit: str) -> BeforeValidator:
    """Return the pydantic validator that lets a field take text in `unit` as well as a number."""

    def convert(value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return parse(value, unit)
        except InputError as error:
            raise ValueError(str(error)) from None

    return BeforeValidator(convert)


Bytes = Annotated[float, quantity("B")]
BytesPerSecond = Annotated[float, quantity("B/s")]
Seconds = Annotated[float, quantity("s")]
Hertz = Annotated[float, quantity("Hz")]
Watts = Annotated[float, quantity("W")]
Joules = Annotated[float, quantity("J")]
Usd = Annotated[float, quantity("USD")]
Flops = Annotated[float, quantity("FLOPS")]
