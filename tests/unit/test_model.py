import math

import pytest
from pydantic import PositiveFloat, PositiveInt, ValidationError

from pentarch.errors import FieldError
from pentarch.model import Model, load


class Inner(Model):
    lanes: PositiveInt
    """Lanes of the inner part."""


class Outer(Model):
    name: str
    """Name of the part."""
    clock_hz: PositiveFloat = 1e9
    """Clock of the part."""
    parts: tuple[Inner, ...] = ()
    """What it is made of."""


def test_the_string_under_a_field_is_its_description() -> None:
    assert (
        Outer.model_json_schema()["properties"]["clock_hz"]["description"] == "Clock of the part."
    )


def test_data_is_frozen_and_closed() -> None:
    outer = Outer(name="a")

    with pytest.raises(ValidationError):
        outer.name = "b"  # type: ignore[misc]  # frozen is the point
    with pytest.raises(ValidationError):
        Outer(name="a", color="red")  # type: ignore[call-arg]  # unknown is the point


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_are_finite(value: float) -> None:
    with pytest.raises(ValidationError):
        Outer(name="a", clock_hz=value)


def test_replace_changes_a_copy_and_validates_again() -> None:
    outer = Outer(name="a", parts=(Inner(lanes=4),))

    faster = outer.replace(clock_hz=2e9)

    assert (faster.clock_hz, faster.parts, outer.clock_hz) == (2e9, outer.parts, 1e9)
    with pytest.raises(FieldError, match=r"Outer: clock_hz: found -1\. Expected greater than 0"):
        outer.replace(clock_hz=-1)
    with pytest.raises(FieldError, match="color: is not a known field"):
        outer.replace(color="red")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lane", "Expected 'lanes', or another of the fields that `pentarch schema` lists."),
        ("color", "Expected only the fields that `pentarch schema` lists."),
    ],
)
def test_a_misspelled_field_is_told_from_an_unknown_one(name: str, expected: str) -> None:
    with pytest.raises(FieldError) as raised:
        load(Inner, {"lanes": 1, name: 2}, where="box.yaml")
    assert str(raised.value) == f"box.yaml: {name}: is not a known field (value 2). {expected}"


def test_a_wrong_field_is_named_with_its_path_and_the_number_of_others() -> None:
    wrong = {"clock_hz": 0, "parts": [{"lanes": 1}, {"lanes": "many"}]}

    with pytest.raises(FieldError) as raised:
        load(Outer, wrong, where="box.yaml")

    assert (raised.value.where, raised.value.path) == ("box.yaml", "name")
    assert str(raised.value) == (
        "box.yaml: name: is missing. Expected a value (2 more: clock_hz, parts[1].lanes)."
    )


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(FieldError) as raised:
        load(Outer, {"name": ["x" * 500]}, where="box.yaml")
    assert len(str(raised.value)) < 200
