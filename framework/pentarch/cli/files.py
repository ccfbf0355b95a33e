"""Files that commands write: whole or not at all, and never over what is there unasked."""

import os
import secrets
from pathlib import Path
from typing import Annotated

import typer

from pentarch.errors import InputError

Force = Annotated[bool, typer.Option("--force", help="Write over the file that is there.")]
"""The option `--force`."""


def write_whole(path: Path, content: str | bytes, *, force: bool) -> Path:
    """Write a file that appears whole or not at all.

    Args:
        path: Where; missing folders are made.
        content: Text, written as UTF-8, or bytes.
        force: Whether a file that is there is written over.

    Returns:
        The path written.

    Raises:
        InputError: The path is a folder, there is a file already, or it cannot be written.
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder. Name a file in it.")
    if path.exists() and not force:
        raise InputError(f"{path} exists. Choose another name, or write over it with `--force`.")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    data = content.encode("utf-8") if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("xb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{path} cannot be written: {error.strerror or error}. Name a place that can be written."
        ) from error
    return path


def known_suffix(path: Path, known: tuple[str, ...]) -> str:
    """Return the suffix of a path that tells which format to write.

    Raises:
        InputError: It is none of the known ones.
    """
    suffix = path.suffix.lower()
    if suffix not in known:
        found = f"the suffix {path.suffix!r}" if path.suffix else "no suffix"
        raise InputError(
            f"{path} has {found}, which tells the format. Expected one of {', '.join(known)}: "
            f"for example {path.with_suffix(known[0]).name}."
        )
    return suffix
