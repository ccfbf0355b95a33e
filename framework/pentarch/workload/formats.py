"""Number formats: width in bits, scales included, and the arithmetic they run in."""

import re
from enum import StrEnum
from functools import cache, lru_cache
from types import MappingProxyType

from pydantic import Field, PositiveFloat

from pentarch.errors import UnknownNameError
from pentarch.model import Model


class Arithmetic(StrEnum):
    """Kind of numbers a format holds."""

    FLOAT = "float"
    INTEGER = "integer"


class NumberFormat(Model):
    """One way of storing a number."""

    name: str
    """Canonical name, for example `"fp8"`."""
    arithmetic: Arithmetic
    """Float or integer."""
    element_bits: PositiveFloat
    """Bits of one value without its share of group scales."""
    scale_bits: float = Field(default=0.0, ge=0)
    """Share of group scales and zero points per value, in bits (definitions.md, Quantized formats)."""
    mantissa_bits: int = Field(ge=1)
    """Significand width with the hidden bit; for integers the full width. Sets multiplier energy and area."""
    compute: str
    """Name of the format whose engine rate applies: `mxfp8` runs on the fp8 engine."""
    native_only_as_weights: bool = False
    """Whether the format is for storage only: a weight in it is dequantized before use."""

    @property
    def bits(self) -> float:
        """Bits of one stored value, scales included."""
        return self.element_bits + self.scale_bits

    @property
    def bytes(self) -> float:
        """Bytes of one stored value, scales included."""
        return self.bits / 8


def _float(name: str, bits: float, mantissa: int, *, scale: float = 0.0, compute: str | None = None,
           storage: bool = False) -> NumberFormat:  # fmt: skip
    return NumberFormat(
        name=name, arithmetic=Arithmetic.FLOAT, element_bits=bits, scale_bits=scale,
        mantissa_bits=mantissa, compute=compute or name, native_only_as_weights=storage,
    )  # fmt: skip


def _integer(name: str, bits: float, *, scale: float = 0.0, compute: str | None = None,
             storage: bool = False) -> NumberFormat:  # fmt: skip
    return NumberFormat(
        name=name, arithmetic=Arithmetic.INTEGER, element_bits=bits, scale_bits=scale,
        mantissa_bits=int(bits), compute=compute or name, native_only_as_weights=storage,
    )  # fmt: skip


@cache
def formats() -> MappingProxyType[str, NumberFormat]:
    """Return every known format by canonical name.

    Widths follow definitions.md, Quantized formats (they count their scales): mxfp4 4.25, nvfp4 4.5,
    fp8 with one fp32 scale per 128 x 128 values 8.002, int4 with one fp16 scale per 128 values
    4.125, q4_0 4.5, q4_k_m about 4.85 bits.
    """
    known = (
        _float("fp32", 32, 24), _float("tf32", 32, 11), _float("bf16", 16, 8),
        _float("fp16", 16, 11), _float("fp8", 8, 4), _float("fp8_e5m2", 8, 3, compute="fp8"),
        _float("mxfp8", 8, 4, scale=0.25, compute="fp8"), _float("fp4", 4, 2),
        _float("fp8_block", 8, 4, scale=32 / 128**2, compute="fp8"),
        _float("mxfp4", 4, 2, scale=0.25, compute="fp4"),
        _float("nvfp4", 4, 2, scale=0.5, compute="fp4"),
        _integer("int8", 8), _integer("int4", 4), _integer("int32", 32),
        _integer("int4_g128", 4, scale=0.125, compute="int4", storage=True),
        _integer("int4_g64", 4, scale=0.25, compute="int4", storage=True),
        _integer("q4_0", 4, scale=0.5, compute="int4", storage=True),
        _integer("q4_k_m", 4, scale=0.85, compute="int4", storage=True),
    )  # fmt: skip
    return MappingProxyType({entry.name: entry for entry in known})


_ALIASES = MappingProxyType({"fp8_e4m3": "fp8", "e4m3": "fp8", "e5m2": "fp8_e5m2", "float16": "fp16",
                             "bfloat16": "bf16", "float32": "fp32", "half": "fp16"})  # fmt: skip


@cache
def _grouped(name: str) -> NumberFormat | None:
    """Return integers with one fp16 scale per group of values, `None` for another name.

    `int4_g32` has one scale for 32 values of 4 bits.
    """
    found = re.fullmatch(r"int([48])_g([1-9][0-9]{0,5})", name)
    if found is None:
        return None
    bits, values = int(found[1]), int(found[2])
    return _integer(name, bits, scale=16 / values, compute=f"int{bits}", storage=True)


@lru_cache(maxsize=1024)
def number_format(name: str) -> NumberFormat:
    """Return the format called `name`, aliases included.

    Raises:
        UnknownNameError: There is none.
    """
    canonical = _ALIASES.get(name.lower(), name.lower())
    found = formats().get(canonical) or _grouped(canonical)
    if found is None:
        raise UnknownNameError(
            kind="number format",
            name=name,
            known=formats(),
            hint="Aliases such as e4m3, and groups such as int4_g32, are accepted too.",
        )
    return found
