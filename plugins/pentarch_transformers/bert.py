"""BERT, RoBERTa, DistilBERT and ELECTRA: encoders with a masked-language head."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import GroupedQueryAttention
from pentarch.workload.layers import Activation, DenseFeedForward, Layer
from pentarch.workload.workload import (
    EmbeddingProjection,
    HeadKind,
    HeadTransform,
    PositionEmbedding,
)
from pentarch_transformers.assembly import LAYER_NORM, Build, TypedFamily, same
from pentarch_transformers.heads import Pooler
from pentarch_transformers.reading import Reader


def _bert(read: Reader) -> dict[str, Any]:
    return _bert_like(read, vocab=30522)


def _roberta(read: Reader) -> dict[str, Any]:
    return _bert_like(read, vocab=50265, transform=Activation.GELU)


def _xlm_roberta(read: Reader) -> dict[str, Any]:
    return _bert_like(read, vocab=30522, transform=Activation.GELU)


def _bert_like(
    read: Reader, *, vocab: int, transform: Activation | None = None
) -> dict[str, Any]:  # fmt: skip
    hidden = read.count("hidden_size", 768)
    vocab = read.count("vocab_size", vocab)
    activation = read.activation("hidden_act", "gelu")
    tied = read.flag("tie_word_embeddings", True)
    return {
        **_encoder(
            read, hidden, heads=read.count("num_attention_heads", 12),
            block=_block(read.count("intermediate_size", 3072), activation),
            layers=read.layers("num_hidden_layers", 12),
        ),
        "vocab": vocab, "tied": tied,
        "positions": read.count("max_position_embeddings", 512),
        "token_types": read.count("type_vocab_size", 2, least=0), "lm_head_bias": True,
        "head_transform": HeadTransform(
            width=hidden, activation=transform or activation, norm=LAYER_NORM
        ),
        # An untied head keeps the bias that it would share beside its own.
        "unused_parameters": 0 if tied else vocab,
    }  # fmt: skip


def _electra(read: Reader) -> dict[str, Any]:
    hidden, width = read.count("hidden_size", 256), read.count("embedding_size", 128)
    projection = EmbeddingProjection(width=width, bias=True)
    return {
        **_encoder(
            read, hidden, heads=read.count("num_attention_heads", 4),
            block=_block(
                read.count("intermediate_size", 1024), read.activation("hidden_act", "gelu")
            ),
            layers=read.layers("num_hidden_layers", 12),
        ),
        "vocab": read.count("vocab_size", 30522),
        "tied": read.flag("tie_word_embeddings", True),
        "positions": read.count("max_position_embeddings", 512),
        "token_types": read.count("type_vocab_size", 2, least=0), "lm_head_bias": True,
        "embedding_projection": None if width == hidden else projection,
        "head_transform": HeadTransform(width=width, activation=Activation.GELU, norm=LAYER_NORM),
        "notes": ("the generator of the pair, which has the masked-language head",),
    }  # fmt: skip


def _distilbert(read: Reader) -> dict[str, Any]:
    hidden = read.count("hidden_size", 768)
    activation = read.activation("activation", "gelu")
    return {
        **_encoder(
            read, hidden, heads=read.count("num_attention_heads", 12),
            block=_block(read.count("hidden_dim", 3072), activation),
            layers=read.layers("num_hidden_layers", 6),
        ),
        "vocab": read.count("vocab_size", 30522),
        "tied": read.flag("tie_word_embeddings", True),
        "positions": read.count("max_position_embeddings", 512), "lm_head_bias": True,
        "head_transform": HeadTransform(width=hidden, activation=activation, norm=LAYER_NORM),
    }  # fmt: skip


def _block(width: int, activation: Activation) -> DenseFeedForward:
    return DenseFeedForward(width=width, activation=activation, bias=True)


def _encoder(
    read: Reader, hidden: int, *, heads: int, block: DenseFeedForward, layers: int
) -> dict[str, Any]:
    """Return the fields of layers whose norms stand behind the sums."""
    head_dim = read.divides(hidden, heads, "num_attention_heads", "the hidden size")
    is_decoder = read.flag("is_decoder", False)
    if is_decoder and read.flag("add_cross_attention", False):
        raise read.wrong("add_cross_attention", "found True", "False: no encoder is described")
    layer = Layer(
        attention=GroupedQueryAttention(
            heads=heads, kv_heads=heads, head_dim=head_dim, causal=is_decoder, qkv_bias=True,
            output_bias=True,
        ),
        feed_forward=block,
        attention_sum_norm=LAYER_NORM, feed_forward_sum_norm=LAYER_NORM,
    )  # fmt: skip
    return {
        "hidden": hidden, "position_embedding": PositionEmbedding.LEARNED,
        "embedding_norm": LAYER_NORM,
        "layers": same(layers, layer, "decoder" if is_decoder else "encoder").groups,
        "final_norm": None, "head": HeadKind.LANGUAGE if is_decoder else HeadKind.MASKED,
    }  # fmt: skip


def _pooled(read: Reader, fields: Mapping[str, Any]) -> HeadTransform:
    return HeadTransform(width=fields["hidden"], activation=Activation.TANH)


class BertFamily(TypedFamily):
    """BERT, RoBERTa, XLM-RoBERTa, DistilBERT, ELECTRA."""

    name: ClassVar[str] = "bert"
    poolers: ClassVar[Mapping[str, Pooler]] = {
        kind: Pooler(_pooled, of_model=kind not in ("distilbert", "electra"))
        for kind in ("bert", "roberta", "xlm-roberta", "camembert", "distilbert", "electra")
    }
    about: ClassVar[str] = "BERT, RoBERTa, DistilBERT and ELECTRA: encoders of text"
    builders: ClassVar[Mapping[str, Build]] = {
        "bert": _bert, "roberta": _roberta, "xlm-roberta": _xlm_roberta, "camembert": _xlm_roberta,
        "distilbert": _distilbert, "electra": _electra,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "distilbert": {"hidden_size": "dim", "num_attention_heads": "n_heads",
                       "num_hidden_layers": "n_layers"},
    }  # fmt: skip
