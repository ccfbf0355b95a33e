import copy
import pickle

import numpy as np
import pytest
from pydantic import Field, PositiveFloat

from pentarch.errors import FieldError, MissingFigureError
from pentarch.hardware.device import Device
from pentarch.hardware.view import View


class Toy(Device):
    """A device with a field of every kind."""

    lanes: float = Field(default=8, ge=1, le=64)
    """Bounded."""
    kind: str = "toy"
    """Structure."""
    cap_w: PositiveFloat | None = None
    """May be unknown."""
    rates: dict[str, PositiveFloat] = {"fp8": 2}
    """By name."""


TOY = Toy(name="toy")


def test_numbers_are_columns_and_the_rest_is_plain() -> None:
    view = View(TOY, 3, {"lanes": np.array([1.0, 2.0, 3.0])})
    assert view.lanes.tolist() == [1, 2, 3]
    assert view.rates["fp8"].tolist() == [2, 2, 2]
    assert view.kind == "toy"
    assert view.cap_w is None
    assert (view.lanes * view.rates["fp8"]).tolist() == [2, 4, 6]


def test_what_is_unknown_in_the_template_may_be_swept() -> None:
    assert View(TOY, 2, {"cap_w": np.array([1.0, 2.0])}).known("cap_w").tolist() == [1, 2]


def test_what_is_needed_and_unknown_is_named_with_its_device() -> None:
    with pytest.raises(MissingFigureError, match="cap_w of device toy is unknown"):
        View(TOY).known("cap_w")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("kind", [1.0, 2.0], "device toy: kind: cannot be swept"),
        ("rates", [1.0, 2.0], "device toy: rates: cannot be swept"),
        ("wrong", [1.0, 2.0], "device toy: wrong: cannot be swept"),
        ("lanes", [1.0], r"lanes: has the shape \(1,\). Expected an array of shape \(2,\)"),
        ("lanes", [1.0, 65.0], r"lanes: design 1 has .*65.* Expected a number at most 64"),
        ("lanes", [float("nan"), 1.0], r"lanes: design 0 has .*nan"),
        ("cap_w", [1.0, 0.0], r"cap_w: design 1 has .*0"),
    ],
)
def test_a_wrong_sweep_is_an_error_that_says_where(
    name: str, values: list[float], message: str
) -> None:
    with pytest.raises(FieldError, match=message):
        View(TOY, 2, {name: np.array(values)})


def test_the_message_lists_what_can_be_swept() -> None:
    with pytest.raises(FieldError, match=r"one of .*lanes, cap_w"):
        View(TOY, 1, {"kind": np.ones(1)})


def test_a_batch_is_the_same_as_its_designs() -> None:
    batch = View(TOY, 2, {"lanes": np.array([4.0, 5.0])})
    for index in range(2):
        alone = View(TOY.replace(lanes=batch.lanes[index]))
        assert alone.lanes[0] == batch.lanes[index]


def test_unknown_attributes_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="wrong"):
        _ = View(TOY).wrong


def test_a_view_can_be_copied_and_pickled() -> None:
    view = View(TOY, 2, {"lanes": np.array([4.0, 5.0])})
    for other in (copy.copy(view), pickle.loads(pickle.dumps(view))):
        assert other.lanes.tolist() == [4, 5]
        assert other.kind == "toy"


def test_one_entry_of_a_mapping_may_be_swept_beside_the_others() -> None:
    view = View(TOY, 2, {"rates.bf16": np.array([3.0, 4.0])})
    assert view.rates["bf16"].tolist() == [3, 4]
    assert view.rates["fp8"].tolist() == [2, 2]
    with pytest.raises(FieldError, match=r"rates\.fp8: design 1 has .*0"):
        View(TOY, 2, {"rates.fp8": np.array([1.0, 0.0])})
    with pytest.raises(FieldError, match=r"lanes\.fp8: cannot be swept"):
        View(TOY, 2, {"lanes.fp8": np.array([1.0, 2.0])})
