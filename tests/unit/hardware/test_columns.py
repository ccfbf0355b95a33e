import math
from typing import Any

import numpy as np
import pytest
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from pentarch.errors import FieldError
from pentarch.hardware.columns import Derived, FieldRole, columns, field_specs, filled, found_once
from pentarch.hardware.parts import Engine, EngineKind, Level, Scope
from pentarch.model import Model


class Part(Model):
    """One of every kind of field."""

    name: str
    """Plain."""
    size: PositiveFloat
    """Bounded below."""
    share: float = Field(default=0.5, ge=0, le=1)
    """Bounded on both sides."""
    count: PositiveInt = 3
    """Whole."""
    limit: PositiveFloat | None = None
    """May be unknown."""
    several: PositiveInt | None = None
    """Whole, may be unknown."""
    rates: dict[str, PositiveFloat] = {}
    """By name."""
    energies: dict[str, float] | None = None
    """By name, may be unknown."""
    tiles: tuple[int, ...] = ()
    """Plain, though made of numbers."""


def part(length: int = 2, **fields: Any) -> Any:
    return columns(Part, length, **{"name": "p", "size": 1.0, **fields})


def test_fields_are_numbers_by_annotation_whatever_their_bounds() -> None:
    roles = {name: spec.role for name, spec in field_specs(Part).items()}
    numbers = {"size", "share", "count", "limit", "several"}
    assert {name for name, role in roles.items() if role is FieldRole.NUMBER} == numbers
    groups = {name for name, role in roles.items() if role is FieldRole.NUMBERS}
    assert groups == {"rates", "energies"}
    assert field_specs(Part)["limit"].bounds == (("gt", 0.0),)
    assert field_specs(Part)["share"].bounds == (("ge", 0.0), ("le", 1.0))


def test_a_scalar_fills_the_batch_and_an_array_is_kept() -> None:
    made = part(size=np.array([1.0, 2.0]), share=0.25)
    assert made.size.tolist() == [1, 2]
    assert made.share.tolist() == [0.25, 0.25]
    assert made.count.tolist() == [3, 3]
    assert made.name == "p"
    assert all(made.numbers[name].flags.c_contiguous for name in made.numbers)


def test_a_strided_array_becomes_contiguous() -> None:
    made = part(size=np.arange(1.0, 5.0)[::2])
    assert made.size.flags.c_contiguous
    assert made.size.tolist() == [1, 3]


def test_unknown_is_none_and_not_zero() -> None:
    made = part()
    assert (made.limit, made.energies) == (None, None)
    assert part(limit=None).limit is None
    with pytest.raises(AttributeError, match="Part has no field 'wrong'"):
        _ = made.wrong


@pytest.mark.parametrize(
    ("fields", "path", "problem"),
    [
        ({"wrong": 1}, "wrong", "is not a field of this part"),
        ({"size": None}, "size", "is None"),
        ({"size": np.ones(3)}, "size", r"has the shape \(3,\)"),
        ({"size": np.ones((2, 1))}, "size", r"has the shape \(2, 1\)"),
        ({"rates": {"a": np.ones(1)}}, "rates.a", r"has the shape \(1,\)"),
    ],
)
def test_wrong_fields_are_named_with_the_part(
    fields: dict[str, Any], path: str, problem: str
) -> None:
    with pytest.raises(FieldError, match=f"Part p: {path}: {problem}"):
        part(**fields)


def test_a_missing_field_is_named() -> None:
    with pytest.raises(FieldError, match="Part p: size: is missing"):
        columns(Part, 1, name="p")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"size": np.array([1.0, 0.0])},
            r"size: design 1 has .*0\.0.* Expected a number greater than 0",
        ),
        (
            {"share": np.array([1.5, 0.5])},
            r"share: design 0 has .*1\.5.* Expected a number at most 1",
        ),
        ({"size": np.array([1.0, math.nan])}, r"size: design 1 has .*nan"),
        (
            {"size": np.array([math.inf, 1.0])},
            r"size: design 0 has .*inf.* Expected a finite number",
        ),
        ({"limit": -1.0}, r"limit: design 0 has .*-1\.0"),
        ({"rates": {"a": 1.0, "b": np.array([1.0, -2.0])}}, r"rates\.b: design 1 has .*-2\.0"),
    ],
)
def test_check_names_the_first_design_out_of_bounds(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=r"here: " + message):
        part(**fields).check("here")


