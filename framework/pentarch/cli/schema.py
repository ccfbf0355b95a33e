"""`pentarch schema`: what a YAML file may hold, as JSON schema."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from pentarch.cli.output import JsonFlag, library, print_json
from pentarch.errors import InputError

_TEXT = {"type": "string", "description": "A number with its unit."}


class SchemaKind(StrEnum):
    """What a YAML file can describe."""

    SPACE = "space"
    DEVICE = "device"
    SYSTEM = "system"
    RUNTIME = "runtime"
    WORKLOAD = "workload"
    TARGETS = "targets"


def schema(
    kind: Annotated[SchemaKind, typer.Argument(help="What the file describes.")],
    backend: Annotated[
        str | None, typer.Option(help="Back-end of a device, for example soc.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the JSON schema of a YAML file."""
    if (backend is not None) != (kind is SchemaKind.DEVICE):
        known = ", ".join(sorted(library().registry.backends))
        raise InputError(
            f"A device has the fields of its back-end, and only a device has one: "
            f"`pentarch schema device --backend NAME`. Known back-ends: {known}."
        )
    print_json(schema_of(kind, backend))


def schema_of(kind: SchemaKind, backend: str | None = None) -> dict[str, Any]:
    """Return the JSON schema of the YAML files of a kind.

    Args:
        kind: What the files describe.
        backend: Back-end of a device.

    Raises:
        UnknownNameError: There is no such back-end.
    """
    if kind is SchemaKind.SPACE:
        from pentarch.search.space import space_schema

        return space_schema()
    if kind is SchemaKind.DEVICE:
        registry = library().registry
        found = registry.find(registry.backends, kind="backend", name=backend or "")
        return _with_header(_of_yaml(found.device_model), {"kind": "device", "backend": found.name})
    if kind is SchemaKind.SYSTEM:
        from pentarch.hardware.system import System

        return _with_header(_of_yaml(System), {"kind": "system"})
    if kind is SchemaKind.RUNTIME:
        from pentarch.hardware.runtime import Runtime

        return _with_header(_of_yaml(Runtime), {"kind": "runtime"})
    if kind is SchemaKind.WORKLOAD:
        from pentarch.workload.importing import WorkloadEntry

        return _of_yaml(WorkloadEntry)
    from pentarch.targets import Targets

    return _of_yaml(Targets)


def _of_yaml(model: Any) -> dict[str, Any]:
    """Return the schema of a model as its YAML file is read: numbers may carry their unit."""
    from pentarch.units import unit_of

    made = model.model_json_schema(mode="validation")
    for name, field in made["properties"].items():
        if unit_of(name) is not None:
            _allow_text(field)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def _allow_text(field: dict[str, Any]) -> None:
    if "anyOf" in field:
        field["anyOf"].append(dict(_TEXT))
    elif field.get("type") in ("number", "integer"):
        constraints = {
            key: field.pop(key)
            for key in ("type", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
            if key in field
        }
        field["anyOf"] = [constraints, dict(_TEXT)]
    elif isinstance(field.get("additionalProperties"), dict):
        _allow_text(field["additionalProperties"])


def _with_header(made: dict[str, Any], header: dict[str, str]) -> dict[str, Any]:
    """Add the fields that say what the file is; its stem is the name, so none is required."""
    fields = {key: {"const": value} for key, value in header.items()}
    required = [name for name in made.get("required", []) if name != "name"]
    return made | {
        "properties": {**fields, **made["properties"]},
        "required": [*header, *required],
    }
