"""Area and manufacturing cost of a designed chip."""

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from pentarch.hardware import technology as tech
from pentarch.hardware.columns import sum_rows
from pentarch.hardware.view import View
from pentarch.workload.formats import Arithmetic, number_format
from pentarch_soc.device import SocDevice

Floats = npt.NDArray[np.float64]

MODE_AREA = "operations.mac_energy_model.overhead.multimode_area_per_mode"
"""Figure of the area of each further format of a multi-format element / the element."""

LANE_MODES = 2.0
"""MACs of area that a vector lane takes: arithmetic beside registers and sequencing, an assumption."""


MODE_ENERGY = "operations.mac_energy_model.overhead.multimode_energy_per_mode"
"""Figure of the energy that each further format adds to a MAC of an element."""


def mac_formats(device: View[SocDevice], name: str) -> tech.MacFormats:
    """Return what an element multiplies and adds into for a compute format."""
    found = number_format(name)
    if found.arithmetic is Arithmetic.INTEGER:
        accumulator = "int24" if found.bits <= 4 else "int32"
        return tech.MacFormats(a=name, b=name, accumulator=accumulator)
    if found.bits > 8:
        return tech.MacFormats(a=name, b=name, accumulator="fp32")
    return tech.MacFormats(
        a=name,
        b=name,
        accumulator=device.float_accumulator,
        fused_products=device.fused_products,
    )


LANES = MappingProxyType({"ucie_standard": 1.0, "pcie5": 16.0})
"""Units of stated area in a link: a PCIe link has 16 lanes, whose bandwidth together is stated."""


@dataclass(frozen=True, slots=True, eq=False)
class Silicon:
    """Area and cost of N designs; arrays of shape (N,)."""

    parts_mm2: dict[str, Floats]
    """Area by component."""
    logic_mm2: Floats
    """Area that leaks as logic."""
    parts_usd: dict[str, Floats]
    """Manufacturing cost of a device with its memory, by component."""
    price_usd: Floats
    """What a buyer pays for it."""
    nre_usd: Floats
    """Design cost inside that price."""


def design_silicon(device: View[SocDevice], log: tech.FigureLog) -> Silicon:
    """Return area, bill of material and price of the designs."""
    node: str = device.node
    length = device.length
    arrays = _element_mm2(device, log) * device.array_rows * device.array_columns * device.arrays
    lane = tech.mac_mm2(tech.MacFormats(a="bf16", b="bf16", accumulator="fp32"), node, used=log)
    vector = lane * LANE_MODES * device.vector_lanes
    parts: dict[str, Floats] = {
        "arrays": arrays,
        "vector unit": vector,
        "control": np.asarray(tech.control_mm2(arrays + vector, used=log)),
        "scratchpad": np.asarray(tech.sram_mm2(device.sram_bytes, node, used=log)),
        "array buffers": np.asarray(tech.sram_mm2(device.register_bytes, node, used=log))
        * device.arrays,
        "memory interfaces": tech.memory_interface_mm2(device.memory, node, used=log)
        * device.memory_interfaces,
        "infrastructure": np.full(length, tech.chip_infrastructure_mm2(node, used=log)),
    }
    if device.link != "none":
        one = tech.link_mm2(device.link, node, used=log) * LANES[device.link]
        parts["links"] = one * device.link_ports
    die = sum_rows(list(parts.values()))
    logic = parts["arrays"] + parts["vector unit"] + parts["control"] + parts["infrastructure"]
    costs = _costs(device, die, log)
    unit: Floats = sum_rows(list(costs.values()))
    nre = design_usd(device, log)
    price = tech.price_usd(
        unit,
        tech.price_multiplier(device.channel, used=log),
        nre_usd=nre,
        volume=device.volume,
    )
    return Silicon(
        parts_mm2=parts, logic_mm2=logic, parts_usd=costs, price_usd=np.asarray(price),
        nre_usd=np.broadcast_to(nre / device.volume, (length,)),
    )  # fmt: skip


def design_usd(device: View[SocDevice], log: tech.FigureLog) -> float | Floats:
    """Return the one-time design cost: what the device states, else that of its program and node."""
    stated: Floats | None = device.nre_usd
    if stated is not None:
        return stated
    program = tech.DesignProgram(device.design_program)
    return tech.nre_usd(device.node, program=program, used=log)


def _element_mm2(device: View[SocDevice], log: tech.FigureLog) -> Floats:
    """Return the area of a processing element: its costliest format, and a share for each other.

    A format that runs at a fraction of a MAC per cycle takes that fraction of its own MAC's area.
    """
    areas = [
        tech.mac_mm2(mac_formats(device, name), device.node, used=log) * rate
        for name, rate in device.macs_per_pe.items()
    ]  # fmt: skip
    per_mode = log.si(MODE_AREA, owner="elements of several formats")
    largest: Floats = np.max(areas, axis=0) * (1.0 + per_mode * (len(areas) - 1))
    return largest


def _costs(device: View[SocDevice], die_mm2: Floats, log: tech.FigureLog) -> dict[str, Floats]:
    memory: str = device.memory
    capacity = device.memory_bytes
    if capacity is None:
        capacity = device.memory_interfaces * tech.memory_interface_bytes(memory, used=log)
    # A die beyond the reticle is infeasible; its price is that of the largest die, shown beside the reason.
    priced = np.minimum(die_mm2, tech.reticle_mm2(used=log))
    raw = np.asarray(tech.raw_die_usd(priced, device.node, used=log))
    die = np.asarray(tech.die_usd(priced, device.node, used=log))
    has_stacks = memory.startswith("hbm")
    package = (
        tech.cowos_package_usd(priced, device.memory_interfaces, used=log)
        if has_stacks
        else tech.organic_package_usd(priced, used=log)
    )
    kind = tech.Package.COWOS if has_stacks else tech.Package.ORGANIC
    bonded = 1.0 + (device.memory_interfaces if has_stacks else 0.0)
    survived = tech.bonding_yield(bonded, kind, used=log)
    memory_cost = np.asarray(tech.memory_usd(memory, capacity, used=log))
    in_package = die + package + (memory_cost if has_stacks else 0.0)
    return {
        "die": raw,
        "yield loss": die - raw,
        "package": np.asarray(package),
        "memory": memory_cost,
        "test": np.asarray(tech.chip_test_usd(die, kind, used=log)) * np.ones_like(die),
        "assembly loss": in_package * (1.0 / survived - 1.0),
    }
