"""CPUs as a pentarch back-end."""

from collections.abc import Iterable

from pentarch import AnyBackend, Catalog, hookimpl


@hookimpl
def register_backends() -> Iterable[type[AnyBackend]]:
    """Provide the CPU back-end."""
    from pentarch_cpu.backend import CpuBackend

    return [CpuBackend]


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide the CPUs of the catalog."""
    return [Catalog(kind="device", package="pentarch_cpu.devices")]
