"""The software stacks of today, beside the framework's own `ideal`."""

from collections.abc import Iterable

from pentarch import Catalog, hookimpl


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide the runtimes, and what was fitted to measurements of them."""
    return [
        Catalog(kind="runtime", package="pentarch_runtimes.runtimes"),
        Catalog(kind="calibration", package="pentarch_runtimes.calibration"),
    ]
