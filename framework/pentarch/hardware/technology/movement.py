"""Energy of moving data: SRAM, registers, wires, networks on chip, DRAM and links."""

from enum import StrEnum

import numpy as np

from pentarch.hardware.technology.energy import node_energy_ratio
from pentarch.hardware.technology.library import FigureLog, check_name, reading
from pentarch.hardware.technology.quantities import MIB_BYTES, Values


class DramBoundary(StrEnum):
    """Where the counting of DRAM energy ends; figures of different boundaries never mix."""

    DEVICE = "device"
    """DRAM dies and their input/output."""
    CONTROLLER = "controller"
    """The device and the controller and PHY on the compute die."""


def sram_read_j_per_byte(
    capacity_bytes: Values,
    node: str,
    *,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return joules per byte read from an SRAM of `capacity_bytes`.

    E = 0.22 pJ/bit · (C / MiB)^0.35 at N7, times the node's energy ratio and (V/Vnom)²; sources
    spread about twofold both ways.

    Args:
        capacity_bytes: Capacity of the array that one access searches, one instance.
        node: Logic process.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: The node's energy ratio is unknown.
    """
    log = reading(used)
    coefficient = log.si("sram.energy_model.coeff", owner="SRAM energy")
    exponent = log.si("sram.energy_model.exponent", owner="SRAM energy")
    n7_j: Values = coefficient * (capacity_bytes / MIB_BYTES) ** exponent
    return n7_j * node_energy_ratio(node, used=log) * voltage_ratio**2


def sram_write_j_per_byte(
    capacity_bytes: Values,
    node: str,
    *,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return joules per byte written: 1.1 times a read.

    Args:
        capacity_bytes: Capacity of the array that one access searches, one instance.
        node: Logic process.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: The node's energy ratio is unknown.
    """
    log = reading(used)
    factor = log.si("sram.energy_model.write_over_read", owner="SRAM energy")
    return factor * sram_read_j_per_byte(
        capacity_bytes, node, voltage_ratio=voltage_ratio, used=log
    )


def register_j_per_byte(
    node: str, *, voltage_ratio: Values = 1.0, used: FigureLog | None = None
) -> Values:
    """Return joules per byte read from or written to a small single-ported register file.

    Args:
        node: Logic process.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: The node's energy ratio is unknown.
    """
    log = reading(used)
    n7_j = log.si("sram.register_file_bit_access_7nm", owner="register file energy")
    return n7_j * node_energy_ratio(node, used=log) * voltage_ratio**2


def wire_j_per_byte(
    length_mm: Values,
    *,
    voltage_ratio: Values = 1.0,
    on_interposer: bool = False,
    used: FigureLog | None = None,
) -> Values:
    """Return joules per byte of random data over a repeated wire.

    One figure for every node: 0.10 pJ/bit/mm is stated for N7 and N2 alike.

    Args:
        length_mm: Length of the wire.
        voltage_ratio: Supply over nominal supply; squared.
        on_interposer: Whether the wire runs on the interposer instead of the die.
        used: Log of the figures read.
    """
    path = "wire.interposer" if on_interposer else "wire.energy_n7"
    return reading(used).si(path, owner="wire energy") * length_mm * voltage_ratio**2


def mesh_distance_mm(die_side_mm: Values) -> Values:
    """Return the mean Manhattan distance of two random points of a square die: 2/3 of its side."""
    return die_side_mm * (2.0 / 3.0)


def noc_j_per_byte(
    hops: Values,
    length_mm: Values,
    *,
    node: str,
    voltage_ratio: Values = 1.0,
    used: FigureLog | None = None,
) -> Values:
    """Return joules per byte through a network on chip: hops · router + length · wire.

    Args:
        hops: Routers passed.
        length_mm: Wire passed; `mesh_distance_mm` gives the mean of a mesh.
        node: Logic process; scales the routers, not the wires.
        voltage_ratio: Supply over nominal supply.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: The node's energy ratio is unknown.
    """
    log = reading(used)
    router_j = log.si("wire.noc_router_hop", owner="network-on-chip energy")
    routers_j = hops * router_j * node_energy_ratio(node, used=log) * voltage_ratio**2
    return routers_j + wire_j_per_byte(length_mm, voltage_ratio=voltage_ratio, used=log)


def memory_types(used: FigureLog | None = None) -> tuple[str, ...]:
    """Return the DRAM types that the library knows."""
    library = reading(used).library
    return tuple(
        name for name in library.members("memory") if f"memory.{name}.device_io" in library.figures
    )


def check_memory(memory: str, used: FigureLog | None = None) -> str:
    """Return `memory` when it is a DRAM type of the library.

    Raises:
        UnknownNameError: It is none.
    """
    log = reading(used)
    if f"memory.{memory}.device_io" in log.library.figures:
        return memory
    return check_name("memory type", memory, memory_types(log))


def dram_j_per_byte(
    memory: str,
    *,
    boundary: DramBoundary = DramBoundary.CONTROLLER,
    used: FigureLog | None = None,
) -> float:
    """Return joules per byte moved to or from DRAM.

    Device figure + controller and PHY: 1.0 pJ/bit, for LPDDR 2.25 pJ/bit. Background power is
    apart (`dram_background_w`).

    Args:
        memory: DRAM type, for example `"hbm3e"`.
        boundary: What is counted.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The memory type is unknown.
    """
    log = reading(used)
    owner = f"memory {check_memory(memory, log)}"
    device_j = log.si(f"memory.{memory}.device_io", owner=owner)
    if boundary is DramBoundary.DEVICE:
        return device_j
    suffix = "_lpddr" if memory.startswith("lpddr") else ""
    return device_j + log.si(f"memory.controller_phy_energy{suffix}", owner=owner)


def dram_background_w(stacks: Values, *, used: FigureLog | None = None) -> Values:
    """Return watts of refresh and idle PHYs of `stacks` HBM stacks."""
    return stacks * reading(used).si("memory.background_power_hbm", owner="HBM background power")


def link_types(used: FigureLog | None = None) -> tuple[str, ...]:
    """Return the link types that the library knows."""
    return reading(used).library.members("links")


def _check_link(link: str, log: FigureLog) -> None:
    if f"links.{link}.energy" not in log.library.figures:
        check_name("link type", link, link_types(log))


def link_j_per_byte(link: str, *, used: FigureLog | None = None) -> float:
    """Return joules per byte moved once over a link, transmitter and receiver together.

    Args:
        link: Link type, for example `"ucie_advanced"` or `"pcie5"`.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The link type is unknown.
    """
    log = reading(used)
    _check_link(link, log)
    return log.si(f"links.{link}.energy", owner=f"link {link}")


def link_bandwidth_bytes_per_s(link: str, *, used: FigureLog | None = None) -> float:
    """Return the bandwidth that the library states for a link, on the basis it states.

    Read `technology().figure("links.<link>.bandwidth").basis`: some figures are per direction,
    some for both; modules count both.

    Args:
        link: Link type.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The link type is unknown.
        MissingFigureError: No bandwidth is stated.
    """
    log = reading(used)
    _check_link(link, log)
    module = f"links.{link}.bw_module"
    path = module if module in log.library.figures else f"links.{link}.bandwidth"
    return log.si(path, owner=f"link {link}")


def memory_interface_bytes_per_s(memory: str, *, used: FigureLog | None = None) -> float:
    """Return the peak bandwidth of one interface: stack, GDDR x32, LPDDR x16 or DDR 64-bit channel.

    Raises:
        UnknownNameError: The memory type is unknown.
        MissingFigureError: Its bandwidth is not stated.
    """
    log = reading(used)
    check_memory(memory, log)
    return log.si(f"memory.{memory}.bw_channel", owner=f"memory {memory}")


def memory_interface_bytes(memory: str, *, used: FigureLog | None = None) -> float:
    """Return the capacity behind one interface, as `memory_interface_bytes_per_s` counts them.

    LPDDR capacity is stated per x64 package: a quarter of it is behind one x16 channel.

    Raises:
        UnknownNameError: The memory type is unknown.
        MissingFigureError: Its capacity is not stated.
    """
    log = reading(used)
    check_memory(memory, log)
    capacity_bytes = log.si(f"memory.{memory}.capacity", owner=f"memory {memory}")
    return capacity_bytes / 4 if memory.startswith("lpddr") else capacity_bytes


def memory_bandwidth_fraction(memory: str, *, used: FigureLog | None = None) -> float:
    """Return the share of peak DRAM bandwidth that long streams reach.

    Raises:
        UnknownNameError: The memory type is unknown.
        MissingFigureError: The share is not stated.
    """
    log = reading(used)
    check_memory(memory, log)
    return log.si(f"memory.{memory}.bw_fraction", owner=f"memory {memory}")


def interfaces_for(memory: str, bytes_per_s: Values, *, used: FigureLog | None = None) -> Values:
    """Return the whole number of interfaces whose peak bandwidth reaches `bytes_per_s`.

    Raises:
        UnknownNameError: The memory type is unknown.
        MissingFigureError: Its bandwidth is not stated.
    """
    count = np.ceil(bytes_per_s / memory_interface_bytes_per_s(memory, used=used) - 1e-9)
    return float(count) if np.ndim(count) == 0 else count
