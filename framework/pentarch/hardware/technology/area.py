"""Die area: MACs, SRAM, memory and link interfaces, control; reticle and shoreline limits."""

from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from pentarch.errors import FieldError, MissingFigureError
from pentarch.hardware.technology.energy import MacFormats
from pentarch.hardware.technology.library import FigureLog, check_name, check_node, reading
from pentarch.hardware.technology.movement import check_memory, link_types
from pentarch.hardware.technology.quantities import MIB_BYTES, Values
from pentarch.workload.formats import Arithmetic, NumberFormat

_N45_AREAS = "operations.horowitz_45nm_0v9"
_FLOAT_ADDERS = MappingProxyType({"fp16": "fp_add_16", "fp32": "fp_add_32"})
_FP16_SIGNIFICAND = 11


def logic_area_ratio(node: str, *, used: FigureLog | None = None) -> float:
    """Return the area of some logic at `node` over its area at N7, by peak transistor density.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its density is unknown (n2).
    """
    log = reading(used)
    owner = f"node {check_node(node)}"
    n7_per_mm2 = log.si("nodes.n7.logic_mtr_mm2", owner="node n7")
    return n7_per_mm2 / log.si(f"nodes.{node}.logic_mtr_mm2", owner=owner)


def logic_mm2(transistors: Values, node: str, *, used: FigureLog | None = None) -> Values:
    """Return the area of `transistors` of logic at the node's peak density.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its density is unknown (n2).
    """
    owner = f"node {check_node(node)}"
    return transistors / reading(used).si(f"nodes.{node}.logic_mtr_mm2", owner=owner)


def bare_mac_mm2(formats: MacFormats, node: str, *, used: FigureLog | None = None) -> float:
    """Return the area of one multiplier and its adder, without registers and routing.

    The recommended N7 table where it has the formats; elsewhere the rule that the table itself
    follows: Horowitz's 45 nm area · 0.059 with the fp16 multiplier scaled by the product of the
    significands (m_a · m_b / 121), the 8-bit multiplier by that of the widths (/ 64), the adder
    of the accumulator shared by L fused products.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together.
        MissingFigureError: The node's density is unknown, or no adder area is stated (bf16).

    References:
        M. Horowitz, Computing's energy problem, ISSCC 2014; A. Stillmaker, B. Baas, Integration 58,
        2017 (45 to 7 nm area 0.059); H. Zhang et al., LLMCompass, ISCA 2024 (significand squared).
    """
    log = reading(used)
    first, second = formats.resolved()
    key = formats.table_key()
    owner = f"a {first.name} x {second.name} MAC into {formats.accumulator}"
    if key is not None and f"area.mac_n7.{key}" in log.library.figures:
        n7_mm2 = log.si(f"area.mac_n7.{key}", owner=owner)
    else:
        shrink = log.si("node_scaling.stillmaker_area.vs_45nm.n7", owner=owner)
        adder_mm2 = _adder_mm2(formats.accumulator, log, owner) / (formats.fused_products or 1)
        n7_mm2 = shrink * (_multiplier_mm2(first, second, log, owner) + adder_mm2)
    return n7_mm2 * logic_area_ratio(node, used=log)


def mac_mm2(formats: MacFormats, node: str, *, used: FigureLog | None = None) -> float:
    """Return the area of a processing element: bare MAC · 1.8 for registers, muxing, utilization.

    Args:
        formats: Operands and accumulator.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: A format or the node is unknown.
        FieldError: The formats do not go together.
        MissingFigureError: The node's density or the adder's area is unknown.
    """
    log = reading(used)
    return log.si("area.mac_pe_overhead", owner="MAC area") * bare_mac_mm2(formats, node, used=log)


def control_mm2(datapath_mm2: Values, *, used: FigureLog | None = None) -> Values:
    """Return the area of fixed-function control beside a datapath: 0.15 of it."""
    return datapath_mm2 * reading(used).si("area.fixed_function_control", owner="control area")


