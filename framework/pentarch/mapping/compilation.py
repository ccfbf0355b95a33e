"""Lazy, cached compilation of the kernels, with an identical plain-Python path.

The kernels are ordinary Python functions decorated with `inlined` or `compiled`. Importing
`pentarch.mapping.kernels` imports numba; everything else in the package reaches it through
`load_kernels`, so that commands which map nothing never pay for it.

Compiled code is kept in the directory that `NUMBA_CACHE_DIR` names, else in the user's cache
folder. Numba's own staleness test watches only the file of the outermost function, so the
directory's name carries a hash over all kernel sources and the versions of numba and Python.
`NUMBA_DISABLE_JIT=1` leaves the functions undecorated: the same source, identical bytes, slow.
"""

import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, TypeVar, cast

KERNEL_MODULES = (
    "attention_kernels", "attention_times", "cached_attention_kernels", "deep_kernels",
    "deep_search", "deep_tiles", "keeping", "kernels", "nests", "rivals", "scan", "summing", "waves",
)  # fmt: skip
"""Modules of this package whose source ends up in compiled code."""

F = TypeVar("F", bound=Callable[..., Any])


class CachePlace(NamedTuple):
    """Where compiled kernels are kept."""

    directory: Path | None
    """An existing, writable folder; `None` when there is none."""
    note: str | None
    """Why compiled kernels are not kept, or `None` when they are."""


def compiled(function: F) -> F:
    """Return `function` compiled on its first call, without the GIL, and cached on disk."""
    return _decorate(function, cached=cache_place().directory is not None)


def inlined(function: F) -> F:
    """Return `function` compiled as a part of the kernels that call it."""
    return _decorate(function, cached=False)


@cache
def load_kernels() -> ModuleType:
    """Return the module of kernels, importing numba on the first call."""
    return import_module("pentarch.mapping.kernels")


@cache
def load_sums() -> ModuleType:
    """Return the module of the cost model's loops, importing numba on the first call."""
    return import_module("pentarch.mapping.summing")


@cache
def load_waves() -> ModuleType:
    """Return the module that chooses tiles behind a cache, importing numba on the first call."""
    return import_module("pentarch.mapping.waves")


@cache
def load_keeping() -> ModuleType:
    """Return the module that decides what stays on chip, importing numba on the first call."""
    return import_module("pentarch.mapping.keeping")


@cache
def load_rivals() -> ModuleType:
    """Return the module that tells which decisions may be faster, importing numba if need be."""
    return import_module("pentarch.mapping.rivals")


@cache
def load_deep_kernels() -> ModuleType:
    """Return the module of kernels for any number of boundaries, importing numba if need be."""
    return import_module("pentarch.mapping.deep_kernels")


@cache
def cache_place() -> CachePlace:
    """Return the folder for compiled kernels and, when there is none, the reason."""
    chosen = os.environ.get("NUMBA_CACHE_DIR")
    root = Path(chosen) if chosen else _user_cache_folder()
    if root is None:
        return CachePlace(None, "Compiled kernels are not kept: no home folder is known.")
    directory = root / "pentarch" / source_hash()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        return CachePlace(
            None,
            f"Compiled kernels are not kept: {directory} cannot be written ({error.strerror}). "
            "Set NUMBA_CACHE_DIR to a writable folder to save some seconds in every process.",
        )
    return CachePlace(directory, None)


@cache
def source_hash() -> str:
    """Return a hash over all kernel sources and the versions of numba and Python."""
    digest = hashlib.sha256()
    for module in KERNEL_MODULES:
        digest.update(Path(__file__).with_name(f"{module}.py").read_bytes())
    digest.update(Path(__file__).read_bytes())
    digest.update(metadata.version("numba").encode())
    digest.update(platform.python_version().encode())
    return digest.hexdigest()[:16]


def _decorate(function: F, *, cached: bool) -> F:
    from numba import njit

    _collect_after_compiling()
    with _cache_directory(cache_place().directory):
        decorated = njit(nogil=True, fastmath=False, cache=cached)(function)
    return cast(F, decorated)


@cache
def _collect_after_compiling() -> None:
    """Let the garbage collector wait while numba compiles, which makes few cycles and many objects.

    Numba compiles one function at a time, so starts and ends of its events nest.
    """
    import gc

    from numba.core import event

    class Waiting(event.Listener):
        def __init__(self) -> None:
            self.before: list[bool] = []

        def on_start(self, event: object) -> None:
            self.before.append(gc.isenabled())
            gc.disable()

        def on_end(self, event: object) -> None:
            if self.before.pop():
                gc.enable()

    event.register("numba:compile", Waiting())  # type: ignore[no-untyped-call]  # numba has no types


@contextmanager
def _cache_directory(directory: Path | None) -> Iterator[None]:
    """Let numba place a function's cache in `directory`, leaving its setting as found."""
    from numba import config

    # numba fills its configuration at import, so type-checkers see no attributes.
    settings: Any = config
    before = settings.CACHE_DIR
    settings.CACHE_DIR = before if directory is None else str(directory)
    try:
        yield
    finally:
        settings.CACHE_DIR = before


def _user_cache_folder() -> Path | None:
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        value = os.environ.get(variable)
        if value:
            return Path(value)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None
