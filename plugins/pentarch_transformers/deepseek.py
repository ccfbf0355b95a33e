"""DeepSeek V2, V3 and R1, and GLM 4.7 Flash: latent attention, shared experts, dense first layers."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.attention import LatentAttention
from pentarch.workload.layers import DenseFeedForward, ExpertFeedForward, Layer
from pentarch_transformers.assembly import RMS, Build, TypedFamily, patterned
from pentarch_transformers.llama import top_k
from pentarch_transformers.reading import Reader

_ONE_EXPERT = "the configuration states no experts per token: one is taken"


def _deepseek_v2(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 4096), read.count("num_attention_heads", 32)
    read.divides(hidden, heads, "num_attention_heads", "the hidden size")
    layers = read.layers("num_hidden_layers", 32)
    experts = read.count("n_routed_experts", 64)
    per_token = top_k(read, experts, 1) if read.has("num_experts_per_tok") else 1
    bias = read.flag("mlp_bias", False)
    block = _experts(read, experts, per_token, width=1407, shared=2)
    if bias and block.shared is not None:
        block = block.replace(shared=block.shared.replace(bias=True))
    dense = _dense(read, read.count("intermediate_size", 11008), bias=bias)
    attention = _attention(read, heads, query_latent=1536)
    first = read.count("first_k_dense_replace", 0, least=0)
    return {
        **_fields(read, hidden, vocab=102400, positions=2048),
        **_layers([index >= first for index in range(layers)], attention, dense, block),
        "notes": () if read.has("num_experts_per_tok") else (_ONE_EXPERT,),
    }


def _deepseek_v3(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 7168), read.count("num_attention_heads", 128)
    layers = read.layers("num_hidden_layers", 61)
    experts = read.count("n_routed_experts", 256)
    block = _experts(
        read, experts, top_k(read, experts, 8), width=2048, shared=1, correction_bias=True
    )
    dense = _dense(read, read.count("intermediate_size", 18432))
    attention = _attention(read, heads, query_latent=1536)
    first = read.count("first_k_dense_replace", 3, least=0)
    return {
        **_fields(read, hidden, vocab=129280, positions=4096),
        **_layers([index >= first for index in range(layers)], attention, dense, block),
    }


def _glm4_moe_lite(read: Reader) -> dict[str, Any]:
    hidden, heads = read.count("hidden_size", 2048), read.count("num_attention_heads", 20)
    layers = read.layers("num_hidden_layers", 47)
    experts = read.count("n_routed_experts", 64)
    block = _experts(
        read, experts, top_k(read, experts, 4), width=1536, shared=1, correction_bias=True
    )
    dense = _dense(read, read.count("intermediate_size", 10240))
    attention = _attention(
        read, heads, query_latent=768, plain_dim=192, value_dim=256, rotary_key="qk_rope_head_dim"
    )
    types = read.texts("mlp_layer_types", length=layers, known=("dense", "sparse"))
    default = ["dense"] + ["sparse"] * (layers - 1)
    return {
        **_fields(read, hidden, vocab=154880, positions=202752),
        **_layers([kind == "sparse" for kind in types or default], attention, dense, block),
    }


def _fields(read: Reader, hidden: int, *, vocab: int, positions: int) -> dict[str, Any]:
    return {
        "hidden": hidden, "vocab": read.count("vocab_size", vocab),
        "positions": read.count("max_position_embeddings", positions),
        "tied": read.flag("tie_word_embeddings", False), "final_norm": RMS,
    }  # fmt: skip


def _attention(
    read: Reader, heads: int, *, query_latent: int, plain_dim: int = 128, value_dim: int = 128,
    rotary_key: str = "qk_rope_head_dim",
) -> LatentAttention:  # fmt: skip
    return LatentAttention(
        heads=heads, query_latent=read.maybe("q_lora_rank", query_latent),
        latent=read.count("kv_lora_rank", 512),
        plain_dim=read.count("qk_nope_head_dim", plain_dim),
        rotary_dim=read.count(rotary_key, 64), value_dim=read.count("v_head_dim", value_dim),
        bias=read.flag("attention_bias", False),
    )  # fmt: skip


def _dense(read: Reader, width: int, *, bias: bool = False) -> DenseFeedForward:
    activation = read.activation("hidden_act", "silu")
    return DenseFeedForward(width=width, activation=activation, gated=True, bias=bias)


def _experts(
    read: Reader, experts: int, per_token: int, *, width: int, shared: int,
    correction_bias: bool = False,
) -> ExpertFeedForward:  # fmt: skip
    width = read.count("moe_intermediate_size", width)
    of_shared = read.count("n_shared_experts", shared)
    return ExpertFeedForward(
        experts=experts, experts_per_token=per_token, expert=_dense(read, width),
        shared=_dense(read, of_shared * width), correction_bias=correction_bias,
    )  # fmt: skip


def _layers(
    sparse: list[bool], attention: LatentAttention, dense: DenseFeedForward,
    block: ExpertFeedForward,
) -> dict[str, Any]:  # fmt: skip
    def make(is_sparse: bool) -> Layer:
        return Layer(
            attention=attention,
            feed_forward=block if is_sparse else dense,
            attention_norm=RMS,
            feed_forward_norm=RMS,
        )

    found = patterned(sparse, make, lambda is_sparse: "experts" if is_sparse else "dense")
    return {"layers": found.groups, "order": found.order}


class DeepseekFamily(TypedFamily):
    """DeepSeek V2, V3 and R1."""

    name: ClassVar[str] = "deepseek"
    about: ClassVar[str] = "DeepSeek V2, V3 and R1: latent attention, shared experts"
    builders: ClassVar[Mapping[str, Build]] = {
        "deepseek_v3": _deepseek_v3, "deepseek_v2": _deepseek_v2, "glm4_moe_lite": _glm4_moe_lite,
    }  # fmt: skip
    model_types: ClassVar[frozenset[str]] = frozenset(builders)
    other_names: ClassVar[Mapping[str, Mapping[str, str]]] = {
        "deepseek_v3": {"n_routed_experts": "num_local_experts"},
        "deepseek_v2": {"n_routed_experts": "num_experts"},
        "glm4_moe_lite": {"n_routed_experts": "num_local_experts"},
    }