def sram_mm2(
    capacity_bytes: Values,
    node: str,
    *,
    as_cache: bool = False,
    used: FigureLog | None = None,
) -> Values:
    """Return the area of on-chip SRAM with its periphery and banking.

    Scratchpads: 0.65 mm²/MiB at N7, 0.50 at N5, N4 and N3E, 0.42 at N2, which is N7 by the ratio of
    bitcells; N16 follows the same ratio, which the log notes. A large cache with tags and crossbar
    takes three times as much.

    Args:
        capacity_bytes: Capacity.
        node: Logic process.
        as_cache: Whether it is a hardware-managed cache.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Neither density nor bitcell is known (n28, n10).
    """
    log = reading(used)
    owner = f"SRAM area at {check_node(node)}"
    stated = f"sram.area_per_mib.recommended_scratchpad_{node}"
    if stated in log.library.figures:
        mm2_per_byte = log.si(stated, owner=owner)
    else:
        bitcell_mm2 = log.si(f"nodes.{node}.hd_bitcell", owner=owner)
        n7_bitcell_mm2 = log.si("nodes.n7.hd_bitcell", owner=owner)
        n7_mm2 = log.si("sram.area_per_mib.recommended_scratchpad_n7", owner=owner)
        mm2_per_byte = n7_mm2 * bitcell_mm2 / n7_bitcell_mm2
        log.note(f"SRAM area at {node}: the N7 density scaled by the ratio of bitcells")
    if as_cache:
        mm2_per_byte *= log.si("sram.area_per_mib.cache_over_scratchpad", owner=owner)
    return mm2_per_byte * capacity_bytes


def register_file_mm2(
    entries: Values, bits: Values, ports: Values, node: str, *, used: FigureLog | None = None
) -> Values:
    """Return the area of a multi-ported register file.

    A fit at 90 nm in entries D, bits W and ports P, scaled by transistor density:
    32900 - 1090 D - 883 W - 5550 P + 53.5 DW + 0.015 D² + 0.0108 W² + 0.586 P² + 142 DP + 368 WP
    um². It holds for the register files of GPUs and CPUs.

    Args:
        entries: Registers.
        bits: Width of one.
        ports: Read and write ports together.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Its density is unknown (n2).
        FieldError: The fit turns negative: many entries of a few bits.

    References:
        H. Zhang et al., LLMCompass, ISCA 2024 (`area.gpu_core_llmcompass.regfile_um2_90nm`).
    """
    log = reading(used)
    log.figure("area.gpu_core_llmcompass.regfile_um2_90nm", owner="register file area")
    linear = 32900 - 1090 * entries - 883 * bits - 5550 * ports
    squares = 0.015 * entries**2 + 0.0108 * bits**2 + 0.586 * ports**2
    products = 53.5 * entries * bits + 142 * entries * ports + 368 * bits * ports
    at_n90_mm2 = (linear + squares + products) * 1e-6
    if not np.all(at_n90_mm2 > 0):
        raise FieldError(
            where="register file area", path="entries", problem=f"found {entries} of {bits} bits",
            expected="a shape within the fit, as 256 entries of 1024 bits",
        )  # fmt: skip
    owner = f"register file area at {check_node(node)}"
    density = log.si(f"nodes.{node}.logic_mtr_mm2", owner=owner)
    area = at_n90_mm2 * _N90_TRANSISTORS_PER_MM2 / density
    return float(area) if np.ndim(area) == 0 else np.asarray(area)


_N90_TRANSISTORS_PER_MM2 = 1.6e6
"""Logic density of the 90 nm process of that fit (LLMCompass)."""


