"""Kernels of a software stack: what a library makes of an engine, as named factors.

A kernel set holds for one kind of operator, for some number formats and device families. Its
defaults are neutral: the library reaches whatever the engine can do. Factors multiply a figure of
the machine; times come on top of it. `docs/explanation` names the operators' formulas
(definitions.md, Runtime).
"""

from enum import StrEnum

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_serializer

from pentarch.model import Model


class KernelOperator(StrEnum):
    """What a kernel set runs."""

    GEMM = "gemm"
    """Products with dense weights."""
    MOE = "moe"
    """Products with routed experts: a grouped GEMM."""
    ATTENTION_PREFILL = "attention_prefill"
    """Attention of several query positions."""
    ATTENTION_DECODE = "attention_decode"
    """Attention of one query position."""
    QUANTIZE = "quantize"
    """Conversion of activations to a narrower format by a kernel of its own."""
    VECTOR = "vector"
    """Norms, activations, look-ups: everything else that is not fused."""
    COLLECTIVE = "collective"
    """Transfers among devices."""


class Protocol(StrEnum):
    """How a collective moves its data (`mapping.collectives`)."""

    RING = "ring"
    """Each device passes parts on to the next one."""
    LOW_LATENCY = "low_latency"
    """A ring whose words carry their own flags: cheap hops, a fraction of the bandwidth."""
    ONE_SHOT = "one_shot"
    """Every device reads what all others have; all-reduces only."""
    IN_NETWORK = "in_network"
    """The switch adds or multiplies copies."""


class CollectiveProtocol(Model):
    """One way in which a library runs collectives, against the link's own figures."""

    protocol: Protocol
    """The way."""
    start_s: NonNegativeFloat | None = None
    """Fixed time; `None` means the link's own."""
    hop_s: NonNegativeFloat | None = None
    """Time of one hop; `None` means the link's latency."""
    efficiency: float | None = Field(default=None, gt=0, le=1)
    """Share of the link's bandwidth that long messages reach; `None` means the link's own."""


class KernelSet(Model):
    """The kernels with which a stack runs one kind of operator."""

    operator: KernelOperator
    """What they run."""
    a_formats: frozenset[str] = frozenset()
    """Formats of activations or queries that they are for; empty for all."""
    b_formats: frozenset[str] = frozenset()
    """Formats of weights, or of keys and values, that they are for; empty for all."""
    architectures: frozenset[str] = frozenset()
    """Device families that they are for; empty for all."""
    functions: frozenset[str] = frozenset()
    """Vector functions or collectives that they are for; empty for all."""

    start: NonNegativeFloat = 1.0
    """Factor on the machine's operator start; less than 1 where a kernel starts before the one before
    it has ended."""
    start_s: NonNegativeFloat = 0.0
    """Time on top of the machine's operator start: helper kernels, metadata."""
    token_s: NonNegativeFloat = 0.0
    """Serial time per query token (attention), visited expert (moe) or value (quantize)."""
    host_s: NonNegativeFloat | None = None
    """Host time per operator; `None` means the stack's `launch_s`."""

    most_parts: int = Field(default=1024, ge=1)
    """Parts that the inner dimension, or the keys, are cut into at most."""
    least_area: NonNegativeFloat = 0.0
    """Outputs of the smallest tile that the library has."""
    efficiency: PositiveFloat = 1.0
    """Factor on the share of its peak that a unit reaches."""
    step: PositiveFloat = 1.0
    """Factor on the least time of a k step."""
    drain: PositiveFloat = 1.0
    """Factor on the rate at which a unit writes outputs."""
    feed: PositiveFloat = 1.0
    """Factor on the rate at which units draw from the cache."""
    stream: PositiveFloat = 1.0
    """Factor on the share of the memory's peak bandwidth that is reached; at most `most_stream`."""
    most_stream: float = Field(default=1.0, gt=0, le=1)
    """Largest share of the memory's peak bandwidth that `stream` may lead to."""
    split: PositiveFloat = 1.0
    """Factor on the fixed time of adding partial results."""
    part_s: NonNegativeFloat = 0.0
    """Serial time per part when partial results are added."""
    convert: PositiveFloat = 1.0
    """Factor on the rate at which narrow weights are converted inside a tile."""
    cache: PositiveFloat = 1.0
    """Factor on the share of the cache that is in use."""
    overlap: float | None = Field(default=None, ge=1)
    """Exponent with which the kernel's terms overlap; `None` means the machine's."""
    wave_share: float | None = Field(default=None, ge=0, le=1)
    """Share of an unfilled wave that is paid; `None` means the engine's."""

    query_tiles: tuple[int, ...] = ()
    """Query rows of a tile of attention that there are; empty for all that the engine's menu has."""
    key_tile: int | None = Field(default=None, ge=1)
    """Keys of a tile of attention; `None` means 64 in decode and 128 in prefill."""
    tile_start_s: NonNegativeFloat = 0.0
    """Start of a tile on top of the engine's."""
    tiles_per_unit: float = Field(default=1.0, ge=1)
    """Tiles that share one unit at once."""
    wide: PositiveFloat = 1.0
    """Factor on the rates of a tile whose head dimension exceeds 128."""
    softmax: PositiveFloat = 1.0
    """Factor on the time of the softmax."""
    softmax_overlap: float | None = Field(default=None, ge=1)
    """Exponent with which softmax and products overlap; `None` means `overlap`."""
    splits_single: bool = True
    """Whether keys are cut into parts where a key head serves a single query head."""

    row_s: NonNegativeFloat = 0.0
    """Fixed time of one row of a tensor that one block of threads works on (quantize)."""
    passes: PositiveFloat = 1.0
    """Times that a kernel moves what it reads (quantize)."""

    protocols: tuple[CollectiveProtocol, ...] = ()
    """Ways in which collectives are run, of which the fastest is taken; empty for what the
    topology allows."""

    def runs_on(self, family: str | None) -> bool:
        """Return whether the kernels are for a device family."""
        return not self.architectures or family in self.architectures

    def suits(self, operator: KernelOperator, a_format: str | None, b_format: str | None) -> bool:
        """Return whether the kernels run an operator with these formats."""
        if operator is not self.operator:
            return False
        return all(
            not mine or theirs in mine
            for mine, theirs in ((self.a_formats, a_format), (self.b_formats, b_format))
        )

    @field_serializer("a_formats", "b_formats", "architectures", "functions")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        return sorted(names)
