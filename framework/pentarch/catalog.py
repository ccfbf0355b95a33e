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
from typing import TYPE_CHECKING, Any, get_args

from pentarch.aliases import fold, names_by_alias
from pentarch.contracts.catalog import CatalogKind
from pentarch.documents import Document, exists, is_folder, read_document
from pentarch.documents import is_path as is_path
from pentarch.errors import DuplicateNameError, FieldError, UnknownNameError
from pentarch.hardware.known_devices import why_absent
from pentarch.hardware.reading import read_model as read_model
from pentarch.registry import ProvidedCatalog, Registry, load_registry

if TYPE_CHECKING:
    from pentarch.contracts.backend import AnyBackend
    from pentarch.hardware.calibration import CalibrationStore
    from pentarch.hardware.device import Device
    from pentarch.hardware.priors import Prior
    from pentarch.hardware.runtime import Runtime
    from pentarch.hardware.system import System
    from pentarch.workload.workload import Workload

KINDS: tuple[CatalogKind, ...] = get_args(CatalogKind)
"""What a catalog can hold."""
DISABLE_VARIABLE = "PENTARCH_DISABLE"
"""Environment variable that names plug-ins to leave out, separated by commas, or `all`."""
FRAMEWORK = "pentarch"
"""Shown as the provider of what needs no plug-in."""
IDEAL_RUNTIME = "ideal"
"""The runtime that costs nothing: every default of `Runtime`."""
_IDEAL_ABOUT = "A perfect software stack: nothing but the hardware's own limits."
_MANY = re.compile(r"^([0-9]{1,9})x(.+)$")
_ABOUT = re.compile(r"^about:[ \t]+([^\s'\"|>&*!#{\[][^\n]*)$", re.MULTILINE)
_QUOTED_ABOUT = re.compile(r"^about:[ \t]+(['\"])([^'\"\\\n]*)\1[ \t\r]*$", re.MULTILINE)


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
        text = self.file.read_bytes().decode("utf-8-sig")
        plain, quoted = _ABOUT.search(text), _QUOTED_ABOUT.search(text)
        if plain is not None and " #" not in plain[1] and not text.startswith("\n ", plain.end()):
            return plain[1].strip()
        if plain is None and quoted is not None:
            return " ".join(quoted[2].split())
        about = read_document(self.file, where=self.where).values.get("about", "")
        return " ".join(str(about).split())


