"""The catalog: workloads, devices, runtimes, systems and spaces by name or by path.

Named entries are YAML files in packages that plug-ins contribute; the stem of a file is its name.
Listing reads names and `about` lines only; a file is parsed when its entry is asked for. A text
that has a separator or ends in `.yaml`, `.yml` or `.json` is a path, everything else a name.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pentarch.contracts.catalog import CatalogKind
from pentarch.documents import Document, read_document
from pentarch.errors import DuplicateNameError, FieldError, InputError, UnknownNameError
from pentarch.registry import ProvidedCatalog, Registry, load_registry

if TYPE_CHECKING:
    from pentarch.contracts.backend import AnyBackend
    from pentarch.hardware.device import Device
    from pentarch.hardware.runtime import Runtime
    from pentarch.hardware.system import System
    from pentarch.model import Model
    from pentarch.workload.workload import Workload

M = TypeVar("M", bound="Model")

KINDS: tuple[CatalogKind, ...] = get_args(CatalogKind)
"""What a catalog can hold."""
DISABLE_VARIABLE = "PENTARCH_DISABLE"
"""Environment variable that names plug-ins to leave out, separated by commas, or `all`."""
FRAMEWORK = "pentarch"
"""Shown as the provider of what needs no plug-in."""
IDEAL_RUNTIME = "ideal"
"""The runtime that costs nothing: every default of `Runtime`."""
_IDEAL_ABOUT = "A perfect software stack: nothing but the hardware's own limits."

_PATH_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_MANY = re.compile(r"^([0-9]{1,9})x(.+)$")
_ABOUT = re.compile(r"^about:[ \t]+([^\s'\"|>&*!#{\[][^\n]*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Entry:
    """A named entry of the catalog."""

    name: str
    """Stem of its file."""
    kind: CatalogKind
    """What it is."""
    plugin: str
    """Plug-in that contributes it."""
    file: Traversable | None
    """Its YAML file; `None` for what the framework itself provides."""

    @property
    def where(self) -> str:
        """The file as errors show it."""
        return self.name if self.file is None else str(self.file)

    @property
    def about(self) -> str:
        """Its line for lists; empty when the file has none."""
        if self.file is None:
            return _IDEAL_ABOUT
        text = self.file.read_text(encoding="utf-8-sig")
        match = _ABOUT.search(text)
        if match is not None and " #" not in match[1] and not text[match.end() :].startswith("\n "):
            return match[1].strip()
        about = read_document(self.file, where=self.where).values.get("about", "")
        return " ".join(str(about).split())


class Library:
    """Looks up what plug-ins contribute, and reads the files that users write.

    Args:
        registry: The plug-ins.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self._backend_names: dict[str, str] = {}
        self._devices: dict[str, Device] = {}

    @cached_property
    def entries(self) -> Mapping[CatalogKind, Mapping[str, Entry]]:
        """Every named entry by kind and name.

        Raises:
            DuplicateNameError: Two plug-ins contribute entries of one kind and name.
        """
        found: dict[CatalogKind, dict[str, Entry]] = {kind: {} for kind in KINDS}
        found["runtime"][IDEAL_RUNTIME] = Entry(IDEAL_RUNTIME, "runtime", FRAMEWORK, None)
        for provided in self.registry.catalogs:
            for entry in self._files(provided):
                other = found[entry.kind].get(entry.name)
                if other is not None:
                    raise DuplicateNameError(
                        kind=entry.kind, name=entry.name, first=other.plugin, second=entry.plugin
                    )
                found[entry.kind][entry.name] = entry
        return found

    def names(self, kind: CatalogKind) -> list[Entry]:
        """Return the entries of a kind in the order of their names."""
        return sorted(self.entries[kind].values(), key=lambda entry: entry.name)

    def workload(self, name: str | os.PathLike[str]) -> "Workload":
        """Return a workload.

        Args:
            name: A name of the catalog, or the path of a `config.json` or of a YAML file.

        Raises:
            UnknownNameError: Nothing is called so, or no family reads the configuration.
            InputError: The file is unreadable or wrong.
        """
        from pentarch.workload.importing import import_config, import_entry

        text = os.fspath(name)
        path = Path(text)
        families = self.registry.families
        try:
            if is_path(text) and path.suffix not in (".yaml", ".yml"):
                return import_config(path / "config.json" if _is_folder(path) else path, families)
            document, stem = self._document("workload", text)
            with document.located():
                return import_entry(
                    document.values, name=stem, where=document.where, families=families
                )
        except UnknownNameError as error:
            raise self.registry.explain(error) from None

    def device(self, name: str | os.PathLike[str]) -> "Device":
        """Return a device, as its back-end's own model.

        Args:
            name: A name or alias of the catalog in any case, or the path of a YAML file.

        Raises:
            UnknownNameError: No device is called so.
            FieldError: A field of its file is wrong.
        """
        text = os.fspath(name)
        if not is_path(text):
            text = self._canonical_device(text)
            if text in self._devices:
                return self._devices[text]
        document, stem = self._document("device", text)
        values = dict(document.values)
        with document.located():
            backend = self.registry.find(
                self.registry.backends,
                kind="backend",
                name=_take(values, "backend", document, "the name of a back-end"),
            )
            values["name"] = text if is_path(text) else stem
            device: Device = read_model(backend.device_model, values, where=document.where)
        self._backend_names[device.name] = backend.name
        if not is_path(text):
            self._devices[text] = device
        return device

    def device_name(self, name: str) -> str | None:
        """Return the catalog's name of the device that has a name or alias, `None` without one."""
        if name in self.entries["device"]:
            return name
        return self._device_names.get(_fold(name))

    def backend_of(self, device: "Device") -> "AnyBackend":
        """Return the back-end that describes `device`.

        Raises:
            UnknownNameError: No back-end has a device model of its class.
        """
        backends = self.registry.backends
        fitting = [
            name for name, kind in backends.classes.items() if kind.device_model is type(device)
        ]
        chosen = self._backend_names.get(device.name)
        if chosen in fitting:
            return backends[chosen]
        if len(fitting) == 1:
            return backends[fitting[0]]
        raise self.registry.explain(
            UnknownNameError(
                kind="back-end for the device model",
                name=type(device).__name__,
                known=fitting or backends,
                hint="A device belongs to the one back-end whose `device_model` is its class.",
            )
        )

    def system(self, name: str | os.PathLike[str]) -> "System":
        """Return a system.

        Args:
            name: A system of the catalog, a device, `Nx` a device (`"8xh100_sxm"`), or the path of
                the YAML file of a system or device.

        Raises:
            UnknownNameError: Neither a system nor a device is called so.
            FieldError: A field of its file is wrong.
        """
        from pentarch.hardware.system import System

        text = os.fspath(name)
        if is_path(text):
            document, stem = self._document("system", text, also="device")
            if document.values.get("kind") == "device":
                return System(name=stem, about=self.device(text).about, device=text)
            return self._system_of(document, stem)
        if text in self.entries["system"]:
            return self._system_of(*self._document("system", text))
        many = None if text in self.entries["device"] else _MANY.match(text)
        devices, device_name = (int(many[1]), many[2]) if many else (1, text)
        try:
            device = self.device(device_name)
        except UnknownNameError as error:
            if error.kind != "device":
                raise
            known = [*self.entries["system"], *self.entries["device"]]
            raise UnknownNameError(
                kind="system or device", name=error.name, known=known,
                hint="`8xNAME` means eight of a device. See `pentarch list devices`.",
            ) from None  # fmt: skip
        if devices < 1:
            raise FieldError(
                where=f"system {text!r}", path="devices", problem=f"found {devices}",
                expected=f"at least 1, for example '8x{device_name}'",
            )  # fmt: skip
        shown = f"{devices}x{device.name}" if many else device.name
        return System(name=shown, about=device.about, device=device.name, devices=devices)

    def runtime(self, name: str | os.PathLike[str]) -> "Runtime":
        """Return a runtime.

        Args:
            name: A name of the catalog, or the path of a YAML file.

        Raises:
            UnknownNameError: No runtime is called so.
            FieldError: A field of its file is wrong.
        """
        from pentarch.hardware.runtime import Runtime

        text = os.fspath(name)
        entry = self.entries["runtime"].get(text)
        if entry is not None and entry.file is None:
            return Runtime(name=text, about=entry.about)
        document, stem = self._document("runtime", text)
        with document.located():
            return read_model(Runtime, {**document.values, "name": stem}, where=document.where)

    def space_text(self, name: str | os.PathLike[str]) -> tuple[Mapping[str, Any], str]:
        """Return the fields of a space and the file they come from.

        Args:
            name: A name of the catalog, or the path of a YAML file.

        Raises:
            UnknownNameError: No space is called so.
            InputError: The file is unreadable.
        """
        document, _ = self._document("space", os.fspath(name))
        return document.values, document.where

    def space(self, name: str | os.PathLike[str]) -> tuple[Document, str]:
        """Return the document of a space, which knows its lines, and the name of the space.

        Raises:
            UnknownNameError: No space is called so.
            InputError: The file is unreadable.
        """
        return self._document("space", os.fspath(name))

    @cached_property
    def _device_names(self) -> Mapping[str, str]:
        names: dict[str, str] = {}
        owners = self.entries["device"]
        for entry in self.names("device"):
            names[_fold(entry.name)] = entry.name
        for entry in self.names("device"):
            for alias in _aliases(entry):
                other = names.setdefault(_fold(alias), entry.name)
                if other != entry.name:
                    raise DuplicateNameError(
                        kind="device name or alias", name=alias,
                        first=f"{owners[other].plugin} ({other})", second=entry.plugin,
                    )  # fmt: skip
        return names

    def _canonical_device(self, name: str) -> str:
        found = self.device_name(name)
        if found is None:
            raise self.registry.explain(
                UnknownNameError(kind="device", name=name, known=self.entries["device"])
            )
        return found

    def _system_of(self, document: Document, stem: str) -> "System":
        from pentarch.hardware.system import System

        with document.located():
            system = read_model(System, {**document.values, "name": stem}, where=document.where)
        device = system.device
        if is_path(device) and not Path(device).is_absolute():
            device = os.path.join(os.path.dirname(document.where), device)
        return system.replace(device=self.device(device).name)

    def _document(
        self, kind: CatalogKind, name: str, *, also: CatalogKind | None = None
    ) -> tuple[Document, str]:
        """Return the document of an entry or path, and its name; a path may hold `also` too."""
        if is_path(name):
            document, stem = read_document(Path(name), where=name), Path(name).stem
        else:
            entry = self.entries[kind].get(name)
            if entry is None or entry.file is None:
                raise self.registry.explain(
                    UnknownNameError(kind=kind, name=name, known=self.entries[kind])
                )
            document, stem = read_document(entry.file, where=entry.where), entry.name
        found = document.values.get("kind")
        with document.located():
            if found not in (kind, also) or found is None:
                raise FieldError(
                    where=document.where, path="kind",
                    problem="is missing" if found is None else f"found {found!r}",
                    expected=f"`kind: {kind}`" + (f" or `kind: {also}`" if also else ""),
                )  # fmt: skip
            given = document.values.get("name", stem)
            if given != stem:
                raise FieldError(
                    where=document.where, path="name", problem=f"found {given!r}",
                    expected=f"no name, or {stem!r}: the stem of the file is the name",
                )  # fmt: skip
        return document, stem

    def _files(self, provided: ProvidedCatalog) -> Iterator[Entry]:
        kind = provided.catalog.kind
        try:
            files = list(resources.files(provided.catalog.package).iterdir())
        except (ImportError, OSError) as error:
            self.registry.report(provided.plugin, error)
            return
        for file in sorted(files, key=lambda item: item.name):
            if file.name.endswith(".yaml"):
                yield Entry(file.name.removesuffix(".yaml"), kind, provided.plugin, file)


