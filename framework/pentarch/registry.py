"""The registry: finds plug-ins, runs their hooks, and knows what each provides.

Plug-ins are entry points of the group `pentarch`. One that fails to import, or whose hook raises,
is reported once and listed as failed, and the others go on. One that breaks the contract (a hook
that does not exist, a class of the wrong kind, a name that is taken) is an error that names it.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from functools import cached_property
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pluggy

from pentarch import hookspecs
from pentarch.contracts.catalog import Catalog
from pentarch.errors import (
    DuplicateNameError,
    PentarchError,
    PluginError,
    PluginUnavailableError,
    UnknownNameError,
)

if TYPE_CHECKING:
    from pentarch.contracts.backend import AnyBackend
    from pentarch.contracts.metric import Metric
    from pentarch.contracts.partitioner import Partitioner
    from pentarch.contracts.report_section import ReportSection
    from pentarch.contracts.workload_family import WorkloadFamily

_logger = logging.getLogger(__name__)

ALL = "all"
"""Stands for every plug-in in a set of disabled ones."""

T = TypeVar("T")


class PluginStatus(StrEnum):
    """What became of a plug-in."""

    LOADED = "loaded"
    FAILED = "failed"
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """One plug-in, for lists."""

    name: str
    """Name of its entry point."""
    module: str
    """Where the entry point leads."""
    version: str | None
    """Version of its distribution; `None` when it belongs to none."""
    status: PluginStatus
    """Loaded, failed or disabled."""
    error: str | None = None
    """Why it failed."""


@dataclass(frozen=True, slots=True)
class PluginSource:
    """Where a plug-in comes from, before it is loaded."""

    name: str
    """Name of its entry point."""
    module: str
    """Where the entry point leads, for example `"pentarch_gpu.plugin"`."""
    version: str | None
    """Version of its distribution; `None` when it belongs to none."""
    load: Callable[[], object]
    """Imports the module that holds the hooks and returns it."""


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    hook: str
    module: str
    contract: str
    required: tuple[str, ...]


_KINDS = {
    "backend": _Kind(
        "backend", "register_backends", "backend", "Backend", ("name", "about", "device_model")
    ),
    "partitioner": _Kind(
        "partitioner", "register_partitioners", "partitioner", "Partitioner", ("name", "about")
    ),
    "workload family": _Kind(
        "workload family", "register_workload_families", "workload_family", "WorkloadFamily",
        ("name", "about", "model_types"),
    ),
    "metric": _Kind("metric", "register_metrics", "metric", "Metric", ("name", "about")),
    "report section": _Kind(
        "report section", "register_report_sections", "report_section", "ReportSection",
        ("name", "title"),
    ),
}  # fmt: skip


class Provided(Mapping[str, T], Generic[T]):
    """What plug-ins provide of one kind, by name; an instance is made when it is first asked for.

    Args:
        classes: Classes by name.
        plugins: Name of the plug-in that provides each.
    """

    def __init__(self, classes: Mapping[str, type[T]], plugins: Mapping[str, str]) -> None:
        self.classes = classes
        self.plugins = plugins
        self._instances: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        made = self._instances.get(name)
        if made is not None:
            return made
        kind = self.classes[name]
        try:
            instance = kind()
        except Exception as error:  # the plug-in boundary: the cause is kept
            raise PluginError(
                f"Plug-in {self.plugins[name]!r}: {kind.__qualname__}() raised {_cause(error)}. "
                "What a plug-in provides is made without arguments: mend its `__init__`, or leave "
                f"the plug-in out with `--no-plugin {self.plugins[name]}`."
            ) from error
        self._instances[name] = instance
        return instance

    def __iter__(self) -> Iterator[str]:
        return iter(self.classes)

    def __len__(self) -> int:
        return len(self.classes)


@dataclass(frozen=True, slots=True)
class ProvidedCatalog:
    """A catalog and the plug-in that contributes it."""

    catalog: Catalog
    """Kind and package of its files."""
    plugin: str
    """Name of the plug-in."""


class Registry:
    """The plug-ins of one session. Modules are imported now, hooks run when their kind is needed.

    Args:
        sources: Plug-ins, in any order; names are unique.
        disabled: Names of plug-ins to leave out; `"all"` leaves out every one.

    Raises:
        UnknownNameError: A disabled name is no plug-in's.
        PluginError: A plug-in has a hook that does not exist.
    """

    def __init__(
        self, sources: Iterable[PluginSource], *, disabled: Iterable[str] = frozenset()
    ) -> None:
        self._sources = tuple(sorted(sources, key=lambda source: source.name))
        self._disabled = _expand(disabled, [source.name for source in self._sources])
        self._errors: dict[str, str] = {}
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        for source in self._sources:
            if source.name not in self._disabled:
                self._load(source)

    @cached_property
    def backends(self) -> "Provided[AnyBackend]":
        """Back-ends by name."""
        return self._provided("backend")

    @cached_property
    def partitioners(self) -> "Provided[Partitioner]":
        """Partitioners by name."""
        return self._provided("partitioner")

    @cached_property
    def families(self) -> "Provided[WorkloadFamily]":
        """Workload families by name."""
        return self._provided("workload family")

    @cached_property
    def metrics(self) -> "Provided[Metric]":
        """Metrics by name."""
        return self._provided("metric")

    @cached_property
    def sections(self) -> "Provided[ReportSection]":
        """Report sections by name."""
        return self._provided("report section")

    @cached_property
    def catalogs(self) -> tuple[ProvidedCatalog, ...]:
        """Catalogs in the order of their plug-ins' names."""
        found = []
        for plugin, returned in self._results("register_catalogs"):
            if not isinstance(returned, Catalog):
                raise PluginError(
                    f"Plug-in {plugin!r}: register_catalogs returned {returned!r}. Expected "
                    f"instances of `pentarch.Catalog`. {_leave_out(plugin)}"
                )
            found.append(ProvidedCatalog(returned, plugin))
        return tuple(found)

    @property
    def plugins(self) -> tuple[PluginInfo, ...]:
        """Every plug-in with its status, after all hooks have run; in the order of names."""
        for attribute in (
            "backends",
            "partitioners",
            "families",
            "metrics",
            "sections",
            "catalogs",
        ):
            getattr(self, attribute)
        return tuple(self._info(source) for source in self._sources)

    def report(self, plugin: str, error: BaseException) -> None:
        """Record that a plug-in failed, and log it the first time.

        Args:
            plugin: Name of the plug-in.
            error: What it raised.
        """
        if plugin not in self._errors:
            self._errors[plugin] = _cause(error)
            _logger.warning("plug-in %r failed to load: %s", plugin, _cause(error))

    def find(self, provided: Provided[T], *, kind: str, name: str) -> T:
        """Return what `provided` has under `name`.

        Args:
            provided: For example `registry.partitioners`.
            kind: What it holds, in the singular, for the error.
            name: The name asked for.

        Raises:
            UnknownNameError: No plug-in provides it.
            PluginUnavailableError: The same, while some plug-in is failed or disabled.
        """
        if name in provided:
            return provided[name]
        raise self.explain(UnknownNameError(kind=kind, name=name, known=provided))

    def explain(self, error: UnknownNameError) -> PentarchError:
        """Return `error`, or one that also names the plug-ins that are missing.

        Args:
            error: Says that nothing provides a name.

        Returns:
            The same error if every plug-in was loaded; else a `PluginUnavailableError` that says
            which plug-ins failed, with the cause, or are disabled.
        """
        missing = [
            f"Plug-in {name!r} failed to load: {cause}; it may provide this name."
            for name, cause in sorted(self._errors.items())
        ]
        if self._disabled:
            names = ", ".join(sorted(self._disabled))
            missing.append(f"Disabled plug-ins ({names}) may provide it too.")
        if not missing:
            return error
        return PluginUnavailableError("\n".join([str(error), *missing]))

    def _load(self, source: PluginSource) -> None:
        try:
            module = source.load()
        except (
            Exception,
            SystemExit,
        ) as error:  # the plug-in boundary: the cause is kept and shown
            self.report(source.name, error)
            return
        _check_hooks(self._manager, module, source)
        try:
            self._manager.register(module, name=source.name)
        except pluggy.PluginValidationError as error:
            raise PluginError(
                f"Plug-in {source.name!r} ({source.module}): {error}. "
                f"Hooks are described in `pentarch.hookspecs`. {_leave_out(source.name)}"
            ) from error

    def _results(self, hook: str) -> Iterator[tuple[str, Any]]:
        implementations = getattr(self._manager.hook, hook).get_hookimpls()
        for implementation in sorted(implementations, key=lambda entry: str(entry.plugin_name)):
            name = implementation.plugin_name
            try:
                results = list(implementation.function())
            except (Exception, SystemExit) as error:  # the plug-in boundary, as in `_load`
                self.report(name, error)
                continue
            for result in results:
                yield name, result

    def _provided(self, kind_name: str) -> Provided[Any]:
        kind = _KINDS[kind_name]
        classes: dict[str, type[Any]] = {}
        plugins: dict[str, str] = {}
        for plugin, provided in self._results(kind.hook):
            name = _checked_name(provided, kind, plugin)
            if name in classes:
                raise DuplicateNameError(
                    kind=kind.name, name=name, first=plugins[name], second=plugin
                )
            classes[name] = provided
            plugins[name] = plugin
        names = sorted(classes)
        return Provided({name: classes[name] for name in names}, plugins)

    def _info(self, source: PluginSource) -> PluginInfo:
        error = self._errors.get(source.name)
        status = PluginStatus.LOADED if error is None else PluginStatus.FAILED
        if source.name in self._disabled:
            status = PluginStatus.DISABLED
        return PluginInfo(source.name, source.module, source.version, status, error)


