"""A command line whose library holds fakes only."""

import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from pentarch import Catalog, catalog
from pentarch.catalog import Library
from pentarch.cli.main import main

ENTRY = """\
kind: workload
about: A tiny one.
family: fake-family
assumption: none
config: {layers: 2}
"""
DEVICE = "kind: device\nabout: A chip.\nbackend: fake\naliases: [The Chip]\nsize_bytes: 16 GB\n"


@pytest.fixture
def fake_library(
    monkeypatch: pytest.MonkeyPatch,
    registry_of: Callable[..., Any],
    fakes: Any,
    catalog_package: Callable[[Mapping[str, str]], str],
) -> Library:
    """Return a library of fakes that every command uses instead of the installed plug-ins."""
    catalogs = [
        Catalog("workload", catalog_package({"tiny.yaml": ENTRY, "both.yaml": ENTRY})),
        Catalog(
            "device",
            catalog_package(
                {"chip.yaml": DEVICE, "both.yaml": DEVICE.replace("The Chip", "Other"),
                 "broken.yaml": "kind: device\nabout: Broken.\nbackend: fake\nlanes: 3\n"}
            ),
        ),
    ]  # fmt: skip
    registry = registry_of(fake=fakes.plugin(catalogs), lost=ImportError("no lost here"))
    library = Library(registry)
    monkeypatch.setattr(catalog, "default_library", lambda: library)
    return library


@pytest.fixture
def pentarch_json(fake_library: Library, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs a command with `--json` and returns the one document."""

    def run(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Return a function that runs a command on the installed plug-ins, as `pentarch_json`."""

    def run(*arguments: str) -> Any:
        assert main([*arguments, "--json"]) == 0
        return json.loads(capsys.readouterr().out)

    return run
