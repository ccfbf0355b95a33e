"""The parts of a machine: storage levels, compute engines, links, power, area, cost, program.

Each is a pydantic model of scalars. A batch of designs holds them as `Columns` (see `columns`).
Rates and sizes are those of the hardware; what the software stack adds is in `runtime`.
"""

from enum import StrEnum

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_serializer

from pentarch.graph.operators import OperatorKind
from pentarch.model import Model

Fraction = Field(gt=0, le=1)


class Scope(StrEnum):
    """What one instance of a level or link belongs to; the widest first."""

    SYSTEM = "system"
    BOARD = "board"
    DEVICE = "device"
    DIE = "die"
    CLUSTER = "cluster"
    UNIT = "unit"


class Management(StrEnum):
    """Who decides what a level holds."""

    SOFTWARE = "software"
    """A scratchpad: the mapping decides, and gets the optimum."""
    CACHE = "cache"
    """Hardware decides; the engine counts on tile menu and wave reuse only."""
    FIFO = "fifo"
    """Streams pass through once."""


class Buffering(StrEnum):
    """Whether loading the next tile overlaps using this one."""

    SINGLE = "single"
    DOUBLE = "double"


class Level(Model):
    """One level of storage that tiles pass through on their way to the engines; outermost first."""

    name: str
    """Unique within its machine, for example `"L2"`."""
    scope: Scope
    """What one instance belongs to; never wider than the scope of the level outside it."""
    management: Management = Management.SOFTWARE
    """Who decides what it holds."""
    holds: frozenset[str] = frozenset({"weights", "kv", "activations", "partials"})
    """What may live here: weights, kv, activations, partials."""
    buffering: Buffering = Buffering.SINGLE
    """Double halves the capacity for tiles and hides their loading."""
    instances: float = Field(default=1.0, ge=1)
    """Equal copies on the device."""
    size_bytes: PositiveFloat
    """Capacity of one instance."""
    usable: float = Field(default=1.0, gt=0, le=1)
    """Share of the capacity that the workload can have."""
    read_bytes_per_s: PositiveFloat
    """Peak bandwidth of one instance towards the next inner level."""
    write_bytes_per_s: PositiveFloat | None = None
    """Peak bandwidth of writes; `None` when reads and writes share `read_bytes_per_s`."""
    requester_bytes_per_s: PositiveFloat | None = None
    """Bandwidth that one engine unit can draw; `None` when nothing but the level limits it."""
    latency_s: NonNegativeFloat = 0.0
    """Time from a request to its first byte."""
    stream_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Share of the peak bandwidth that a long stream reaches."""
    read_j_per_byte: NonNegativeFloat | None = None
    """Energy of reading one byte; `None` when no source states it."""
    write_j_per_byte: NonNegativeFloat | None = None
    """Energy of writing one byte; `None` when no source states it."""
    static_w: NonNegativeFloat = 0.0
    """Power that does not depend on traffic (refresh, leakage), all instances together."""

    @field_serializer("holds")
    def _in_order(self, holds: frozenset[str]) -> list[str]:
        return sorted(holds)


class EngineKind(StrEnum):
    """What an engine computes."""

    MATRIX = "matrix"
    VECTOR = "vector"
    IN_MEMORY = "in_memory"
    """Matrix arithmetic inside a storage level: weights live there and are never moved. A design
    whose level cannot hold them all is infeasible."""


class Stationary(StrEnum):
    """Which operand stays in a matrix engine's array."""

    OUTPUT = "output"
    """rows x columns of C; k streams through."""
    WEIGHT = "weight"
    """rows of k x columns of n; rows of A stream through."""
    NONE = "none"
    """Tiles are issued one by one, as on a tensor core."""


