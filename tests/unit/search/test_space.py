import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.results import Scalar
from pentarch.search.distributions import Choice, IntRange
from pentarch.search.enumeration import dependency_order, is_active, size
from pentarch.search.objectives import figure_names, resolve
from pentarch.search.space import (
    Space,
    known_strategy,
    read_space,
    space_from,
    space_schema,
)
from pentarch.targets import conditions

from .fakes import SPACE, make_space

SPACES = Path(__file__).parents[3] / "spaces" / "pentarch_spaces"


def searching(**search: Any) -> Space:
    return space_from({**SPACE, "search": search}, where="f.yaml")


def test_quantities_take_the_unit_of_their_path() -> None:
    space = searching(
        sram_bytes={"choice": ["8 MiB", 4096]},
        clock_hz={"float": ["500 MHz", "1.5 GHz"], "log": True},
        batch={"int": ["1e1", 20]},
        memory={"choice": ["8 MiB"]},
    )
    assert space.extremes() == {
        "sram_bytes": (8 * 2**20, 4096),
        "clock_hz": (5e8, 1.5e9),
        "batch": (10, 20),
        "memory": ("8 MiB",),  # a path without a unit holds names
    }


def test_size_of_the_made_up_box_is_what_counting_gives() -> None:
    # two memories without stacks and one with four counts, 16 chip counts, 3 buffers
    assert make_space().size == (2 + 4) * 16 * 3


def test_a_continuous_parameter_makes_the_space_uncountable() -> None:
    space = searching(clock_hz={"float": [1, 2]}, chips={"int": [1, 2]})
    assert space.size is None
    with pytest.raises(FieldError, match=r"search\.clock_hz: is continuous.*nsga2"):
        space.designs()


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"x": {"int": [5, 1]}}, r"f\.yaml: search\.x\.int: found \[5, 1\].*least value first"),
        ({"x": {"int": [1, "many"]}}, r"search\.x\.int\[1\]: found 'many'"),
        ({"x": {"int": [1, True]}}, r"search\.x\.int\[1\]: found True"),
        ({"x": {"int": [1, 2, 3]}}, r"search\.x\.int.*two bounds"),
        ({"x": {"int": [0, 4], "log": True}}, r"1 or more where log"),
        ({"x": {"int": [1, 10], "step": 4}}, r"for example 9"),
        ({"x": {"int": [1, 9], "step": 4, "log": True}}, r"either log or step"),
        ({"x": {"int": [1, 2], "stp": 1}}, r"search\.x\.stp: is not a known field"),
        ({"x": {"flot": [1, 2]}}, r"search\.x: .*one of choice, int or float"),
        ({"x": {"choice": [1], "int": [1, 2]}}, r"search\.x: .*one of choice, int or float"),
        ({"x": 3}, r"search\.x: found 3"),
        ({"x": {"choice": []}}, r"search\.x\.choice: found \[\]"),
        ({"x": {"choice": [1, 1]}}, r"search\.x\.choice.*1 is there twice"),
        ({"x": {"choice": [1, None]}}, r"search\.x\.choice\[1\]: found None"),
        ({"x": {"choice": [float("nan")]}}, r"search\.x\.choice\[0\]"),
        ({"x": {"float": [0, 1], "log": True}}, r"above 0 where log"),
        ({"x": {"float": [1, 1]}}, r"search\.x\.float"),
        ({"clock_hz": {"float": ["1 GB", 3]}}, r"search\.clock_hz\.float\[0\].*quantity in Hz"),
        ({"x": {"int": [1, 2], "when": {"y": 1}}}, r"search\.x\.when\.y: is no other parameter"),
        ({"x": {"int": [1, 2], "when": {"x": 1}}}, r"search\.x\.when\.x: is no other parameter"),
        ({"x": {"int": [1, 2], "when": 3}}, r"search\.x\.when: found 3"),
        (
            {"x": {"int": [1, 2], "when": {"y": []}}, "y": {"choice": [1]}},
            r"search\.x\.when\.y: is empty",
        ),
        (
            {"x": {"int": [1, 2], "when": {"y": [1, 7]}}, "y": {"choice": [1, 2]}},
            r"search\.x\.when\.y: y is never 7.*one of 1, 2",
        ),
        (
            {"x": {"int": [1, 2], "when": {"y": 4}}, "y": {"int": [1, 9], "step": 2}},
            r"y is never 4.*from 1 to 9 in steps of 2",
        ),
        (
            {"x": {"int": [1, 2], "when": {"y": 1.5}}, "y": {"float": [1, 2]}},
            r"search\.x\.when\.y: y is continuous",
        ),
        (
            {
                "x": {"choice": [1], "when": {"y": 1}},
                "y": {"choice": [1], "when": {"x": 1}},
                "z": {"choice": [1]},
            },
            r"conditions of x, y depend on each other in a circle",
        ),
        ({}, r"search: found \{\}"),
    ],
)
def test_a_wrong_distribution_names_file_path_and_what_is_right(
    search: dict[str, Any], message: str
) -> None:
    with pytest.raises(FieldError, match=message) as caught:
        space_from({**SPACE, "search": search}, where="f.yaml")
    assert caught.value.where == "f.yaml"


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"objectives": ["a b"]}, "objectives[0]"),
        ({"objectives": []}, "objectives"),
        ({"bogus": 1}, "bogus"),
        ({"query": {"prompt_tokens": 0}}, "query.prompt_tokens"),
        ({"sampler": {"strategy": "grid"}}, "sampler.strategy"),
        ({"targets": {"query_s": "2 W"}}, "targets.query_s"),
        ({"name": "../x"}, "name"),
        ({"workload": None}, "workload"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], path: str) -> None:
    with pytest.raises(FieldError) as caught:
        space_from({**SPACE, **change}, where="f.yaml")
    assert caught.value.path == path


