"""The workload: what a transformer is made of, without any query or hardware.

A workload is a chain of layer groups between an embedding and a language-model head. Every number
that pentarch derives (parameters, FLOPs, the dataflow graph) starts from these fields. New kinds of
attention and feed-forward blocks join the two discriminated unions below.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pentarch.errors import FieldError
from pentarch.model import Model


class NormKind(StrEnum):
    """How a norm is computed."""

    RMS = "rms_norm"
    """Divides by the root mean square."""
    LAYER = "layer_norm"
    """Subtracts the mean first."""


class Norm(Model):
    """A normalization over the hidden features, with one gain per feature."""

    kind: NormKind
    """How it is computed."""
    bias: bool = False
    """Whether it adds one bias per feature."""


class Activation(StrEnum):
    """Nonlinear function of a feed-forward block."""

    RELU = "relu"
    """max(x, 0)."""
    GELU = "gelu"
    """Gaussian error linear unit, exact or by its tanh approximation."""
    SILU = "silu"
    """x times the logistic function of x."""


class GroupedQueryAttention(Model):
    """Attention with one key-value head for each group of query heads.

    As many key-value heads as heads is multi-head attention, a single one multi-query attention.
    """

    kind: Literal["grouped_query"] = "grouped_query"
    """Discriminator."""
    heads: PositiveInt
    """Query heads."""
    kv_heads: PositiveInt
    """Key-value heads; divides `heads`."""
    head_dim: PositiveInt
    """Width of a query, a key and a value."""
    rotary_dim: NonNegativeInt = 0
    """Features per head that carry a rotary position embedding; 0 for none."""
    window: PositiveInt | None = None
    """Keys that a query sees at most, its own included; `None` means all."""
    qkv_bias: bool = False
    """Whether the query, key and value projections add a bias."""
    output_bias: bool = False
    """Whether the output projection adds a bias."""

    @property
    def query_width(self) -> int:
        """Features of all queries of one token."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Features of all keys and values of one token: what the KV cache holds."""
        return 2 * self.kv_heads * self.head_dim

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads that divide heads, so that each serves as many; {self.heads} heads "
                f"are no multiple of {self.kv_heads} kv_heads"
            )
        if self.rotary_dim > self.head_dim:
            raise ValueError(f"a rotary_dim of at most head_dim = {self.head_dim}")
        return self


class DenseFeedForward(Model):
    """Two linear layers with an activation between them; three if gated."""

    kind: Literal["dense"] = "dense"
    """Discriminator."""
    width: PositiveInt
    """Features between the linear layers."""
    activation: Activation
    """Function between the linear layers."""
    gated: bool = False
    """Whether the activation of one up projection (the gate) multiplies a second one."""
    bias: bool = False
    """Whether every linear layer adds a bias."""

    @property
    def up_width(self) -> int:
        """Output features of the up projection, the gate's included."""
        return self.width * (2 if self.gated else 1)


class ExpertFeedForward(Model):
    """A mixture of experts: a router sends each token to a few feed-forward blocks."""

    kind: Literal["experts"] = "experts"
    """Discriminator."""
    experts: PositiveInt
    """Routed experts to choose from."""
    experts_per_token: PositiveInt
    """Routed experts that process each token; at most `experts`."""
    expert: DenseFeedForward
    """Each of the routed experts."""
    shared: DenseFeedForward | None = None
    """What every token passes besides: all shared experts as one block; `None` for none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token of at most the {self.experts} experts")
        return self


FeedForward = Annotated[DenseFeedForward | ExpertFeedForward, Field(discriminator="kind")]
"""Any feed-forward block."""


class Layer(Model):
    """One decoder layer: attention and a feed-forward block around a residual stream."""

    attention: GroupedQueryAttention
    """The attention block."""
    feed_forward: FeedForward
    """The feed-forward block."""
    attention_norm: Norm | None
    """Norm in front of attention."""
    feed_forward_norm: Norm | None
    """Norm in front of the feed-forward block; in a parallel layer `None` means that both blocks
    read the output of `attention_norm`."""
    parallel: bool = False
    """Whether both blocks read the layer's input and are added to it together."""


class LayerGroup(Model):
    """Equal layers in sequence."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Unique within the workload; begins the names of the group's operators."""
    count: PositiveInt
    """How many layers."""
    layer: Layer
    """Each of them."""


class PositionEmbedding(StrEnum):
    """Table of positions that is added to the token embedding."""

    NONE = "none"
    """No table: positions enter through rotary embeddings, or not at all."""
    LEARNED = "learned"
    """One learned vector for each position."""


class Workload(Model):
    """A decoder-only transformer."""

    name: str
    """Catalog name, or the name of the folder of a `config.json`."""
    about: str = ""
    """One sentence for listings."""
    family: str
    """Workload family that read it."""
    source: str | None = None
    """Where its dimensions were published."""
    assumption: str | None = None
    """Why these dimensions, if nobody has published them."""
    hidden: PositiveInt
    """Features of the residual stream."""
    vocab: PositiveInt
    """Tokens that can be told apart: rows of the embedding, columns of the LM head."""
    positions: PositiveInt
    """Longest sequence that the model is made for, in tokens."""
    position_embedding: PositionEmbedding = PositionEmbedding.NONE
    """Whether a table of positions is added to the token embedding."""
    tied: bool = False
    """Whether the LM head uses the token embedding as its weight."""
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    """In the order in which a token passes them."""
    final_norm: Norm | None
    """Norm in front of the LM head."""
    lm_head_bias: bool = False
    """Whether the LM head adds a bias."""

    @property
    def depth(self) -> int:
        """Layers of all groups together."""
        return sum(group.count for group in self.layers)

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention windows that occur, ascending, each once."""
        found = {group.layer.attention.window for group in self.layers}
        return tuple(sorted(window for window in found if window is not None))

    def group(self, name: str) -> LayerGroup:
        """Return the layer group called `name`; raises `KeyError` if there is none."""
        return {group.name: group for group in self.layers}[name]

    @model_validator(mode="after")
    def _check(self) -> Self:
        names = [group.name for group in self.layers]
        if len(set(names)) != len(names):
            raise ValueError(f"layer groups with different names, not {', '.join(names)}")
        if self.source is not None and self.assumption is not None:
            raise ValueError("either a source or an assumption, not both")
        return self


def head_dim_of(*, hidden: int, heads: int, where: str, path: str) -> int:
    """Return the width of a head of a model whose config does not state it.

    Args:
        hidden: Features of the residual stream.
        heads: Query heads.
        where: File or object that the numbers come from, for the error.
        path: Field that holds the number of heads.

    Raises:
        FieldError: `hidden` is no multiple of `heads`.

    Examples:
        >>> head_dim_of(hidden=4096, heads=32, where="config.json", path="num_attention_heads")
        128
    """
    if hidden % heads:
        raise FieldError(
            where=where,
            path=path,
            problem=f"{heads} heads do not divide the hidden size {hidden}",
            expected="a divisor of the hidden size, or the width of a head stated as head_dim",
        )
    return hidden // heads
