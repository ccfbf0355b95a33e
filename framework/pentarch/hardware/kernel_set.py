"""Kernels of a software stack: what a library makes of an engine, as named factors.

A kernel set holds for one kind of operator, for some number formats and device families, and where a
library chooses its kernels by it for some shapes or functions. Its defaults are neutral: the
library reaches whatever the engine can do. Factors multiply a figure of the machine; times come on
top of it. `docs/explanation` names the operators' formulas (definitions.md, Runtime).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, field_serializer, model_validator

from pentarch.model import Model
from pentarch.workload.layers import Activation
from pentarch.workload.query import FormatName


class KernelOperator(StrEnum):
    """What a kernel set runs."""

    GEMM = "gemm"
    """Products with dense weights."""
    BATCHED = "batched"
    """Many equal products at once, none of them routed; those of `GEMM` where a stack has none."""
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


@dataclass(frozen=True, slots=True)
class KernelUse:
    """What of an operator, beside its formats, a library may choose its kernels by."""

    function: str | None = None
    """Function between the two products of experts; `None` if unknown."""
    group: float | None = None
    """Query heads that share a key head; `None` where there are none."""
    head_dim: float | None = None
    """Width of a head of queries and keys; `None` where there is none."""


UNKNOWN_USE = KernelUse()
"""Of an operator of which only the formats are known."""


BY_FUNCTION = frozenset({KernelOperator.MOE, KernelOperator.VECTOR, KernelOperator.COLLECTIVE})
"""What kernels are chosen for by function."""
ACTIVATIONS = frozenset(
    form for name in Activation for form in (name.value, f"{name.value}_multiply")
)
"""Functions between two products of experts, without and with a gate."""
BY_SHAPE = frozenset({KernelOperator.ATTENTION_PREFILL, KernelOperator.ATTENTION_DECODE})
"""What kernels are chosen for by heads."""


class KernelSet(Model):
    """The kernels with which a stack runs one kind of operator."""

    operator: KernelOperator
    """What they run."""
    a_formats: frozenset[FormatName] = frozenset()
    """Formats of activations or queries that they are for; empty for all."""
    b_formats: frozenset[FormatName] = frozenset()
    """Formats of weights, or of keys and values, that they are for; empty for all."""
    architectures: frozenset[str] = frozenset()
    """Device families that they are for; empty for all."""
    functions: frozenset[str] = frozenset()
    """Vector functions or collectives that they are for, of experts the function between their two
    products; empty for all."""
    least_group: int = Field(default=1, ge=1)
    """Query heads of a key head from which on they are for (attention)."""
    most_group: int | None = Field(default=None, ge=1)
    """Query heads of a key head up to which they are for; `None` for any."""
    least_head_dim: int = Field(default=1, ge=1)
    """Width of a head from which on they are for (attention)."""
    most_head_dim: int | None = Field(default=None, ge=1)
    """Width of a head up to which they are for; `None` for any."""

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
    key_tile_s: NonNegativeFloat = 0.0
    """Least time of a tile of keys in decode, however many tiles share a unit: its loads and products
    wait for one another."""
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
    splits_below: PositiveFloat | None = None
    """Tiles per unit from which on keys are not cut into parts in decode; `None` means that they are
    wherever that is faster."""
    splits_groups: bool = True
    """Whether keys are cut into parts where a key head serves several query heads."""

    row_s: NonNegativeFloat = 0.0
    """Fixed time of one row of a tensor that one block of threads works on (quantize)."""
    passes: PositiveFloat = 1.0
    """Times that a kernel moves what it reads (quantize)."""

    protocols: tuple[CollectiveProtocol, ...] = ()
    """Ways in which collectives are run, of which the fastest is taken; empty for what the
    topology allows."""

    tiles: tuple[tuple[int, int], ...] = ()
    """Tiles (rows, columns of outputs) of a product that there are; empty for the engine's menu."""
    k_step: PositiveFloat = 1.0
    """Factor on the words of k that one step takes: k is filled up to whole steps."""
    row_order: bool = False
    """Whether tiles of a product start one row of tiles after another instead of in square blocks:
    then the weights are read again for every row of tiles, where one row fills all units."""
    scattered: float = Field(default=1.0, gt=0, le=1)
    """Share of the reachable memory bandwidth at which weights are read again in `row_order`."""
    chosen_alone: bool = False
    """Whether the tile of a batch of products is the one that would be best for a single one."""
    feed_per_mac: PositiveFloat | None = None
    """Bytes that a unit draws from the cache in the time of one multiply-accumulate at its peak in the
    product's own format, in place of the cache's rate times `feed`; `None` means those."""
    drain_per_mac: PositiveFloat | None = None
    """Bytes of outputs that a unit writes in that time, in place of the engine's rate times `drain`;
    `None` means those."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Refuse conditions that no operator fulfills: the set would never be used."""
        if self.functions and self.operator not in BY_FUNCTION:
            raise ValueError(
                f"no `functions`: kernels of {self.operator} are not chosen by them, those of "
                f"{', '.join(sorted(BY_FUNCTION))} are"
            )
        if self.operator is KernelOperator.MOE and not self.functions <= ACTIVATIONS:
            raise ValueError(f"`functions` of experts among {', '.join(sorted(ACTIVATIONS))}")
        for name in ("group", "head_dim"):
            least, most = getattr(self, f"least_{name}"), getattr(self, f"most_{name}")
            if (least > 1 or most is not None) and self.operator not in BY_SHAPE:
                raise ValueError(
                    f"no bounds of `{name}`: {self.operator} has no heads, "
                    f"{' and '.join(sorted(BY_SHAPE))} have"
                )
            if most is not None and least > most:
                raise ValueError(f"a least_{name} of at most most_{name} = {most}")
        return self

    def runs_on(self, family: str | None) -> bool:
        """Return whether the kernels are for a device family."""
        return not self.architectures or family in self.architectures

    def suits(
        self, operator: KernelOperator, a_format: str | None, b_format: str | None,
        use: KernelUse = UNKNOWN_USE,
    ) -> bool:  # fmt: skip
        """Return whether the kernels run an operator with these formats.

        Kernels for some shapes or functions only do not run an operator whose own are unknown.
        """
        if operator is not self.operator:
            return False
        named = ((self.a_formats, a_format), (self.b_formats, b_format))
        if any(mine and theirs not in mine for mine, theirs in named):
            return False
        if self.functions and use.function not in self.functions:
            return False
        return _within(use.group, self.least_group, self.most_group) and _within(
            use.head_dim, self.least_head_dim, self.most_head_dim
        )

    @field_serializer("a_formats", "b_formats", "architectures", "functions")
    def _in_order(self, names: frozenset[str]) -> list[str]:
        return sorted(names)


def _within(value: float | None, least: int, most: int | None) -> bool:
    """Return whether a value lies between bounds; an unknown one only where there are none."""
    if value is None:
        return least == 1 and most is None
    return least <= value and (most is None or value <= most)
