"""The GPT family: layer norms, learned positions, GELU, biases everywhere; dense or experts."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pentarch.contracts.workload_family import WorkloadFamily
from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.workload import (
    Activation,
    DenseFeedForward,
    ExpertFeedForward,
    GroupedQueryAttention,
    Layer,
    LayerGroup,
    Norm,
    NormKind,
    PositionEmbedding,
    Workload,
    head_dim_of,
)
from pentarch_transformers.config import Config, Count


class GptConfig(Config):
    """Dimensions of a GPT model in pentarch's own words, as papers list them."""

    layers: Count
    """Decoder layers."""
    hidden: Count
    """Features of the residual stream."""
    heads: Count
    """Query heads."""
    kv_heads: Count | None = None
    """Key-value heads; `None` means one for each query head."""
    ffn: Count
    """Width of the feed-forward block, or of each expert."""
    experts: Count | None = None
    """Experts in place of each feed-forward block; `None` for a dense model."""
    experts_per_token: Count | None = None
    """Experts that process each token; goes with `experts`."""
    vocab: Count
    """Tokens that can be told apart."""
    positions: Count
    """Longest sequence, and rows of the table of positions."""
    tied: bool = True
    """Whether the LM head is the token embedding."""


class Gpt2Config(Config):
    """The keys of a GPT-2 `config.json`, with the defaults that its own library gives them."""

    vocab_size: Count = 50257
    """Tokens that can be told apart."""
    n_positions: Count = 1024
    """Longest sequence."""
    n_embd: Count = 768
    """Features of the residual stream."""
    n_layer: Count = 12
    """Decoder layers."""
    n_head: Count = 12
    """Heads."""
    n_inner: Count | None = None
    """Width of the feed-forward block; `None` means four times the residual stream's."""
    activation_function: Literal[
        "gelu_new", "gelu", "gelu_fast", "gelu_pytorch_tanh", "relu", "silu", "swish"
    ] = "gelu_new"
    """Activation of the feed-forward block."""
    tie_word_embeddings: bool = True
    """Whether the LM head is the token embedding."""
    add_cross_attention: Literal[False] = False
    """Cross attention to an encoder is not described by this family."""


class GptFamily(WorkloadFamily):
    """GPT-2, GPT-3 and what is assumed of GPT-4."""

    name: ClassVar[str] = "gpt"
    about: ClassVar[str] = "GPT-2 to GPT-4: layer norms, learned positions, GELU, biases"
    model_types: ClassVar[frozenset[str]] = frozenset({"gpt2"})

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that a GPT configuration describes.

        Args:
            config: The parsed configuration, unchecked: a GPT-2 `config.json` if it has a
                `model_type`, else the fields of `GptConfig`.
            name: Name for the workload.
            where: File that the configuration comes from, for errors.

        Raises:
            FieldError: A field is missing or wrong.
        """
        if "model_type" in config:
            return self._from_gpt2(load(Gpt2Config, config, where=where), name=name, where=where)
        raw = load(GptConfig, config, where=where)
        kv_heads = raw.heads if raw.kv_heads is None else raw.kv_heads
        _check(raw, kv_heads, where)
        expert = DenseFeedForward(width=raw.ffn, activation=Activation.GELU, bias=True)
        block: DenseFeedForward | ExpertFeedForward = expert
        if raw.experts is not None and raw.experts_per_token is not None:
            block = ExpertFeedForward(
                experts=raw.experts, experts_per_token=raw.experts_per_token, expert=expert
            )
        head_dim = head_dim_of(hidden=raw.hidden, heads=raw.heads, where=where, path="heads")
        return self._workload(
            _attention(raw.heads, kv_heads, head_dim),
            block,
            count=raw.layers,
            fields={
                "name": name,
                "hidden": raw.hidden,
                "vocab": raw.vocab,
                "positions": raw.positions,
                "tied": raw.tied,
            },
        )

    def _from_gpt2(self, raw: Gpt2Config, *, name: str, where: str) -> Workload:
        activation = Activation.GELU
        if raw.activation_function in ("relu", "silu", "swish"):
            activation = Activation.RELU if raw.activation_function == "relu" else Activation.SILU
        width = 4 * raw.n_embd if raw.n_inner is None else raw.n_inner
        head_dim = head_dim_of(hidden=raw.n_embd, heads=raw.n_head, where=where, path="n_head")
        return self._workload(
            _attention(raw.n_head, raw.n_head, head_dim),
            DenseFeedForward(width=width, activation=activation, bias=True),
            count=raw.n_layer,
            fields={
                "name": name,
                "hidden": raw.n_embd,
                "vocab": raw.vocab_size,
                "positions": raw.n_positions,
                "tied": raw.tie_word_embeddings,
            },
        )

    def _workload(
        self,
        attention: GroupedQueryAttention,
        block: DenseFeedForward | ExpertFeedForward,
        *,
        count: int,
        fields: Mapping[str, Any],
    ) -> Workload:
        norm = Norm(kind=NormKind.LAYER, bias=True)
        layer = Layer(
            attention=attention, feed_forward=block, attention_norm=norm, feed_forward_norm=norm
        )
        return Workload(
            family=self.name,
            position_embedding=PositionEmbedding.LEARNED,
            layers=(LayerGroup(name="decoder", count=count, layer=layer),),
            final_norm=norm,
            **fields,
        )


def _attention(heads: int, kv_heads: int, head_dim: int) -> GroupedQueryAttention:
    return GroupedQueryAttention(
        heads=heads, kv_heads=kv_heads, head_dim=head_dim, qkv_bias=True, output_bias=True
    )


def _check(raw: GptConfig, kv_heads: int, where: str) -> None:
    if raw.heads % kv_heads:
        raise FieldError(
            where=where,
            path="kv_heads",
            problem=f"{kv_heads} key-value heads do not divide {raw.heads} heads",
            expected=f"a divisor of heads = {raw.heads}",
        )
    if (raw.experts is None) != (raw.experts_per_token is None):
        missing = "experts" if raw.experts is None else "experts_per_token"
        raise FieldError(
            where=where,
            path=missing,
            problem="is missing",
            expected="both experts and experts_per_token, or neither for a dense model",
        )
    if raw.experts is not None and raw.experts < (raw.experts_per_token or 0):
        raise FieldError(
            where=where,
            path="experts_per_token",
            problem=f"found {raw.experts_per_token}",
            expected=f"at most the {raw.experts} experts",
        )