class Library:
    """Looks up what plug-ins contribute, and reads the files that users write.

    Args:
        registry: The plug-ins.
        leave_out: Devices and families whose own measurements no device may rest on.
        fits: Files of calibrations that go before those of the catalog.
    """

    def __init__(
        self,
        registry: Registry,
        leave_out: frozenset[str] = frozenset(),
        fits: tuple[Path, ...] = (),
    ) -> None:
        self.registry = registry
        self.fits = fits
        self.leave_out = frozenset(name.casefold() for name in leave_out)
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
            name: A name or alias of the catalog in any case, or the path of a `config.json` or of a
                YAML file; a path that exists goes first.

        Raises:
            UnknownNameError: Nothing is called so, or no family reads the configuration.
            InputError: The file is unreadable or wrong.
        """
        from pentarch.workload.importing import import_config, import_entry

        text = os.fspath(name)
        if not (is_path(text) and exists(Path(text))):
            text = self.workload_name(text) or text
        path = Path(text)
        families = self.registry.families
        try:
            if is_path(text) and path.suffix not in (".yaml", ".yml"):
                return import_config(path / "config.json" if is_folder(path) else path, families)
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
        from pentarch.hardware.calibration import with_figures

        document, lineage, values = self._lineage(text)
        with document.located():
            backend, plain = self._plain(text, document, lineage, values)
            family = None if backend.family_field is None else values.get(backend.family_field)
            figures = self.calibrations.figures(
                backend.name, lineage=lineage, family=family, priors=backend.priors(plain)
            )
            values = with_figures(values, figures, allowed=backend.calibrated)
            device: Device = read_model(backend.device_model, values, where=document.where)
        self._backend_names[device.name] = backend.name
        if not is_path(text):
            self._devices[text] = device
        return device

    def priors(self, name: str | os.PathLike[str]) -> "Mapping[str, Prior]":
        """Return what the back-end expects of a device's figures that its file does not know better."""
        from pentarch.hardware.calibration import is_stated

        text = os.fspath(name)
        if not is_path(text):
            text = self._canonical_device(text)
        document, lineage, values = self._lineage(text)
        with document.located():
            backend, plain = self._plain(text, document, lineage, values)
        return {
            parameter: prior
            for parameter, prior in backend.priors(plain).items()
            if not is_stated(values, parameter)
        }

    def _plain(
        self, text: str, document: Document, lineage: tuple[str, ...], values: dict[str, Any]
    ) -> "tuple[AnyBackend, Device]":
        """Return the back-end and the device as its file states it; completes `values`."""
        backend: AnyBackend = self.registry.find(
            self.registry.backends, kind="backend",
            name=_take(values, "backend", document, "the name of a back-end"),
        )  # fmt: skip
        values["name"] = text if is_path(text) else lineage[0]
        return backend, read_model(backend.device_model, values, where=document.where)

    def leaving_out(self, name: str) -> "Library":
        """Return a library whose devices do not rest on the measurements of a device or family.

        Raises:
            UnknownNameError: Neither a device nor a family is called so.
        """
        device = self.device_name(name)
        families = {family for family in self._families.values() if family is not None}
        family = next((known for known in families if fold(known) == fold(name)), None)
        if device is None and family is None:
            raise UnknownNameError(
                kind="device or family", name=name, known=[*self.entries["device"], *families],
                hint="See `pentarch list devices`.",
            )  # fmt: skip
        members = {one for one, of in self._families.items() if device is None and of == family}
        return Library(self.registry, self.leave_out | members | {device or str(family)}, self.fits)

    def with_fits(self, *fits: Path) -> "Library":
        """Return a library that uses files of calibrations before its own."""
        return Library(self.registry, self.leave_out, (*self.fits, *fits))

    @property
    def devices_left_out(self) -> frozenset[str]:
        """Devices that are left out themselves or with their family."""
        return frozenset(
            name
            for name, family in self._families.items()
            if {fold(name), fold(family or name)} & self.leave_out
        )

    @cached_property
    def _families(self) -> Mapping[str, str | None]:
        found: dict[str, str | None] = {}
        for entry in self.names("device"):
            device = self.device(entry.name)
            field = self.backend_of(device).family_field
            found[entry.name] = None if field is None else getattr(device, field)
        return found

    @cached_property
    def calibrations(self) -> "CalibrationStore":
        """What was fitted to measurements, less what is left out."""
        from pentarch.hardware.calibration import Calibration, CalibrationStore

        found = []
        named = [os.path.join(os.curdir, fit) for fit in self.fits]
        for name in (*named, *(entry.name for entry in self.names("calibration"))):
            document, stem = self._document("calibration", name)
            with document.located():
                values = {**document.values, "name": stem}
                found.append(read_model(Calibration, values, where=document.where))
        return CalibrationStore(tuple(found), self.leave_out, first=len(self.fits))

    def _lineage(self, text: str) -> tuple[Document, tuple[str, ...], dict[str, Any]]:
        """Return a device's document, the names of it and its bases, and all its fields."""
        document, stem = self._document("device", text)
        values, names, base = dict(document.values), [stem], document.values.get("base")
        while base is not None:
            other, stem = self._document("device", self._canonical_device(str(base)))
            if stem in names:
                raise FieldError(
                    where=document.where, path="base", problem=f"{stem!r} is based on itself",
                    expected="a device that does not lead back here",
                )  # fmt: skip
            names.append(stem)
            inherited = {key: value for key, value in other.values.items() if key != "aliases"}
            sources = {**inherited.get("sources", {}), **values.get("sources", {})}
            values, base = {**inherited, **values, "sources": sources}, other.values.get("base")
        values.pop("base", None)
        return document, tuple(names), values

    def device_name(self, name: str) -> str | None:
        """Return the catalog's name of the device that has a name or alias, `None` without one."""
        if name in self.entries["device"]:
            return name
        return self._device_names.get(fold(name))

    def workload_name(self, name: str) -> str | None:
        """Return the catalog's name of the workload that has a name or alias, `None` without one."""
        if name in self.entries["workload"]:
            return name
        return self._workload_names.get(fold(name))

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
                hint=why_absent(device_name)
                or "`8xNAME` means eight of a device. See `pentarch list devices`.",
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
        from pentarch.hardware.calibration import with_figures

        document, stem = self._document("runtime", text)
        with document.located():
            values = with_figures(document.values, self.calibrations.runtime_figures(stem))
            return read_model(Runtime, {**values, "name": stem}, where=document.where)

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
        return names_by_alias(self.names("device"), kind="device")

    @cached_property
    def _workload_names(self) -> Mapping[str, str]:
        return names_by_alias(self.names("workload"), kind="workload")

    def _canonical_device(self, name: str) -> str:
        found = self.device_name(name)
        if found is None:
            known, hint = self.entries["device"], why_absent(name)
            raise self.registry.explain(
                UnknownNameError(kind="device", name=name, known=known, hint=hint)
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


def _take(values: dict[str, Any], key: str, document: Document, expected: str) -> str:
    value = values.pop(key, None)
    if not isinstance(value, str):
        raise FieldError(
            where=document.where, path=key, expected=expected,
            problem="is missing" if value is None else f"found {value!r}",
        )  # fmt: skip
    return value
