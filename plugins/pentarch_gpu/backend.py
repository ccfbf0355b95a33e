"""The GPU back-end: from datasheet figures to a machine with a cache and a tile menu."""

from collections.abc import Mapping
from typing import ClassVar

from pentarch.contracts.backend import Backend, Prior
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.view import View
from pentarch_gpu.device import CALIBRATED, GpuDevice


class GpuBackend(Backend[GpuDevice]):
    """Multiprocessors that take tiles from a menu, wave by wave, through a shared L2 cache."""

    name = "gpu"
    about = (
        "GPU: tile menu and waves through an L2 cache, kernel starts, power cap, NVLink-class links"
    )
    device_model: ClassVar[type[GpuDevice]] = GpuDevice
    calibrated: ClassVar[frozenset[str]] = CALIBRATED
    family_field: ClassVar[str | None] = "architecture"

    def machine(self, device: View[GpuDevice]) -> MachineTable:
        """Describe one GPU or a batch of them; energies follow the node, static power the TDP."""
        from pentarch_gpu.describe import describe  # listing back-ends needs no technology library

        return describe(device)

    def priors(self, device: GpuDevice) -> Mapping[str, Prior]:
        """Return what to expect of the figures that a fit may set, by field or `field.key`."""
        from pentarch_gpu.priors import priors_of  # only fits and unmeasured devices ask

        return priors_of(device)
