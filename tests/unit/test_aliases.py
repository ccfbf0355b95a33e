"""Aliases of catalog entries: one name for each, whatever the case and the spacing."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pentarch import Catalog
from pentarch.catalog import Library
from pentarch.errors import DuplicateNameError, UnknownNameError

TINY = "kind: workload\nabout: Tiny.\nsource: a test\naliases: [{aliases}]\nconfig: {{model_type: fake, layers: 2}}\n"


@pytest.fixture
def library_of(
    catalog_package: Callable[[Mapping[str, str]], str],
    fakes: Any,
    registry_of: Callable[..., Any],
) -> Callable[[Mapping[str, str]], Library]:
    def make(aliases: Mapping[str, str]) -> Library:
        files = {f"{name}.yaml": TINY.format(aliases=text) for name, text in aliases.items()}
        catalog = Catalog(kind="workload", package=catalog_package(files))
        return Library(registry_of(fake=fakes.plugin([catalog])))

    return make


@pytest.mark.parametrize("label", ["maker/Tiny-2L", "MAKER/tiny-2l", "the  Tiny", "TINY", "tiny"])
def test_a_workload_is_found_by_its_name_and_aliases(
    library_of: Callable[[Mapping[str, str]], Library], label: str
) -> None:
    assert library_of({"tiny": "maker/Tiny-2L, The tiny"}).workload(label).name == "tiny"


def test_a_path_that_exists_goes_before_an_alias(
    library_of: Callable[[Mapping[str, str]], Library],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "maker" / "Tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "fake", "layers": 5}', encoding="utf-8")
    library = library_of({"tiny": "maker/Tiny"})
    assert library.workload("maker/Tiny").depth == 2
    monkeypatch.chdir(tmp_path)

    assert library.workload("maker/Tiny").depth == 5


def test_two_workloads_with_one_alias_are_an_error(
    library_of: Callable[[Mapping[str, str]], Library],
) -> None:
    library = library_of({"one": "same", "two": "Same"})

    with pytest.raises(DuplicateNameError, match="workload name or alias"):
        library.workload("SAME")


def test_an_unknown_label_is_named(library_of: Callable[[Mapping[str, str]], Library]) -> None:
    with pytest.raises(UnknownNameError, match="other"):
        library_of({"tiny": "maker/Tiny"}).workload("other")
