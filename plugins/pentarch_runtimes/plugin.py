"""The software stacks of today, beside the framework's own `ideal`."""

from collections.abc import Iterable

from pentarch import Catalog, hookimpl


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide the runtimes."""
    return [Catalog(kind="runtime", package="pentarch_runtimes.runtimes")]
