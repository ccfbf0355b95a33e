"""Operators: the nodes of a workload graph.

Every count that depends on the load is *per sequence*: a graph describes one sequence, and the
load (how many sequences a step processes) multiplies it when the graph is lowered or costed. All
fields are plain scalars, so that a node's attributes are enough to rebuild its operator.
"""

from enum import StrEnum
from functools import cache
from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, TypeAdapter

from pentarch.model import Model
from pentarch.workload.query import FormatName


class OperatorKind(StrEnum):
    """What an operator does, as far as costing is concerned."""

    GEMM = "gemm"
    ATTENTION = "attention"
    VECTOR = "vector"
    GATHER = "gather"
    COLLECTIVE = "collective"


class Phase(StrEnum):
    """Part of a query."""

    PREFILL = "prefill"
    DECODE = "decode"


class Split(StrEnum):
    """How tensor parallelism may cut an operator."""

    COLUMNS = "columns"
    """Output features: each device holds n / degree columns of the weight."""
    ROWS = "rows"
    """Input features: each device holds k / degree rows; outputs are partial sums to reduce."""
    HEADS = "heads"
    """Attention heads; key-value heads fewer than the degree are replicated."""
    VALUES = "values"
    """Elementwise over features that are already cut."""
    EXPERTS = "experts"
    """Whole experts."""
    NONE = "none"
    """Replicated on every device."""


class _Operator(Model):
    name: str
    """Unique within its graph."""
    layer: str = ""
    """Layer group the operator belongs to; empty outside the layers."""
    repeat: PositiveInt = 1
    """How many equal operators a folded graph stands for."""
    split: Split = Split.NONE
    """How tensor parallelism may cut it."""
    kv_share: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of its output features that belong to key-value heads: a cut into more ways than there
    are such heads replicates them."""


class Gemm(_Operator):
    """C[m, n] = A[m, k] B[k, n], where B is a weight."""

    kind: Literal[OperatorKind.GEMM] = OperatorKind.GEMM
    """Discriminator."""
    rows: PositiveInt
    """Rows of A per sequence: tokens processed."""
    useful_rows: PositiveInt | None = None
    """Rows that useful FLOPs count, where work on others repeats what was done before; `None` means
    all."""
    batch: PositiveInt = 1
    """Equal GEMMs with inputs and weights of their own, one for each head; the others' counts are
    those of one."""
    k: PositiveInt
    """Inner dimension."""
    n: PositiveInt
    """Output features."""
    bias: bool = False
    """Whether n bias values are added."""
    unbiased: NonNegativeInt = 0
    """Features that get no bias value although the others do."""
    experts: NonNegativeInt = 0
    """Experts to choose from; 0 for a dense weight. The weight is k x n for each expert."""
    experts_per_token: NonNegativeInt = 0
    """Experts that each row is routed to."""
    a_format: FormatName
    """Input activations."""
    b_format: FormatName
    """Weights."""
    out_format: FormatName
    """Outputs."""
    tied: bool = False
    """Whether the weight is another operator's too, and is counted and stored there."""
    kv_heads: NonNegativeInt = 0
    """Key-value heads that `kv_share` speaks of; 0 for none."""


class Attention(_Operator):
    """softmax(Q K^T) V over the keys of one sequence."""

    kind: Literal[OperatorKind.ATTENTION] = OperatorKind.ATTENTION
    """Discriminator."""
    heads: PositiveInt
    """Query heads."""
    kv_heads: PositiveInt
    """Key-value heads; queries of heads / kv_heads heads share each."""
    head_dim: PositiveInt
    """Width of a query and of a key."""
    value_dim: PositiveInt
    """Width of a value."""
    query_tokens: PositiveInt
    """Queries per sequence."""
    context: PositiveInt
    """Keys per sequence that exist when the last query is processed, its own included."""
    causal: bool = True
    """Whether query i sees only the keys up to its own."""
    window: PositiveInt | None = None
    """Keys that a query sees at most, its own included; `None` means all."""
    chunk: PositiveInt | None = None
    """Tokens of the chunks that the sequence falls into: a query sees no key of an earlier one;
    `None` means one chunk."""
    values_in_keys: bool = False
    """Whether the first `value_dim` features of a key are the value: one read serves both."""
    cross: bool = False
    """Whether the keys are an encoder's: their number does not grow with the tokens made."""
    cached_values: NonNegativeInt | None = None
    """Values that one key leaves in the KV cache; `None` means key and value of each key-value head,
    0 that nothing is kept."""
    useful_width: PositiveInt | None = None
    """MACs of a query-key pair and head that useful FLOPs count, where the form that runs takes more
    of them; `None` means `head_dim + value_dim`."""
    sinks: bool = False
    """Whether each head has a learned score without a value, which is a parameter."""
    score_bias: Literal["none", "alibi", "relative"] = "none"
    """What is added to the scores by distance."""
    score_cap: bool = False
    """Whether a tanh bounds the scores."""
    query_format: FormatName
    """Queries, probabilities and outputs."""
    kv_format: FormatName
    """Stored keys and values."""
    out_format: FormatName
    """Outputs."""