def memory_interface_mm2(memory: str, node: str, *, used: FigureLog | None = None) -> float:
    """Return PHY and controller area on the compute die for one DRAM interface.

    An interface is what `memory_interface_bytes_per_s` counts: an HBM stack, a GDDR x32 device, an
    LPDDR x16 or a DDR 64-bit channel. Where PHY and controller are stated apart, the controller
    scales with logic density and the PHY does not; where only their sum is stated, it is used
    unchanged at every node. A type without a figure takes its family's, which the log notes.

    Args:
        memory: DRAM type.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The memory type or the node is unknown.
        MissingFigureError: Its family has no figure, or the node's density is needed and unknown.
    """
    log = reading(used)
    check_node(node)
    owner = f"interface of {check_memory(memory, log)}"

    def read(name: str) -> float:
        return log.si(f"phy_area.{name}", owner=owner)

    stated_for = _PHY_STATED_FOR.get(memory)
    if stated_for is None:
        raise MissingFigureError(
            figure="PHY and controller area (mm2)",
            owner=f"memory {memory}",
            supplier="a published die area of its interface",
        )
    if memory != stated_for:
        log.note(f"interface area of {memory}: the figure of {stated_for} is used")
    if stated_for == "hbm2e":
        controller_mm2 = logic_mm2(read("hbm2e_stack_ctrl"), node, used=log)
        return read("hbm2e_stack_phy") + float(controller_mm2)
    if stated_for == "ddr5":
        controller_mm2 = logic_mm2(read("ddr5_x32_ctrl"), node, used=log)
        return 2 * (read("ddr5_x32_phy") + float(controller_mm2))
    if stated_for == "hbm3":
        return read("hbm3_stack_phy_ctrl")
    if stated_for == "lpddr5x":
        return read("lpddr5x_x32_total") / 2
    return read("gddr6_x32_total")


_PHY_STATED_FOR = MappingProxyType({
    "hbm2": "hbm2e", "hbm2e": "hbm2e", "hbm3": "hbm3", "hbm3e": "hbm3", "hbm4": "hbm3",
    "ddr4": "ddr5", "ddr5": "ddr5",
    "lpddr4x": "lpddr5x", "lpddr5": "lpddr5x", "lpddr5x": "lpddr5x",
    "gddr6": "gddr6", "gddr6x": "gddr6", "gddr7": "gddr6",
})  # fmt: skip
"""The memory type whose interface area is stated, for each type of its family."""

_LINK_AREAS = ("area_module", "phy_area_link", "phy_area_lane", "area_lane")
_LINK_CONTROLLERS = ("ctrl_transistors_link", "ctrl_transistors_lane")


def link_mm2(link: str, node: str, *, used: FigureLog | None = None) -> float:
    """Return the die area of one link unit: a UCIe module, an NVLink, a PCIe or SerDes lane.

    The PHY keeps its area at every node; a controller stated in transistors scales with density.

    Args:
        link: Link type.
        node: Logic process.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The link type or the node is unknown.
        MissingFigureError: No area is stated, or the node's density is needed and unknown.
    """
    log = reading(used)
    check_node(node)
    check_name("link type", link, link_types(log))
    figures = log.library.figures
    owner = f"link {link}"
    phy = next((p for k in _LINK_AREAS if (p := f"links.{link}.{k}") in figures), None)
    if phy is None:
        raise MissingFigureError(
            figure="area_module, phy_area_link or phy_area_lane (mm2)",
            owner=owner,
            supplier="a published PHY area",
        )
    area_mm2 = log.si(phy, owner=owner)
    for key in _LINK_CONTROLLERS:
        path = f"links.{link}.{key}"
        if path in figures:
            area_mm2 += float(logic_mm2(log.si(path, owner=owner), node, used=log))
    return area_mm2


def chip_infrastructure_mm2(node: str, *, used: FigureLog | None = None) -> float:
    """Return the area of PLLs, fuses, management, host interface and test on every chip.

    Stated for N7 and used unchanged elsewhere, as most of it is analog; the log notes that.

    Raises:
        UnknownNameError: The node is unknown.
    """
    log = reading(used)
    if check_node(node) != "n7":
        log.note(f"chip infrastructure at {node}: the N7 area is used")
    return log.si("phy_area.misc_chip_n7", owner="chip infrastructure")


