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
    return machine.derived.once("programmability", lambda: _score(machine))


def _score(machine: MachineTable) -> Floats | None:
    program = machine.program
    if program is None:
        return None
    if program.needs_new_silicon:
        return np.zeros(machine.length)
    stream = level_bandwidth(machine.levels[0]) / VALUE_BYTES
    named, needed, years = _needed_primitives()
    fast, made = _useful_primitives(program.primitives, named, stream), program.tape_out_year
    if machine.length > 1 and _is_uniform(fast) and (made is None or (made == made[0]).all()):
        one = _share(
            fast[:, :1].astype(np.float64), needed, years, None if made is None else made[:1]
        )
        return np.repeat(one, machine.length)
    return _share(fast.astype(np.float64), needed, years, made)


def _is_uniform(values: npt.NDArray[np.bool_]) -> bool:
    """Return whether each row of (P, N) has one value."""
    return bool((values == values[:, :1]).all())


def _share(
    rates: Floats, needed: npt.NDArray[np.intp], years: Floats, made: Floats | None
) -> Floats:
    """Return the share of operators that run, (N,).

    Args:
        rates: 1 where a primitive keeps up and 0 elsewhere, (P, N).
        needed: Primitives of each operator, (R, positions).
        years: Of each operator, (R,).
        made: Tape-out year of each design, (N,); `None` where it is unknown.
    """
    runs = rates[needed[:, 0]]
    for position in range(1, needed.shape[1]):
        np.minimum(runs, rates[needed[:, position]], out=runs)
    everything = sum_rows(runs) / len(runs)
    if made is None:
        return everything
    result = everything
    for year in made if len(made) == 1 else np.unique(made):
        later = runs[years > year]
        if len(later) >= FEWEST:
            result = np.where(made == year, sum_rows(later) / len(later), result)
    return result


@cache
def _needed_primitives() -> tuple[tuple[str, ...], npt.NDArray[np.intp], Floats]:
    """Return the primitives that occur, those of each operator by position, padded, and its year.

    Returns:
        P names, and arrays of shape (R, positions) and (R,).
    """
    entries = reference_operators()
    names = tuple(dict.fromkeys(name for entry in entries for name in entry.primitives))
    most = max(len(entry.primitives) for entry in entries)
    table = [
        [names.index(name) for name in entry.primitives]
        + [names.index(entry.primitives[0])] * (most - len(entry.primitives))
        for entry in entries
    ]
    needed = np.array(table, dtype=np.intp)
    years = np.array([entry.year for entry in entries], dtype=np.float64)
    needed.flags.writeable = years.flags.writeable = False
    return names, needed, years


def _useful_primitives(
    rates: Mapping[str, Floats], named: tuple[str, ...], stream: Floats
) -> npt.NDArray[np.bool_]:
    """Return where a primitive keeps up with memory well enough, (P, N).

    Args:
        rates: Values per second by primitive, (N,) each.
        named: The primitives, P of them.
        stream: Values per second that memory delivers, (N,).
    """
    absent = np.zeros(stream.shape)
    found = np.array([rates.get(primitive, absent) for primitive in named])
    fast: npt.NDArray[np.bool_] = (found > 0) & (found * USEFUL_SLOWDOWN >= stream)
    if "gemm" in named:  # its own roofline
        fast[named.index("gemm")] = found[named.index("gemm")] > 0
    return fast
