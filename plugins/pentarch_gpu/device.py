"""Datasheet figures and architecture parameters of a GPU."""

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.hardware.device import Device
from pentarch.units import Bytes, BytesPerSecond, Hertz, Seconds, Watts

SIDES = (
    (256, 128), (128, 256), (128, 128), (256, 64), (64, 256), (128, 64), (64, 128), (64, 64), (32, 128),
    (128, 32), (32, 64), (64, 32), (16, 128), (128, 16), (16, 64), (64, 16), (16, 32), (32, 16),
    (32, 256), (256, 32), (16, 256), (8, 64), (8, 128),
)  # fmt: skip
"""Output tiles (m, n) that matrix libraries offer; both orientations, since operands may swap."""

TILE_STEP = 64
"""k step of a tile in 16-bit words: 128 bytes of a row, a line of shared memory."""

MENU = tuple((m, n, TILE_STEP) for m, n in SIDES)
"""Output tiles (m, n) and k step that matrix libraries offer."""

CALIBRATED = frozenset({
    "cache_bytes_per_mac", "cache_share", "drain_ratio", "format_efficiency", "format_energy",
    "issue_efficiency", "k_step_s", "kernel_start_s", "link_efficiency", "link_latency_s",
    "link_message_s", "mac_energy_ratio", "memory_efficiency", "overlap", "sm_memory_ratio", "split_s",
    "tile_stream_share", "transcendental_per_cycle", "wave_share",
})  # fmt: skip
"""Fields that no datasheet states and a fit to measurements may set. Their defaults are priors: what
GPUs of Ampere to Blackwell and Xe have in common."""


class GpuDevice(Device):
    """A GPU: multiprocessors (SM) with matrix units and a private scratchpad, L2, memory, links."""

    architecture: str | None = None
    """Family that shares kernels and habits, for example `"Hopper"`; `None` when it has none."""
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
    memory_efficiency: float = Field(default=0.93, gt=0, le=1)
    """Share of the peak bandwidth that long streams reach."""
    tile_stream_share: float | None = Field(default=None, gt=0, le=1)
    """Bandwidth that the tiles of a matrix product reach / that of long streams; `None` means 0.89
    for stacked memory with its many banks, 0.99 for other memory (priors)."""
    memory_latency_s: Seconds = Field(default=6e-7, ge=0)
    """Latency of a load that misses every cache."""
    l2_bytes: Bytes = Field(gt=0)
    """Last-level cache."""
    cache_share: float = Field(default=0.40, gt=0, le=1)
    """Share of the L2 in which data survive until they are read again."""
    cache_bytes_per_mac: PositiveFloat = 0.030
    """Bytes that a multiprocessor can draw from L2 in the time of one 16-bit multiply-accumulate at
    its peak: designs of all makers are balanced alike."""
    drain_ratio: PositiveFloat = 0.42
    """Rate at which a multiprocessor writes the outputs of a tile / rate at which it draws operands."""
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
    sm_memory_ratio: PositiveFloat = 1.0
    """Memory bandwidth that the loads in flight of one multiprocessor can draw / the larger of 30 GB/s
    and 1.5 times its share of the whole."""
    min_rows: float = Field(default=8, ge=1)
    """Rows of a tile below which a matrix instruction takes no less time."""
    issue_efficiency: float = Field(default=0.97, gt=0, le=1)
    """Share of its peak that a multiprocessor reaches inside a long tile."""
    format_efficiency: dict[str, PositiveFloat] = {}
    """Factor on that share by compute format; 1 for others."""
    k_step_s: Seconds = Field(default=80e-9, ge=0)
    """Least time of one k step of a tile: the latency that the loads in flight do not hide."""
    tile_start_s: Seconds = Field(default=0.25e-6, ge=0)
    """Time of the prologue of a tile."""
    wave_share: float = Field(default=0.5, ge=0, le=1)
    """Share of an unfilled last wave of tiles that is paid; the next kernel's start covers the rest."""
    split_s: Seconds = Field(default=2.5e-6, ge=0)
    """Fixed time of adding the partial sums of a product whose inner dimension is split."""
    kernel_start_s: Seconds = Field(default=2.2e-6, ge=0)
    """Time between two kernels of a captured graph."""
    step_s: Seconds = Field(default=0.0, ge=0)
    """Fixed time of a forward pass in hardware."""
    power_cap_w: Watts = Field(gt=0)
    """Sustained board power limit (TDP)."""
    mac_energy_ratio: PositiveFloat = 1.0
    """Energy of a multiply-accumulate on this device / that of its node in the technology library."""
    format_energy: dict[str, PositiveFloat] = {}
    """Factor on that energy by compute format; 1 for others."""
    static_share: float = Field(default=0.36, ge=0, le=1)
    """Work-independent share of the power limit while active: what published board power of A100 and
    H100 in decode leaves beside memory and arithmetic; the technology library states 0.2 to 0.45
    (`power.static.active_static_fraction`)."""
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
