"""Datasheet figures and architecture parameters of a GPU."""

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.hardware.device import Device
from pentarch.units import Bytes, BytesPerSecond, Hertz, Seconds, Watts

MENU = ((256, 128, 64), (128, 256, 64), (128, 128, 64), (128, 64, 64), (64, 128, 64), (64, 64, 64),
        (32, 128, 64), (16, 128, 64), (16, 64, 64))  # fmt: skip
"""Output tiles (m, n) and k step that matrix libraries offer."""


class GpuDevice(Device):
    """A GPU: multiprocessors (SM) with matrix units and a private scratchpad, L2, memory, links."""

    node: str = "n4"
    """Logic process that energy per operation is taken from."""
    die_mm2: PositiveFloat | None = None
    """Area of the compute die; `None` when not published."""
    sellable: float = Field(default=0.75, gt=0, le=1)
    """Share of dies that can be sold, with spare multiprocessors fused off."""
    hbm_stacks: NonNegativeFloat = 0
    """HBM stacks on the interposer; 0 for memory on the board."""
    multiprocessors: float = Field(ge=1)
    """SM, CU or Xe cores enabled."""
    clock_hz: Hertz = Field(gt=0)
    """Boost clock that goes with the published peaks."""
    peak_flops_per_s: dict[str, PositiveFloat]
    """Dense matrix peak by compute format, without sparsity."""
    vector_flops_per_s: PositiveFloat
    """FP32 vector peak."""
    transcendental_per_cycle: PositiveFloat = 16.0
    """exp and the like per cycle and multiprocessor."""
    memory: str
    """Type of memory, as in the technology library."""
    memory_bytes: Bytes = Field(gt=0)
    """Capacity."""
    memory_bytes_per_s: BytesPerSecond = Field(gt=0)
    """Peak bandwidth."""
    memory_efficiency: float = Field(default=0.90, gt=0, le=1)
    """Share of the peak bandwidth that long streams reach."""
    memory_latency_s: Seconds = Field(default=6e-7, ge=0)
    """Latency of a load that misses every cache."""
    l2_bytes: Bytes = Field(gt=0)
    """Last-level cache."""
    l2_bytes_per_cycle: PositiveFloat = 64.0
    """Bytes that one multiprocessor can read from L2 in a cycle."""
    sm_bytes: Bytes = Field(gt=0)
    """Scratchpad and L1 of one multiprocessor."""
    sm_usable: float = Field(default=0.8, gt=0, le=1)
    """Share of that scratchpad that tiles can have beside L1."""
    sm_bytes_per_cycle: PositiveFloat = 128.0
    """Bytes per cycle between one multiprocessor's scratchpad and its matrix units."""
    overlap: float = Field(default=4.0, ge=1)
    """Exponent q of t = (Tc^q + sum Tl^q)^(1/q): how well compute and memory overlap in a kernel."""
    transcendental_energy_ratio: PositiveFloat = 2.0
    """Energy of an exp and the like / energy of an FP32 multiply-add."""
    scan_share: PositiveFloat = 0.25
    """Rate of a prefix scan / the vector rate."""
    irregular_share: PositiveFloat = 0.0625
    """Rate of top-k and divergent branches / the vector rate."""
    gather_per_cycle: PositiveFloat = 32.0
    """Values gathered per cycle and multiprocessor."""
    sm_memory_bytes_per_s: BytesPerSecond | None = Field(default=None, gt=0)
    """Memory bandwidth that one multiprocessor can draw; `None` when only memory limits it."""
    min_rows: float = Field(default=16, ge=1)
    """Rows of a GEMM below which a matrix instruction takes no less time."""
    issue_efficiency: float = Field(default=0.85, gt=0, le=1)
    """Share of its peak that a multiprocessor reaches inside a long tile."""
    tile_start_cycles: NonNegativeFloat = 800
    """Cycles of prologue and epilogue of a tile."""
    kernel_start_s: Seconds = Field(default=2.0e-6, ge=0)
    """Time between two kernels of a captured graph."""
    step_s: Seconds = Field(default=0.0, ge=0)
    """Fixed time of a forward pass in hardware."""
    power_cap_w: Watts = Field(gt=0)
    """Sustained board power limit (TDP)."""
    static_share: float = Field(default=0.30, ge=0, le=1)
    """Work-independent share of the power limit while active (`power.static.active_static_fraction`)."""
    link: str | None = None
    """Link between GPUs, as in the technology library; `None` without one."""
    link_devices: float = Field(default=1, ge=1)
    """GPUs that the link joins."""
    link_bytes_per_s: BytesPerSecond | None = Field(default=None, gt=0)
    """Bandwidth of one GPU in one direction."""
    link_latency_s: Seconds = Field(default=2e-6, ge=0)
    """Latency of one hop through the switch."""
    link_efficiency: float = Field(default=0.80, gt=0, le=1)
    """Share of the link bandwidth that long messages reach."""
    link_message_s: Seconds = Field(default=3e-6, ge=0)
    """Fixed time of one collective."""
    in_network_reduction: bool = False
    """Whether the switch adds."""
    network: str | None = None
    """Network between boards, as in the technology library; `None` without one."""
    network_bytes_per_s: BytesPerSecond | None = Field(default=None, gt=0)
    """Bandwidth of one GPU's port in one direction."""
    network_latency_s: Seconds = Field(default=5e-6, ge=0)
    """Latency of one hop between boards, network interface included."""
