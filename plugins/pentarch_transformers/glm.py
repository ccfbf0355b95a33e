"""GLM 4, gpt-oss and Command R: half-rotated heads, learned sinks, parallel blocks."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import Norm, NormKind, QueryKeyNorm
from pentarch.workload.layers import Activation, ExpertFeedForward, Layer
from pentarch_transformers.assembly import (
    RMS,
    Build,
    Defaults,
    TypedFamily,
    dimensions,
    every,
    patterned,
    rotated,
    same,
    windows,
)
from pentarch_transformers.llama import top_k, window_name
from pentarch_transformers.reading import Reader

_PLAIN_LAYER_NORM = Norm(kind=NormKind.LAYER)


def _glm(read: Reader) -> dict[str, Any]:
    return _glm_dense(read)


def _glm4(read: Reader) -> dict[str, Any]:
    return _glm_dense(read, output_norm=RMS)


def _glm_dense(read: Reader, output_norm: Norm | None = None) -> dict[str, Any]:
    defaults = Defaults(
        vocab=151552, hidden=4096, width=13696, layers=40, heads=32, kv_heads=2, head_dim=128,
        positions=131072,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    layer = Layer(
        attention=dims.attention(
            rotary_dim=rotated(read, dims.head_dim, 0.5),
            qkv_bias=read.flag("attention_bias", True),
        ),
        feed_forward=dims.gated(), attention_norm=RMS, feed_forward_norm=RMS,
        attention_output_norm=output_norm, feed_forward_output_norm=output_norm,
    )  # fmt: skip
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _glm4_moe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=151552, hidden=4096, width=10944, layers=46, heads=96, kv_heads=8, positions=131072
    )
    dims = dimensions(read, defaults)
    experts = read.count("n_routed_experts", 128)
    width = read.count("moe_intermediate_size", 1408)
    block = ExpertFeedForward(
        experts=experts, experts_per_token=top_k(read, experts, 8), expert=dims.gated(width=width),
        shared=dims.gated(width=width * read.count("n_shared_experts", 1)), correction_bias=True,
    )  # fmt: skip
    norm = QueryKeyNorm(norm=RMS) if read.flag("use_qk_norm", False) else None
    attention = dims.attention(
        rotary_dim=rotated(read, dims.head_dim, 0.5), qkv_bias=read.flag("attention_bias", False),
        query_key_norm=norm,
    )  # fmt: skip

    def make(is_sparse: bool) -> Layer:
        return Layer(
            attention=attention, feed_forward=block if is_sparse else dims.gated(),
            attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    first = read.count("first_k_dense_replace", 1, least=0)
    kinds = [index >= first for index in range(dims.layers)]
    found = patterned(kinds, make, lambda is_sparse: "experts" if is_sparse else "dense")
    return dims.fields(found, final_norm=RMS)


def _gpt_oss(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=201088, hidden=2880, width=2880, layers=36, heads=64, kv_heads=8, head_dim=64,
        positions=131072,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", True)
    experts = read.count("num_local_experts", 128)
    block = ExpertFeedForward(
        experts=experts, experts_per_token=top_k(read, experts, 4),
        expert=dims.gated(bias=True).replace(activation=Activation.CLAMPED_SILU), router_bias=True,
    )  # fmt: skip
    window = read.maybe("sliding_window", 128)
    default = every(dims.layers, 2, "full_attention", "sliding_attention")

    def make(kind: str) -> Layer:
        return Layer(
            attention=dims.attention(
                window=window if kind == "sliding_attention" else None, sinks=True, qkv_bias=bias,
                output_bias=bias,
            ),
            feed_forward=block, attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    kinds = windows(read, dims.layers, default)
    return dims.fields(patterned(kinds, make, window_name), final_norm=RMS)


def _cohere(read: Reader) -> dict[str, Any]:
    dims = dimensions(read, _COHERE)
    bias = read.flag("attention_bias", False)
    norm = (
        QueryKeyNorm(norm=_PLAIN_LAYER_NORM, shared=False)
        if read.flag("use_qk_norm", False)
        else None
    )  # fmt: skip
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias, query_key_norm=norm),
        feed_forward=dims.gated(),
        attention_norm=_PLAIN_LAYER_NORM,
        parallel=True,
    )
    return dims.fields(same(dims.layers, layer), final_norm=_PLAIN_LAYER_NORM)


def _cohere2(read: Reader) -> dict[str, Any]:
    dims = dimensions(read, _COHERE)
    bias = read.flag("attention_bias", False)
    window = read.maybe("sliding_window", 4096)
    interval = read.count("sliding_window_pattern", 4)
    default = every(dims.layers, interval, "full_attention", "sliding_attention")

    def make(kind: str) -> Layer:
        local = kind == "sliding_attention"
        return Layer(
            attention=dims.attention(
                qkv_bias=bias, output_bias=bias, window=window if local else None,
                rotary_dim=dims.head_dim if local else 0,
            ),
            feed_forward=dims.gated(), attention_norm=_PLAIN_LAYER_NORM, parallel=True,
        )  # fmt: skip

    kinds = windows(read, dims.layers, default)
    return dims.fields(patterned(kinds, make, window_name), final_norm=_PLAIN_LAYER_NORM)


_COHERE = Defaults(
    vocab=256000, hidden=8192, width=22528, layers=40, heads=64, positions=8192, tied=True
)


class GlmFamily(TypedFamily):
    """GLM 4 9B and 32B, GLM 4.5 and 4.6."""

    name: ClassVar[str] = "glm"
    about: ClassVar[str] = "GLM 4, dense and with experts (4.5, 4.6)"
    builders: ClassVar[Mapping[str, Build]] = {"glm4": _glm4, "glm": _glm, "glm4_moe": _glm4_moe}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "glm4_moe": {"n_routed_experts": "num_local_experts"},
    }


class GptOssFamily(TypedFamily):
    """gpt-oss 20B and 120B."""

    name: ClassVar[str] = "gpt-oss"
    about: ClassVar[str] = "gpt-oss: experts with biases, attention sinks, alternating windows"
    builders: ClassVar[Mapping[str, Build]] = {"gpt_oss": _gpt_oss}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "gpt_oss": {"num_local_experts": "num_experts"},
    }


class CohereFamily(TypedFamily):
    """Command R, R+ and R7B, Aya."""

    name: ClassVar[str] = "cohere"
    about: ClassVar[str] = "Command R: parallel blocks, layer norms without a bias, tied embeddings"
    builders: ClassVar[Mapping[str, Build]] = {"cohere": _cohere, "cohere2": _cohere2}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
