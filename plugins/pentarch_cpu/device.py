"""Datasheet figures and architecture parameters of a CPU."""

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.hardware.device import Device
from pentarch.units import Bytes, BytesPerSecond, Hertz, Seconds, Watts

SIDES = (
    (512, 512), (256, 256), (256, 64), (128, 128), (128, 32), (64, 256), (64, 64), (64, 16), (32, 128),
    (32, 32), (16, 256), (16, 64), (16, 16), (8, 128), (8, 32), (4, 256), (4, 64), (4, 16), (2, 64),
    (2, 16), (1, 256), (1, 64), (1, 16),
)  # fmt: skip
"""Blocks of the output (m, n) that one core works on at a time; libraries block for L2 alike."""

BLOCK_STEP = 32
"""Words of the inner dimension that a block advances at least."""

MENU = tuple((m, n, BLOCK_STEP) for m, n in SIDES)
"""Blocks of the output (m, n) of one core, and the step along k."""

CALIBRATED = frozenset({
    "cluster_bytes_per_s", "convert_per_cycle", "core_bytes_per_s", "format_efficiency",
    "l3_bytes_per_cycle", "l3_share", "line_transfer_s", "matrix_efficiency", "memory_efficiency",
    "operator_start_s", "overlap", "simd_efficiency", "transcendental_share",
})  # fmt: skip
"""Fields that no datasheet states and a fit to measurements may set."""


