"""The search spaces that come with pentarch."""

from collections.abc import Iterable

from pentarch import Catalog, hookimpl


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Return the package of spaces: this one."""
    return [Catalog(kind="space", package="pentarch_spaces")]
