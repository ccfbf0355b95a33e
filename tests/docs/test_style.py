"""The sizes and habits that the project asks for, where no linter checks them."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    path
    for root in ("framework", "plugins", "spaces")
    for path in sorted((ROOT / root).rglob("*.py"))
]
LONGEST_FILE = 500
LONGEST_FUNCTION = 60


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert len(text.splitlines()) <= LONGEST_FILE
    for function in _functions(ast.parse(text)):
        length = (function.end_lineno or function.lineno) - function.lineno + 1
        assert length <= LONGEST_FUNCTION, function.name


def test_every_package_says_that_it_is_typed() -> None:
    packages = [path.parent for path in SOURCES if path.name == "__init__.py"]
    tops = {path for path in packages if not (path.parent / "__init__.py").exists()}

    assert len(tops) >= 6
    for package in tops:
        assert (package / "py.typed").exists(), package


def test_every_suppression_says_why() -> None:
    for path in SOURCES:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for mark in ("# type: ignore", "# noqa"):
                if mark in line:
                    reason = line.split(mark, 1)[1]
                    assert "  # " in reason or " - " in reason, f"{path}:{number}"
