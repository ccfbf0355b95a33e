"""The hooks of the Example NPU."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pentarch import Catalog, hookimpl

if TYPE_CHECKING:
    from pentarch import AnyBackend


@hookimpl
def register_backends() -> "Iterable[type[AnyBackend]]":
    """Provide the back-end `npu`."""
    from pentarch_example.backend import NpuBackend

    return [NpuBackend]


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide its devices."""
    return [Catalog(kind="device", package="pentarch_example.devices")]
