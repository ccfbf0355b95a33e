import logging
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from pentarch import Catalog, hookimpl
from pentarch.errors import (
    DuplicateNameError,
    PluginError,
    PluginUnavailableError,
    UnknownNameError,
)
from pentarch.registry import PluginStatus, Registry, installed_plugins, load_registry

MakeRegistry = Callable[..., Registry]


def test_everything_a_plugin_provides_is_found_by_name(fake_registry: Registry) -> None:
    assert list(fake_registry.backends) == ["fake"]
    assert list(fake_registry.partitioners) == ["alone"]
    assert list(fake_registry.families) == ["fake-family"]
    assert list(fake_registry.metrics) == ["device_count"]
    assert list(fake_registry.sections) == []


def test_an_instance_is_made_once_and_only_when_asked_for(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    made = []

    class Counting(fakes.partitioner):  # type: ignore[misc]  # the base is a fixture
        name = "counting"

        def __init__(self) -> None:
            made.append(1)

    class Plugin:
        @hookimpl
        def register_partitioners(self) -> list[type]:
            return [Counting]

    registry = registry_of(a=Plugin())
    assert list(registry.partitioners) == ["counting"]
    assert made == []
    assert registry.partitioners["counting"] is registry.partitioners["counting"]
    assert made == [1]


def test_a_plugin_that_fails_to_import_is_reported_once_and_the_others_go_on(
    registry_of: MakeRegistry, fakes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        registry = registry_of(npu=ImportError("no npu here"), fake=fakes.plugin())
        status = {plugin.name: (plugin.status, plugin.error) for plugin in registry.plugins}

    assert status == {
        "fake": (PluginStatus.LOADED, None),
        "npu": (PluginStatus.FAILED, "ImportError: no npu here"),
    }
    assert [record.getMessage() for record in caplog.records] == [
        "plug-in 'npu' failed to load: ImportError: no npu here"
    ]
    assert "fake" in registry.backends


def test_a_plugin_that_exits_does_not_end_pentarch(registry_of: MakeRegistry, fakes: Any) -> None:
    class Exiting:
        @hookimpl
        def register_backends(self) -> list[type]:
            raise SystemExit("no license")

    registry = registry_of(early=SystemExit(3), late=Exiting(), fake=fakes.plugin())
    assert "fake" in registry.backends
    assert {plugin.name: plugin.error for plugin in registry.plugins} == {
        "early": "SystemExit: 3",
        "fake": None,
        "late": "SystemExit: no license",
    }


def test_a_hook_that_raises_fails_its_plugin_alone(
    registry_of: MakeRegistry, fakes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        @hookimpl
        def register_backends(self) -> list[type]:
            raise OSError("driver is missing")

        @hookimpl
        def register_partitioners(self) -> list[type]:
            return [fakes.partitioner]

    registry = registry_of(broken=Broken())
    assert list(registry.backends) == []
    assert list(registry.partitioners) == ["alone"]
    assert registry.plugins[0].error == "OSError: driver is missing"
    assert len(caplog.records) == 1


def test_a_name_that_a_failed_plugin_may_provide_mentions_plugin_and_cause(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    registry = registry_of(npu=ImportError("no npu here"), fake=fakes.plugin())

    with pytest.raises(PluginUnavailableError) as raised:
        registry.find(registry.backends, kind="backend", name="npu")

    message = str(raised.value)
    assert "No backend is called 'npu'" in message
    assert "Plug-in 'npu' failed to load: ImportError: no npu here" in message
    assert raised.value.exit_code == 2


def test_an_unknown_name_is_a_plain_error_when_every_plugin_was_loaded(
    fake_registry: Registry,
) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'alone'"):
        fake_registry.find(fake_registry.partitioners, kind="partitioner", name="alon")


def test_a_disabled_plugin_is_listed_and_named_when_something_is_missing(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    registry = registry_of(fake=fakes.plugin(), disabled={"fake"})

    assert [plugin.status for plugin in registry.plugins] == [PluginStatus.DISABLED]
    with pytest.raises(PluginUnavailableError, match=r"Disabled plug-ins \(fake\)"):
        registry.find(registry.backends, kind="backend", name="fake")


def test_all_disables_every_plugin(registry_of: MakeRegistry, fakes: Any) -> None:
    registry = registry_of(a=fakes.plugin(), b=fakes.plugin(), disabled={"all"})

    assert {plugin.status for plugin in registry.plugins} == {PluginStatus.DISABLED}
    assert len(registry.backends) == 0


def test_disabling_an_unknown_plugin_is_an_error_with_the_known_ones(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    with pytest.raises(UnknownNameError, match=r"Did you mean 'fake'\?\nKnown: fake"):
        registry_of(fake=fakes.plugin(), disabled={"fike"})


def test_two_plugins_with_one_name_are_an_error_that_names_both(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    registry = registry_of(first=fakes.plugin(), second=fakes.plugin())

    with pytest.raises(DuplicateNameError, match="'fake' is provided by two plug-ins: first and s"):
        _ = registry.backends


def test_a_misspelled_hook_names_the_plugin_and_the_nearest_hook(
    registry_of: MakeRegistry,
) -> None:
    class Misspelled:
        @hookimpl
        def register_backend(self) -> list[type]:
            return []

    with pytest.raises(PluginError) as raised:
        registry_of(npu=Misspelled())
    message = str(raised.value)
    assert "Plug-in 'npu' (npu.plugin): there is no hook 'register_backend'" in message
    assert "Did you mean 'register_backends'?" in message


def test_an_unknown_hook_that_is_marked_optional_is_accepted(registry_of: MakeRegistry) -> None:
    class Newer:
        @hookimpl(optionalhook=True)
        def register_dreams(self) -> list[type]:
            return []

    assert registry_of(newer=Newer()).plugins[0].status is PluginStatus.LOADED


def test_a_hook_with_an_argument_that_does_not_exist_is_an_error(
    registry_of: MakeRegistry,
) -> None:
    class Greedy:
        @hookimpl
        def register_backends(self, wish: str) -> list[type]:
            return []

    with pytest.raises(PluginError, match="Plug-in 'greedy'"):
        registry_of(greedy=Greedy())


def test_a_hook_wrapper_is_refused(registry_of: MakeRegistry) -> None:
    class Wrapping:
        @hookimpl(wrapper=True)
        def register_backends(self) -> Any:
            return (yield)

    with pytest.raises(PluginError, match="is a wrapper"):
        registry_of(wrapping=Wrapping())


def _provides(*provided: object) -> object:
    class Plugin:
        @hookimpl
        def register_partitioners(self) -> list[object]:
            return list(provided)

    return Plugin()


def test_what_is_no_subclass_of_the_contract_is_refused(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    for wrong in (object, fakes.partitioner(), fakes.backend, "tensor"):
        registry = registry_of(odd=_provides(wrong))
        with pytest.raises(PluginError, match="Plug-in 'odd': register_partitioners returned"):
            _ = registry.partitioners


def test_an_abstract_class_is_refused_with_what_it_lacks(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    from pentarch import Partitioner

    class Unfinished(Partitioner):
        name = "unfinished"
        about = "lacks its method"

    registry = registry_of(odd=_provides(Unfinished))
    with pytest.raises(PluginError, match="leaves partition of `Partitioner` abstract"):
        _ = registry.partitioners


@pytest.mark.parametrize("name", ["", 3, None])
def test_a_name_that_is_no_text_is_refused(
    registry_of: MakeRegistry, fakes: Any, name: object
) -> None:
    nameless = type("Nameless", (fakes.partitioner,), {"name": name})

    with pytest.raises(PluginError, match="Expected a text that is not empty"):
        _ = registry_of(odd=_provides(nameless)).partitioners


def test_a_class_without_a_line_about_itself_is_refused(registry_of: MakeRegistry) -> None:
    from pentarch import Partitioner

    class Silent(Partitioner):
        name = "silent"

        def partition(self, request: Any) -> Any:
            raise AssertionError

    with pytest.raises(PluginError, match="has no `about`"):
        _ = registry_of(odd=_provides(Silent)).partitioners


def test_a_class_that_cannot_be_made_without_arguments_names_its_plugin(
    registry_of: MakeRegistry, fakes: Any
) -> None:
    class Demanding(fakes.partitioner):  # type: ignore[misc]  # the base is a fixture
        def __init__(self, wish: str) -> None:
            self.wish = wish

    registry = registry_of(odd=_provides(Demanding))
    with pytest.raises(PluginError, match=r"Plug-in 'odd'.*TypeError"):
        _ = registry.partitioners["alone"]


def test_a_catalog_that_is_none_is_refused(registry_of: MakeRegistry) -> None:
    class Plugin:
        @hookimpl
        def register_catalogs(self) -> list[object]:
            return [Catalog("space", "spaces"), "devices"]

    with pytest.raises(PluginError, match="'odd': register_catalogs returned 'devices'"):
        _ = registry_of(odd=Plugin()).catalogs


def test_installed_plugins_are_those_of_the_entry_points() -> None:
    declared = {entry.name for entry in metadata.entry_points(group="pentarch")}

    assert {source.name for source in installed_plugins()} == declared
    registry = load_registry({"all"})
    assert {plugin.status for plugin in registry.plugins} == {PluginStatus.DISABLED}


def test_two_distributions_with_one_entry_point_name_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [
        metadata.EntryPoint(name="npu", value=value, group="pentarch")
        for value in ("one.plugin", "two.plugin")
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)

    with pytest.raises(PluginError, match=r"'npu': one\.plugin of .* and two\.plugin of"):
        installed_plugins()
