"""GPUs as a pentarch back-end."""

from collections.abc import Iterable

from pentarch import AnyBackend, Catalog, hookimpl


@hookimpl
def register_backends() -> Iterable[type[AnyBackend]]:
    """Provide the GPU back-end."""
    from pentarch_gpu.backend import GpuBackend

    return [GpuBackend]


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide the GPUs of the catalog, the systems built on them, and what was fitted to measurements."""
    return [
        Catalog(kind="device", package="pentarch_gpu.devices"),
        Catalog(kind="system", package="pentarch_gpu.systems"),
        Catalog(kind="calibration", package="pentarch_gpu.calibration"),
    ]
