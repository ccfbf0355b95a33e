"""`pentarch list`: names, one line each."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentarch.cli.output import JsonFlag, library, print_json, print_rows

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.contracts.catalog import CatalogKind
    from pentarch.registry import Provided


@dataclass(frozen=True, slots=True)
class _Listed:
    title: str
    kind: str
    attribute: str | None = None
    entries: "CatalogKind | None" = None


_LISTED = (
    _Listed("workloads", "workload", entries="workload"),
    _Listed("devices", "device", entries="device"),
    _Listed("systems", "system", entries="system"),
    _Listed("runtimes", "runtime", entries="runtime"),
    _Listed("spaces", "space", entries="space"),
    _Listed("backends", "backend", attribute="backends"),
    _Listed("partitioners", "partitioner", attribute="partitioners"),
    _Listed("families", "workload family", attribute="families"),
    _Listed("metrics", "metric", attribute="metrics"),
    _Listed("sections", "report section", attribute="sections"),
    _Listed("plugins", "plugin"),
)


def list_(
    what: Annotated[
        str | None, typer.Argument(metavar="[KIND]", help=", ".join(one.title for one in _LISTED))
    ] = None,
    problems: Annotated[
        bool, typer.Option("--problems", help="List only what cannot be loaded, with the cause.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List what plug-ins and catalogs provide."""
    found = library()
    rows = [row for listed in _chosen(what) for row in _rows(found, listed)]
    if problems:
        rows = [row | {"error": error} for row in rows if (error := _error(found, row)) is not None]
    if as_json:
        print_json(rows)
        return
    for kind, group in groupby(rows, key=lambda row: str(row["kind"])):
        if what is None or problems:
            print(next(listed.title for listed in _LISTED if listed.kind == kind))
        print_rows([(row["name"], row["error"] if problems else row["about"]) for row in group])


def _chosen(what: str | None) -> tuple[_Listed, ...]:
    if what is None:
        return _LISTED
    for listed in _LISTED:
        if what in (listed.title, listed.kind):
            return (listed,)
    from pentarch.errors import UnknownNameError

    raise UnknownNameError(
        kind="list",
        name=what,
        known=[listed.title for listed in _LISTED],
        hint="`pentarch list` without a name lists everything.",
    )


def _rows(found: "Library", listed: _Listed) -> Iterator[dict[str, Any]]:
    if listed.entries is not None:
        for entry in found.names(listed.entries):
            yield {
                "name": entry.name, "kind": listed.kind, "plugin": entry.plugin,
                "about": entry.about,
            }  # fmt: skip
    elif listed.attribute is not None:
        provided: Provided[Any] = getattr(found.registry, listed.attribute)
        for name, cls in provided.classes.items():
            about = getattr(cls, "about", None) or getattr(cls, "title", "")
            yield {
                "name": name, "kind": listed.kind, "plugin": provided.plugins[name], "about": about,
            }  # fmt: skip
    else:
        for plugin in found.registry.plugins:
            state = plugin.status if plugin.error is None else f"{plugin.status}: {plugin.error}"
            yield {
                "name": plugin.name, "kind": "plugin", "plugin": plugin.name,
                "about": f"{plugin.module} {plugin.version or ''} {state}".replace("  ", " "),
                "module": plugin.module, "version": plugin.version, "status": plugin.status,
                "error": plugin.error,
            }  # fmt: skip


def _error(found: "Library", row: dict[str, Any]) -> str | None:
    """Return why an entry cannot be loaded, or `None` if it can."""
    from pentarch.errors import PentarchError

    if row["kind"] == "plugin":
        error: str | None = row["error"]
        return error
    loaders = {
        "workload": found.workload, "device": found.device, "system": found.system,
        "runtime": found.runtime, "space": found.space,
    }  # fmt: skip
    try:
        if row["kind"] in loaders:
            loaders[row["kind"]](row["name"])
    except PentarchError as problem:
        return str(problem)
    return None
