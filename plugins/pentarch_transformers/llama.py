"""The Llama family: RMS norms, rotary positions, gated SiLU, grouped-query attention."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pentarch.contracts.workload_family import WorkloadFamily
from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    GroupedQueryAttention,
    Layer,
    LayerGroup,
    Norm,
    NormKind,
    Workload,
    head_dim_of,
)
from pentarch_transformers.config import Config, Count

_ACTIVATIONS = {
    "silu": Activation.SILU,
    "swish": Activation.SILU,
    "gelu": Activation.GELU,
    "gelu_new": Activation.GELU,
    "gelu_fast": Activation.GELU,
    "gelu_pytorch_tanh": Activation.GELU,
    "relu": Activation.RELU,
}


class LlamaConfig(Config):
    """The keys of a Llama `config.json`, with the defaults that its own library gives them."""

    vocab_size: Count = 32000
    """Tokens that can be told apart."""
    hidden_size: Count = 4096
    """Features of the residual stream."""
    intermediate_size: Count = 11008
    """Width of the feed-forward block."""
    num_hidden_layers: Count = 32
    """Decoder layers."""
    num_attention_heads: Count = 32
    """Query heads."""
    num_key_value_heads: Count | None = None
    """Key-value heads; `None` means one for each query head."""
    head_dim: Count | None = None
    """Width of a head; `None` means the hidden size shared among the heads."""
    hidden_act: Literal[
        "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu"
    ] = "silu"
    """Activation of the gate."""
    max_position_embeddings: Count = 2048
    """Longest sequence."""
    tie_word_embeddings: bool = False
    """Whether the LM head is the token embedding."""
    attention_bias: bool = False
    """Whether all attention projections add a bias."""
    mlp_bias: bool = False
    """Whether all feed-forward projections add a bias."""


class LlamaFamily(WorkloadFamily):
    """Llama 1 to 3, and models of other makers that use its configuration."""

    name: ClassVar[str] = "llama"
    about: ClassVar[str] = "Llama 2 and 3: RMS norms, rotary positions, gated SiLU, GQA"
    model_types: ClassVar[frozenset[str]] = frozenset({"llama"})

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that a Llama configuration describes.

        Args:
            config: The parsed configuration, unchecked.
            name: Name for the workload.
            where: File that the configuration comes from, for errors.

        Raises:
            FieldError: A field is missing or wrong.
        """
        raw = load(LlamaConfig, config, where=where)
        norm = Norm(kind=NormKind.RMS)
        layer = Layer(
            attention=_attention(raw, where),
            feed_forward=DenseFeedForward(
                width=raw.intermediate_size,
                activation=_ACTIVATIONS[raw.hidden_act],
                gated=True,
                bias=raw.mlp_bias,
            ),
            attention_norm=norm,
            feed_forward_norm=norm,
        )
        return Workload(
            name=name,
            family=self.name,
            hidden=raw.hidden_size,
            vocab=raw.vocab_size,
            positions=raw.max_position_embeddings,
            tied=raw.tie_word_embeddings,
            layers=(LayerGroup(name="decoder", count=raw.num_hidden_layers, layer=layer),),
            final_norm=norm,
        )


def _attention(raw: LlamaConfig, where: str) -> GroupedQueryAttention:
    heads = raw.num_attention_heads
    kv_heads = heads if raw.num_key_value_heads is None else raw.num_key_value_heads
    if heads % kv_heads:
        raise FieldError(
            where=where,
            path="num_key_value_heads",
            problem=f"{kv_heads} key-value heads do not divide {heads} attention heads",
            expected=f"a divisor of num_attention_heads = {heads}",
        )
    head_dim = raw.head_dim
    if head_dim is None:
        head_dim = head_dim_of(
            hidden=raw.hidden_size, heads=heads, where=where, path="num_attention_heads"
        )
    return GroupedQueryAttention(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        rotary_dim=head_dim,
        qkv_bias=raw.attention_bias,
        output_bias=raw.attention_bias,
    )