class Vector(_Operator):
    """Work on a vector engine: norms, rotary embedding, activations, adds, conversions, sampling."""

    kind: Literal[OperatorKind.VECTOR] = OperatorKind.VECTOR
    """Discriminator."""
    function: str
    """What it computes, for example `"rms_norm"` or `"silu_multiply"`."""
    values_in: NonNegativeFloat
    """Activations read per sequence."""
    values_out: NonNegativeFloat
    """Activations written per sequence."""
    elementwise: NonNegativeFloat = 0.0
    """Adds, multiplies, compares per sequence."""
    reduce: NonNegativeFloat = 0.0
    """Values that enter a reduction, per sequence."""
    transcendental: NonNegativeFloat = 0.0
    """exp, tanh, sqrt, sin ... per sequence."""
    convert: NonNegativeFloat = 0.0
    """Values quantized or converted per sequence."""
    weights: NonNegativeInt = 0
    """Parameters read (norm gains and biases)."""
    lines: NonNegativeInt = 0
    """Rows of values per sequence that are reduced each by itself; 0 if nothing is reduced."""
    format: FormatName
    """Format of the values read."""
    out_format: FormatName
    """Format of the values written."""
    fusable: bool = True
    """Whether it can run in the prologue or epilogue of a neighbor, without its own memory traffic."""
    kv_heads: NonNegativeInt = 0
    """Key-value heads that `kv_share` speaks of; 0 for none."""


class Gather(_Operator):
    """Table look-up (embedding) or append (KV cache): moves bytes, computes nothing."""

    kind: Literal[OperatorKind.GATHER] = OperatorKind.GATHER
    """Discriminator."""
    function: str
    """`"embedding"`, `"position_embedding"`, `"segment_embedding"`, `"relative_positions"`,
    `"learned_tokens"`, `"kv_append"` or `"expert_dispatch"`."""
    values_in: NonNegativeFloat = 0.0
    """Values read per sequence."""
    values_out: NonNegativeFloat = 0.0
    """Values written per sequence."""
    table: NonNegativeInt = 0
    """Parameters of the table that is looked up."""
    tied: bool = False
    """Whether the table is another operator's weight too, and is counted there."""
    format: FormatName
    """Format of the values."""
    fusable: bool = False
    """Whether it can ride on a neighbor (a KV append in the epilogue of a projection)."""
    kv_heads: NonNegativeInt = 0
    """Key-value heads that `kv_share` speaks of; 0 for none."""


class Collective(_Operator):
    """Communication among the devices of a stage; inserted by a partitioner."""

    kind: Literal[OperatorKind.COLLECTIVE] = OperatorKind.COLLECTIVE
    """Discriminator."""
    function: Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send"]
    """Which collective."""
    values: NonNegativeFloat
    """Values per sequence: the size of the whole tensor on each device before an all-reduce or
    reduce-scatter, and after an all-gather."""
    format: FormatName
    """Format of the values."""
    degree: PositiveInt
    """Devices that take part."""
    per_token: bool = True
    """In a plan, where `values` are those of one token: whether prefill moves them once for each
    token it processes; false for what exists once per sequence and step, such as logits."""


Operator = Annotated[Gemm | Attention | Vector | Gather | Collective, Field(discriminator="kind")]
"""Any operator."""


@cache
def operator_adapter() -> TypeAdapter[Gemm | Attention | Vector | Gather | Collective]:
    """Return what rebuilds an operator from a node's attributes; made on first use."""
    return TypeAdapter(Operator)


class Tensor(Model):
    """Data on an edge of a workload graph."""

    shape: tuple[int, ...]
    """Per sequence, outermost dimension first."""
    format: FormatName
    """Number format of each value."""
    bytes: NonNegativeFloat
    """Size per sequence, group scales included."""
