"""YAML documents: read once, with line numbers for errors and no silent repair.

On top of plain YAML: a key that occurs twice is an error, and `1e15` is a number.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pentarch.errors import FieldError, InputError

if TYPE_CHECKING:
    import yaml

MAX_BYTES = 2**17
"""A larger file is no hand-written document."""
MAX_DEPTH = 100
"""Deeper nesting is no hand-written document either, and would overflow the parser's stack."""

_PATH_SUFFIXES = frozenset({".yaml", ".yml", ".json"})
_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")


class Readable(Protocol):
    """A file on disk or inside a package."""

    def read_bytes(self) -> bytes:
        """Return the content."""


@dataclass(frozen=True, slots=True)
class Document:
    """A YAML file that holds one mapping."""

    where: str
    """The file, for errors."""
    text: str
    """Its content."""
    values: Mapping[str, Any]
    """Its content, parsed."""

    def line_of(self, path: str) -> int | None:
        """Return the line of a field, counted from 1.

        Args:
            path: For example `"search.chips.int[0]"`; what is missing in the file is looked for
                in the innermost part that is there.

        Returns:
            The line, or `None` when not even the first step of the path is in the file.
        """
        import yaml

        node: yaml.Node | None = yaml.compose(self.text, Loader=_loader())
        line = None
        for name, index in _STEP.findall(path):
            found = _child(node, name, index)
            if found is None:
                break
            line, node = found
        return line

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add the line to every `FieldError` that concerns this file."""
        try:
            yield
        except FieldError as error:
            line = self.line_of(error.path) if error.where == self.where else None
            if line is None:
                raise
            raise FieldError(
                where=f"{self.where}, line {line}",
                path=error.path,
                problem=error.problem,
                expected=error.expected,
            ) from None


def read_document(file: Readable | Path, *, where: str) -> Document:
    """Return the YAML document in `file`.

    Args:
        file: A file on disk or in a package.
        where: The file as errors should show it.

    Raises:
        InputError: The file cannot be read, is no YAML, repeats a key or holds no mapping.
    """
    try:
        content = file.read_bytes()
    except (OSError, ValueError) as error:  # a path with a zero character is a ValueError
        cause = getattr(error, "strerror", None) or error
        raise InputError(
            f"{where} cannot be read: {cause}. Give the path of a YAML file."
        ) from error
    if len(content) > MAX_BYTES:
        raise InputError(
            f"{where} has more than {MAX_BYTES} bytes. Expected a hand-written YAML file."
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: byte {error.start} is not UTF-8 text. Save the file as UTF-8."
        ) from None
    return parse_document(text, where=where)


def parse_document(text: str, *, where: str) -> Document:
    """Return the YAML document in `text`.

    Args:
        text: One YAML mapping.
        where: Where the text comes from, for errors.

    Raises:
        InputError: The text is no YAML, repeats a key or holds no mapping.
    """
    import yaml

    try:
        _check_depth(text, where)
        values = yaml.load(text, Loader=_loader())  # derived from the safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}, line {mark.line + 1}, column {mark.column + 1}" if mark else where
        raise InputError(
            f"{place}: {error.problem or error.context}. Correct the YAML there."
        ) from None
    except yaml.YAMLError as error:
        raise InputError(f"{where}: {error}. Correct the YAML there.") from None
    except ValueError as error:  # a date that is none, a number of thousands of digits
        raise InputError(
            f"{where}: a value cannot be read ({str(error)[:80]}). Correct it, or put it in quotes."
        ) from None
    if not isinstance(values, dict):
        raise InputError(
            f"{where} holds a {type(values).__name__}. Expected a YAML mapping that starts with "
            "`kind:` and `about:`."
        )
    return Document(where=where, text=text, values=values)


def _check_depth(text: str, where: str) -> None:
    """Raise when the document is nested too deeply; reads events, so that no stack grows."""
    import yaml

    if _most_depth(text) <= MAX_DEPTH:
        return
    depth = 0
    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                mark = event.start_mark
                place = where if mark is None else f"{where}, line {mark.line + 1}"
                raise InputError(
                    f"{place}: nested more than {MAX_DEPTH} levels deep. Expected a "
                    "hand-written YAML file."
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _most_depth(text: str) -> int:
    """Return more levels than the text can have: brackets, and what opens blocks in one line."""
    blocks = max(
        (len(line) - len(line.lstrip(" ")) + line.count("- ") + line.count("? ")
         for line in text.splitlines()),
        default=0,
    )  # fmt: skip
    return 1 + text.count("[") + text.count("{") + blocks


@cache
def _loader() -> Any:
    """Return the loader class, made on first use so that YAML is imported only then."""
    import yaml

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class StrictLoader(safe):  # type: ignore[misc]  # the base is chosen at run time
        """The safe loader; repeated keys are errors and `1e15` is a number."""

        def construct_mapping(self, node: "yaml.MappingNode", deep: bool = False) -> dict[Any, Any]:
            seen: set[Any] = set()
            for key_node, _ in node.value:
                key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
                if key is not None and key != "<<" and key in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key!r} occurs twice", key_node.start_mark
                    )
                seen.add(key)
            made: dict[Any, Any] = super().construct_mapping(node, deep=deep)
            return made

    StrictLoader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )
    return StrictLoader


def _child(node: Any, name: str, index: str) -> tuple[int, Any] | None:
    import yaml

    if index and isinstance(node, yaml.SequenceNode) and int(index) < len(node.value):
        child = node.value[int(index)]
        return child.start_mark.line + 1, child
    if name and isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value == name:
                return key.start_mark.line + 1, value
    return None


def is_path(text: str) -> bool:
    """Return whether `text` is a path rather than a name of the catalog.

    Examples:
        >>> is_path("llama-3.1-8b"), is_path("./box.yaml"), is_path("models/llama")
        (False, True, True)
    """
    separators = [separator for separator in (os.sep, os.altsep, "/") if separator]
    return any(part in text for part in separators) or Path(text).suffix in _PATH_SUFFIXES


def exists(path: Path) -> bool:
    """Return whether a path exists; what can be no path does not."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a path is a folder."""
    try:
        return path.is_dir()
    except (OSError, ValueError):  # no path at all: reading it says what is wrong
        return False
