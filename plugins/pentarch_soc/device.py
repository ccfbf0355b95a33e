"""Design parameters of a custom SoC."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.hardware.device import Device
from pentarch.units import Bytes, Hertz

Node = Literal["n16", "n7", "n5", "n4", "n3e"]
Memory = Literal["lpddr4x", "lpddr5", "lpddr5x", "gddr6", "gddr7", "hbm2e", "hbm3", "hbm3e"]


class SocDevice(Device):
    """A chip of matrix arrays, a vector unit, one shared scratchpad and external memory."""

    node: Node = "n5"
    """Logic process; sets energy, area, leakage, wafer price and defect density."""
    voltage_v: float = Field(default=0.75, ge=0.6, le=0.95)
    """Supply of the core at full speed; clock and energy follow it. Bounds: `power.dvfs`."""
    clock_hz: Hertz = Field(default=1.0e9, ge=5e7, le=3e9)
    """Clock at the node's nominal supply: set by pipeline depth, an assumption of the designer."""
    arrays: float = Field(default=16, ge=1, le=65536)
    """Matrix arrays on the chip."""
    array_rows: float = Field(default=64, ge=1, le=1024)
    """Processing elements down an array."""
    array_columns: float = Field(default=64, ge=1, le=1024)
    """Processing elements across an array."""
    macs_per_pe: dict[str, PositiveFloat] = {"fp8": 1, "int8": 1, "fp4": 2, "int4": 2, "bf16": 0.25}
    """Multiply-accumulates per cycle of one element by format, the main one first. The default
    composes narrow multipliers: bf16 takes the four that serve one fp8 product each ((8/4)^2)."""
    float_accumulator: Literal["fp16", "fp32"] = "fp32"
    """Accumulator of products of floats up to 8 bits; wider floats add in fp32, integers in int24 or
    int32. A narrower one saves area and energy and loses accuracy."""
    fused_products: Literal[1, 2, 4, 8, 16] = 4
    """Products of floats up to 8 bits that an element sums in one tree before it adds to its
    accumulator: a dot-product unit, as matrix engines have them; an assumption."""
    operand_bytes_per_cycle: PositiveFloat = 2.0
    """Bytes per cycle that each row and each column of an array takes from its buffer."""
    register_bytes: Bytes = Field(default=32768.0, ge=64, le=2**26)
    """Operand and partial-sum buffer of one array."""
    sram_bytes: Bytes = Field(default=2.0**24, ge=1024, le=2**33)
    """Scratchpad that all arrays share."""
    sram_bytes_per_cycle: float = Field(default=64, ge=1, le=4096)
    """Width of the port between the scratchpad and one array."""
    vector_lanes: float = Field(default=512, ge=1, le=1e6)
    """Lanes of the vector unit; each does one 16-bit operation per cycle."""
    transcendental_per_lane: PositiveFloat = 0.25
    """exp, tanh, ... per cycle and lane: a table look-up shared by four lanes, an assumption."""
    scan_per_lane: PositiveFloat = 0.5
    """Values of a prefix scan per cycle and lane: two passes."""
    irregular_per_lane: PositiveFloat = 0.125
    """Values of a top-k or of data-dependent branches per cycle and lane."""
    memory: Memory = "lpddr5x"
    """Type of external memory."""
    memory_interfaces: float = Field(default=8, ge=1, le=64)
    """Interfaces: HBM stacks, GDDR x32 devices, LPDDR x16 channels, DDR 64-bit channels."""
    memory_background_w: NonNegativeFloat | None = None
    """Refresh and idle power of one interface; `None` takes the technology library's figure for HBM
    and, as the library has no other, 0.1 W elsewhere, an assumption."""
    memory_bytes: Bytes | None = Field(default=None, gt=0)
    """External capacity; `None` takes the type's usual capacity per interface."""
    link: Literal["none", "ucie_standard", "pcie5"] = "none"
    """Connection to equal chips of the system."""
    link_ports: float = Field(default=1, ge=1, le=64)
    """Links of that type on the chip."""
    link_latency_s: NonNegativeFloat = 1.0e-6
    """Latency of one hop."""
    link_devices: float = Field(default=64, ge=1)
    """Chips that the links can join in a ring."""
    operator_start_s: NonNegativeFloat = 1.0e-6
    """Time to set up an operator: descriptor fetch and array configuration."""
    power_cap_w: PositiveFloat | None = None
    """Thermal limit of the device; `None` means that only its parts limit it."""
    volume: float = Field(ge=1)
    """Units over which the design cost is spread; there is no default (definitions.md, Cost)."""
    nre_usd: NonNegativeFloat | None = None
    """Design cost; `None` takes the technology library's for the node and the design program."""
    design_program: Literal["start_up", "incumbent", "ibs"] = "start_up"
    """Who designs, where `nre_usd` is not stated: a lean team (103 million USD at 5 nm), an established
    vendor (300 million) or a full product as IBS counts it (542 million); by node as IBS states."""
    channel: Literal["typical_fabless", "in_house"] = "typical_fabless"
    """How the chip is sold; sets price / manufacturing cost."""
