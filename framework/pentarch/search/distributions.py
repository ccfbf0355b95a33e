"""Distributions: the values that one design parameter of a space can take."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from pentarch.errors import FieldError, InputError
from pentarch.model import Model, field_error
from pentarch.results import Scalar
from pentarch.units import parse, unit_of

KINDS = ("choice", "int", "float")

_QUANTITY_SCHEMA = {"anyOf": [{"type": "number"}, {"type": "string"}]}
_Integer = Annotated[int, WithJsonSchema(_QUANTITY_SCHEMA)]
_Float = Annotated[float, WithJsonSchema(_QUANTITY_SCHEMA)]
_Values = Annotated[
    tuple[Scalar, ...],
    WithJsonSchema(
        {
            "anyOf": [
                {"type": ["boolean", "number", "string"]},
                {
                    "type": "array",
                    "items": {"type": ["boolean", "number", "string"]},
                    "minItems": 1,
                },
            ]
        }
    ),
]


class _Conditional(Model):
    model_config = ConfigDict(
        validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    when: dict[str, _Values] = Field(default_factory=dict)
    """Other parameters and the values at least one of which each must have; without them the
    parameter does not exist in a design."""


class Choice(_Conditional):
    """One of several values."""

    choice: tuple[Scalar, ...] = Field(min_length=1)
    """The values; numbers may be written with a unit, for example `"8 MiB"`."""

    @field_validator("choice")
    @classmethod
    def _distinct(cls, values: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        twice = [value for index, value in enumerate(values) if value in values[:index]]
        if twice:
            raise ValueError(f"different values ({twice[0]!r} is there twice)")
        return values

    @property
    def cardinality(self) -> int:
        """Number of values."""
        return len(self.choice)

    def values(self) -> Iterator[Scalar]:
        """Yield every value in order."""
        yield from self.choice

    def allows(self, value: Scalar) -> bool:
        """Return whether the parameter can have `value`."""
        return any(
            value == entry and isinstance(value, str) == isinstance(entry, str)
            for entry in self.choice
        )


class IntRange(_Conditional):
    """Whole numbers between two bounds, both included."""

    bounds: tuple[_Integer, _Integer] = Field(alias="int")
    """Least and greatest value; may be written with a unit."""
    log: bool = False
    """Whether the sampler draws evenly in the logarithm."""
    step: int = Field(default=1, ge=1)
    """Distance between neighbors, counted from the least value."""

    @field_validator("bounds")
    @classmethod
    def _ordered(cls, bounds: tuple[int, int]) -> tuple[int, int]:
        if bounds[0] > bounds[1]:
            raise ValueError("the least value first and the greatest second")
        return bounds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        low, high = self.bounds
        if self.log and low < 1:
            raise ValueError("a least value of 1 or more where log is true")
        if self.log and self.step != 1:
            raise ValueError("either log or step: with log every whole number is possible")
        if (high - low) % self.step:
            nearest = low + (high - low) // self.step * self.step
            raise ValueError(
                f"a greatest value that steps of {self.step} reach, for example {nearest}"
            )
        return self

    @property
    def cardinality(self) -> int:
        """Number of values."""
        return (self.bounds[1] - self.bounds[0]) // self.step + 1

    def values(self) -> Iterator[Scalar]:
        """Yield every value in ascending order."""
        yield from range(self.bounds[0], self.bounds[1] + 1, self.step)

    def allows(self, value: Scalar) -> bool:
        """Return whether the parameter can have `value`."""
        if isinstance(value, str | bool) or value != int(value):
            return False
        low, high = self.bounds
        return low <= value <= high and (int(value) - low) % self.step == 0


class FloatRange(_Conditional):
    """Any number between two bounds."""

    bounds: tuple[_Float, _Float] = Field(alias="float")
    """Least and greatest value; may be written with a unit."""
    log: bool = False
    """Whether the sampler draws evenly in the logarithm."""

    @field_validator("bounds")
    @classmethod
    def _ordered(cls, bounds: tuple[float, float]) -> tuple[float, float]:
        if bounds[0] >= bounds[1]:
            raise ValueError("the least value first and a greater one second")
        return bounds

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.log and self.bounds[0] <= 0:
            raise ValueError("a least value above 0 where log is true")
        return self

    def allows(self, value: Scalar) -> bool:
        """Return whether the parameter can have `value`."""
        return not isinstance(value, str | bool) and self.bounds[0] <= value <= self.bounds[1]


Distribution = Choice | IntRange | FloatRange
"""Values that a parameter can take."""

_MODELS: Mapping[str, type[Choice] | type[IntRange] | type[FloatRange]] = {
    "choice": Choice, "int": IntRange, "float": FloatRange,
}  # fmt: skip


def parse_distribution(path: str, raw: object, *, where: str) -> Distribution:
    """Return the distribution of one parameter as YAML states it.

    Args:
        path: Path of the parameter; its suffix states the unit of texts such as `"8 MiB"`.
        raw: What stands under the path.
        where: File that it comes from, for errors.

    Raises:
        FieldError: It is no distribution.
    """
    at = f"search.{path}"
    if isinstance(raw, Choice | IntRange | FloatRange):
        return raw
    found = [kind for kind in KINDS if isinstance(raw, Mapping) and kind in raw]
    if not isinstance(raw, Mapping) or len(found) != 1:
        raise FieldError(
            where=where, path=at, problem=f"found {raw!r}",
            expected="one of choice, int or float, for example {int: [1, 16], log: true}",
        )  # fmt: skip
    kind = found[0]
    values: dict[str, Any] = dict(raw)
    values[kind] = _entries(path, raw[kind], at=f"{at}.{kind}", where=where)
    if kind != "choice" and len(values[kind]) != 2:
        raise FieldError(
            where=where, path=f"{at}.{kind}", problem=f"found {raw[kind]!r}",
            expected="two bounds, [least, greatest]",
        )  # fmt: skip
    if kind != "choice":
        _reject_booleans(values[kind], raw[kind], at=f"{at}.{kind}", where=where)
    if "when" in values:
        values["when"] = _conditions(raw["when"], at=f"{at}.when", where=where)
    try:
        return _MODELS[kind].model_validate(values)
    except ValidationError as error:
        inner = field_error(error, where=where)
        inner_path = f"{at}.{inner.path}" if inner.path else at
        raise FieldError(
            where=where, path=inner_path, problem=inner.problem, expected=inner.expected
        ) from None


def _reject_booleans(entries: list[Any], raw: Any, *, at: str, where: str) -> None:
    for index, entry in enumerate(entries):
        if isinstance(entry, bool):
            raise FieldError(
                where=where,
                path=f"{at}[{index}]",
                problem=f"found {raw[index]!r}",
                expected="a number",
            )


def _entries(path: str, raw: object, *, at: str, where: str) -> list[Any]:
    if not isinstance(raw, list | tuple) or not raw:
        raise FieldError(
            where=where,
            path=at,
            problem=f"found {raw!r}",
            expected="a list of values, for example [1, 2]",
        )
    for index, entry in enumerate(raw):
        if not isinstance(entry, bool | int | float | str):
            raise FieldError(
                where=where, path=f"{at}[{index}]", problem=f"found {entry!r}",
                expected="a number, a text or a truth value",
            )  # fmt: skip
    return [
        _number(path, entry, at=f"{at}[{index}]", where=where) for index, entry in enumerate(raw)
    ]


def _number(path: str, entry: Any, *, at: str, where: str) -> Any:
    unit = unit_of(path.rsplit(".", 1)[-1])
    if not isinstance(entry, str):
        return entry
    if unit is None:
        try:
            value = float(entry)
        except ValueError:
            return entry
    else:
        try:
            value = parse(entry, unit)
        except InputError as error:
            raise FieldError(
                where=where,
                path=at,
                problem=str(error).rstrip("."),
                expected=f"a quantity in {unit}",
            ) from None
    return int(value) if value.is_integer() and abs(value) < 2**53 else value


def _conditions(raw: object, *, at: str, where: str) -> dict[str, list[Any]]:
    if not isinstance(raw, Mapping):
        raise FieldError(
            where=where, path=at, problem=f"found {raw!r}",
            expected="other parameters and their values, for example {memory: hbm3e}",
        )  # fmt: skip
    conditions: dict[str, list[Any]] = {}
    for parent, wanted in raw.items():
        entries = wanted if isinstance(wanted, list | tuple) else [wanted]
        if not entries:
            raise FieldError(
                where=where,
                path=f"{at}.{parent}",
                problem="is empty",
                expected="at least one value",
            )
        conditions[str(parent)] = [
            _number(str(parent), entry, at=f"{at}.{parent}", where=where) for entry in entries
        ]
    return conditions
