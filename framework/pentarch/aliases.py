"""Names of catalog entries and their aliases, found without regard to case and spacing."""

from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from typing import Protocol

from pentarch.documents import read_document
from pentarch.errors import DuplicateNameError


class NamedEntry(Protocol):
    """What this module needs of an entry of the catalog."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def plugin(self) -> str:
        """Plug-in that contributes it."""

    @property
    def file(self) -> Traversable | None:
        """Its YAML file, if it has one."""

    @property
    def where(self) -> str:
        """The file as errors show it."""


def fold(name: str) -> str:
    """Return `name` as it is compared: small letters, single spaces.

    Examples:
        >>> fold("NVIDIA  H100")
        'nvidia h100'
    """
    return " ".join(name.casefold().split())


def names_by_alias(entries: Iterable[NamedEntry], *, kind: str) -> Mapping[str, str]:
    """Return the name of each entry by its folded name and aliases; reads every file.

    Raises:
        DuplicateNameError: Two entries have a name or alias in common.
    """
    by_name = {entry.name: entry for entry in entries}
    names = {fold(name): name for name in by_name}
    for entry in by_name.values():
        for alias in _aliases(entry):
            other = names.setdefault(fold(alias), entry.name)
            if other != entry.name:
                raise DuplicateNameError(
                    kind=f"{kind} name or alias", name=alias,
                    first=f"{by_name[other].plugin} ({other})", second=entry.plugin,
                )  # fmt: skip
    return names


def _aliases(entry: NamedEntry) -> list[str]:
    if entry.file is None:
        return []
    aliases = read_document(entry.file, where=entry.where).values.get("aliases")
    return [str(alias) for alias in aliases] if isinstance(aliases, list) else []
