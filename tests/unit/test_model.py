import copy
import math
import pickle
from collections.abc import Callable
from enum import Enum
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, ValidationError

from pentarch.errors import FieldError
from pentarch.model import DeferredModel, Model, load


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


class Listed(Enum):
    """One of two."""

    FIRST = "first"
    SECOND = "second"


class Wider(Outer):
    clock_hz: PositiveFloat = 2e9
    width: PositiveInt = Field(default=1, alias="broad")
    """Called otherwise in files."""
    kind: Listed = Listed.FIRST
    """One of two."""
    inner: Inner = Inner(lanes=1)
    """An inner part."""


class Native(BaseModel):
    """The same fields, described by pydantic itself: what `Model` has to equal."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="forbid", frozen=True)
    name: str
    """Name of the part."""
    clock_hz: PositiveFloat = 2e9
    parts: tuple[Inner, ...] = ()
    """What it is made of."""
    width: PositiveInt = Field(default=1, alias="broad")
    """Called otherwise in files."""
    kind: Listed = Listed.FIRST
    """One of two."""
    inner: Inner = Inner(lanes=1)
    """An inner part."""


@pytest.mark.parametrize("mode", ["validation", "serialization"])
def test_a_schema_is_the_one_that_pydantic_makes_of_the_same_strings(
    mode: Literal["validation", "serialization"],
) -> None:
    own, native = (model.model_json_schema(mode=mode) for model in (Wider, Native))
    assert own["properties"] == native["properties"]
    assert own["$defs"] == native["$defs"]


def test_fields_tell_their_descriptions_when_they_are_looked_at() -> None:
    described = {name: field.description for name, field in Wider.model_fields.items()}
    assert described == {name: field.description for name, field in Native.model_fields.items()}
    # Annotated anew without a string: what is inherited is another field.
    assert described["clock_hz"] is None
    assert Outer.model_fields["clock_hz"].description == "Clock of the part."


def test_a_model_without_a_source_has_no_descriptions() -> None:
    made: dict[str, Any] = {"Model": Model}
    exec("class Made(Model):\n    size: int\n    'A size.'\n", made)  # as in an interpreter
    assert made["Made"].model_fields["size"].description is None
    assert made["Made"](size=2).size == 2


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


class Deferring(DeferredModel):
    number: int
    """Known at once."""
    squares: tuple[int, ...] = ()
    """Found late."""
    text: str = ""
    """Found late."""


class Holder(Model):
    inner: Deferring
    """What is held."""


def deferring(calls: list[str] | None = None) -> Deferring:
    """Return a model whose fields note that they were computed."""

    def squares() -> tuple[int, ...]:
        (calls if calls is not None else []).append("squares")
        return (1, 4)

    return Deferring(number=2).defer(squares=squares, text=lambda: "two")


WHOLE = Deferring(number=2, squares=(1, 4), text="two")


def test_a_deferred_field_is_computed_once_when_it_is_asked_for() -> None:
    calls: list[str] = []
    model = deferring(calls)

    assert model.number == 2
    assert calls == []
    assert (model.squares, model.squares) == ((1, 4), (1, 4))
    assert calls == ["squares"]


@pytest.mark.parametrize(
    "seen",
    [
        lambda model: model,
        lambda model: model.model_copy(),
        lambda model: model.replace(),
        lambda model: copy.copy(model),
        lambda model: copy.deepcopy(model),
        lambda model: pickle.loads(pickle.dumps(model)),
        lambda model: Deferring(**dict(model)),
        lambda model: Deferring.model_validate(model.model_dump()),
        lambda model: Deferring.model_validate_json(model.model_dump_json()),
        lambda model: Deferring.model_validate(Holder(inner=model).model_dump()["inner"]),
        lambda model: model.complete(),
    ],
)
def test_a_model_with_deferred_fields_cannot_be_told_from_a_whole_one(
    seen: Callable[[Deferring], Deferring],
) -> None:
    assert seen(deferring()) == WHOLE
    assert repr(seen(deferring())) == repr(WHOLE)
    assert seen(deferring()).model_dump_json() == WHOLE.model_dump_json()


def test_fields_stand_in_their_order_whichever_was_asked_for_first() -> None:
    model = deferring()
    assert model.text == "two"
    assert list(model.model_dump()) == ["number", "squares", "text"]
    assert Holder(inner=deferring()).model_dump_json() == Holder(inner=WHOLE).model_dump_json()


def test_a_deferred_model_differs_where_its_fields_do() -> None:
    assert deferring() != Deferring(number=2, squares=(1, 5), text="two")
    assert deferring() != "two"
    with pytest.raises(AttributeError, match="cubes"):
        deferring().cubes  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(ValidationError):
        deferring().number = 3  # type: ignore[misc]  # frozen is the point


def test_deferring_leaves_the_original_as_it_is() -> None:
    plain = Deferring(number=3, text="three")
    assert plain.defer(text=lambda: "drei").text == "drei"
    assert plain.text == "three"
