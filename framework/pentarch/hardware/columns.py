"""Columns: one part of a machine for a batch of designs.

A part (`Level`, `Engine`, ...) is a pydantic model with scalar fields: that is what people read,
write and validate. `Columns` holds the same part for N designs: every number an own contiguous
float64[N] array, everything else one plain value shared by the batch. The models are the single
description; the checks of a batch use the constraints of their fields, vectorized.
"""

import math
import operator
import types
import typing
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache
from typing import Any, Generic, Self, TypeVar, cast, overload

import annotated_types
import numpy as np
import numpy.typing as npt
from pydantic.fields import FieldInfo

from pentarch.errors import FieldError
from pentarch.model import Model

FEW_DESIGNS = 16
"""Below so many designs one call for all rows is faster than one call per row; the sums are equal."""

Floats = npt.NDArray[np.float64]
P = TypeVar("P", bound=Model)
T = TypeVar("T")
Owner = TypeVar("Owner")

_MISSING = object()


class Derived:
    """Keeps what follows from one frozen object alone, for as long as the object lives.

    Threads may share one: what is kept is never changed, and making it twice does no harm.
    """

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[Hashable, object] = {}

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return what `make` returned when `what` was first asked for."""
        found = self._kept.get(what, _MISSING)
        if found is _MISSING:
            found = self._kept[what] = make()
        return cast(T, found)


class found_once(Generic[Owner, T]):  # noqa: N801  # a decorator, as `property` is
    """A property that is found when it is first asked for, and then an attribute of its own.

    As `functools.cached_property`, less the lock that it takes before Python 3.12, which costs more
    than most of what is found here. Finding a figure twice does no harm.

    Args:
        find: The method.
    """

    def __init__(self, find: Callable[[Owner], T]) -> None:
        self._find = find
        self.__doc__ = find.__doc__

    def __set_name__(self, owner: type[Owner], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type[Owner]) -> Self: ...

    @overload
    def __get__(self, instance: Owner, owner: type[Owner]) -> T: ...

    def __get__(self, instance: Owner | None, owner: type[Owner]) -> Self | T:
        if instance is None:
            return self
        found = instance.__dict__[self._name] = self._find(instance)
        return found


class FieldRole(Enum):
    """How a field of a part behaves in a batch."""

    NUMBER = auto()
    """One number per design."""
    NUMBERS = auto()
    """A mapping from a name to one number per design."""
    STRUCTURE = auto()
    """One value for the whole batch."""


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """What the batch checks need to know of a field."""

    role: FieldRole
    """Number, numbers by name, or structure."""
    optional: bool
    """Whether `None` (unknown or absent) is allowed."""
    has_default: bool
    """Whether it may be left out."""
    default: Any
    """The default, when there is one."""
    bounds: tuple[tuple[str, float], ...]
    """Bounds as (comparison, limit), for example (("gt", 0.0),)."""


@cache
def field_specs(model: type[Model]) -> Mapping[str, FieldSpec]:
    """Return the specification of every field of `model`."""
    return types.MappingProxyType(
        {name: _spec(info) for name, info in model.__pydantic_fields__.items()}
    )


def _spec(info: FieldInfo) -> FieldSpec:
    annotation, bounds, optional = info.annotation, _bounds(info.metadata), False
    inner = _unwrap(annotation)
    if type(None) in inner:
        optional = True
        inner = tuple(kind for kind in inner if kind is not type(None))
    role = FieldRole.STRUCTURE
    if len(inner) == 1:
        bare, extra = _strip(inner[0])
        bounds += extra
        if bare in (int, float):
            role = FieldRole.NUMBER
        elif typing.get_origin(bare) in (dict, Mapping):
            value, extra = _strip(typing.get_args(bare)[1])
            bounds += extra
            if value in (int, float):
                role = FieldRole.NUMBERS
    required = info.is_required()
    return FieldSpec(
        role=role, optional=optional, has_default=not required,
        default=None if required else info.get_default(call_default_factory=True), bounds=bounds,
    )  # fmt: skip


def _unwrap(annotation: Any) -> tuple[Any, ...]:
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _strip(annotation: Any) -> tuple[Any, tuple[tuple[str, float], ...]]:
    if typing.get_origin(annotation) is typing.Annotated:
        base, *metadata = typing.get_args(annotation)
        bare, extra = _strip(base)
        return bare, extra + _bounds(metadata)
    return annotation, ()


def _bounds(metadata: typing.Iterable[Any]) -> tuple[tuple[str, float], ...]:
    found: list[tuple[str, float]] = []
    for entry in metadata:
        if isinstance(entry, annotated_types.GroupedMetadata):
            found.extend(_bounds(iter(entry)))
        for kind, key in (
            (annotated_types.Gt, "gt"),
            (annotated_types.Ge, "ge"),
            (annotated_types.Lt, "lt"),
            (annotated_types.Le, "le"),
        ):
            if isinstance(entry, kind):
                found.append((key, float(getattr(entry, key))))
    return tuple(found)


_HOLDS = types.MappingProxyType(
    {
        "gt": (operator.gt, "greater than"),
        "ge": (operator.ge, "at least"),
        "lt": (operator.lt, "less than"),
        "le": (operator.le, "at most"),
    }
)


@dataclass(frozen=True, eq=False)
class Columns(Generic[P]):
    """One part of a machine for N designs; fields are attributes, as on the part itself."""

    model: type[P]
    """The part that this is a batch of."""
    length: int
    """Number of designs, N."""
    numbers: Mapping[str, Floats]
    """Float64[N] by field; a field that is absent or unknown has no entry."""
    groups: Mapping[str, Mapping[str, Floats]]
    """Float64[N] by field and name, for fields that map names to numbers."""
    structure: Mapping[str, Any]
    """Plain values by field."""

    def __post_init__(self) -> None:
        # Fields are read hundreds of times per batch: each is an attribute of its own.
        own = self.__dict__
        absent = dict.fromkeys(field_specs(self.model))
        values = {**absent, **self.groups, **self.structure, **self.numbers, **own}
        own.update(values)
        own["_derived"] = Derived()

    def __getattr__(self, name: str) -> Any:  # what is no field
        raise AttributeError(f"{self.model.__name__} has no field {name!r}")

    def once(self, what: Hashable, make: Callable[[], T]) -> T:
        """Return a figure that follows from this part alone; found when it is first asked for.

        Args:
            what: Which figure.
            make: Finds it; nobody may change what it returns.
        """
        kept: Derived = self._derived
        return kept.once(what, make)

    def check(self, where: str) -> None:
        """Raise a `FieldError` that names the first number that is not finite or out of bounds.

        Args:
            where: The machine and part, for the message.
        """
        specs = field_specs(self.model)
        named = [(name, name, values) for name, values in self.numbers.items()]
        for name, group in self.groups.items():
            named += [(f"{name}.{key}", name, values) for key, values in group.items()]
        if not named:
            return
        # One pass over all of them: each call costs more than a batch of one column.
        every = np.array([values for _, _, values in named])
        least, most = every.min(axis=1).tolist(), every.max(axis=1).tolist()
        for (path, name, values), low, high in zip(named, least, most, strict=True):
            if not _is_within(low, high, specs[name]):
                check_column(values, specs[name], where=where, path=path)

    def record(self, index: int) -> P:
        """Return design `index` as a validated part."""
        values: dict[str, Any] = dict(self.structure)
        specs = field_specs(self.model)
        for name, column in self.numbers.items():
            values[name] = _scalar(column[index], self.model.__pydantic_fields__[name])
        for name, group in self.groups.items():
            values[name] = {key: float(column[index]) for key, column in group.items()}
        for name, spec in specs.items():
            if name not in values and spec.optional:
                values[name] = None
        return self.model.model_validate(values)

    def take(self, indices: npt.NDArray[np.intp]) -> "Columns[P]":
        """Return the designs at `indices`, in that order."""
        return Columns(
            model=self.model,
            length=len(indices),
            numbers={name: column[indices] for name, column in self.numbers.items()},
            groups={
                name: {key: column[indices] for key, column in group.items()}
                for name, group in self.groups.items()
            },
            structure=self.structure,
        )


def _is_within(low: float, high: float, spec: FieldSpec) -> bool:
    """Return whether the least and the largest of some values are finite and within bounds."""
    if not (math.isfinite(low) and math.isfinite(high)):  # NaN is both
        return False
    for comparison, limit in spec.bounds:
        compare, _ = _HOLDS[comparison]
        if not (compare(low, limit) and compare(high, limit)):
            return False
    return True


def check_column(values: Floats, spec: FieldSpec, *, where: str, path: str) -> None:
    """Raise a `FieldError` that names the first value that is not finite or out of bounds.

    Args:
        values: Shape (N,).
        spec: The field's constraints.
        where: What the field belongs to, for the message.
        path: Field, for the message.
    """
    low = high = float(values[0])
    if len(values) > 1:
        low, high = float(values.min()), float(values.max())  # NaN passes through both
    if not (math.isfinite(low) and math.isfinite(high)):
        index = int(np.argmin(np.isfinite(values)))
        raise _out_of_bounds(values, index, "a finite number", where=where, path=path)
    for comparison, limit in spec.bounds:
        compare, words = _HOLDS[comparison]
        if not (compare(low, limit) and compare(high, limit)):
            index = int(np.argmin(compare(values, limit)))
            raise _out_of_bounds(
                values, index, f"a number {words} {limit:g}", where=where, path=path
            )


def _out_of_bounds(
    values: Floats, index: int, expected: str, *, where: str, path: str
) -> FieldError:
    return FieldError(
        where=where,
        path=path,
        problem=f"design {index} has {float(values[index])!r}",
        expected=expected,
    )


def _scalar(value: np.float64, info: FieldInfo) -> float | int:
    number = float(value)
    return int(number) if int in _unwrap(info.annotation) and number.is_integer() else number


def _contiguous(value: Any, length: int, *, where: str, path: str) -> Floats:
    array = np.asarray(value, dtype=np.float64)
    if array.ndim == 0:
        return filled(length, array)
    if array.shape != (length,):
        raise FieldError(
            where=where, path=path, problem=f"has the shape {array.shape}",
            expected=f"a number or an array of shape ({length},)",
        )  # fmt: skip
    return np.ascontiguousarray(array)


def filled(length: int, value: "npt.ArrayLike") -> Floats:
    """Return a number that all designs share, shape (N,)."""
    found = np.empty(length)
    found.fill(value)
    return found


def columns(model: type[P], length: int, **fields: Any) -> Columns[P]:
    """Return a part of N designs from plain values, numbers and float64[N] arrays.

    Args:
        model: The part, for example `Level`.
        length: Number of designs, N.
        **fields: As the fields of the part; a number may be a scalar or an array of shape (N,).

    Raises:
        FieldError: A field is unknown, missing, or an array has another shape. Values are
            checked later, by `Columns.check`.
    """
    specs = field_specs(model)
    where = model.__name__ + (f" {fields['name']}" if "name" in fields else "")
    for name in fields:
        if name not in specs:
            raise FieldError(
                where=where, path=name, problem="is not a field of this part",
                expected="one of " + ", ".join(specs),
            )  # fmt: skip
    numbers: dict[str, Floats] = {}
    groups: dict[str, Mapping[str, Floats]] = {}
    structure: dict[str, Any] = {}
    for name, spec in specs.items():
        if name not in fields and not spec.has_default:
            raise FieldError(where=where, path=name, problem="is missing", expected="a value")
        value = fields.get(name, spec.default)
        if spec.role is FieldRole.STRUCTURE:
            structure[name] = value
        elif value is None:
            if not spec.optional:
                raise FieldError(where=where, path=name, problem="is None", expected="a number")
        elif spec.role is FieldRole.NUMBER:
            numbers[name] = _contiguous(value, length, where=where, path=name)
        else:
            groups[name] = {
                key: _contiguous(entry, length, where=where, path=f"{name}.{key}")
                for key, entry in value.items()
            }
    return Columns(model=model, length=length, numbers=numbers, groups=groups, structure=structure)


def sum_rows(rows: "npt.ArrayLike") -> Floats:
    """Return the sum over the first axis, added in order whatever the number of designs.

    `numpy.sum` groups its terms by the memory layout: a batch of one would differ from a larger one
    in the last bit.

    Args:
        rows: Shape (R, N), or a sequence of R arrays of shape (N,); R may be 0 for an array.

    Returns:
        Shape (N,).
    """
    array = np.asarray(rows, dtype=np.float64)
    if not len(array):
        return np.zeros(array.shape[1:])
    total: Floats
    if array.size < len(array) * FEW_DESIGNS:
        total = np.add.accumulate(array, axis=0)[-1]
        return total
    total = array[0].copy()
    for row in array[1:]:
        total += row
    return total
