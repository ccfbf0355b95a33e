"""Feed-forward blocks, and the layers that join them to attention around a residual stream."""

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from pentarch.model import Model
from pentarch.workload.attention import AttentionBlock, GroupedQueryAttention, Norm


class Activation(StrEnum):
    """Nonlinear function of a feed-forward block."""

    RELU = "relu"
    """max(x, 0)."""
    RELU_SQUARED = "relu_squared"
    """The square of max(x, 0)."""
    GELU = "gelu"
    """Gaussian error linear unit, exact or by its tanh approximation."""
    SILU = "silu"
    """x times the logistic function of x, or of a multiple of x."""
    CLAMPED_SILU = "clamped_silu"
    """The same of x cut off at a limit; gated, what it multiplies is cut off as well, plus one."""
    SIGMOID = "sigmoid"
    """The logistic function of x."""
    TANH = "tanh"
    """The hyperbolic tangent of x."""


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

    def weights(self, hidden: int) -> int:
        """Return the GEMM weights on `hidden` features."""
        return hidden * self.up_width + self.width * hidden

    def parameters(self, hidden: int) -> int:
        """Return weights and biases on `hidden` features."""
        return self.weights(hidden) + (self.up_width + hidden if self.bias else 0)


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
    shared_gate: bool = False
    """Whether a learned gate, one number per token, multiplies what the shared block returns."""
    router_bias: bool = False
    """Whether the router adds a bias, one parameter per expert."""
    correction_bias: bool = False
    """Whether a bias that balances the load, and is no parameter, joins the choice of experts."""

    @property
    def router_weights(self) -> int:
        """Weights of router and shared gate per hidden feature."""
        return self.experts + self.shared_gate

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.experts_per_token > self.experts:
            raise ValueError(f"experts_per_token of at most the {self.experts} experts")
        if self.shared_gate and self.shared is None:
            raise ValueError("a shared block for the shared gate")
        return self


FeedForward = Annotated[DenseFeedForward | ExpertFeedForward, Field(discriminator="kind")]
"""Any feed-forward block."""


class CrossAttention(Model):
    """Attention of a decoder over its encoder's output, whose keys and values are made once."""

    attention: GroupedQueryAttention
    """The attention block; its keys and values come from the encoder's last layer."""
    norm: Norm | None = None
    """Norm in front of it."""
    sum_norm: Norm | None = None
    """Norm of the residual stream after it."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.attention.causal or self.attention.rotary_dim:
            raise ValueError("cross attention without a causal mask and without rotary positions")
        return self


class Layer(Model):
    """One layer: attention and a feed-forward block around a residual stream.

    Norms stand in front of a block, behind it (before its output is added), or behind the sum.
    """

    attention: AttentionBlock
    """The attention block."""
    feed_forward: FeedForward
    """The feed-forward block."""
    attention_norm: Norm | None = None
    """Norm in front of attention."""
    feed_forward_norm: Norm | None = None
    """Norm in front of the feed-forward block; in a parallel layer `None` means that both blocks
    read the output of `attention_norm`."""
    attention_output_norm: Norm | None = None
    """Norm of what attention returns, before it is added."""
    feed_forward_output_norm: Norm | None = None
    """Norm of what the feed-forward block returns, before it is added."""
    attention_sum_norm: Norm | None = None
    """Norm of the residual stream after attention was added."""
    feed_forward_sum_norm: Norm | None = None
    """Norm of the residual stream after the feed-forward block was added."""
    parallel: bool = False
    """Whether both blocks read the layer's input and are added to it together."""
    cross: CrossAttention | None = None
    """Attention over the encoder between both blocks; decoders of an encoder have it."""

    @property
    def norms(self) -> tuple[Norm, ...]:
        """Every norm over the hidden features that the layer has."""
        found = [self.attention_norm, self.feed_forward_norm, self.attention_output_norm,
                 self.feed_forward_output_norm, self.attention_sum_norm,
                 self.feed_forward_sum_norm]  # fmt: skip
        if self.cross is not None:
            found += [self.cross.norm, self.cross.sum_norm]
        return tuple(norm for norm in found if norm is not None)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.parallel and (self.cross is not None or self.attention_sum_norm is not None):
            raise ValueError("a parallel layer without cross attention and norms of sums")
        return self


class LayerGroup(Model):
    """Equal layers, in sequence unless the stack's `order` interleaves them with others."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    """Unique within the workload; begins the names of the group's operators."""
    count: PositiveInt
    """How many layers."""
    layer: Layer
    """Each of them."""
