"""The SoC back-end: from design parameters to a machine, its area and its price."""

from typing import ClassVar

from pentarch.contracts.backend import Backend
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.view import View
from pentarch_soc.device import SocDevice


class SocBackend(Backend[SocDevice]):
    """Output-stationary arrays with their own buffers behind one software-managed scratchpad."""

    name = "soc"
    about = "custom SoC: arrays, scratchpads, external memory; area, yield and price from the node"
    device_model: ClassVar[type[SocDevice]] = SocDevice

    def machine(self, device: View[SocDevice]) -> MachineTable:
        """Describe one design or a batch of them.

        Energies and clocks are those of the design's supply. Static power is leakage, memory
        background and the clock power of idle arrays.
        """
        from pentarch_soc.describe import describe  # listing back-ends needs no technology library

        return describe(device)