class Engine(Model):
    """A kind of compute unit, `units` of which are on the device."""

    name: str
    """Unique within its machine."""
    kind: EngineKind
    """Matrix, vector or in memory."""
    feeds_from: str
    """Name of the level that its operands come from."""
    operators: frozenset[OperatorKind] = frozenset({OperatorKind.GEMM, OperatorKind.ATTENTION})
    """Matrix work that it can run: products with weights, products of activations. Of the engines
    that run a product in its format the one listed first is taken."""
    stationary: Stationary = Stationary.NONE
    """Which operand stays in the array."""
    tile_menu: tuple[tuple[int, int, int], ...] | None = None
    """Tiles (m, n, k) that the software may choose for one unit; `None` means free tiles."""
    units: PositiveFloat
    """Units on the device."""
    clock_hz: PositiveFloat
    """Clock at nominal voltage."""
    macs_per_cycle: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Dense multiply-accumulates per cycle and unit, by the compute format of the operands."""
    mac_j: dict[str, NonNegativeFloat] | None = None
    """Energy of one multiply-accumulate at nominal voltage, by format; `None` when unknown."""
    rows: PositiveFloat = 1.0
    """Array height of one unit."""
    columns: PositiveFloat = 1.0
    """Array width of one unit."""
    min_rows: PositiveFloat = 1.0
    """Rows of A below which a tile takes no less time."""
    fill_cycles: NonNegativeFloat = 0.0
    """Cycles until the first result of a tile leaves the array."""
    load_cycles: NonNegativeFloat = 0.0
    """Cycles to bring in a new stationary operand that cannot be hidden."""
    tile_start_cycles: NonNegativeFloat = 0.0
    """Cycles between tiles of one unit (descriptor, prologue and epilogue)."""
    issue_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Share of its peak that a unit reaches on a long, full tile."""
    k_step_bytes: PositiveFloat | None = None
    """Bytes of a row of A that one k step of a tile takes; `None` means the k of the tile menu."""
    k_step_s: NonNegativeFloat = 0.0
    """Least time of one k step of a tile: the latency that the steps in flight do not hide."""
    drain_bytes_per_s: PositiveFloat | None = None
    """Rate at which one unit writes the outputs of a tile; `None` when that is hidden."""
    split_s: NonNegativeFloat = 0.0
    """Fixed time of adding the partial sums when k is cut among units."""
    wave_share: float = Field(default=1.0, ge=0, le=1)
    """Share of an unfilled last wave that is paid; 1 when every unit waits for the slowest."""
    tile_stream_share: float = Field(default=1.0, gt=0, le=1)
    """Bandwidth of memory that the tiles of a product with weights reach / that of long streams: the
    rows of a tile are apart in memory."""
    format_efficiency: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Factor on `issue_efficiency` by compute format, for engines with a tile menu; 1 for others."""
    values_per_cycle: dict[str, PositiveFloat] = Field(default_factory=dict)
    """Values per cycle and unit of elementwise, reduce, transcendental, convert, gather, ..."""
    value_j: dict[str, NonNegativeFloat] | None = None
    """Energy per value at nominal voltage, by primitive; `None` when unknown."""

    @field_serializer("operators")
    def _in_order(self, operators: frozenset[OperatorKind]) -> list[str]:
        return sorted(operators)


class Topology(StrEnum):
    """How the devices at the ends of a link are wired."""

    SWITCH = "switch"
    RING = "ring"
    MESH = "mesh"


class Link(Model):
    """Connection between devices; the cheapest hop first."""

    name: str
    """For example `"NVLink4"`."""
    scope: Scope
    """DEVICE: between devices of a board. BOARD: between boards of a system. SYSTEM: between systems.
    Never narrower than the scope of the link before it."""
    topology: Topology = Topology.SWITCH
    """How the devices are wired."""
    in_network_reduction: bool = False
    """Whether the switch adds, so that an all-reduce moves its data once."""
    degree: float = Field(ge=1)
    """Devices (or boards, systems) that it joins."""
    bytes_per_s: PositiveFloat
    """Bandwidth of one device in one direction."""
    latency_s: NonNegativeFloat
    """Time of one hop for the first byte."""
    message_overhead_s: NonNegativeFloat = 0.0
    """Fixed time of starting one collective."""
    efficiency: float = Field(default=1.0, gt=0, le=1)
    """Share of the bandwidth that long messages reach."""
    j_per_byte: NonNegativeFloat | None = None
    """Energy of moving one byte once, both ends; `None` when unknown."""


class Overhead(Model):
    """Fixed times of the hardware and how well its resources overlap."""

    operator_start_s: NonNegativeFloat = 0.0
    """Time between two operators when their launch is as cheap as the hardware allows."""
    barrier_s: NonNegativeFloat = 0.0
    """Time for all units to agree that an operator has ended."""
    step_s: NonNegativeFloat = 0.0
    """Fixed time of a forward pass."""
    overlap: float | None = Field(default=None, ge=1)
    """Exponent q of t = (Tc^q + sum Tl^q)^(1/q); `None` means perfect overlap, the largest term."""


class Power(Model):
    """Where power that is not counted by event goes, and what limits it."""

    cap_w: PositiveFloat | None = None
    """Sustained limit of one device; `None` when nothing but its parts limits it."""
    static_w: NonNegativeFloat | None = None
    """Work-independent power of one active device (leakage, clock tree, I/O); `None` when unknown."""
    clock_w: NonNegativeFloat = 0.0
    """Share of `static_w` in watts that goes with clock and supply, as f V^2: clocks of idle logic."""
    nominal_v: PositiveFloat = 0.75
    """Supply at which clocks and energies are stated."""
    min_v: PositiveFloat = 0.6
    """Lowest supply at which the device works."""
    threshold_v: NonNegativeFloat = 0.3
    """Vth of the alpha-power law f = k (V - Vth)^alpha / V (Sakurai and Newton 1990)."""
    alpha: PositiveFloat = 1.3
    """Exponent of the alpha-power law."""
    board_w: NonNegativeFloat = 0.0
    """Board components besides the device and its memory."""
    regulator_efficiency: float = Field(default=1.0, gt=0, le=1)
    """Share of the board's input that reaches the device."""


