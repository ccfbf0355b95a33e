"""The machine: what a back-end tells the engine about one design or a batch.

Three objects, one truth. `MachineTable` holds N designs as columns and is what the engine
computes on. `MachineRecord` is one design, a validated model for people and JSON; `table.record(i)`
makes one. `MachineStructure` is what is not a number; designs with equal structures can share a
batch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pentarch.errors import FieldError
from pentarch.hardware.columns import Columns, Derived, Floats
from pentarch.hardware.parts import (
    Area,
    Budget,
    Cost,
    Engine,
    EngineKind,
    Extra,
    Level,
    Link,
    Overhead,
    Power,
    Program,
    Scope,
)
from pentarch.model import Model


class Provenance(Model):
    """Where a figure comes from."""

    source: str
    """Citation, datasheet or formula; for an assumption, why it is plausible."""
    grade: str
    """`pub`, `est`, `meas`, `tool`, `der` or `asm` as in the technology library."""


@cache
def provenance(source: str, grade: str) -> Provenance:
    """Return a provenance; equal ones are one object, since every batch states the same."""
    return Provenance(source=source, grade=grade)


class MachineRecord(Model):
    """One machine, as people and JSON see it."""

    name: str
    """Device name."""
    backend: str
    """Back-end that described it."""
    levels: tuple[Level, ...] = Field(min_length=1)
    """Storage from the outermost (memory) to the innermost."""
    engines: tuple[Engine, ...] = Field(min_length=1)
    """Compute engines."""
    links: tuple[Link, ...] = ()
    """Connections to other devices."""
    overhead: Overhead = Overhead()
    """Fixed times."""
    power: Power = Power()
    """Static power, cap and supply."""
    area: Area | None = None
    """Silicon; `None` when unknown."""
    cost: Cost = Cost()
    """Bill of material and price."""
    program: Program | None = None
    """Programmability; `None` when unknown."""
    budget: Budget | None = None
    """Countable resources; `None` when there are none."""
    extra: Extra | None = None
    """Figures for the back-end's own overrides; `None` when there are none."""
    provenance: dict[str, Provenance] = {}
    """Source and grade of figures by field path."""


@dataclass(frozen=True, slots=True)
class MachineStructure:
    """What designs of one batch have in common besides their numbers; hashable."""

    parts: tuple[tuple[str, tuple[tuple[str, object], ...]], ...]
    """(part name, its structural fields and the names of its known numbers) in the order of the
    machine."""


class _Deriving:
    """An object that keeps what follows from it; no field, so that a changed copy starts anew."""

    __slots__ = ("_derived",)
    _derived: Derived

    @property
    def derived(self) -> Derived:
        """What follows from these designs alone, found when it is first asked for."""
        try:
            return self._derived
        except AttributeError:
            object.__setattr__(self, "_derived", Derived())
            return self._derived


