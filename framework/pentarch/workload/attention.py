"""Norms and attention: what turns a token's features into queries, keys and values, and back.

Both kinds of attention say what the rest of pentarch counts with: weights, the values that a token
leaves in the KV cache, and the MACs of one query-key pair.
"""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from pentarch.model import Model


class NormKind(StrEnum):
    """How a norm is computed."""

    RMS = "rms_norm"
    """Divides by the root mean square."""
    LAYER = "layer_norm"
    """Subtracts the mean first."""


class Norm(Model):
    """A normalization over features, with one gain per feature."""

    kind: NormKind
    """How it is computed."""
    bias: bool = False
    """Whether it adds one bias per feature."""
    gain: bool = True
    """Whether it multiplies by one gain per feature; without it there is nothing to learn."""

    def parameters(self, features: int) -> int:
        """Return the gains and biases over `features`."""
        return features * (self.gain + self.bias)


class QueryKeyNorm(Model):
    """A norm of queries and keys in front of the scores."""

    norm: Norm
    """How it is computed, over the features of a head or of all heads."""
    shared: bool = True
    """Whether all heads share one gain per feature of a head; otherwise every feature of every head
    has its own."""


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
    causal: bool = True
    """Whether a query sees only keys up to its own; an encoder's see all."""
    window: PositiveInt | None = None
    """Keys that a query sees at most, its own included; `None` means all."""
    chunk: PositiveInt | None = None
    """Tokens of the chunks that the sequence falls into: a query sees no key of an earlier one;
    `None` means one chunk. Excludes a window."""
    qkv_bias: bool = False
    """Whether the query, key and value projections add a bias."""
    key_bias: bool = True
    """With `qkv_bias`: whether the key projection adds one too."""
    output_bias: bool = False
    """Whether the output projection adds a bias."""
    query_key_norm: QueryKeyNorm | None = None
    """Norm of queries and keys in front of the scores."""
    sinks: bool = False
    """Whether each head has a learned score that takes part in the softmax without a value."""
    score_bias: Literal["alibi", "relative"] | None = None
    """What is added to the scores by distance: a slope per head, or an entry of the stack's table
    of relative positions."""
    score_cap: bool = False
    """Whether the scores pass a tanh that bounds them."""

    @property
    def query_width(self) -> int:
        """Features of all queries of one token."""
        return self.heads * self.head_dim

    @property
    def output_width(self) -> int:
        """Features that enter the output projection."""
        return self.query_width

    @property
    def kv_width(self) -> int:
        """Features of all keys and values of one token: what the KV cache holds."""
        return 2 * self.kv_heads * self.head_dim

    @property
    def pair_macs(self) -> int:
        """MACs of one query-key pair, all heads: score and weighted value."""
        return 2 * self.query_width

    def query_weights(self, hidden: int) -> int:
        """Return the GEMM weights of the query and output projections."""
        return 2 * hidden * self.query_width

    def kv_weights(self, hidden: int) -> int:
        """Return the GEMM weights of the key and value projections."""
        return hidden * self.kv_width

    def weights(self, hidden: int) -> int:
        """Return the GEMM weights on `hidden` features."""
        return self.query_weights(hidden) + self.kv_weights(hidden)

    @property
    def kv_bias_values(self) -> int:
        """Biases of the key and value projections."""
        if not self.qkv_bias:
            return 0
        return self.kv_width if self.key_bias else self.kv_width // 2

    def other_parameters(self, hidden: int) -> int:
        """Return the parameters that are no GEMM weights: biases, norms, sinks."""
        count = self.kv_bias_values + (self.query_width if self.qkv_bias else 0)
        count += hidden if self.output_bias else 0
        count += self.heads if self.sinks else 0
        return count + sum(self.query_key_gains)

    @property
    def query_key_gains(self) -> tuple[int, int]:
        """Parameters of the norms of queries and of keys."""
        found = self.query_key_norm
        if found is None:
            return 0, 0
        heads = (1, 1) if found.shared else (self.heads, self.kv_heads)
        return (
            found.norm.parameters(heads[0] * self.head_dim),
            found.norm.parameters(heads[1] * self.head_dim),
        )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.heads % self.kv_heads:
            raise ValueError(
                f"kv_heads that divide heads, so that each serves as many; {self.heads} heads "
                f"are no multiple of {self.kv_heads} kv_heads"
            )
        if self.rotary_dim > self.head_dim:
            raise ValueError(f"a rotary_dim of at most head_dim = {self.head_dim}")
        if self.window is not None and self.chunk is not None:
            raise ValueError("either a window or a chunk, not both")
        return self


