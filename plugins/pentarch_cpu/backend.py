"""The CPU back-end: from datasheet figures to cores behind a shared cache."""

from typing import ClassVar

from pentarch.contracts.backend import Backend
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.view import View
from pentarch_cpu.device import CALIBRATED, CpuDevice


class CpuBackend(Backend[CpuDevice]):
    """Cores that take tiles from a menu, behind a shared cache and memory that one cannot saturate."""

    name = "cpu"
    about = "CPU: SIMD and matrix units per core, bandwidth per core and cluster, barriers, NUMA"
    device_model: ClassVar[type[CpuDevice]] = CpuDevice
    calibrated: ClassVar[frozenset[str]] = CALIBRATED
    family_field: ClassVar[str | None] = "architecture"

    def machine(self, device: View[CpuDevice]) -> MachineTable:
        """Describe one socket or a batch of them; energies follow the node, static power the TDP."""
        from pentarch_cpu.describe import describe  # listing back-ends needs no technology library

        return describe(device)