class Area(Model):
    """Silicon of one device."""

    parts_mm2: dict[str, NonNegativeFloat]
    """Area by component; their sum is the die."""
    reticle_mm2: PositiveFloat = 858.0
    """Largest die that can be exposed, 26 x 33 mm."""


class Cost(Model):
    """What one device costs to make and to buy, definitions.md, Cost."""

    parts_usd: dict[str, NonNegativeFloat] | None = None
    """Bill of material of one device with its memory, by component; `None` when unknown."""
    price_usd: NonNegativeFloat | None = None
    """What a buyer pays for one device with its memory; `None` when unknown."""
    nre_usd: NonNegativeFloat | None = None
    """Design cost inside the price of one device; `None` when unknown."""


class Program(Model):
    """How the device can be programmed after it was made (target 5)."""

    primitives: dict[str, NonNegativeFloat]
    """Values per second of one device by primitive; an absent one cannot run on the device."""
    tape_out_year: float | None = None
    """Year that splits the reference operators into before and after; `None` when unknown."""
    update_s: NonNegativeFloat | None = None
    """Time to bring a new operator to a device in the field; `None` when unknown."""
    needs_new_silicon: bool = False
    """Whether a new operator needs a new chip."""


class Budget(Model):
    """Countable resources that a configuration uses up (LUT, DSP, BRAM, ... of an FPGA)."""

    available: dict[str, NonNegativeFloat]
    """What the device has."""
    used: dict[str, NonNegativeFloat]
    """What this configuration takes; more than available is infeasible."""


class Extra(Model):
    """Figures of the device that no other part has, for the back-end's own overrides.

    The engine reads none of them; `cost_rows` and `cost_segment` find them on the machine.
    """

    figures: dict[str, float]
    """By name, with the unit at its end, for example `adc_j`."""
