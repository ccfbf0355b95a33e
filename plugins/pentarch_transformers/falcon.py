"""BLOOM, Falcon and MPT: positions by distance or rotation, heads that share keys and values."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import GroupedQueryAttention, Norm, NormKind
from pentarch.workload.layers import Activation, DenseFeedForward, Layer
from pentarch_transformers.assembly import LAYER_NORM, Build, TypedFamily, kv_heads, same
from pentarch_transformers.reading import Reader


def _falcon(read: Reader) -> dict[str, Any]:
    hidden = _hidden(read, 4544)
    heads = read.count("num_attention_heads", 71)
    head_dim = read.divides(hidden, heads, "num_attention_heads", "the hidden size")
    is_new, shared = read.flag("new_decoder_architecture", False), read.flag("multi_query", True)
    of_heads = kv_heads(read, heads, None, key="num_kv_heads")
    if not is_new:
        of_heads = 1 if shared else heads
    bias, alibi = read.flag("bias", False), read.flag("alibi", False)
    attention = GroupedQueryAttention(
        heads=heads, kv_heads=of_heads, head_dim=head_dim, qkv_bias=bias, output_bias=bias,
        rotary_dim=0 if alibi else head_dim, score_bias="alibi" if alibi else None,
    )  # fmt: skip
    width = read.maybe("ffn_hidden_size")
    block = DenseFeedForward(
        width=4 * hidden if width is None else width, bias=bias,
        activation=read.activation("activation", "gelu"),
    )  # fmt: skip
    parallel = read.flag("parallel_attn", True)
    norms = read.maybe("num_ln_in_parallel_attn", least=0)
    two = not parallel or norms == 2 or (norms is None and is_new)
    layer = Layer(
        attention=attention, feed_forward=block, attention_norm=LAYER_NORM,
        feed_forward_norm=LAYER_NORM if two else None, parallel=parallel,
    )  # fmt: skip
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 65024),
        "positions": read.count("max_position_embeddings", 2048),
        "tied": read.flag("tie_word_embeddings", True),
        "layers": same(read.layers("num_hidden_layers", 32), layer).groups,
        "final_norm": LAYER_NORM,
    }  # fmt: skip


def _bloom(read: Reader) -> dict[str, Any]:
    hidden, heads = _hidden(read, 64), read.count("n_head", 8)
    head_dim = read.divides(hidden, heads, "n_head", "the hidden size")
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, qkv_bias=True, output_bias=True,
            score_bias="alibi",
        ),
        feed_forward=DenseFeedForward(width=4 * hidden, activation=Activation.GELU, bias=True),
        attention_norm=LAYER_NORM, feed_forward_norm=LAYER_NORM,
    )  # fmt: skip
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 250880),
        "positions": read.count("seq_length", 2048), "embedding_norm": LAYER_NORM,
        "tied": read.flag("tie_word_embeddings", True),
        "layers": same(read.layers("n_layer", 2), layer).groups, "final_norm": LAYER_NORM,
    }  # fmt: skip


def _mpt(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("d_model", 2048), read.count("n_heads", 16)
    head_dim = read.divides(hidden, heads, "n_heads", "the hidden size")
    norm = Norm(kind=NormKind.LAYER)
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, score_bias="alibi"
        ),
        feed_forward=DenseFeedForward(width=4 * hidden, activation=Activation.GELU),
        attention_norm=norm, feed_forward_norm=norm,
    )  # fmt: skip
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 50368),
        "positions": read.count("max_seq_len", 2048),
        "tied": read.flag("tie_word_embeddings", True),
        "layers": same(read.layers("n_layers", 24), layer).groups, "final_norm": norm,
    }  # fmt: skip


def _hidden(read: Reader, default: int) -> int:
    """Return the hidden size, which early configurations call `n_embed`."""
    early = read.maybe("n_embed")
    return read.count("hidden_size", default) if early is None else early


class FalconFamily(TypedFamily):
    """Falcon, BLOOM and MPT."""

    name: ClassVar[str] = "falcon"
    about: ClassVar[str] = "Falcon, BLOOM and MPT: layer norms, multi-query or ALiBi attention"
    builders: ClassVar[Mapping[str, Build]] = {"falcon": _falcon, "bloom": _bloom, "mpt": _mpt}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "bloom": {"n_layer": "num_hidden_layers", "n_head": "num_attention_heads"},
        "mpt": {"n_heads": "num_attention_heads", "d_model": "hidden_size",
                "n_layers": "num_hidden_layers"},
    }  # fmt: skip
