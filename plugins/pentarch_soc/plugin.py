"""Custom SoCs as a pentarch back-end."""

from collections.abc import Iterable

from pentarch import AnyBackend, Catalog, hookimpl


@hookimpl
def register_backends() -> Iterable[type[AnyBackend]]:
    """Provide the SoC back-end."""
    from pentarch_soc.backend import SocBackend

    return [SocBackend]


@hookimpl
def register_catalogs() -> Iterable[Catalog]:
    """Provide reference designs and the boxes they come in."""
    return [
        Catalog(kind="device", package="pentarch_soc.devices"),
        Catalog(kind="system", package="pentarch_soc.systems"),
    ]
