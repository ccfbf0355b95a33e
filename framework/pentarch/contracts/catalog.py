"""Catalogs: packages of YAML files that a plug-in contributes."""

from dataclasses import dataclass
from typing import Literal

CatalogKind = Literal["workload", "device", "runtime", "system", "space", "calibration"]


@dataclass(frozen=True, slots=True)
class Catalog:
    """A package whose `*.yaml` files each define one named entry; the file's stem is the name."""

    kind: CatalogKind
    """What the files define."""
    package: str
    """Importable package that holds them, for example `"pentarch_soc.devices"`."""
