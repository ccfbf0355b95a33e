"""The workload: what a transformer is made of, without any query or hardware.

A workload is a stack of layers between an embedding and a head, behind an encoder of the same kind
if it has one. Every number that pentarch derives (parameters, FLOPs, the dataflow graph) starts
from these fields. New kinds of attention and feed-forward blocks join the unions of
`pentarch.workload.attention` and `pentarch.workload.layers`.
"""

from collections import Counter
from enum import StrEnum
from typing import Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pentarch.errors import FieldError
from pentarch.model import Model
from pentarch.workload.attention import AttentionBlock as AttentionBlock
from pentarch.workload.attention import GroupedQueryAttention as GroupedQueryAttention
from pentarch.workload.attention import LatentAttention as LatentAttention
from pentarch.workload.attention import Norm as Norm
from pentarch.workload.attention import NormKind as NormKind
from pentarch.workload.attention import QueryKeyNorm as QueryKeyNorm
from pentarch.workload.layers import Activation as Activation
from pentarch.workload.layers import CrossAttention as CrossAttention
from pentarch.workload.layers import DenseFeedForward as DenseFeedForward
from pentarch.workload.layers import ExpertFeedForward as ExpertFeedForward
from pentarch.workload.layers import FeedForward as FeedForward
from pentarch.workload.layers import Layer as Layer
from pentarch.workload.layers import LayerGroup as LayerGroup


class PositionEmbedding(StrEnum):
    """Table of positions that is added to the token embedding."""

    NONE = "none"
    """No table: positions enter through attention, or not at all."""
    LEARNED = "learned"
    """One stored vector for each position."""


class HeadKind(StrEnum):
    """What the last GEMM of a workload is for."""

    LANGUAGE = "language"
    """The next token: a score for every token, of the last position."""
    MASKED = "masked"
    """The token, or a class of it, at every position: scores of all positions."""
    CLASSES = "classes"
    """A class of the whole input: one row of scores."""
    STATES = "states"
    """None: what comes out are the hidden states themselves, or a vector pooled from them."""


class HeadTransform(Model):
    """A linear layer in front of the head."""

    width: PositiveInt
    """Features that it returns, and that the head reads."""
    bias: bool = True
    """Whether it adds a bias."""
    activation: Activation | None = None
    """Function of what it returns."""
    norm: Norm | None = None
    """Norm of that."""


class EmbeddingProjection(Model):
    """An embedding table that is narrower or wider than the residual stream."""

    width: PositiveInt
    """Features of an entry of the token table."""
    bias: bool = False
    """Whether the projection to the residual stream adds a bias."""
    of_sum: bool = True
    """Whether positions, token types and norm have the table's width too, so that their sum is
    projected; otherwise tokens alone are."""


class Convolution(Model):
    """A convolution over the input, as the GEMM that it is."""

    inputs: PositiveInt
    """Channels that it reads."""
    taps: PositiveInt
    """Positions of the input that one output sees: kernel width, or height times width."""
    outputs: PositiveInt
    """Channels that it makes."""
    positions: PositiveInt
    """Positions of its output."""
    bias: bool = True
    """Whether it adds a bias."""
    activation: Activation | None = None
    """Function of what it returns."""

    @property
    def weights(self) -> int:
        """GEMM weights."""
        return self.taps * self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Weights and biases."""
        return self.weights + (self.outputs if self.bias else 0)


class FrontEnd(Model):
    """What turns an image or a recording into tokens, in place of a table of tokens."""

    convolutions: tuple[Convolution, ...] = Field(min_length=1)
    """In sequence; the last one's outputs are the features of the residual stream."""
    learned_tokens: NonNegativeInt = 0
    """Learned tokens that are put in front, such as the one that is classified."""

    @property
    def tokens(self) -> int:
        """Tokens that come out, whatever the query says."""
        return self.convolutions[-1].positions + self.learned_tokens

    @property
    def macs(self) -> int:
        """MACs of all convolutions."""
        return sum(stage.weights * stage.positions for stage in self.convolutions)


