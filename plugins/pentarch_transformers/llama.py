"""Llama and the decoders that differ from it in little: RMS norms, rotary positions, a gate."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import Norm, NormKind, QueryKeyNorm
from pentarch.workload.layers import ExpertFeedForward, Layer
from pentarch_transformers.assembly import (
    RMS,
    Build,
    Defaults,
    Dimensions,
    TypedFamily,
    dimensions,
    patterned,
    rotated,
    same,
    windows,
)
from pentarch_transformers.reading import Reader


def _llama(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=32000, hidden=4096, width=11008, layers=32, heads=32, positions=2048
    )  # fmt: skip
    strict = not read.has("head_dim")
    return _biased(read, dimensions(read, defaults, divisible=strict))


def _biased(read: Reader, dims: Dimensions) -> dict[str, Any]:
    """Return a decoder whose attention and feed-forward projections may all have biases."""
    bias = read.flag("attention_bias", False)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=dims.gated(bias=read.flag("mlp_bias", False)),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _mistral_dimensions(read: Reader) -> Dimensions:
    defaults = Defaults(
        vocab=32000, hidden=4096, width=14336, layers=32, heads=32, kv_heads=8, positions=131072
    )
    return dimensions(read, defaults)


def _mistral(read: Reader) -> dict[str, Any]:
    return _windowed(_mistral_dimensions(read), read.maybe("sliding_window", 4096))


def _windowed(dims: Dimensions, window: int | None) -> dict[str, Any]:
    """Return a decoder whose layers all have the same window, or none."""
    layer = Layer(
        attention=dims.attention(window=window),
        feed_forward=dims.gated(),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _ministral(read: Reader) -> dict[str, Any]:
    dims = _mistral_dimensions(read)
    window = read.maybe("sliding_window", 4096)
    default = "full_attention" if window is None else "sliding_attention"
    kinds = windows(read, dims.layers, [default] * dims.layers)

    def make(kind: str) -> Layer:
        local = window if kind == "sliding_attention" else None
        return Layer(
            attention=dims.attention(window=local), feed_forward=dims.gated(),
            attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    return dims.fields(patterned(kinds, make, window_name), final_norm=RMS)


def _mistral3(read: Reader) -> dict[str, Any]:
    if read.has("text_config"):
        tower = read.text_tower("mistral", "ministral3")
        build = _ministral3 if tower.model_type == "ministral3" else _mistral
        return {**build(tower), "notes": (TEXT_TOWER,)}
    dims = dimensions(read.part("text_config"), _MISTRAL_SMALL)
    return {**_windowed(dims, None), "notes": (TEXT_TOWER,)}


_MISTRAL_SMALL = Defaults(
    vocab=131072, hidden=5120, width=32768, layers=40, heads=32, kv_heads=8, head_dim=128,
    positions=131072,
)  # fmt: skip
"""What a Mistral 3 without a text configuration has: Mistral Small 24B."""


def _ministral3(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=131072, hidden=4096, width=14336, layers=34, heads=32, kv_heads=8, head_dim=128,
        positions=262144,
    )  # fmt: skip
    return _windowed(dimensions(read, defaults), read.maybe("sliding_window"))


def _mixtral(read: Reader) -> dict[str, Any]:
    dims = _mistral_dimensions(read)
    block = ExpertFeedForward(
        experts=read.count("num_local_experts", 8),
        experts_per_token=top_k(read, read.count("num_local_experts", 8), 2),
        expert=dims.gated(),
    )
    layer = Layer(
        attention=dims.attention(window=read.maybe("sliding_window", None)),
        feed_forward=block,
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _llama4(read: Reader) -> dict[str, Any]:
    return {**_llama4_text(read.text_tower("llama4_text")), "notes": (TEXT_TOWER,)}


def _llama4_text(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=202048, hidden=5120, width=8192, layers=48, heads=40, kv_heads=8, head_dim=128,
        positions=131072,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    rotary = _rotary_layers(read, dims.layers, 4)
    sparse = read.indices("moe_layers")
    if sparse is None:
        step = read.count("interleave_moe_layer_step", 1)
        sparse = frozenset(range(step - 1, dims.layers, step))
    default = ["chunked_attention" if turned else "full_attention" for turned in rotary]
    types = read.texts(
        "layer_types", length=dims.layers, known=("chunked_attention", "full_attention")
    )
    chunk = read.maybe("attention_chunk_size", 8192)
    bias = read.flag("attention_bias", False)
    norm = Norm(kind=NormKind.RMS, gain=False) if read.flag("use_qk_norm", True) else None
    experts = read.count("num_local_experts", 16)
    block = ExpertFeedForward(
        experts=experts, experts_per_token=top_k(read, experts, 1), expert=dims.gated(),
        shared=dims.gated(),
    )  # fmt: skip
    dense = dims.gated(width=read.count("intermediate_size_mlp", 16384))

    def make(kind: tuple[str, bool, bool]) -> Layer:
        form, turned, is_sparse = kind
        return Layer(
            attention=dims.attention(
                rotary_dim=dims.head_dim if turned else 0,
                chunk=chunk if form == "chunked_attention" else None, qkv_bias=bias,
                output_bias=bias,
                query_key_norm=QueryKeyNorm(norm=norm) if norm and turned else None,
            ),
            feed_forward=block if is_sparse else dense,
            attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    def name(kind: tuple[str, bool, bool]) -> str:
        form, turned, is_sparse = kind
        parts = ["local" if form == "chunked_attention" else "global"]
        parts += (
            [] if turned == (form == "chunked_attention") else ["rotary" if turned else "plain"]
        )
        return "_".join([*parts, "experts" if is_sparse else "dense"])

    kinds = [
        (form, turned, index in sparse)
        for index, (form, turned) in enumerate(zip(types or default, rotary, strict=True))
    ]
    return dims.fields(patterned(kinds, make, name), final_norm=RMS)


def _rotary_layers(read: Reader, count: int, interval: int) -> list[bool]:
    """Return which layers have rotary positions: all but every `no_rope_layer_interval`-th."""
    if read.items("no_rope_layers"):  # an empty list states nothing
        found = read.items("no_rope_layers", length=count) or []
        return [bool(entry) for entry in found]
    interval = read.count("no_rope_layer_interval", interval)
    return [(index + 1) % interval != 0 for index in range(count)]


def _granite(read: Reader) -> dict[str, Any]:
    defaults = Defaults(vocab=32000, hidden=4096, width=11008, layers=32, heads=32, positions=2048)
    return _biased(read, dimensions(read, defaults))


def _granitemoe(read: Reader) -> dict[str, Any]:
    defaults = Defaults(vocab=32000, hidden=4096, width=11008, layers=32, heads=32, positions=2048)
    dims = dimensions(read, defaults)
    bias = read.flag("attention_bias", False)
    experts = read.count("num_local_experts", 8)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=ExpertFeedForward(
            experts=experts, experts_per_token=top_k(read, experts, 2), expert=dims.gated()
        ),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _smollm3(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=128256, hidden=2048, width=11008, layers=36, heads=16, kv_heads=4, positions=32768,
        tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    rotary = _rotary_layers(read, dims.layers, 4)
    window = read.maybe("sliding_window", None)
    uses_window = read.flag("use_sliding_window", False) and window is not None
    default = [
        "sliding_attention" if uses_window and not turned else "full_attention"
        for turned in rotary
    ]  # fmt: skip
    types = windows(read, dims.layers, default)
    bias, wide = read.flag("attention_bias", False), read.flag("mlp_bias", False)

    def make(kind: tuple[str, bool]) -> Layer:
        form, turned = kind
        return Layer(
            attention=dims.attention(
                rotary_dim=dims.head_dim if turned else 0,
                window=window if form == "sliding_attention" else None, qkv_bias=bias,
                output_bias=bias,
            ),
            feed_forward=dims.gated(bias=wide), attention_norm=RMS, feed_forward_norm=RMS,
        )  # fmt: skip

    def name(kind: tuple[str, bool]) -> str:
        return f"{window_name(kind[0])}_{'rotary' if kind[1] else 'plain'}"

    return dims.fields(patterned(list(zip(types, rotary, strict=True)), make, name), final_norm=RMS)


def _ernie(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=103424, hidden=1024, width=3072, layers=18, heads=16, kv_heads=2, head_dim=128,
        positions=131072, tied=True,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    bias = read.flag("use_bias", False)
    layer = Layer(
        attention=dims.attention(qkv_bias=bias, output_bias=bias),
        feed_forward=dims.gated(bias=bias),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _helium(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=48000, hidden=2560, width=7040, layers=24, heads=20, kv_heads=20, head_dim=128,
        positions=4096,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    if dims.heads * dims.head_dim != dims.hidden:
        raise read.wrong(
            "head_dim", f"{dims.heads} heads of {dims.head_dim} are not the hidden size",
            f"heads times head_dim equal to hidden_size = {dims.hidden}",
        )  # fmt: skip
    layer = Layer(
        attention=dims.attention(qkv_bias=read.flag("attention_bias", False)),
        feed_forward=dims.gated(bias=read.flag("mlp_bias", False)),
        attention_norm=RMS,
        feed_forward_norm=RMS,
    )
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


def _minimax_m2(read: Reader) -> dict[str, Any]:
    defaults = Defaults(
        vocab=200064, hidden=3072, width=1536, layers=62, heads=48, kv_heads=8, head_dim=128,
        positions=196608,
    )  # fmt: skip
    dims = dimensions(read, defaults)
    rotary = read.maybe("rotary_dim") or rotated(read, dims.head_dim)
    experts = read.count("num_local_experts", 256)
    layer = Layer(
        attention=dims.attention(
            rotary_dim=min(rotary, dims.head_dim),
            query_key_norm=QueryKeyNorm(norm=RMS, shared=False),
        ),
        feed_forward=ExpertFeedForward(
            experts=experts, experts_per_token=top_k(read, experts, 8), expert=dims.gated(),
            correction_bias=True,
        ),
        attention_norm=RMS, feed_forward_norm=RMS,
    )  # fmt: skip
    return dims.fields(same(dims.layers, layer), final_norm=RMS)


TEXT_TOWER = "the text tower alone: image and audio towers are not described"
"""Note of a model that reads more than text."""


def window_name(kind: str) -> str:
    """Return the name of a group of layers with or without a window."""
    return "local" if kind == "sliding_attention" else "global"


def top_k(
    read: Reader, experts: int, default: int, *, key: str = "num_experts_per_tok"
) -> int:  # fmt: skip
    """Return the experts per token, at most all of them."""
    found = read.count(key, default)
    if found > experts:
        raise read.wrong(key, f"found {found}", f"at most the {experts} experts")
    return found


class LlamaFamily(TypedFamily):
    """Llama 1 to 4, Mistral and Mixtral, and models of other makers that are built alike."""

    name: ClassVar[str] = "llama"
    about: ClassVar[str] = "Llama 1 to 4, Mistral, Mixtral and alike: RMS norms, rotary, gated, GQA"
    builders: ClassVar[Mapping[str, Build]] = {
        "llama": _llama, "llama4": _llama4, "llama4_text": _llama4_text, "mistral": _mistral,
        "ministral": _ministral, "ministral3": _ministral3, "mistral3": _mistral3,
        "mixtral": _mixtral, "granite": _granite, "granitemoe": _granitemoe,
        "smollm3": _smollm3, "ernie4_5": _ernie, "helium": _helium, "minimax_m2": _minimax_m2,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "mixtral": {"num_local_experts": "num_experts"},
        "minimax_m2": {"num_local_experts": "num_experts"},
    }