def load_registry(disabled: Iterable[str] = frozenset()) -> Registry:
    """Return the registry of all installed plug-ins.

    Args:
        disabled: Names of plug-ins to leave out; `"all"` leaves out every one.

    Raises:
        UnknownNameError: A disabled name is no plug-in's.
        PluginError: Two distributions have an entry point of the same name, or a plug-in has a
            hook that does not exist.
    """
    return Registry(installed_plugins(), disabled=disabled)


def installed_plugins() -> tuple[PluginSource, ...]:
    """Return the entry points of the group `pentarch`, without importing any of them.

    Raises:
        PluginError: Two distributions have an entry point of the same name.
    """
    found: dict[str, metadata.EntryPoint] = {}
    for entry in metadata.entry_points(group=hookspecs.PROJECT):
        other = found.get(entry.name)
        if other is not None and other.value != entry.value:
            raise PluginError(
                f"Two plug-ins are called {entry.name!r}: {_origin(other)} and {_origin(entry)}. "
                "Uninstall one, or have one of the entry points renamed."
            )
        found[entry.name] = entry
    return tuple(
        PluginSource(
            name=entry.name,
            module=entry.value,
            version=None if entry.dist is None else entry.dist.version,
            load=entry.load,
        )
        for entry in found.values()
    )


