"""From a catalog entry or a `config.json` to a workload, by way of the family that knows it."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol, Self

from pydantic import Field, model_validator

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.model import Model, load
from pentarch.workload.workload import Workload

MAX_CONFIG_BYTES = 4 * 2**20
"""A larger file is no model configuration: published ones have some kilobytes."""


class ConfigReader(Protocol):
    """What this module needs of a workload family (`pentarch.contracts.workload_family`)."""

    @property
    def name(self) -> str:
        """Name of the family."""

    @property
    def model_types(self) -> frozenset[str]:
        """Values of `model_type` in a `config.json` that the family reads."""

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that `config` describes."""


class WorkloadEntry(Model):
    """One named workload of the catalog, as its YAML file has it."""

    kind: Literal["workload"]
    """What the file holds."""
    about: str = Field(min_length=1)
    """One sentence for listings."""
    family: str | None = None
    """Workload family that reads `config`; `None` means the one that knows its `model_type`."""
    aliases: tuple[str, ...] = ()
    """Other names of the model, such as its repository's; a name of the catalog goes first."""
    notes: tuple[str, ...] = ()
    """What a reader of its figures should know, beside what the family says."""
    source: str | None = None
    """Where the dimensions were published."""
    assumption: str | None = None
    """Why these dimensions, if nobody has published them."""
    config: dict[str, Any]
    """Dimensions: the keys of the model's `config.json`, or the family's own words."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.source is None) == (self.assumption is None):
            raise ValueError("exactly one of `source` and `assumption`")
        return self


def import_entry(
    entry: Mapping[str, Any], *, name: str, where: str, families: Mapping[str, ConfigReader]
) -> Workload:
    """Return the workload of a catalog entry.

    Args:
        entry: Content of its YAML file.
        name: Name of the workload: the stem of the file.
        where: The file, for errors.
        families: The known families by name.

    Raises:
        FieldError: A field of the entry or of its config is missing or wrong.
        UnknownNameError: No family has the entry's name for it.
    """
    checked = load(WorkloadEntry, entry, where=where)
    if checked.family is None:
        family = _family_of(checked.config, families, where=where, path="config.model_type")
    elif checked.family in families:
        family = families[checked.family]
    else:
        raise UnknownNameError(
            kind="workload family",
            name=checked.family,
            known=families,
            hint=f"Correct `family` in {where}. {_HOW_TO_ADD}",
        )
    try:
        workload = family.import_workload(checked.config, name=name, where=where)
    except FieldError as error:
        raise FieldError(
            where=error.where,
            path=f"config.{error.path}" if error.path else "config",
            problem=error.problem,
            expected=error.expected,
        ) from None
    return workload.replace(
        about=checked.about,
        source=checked.source,
        assumption=checked.assumption,
        notes=(*workload.notes, *checked.notes),
    )


def import_config(path: Path | str, families: Mapping[str, ConfigReader]) -> Workload:
    """Return the workload of a Hugging Face `config.json`.

    Args:
        path: The file; a workload from `.../NAME/config.json` is called `NAME`.
        families: The known families by name.

    Raises:
        InputError: The file cannot be read, is too large or is no JSON.
        FieldError: A field is missing or wrong.
        UnknownNameError: No family reads the file's `model_type`.
    """
    path = Path(path)
    config = _read_json_object(path)
    family = _family_of(config, families, where=str(path), path="model_type")
    name = path.resolve().parent.name if path.name == "config.json" else path.stem
    workload = family.import_workload(config, name=name or path.stem, where=str(path))
    return workload if workload.source is not None else workload.replace(source=str(path))


def _family_of(
    config: Mapping[str, Any], families: Mapping[str, ConfigReader], *, where: str, path: str
) -> ConfigReader:
    """Return the family that reads the `model_type` of a configuration, found at `path`."""
    by_type = {kind: family for family in families.values() for kind in family.model_types}
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        problem = f"found {repr(model_type)[:80]}" if "model_type" in config else "is missing"
        raise FieldError(
            where=where,
            path=path,
            problem=problem,
            expected=f"the kind of model, one of {', '.join(sorted(by_type))}",
        )
    family = by_type.get(model_type)
    if family is None:
        raise UnknownNameError(
            kind="model type",
            name=model_type[:80],
            known=by_type,
            hint=f"It is the `{path}` of {where}. {_HOW_TO_ADD}",
        )
    return family


_HOW_TO_ADD = (
    "To add a family, write a `WorkloadFamily` and return it from the hook "
    "`register_workload_families` of a plug-in; see `pentarch new --help`."
)


_JSON_WORDS: Mapping[type, str] = MappingProxyType({
    list: "a list", str: "a text", int: "a number", float: "a number", bool: "a truth value",
    type(None): "null",
})  # fmt: skip
"""What else than an object a JSON file may hold, in words."""


class _TwiceError(ValueError):
    """A key occurs twice in one JSON object."""


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise _TwiceError(key)
        made[key] = value
    return made


def _read_json_object(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_CONFIG_BYTES + 1)
    except (OSError, ValueError) as error:  # a path with a zero character is a ValueError
        cause = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} cannot be read: {cause}. Give the path of a `config.json`."
        ) from error
    if len(content) > MAX_CONFIG_BYTES:
        raise InputError(
            f"{path} has more than {MAX_CONFIG_BYTES} bytes, which no model configuration has. "
            "Give the path of a `config.json`."
        )
    try:
        config = json.loads(content.decode("utf-8-sig"), object_pairs_hook=_each_key_once)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: byte {error.start} is not UTF-8 text. A `config.json` is JSON in UTF-8."
        ) from None
    except json.JSONDecodeError as error:
        raise InputError(
            f"{path}, line {error.lineno}, column {error.colno}: {error.msg}. "
            "Correct the JSON there."
        ) from None
    except RecursionError:
        raise InputError(f"{path} is nested too deeply for a model configuration.") from None
    except _TwiceError as error:
        raise InputError(
            f"{path}: the key {error.args[0]!r} occurs twice. Remove the one that is not meant."
        ) from None
    except ValueError:  # an integer of more digits than Python reads
        raise InputError(
            f"{path} holds a number of thousands of digits. Correct it: no model has such a size."
        ) from None
    if not isinstance(config, dict):
        raise InputError(
            f"{path} holds {_JSON_WORDS[type(config)]}. A `config.json` is one JSON object."
        )
    return config
