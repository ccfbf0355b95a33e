"""T5, BART and Whisper: a decoder that attends over an encoder."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pentarch.workload.attention import GroupedQueryAttention, Norm
from pentarch.workload.layers import Activation, CrossAttention, DenseFeedForward, Layer
from pentarch.workload.workload import Convolution, Encoder, FrontEnd, PositionEmbedding
from pentarch_transformers.assembly import LAYER_NORM, RMS, Build, TypedFamily, same
from pentarch_transformers.reading import Reader

_T5_POSITIONS = 512
"""Tokens that T5 was trained with; distances beyond fall into the last bucket."""


def _t5(read: Reader) -> dict[str, Any]:
    return _t5_like(read, _T5Defaults())


def _mt5(read: Reader) -> dict[str, Any]:
    return _t5_like(read, _MT5)


def _umt5(read: Reader) -> dict[str, Any]:
    return _t5_like(read, _MT5, every_layer=True)


@dataclass(frozen=True, slots=True)
class _T5Defaults:
    vocab: int = 32128
    width: int = 2048
    layers: int = 6
    heads: int = 8
    feed_forward: str = "relu"


_MT5 = _T5Defaults(vocab=250112, width=1024, layers=8, heads=6, feed_forward="gated-gelu")


def _t5_like(
    read: Reader, default: _T5Defaults, *, every_layer: bool = False
) -> dict[str, Any]:  # fmt: skip
    """Return a T5; in a UMT5 every layer has its own table of relative positions."""
    layers = read.layers("num_layers", default.layers)
    later = read.maybe("num_decoder_layers")
    decoders = layers if later is None else read.layers("num_decoder_layers", layers)
    heads = read.count("num_heads", default.heads)
    buckets = read.count("relative_attention_num_buckets", 32)
    block = _t5_feed_forward(read, default)

    def attention(**changes: Any) -> GroupedQueryAttention:
        fields: dict[str, Any] = {
            "heads": heads, "kv_heads": heads, "head_dim": read.count("d_kv", 64),
            "score_bias": "relative",
        }  # fmt: skip
        return GroupedQueryAttention(**fields | changes)

    encoder = Layer(
        attention=attention(causal=False), feed_forward=block, attention_norm=RMS,
        feed_forward_norm=RMS,
    )  # fmt: skip
    cross = CrossAttention(attention=attention(causal=False, score_bias=None), norm=RMS)
    decoder = encoder.replace(attention=attention(), cross=cross)
    return {
        "hidden": read.count("d_model", 512), "vocab": read.count("vocab_size", default.vocab),
        "positions": read.count("n_positions", _T5_POSITIONS), "tied": True,
        "relative_buckets": buckets * (decoders if every_layer else 1),
        "layers": same(decoders, decoder).groups, "final_norm": RMS,
        "encoder": Encoder(
            positions=read.count("n_positions", _T5_POSITIONS),
            relative_buckets=buckets * (layers if every_layer else 1),
            layers=same(layers, encoder, "encoder").groups, final_norm=RMS,
        ),
    }  # fmt: skip


def _t5_feed_forward(read: Reader, default: _T5Defaults) -> DenseFeedForward:
    form = read.text("feed_forward_proj", default.feed_forward)
    gated, _, name = form.rpartition("-")
    if gated not in ("", "gated"):
        raise read.wrong("feed_forward_proj", f"found {form!r}", "'relu', 'gated-gelu' or the like")
    activation = read.named_activation("feed_forward_proj", name)
    if read.has("dense_act_fn"):  # what the text above was taken apart into, when it was saved
        activation = read.activation("dense_act_fn", "relu")
    return DenseFeedForward(
        width=read.count("d_ff", default.width), activation=activation,
        gated=read.flag("is_gated_act", bool(gated)),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Sides:
    """Dimensions of encoder and decoder of a BART or Whisper."""

    hidden: int
    activation: Activation
    norm_first: bool
    key_bias: bool = True

    def layer(self, read: Reader, side: str, *, width: int, heads: int) -> Layer:
        """Return a layer of one side, `encoder` or `decoder`."""
        key = f"{side}_attention_heads"
        found = read.count(key, heads)
        head_dim = read.divides(self.hidden, found, key, "the hidden size")

        def attention(*, causal: bool) -> GroupedQueryAttention:
            return GroupedQueryAttention(
                heads=found, kv_heads=found, head_dim=head_dim, causal=causal, qkv_bias=True,
                key_bias=self.key_bias, output_bias=True,
            )  # fmt: skip

        before: Norm | None = LAYER_NORM if self.norm_first else None
        after: Norm | None = None if self.norm_first else LAYER_NORM
        cross = CrossAttention(attention=attention(causal=False), norm=before, sum_norm=after)
        return Layer(
            attention=attention(causal=side == "decoder"),
            feed_forward=DenseFeedForward(
                width=read.count(f"{side}_ffn_dim", width), activation=self.activation, bias=True
            ),
            attention_norm=before, feed_forward_norm=before, attention_sum_norm=after,
            feed_forward_sum_norm=after, cross=cross if side == "decoder" else None,
        )  # fmt: skip


def _bart(read: Reader) -> dict[str, Any]:
    return _bart_like(read, norm_first=False)


def _mbart(read: Reader) -> dict[str, Any]:
    return _bart_like(read, norm_first=True)


def _bart_like(read: Reader, *, norm_first: bool) -> dict[str, Any]:
    hidden = read.count("d_model", 1024)
    sides = _Sides(hidden, read.activation("activation_function", "gelu"), norm_first)
    positions = read.count("max_position_embeddings", 1024)
    stack: dict[str, Any] = {
        "positions": positions, "position_embedding": PositionEmbedding.LEARNED,
        "position_rows": positions + 2,  # the first two are never looked up
        "embedding_norm": LAYER_NORM, "final_norm": LAYER_NORM if norm_first else None,
    }  # fmt: skip
    vocab, tied = read.count("vocab_size", 50265), read.flag("tie_word_embeddings", True)
    decoder = sides.layer(read, "decoder", width=4096, heads=16)
    encoder = sides.layer(read, "encoder", width=4096, heads=16)
    return {
        **stack, "hidden": hidden, "vocab": vocab, "tied": tied,
        # Untied, each side has a table of its own beside the one that they would share.
        "unused_parameters": 0 if tied else vocab * hidden,
        "layers": same(read.layers("decoder_layers", 12), decoder).groups,
        "encoder": Encoder(
            **stack, own_table=not tied, layers=same(read.layers("encoder_layers", 12), encoder, "encoder").groups
        ),
    }  # fmt: skip


def _whisper(read: Reader) -> dict[str, Any]:
    hidden = read.count("d_model", 384)
    activation = read.activation("activation_function", "gelu")
    sides = _Sides(hidden, activation, norm_first=True, key_bias=False)
    heard, written = (
        read.count("max_source_positions", 1500), read.count("max_target_positions", 448)
    )  # fmt: skip
    frontend = FrontEnd(
        convolutions=(
            Convolution(
                inputs=read.count("num_mel_bins", 80), taps=3, outputs=hidden,
                positions=2 * heard, activation=Activation.GELU,
            ),
            Convolution(
                inputs=hidden, taps=3, outputs=hidden, positions=heard, activation=Activation.GELU
            ),
        )
    )  # fmt: skip
    learned = PositionEmbedding.LEARNED
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", 51865), "positions": written,
        "position_embedding": learned, "tied": read.flag("tie_word_embeddings", True),
        "layers": same(
            read.layers("decoder_layers", 4),
            sides.layer(read, "decoder", width=1536, heads=6),
        ).groups,
        "final_norm": LAYER_NORM,
        "encoder": Encoder(
            positions=heard, position_embedding=learned, frontend=frontend, final_norm=LAYER_NORM,
            layers=same(
                read.layers("encoder_layers", 4),
                sides.layer(read, "encoder", width=1536, heads=6), "encoder",
            ).groups,
        ),
        "notes": ("the encoder always reads a whole window of sound, however short the recording",),
    }  # fmt: skip


_T5_NAMES = {
    "d_model": "hidden_size",
    "num_heads": "num_attention_heads",
    "num_layers": "num_hidden_layers",
    "d_kv": "head_dim",
}
_BART_NAMES = {
    "d_model": "hidden_size",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_layers": "num_hidden_layers",
}


class T5Family(TypedFamily):
    """T5, mT5 and UMT5."""

    name: ClassVar[str] = "t5"
    about: ClassVar[str] = "T5, mT5 and UMT5: an encoder and a decoder of text, relative positions"
    builders: ClassVar[Mapping[str, Build]] = {"t5": _t5, "mt5": _mt5, "umt5": _umt5}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = dict.fromkeys(builders, _T5_NAMES)


class WhisperFamily(TypedFamily):
    """Whisper, BART and mBART."""

    name: ClassVar[str] = "whisper"
    about: ClassVar[str] = "Whisper, BART and mBART: an encoder of sound or text and a decoder"
    builders: ClassVar[Mapping[str, Build]] = {"whisper": _whisper, "bart": _bart, "mbart": _mbart}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = dict.fromkeys(builders, _BART_NAMES)
