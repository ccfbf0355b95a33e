"""Devices that are known by name but that no file describes: why a look-up cannot succeed."""

from functools import cache
from importlib import resources

from pentarch.documents import read_document

_FILE = "known_devices.yaml"


@cache
def _classes() -> dict[str, str]:
    """Return the class of each known device by its name in lower case."""
    file = resources.files("pentarch.hardware") / _FILE
    values = read_document(file, where=_FILE).values
    return {
        " ".join(str(name).casefold().split()): kind
        for kind, names in values.items()
        for name in names
    }


def known_class(name: str) -> str | None:
    """Return the class (cpu, soc, fpga) of a device that no catalog has, `None` if it is unknown.

    Examples:
        >>> known_class("AMD EPYC 9654"), known_class("toaster")
        ('cpu', None)
    """
    return _classes().get(" ".join(name.casefold().split()))


def why_absent(name: str) -> str | None:
    """Return why the catalog lacks a device that exists, or `None` if nothing is known of it."""
    kind = known_class(name)
    return None if kind is None else f"{name} is a {kind} that no file describes: no back-end yet."
