"""Seed-OSS, Arcee, Hunyuan and shared-expert Granite: Llama-like decoders with one thing changed."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import QueryKeyNorm
from pentarch.workload.layers import ExpertFeedForward, Layer
from pentarch_transformers.assembly import RMS, Build, Defaults, TypedFamily, dimensions, same
from pentarch_transformers.llama import top_k
from pentarch_transformers.reading import Reader


def _seed_oss(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=155136, hidden=4096, width=27648, layers=64, heads=80, kv_heads=8, head_dim=128,
        positions=524288,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    layer = Layer(
        attention=dims.attention(
            qkv_bias=read.flag("attention_bias", True),
            output_bias=read.flag("attention_out_bias", False),
        ),
        feed_forward=dims.gated(bias=read.flag("mlp_bias", False)),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _arcee(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=32000, hidden=2560, width=18432, layers=32, heads=32, positions=4096,
        activation="relu2",
    )  # fmt: skip
    dims = dimensions(read, defaults, divisible=True)
    bias = read.flag("attention_bias", False)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=dims.plain(bias=read.flag("mlp_bias", False)),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _hunyuan(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=290943, hidden=4096, width=11008, layers=32, heads=32, positions=2048
    )  # fmt: skip
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    layer = Layer(
        attention=dims.attention(
            qkv_bias=bias, output_bias=bias, query_key_norm=QueryKeyNorm(norm=RMS)
        ),
        feed_forward=dims.gated(),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _granitemoeshared(read: Reader) -> dict[str, Any]:
    defaults = Defaults(vocab=32000, hidden=4096, width=11008, layers=32, heads=32, positions=2048)
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    experts = read.count("num_local_experts", 8)
    width = read.count("shared_intermediate_size", 0, least=0)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=ExpertFeedForward(
            experts=experts,
            experts_per_token=top_k(read, experts, 2),
            expert=dims.gated(),
            shared=dims.gated(width=width) if width else None,
        ),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


class SeedFamily(TypedFamily):
    """Seed-OSS, Arcee, Hunyuan dense, Granite with shared experts."""

    name: ClassVar[str] = "seed"
    about: ClassVar[str] = "Seed-OSS, Arcee, Hunyuan dense and Granite with shared experts"
    builders: ClassVar[Mapping[str, Build]] = {
        "seed_oss": _seed_oss,
        "arcee": _arcee,
        "hunyuan_v1_dense": _hunyuan,
        "granitemoeshared": _granitemoeshared,
    }
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
