"""Fenced blocks of a page. A block whose first line is a comment with a path is that file."""

import re
from pathlib import Path
from typing import NamedTuple

_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+\.(?:py|yaml|toml))\n")


class Block(NamedTuple):
    """One fenced block."""

    language: str
    """As after the fence."""
    text: str
    """What stands between the fences."""
    line: int
    """Line of its first line of text in the page, counted from 1."""

    @property
    def file(self) -> str | None:
        """Path of the file that the block is, or `None`."""
        found = _FILE.match(self.text)
        return found[1] if found else None


def blocks(page: str) -> list[Block]:
    """Return the fenced blocks of a page that name a language."""
    return [
        Block(found[1], found[2], page.count("\n", 0, found.start(2)) + 1)
        for found in _FENCE.finditer(page)
    ]


def write_files(page: str, folder: Path) -> list[Path]:
    """Write the files that a page holds, and the `__init__.py` that its Python packages need.

    Args:
        page: Text of the page.
        folder: Where to write; what is there is kept.

    Returns:
        The files of the page.
    """
    written = []
    for block in blocks(page):
        if block.file is None:
            continue
        path = folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
        written.append(path)
        package = path.parent
        while package != folder and package.name not in ("tests", "src"):
            if not (package / "__init__.py").exists():
                (package / "__init__.py").write_text(
                    f'"""The package {package.name}."""\n', "utf-8"
                )
            package = package.parent
    return written
