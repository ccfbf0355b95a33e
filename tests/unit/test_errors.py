import inspect

import pytest

from pentarch import errors
from pentarch.errors import (
    CostError,
    DuplicateNameError,
    FieldError,
    InputError,
    MissingFigureError,
    PentarchError,
    PluginError,
    RunLogError,
    UnknownNameError,
)


def test_every_error_is_in_the_tree_at_the_top_of_the_module() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if inspect.isclass(value) and issubclass(value, Exception)
    ]

    assert len(classes) >= 10
    for error in classes:
        assert issubclass(error, PentarchError)
        assert error.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("error", [InputError, PluginError, RunLogError, CostError])
def test_what_a_user_can_mend_exits_with_two(error: type[PentarchError]) -> None:
    assert error.exit_code == 2
    assert PentarchError.exit_code == 1


def test_an_unknown_name_suggests_lists_and_points_on() -> None:
    error = UnknownNameError(
        kind="partitioner", name="pipline", known={"tensor", "expert", "pipeline", "hybrid"}
    )

    assert str(error) == (
        "No partitioner is called 'pipline'. Did you mean 'pipeline'?\n"
        "Known: expert, hybrid, pipeline, tensor. See `pentarch list partitioners`."
    )


def test_case_alone_is_a_close_match() -> None:
    assert UnknownNameError(kind="device", name="H100_SXM", known=["h100_sxm"]).close == [
        "h100_sxm"
    ]


def test_long_lists_are_cut_and_counted() -> None:
    known = [f"name{index:02}" for index in range(15)]

    message = str(UnknownNameError(kind="space", name="?", known=known))

    assert "name11 and 3 more." in message
    assert "name12" not in message


def test_nothing_known_is_said() -> None:
    assert "no loaded plug-in provides one" in str(
        UnknownNameError(kind="space", name="box", known=[])
    )


def test_a_field_error_has_place_problem_and_what_is_expected() -> None:
    error = FieldError(
        where="box.yaml", path="search.chips.int[0]", problem="found -1", expected="at least 1"
    )

    assert str(error) == "box.yaml: search.chips.int[0]: found -1. Expected at least 1."
    assert str(FieldError(where="box.yaml", path="", problem="p", expected="e")).startswith(
        "box.yaml: p"
    )


def test_a_missing_figure_names_owner_and_supplier() -> None:
    message = str(MissingFigureError(figure="price_usd", owner="device x", supplier="its YAML"))

    assert message == "price_usd of device x is unknown. It can be supplied by its YAML."


def test_a_duplicate_name_says_how_to_go_on() -> None:
    message = str(DuplicateNameError(kind="metric", name="carbon", first="a", second="b"))

    assert "two plug-ins: a and b" in message
    assert "`--no-plugin b`" in message


def test_a_cost_error_names_operator_and_machine() -> None:
    error = CostError(figure="fixed_s", operator="qkv", machine="h100", value=float("nan"))

    assert "fixed_s of operator 'qkv' on machine 'h100' is nan" in str(error)