class CpuDevice(Device):
    """One socket: cores with SIMD and matrix units, private L2, shared L3, memory, socket link.

    Two sockets are two devices, so that local memory is local and what crosses is a collective.
    """

    architecture: str | None = None
    """Family of cores, for example `"Golden Cove"`; `None` when it has none."""
    node: str = "n7"
    """Logic process that energy per operation is taken from."""
    cores: float = Field(ge=1)
    """Cores that work; of unequal cores, as many of the fast ones as are as fast together."""
    clock_hz: Hertz = Field(gt=0)
    """Clock that all cores sustain under SIMD load."""
    simd_bytes_per_cycle: float = Field(gt=0)
    """Bytes of vector registers that the FMA ports of one core take per cycle: width x ports. An FMA of
    FP32 on four bytes is one multiply-accumulate."""
    dot_macs_per_cycle: dict[str, PositiveFloat] = {}
    """Multiply-accumulates per cycle and core by format of the instructions for narrow words, such as
    VNNI, AVX512_BF16 or BFMMLA; formats that are not listed run wider."""
    simd_block: PositiveFloat = 16.0
    """Outputs on a side of the block that SIMD registers hold: a word from L2 serves so many."""
    simd_efficiency: float = Field(default=0.90, gt=0, le=1)
    """Share of the FMA peak that a long block reaches."""
    matrix_unit: str | None = None
    """Name of the matrix unit, for example `"AMX"`; `None` without one."""
    matrix_macs_per_cycle: dict[str, PositiveFloat] = {}
    """Multiply-accumulates per cycle and core of the matrix unit by format."""
    matrix_clock_ratio: float = Field(default=1.0, gt=0, le=1)
    """Clock under matrix load / `clock_hz`."""
    matrix_rows: float = Field(default=16, ge=1)
    """Rows of a register tile of the matrix unit: fewer take no less time."""
    matrix_block: PositiveFloat = 32.0
    """Outputs on a side of the block that tile registers hold: a word from L2 serves so many."""
    matrix_efficiency: float = Field(default=0.90, gt=0, le=1)
    """Share of the matrix peak that a long block reaches when L2 feeds it in time."""
    format_efficiency: dict[str, PositiveFloat] = {}
    """Factor on those shares by compute format; 1 for others."""
    convert_per_cycle: PositiveFloat | None = None
    """Narrow stored weights that one core unpacks and scales per cycle; `None` means an eighth of its
    FMA width in bytes, as unpacking a vector of weights takes about eight operations."""
    transcendental_share: float = Field(default=0.1, gt=0, le=1)
    """Rate of an exp and the like, a polynomial of about ten operations / that of an addition."""
    gather_per_cycle: PositiveFloat = 2.0
    """Values gathered per cycle and core: load ports."""
    scan_share: PositiveFloat = 0.25
    """Rate of a prefix scan / the vector rate."""
    irregular_per_cycle: PositiveFloat = 1.0
    """Values of a top-k or of data-dependent branches per cycle and core."""
    l2_bytes: Bytes = Field(gt=0)
    """Private cache of one core."""
    l2_bytes_per_cycle: PositiveFloat = 48.0
    """Bytes per cycle that a core draws from it."""
    l3_bytes: Bytes = Field(gt=0)
    """Last-level cache of the socket."""
    l3_share: float = Field(default=0.5, gt=0, le=1)
    """Share of it in which data survive until they are read again."""
    l3_bytes_per_cycle: PositiveFloat = 10.0
    """Bytes per cycle that a core draws from the last-level cache."""
    memory: str
    """Type of memory, as in the technology library."""
    memory_bytes: Bytes = Field(gt=0)
    """Capacity installed."""
    memory_channels: float = Field(ge=1)
    """Channels populated."""
    channel_bytes_per_s: BytesPerSecond = Field(gt=0)
    """Peak bandwidth of one channel."""
    memory_efficiency: float = Field(default=0.80, gt=0, le=1)
    """Share of the peak bandwidth that long streams of all cores reach."""
    memory_latency_s: Seconds = Field(default=1e-7, ge=0)
    """Latency of a load that misses every cache."""
    core_bytes_per_s: BytesPerSecond = Field(default=1.5e10, gt=0)
    """Memory bandwidth that one core can draw: lines in flight x line / latency."""
    clusters: float = Field(default=1, ge=1)
    """Groups of cores with a port to memory of their own (chiplets, core clusters)."""
    cluster_bytes_per_s: BytesPerSecond | None = Field(default=None, gt=0)
    """Bandwidth of the port of one group; `None` where only memory limits it."""
    numa_domains: float = Field(default=1, ge=1)
    """Domains of memory inside the socket; 1 when its addresses interleave over all channels."""
    remote_share: float = Field(default=0.1, ge=0, le=1)
    """Share of the accesses that leave their domain in spite of placement, of those that could."""
    remote_bandwidth_ratio: float = Field(default=0.5, gt=0, le=1)
    """Bandwidth to another domain / bandwidth to one's own."""
    overlap: float = Field(default=3.0, ge=1)
    """Exponent q of t = (Tc^q + sum Tl^q)^(1/q): how well loads and arithmetic overlap."""
    block_start_s: Seconds = Field(default=1e-7, ge=0)
    """Time to begin a block: packing, loop prologue, taking the next piece of work."""
    operator_start_s: Seconds = Field(default=5e-7, ge=0)
    """Time to wake the cores for an operator."""
    line_transfer_s: Seconds = Field(default=5e-8, ge=0)
    """Time for a cache line to go from one core to another: the counter of a barrier visits each core."""
    power_cap_w: Watts | None = Field(default=None, gt=0)
    """Sustained package power limit (TDP); `None` when unknown, and with it the static power."""
    static_share: float = Field(default=0.35, ge=0, le=1)
    """Work-independent share of the power limit while active: uncore, mesh, memory controllers, leakage."""
    vector_j_per_byte: NonNegativeFloat = 6e-12
    """Energy per byte of vector register that an instruction takes, apart from its arithmetic: fetching,
    renaming, reading operands and retiring."""
    link: str | None = None
    """Link between sockets, for example `"UPI"`; `None` without one."""
    link_devices: float = Field(default=2, ge=1)
    """Sockets that it joins."""
    link_bytes_per_s: BytesPerSecond | None = Field(default=None, gt=0)
    """Bandwidth of one socket in one direction."""
    link_latency_s: Seconds = Field(default=2e-7, ge=0)
    """Latency of one crossing."""
    link_efficiency: float = Field(default=0.75, gt=0, le=1)
    """Share of the link bandwidth that long messages reach."""
    link_message_s: Seconds = Field(default=3e-6, ge=0)
    """Fixed time of one collective: threads of both sockets meet twice."""
    processor_usd: PositiveFloat | None = None
    """Dated list price of the processor alone; its memory is added at the technology library's price.
    Where `price_usd` is stated, that counts instead."""