class Stack(Model):
    """Layers in sequence with the embedding in front of them and the norm behind."""

    positions: PositiveInt
    """Longest sequence that the stack is made for, in tokens."""
    position_embedding: PositionEmbedding = PositionEmbedding.NONE
    """Whether a table of positions is added to the token embedding."""
    position_rows: PositiveInt | None = None
    """Rows of that table; `None` means one for each of `positions`."""
    token_types: NonNegativeInt = 0
    """Rows of a table of segments that is added too; 0 for none."""
    relative_buckets: NonNegativeInt = 0
    """Rows of a table of relative positions, one column per head, that every layer of the stack adds
    to its scores; 0 for none."""
    embedding_norm: Norm | None = None
    """Norm of the sum of embeddings."""
    frontend: FrontEnd | None = None
    """What makes tokens in place of the token table."""
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    """Groups of equal layers; in the order in which a token passes them, unless `order` says."""
    order: tuple[str, ...] = ()
    """Group of each layer, from the first to the last, where groups take turns; empty means that
    they follow one another."""
    final_norm: Norm | None
    """Norm behind the last layer."""

    @property
    def depth(self) -> int:
        """Layers of all groups together."""
        return sum(group.count for group in self.layers)

    @property
    def heads(self) -> int:
        """Query heads of the first group: columns of the table of relative positions."""
        return self.layers[0].layer.attention.heads

    @property
    def table_rows(self) -> int:
        """Rows of the table of positions; 0 without one."""
        if self.position_embedding is PositionEmbedding.NONE:
            return 0
        return self.positions if self.position_rows is None else self.position_rows

    @property
    def is_causal(self) -> bool:
        """Whether every layer's attention is causal."""
        return all(group.layer.attention.causal for group in self.layers)

    def group(self, name: str) -> LayerGroup:
        """Return the layer group called `name`; raises `KeyError` if there is none."""
        return {group.name: group for group in self.layers}[name]

    @model_validator(mode="after")
    def _check_layers(self) -> Self:
        names = [group.name for group in self.layers]
        if len(set(names)) != len(names):
            raise ValueError(f"layer groups with different names, not {', '.join(names)}")
        counts = {group.name: group.count for group in self.layers}
        if self.order and Counter(self.order) != counts:
            raise ValueError("an order that names each layer group as often as it has layers")
        return self


class Encoder(Stack):
    """The encoder of an encoder-decoder: its last layer feeds the decoder's cross attention.

    It has the width of the decoder and, without a front end, its token table.
    """

    own_table: bool = False
    """Whether it has a token table of its own, of the same size as the decoder's."""


class Workload(Stack):
    """A transformer: decoder only, encoder only, or a decoder behind an encoder."""

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
    notes: tuple[str, ...] = ()
    """What a reader of its figures should know, such as parts of a model that are left out."""
    hidden: PositiveInt
    """Features of the residual stream."""
    vocab: PositiveInt
    """Tokens that can be told apart: rows of the token table, columns of the head."""
    classes: PositiveInt | None = None
    """Columns of the head where it tells classes apart; `None` means one for each token."""
    tied: bool = False
    """Whether the head uses the token embedding as its weight."""
    embedding_projection: EmbeddingProjection | None = None
    """Projection of the token table to the residual stream; `None` if it has that width."""
    lm_head_bias: bool = False
    """Whether the head adds a bias."""
    head: HeadKind = HeadKind.LANGUAGE
    """What the last GEMM is for."""
    head_transform: HeadTransform | None = None
    """Linear layer in front of it."""
    unused_parameters: NonNegativeInt = 0
    """Parameters that a model stores without reading them when it runs; part of the head's count."""
    encoder: Encoder | None = None
    """Encoder whose output the layers attend to."""

    @property
    def windows(self) -> tuple[int, ...]:
        """Attention windows that occur, ascending, each once."""
        found = {group.layer.attention.window for group in self.layers}
        return tuple(sorted(window for window in found if window is not None))

    @property
    def generates(self) -> bool:
        """Whether it makes tokens one after another, so that there is a decode phase."""
        return self.is_causal and self.head is HeadKind.LANGUAGE

    @property
    def table_width(self) -> int:
        """Features of an entry of the token table."""
        projection = self.embedding_projection
        return self.hidden if projection is None else projection.width

    @property
    def head_columns(self) -> int:
        """Scores that the head makes per row; 0 without a head."""
        if self.head is HeadKind.STATES:
            return 0
        return self.vocab if self.classes is None else self.classes

    @property
    def head_width(self) -> int:
        """Features that the head reads."""
        return self.hidden if self.head_transform is None else self.head_transform.width

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.source is not None and self.assumption is not None:
            raise ValueError("either a source or an assumption, not both")
        if self.head is HeadKind.STATES and (self.tied or self.lm_head_bias):
            raise ValueError("neither a tied head nor a bias of it in a model without a head")
        if self.tied and self.classes is not None:
            raise ValueError("a head of its own for classes, not a tied one")
        if self.tied and (self.frontend is not None or self.head_width != self.table_width):
            raise ValueError("a tied head that reads as many features as the token table has")
        has_cross = any(group.layer.cross is not None for group in self.layers)
        if has_cross != (self.encoder is not None):
            raise ValueError("an encoder if, and only if, layers have cross attention")
        if self.encoder is not None:
            shared = {group.name for group in self.layers} & {
                group.name for group in self.encoder.layers
            }
            if shared:
                raise ValueError(f"groups of encoder and decoder with different names: {shared}")
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
