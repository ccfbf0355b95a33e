"""Gemma 1 to 3: tied embeddings, norms before and after each block, local and global layers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import QueryKeyNorm
from pentarch.workload.layers import Layer
from pentarch_transformers.assembly import (
    RMS,
    Build,
    Defaults,
    Dimensions,
    TypedFamily,
    dimensions,
    every,
    patterned,
    same,
    windows,
)
from pentarch_transformers.llama import TEXT_TOWER, window_name
from pentarch_transformers.reading import Reader


def _gemma(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=256000, hidden=3072, width=24576, layers=28, heads=16, kv_heads=16, head_dim=256,
        positions=8192, activation="gelu_pytorch_tanh", tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=dims.gated(),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _gemma2(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=256000, hidden=2304, width=9216, layers=26, heads=8, kv_heads=4, head_dim=256,
        positions=8192, activation="gelu_pytorch_tanh", tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults, divisible=True, activation_key="hidden_activation")
    default = every(dims.layers, 2, "full_attention", "sliding_attention")
    capped = not _is_null(read, "attn_logit_softcapping")
    return _sandwich(read, dims, default, score_cap=capped)


def _gemma3_text(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=262208, hidden=2304, width=9216, layers=26, heads=8, kv_heads=4, head_dim=256,
        positions=131072, activation="gelu_pytorch_tanh", tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults, divisible=True, activation_key="hidden_activation")
    interval = read.count("sliding_window_pattern", 6)
    default = every(dims.layers, interval, "full_attention", "sliding_attention")
    return _sandwich(read, dims, default, query_key_norm=QueryKeyNorm(norm=RMS))


def _gemma3(read: Reader) -> dict[str, Any]:
    return {**_gemma3_text(read.text_tower("gemma3_text")), "notes": (TEXT_TOWER,)}


def _sandwich(
    read: Reader, dims: Dimensions, default: list[str], **attention: Any
) -> dict[str, Any]:
    """Return a decoder with a norm in front of and behind each block."""
    window = read.maybe("sliding_window", 4096)
    bias = read.flag("attention_bias", False)

    def make(kind: str) -> Layer:
        local = window if kind == "sliding_attention" else None
        return Layer(
            attention=dims.attention(window=local, qkv_bias=bias, output_bias=bias, **attention),
            feed_forward=dims.gated(), attention_norm=RMS, feed_forward_norm=RMS,
            attention_output_norm=RMS, feed_forward_output_norm=RMS,
        )  # fmt: skip

    kinds = windows(read, dims.layers, default)
    return dims.fields(patterned(kinds, make, window_name), final_norm=RMS)


def _is_null(read: Reader, key: str) -> bool:
    """Return whether a configuration says null; without the key, its class has a number there."""
    return read.says(key) and not read.has(key)


class GemmaFamily(TypedFamily):
    """Gemma 1, 2 and 3."""

    name: ClassVar[str] = "gemma"
    about: ClassVar[str] = "Gemma 1 to 3: tied embeddings, sandwich norms, local and global layers"
    builders: ClassVar[Mapping[str, Build]] = {
        "gemma": _gemma, "gemma2": _gemma2, "gemma3": _gemma3, "gemma3_text": _gemma3_text,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
