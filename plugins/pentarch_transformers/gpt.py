"""The GPT family and its offspring: layer norms, biases, and mostly learned positions."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.attention import GroupedQueryAttention, Norm, NormKind
from pentarch.workload.layers import Activation, DenseFeedForward, ExpertFeedForward, Layer
from pentarch.workload.workload import (
    EmbeddingProjection,
    HeadTransform,
    PositionEmbedding,
    Workload,
    head_dim_of,
)
from pentarch_transformers.assembly import (
    LAYER_NORM,
    Build,
    TypedFamily,
    patterned,
    rotated,
    same,
)
from pentarch_transformers.config import Config, Count
from pentarch_transformers.heads import Pooler
from pentarch_transformers.reading import Reader


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


def _from_own_words(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    raw = load(GptConfig, config, where=where)
    of_heads = raw.heads if raw.kv_heads is None else raw.kv_heads
    _check(raw, of_heads, where)
    expert = DenseFeedForward(width=raw.ffn, activation=Activation.GELU, bias=True)
    block: DenseFeedForward | ExpertFeedForward = expert
    if raw.experts is not None and raw.experts_per_token is not None:
        block = ExpertFeedForward(
            experts=raw.experts, experts_per_token=raw.experts_per_token, expert=expert
        )
    head_dim = head_dim_of(hidden=raw.hidden, heads=raw.heads, where=where, path="heads")
    layer = _layer(_attention(raw.heads, of_heads, head_dim), block)
    return {
        "hidden": raw.hidden, "vocab": raw.vocab, "positions": raw.positions, "tied": raw.tied,
        "position_embedding": PositionEmbedding.LEARNED, "layers": same(raw.layers, layer).groups,
        "final_norm": LAYER_NORM,
    }  # fmt: skip


def _layer(attention: GroupedQueryAttention, block: DenseFeedForward | ExpertFeedForward) -> Layer:
    return Layer(
        attention=attention,
        feed_forward=block,
        attention_norm=LAYER_NORM,
        feed_forward_norm=LAYER_NORM,
    )


def _gpt2(read: Reader) -> dict[str, Any]:
    return _gpt2_like(read, one_kv_head=False)


def _bigcode(read: Reader) -> dict[str, Any]:
    return _gpt2_like(read, one_kv_head=read.flag("multi_query", True))


def _gpt2_like(read: Reader, *, one_kv_head: bool) -> dict[str, Any]:
    if read.flag("add_cross_attention", False):
        raise read.wrong("add_cross_attention", "found True", "False: no encoder is described")
    hidden, heads = read.count("n_embd", 768), read.count("n_head", 12)
    head_dim = read.divides(hidden, heads, "n_head", "the hidden size")
    width = read.maybe("n_inner")
    default = "gelu_pytorch_tanh" if read.model_type == "gpt_bigcode" else "gelu_new"
    block = DenseFeedForward(
        width=4 * hidden if width is None else width, bias=True,
        activation=read.activation("activation_function", default),
    )  # fmt: skip
    layer = _layer(_attention(heads, 1 if one_kv_head else heads, head_dim), block)
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50257),
        "positions": read.count("n_positions", 1024),
        "position_embedding": PositionEmbedding.LEARNED,
        "tied": read.flag("tie_word_embeddings", True),
        "layers": same(read.layers("n_layer", 12), layer).groups, "final_norm": LAYER_NORM,
    }  # fmt: skip


def _gptj(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("n_embd", 4096), read.count("n_head", 16)
    head_dim = read.divides(hidden, heads, "n_head", "the hidden size")
    rotary = read.maybe("rotary_dim", 64)
    width = read.maybe("n_inner")
    attention = GroupedQueryAttention(
        heads=heads, kv_heads=heads, head_dim=head_dim,
        rotary_dim=min(head_dim, hidden if rotary is None else rotary),
    )  # fmt: skip
    layer = Layer(
        attention=attention, attention_norm=LAYER_NORM, parallel=True,
        feed_forward=DenseFeedForward(
            width=4 * hidden if width is None else width, bias=True,
            activation=read.activation("activation_function", "gelu_new"),
        ),
    )  # fmt: skip
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50400),
        "positions": read.count("n_positions", 2048),
        "tied": read.flag("tie_word_embeddings", False), "lm_head_bias": True,
        "layers": same(read.layers("n_layer", 28), layer).groups, "final_norm": LAYER_NORM,
    }  # fmt: skip


def _gpt_neo(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 2048), read.count("num_heads", 16)
    head_dim = read.divides(hidden, heads, "num_heads", "the hidden size")
    layers = read.layers("num_layers", 24)
    width, window = read.maybe("intermediate_size"), read.count("window_size", 256)
    block = DenseFeedForward(
        width=4 * hidden if width is None else width, bias=True,
        activation=read.activation("activation_function", "gelu_new"),
    )  # fmt: skip

    def make(kind: str) -> Layer:
        attention = GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, output_bias=True,
            window=window if kind == "local" else None,
        )  # fmt: skip
        return _layer(attention, block)

    found = patterned(_neo_pattern(read, layers), make, str)
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50257),
        "positions": read.count("max_position_embeddings", 2048),
        "position_embedding": PositionEmbedding.LEARNED,
        "tied": read.flag("tie_word_embeddings", True), "layers": found.groups,
        "order": found.order, "final_norm": LAYER_NORM,
    }  # fmt: skip


def _neo_pattern(read: Reader, layers: int) -> list[str]:
    """Return `global` or `local` for each layer, from `attention_types`: patterns and repeats."""
    kinds: list[str] = []
    for index, entry in enumerate(read.items("attention_types") or [[["global", "local"], 12]]):
        is_pair = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], list)
        if (
            not is_pair
            or any(kind not in ("global", "local") for kind in entry[0])
            or type(entry[1]) is not int
            or not 0 < entry[1] * len(entry[0]) <= layers
        ):
            raise read.wrong(
                f"attention_types[{index}]", "is no pattern with a number of repeats",
                "a list of 'global' and 'local', and how often it is repeated",
            )  # fmt: skip
        kinds += entry[0] * entry[1]
    if len(kinds) != layers:
        raise read.wrong(
            "attention_types", f"describes {len(kinds)} layers", f"num_layers = {layers} of them"
        )
    return kinds


def _gpt_neox(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 6144), read.count("num_attention_heads", 64)
    head_dim = read.divides(hidden, heads, "num_attention_heads", "the hidden size")
    bias = read.flag("attention_bias", True)
    share = read.share("rotary_pct", 0.25)
    attention = GroupedQueryAttention(
        heads=heads, kv_heads=heads, head_dim=head_dim, qkv_bias=bias, output_bias=bias,
        rotary_dim=rotated(read, head_dim, share),
    )  # fmt: skip
    block = DenseFeedForward(
        width=read.count("intermediate_size", 24576), bias=True,
        activation=read.activation("hidden_act", "gelu"),
    )  # fmt: skip
    layer = _layer(attention, block)
    if read.flag("use_parallel_residual", True):
        layer = layer.replace(parallel=True)
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50432),
        "positions": read.count("max_position_embeddings", 2048),
        "tied": read.flag("tie_word_embeddings", False),
        "layers": same(read.layers("num_hidden_layers", 44), layer).groups,
        "final_norm": LAYER_NORM,
    }  # fmt: skip


def _opt(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 768), read.count("num_attention_heads", 12)
    head_dim = read.divides(hidden, heads, "num_attention_heads", "the hidden size")
    bias = read.flag("enable_bias", True)
    affine = read.flag("layer_norm_elementwise_affine", True)
    before = read.flag("do_layer_norm_before", True)
    norm = Norm(kind=NormKind.LAYER, bias=affine, gain=affine)
    block = DenseFeedForward(
        width=read.count("ffn_dim", 3072), bias=bias,
        activation=read.activation("activation_function", "relu"),
    )  # fmt: skip
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, qkv_bias=bias, output_bias=bias
        ),
        feed_forward=block,
        attention_norm=norm if before else None, feed_forward_norm=norm if before else None,
        attention_sum_norm=None if before else norm, feed_forward_sum_norm=None if before else norm,
    )  # fmt: skip
    positions = read.count("max_position_embeddings", 2048)
    width = read.maybe("word_embed_proj_dim")
    narrow = None if width == hidden else width
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50272), "positions": positions,
        "position_embedding": PositionEmbedding.LEARNED,
        "position_rows": positions + 2,  # the first two are never looked up
        "tied": read.flag("tie_word_embeddings", True),
        "embedding_projection": EmbeddingProjection(width=narrow, of_sum=False) if narrow else None,
        "head_transform": HeadTransform(width=narrow, bias=False) if narrow else None,
        "layers": same(read.layers("num_hidden_layers", 12), layer).groups,
        "final_norm": norm if before and not read.flag("_remove_final_layer_norm", False) else None,
    }  # fmt: skip


def _narrowed(read: Reader, fields: Mapping[str, Any]) -> HeadTransform | None:
    """Return the projection behind the layers, which belongs to the model without its head."""
    found: HeadTransform | None = fields["head_transform"]
    return found


_GPT2_NAMES = {
    "n_embd": "hidden_size",
    "n_positions": "max_position_embeddings",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
}


class GptFamily(TypedFamily):
    """GPT-2 to GPT-4, GPT-J, GPT-Neo, GPT-NeoX, GPT-BigCode and OPT."""

    name: ClassVar[str] = "gpt"
    poolers: ClassVar[Mapping[str, Pooler]] = {
        "opt": Pooler(_narrowed, of_positions=True, head_bias=False)
    }
    about: ClassVar[str] = "GPT-2 to GPT-4, GPT-J, GPT-NeoX, OPT: layer norms, GELU, biases"
    builders: ClassVar[Mapping[str, Build]] = {
        "gpt2": _gpt2, "gptj": _gptj, "codegen": _gptj, "gpt_neo": _gpt_neo, "gpt_neox": _gpt_neox,
        "gpt_bigcode": _bigcode, "opt": _opt,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "gpt2": _GPT2_NAMES, "gptj": _GPT2_NAMES, "codegen": _GPT2_NAMES, "gpt_bigcode": _GPT2_NAMES,
        "gpt_neo": {"num_heads": "num_attention_heads", "num_layers": "num_hidden_layers"},
    }  # fmt: skip

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that a GPT configuration describes.

        Args:
            config: The parsed configuration, unchecked: a `config.json` if it has a `model_type`,
                else the fields of `GptConfig`.
            name: Name for the workload.
            where: File that the configuration comes from, for errors.

        Raises:
            FieldError: A field is missing or wrong.
        """
        if "model_type" in config:
            return super().import_workload(config, name=name, where=where)
        return Workload(name=name, family=self.name, **_from_own_words(config, where))


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
