"""OLMo, StarCoder 2, StableLM, Nemotron, EXAONE 4 and Persimmon: further open decoders."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import Norm, NormKind, QueryKeyNorm
from pentarch.workload.layers import ExpertFeedForward, Layer
from pentarch_transformers.assembly import (
    LAYER_NORM,
    RMS,
    Build,
    Defaults,
    Dimensions,
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

_OLMO = Defaults(vocab=50304, hidden=4096, width=11008, layers=32, heads=32, positions=2048)
_ALL_HEADS = QueryKeyNorm(norm=RMS, shared=False)


def _olmo(read: Reader) -> dict[str, Any]:
    dims = dimensions(read, _OLMO)
    norm = Norm(kind=NormKind.LAYER, gain=False)
    layer = Layer(
        attention=dims.attention(**_biases(read)),
        feed_forward=dims.gated(),
        attention_norm=norm,
        feed_forward_norm=norm,
    )
    return dims.fields(same(dims.layers, layer), final_norm=norm)


def _olmo2(read: Reader) -> dict[str, Any]:
    dims = dimensions(read, _OLMO)
    attention = {**_biases(read), "query_key_norm": _ALL_HEADS}
    return _norms_behind(dims, ["full_attention"] * dims.layers, None, attention)


def _olmo3(read: Reader) -> dict[str, Any]:
    dims = dimensions(read, _OLMO)
    attention = {**_biases(read), "query_key_norm": _ALL_HEADS}
    default = every(dims.layers, 4, "full_attention", "sliding_attention")
    kinds = windows(read, dims.layers, default)
    return _norms_behind(dims, kinds, read.maybe("sliding_window", 4096), attention)


def _norms_behind(
    dims: Dimensions, kinds: list[str], window: int | None, attention: Mapping[str, Any]
) -> dict[str, Any]:
    """Return a decoder whose norms stand behind the blocks alone."""

    def make(kind: str) -> Layer:
        local = window if kind == "sliding_attention" else None
        return Layer(
            attention=dims.attention(**{"window": local, **attention}), feed_forward=dims.gated(),
            attention_output_norm=RMS, feed_forward_output_norm=RMS,
        )  # fmt: skip

    return dims.fields(patterned(kinds, make, window_name), final_norm=RMS)


def _olmoe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=50304, hidden=2048, width=2048, layers=16, heads=16, positions=4096
    )  # fmt: skip
    dims = dimensions(read, defaults, divisible=True)
    experts = read.count("num_experts", 64)
    layer = Layer(
        attention=dims.attention(**_biases(read), query_key_norm=_ALL_HEADS),
        feed_forward=ExpertFeedForward(
            experts=experts, experts_per_token=top_k(read, experts, 8), expert=dims.gated()
        ),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _exaone4(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=102400, hidden=4096, width=16384, layers=32, heads=32, kv_heads=32, positions=2048
    )
    dims = dimensions(read, defaults)
    window = read.maybe("sliding_window", 4096)
    interval = read.maybe("sliding_window_pattern", 4, least=0) or dims.layers + 1
    default = every(dims.layers, interval, "full_attention", "sliding_attention")
    if window is None:
        default = ["full_attention"] * dims.layers
    kinds = windows(read, dims.layers, default)
    return _norms_behind(dims, kinds, window, {"query_key_norm": QueryKeyNorm(norm=RMS)})


def _starcoder2(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=49152, hidden=3072, width=12288, layers=30, heads=24, kv_heads=2, positions=4096,
        activation="gelu_pytorch_tanh", tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    bias = read.flag("use_bias", True)
    layer = Layer(
        attention=dims.attention(
            qkv_bias=bias, output_bias=bias, window=read.maybe("sliding_window")
        ),
        feed_forward=dims.plain(bias=bias),
        attention_norm=LAYER_NORM,
        feed_forward_norm=LAYER_NORM,
    )
    return dims.fields(same(dims.layers, layer), final_norm=LAYER_NORM)


def _stablelm(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=50304, hidden=2560, width=6912, layers=32, heads=32, kv_heads=32, positions=4096
    )
    dims = dimensions(read.without("head_dim"), defaults, divisible=True)
    norm = None
    if read.flag("qk_layernorm", False):
        norm = QueryKeyNorm(norm=Norm(kind=NormKind.LAYER), shared=False)
    parallel = read.flag("use_parallel_residual", False)
    layer = Layer(
        attention=dims.attention(
            rotary_dim=rotated(read, dims.head_dim, 0.25),
            qkv_bias=read.flag("use_qkv_bias", False), query_key_norm=norm,
        ),
        feed_forward=dims.gated(), attention_norm=LAYER_NORM,
        feed_forward_norm=None if parallel else LAYER_NORM, parallel=parallel,
    )  # fmt: skip
    return dims.fields(same(dims.layers, layer), final_norm=LAYER_NORM)


def _nemotron(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=256000, hidden=6144, width=24576, layers=32, heads=48, positions=4096,
        activation="relu2",
    )  # fmt: skip
    dims = dimensions(read, defaults)
    layer = Layer(
        attention=dims.attention(rotary_dim=rotated(read, dims.head_dim, 0.5), **_biases(read)),
        feed_forward=dims.plain(bias=read.flag("mlp_bias", False)),
        attention_norm=LAYER_NORM,
        feed_forward_norm=LAYER_NORM,
    )
    return dims.fields(same(dims.layers, layer), final_norm=LAYER_NORM)


def _persimmon(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=262144, hidden=4096, width=16384, layers=36, heads=64, positions=16384,
        activation="relu2",
    )  # fmt: skip
    dims = dimensions(
        read.without("head_dim").without("num_key_value_heads"), defaults, divisible=True
    )
    norm = QueryKeyNorm(norm=LAYER_NORM) if read.flag("qk_layernorm", True) else None
    layer = Layer(
        attention=dims.attention(
            rotary_dim=rotated(read, dims.head_dim, 0.5), qkv_bias=True, output_bias=True,
            query_key_norm=norm,
        ),
        feed_forward=dims.plain(), attention_norm=LAYER_NORM, feed_forward_norm=LAYER_NORM,
    )  # fmt: skip
    return dims.fields(same(dims.layers, layer), final_norm=LAYER_NORM)


def _biases(read: Reader) -> dict[str, bool]:
    bias = read.flag("attention_bias", False)
    return {"qkv_bias": bias, "output_bias": bias}


class OlmoFamily(TypedFamily):
    """OLMo 1 to 3, OLMoE, EXAONE 4."""

    name: ClassVar[str] = "olmo"
    about: ClassVar[str] = "OLMo 1 to 3, OLMoE and EXAONE 4: norms behind the blocks"
    builders: ClassVar[Mapping[str, Build]] = {
        "olmo2": _olmo2, "olmo": _olmo, "olmo3": _olmo3, "olmoe": _olmoe, "exaone4": _exaone4,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "olmoe": {"num_experts": "num_local_experts"},
    }


class StarcoderFamily(TypedFamily):
    """StarCoder 2, StableLM, Nemotron, Persimmon."""

    name: ClassVar[str] = "starcoder"
    about: ClassVar[str] = "StarCoder 2, StableLM, Nemotron and Persimmon: layer norms, rotary"
    builders: ClassVar[Mapping[str, Build]] = {
        "starcoder2": _starcoder2, "stablelm": _stablelm, "nemotron": _nemotron,
        "persimmon": _persimmon,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
