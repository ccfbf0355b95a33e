"""Which engine and which format a product of two stored formats really runs in."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from pentarch.graph.operators import OperatorKind
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine, EngineKind
from pentarch.workload.formats import Arithmetic, NumberFormat, number_format


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """How products of two formats are computed on a machine."""

    engine: Columns[Engine]
    """The engine that runs them."""
    format: str
    """Compute format: its rate and energy apply."""
    dequantized: bool
    """Whether the second operand is converted before use."""
    note: str | None
    """What was replaced, when the machine lacks the wanted format."""

    @property
    def unit_macs_per_cycle(self) -> Floats:
        """Multiply-accumulates per cycle of one unit, shape (N,)."""
        rate: Floats = self.engine.macs_per_cycle[self.format]
        return rate

    @property
    def efficiency(self) -> Floats:
        """Share of its peak that a unit reaches in this format on a long, full tile, shape (N,)."""
        engine, name = self.engine, self.format

        def find() -> Floats:
            share: Floats = engine.issue_efficiency * engine.format_efficiency.get(name, 1.0)
            return share

        return engine.once(("efficiency", name), find)

    @property
    def peak_macs_per_s(self) -> Floats:
        """Dense peak of the device in this format, shape (N,)."""
        engine, rate = self.engine, self.unit_macs_per_cycle

        def find() -> Floats:
            peak: Floats = rate * engine.units * engine.clock_hz
            return peak

        return engine.once(("peak", self.format), find)

    @property
    def mac_j(self) -> Floats | None:
        """Energy of one multiply-accumulate, shape (N,); `None` when unknown."""
        energies = self.engine.mac_j
        return None if energies is None else energies.get(self.format)


_FLOATS = ("fp8", "bf16", "fp16", "tf32", "fp32")
"""Floats that a product of a float and an integer may run in, narrowest first."""


def wanted_format(first: NumberFormat, second: NumberFormat) -> tuple[str | None, bool]:
    """Return the compute format that a product asks for, and whether the second is converted.

    Storage-only formats run in the format of the other operand
    (definitions.md, MFU, HFU, delivered, peak: 4-bit weights
    with 16-bit activations run and are rated at the 16-bit peak); of two floats or two integers the
    wider one decides; a float and an integer run in the narrowest float that holds both exactly,
    `None` where there is none.
    """
    if second.native_only_as_weights:
        return first.compute, True
    if first.compute == second.compute:
        return first.compute, False
    if first.arithmetic is second.arithmetic:
        wider = first if first.element_bits >= second.element_bits else second
        return wider.compute, wider is first
    needed = max(first.mantissa_bits, second.mantissa_bits)
    fitting = (name for name in _FLOATS if number_format(name).mantissa_bits >= needed)
    return next(fitting, None), True


def resolve(
    machine: MachineTable, a_format: str, b_format: str, kind: OperatorKind = OperatorKind.GEMM
) -> Product | None:
    """Return how `machine` multiplies two stored formats.

    Args:
        machine: The designs.
        a_format: Format of the activations.
        b_format: Format of the weights, keys or values.
        kind: GEMM or ATTENTION: an engine says which it can run.

    Returns:
        The engine listed first that runs the wanted format or, failing that, the narrowest format
        that holds both, floats for floats; `None` when no engine can. The choice depends on the
        structure only, so designs of one batch share it.
    """
    return machine.derived.once(
        ("product", a_format, b_format, kind), lambda: _resolve(machine, a_format, b_format, kind)
    )


def _resolve(
    machine: MachineTable, a_format: str, b_format: str, kind: OperatorKind
) -> Product | None:
    offers = tuple(
        (index, tuple(engine.macs_per_cycle))
        for index, engine in enumerate(machine.engines)
        if engine.kind is not EngineKind.VECTOR and kind in engine.operators
    )
    choice = _choose(a_format, b_format, offers)
    if choice is None:
        return None
    index, chosen, wanted, dequantized = choice
    note = None
    if chosen != wanted:
        note = f"{wanted} has no engine on {machine.name}: runs as {chosen}"
    return Product(
        engine=machine.engines[index], format=chosen, dequantized=dequantized or chosen != wanted,
        note=note,
    )  # fmt: skip


@cache
def _choose(
    a_format: str, b_format: str, offers: tuple[tuple[int, tuple[str, ...]], ...]
) -> tuple[int, str, str, bool] | None:
    """Return engine, its format, the wanted format and whether B is converted, or `None`.

    Args:
        a_format: Format of the activations.
        b_format: Format of the weights, keys or values.
        offers: Position and compute formats of each engine that may run the operator.
    """
    wanted, dequantized = wanted_format(number_format(a_format), number_format(b_format))
    if wanted is None:
        return None
    target = number_format(wanted)
    fitting: list[tuple[float, int, str]] = []
    for index, names in offers:
        for name in names:
            extra = _stands_in(target, number_format(name))
            if extra is not None:
                fitting.append((extra, index, name))
    if not fitting:
        return None
    _, index, chosen = min(fitting, key=lambda offer: offer[0])
    return index, chosen, wanted, dequantized


def _stands_in(wanted: NumberFormat, offered: NumberFormat) -> float | None:
    """Return how many bits wider `offered` is, or `None` when it cannot hold `wanted`."""
    if offered.name == wanted.name:
        return 0.0
    extra = offered.element_bits - wanted.element_bits
    if offered.arithmetic is Arithmetic.FLOAT and offered.mantissa_bits >= wanted.mantissa_bits:
        return extra + 0.5 if extra >= 0 else None
    same_kind = offered.arithmetic is wanted.arithmetic
    return extra + 0.25 if same_kind and extra > 0 else None


@cache
def bits_to_bytes(formats: tuple[str, ...]) -> Floats:
    """Return the stored bytes per value of each format, scales included, shape (R,), read-only."""
    found: Floats = np.array([number_format(name).bytes for name in formats], dtype=np.float64)
    found.flags.writeable = False
    return found
