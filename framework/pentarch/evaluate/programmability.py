"""Target 5: the share of later operators that run at a useful rate (definitions.md, Programmability)."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import yaml
from pydantic import Field, PositiveInt

from pentarch.hardware.columns import Floats, sum_rows
from pentarch.hardware.machine import MachineTable
from pentarch.mapping.traffic import level_bandwidth
from pentarch.model import Model, load

USEFUL_SLOWDOWN = 10.0
"""An operator counts when it takes at most this many times its roofline (definitions.md, Programmability)."""

FEWEST = 5
"""With fewer later operators than this a device is scored on all of them."""

VALUE_BYTES = 4.0
"""Bytes that one value moves in the roofline of an elementwise primitive: 2 read and 2 written,
16-bit values. An assumption of this project."""


class ReferenceOperator(Model):
    """An operator that devices are scored on."""

    name: str
    """What it is called."""
    year: PositiveInt
    """Year of its first wide use."""
    primitives: tuple[str, ...] = Field(min_length=1)
    """What a device must be able to do to run it."""


@cache
def reference_operators() -> tuple[ReferenceOperator, ...]:
    """Return the packaged reference operators, oldest first."""
    text = (
        files("pentarch.evaluate").joinpath("reference_operators.yaml").read_text(encoding="utf-8")
    )
    entries = [
        load(ReferenceOperator, entry, where=f"reference_operators.yaml entry {number}")
        for number, entry in enumerate(yaml.safe_load(text))
    ]
    return tuple(sorted(entries, key=lambda entry: entry.year))


def score(machine: MachineTable) -> Floats | None:
    """Return the programmability score of N designs, shape (N,), or `None` when nothing is known.

    A reference operator runs if each of its primitives has a rate on the machine; it counts if the
    slowest of them takes at most ten times the time in which memory streams the values. A GEMM is
    its own roofline. Operators later than the tape-out year are scored; with fewer than five of
    them, or an unknown year, all are.
    """
    program = machine.program
    if program is None:
        return None
    if program.needs_new_silicon:
        return np.zeros(machine.length)
    stream = level_bandwidth(machine.levels[0]) / VALUE_BYTES
    useful = _useful_primitives(program.primitives, stream)
    absent = np.zeros(stream.shape)
    entries = reference_operators()
    named, needed = _needed_primitives()
    rates = np.array([useful.get(primitive, absent) for primitive in named])
    runs = rates[needed[:, 0]]
    for position in range(1, needed.shape[1]):
        np.minimum(runs, rates[needed[:, position]], out=runs)
    everything = sum_rows(runs) / len(runs)
    if program.tape_out_year is None:
        return everything
    result = everything
    for year in np.unique(program.tape_out_year):
        later = runs[[entry.year > year for entry in entries]]
        if len(later) >= FEWEST:
            result = np.where(program.tape_out_year == year, sum_rows(later) / len(later), result)
    return result


@cache
def _needed_primitives() -> tuple[tuple[str, ...], npt.NDArray[np.intp]]:
    """Return the primitives that occur, and those of each operator by position, padded: (R, P)."""
    entries = reference_operators()
    names = tuple(dict.fromkeys(name for entry in entries for name in entry.primitives))
    most = max(len(entry.primitives) for entry in entries)
    table = [
        [names.index(name) for name in entry.primitives]
        + [names.index(entry.primitives[0])] * (most - len(entry.primitives))
        for entry in entries
    ]
    needed = np.array(table, dtype=np.intp)
    needed.flags.writeable = False
    return names, needed


def _useful_primitives(rates: Mapping[str, Floats], stream: Floats) -> dict[str, Floats]:
    """Return 1 where a primitive keeps up with memory well enough and 0 elsewhere, (N,) each."""
    found: dict[str, Floats] = {}
    for primitive, rate in rates.items():
        fast = rate > 0
        if primitive != "gemm":
            fast = fast & (rate * USEFUL_SLOWDOWN >= stream)
        found[primitive] = fast.astype(np.float64)
    return found
