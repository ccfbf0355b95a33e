"""Registries of plug-ins that are no installed distributions, for tests."""

from collections.abc import Callable, Iterable

from pentarch.registry import PluginSource, Registry


def registry_of(*, disabled: Iterable[str] = frozenset(), **plugins: object) -> Registry:
    """Return a registry of the given plug-ins and no others.

    Args:
        disabled: Names of plug-ins to leave out.
        **plugins: By name, each an object whose attributes are hooks: a module, or an instance of
            a class with methods marked by `hookimpl`. An exception stands for a plug-in whose
            import raises it.
    """
    return Registry(
        (
            PluginSource(name=name, module=f"{name}.plugin", version="1.0", load=_loader(plugin))
            for name, plugin in plugins.items()
        ),
        disabled=disabled,
    )


def _loader(plugin: object) -> Callable[[], object]:
    def load() -> object:
        if isinstance(plugin, BaseException):
            raise plugin
        return plugin

    return load