def test_an_error_in_a_file_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "kind: space\nworkload: w\nsystem: s\nsearch:\n  chips: {int: [9, 1]}\n"
        "objectives: [query_j]\n"
    )
    with pytest.raises(FieldError, match=r"bad\.yaml, line 5: search\.chips\.int"):
        read_space(file)
    with pytest.raises(InputError, match="cannot be read"):
        read_space(tmp_path / "absent.yaml")


def test_a_space_survives_its_record() -> None:
    space = make_space(objectives=["query_j", "-mbu", {"minimize": "system_usd"}], degree=2)
    assert space_from(space.record(), where="log") == space


def test_objectives_have_the_usual_direction_unless_stated() -> None:
    space = make_space(
        objectives=["query_j", "throughput_tokens_per_s", "-query_s", {"minimize": "mfu.query"}]
    )
    directions = [objective.direction for objective in resolve(space.objectives, {})]
    assert directions == ["minimize", "maximize", "maximize", "minimize"]
    with pytest.raises(UnknownNameError, match="query_j"):
        resolve(make_space(objectives=["query_joule"]).objectives, {})


def test_every_judged_figure_can_be_an_objective() -> None:
    # programmability and update time are judged too; an update time is no figure to improve
    judged = {condition.figure for condition in conditions(make_space().targets)}
    assert judged <= figure_names()


def test_an_unknown_strategy_is_an_error_with_the_known_ones() -> None:
    assert known_strategy("tpe") == "tpe"
    assert known_strategy(None) is None
    with pytest.raises(UnknownNameError, match="exhaustive"):
        known_strategy("exhaustiv")


def test_the_schema_describes_every_field_and_kind_of_distribution() -> None:
    schema = space_schema()
    assert set(schema["properties"]) == set(Space.model_fields)
    assert {"workload", "system", "search", "objectives"} == set(schema["required"])
    kinds = {
        key
        for name in ("Choice", "IntRange", "FloatRange")
        for key in schema["$defs"][name]["required"]
    }
    assert kinds == {"choice", "int", "float"}
    assert all("description" in entry or "$ref" in entry for entry in schema["properties"].values())


def test_the_spaces_that_come_with_pentarch_are_valid() -> None:
    files = sorted(SPACES.glob("*.yaml"))
    assert files
    for file in files:
        space = read_space(file)
        assert space.name == file.stem
        assert space.about
        resolve(space.objectives, {})


@st.composite
def finite_searches(draw: st.DrawFn) -> dict[str, Choice | IntRange]:
    """Up to five parameters, each possibly under conditions on earlier ones, then shuffled."""
    search: dict[str, Choice | IntRange] = {}
    for index in range(draw(st.integers(1, 5))):
        when: dict[str, tuple[Scalar, ...]] = {}
        for parent in draw(st.sets(st.sampled_from(sorted(search)), max_size=2)) if search else ():
            values = list(search[parent].values())
            when[parent] = tuple(
                draw(st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True))
            )
        if draw(st.booleans()):
            names = ("a", "b", "c")[: draw(st.integers(1, 3))]
            search[f"p{index}"] = Choice(choice=names, when=when)
        else:
            step = draw(st.integers(1, 2))
            high = 1 + step * draw(st.integers(0, 2))
            search[f"p{index}"] = IntRange(int=(1, high), step=step, when=when)
    paths = draw(st.permutations(sorted(search)))
    return {path: search[path] for path in paths}


@given(search=finite_searches())
def test_enumeration_gives_each_design_once_and_the_size_counts_them(
    search: dict[str, Choice | IntRange],
) -> None:
    # by another route: all combinations of all values, inactive parameters struck out until
    # nothing changes, and equal remainders counted once
    expected = set()
    for values in itertools.product(*(list(entry.values()) for entry in search.values())):
        point = dict(zip(search, values, strict=True))
        while True:
            left = {path: value for path, value in point.items() if is_active(search[path], point)}
            if left == point:
                break
            point = left
        expected.add(frozenset(point.items()))
    space = make_space(search=search)
    found = [frozenset(point.items()) for point in space.designs()]
    assert len(found) == len(set(found)) == size(search)
    assert set(found) == expected


@given(search=finite_searches())
def test_parameters_come_after_what_they_depend_on(search: dict[str, Choice | IntRange]) -> None:
    order = dependency_order(search)
    assert sorted(order) == sorted(search)
    for path, distribution in search.items():
        assert all(order.index(parent) < order.index(path) for parent in distribution.when)
