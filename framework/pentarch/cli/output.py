"""What the verbs share: the library of this process, JSON on stdout, and aligned text."""

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pentarch.catalog import Library

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
"""The option `--json`."""


def library() -> "Library":
    """Return the library of all plug-ins that are not left out."""
    from pentarch import catalog

    return catalog.default_library()


def print_json(document: object) -> None:
    """Print one JSON document; what is unknown or not finite becomes `null`.

    Args:
        document: A pydantic model, or mappings, sequences and scalars that may hold some.
    """
    json.dump(plain(document), sys.stdout, indent=2, allow_nan=False, ensure_ascii=False)
    print()


def plain(value: object) -> Any:
    """Return `value` as JSON types: models as mappings, NaN and infinities as `None`."""
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return plain(dump(mode="json"))
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Sequence | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def print_rows(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and what they are about, aligned."""
    width = max((len(name) for name, _ in rows), default=0)
    for name, about in rows:
        print(f"  {name:<{width}}  {about}".rstrip())