def _expand(disabled: Iterable[str], known: list[str]) -> frozenset[str]:
    names = frozenset(disabled)
    if ALL in names:
        return frozenset(known)
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError(kind="plugin", name=name, known=known)
    return names


def _check_hooks(manager: pluggy.PluginManager, module: object, source: PluginSource) -> None:
    known = [name for name in vars(hookspecs) if name.startswith("register_")]
    for attribute in dir(module):
        options = manager.parse_hookimpl_opts(module, attribute)
        if options is None:
            continue
        name = options.get("specname") or attribute
        if options.get("wrapper") or options.get("hookwrapper"):
            raise PluginError(
                f"Plug-in {source.name!r} ({source.module}): the hook {name!r} is a wrapper. "
                f"Hooks of pentarch only collect, so there is nothing to wrap. "
                f"{_leave_out(source.name)}"
            )
        if name not in known and not options.get("optionalhook"):
            close = get_close_matches(name, known, n=1, cutoff=0.0)[0]
            raise PluginError(
                f"Plug-in {source.name!r} ({source.module}): there is no hook {name!r}. "
                f"Did you mean {close!r}? Known: {', '.join(sorted(known))}. "
                f"{_leave_out(source.name)}"
            )


def _checked_name(provided: object, kind: _Kind, plugin: str) -> str:
    contract = getattr(import_module(f"pentarch.contracts.{kind.module}"), kind.contract)
    where = f"Plug-in {plugin!r}: {kind.hook} returned {provided!r}"
    if not isinstance(provided, type) or not issubclass(provided, contract):
        raise PluginError(
            f"{where}. Expected subclasses of `{kind.contract}` (classes, not instances). "
            f"{_leave_out(plugin)}"
        )
    abstract = sorted(getattr(provided, "__abstractmethods__", ()))
    if abstract:
        raise PluginError(
            f"{where}, which leaves {', '.join(abstract)} of `{kind.contract}` abstract. "
            f"Implement it. {_leave_out(plugin)}"
        )
    for attribute in kind.required:
        if not hasattr(provided, attribute):
            raise PluginError(
                f"{where}, which has no `{attribute}`. Set it as a class attribute; see "
                f"`pentarch.contracts.{kind.module}`. {_leave_out(plugin)}"
            )
    name = provided.name  # type: ignore[attr-defined]  # required by every contract, checked above
    if not isinstance(name, str) or not name:
        raise PluginError(
            f"{where}, whose name is {name!r}. Expected a text that is not empty. "
            f"{_leave_out(plugin)}"
        )
    return name


def _leave_out(plugin: str) -> str:
    return f"Mend the plug-in, or leave it out with `--no-plugin {plugin}`."


def _origin(entry: metadata.EntryPoint) -> str:
    distribution = "no distribution" if entry.dist is None else entry.dist.name
    return f"{entry.value} of {distribution}"


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