@dataclass(frozen=True, slots=True, eq=False)
class MachineTable(_Deriving):
    """N machines of one structure; every number is a contiguous float64[N]."""

    name: str
    """Name of the template device, for messages."""
    backend: str
    """Back-end that described it."""
    length: int
    """Number of designs, N."""
    levels: tuple[Columns[Level], ...]
    """Storage from the outermost (memory) to the innermost."""
    engines: tuple[Columns[Engine], ...]
    """Compute engines."""
    links: tuple[Columns[Link], ...]
    """Connections to other devices."""
    overhead: Columns[Overhead]
    """Fixed times."""
    power: Columns[Power]
    """Static power, cap and supply."""
    area: Columns[Area] | None
    """Silicon; `None` when unknown."""
    cost: Columns[Cost]
    """Bill of material and price."""
    program: Columns[Program] | None
    """Programmability; `None` when unknown."""
    budget: Columns[Budget] | None
    """Countable resources; `None` when there are none."""
    provenance: dict[str, Provenance]
    """Source and grade of figures by field path."""
    extra: Columns[Extra] | None = None
    """Figures for the back-end's own overrides; `None` when there are none."""

    def parts(self) -> Iterator[tuple[str, Columns[Level] | Columns[Engine] | Columns[Link]
                                      | Columns[Overhead] | Columns[Power] | Columns[Area]
                                      | Columns[Cost] | Columns[Program] | Columns[Budget]
                                      | Columns[Extra]]]:  # fmt: skip
        """Yield every part with its path."""
        for kind, group in (
            ("levels", self.levels),
            ("engines", self.engines),
            ("links", self.links),
        ):
            for part in group:
                yield f"{kind}.{part.name}", part
        for name in ("overhead", "power", "area", "cost", "program", "budget", "extra"):
            part = getattr(self, name)
            if part is not None:
                yield name, part

    @property
    def structure(self) -> MachineStructure:
        """What is not a number, and which numbers are known."""
        return MachineStructure(tuple((path, _structure(part)) for path, part in self.parts()))

    def check(self) -> None:
        """Raise a `FieldError` when a number is not finite or out of bounds, or names clash."""
        for path, part in self.parts():
            if part.length != self.length:
                raise FieldError(
                    where=f"machine {self.name}", path=path, problem=f"has {part.length} designs",
                    expected=f"{self.length}",
                )  # fmt: skip
            part.check(f"machine {self.name} ({self.backend}), {path}")
        level_names = [level.name for level in self.levels]
        names = [part.name for group in (self.levels, self.engines, self.links) for part in group]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:  # times and energies go by these names
            raise FieldError(
                where=f"machine {self.name}", path="levels, engines, links",
                problem=f"names repeat: {', '.join(repeated)}",
                expected="a name of its own for every level, engine and link",
            )  # fmt: skip
        _check_scopes(self)
        for engine in self.engines:
            if engine.feeds_from not in level_names:
                raise FieldError(
                    where=f"machine {self.name}", path=f"engines.{engine.name}.feeds_from",
                    problem=f"there is no level {engine.feeds_from!r}",
                    expected="one of " + ", ".join(level_names),
                )  # fmt: skip

    def record(self, index: int) -> MachineRecord:
        """Return design `index` as a validated record."""
        return MachineRecord(
            name=self.name,
            backend=self.backend,
            levels=tuple(part.record(index) for part in self.levels),
            engines=tuple(part.record(index) for part in self.engines),
            links=tuple(part.record(index) for part in self.links),
            overhead=self.overhead.record(index),
            power=self.power.record(index),
            area=None if self.area is None else self.area.record(index),
            cost=self.cost.record(index),
            program=None if self.program is None else self.program.record(index),
            budget=None if self.budget is None else self.budget.record(index),
            extra=None if self.extra is None else self.extra.record(index),
            provenance=self.provenance,
        )

    def engines_of(self, kind: EngineKind) -> tuple[Columns[Engine], ...]:
        """Return the engines of one kind."""
        return tuple(engine for engine in self.engines if engine.kind is kind)

    def level_index(self, name: str) -> int:
        """Return the position of a level, outermost 0."""
        return [level.name for level in self.levels].index(name)


def _check_scopes(machine: MachineTable) -> None:
    """Raise a `FieldError` unless levels go from wide to narrow scopes, and links the other way."""
    widest_first = list(Scope)
    orders: tuple[tuple[str, tuple[Columns[Level] | Columns[Link], ...], str], ...] = (
        ("levels", machine.levels, "widest"),
        ("links", machine.links[::-1], "narrowest"),
    )
    for kind, parts, first in orders:
        for outer, inner in pairwise(parts):
            if widest_first.index(inner.scope) < widest_first.index(outer.scope):
                raise FieldError(
                    where=f"machine {machine.name}", path=f"{kind}.{inner.name}.scope",
                    problem=f"{inner.scope} is wider than {outer.scope} of {outer.name}",
                    expected=f"the {first} scope first: " + ", ".join(widest_first),
                )  # fmt: skip


def _structure(part: Columns[Any]) -> tuple[tuple[str, object], ...]:
    plain = tuple((key, _hashable(value)) for key, value in part.structure.items())
    known = tuple((key, "number") for key in part.numbers)
    groups = tuple((key, tuple(sorted(group))) for key, group in part.groups.items())
    return plain + known + groups


def _hashable(value: object) -> object:
    if isinstance(value, dict):
        return tuple(sorted((key, _hashable(entry)) for key, entry in value.items()))
    if isinstance(value, list):
        return tuple(_hashable(entry) for entry in value)
    return value


def peak_macs_per_s(machine: MachineTable, compute_format: str) -> Floats | None:
    """Return the dense MACs per second of one device in a format, or `None` without an engine for it.

    Returns:
        Shape (N,).
    """
    total: Floats | None = None
    for engine in machine.engines:
        rate = (
            engine.macs_per_cycle.get(compute_format)
            if engine.kind is not EngineKind.VECTOR
            else None
        )
        if rate is not None:
            value: npt.NDArray[np.float64] = rate * engine.units * engine.clock_hz
            total = value if total is None else total + value
    return total