def reticle_mm2(*, used: FigureLog | None = None) -> float:
    """Return the largest die that one exposure can print."""
    return reading(used).si("node_scaling.reticle_limit", owner="reticle")


def fits_reticle(die_mm2: Values, *, used: FigureLog | None = None) -> bool | npt.NDArray[np.bool_]:
    """Return whether each die can be printed in one exposure."""
    return die_mm2 <= reticle_mm2(used=used)


RETICLE_ASPECT = 33.0 / 26.0
"""Long over short side of a full exposure field, and of large accelerator dies."""


def fits_hbm_shoreline(
    stacks: Values,
    die_mm2: Values,
    *,
    aspect: float = RETICLE_ASPECT,
    used: FigureLog | None = None,
) -> bool | npt.NDArray[np.bool_]:
    """Return whether HBM stacks find room along the two long edges of a die.

    Each needs 6.5 mm of edge for its PHY. Beside an edge stand stacks 11 mm wide, of which half a
    stack may overhang the corners: H100 has three along each edge of some 32 mm.

    Args:
        stacks: Number of stacks at this die.
        die_mm2: Area of the die.
        aspect: Long side over short side.
        used: Log of the figures read.
    """
    log = reading(used)
    phy_mm = log.si("phy_area.hbm_shoreline", owner="HBM shoreline")
    body_mm = log.si("phy_area.hbm_stack_width", owner="HBM shoreline")
    edge_mm = (np.asarray(die_mm2, dtype=np.float64) * aspect) ** 0.5
    per_edge = np.ceil(np.asarray(stacks) / 2)
    fits = (per_edge * phy_mm <= edge_mm) & ((per_edge - 0.5) * body_mm <= edge_mm)
    return bool(fits) if np.ndim(fits) == 0 else np.asarray(fits)


def _multiplier_mm2(first: NumberFormat, second: NumberFormat, log: FigureLog, owner: str) -> float:
    product = first.mantissa_bits * second.mantissa_bits
    if first.arithmetic is Arithmetic.FLOAT:
        if first.mantissa_bits == second.mantissa_bits == 24:
            return log.si(f"{_N45_AREAS}.fp_mult_32.area", owner=owner)
        scale = product / _FP16_SIGNIFICAND**2
        return log.si(f"{_N45_AREAS}.fp_mult_16.area", owner=owner) * scale
    if first.mantissa_bits == second.mantissa_bits == 32:
        return log.si(f"{_N45_AREAS}.int_mult_32.area", owner=owner)
    return log.si(f"{_N45_AREAS}.int_mult_8.area", owner=owner) * product / 64.0


def _adder_mm2(accumulator: str, log: FigureLog, owner: str) -> float:
    if accumulator.startswith("int"):
        width = int(accumulator.removeprefix("int"))
        return log.si(f"{_N45_AREAS}.int_add_32.area", owner=owner) * width / 32.0
    name = _FLOAT_ADDERS.get(accumulator)
    if name is None:
        raise MissingFigureError(
            figure=f"area of a {accumulator} adder",
            owner=owner,
            supplier="a published adder area; fp16 and fp32 are known",
        )
    return log.si(f"{_N45_AREAS}.{name}.area", owner=owner)


def sram_bytes_in(
    area_mm2: Values, node: str, *, as_cache: bool = False, used: FigureLog | None = None
) -> Values:
    """Return the SRAM capacity that fits `area_mm2`; the inverse of `sram_mm2`.

    Args:
        area_mm2: Area available.
        node: Logic process.
        as_cache: Whether it is a hardware-managed cache.
        used: Log of the figures read.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: Neither density nor bitcell is known (n28, n10).
    """
    return area_mm2 * MIB_BYTES / sram_mm2(MIB_BYTES, node, as_cache=as_cache, used=used)
