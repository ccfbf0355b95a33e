"""From the fields of a YAML file to a model: quantities may be text with a unit."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pentarch.errors import FieldError, InputError

if TYPE_CHECKING:
    from pentarch.model import Model

M = TypeVar("M", bound="Model")


def read_model(model: type[M], values: Mapping[str, Any], *, where: str) -> M:
    """Return the model that a YAML mapping describes; quantities may be text with a unit.

    Args:
        model: The model class; the suffix of a number's name states its unit.
        values: The mapping; its `kind` is dropped.
        where: The file, for errors.

    Raises:
        FieldError: A field is missing, unknown or has a wrong value or unit.
    """
    from pentarch.hardware.columns import FieldRole, field_specs
    from pentarch.model import load

    specs = field_specs(model)
    parsed: dict[str, Any] = {}
    for name, value in values.items():
        if name == "kind":
            continue
        role = specs[name].role if name in specs else FieldRole.STRUCTURE
        if role is FieldRole.NUMBERS and isinstance(value, dict):
            parsed[name] = {
                key: _quantity(entry, name, where=where, path=f"{name}.{key}")
                for key, entry in value.items()
            }
        elif role is FieldRole.NUMBER:
            parsed[name] = _quantity(value, name, where=where, path=name)
        else:
            parsed[name] = value
    return load(model, parsed, where=where)


def _quantity(value: Any, field: str, *, where: str, path: str) -> Any:
    from pentarch.units import parse, unit_of

    unit = unit_of(field)
    if not isinstance(value, str) or unit is None:
        return value
    try:
        return parse(value, unit)
    except InputError as error:
        raise FieldError(
            where=where, path=path, problem=str(error).rstrip("."), expected=f"a quantity in {unit}"
        ) from None
