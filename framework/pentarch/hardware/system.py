"""Systems: how many devices, in what boxes, and what the rest of the box costs and draws."""

from dataclasses import replace

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt

from pentarch.hardware.machine import MachineTable, Provenance
from pentarch.model import Model


class System(Model):
    """Devices of one kind, the boards they sit on and the host beside them."""

    name: str
    """For example `"8xh100_sxm"`."""
    about: str = ""
    """One line for lists."""
    device: str
    """Name of the device in the catalog."""
    devices: PositiveInt = 1
    """Devices in the whole system."""
    devices_per_board: PositiveInt | None = None
    """Devices joined by the innermost link; `None` means all, as far as the link reaches."""
    host_w: NonNegativeFloat | None = None
    """Power of CPU, NIC and fans that run with the devices; `None` takes the device's figure."""
    host_usd: NonNegativeFloat | None = None
    """Price of everything besides the devices (board, host, NIC, supply, cooling, enclosure);
    `None` takes the device's figure."""
    supply_efficiency: float = Field(default=0.94, gt=0, le=1)
    """Share of the wall power that reaches the system; used for the wall boundary only."""
    sources: dict[str, Provenance] = {}
    """Source and grade by field; the entry `"*"` covers the others."""


def on_boards(machine: MachineTable, system: System) -> MachineTable:
    """Return the machine as its system wires it: the innermost link joins the devices of a board."""
    if system.devices_per_board is None or not machine.links:
        return machine
    first, *others = machine.links
    degree = np.minimum(first.degree, float(system.devices_per_board))
    wired = replace(first, numbers={**first.numbers, "degree": degree})
    return replace(machine, links=(wired, *others))
