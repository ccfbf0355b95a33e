"""Markdown from pydantic models: tables of the fields that users write, and of the keys they read."""

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, BeforeValidator
from source_text import one_line

ELSEWHERE = frozenset({"Evaluation"})
"""Models that are described once, under the first command that prints one."""


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield path, type and meaning of every key of a model, nested ones after their parent."""
    for name, field in model.model_fields.items():
        inner, suffix = _nested(field.annotation)
        path = f"{prefix}{name}"
        see = ""
        if inner is not None and inner.__name__ in ELSEWHERE:
            inner, see = None, " Keys as those of `evaluate`."
        yield path + suffix, _type_text(field.annotation), one_line(field.description) + see
        if inner is not None:
            yield from keys(inner, f"{path}{suffix}.")


def _nested(annotation: Any) -> tuple[type[BaseModel] | None, str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, ""
    suffix = "[]" if get_origin(annotation) in (tuple, list) else ""
    for argument in get_args(annotation):
        found, inner = _nested(argument)
        if found is not None:
            return found, suffix + inner
    return None, suffix


def _type_text(annotation: Any) -> str:
    simple = {
        float: "number", int: "integer", str: "text", bool: "true or false", type(None): "null",
        Any: "any",
    }  # fmt: skip
    if annotation in simple:
        return simple[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (tuple, list, frozenset):
        return f"list of {_type_text(arguments[0])}"
    if origin is dict:
        return f"{_type_text(arguments[1])} by name"
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(f"`{value.value}`" for value in annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "object"
    if hasattr(annotation, "__metadata__"):
        return _type_text(arguments[0])
    return _either(_type_text(argument) for argument in arguments)


def field_table(model: type[BaseModel], *, without: type[BaseModel] | None = None) -> Iterator[str]:
    """Yield a table of the fields of a model.

    Args:
        model: What a file or a key of it holds.
        without: Base class whose fields are left out.
    """
    from pentarch.units import unit_of

    schema = model.model_json_schema(by_alias=True, mode="validation")
    required = set(schema.get("required", ()))
    inherited = set() if without is None else set(without.model_fields)
    yield "| field | type | unit | bounds | default | meaning |\n|---|---|---|---|---|---|"
    for name, field in model.model_fields.items():
        key = field.alias or name
        if name in inherited or (
            key == "name" and without is None and "kind" not in schema["properties"]
        ):
            continue
        entry = schema["properties"][key]
        default = (
            "required"
            if key in required
            else _default(field.get_default(call_default_factory=True))
        )
        kind = _schema_type(entry, schema.get("$defs", {})) + (
            " or text" if _takes_text(field) else ""
        )
        yield (
            f"| `{key}` | {kind} | {unit_of(name) or ''} | {_bounds(entry)} | {default} | "
            f"{one_line(field.description)} |"
        )


def _takes_text(one: Any) -> bool:
    metadata = [*getattr(one, "metadata", ()), *getattr(one, "__metadata__", ())]
    if any(
        isinstance(entry, BeforeValidator) and "quantity" in entry.func.__qualname__
        for entry in metadata
    ):
        return True
    return any(_takes_text(argument) for argument in get_args(getattr(one, "annotation", one)))


def _schema_type(entry: Mapping[str, Any], defined: Mapping[str, Any]) -> str:
    if "$ref" in entry:
        name = entry["$ref"].rsplit("/", 1)[-1]
        return _schema_type(defined[name], defined) if "enum" in defined[name] else name
    if "const" in entry:
        return f"`{entry['const']}`"
    if "enum" in entry:
        return ", ".join(f"`{value}`" for value in entry["enum"])
    choices = entry.get("anyOf") or entry.get("oneOf") or entry.get("allOf")
    if choices:
        kinds = [_schema_type(one, defined) for one in choices if one.get("type") != "null"]
        return _either(kinds)
    if "prefixItems" in entry:
        return "[" + ", ".join(_schema_type(one, defined) for one in entry["prefixItems"]) + "]"
    kind = entry.get("type")
    if kind == "array":
        return f"list of {_schema_type(entry.get('items', {}), defined)}"
    if kind == "object":
        return f"{_schema_type(entry.get('additionalProperties', {}), defined)} by name"
    names = {"string": "text", "boolean": "true or false"}
    kinds = kind if isinstance(kind, list) else [kind or "any"]
    return _either(names.get(one, one) for one in kinds)


def _either(kinds: Iterable[str]) -> str:
    """Join alternatives; a choice of all scalars is a value of any kind."""
    found = list(dict.fromkeys(kinds))
    scalars = {"true or false", "integer", "number", "text"}
    if {"true or false", "text"} <= set(found):
        found = ["any value", *(kind for kind in found if kind not in scalars)]
    return " or ".join(found)


def _bounds(entry: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    entries = [entry, *entry.get("anyOf", ())]
    found = [f"{sign} {one[key]:g}" for one in entries for key, sign in signs.items() if key in one]
    if any(one.get("minItems", 0) > 0 and "prefixItems" not in one for one in entries):
        found.append("not empty")
    return ", ".join(dict.fromkeys(found))


def _default(value: Any) -> str:
    if value is None:
        return "empty"
    if isinstance(value, BaseModel):
        return "its defaults"
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`" if value not in ("", (), {}, frozenset()) else "none"