def _aliases(entry: Entry) -> list[str]:
    if entry.file is None:
        return []
    aliases = read_document(entry.file, where=entry.where).values.get("aliases")
    return [str(alias) for alias in aliases] if isinstance(aliases, list) else []


def is_path(text: str) -> bool:
    """Return whether `text` is a path rather than a name of the catalog.

    Examples:
        >>> is_path("llama-3.1-8b"), is_path("./box.yaml"), is_path("models/llama")
        (False, True, True)
    """
    separators = [separator for separator in (os.sep, os.altsep, "/") if separator]
    return any(part in text for part in separators) or Path(text).suffix in _PATH_SUFFIXES


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no path at all: reading it says what is wrong
        return False


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


def disabled_plugins(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the plug-ins that the environment leaves out.

    Examples:
        >>> sorted(disabled_plugins({"PENTARCH_DISABLE": "gpu, soc"}))
        ['gpu', 'soc']
    """
    names = (part.strip() for part in environment.get(DISABLE_VARIABLE, "").split(","))
    return frozenset(name for name in names if name)


@cache
def default_library() -> Library:
    """Return the library of all installed plug-ins but those that the environment leaves out."""
    return Library(load_registry(disabled_plugins(os.environ)))


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


def _take(values: dict[str, Any], key: str, document: Document, expected: str) -> str:
    value = values.pop(key, None)
    if not isinstance(value, str):
        raise FieldError(
            where=document.where, path=key, expected=expected,
            problem="is missing" if value is None else f"found {value!r}",
        )  # fmt: skip
    return value


def _fold(name: str) -> str:
    return " ".join(name.casefold().split())
