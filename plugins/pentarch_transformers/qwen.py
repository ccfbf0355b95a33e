"""Qwen 2 and 3, dense and with experts."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import QueryKeyNorm
from pentarch.workload.layers import DenseFeedForward, ExpertFeedForward, Layer
from pentarch_transformers.assembly import (
    RMS,
    Build,
    Defaults,
    Dimensions,
    TypedFamily,
    dimensions,
    patterned,
    windows,
)
from pentarch_transformers.llama import top_k, window_name
from pentarch_transformers.reading import Reader

_QK_NORM = QueryKeyNorm(norm=RMS)


def _dense_dimensions(read: Reader, *, head_dim: int | None) -> Dimensions:
    defaults = Defaults(
        vocab=151936, hidden=4096, width=22016, layers=32, heads=32, kv_heads=32,
        head_dim=head_dim, positions=32768,
    )  # fmt: skip
    return dimensions(read, defaults)


def _window(read: Reader) -> int | None:
    """Return the window, which counts only if the configuration says that it is used."""
    return read.maybe("sliding_window", 4096) if read.flag("use_sliding_window", False) else None


def _late_windows(read: Reader, layers: int, window: int | None) -> list[str]:
    """Return which layers have a window: those from `max_window_layers` on."""
    first = read.count("max_window_layers", 28, least=0)
    default = [
        "sliding_attention" if window is not None and index >= first else "full_attention"
        for index in range(layers)
    ]
    return windows(read, layers, default)


def _qwen2(read: Reader) -> dict[str, Any]:
    dims = _dense_dimensions(read, head_dim=None)
    return _dense(read, dims, qkv_bias=True)


def _qwen3(read: Reader) -> dict[str, Any]:
    dims = _dense_dimensions(read, head_dim=128)
    bias = read.flag("attention_bias", False)
    return _dense(read, dims, qkv_bias=bias, output_bias=bias, query_key_norm=_QK_NORM)


def _dense(read: Reader, dims: Dimensions, **attention: Any) -> dict[str, Any]:
    window = _window(read)

    def make(kind: str) -> Layer:
        local = window if kind == "sliding_attention" else None
        return Layer(
            attention=dims.attention(window=local, **attention), feed_forward=dims.gated(),
            attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    kinds = _late_windows(read, dims.layers, window)
    return dims.fields(patterned(kinds, make, window_name), final_norm=RMS)


def _qwen2_moe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=151936, hidden=2048, width=5632, layers=24, heads=16, kv_heads=16, positions=32768
    )
    dims = dimensions(read, defaults)
    window, first = _window(read), read.count("max_window_layers", 28, least=0)
    default = [
        "sliding_attention"
        if window is not None and index % 2 == 0 and index < first
        else "full_attention"
        for index in range(dims.layers)
    ]
    experts = read.count("num_experts", 60)
    shared = dims.gated(width=read.count("shared_expert_intermediate_size", 5632))
    block = ExpertFeedForward(
        experts=experts, experts_per_token=top_k(read, experts, 4),
        expert=dims.gated(width=read.count("moe_intermediate_size", 1408)), shared=shared,
        shared_gate=True,
    )  # fmt: skip
    types = windows(read, dims.layers, default)
    bias = read.flag("qkv_bias", True)
    return _mixed(read, dims, block, list(zip(types, _sparse(read, dims.layers), strict=True)),
                  window=window, attention={"qkv_bias": bias})  # fmt: skip


def _qwen3_moe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=151936, hidden=2048, width=6144, layers=24, heads=32, kv_heads=4, positions=32768
    )
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    experts = read.count("num_local_experts", 128)
    block = ExpertFeedForward(
        experts=experts, experts_per_token=top_k(read, experts, 8),
        expert=dims.gated(width=read.count("moe_intermediate_size", 768)),
    )  # fmt: skip
    window = _window(read)
    kind = "full_attention" if window is None else "sliding_attention"
    kinds = [(kind, sparse) for sparse in _sparse(read, dims.layers)]
    attention = {"qkv_bias": bias, "output_bias": bias, "query_key_norm": _QK_NORM}
    return _mixed(read, dims, block, kinds, window=window, attention=attention)


def _sparse(read: Reader, layers: int) -> list[bool]:
    """Return which layers have experts: every `decoder_sparse_step`-th that is not excluded."""
    step = read.count("decoder_sparse_step", 1)
    dense = read.indices("mlp_only_layers") or frozenset()
    return [index not in dense and (index + 1) % step == 0 for index in range(layers)]


def _mixed(
    read: Reader, dims: Dimensions, block: ExpertFeedForward, kinds: list[tuple[str, bool]], *,
    window: int | None, attention: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    dense: DenseFeedForward = dims.gated()

    def make(kind: tuple[str, bool]) -> Layer:
        form, sparse = kind
        return Layer(
            attention=dims.attention(
                window=window if form == "sliding_attention" else None, **attention
            ),
            feed_forward=block if sparse else dense, attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    def name(kind: tuple[str, bool]) -> str:
        return f"{window_name(kind[0])}_{'experts' if kind[1] else 'dense'}"

    return dims.fields(patterned(kinds, make, name), final_norm=RMS)


class QwenFamily(TypedFamily):
    """Qwen 2, 2.5 and 3."""

    name: ClassVar[str] = "qwen"
    about: ClassVar[str] = "Qwen 2, 2.5 and 3, dense and with experts"
    builders: ClassVar[Mapping[str, Build]] = {
        "qwen2": _qwen2, "qwen2_moe": _qwen2_moe, "qwen3": _qwen3, "qwen3_moe": _qwen3_moe,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "qwen3_moe": {"num_local_experts": "num_experts"},
    }
