import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import pentarch as pa
from pentarch import _facade, catalog
from pentarch.catalog import Library
from pentarch.registry import Registry


def test_all_is_sorted_complete_and_short() -> None:
    assert pa.__all__ == sorted(set(pa.__all__))
    assert set(pa.__all__) == set(_facade.HOMES)
    assert len(pa.__all__) <= 40
    assert set(pa.__all__) < set(dir(pa))


@pytest.mark.parametrize("name", pa.__all__)
def test_every_public_name_is_what_its_home_defines(name: str) -> None:
    home = import_module(_facade.HOMES[name])
    public = getattr(pa, name)

    if isinstance(public, ModuleType):
        assert callable(public)
        assert inspect.signature(public) == inspect.signature(getattr(home, name))
    else:
        assert public is getattr(home, name)


def test_type_checkers_see_the_same_names() -> None:
    source = Path(str(pa.__file__)).read_text(encoding="utf-8")
    block = source.partition("if TYPE_CHECKING:")[2].partition("__all__")[0]

    for name, home in _facade.HOMES.items():
        line = next(line for line in block.splitlines() if f"from {home} import" in line)
        assert name in line.partition("import")[2].replace(",", " ").split()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'wrokload'"):
        _ = pa.wrokload  # type: ignore[attr-defined]  # unknown is the point


def test_importing_costs_nothing_heavy() -> None:
    code = (
        "import sys, pentarch; pentarch.hookimpl; "
        "print(sorted({'numba', 'numpy', 'optuna', 'plotly', 'pydantic', 'sqlalchemy', 'yaml'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_packages_stay_importable_beside_the_functions_of_their_names() -> None:
    code = (
        "import pentarch as pa, pentarch.workload.query as query, pentarch.workload\n"
        "from pentarch.workload import importing\n"
        "from pentarch import workload\n"
        "assert query.Query is pa.Query is pentarch.workload.query.Query\n"
        "assert workload is pa.workload and callable(workload)\n"
        "try:\n"
        "    pa.workload('no-such-model')\n"
        "except pa.PentarchError as error:\n"
        "    print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() in ("UnknownNameError", "PluginUnavailableError")


def test_look_ups_go_through_the_default_library(
    monkeypatch: pytest.MonkeyPatch, fake_registry: Registry
) -> None:
    library = Library(fake_registry)
    monkeypatch.setattr(_facade, "default_library", lambda: library)

    assert pa.runtime("ideal").name == "ideal"
    for look_up in (pa.workload, pa.system, pa.device):
        with pytest.raises(pa.PentarchError, match="nothing-at-all"):
            look_up("nothing-at-all")


def test_the_default_library_leaves_out_what_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(catalog.DISABLE_VARIABLE, "all")
    catalog.default_library.cache_clear()
    try:
        library = catalog.default_library()
        assert len(library.registry.backends) == 0
        assert catalog.default_library() is library
    finally:
        catalog.default_library.cache_clear()


def test_the_version_is_that_of_the_distribution() -> None:
    from importlib import metadata

    assert pa.__version__ == metadata.version("pentarch")