def test_bounds_that_hold_pass() -> None:
    part(share=np.array([0.0, 1.0]), size=1e-300).check("here")


def test_a_record_is_the_part_that_was_put_in() -> None:
    first = Part(
        name="p", size=2, share=1, count=7, limit=3, several=4, rates={"a": 5}, tiles=(1, 2)
    )
    second = first.replace(size=9, count=8)
    made = columns(
        Part, 2, name="p", size=np.array([2.0, 9.0]), share=1.0, count=np.array([7.0, 8.0]),
        limit=3.0, several=4.0, rates={"a": 5.0}, tiles=(1, 2),
    )  # fmt: skip
    assert (made.record(0), made.record(1)) == (first, second)
    assert isinstance(made.record(0).count, int)
    assert part().record(1).limit is None


def test_a_record_refuses_part_of_a_whole() -> None:
    with pytest.raises(ValidationError, match="count"):
        part(count=2.5).record(0)


def test_take_picks_designs_in_the_order_asked() -> None:
    made = part(3, size=np.array([1.0, 2.0, 3.0]), rates={"a": np.array([4.0, 5.0, 6.0])})
    few = made.take(np.array([2, 0]))
    assert (few.length, few.size.tolist(), few.rates["a"].tolist()) == (2, [3, 1], [6, 4])
    assert few.record(0) == made.record(2)


def test_the_models_own_constraints_and_the_batch_checks_agree() -> None:
    # The scalar model is the judge: each value is refused by both or by neither.
    values = (-1.0, 0.0, 0.5, 1.0, 1.5)
    for model, base in (
        (Level, {"name": "l", "scope": Scope.DIE, "size_bytes": 1.0, "read_bytes_per_s": 1.0}),
        (
            Engine,
            {
                "name": "e",
                "kind": EngineKind.MATRIX,
                "feeds_from": "l",
                "units": 1.0,
                "clock_hz": 1.0,
            },
        ),
    ):
        for name, spec in field_specs(model).items():
            if spec.role is not FieldRole.NUMBER:
                continue
            for value in values:
                fields = {**base, name: value}
                try:
                    model(**fields)
                    is_right = True
                except ValidationError:
                    is_right = False
                try:
                    columns(model, 1, **fields).check("x")
                    passes = True
                except FieldError:
                    passes = False
                assert passes == is_right, (model, name, value)


def test_what_follows_from_a_part_is_found_once_and_not_taken_along() -> None:
    part, calls = columns(Part, 2, name="p", size=np.array([1.0, 2.0])), []

    def double() -> Any:
        calls.append(1)
        return part.size * 2.0

    assert part.once("double", double) is part.once("double", double)
    assert part.once("other", lambda: None) is None
    assert part.once("other", lambda: 1) is None
    assert len(calls) == 1
    taken = part.take(np.array([1]))
    assert taken.once("double", lambda: taken.size * 2.0).tolist() == [4.0]


def test_derived_figures_of_two_objects_are_apart() -> None:
    first, second = Derived(), Derived()
    assert (first.once("x", lambda: 1), second.once("x", lambda: 2)) == (1, 2)


def test_a_property_is_found_once_and_can_be_set_before() -> None:
    class Owner:
        found = 0

        @found_once
        def figure(self) -> int:
            """Return a figure."""
            self.found += 1
            return 7

    owner, given = Owner(), Owner()
    given.__dict__["figure"] = 8
    assert (owner.figure, owner.figure, owner.found, given.figure) == (7, 7, 1, 8)
    assert Owner.figure.__doc__ == "Return a figure."


def test_a_number_that_all_designs_share_is_an_array_of_its_own() -> None:
    first, second = filled(3, 2.5), filled(3, 2.5)
    first[0] = 0.0
    assert second.tolist() == [2.5, 2.5, 2.5]
