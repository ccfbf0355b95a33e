import json
from collections.abc import Callable
from typing import Any

import pytest

from pentarch.catalog import Library
from pentarch.cli.main import main
from pentarch.cli.schema import SchemaKind


@pytest.mark.parametrize("kind", [kind for kind in SchemaKind if kind is not SchemaKind.DEVICE])
def test_every_kind_has_a_schema_with_described_fields(
    kind: SchemaKind, fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", kind.value]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["type"] == "object"
    assert made["additionalProperties"] is False
    described = [
        name for name, field in made["properties"].items()
        if "description" in field or "$ref" in field  # a model, described where it is defined
    ]  # fmt: skip
    assert set(made["properties"]) - set(described) <= {"kind"}


def test_a_space_names_its_required_fields(pentarch_json: Callable[..., Any]) -> None:
    made = pentarch_json("schema", "space")
    assert set(made["required"]) == {"workload", "system", "search", "objectives"}


def test_a_device_has_the_fields_of_its_backend_and_its_stem_as_name(
    pentarch_json: Callable[..., Any],
) -> None:
    made = pentarch_json("schema", "device", "--backend", "fake")
    assert made["properties"]["backend"] == {"const": "fake"}
    assert made["required"] == ["kind", "backend"]
    # a quantity may be a number or a text with its unit
    kinds = {entry.get("type") for entry in made["properties"]["size_bytes"]["anyOf"]}
    assert kinds == {"number", "string"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["device"], "Known back-ends: fake"),
        (["space", "--backend", "fake"], "only a device has one"),
        (["device", "--backend", "fak"], "Did you mean 'fake'"),
        (["dog"], "'space'"),
    ],
)
def test_wrong_usage_says_what_is_right(
    arguments: list[str], said: str, fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", *arguments]) == 2
    assert said in capsys.readouterr().err
