"""Phi 1 to 4 and Phi MoE."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import QueryKeyNorm
from pentarch.workload.layers import ExpertFeedForward, Layer
from pentarch_transformers.assembly import (
    LAYER_NORM,
    RMS,
    Build,
    Defaults,
    TypedFamily,
    dimensions,
    rotated,
    same,
)
from pentarch_transformers.llama import top_k
from pentarch_transformers.reading import Reader


def _phi(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=51200, hidden=2048, width=8192, layers=24, heads=32, positions=2048,
        activation="gelu_new",
    )  # fmt: skip
    dims = dimensions(read, defaults)
    norm = QueryKeyNorm(norm=LAYER_NORM) if read.flag("qk_layernorm", False) else None
    layer = Layer(
        attention=dims.attention(
            rotary_dim=rotated(read, dims.head_dim, 0.5), qkv_bias=True, output_bias=True,
            query_key_norm=norm,
        ),
        feed_forward=dims.plain(), attention_norm=LAYER_NORM, parallel=True,
    )  # fmt: skip
    return dims.fields(same(dims.layers, layer), final_norm=LAYER_NORM, lm_head_bias=True)


def _phi3(read: Reader) -> dict[str, Any]:
    defaults = Defaults(vocab=32064, hidden=3072, width=8192, layers=32, heads=32, positions=4096)
    dims = dimensions(read, defaults)
    layer = Layer(
        attention=dims.attention(
            rotary_dim=rotated(read, dims.head_dim), window=read.maybe("sliding_window")
        ),
        feed_forward=dims.gated(),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _phimoe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=32064, hidden=4096, width=6400, layers=32, heads=32, kv_heads=8, positions=131072
    )
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    experts = read.count("num_local_experts", 16)
    layer = Layer(
        attention=dims.attention(
            qkv_bias=bias, output_bias=bias, window=read.maybe("sliding_window")
        ),
        feed_forward=ExpertFeedForward(
            experts=experts, experts_per_token=top_k(read, experts, 2), expert=dims.gated()
        ),
        attention_norm=LAYER_NORM, feed_forward_norm=LAYER_NORM,
    )  # fmt: skip
    head_bias = read.flag("lm_head_bias", False)
    return dims.fields(
        same(dims.layers, layer), final_norm=LAYER_NORM, lm_head_bias=head_bias
    )  # fmt: skip


class PhiFamily(TypedFamily):
    """Phi 1, 1.5, 2, 3, 3.5 and 4, and Phi 3.5 MoE; Phi 4 has the type of Phi 3."""

    name: ClassVar[str] = "phi"
    about: ClassVar[str] = "Phi 1 to 4 and Phi 3.5 MoE"
    builders: ClassVar[Mapping[str, Build]] = {"phi3": _phi3, "phi": _phi, "phimoe": _phimoe}
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "phimoe": {"num_local_experts": "num_experts"},
    }