class LatentAttention(Model):
    """Attention whose keys and values of all heads are made from one latent vector per token.

    The cache holds that vector and one rotary key that all heads share. Prefill makes keys and
    values from it. Decode need not: the matrices that would make them join the query and the output
    (the absorbed form), so that all heads attend over the cache itself, as if it were one key of
    `latent + rotary_dim` features whose first `latent` are also the value.

    References:
        DeepSeek-AI, DeepSeek-V2, 2024, section 2.1 and appendix C.
    """

    kind: Literal["latent"] = "latent"
    """Discriminator."""
    heads: PositiveInt
    """Query heads."""
    query_latent: PositiveInt | None = None
    """Width of the latent vector that queries are made from; `None` means the hidden features."""
    latent: PositiveInt
    """Width of the latent vector that keys and values are made from."""
    plain_dim: PositiveInt
    """Features of a query and a key, per head, without a position embedding."""
    rotary_dim: PositiveInt
    """Further features of a query, and of the key that all heads share, with a rotary one."""
    value_dim: PositiveInt
    """Width of a value."""
    bias: bool = False
    """Whether the projections into the latent vectors and out of attention add a bias."""
    norm: Norm = Norm(kind=NormKind.RMS)
    """Norm of both latent vectors."""

    @property
    def causal(self) -> bool:
        """Whether a query sees only keys up to its own: always."""
        return True

    @property
    def window(self) -> None:
        """Keys that a query sees at most: all."""
        return None

    @property
    def chunk(self) -> None:
        """Tokens of a chunk: there are none."""
        return None

    @property
    def head_dim(self) -> int:
        """Width of a query and of a key."""
        return self.plain_dim + self.rotary_dim

    @property
    def kv_heads(self) -> int:
        """Keys that the cache holds per token: one, for all heads."""
        return 1

    @property
    def query_width(self) -> int:
        """Features of all queries of one token."""
        return self.heads * self.head_dim

    @property
    def output_width(self) -> int:
        """Features that enter the output projection."""
        return self.heads * self.value_dim

    @property
    def kv_width(self) -> int:
        """Features that the KV cache holds for one token: latent vector and rotary key."""
        return self.latent + self.rotary_dim

    @property
    def pair_macs(self) -> int:
        """MACs of one query-key pair, all heads, in the plain form."""
        return self.heads * (self.head_dim + self.value_dim)

    def weights(self, hidden: int) -> int:
        """Return the GEMM weights on `hidden` features."""
        query = hidden * self.query_width
        if self.query_latent is not None:
            query = self.query_latent * (hidden + self.query_width)
        up = self.latent * self.heads * (self.plain_dim + self.value_dim)
        return query + hidden * self.kv_width + up + self.output_width * hidden

    def other_parameters(self, hidden: int) -> int:
        """Return the parameters that are no GEMM weights: biases and norms."""
        count = self.norm.parameters(self.latent)
        if self.query_latent is not None:
            count += self.norm.parameters(self.query_latent)
        if self.bias:
            count += self.kv_width + hidden + (self.query_latent or 0)
        return count


AttentionBlock = Annotated[GroupedQueryAttention | LatentAttention, Field(discriminator="kind")]
"""Any attention block."""
