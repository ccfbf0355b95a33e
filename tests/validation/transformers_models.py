"""Configurations of every family, and the models that transformers makes of them without weights.

A family has a small base and axes: each axis lists alternatives for one aspect (heads, tying,
biases, experts, ...). `variants` walks through all alternatives of every axis, in an order that a
seed shuffles, so that each alternative occurs and aspects are combined in many ways.
"""

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Settings = Mapping[str, Any]
Axis = tuple[Settings, ...]

VARIANTS = 12
"""Altered configurations of a family, or as many as its longest axis."""


@dataclass(frozen=True)
class Family:
    """A model type of transformers and how its configurations are altered."""

    model_type: str
    """`model_type` of its config.json."""
    base: Settings
    """What every altered configuration has."""
    axes: tuple[Axis, ...]
    """Alternatives, one of each axis at a time."""
    text_config: bool = False
    """Whether base and axes describe the `text_config` of a multimodal configuration."""
    has_default: bool = True
    """Whether transformers can build the model of its default configuration."""


@dataclass(frozen=True)
class Variant:
    """One configuration."""

    model_type: str
    """`model_type` of its config.json."""
    settings: Settings
    """Keys that differ from the defaults of the configuration class."""

    @property
    def name(self) -> str:
        """What tests show: the type, and what is altered."""
        return f"{self.model_type}-{'default' if not self.settings else _short(self.settings)}"


def _short(settings: Settings) -> str:
    text = json.dumps(settings, separators=(",", "="))
    return text.replace('"', "").strip("{}").replace("num_", "")[:150]


def each(**alternatives: tuple[Any, ...]) -> Axis:
    """Return the axis of some keys that change together: their first values, their second, ..."""
    return tuple(
        dict(zip(alternatives, values, strict=True))
        for values in zip(*alternatives.values(), strict=True)
    )


def flags(*names: str) -> tuple[Axis, ...]:
    """Return one axis per key that is true or false."""
    return tuple(({name: False}, {name: True}) for name in names)


LAYERS = each(num_hidden_layers=(2, 3, 5, 7))
HIDDEN = each(hidden_size=(192, 384, 576))
WIDTH = each(intermediate_size=(512, 1000))
VOCAB = each(vocab_size=(1000, 1017, 50304))
POSITIONS = each(max_position_embeddings=(512, 2000))
HEADS = each(num_attention_heads=(4, 12, 6))
GROUPED = each(num_attention_heads=(12, 12, 6, 4), num_key_value_heads=(12, 4, 1, 2))
WINDOW = ({}, {"sliding_window": 128}, {"sliding_window": 4096})
HEAD_DIM = ({}, {"head_dim": 32}, {"head_dim": 80})
(TIED,) = flags("tie_word_embeddings")
DECODER = (LAYERS, HIDDEN, WIDTH, VOCAB, POSITIONS, TIED)
GPT2 = (
    each(n_layer=(2, 3, 5)), each(n_embd=(192, 384)), each(n_head=(4, 12)), VOCAB, TIED,
    each(n_positions=(512, 1500)), ({}, {"n_inner": 500}, {"n_inner": 1024}),
)  # fmt: skip
MLA = (
    each(q_lora_rank=(48, None, 96)), each(kv_lora_rank=(32, 64)), each(v_head_dim=(16, 48)),
    each(qk_nope_head_dim=(32, 16), qk_rope_head_dim=(16, 8)),
    each(num_attention_heads=(4, 8), num_key_value_heads=(4, 8)), *flags("attention_bias"),
    each(n_routed_experts=(8, 16), num_experts_per_tok=(2, 4), n_group=(1, 4), topk_group=(1, 2)),
    each(moe_intermediate_size=(96, 160), n_shared_experts=(1, 2)),
    each(first_k_dense_replace=(1, 2, 3)),
)  # fmt: skip
SPARSE_STEPS = (
    {}, {"decoder_sparse_step": 2}, {"mlp_only_layers": [0]},
    {"decoder_sparse_step": 2, "mlp_only_layers": [1]},
)  # fmt: skip
SEQ2SEQ = (
    each(d_model=(192, 384)), each(d_ff=(512, 1000)), each(d_kv=(32, 64)), each(num_heads=(4, 6)),
    each(num_layers=(2, 4, 3), num_decoder_layers=(2, 3, 5)), VOCAB, TIED,
    each(feed_forward_proj=("relu", "gated-gelu")),
    each(relative_attention_num_buckets=(32, 16)),
)  # fmt: skip
BART = (
    each(d_model=(192, 384)), each(encoder_layers=(2, 3), decoder_layers=(4, 2)),
    each(encoder_attention_heads=(4, 6), decoder_attention_heads=(6, 4)), VOCAB, TIED,
    each(encoder_ffn_dim=(512, 700), decoder_ffn_dim=(600, 400)), POSITIONS,
)  # fmt: skip
SPECIAL_TOKENS = {
    "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0, "decoder_start_token_id": 3,
    "forced_eos_token_id": 0,
}  # fmt: skip
"""Tokens within a small vocabulary; they shape nothing."""
ENCODER = (LAYERS, HIDDEN, HEADS, WIDTH, VOCAB, POSITIONS, TIED, each(type_vocab_size=(2, 1)))
LLAMA4 = (
    *DECODER, GROUPED, HEAD_DIM, *flags("attention_bias"),
    each(intermediate_size_mlp=(700, 1024)),
    each(num_local_experts=(4, 8), num_experts_per_tok=(1, 2)),
    each(interleave_moe_layer_step=(1, 2)), ({}, {"attention_chunk_size": 64}),
    ({}, {"no_rope_layer_interval": 2}),
)  # fmt: skip
GEMMA3 = (*DECODER, GROUPED, HEAD_DIM, *flags("attention_bias"),
          ({}, {"sliding_window": 128}, {"sliding_window_pattern": 2}))  # fmt: skip

FAMILIES = (
    Family("gpt2", {}, GPT2),
    Family("gpt_bigcode", {}, (*GPT2, *flags("multi_query"))),
    Family("opt", {}, (
        LAYERS, HIDDEN, HEADS, each(ffn_dim=(512, 1000)), VOCAB, POSITIONS, TIED,
        ({}, {"word_embed_proj_dim": 96}), *flags("do_layer_norm_before", "enable_bias"),
        *flags("layer_norm_elementwise_affine", "_remove_final_layer_norm"),
    )),
    Family("gptj", {}, (*GPT2, each(rotary_dim=(16, 8)))),
    Family("gpt_neox", {}, (*DECODER, HEADS, *flags("attention_bias", "use_parallel_residual"))),
    Family("bloom", {}, (
        each(n_layer=(2, 3, 5)), HIDDEN, each(n_head=(4, 12)), VOCAB, TIED,
        *flags("apply_residual_connection_post_layernorm"),
    )),
    Family("falcon", {}, (
        LAYERS, HIDDEN, VOCAB, TIED, each(
            new_decoder_architecture=(False, False, False, True, True),
            multi_query=(True, True, False, True, False),
            parallel_attn=(True, False, True, True, True),
            num_ln_in_parallel_attn=(None, None, None, None, 1),
            num_attention_heads=(12, 4, 12, 12, 6), num_kv_heads=(12, 2, 12, 4, 2),
        ),
        *flags("bias", "alibi"), ({}, {"ffn_hidden_size": 700}),
    )),
    Family("llama", {}, (*DECODER, GROUPED, HEAD_DIM, *flags("attention_bias", "mlp_bias"))),
    Family("llama4_text", {}, LLAMA4),
    Family("llama4", {}, LLAMA4, text_config=True),
    Family("mistral", {}, (*DECODER, GROUPED, HEAD_DIM, WINDOW)),
    Family("mistral3", {}, (*DECODER, GROUPED, HEAD_DIM, WINDOW), text_config=True),
    Family("mixtral", {}, (
        *DECODER, GROUPED, HEAD_DIM, WINDOW,
        each(num_local_experts=(4, 16), num_experts_per_tok=(2, 3)),
    )),
    Family("qwen2", {}, (
        *DECODER, GROUPED,
        ({}, {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 1}),
    )),
    Family("qwen2_moe", {}, (
        *DECODER, GROUPED, SPARSE_STEPS, *flags("qkv_bias"),
        each(num_experts=(4, 12), num_experts_per_tok=(2, 3)),
        each(moe_intermediate_size=(96, 200), shared_expert_intermediate_size=(300, 512)),
    )),
    Family("qwen3", {}, (*DECODER, GROUPED, HEAD_DIM, *flags("attention_bias"),
        ({}, {"use_sliding_window": True, "sliding_window": 128, "max_window_layers": 1}))),
    Family("qwen3_moe", {}, (
        *DECODER, GROUPED, HEAD_DIM, SPARSE_STEPS, *flags("attention_bias"),
        each(num_experts=(4, 12), num_experts_per_tok=(2, 3)),
        each(moe_intermediate_size=(96, 200)),
    )),
    Family("gemma", {}, (*DECODER, GROUPED, HEAD_DIM, *flags("attention_bias"))),
    Family("gemma2", {}, (*DECODER, GROUPED, HEAD_DIM, *flags("attention_bias"),
                          ({}, {"sliding_window": 128}))),
    Family("gemma3_text", {}, GEMMA3),
    Family("gemma3", {}, GEMMA3, text_config=True),
    Family("phi", {}, (*DECODER, GROUPED, *flags("qk_layernorm"),
                       ({}, {"partial_rotary_factor": 0.25}))),
    Family("phi3", {"pad_token_id": 0}, (*DECODER, GROUPED, WINDOW,
                                         ({}, {"partial_rotary_factor": 0.75}))),
    Family("phimoe", {}, (
        *DECODER, GROUPED, WINDOW, *flags("attention_bias", "lm_head_bias"),
        each(num_local_experts=(4, 16), num_experts_per_tok=(2, 2)),
    )),
    Family("deepseek_v2", {}, (*DECODER, *MLA, *flags("mlp_bias"))),
    Family("deepseek_v3", {}, (*DECODER, *MLA)),
    Family("gpt_oss", {}, (
        *DECODER, GROUPED, each(head_dim=(32, 64)), *flags("attention_bias"),
        each(num_local_experts=(4, 16), num_experts_per_tok=(2, 3)), ({}, {"sliding_window": 64}),
    )),
    Family("glm", {"pad_token_id": 0},
           (*DECODER, GROUPED, each(head_dim=(32, 64)), *flags("attention_bias"))),
    Family("glm4", {"pad_token_id": 0},
           (*DECODER, GROUPED, each(head_dim=(32, 64)), *flags("attention_bias"))),
    Family("glm4_moe", {"n_group": 1, "topk_group": 1}, (
        *DECODER, GROUPED, HEAD_DIM, *flags("attention_bias", "use_qk_norm"),
        each(n_routed_experts=(4, 16), num_experts_per_tok=(2, 3)),
        each(moe_intermediate_size=(96, 160), n_shared_experts=(1, 2)),
        each(first_k_dense_replace=(0, 1, 2)),
    )),
    Family("cohere", {}, (*DECODER, GROUPED, *flags("attention_bias", "use_qk_norm"))),
    Family("cohere2", {}, (*DECODER, GROUPED, *flags("attention_bias"),
        ({}, {"sliding_window": 128}, {"sliding_window_pattern": 2}))),
    Family("starcoder2", {}, (*DECODER, GROUPED, WINDOW, *flags("use_bias"))),
    Family("minimax_m2", {}, (
        *DECODER, GROUPED, each(head_dim=(32, 64)),
        each(num_local_experts=(4, 16), num_experts_per_tok=(2, 3)),
    )),
    Family("olmo", {}, (*DECODER, GROUPED, *flags("attention_bias"))),
    Family("olmo2", {}, (*DECODER, GROUPED, *flags("attention_bias"))),
    Family("stablelm", {}, (*DECODER, GROUPED,
                            *flags("use_qkv_bias", "qk_layernorm", "use_parallel_residual"))),
    Family("granite", {}, (*DECODER, GROUPED, *flags("attention_bias", "mlp_bias"))),
    Family("olmo3", {}, (*DECODER, GROUPED, WINDOW, *flags("attention_bias"))),
    Family("olmoe", {}, (
        *DECODER, GROUPED, *flags("attention_bias"),
        each(num_experts=(4, 16), num_experts_per_tok=(2, 3)),
    )),
    Family("granitemoe", {}, (
        *DECODER, GROUPED, *flags("attention_bias"),
        each(num_local_experts=(4, 16), num_experts_per_tok=(2, 3)),
    )),
    Family("glm4_moe_lite", {}, (*DECODER, *MLA[:-1])),
    Family("exaone4", {}, (*DECODER, GROUPED, WINDOW)),
    Family("ernie4_5", {}, (*DECODER, GROUPED, HEAD_DIM, *flags("use_bias"))),
    Family("smollm3", {"pad_token_id": 0},
           (*DECODER, GROUPED, *flags("attention_bias", "mlp_bias"))),
    Family("helium", {}, (
        LAYERS, WIDTH, VOCAB, POSITIONS, TIED, *flags("attention_bias", "mlp_bias"),
        each(hidden_size=(192, 384, 256), num_attention_heads=(6, 12, 4),
             num_key_value_heads=(2, 12, 1), head_dim=(32, 32, 64)),
    )),
    Family("nemotron", {}, (*DECODER, GROUPED, *flags("attention_bias", "mlp_bias")),
           has_default=False),
    Family("persimmon", {}, (*DECODER, HEADS, *flags("qk_layernorm"))),
    Family("ministral", {}, (*DECODER, GROUPED, each(head_dim=(32, 64)), WINDOW),
           has_default=False),
    Family("ministral3", {}, (*DECODER, GROUPED, each(head_dim=(32, 64)), WINDOW)),
    Family("mpt", {}, (
        each(d_model=(192, 384)), each(n_heads=(4, 12)), each(n_layers=(2, 3, 5)), VOCAB, TIED,
        each(max_seq_len=(512, 1000)), *flags("no_bias"), each(expansion_ratio=(4, 2)),
    )),
    Family("gpt_neo", {}, (
        each(num_layers=(2, 4), attention_types=([[["global", "local"], 1]],
                                                 [[["global"], 1], [["local"], 3]])),
        HIDDEN, each(num_heads=(4, 12)), VOCAB, POSITIONS, TIED, ({}, {"intermediate_size": 500}),
    )),
    Family("bert", {}, ENCODER),
    Family("roberta", {}, ENCODER),
    Family("xlm-roberta", {}, ENCODER),
    Family("camembert", {}, ENCODER),
    Family("electra", {}, (*ENCODER, each(embedding_size=(96, 192)))),
    Family("distilbert", {}, (
        each(n_layers=(2, 3, 5)), each(dim=(192, 384)), each(n_heads=(4, 12)), VOCAB, POSITIONS,
        each(hidden_dim=(512, 1000)), TIED,
    )),
    Family("t5", {}, SEQ2SEQ),
    Family("mt5", {}, SEQ2SEQ),
    Family("umt5", {}, SEQ2SEQ),
    Family("bart", SPECIAL_TOKENS, BART),
    Family("mbart", SPECIAL_TOKENS, BART),
    Family("whisper", SPECIAL_TOKENS, (
        each(d_model=(192, 384)), each(encoder_layers=(2, 3), decoder_layers=(4, 2)),
        each(encoder_attention_heads=(4, 6), decoder_attention_heads=(6, 4)), VOCAB, TIED,
        each(encoder_ffn_dim=(512, 700), decoder_ffn_dim=(600, 400)), each(num_mel_bins=(80, 128)),
        each(max_source_positions=(1500, 500), max_target_positions=(448, 128)),
    )),
    Family("vit", {}, (
        LAYERS, HIDDEN, HEADS, WIDTH, *flags("qkv_bias"), each(num_channels=(3, 1)),
        each(image_size=(224, 384, 96), patch_size=(16, 32, 8)), each(num_labels=(2, 1000)),
    )),
)  # fmt: skip

OTHER_CLASSES = (
    ("bert", "BertLMHeadModel"), ("roberta", "RobertaForCausalLM"), ("t5", "T5EncoderModel"),
    ("bert", "BertForSequenceClassification"), ("roberta", "RobertaForSequenceClassification"),
    ("distilbert", "DistilBertForSequenceClassification"),
    ("llama", "LlamaForSequenceClassification"), ("qwen3", "Qwen3ForSequenceClassification"),
    ("gpt2", "GPT2ForSequenceClassification"), ("vit", "ViTForImageClassification"),
    ("opt", "OPTForSequenceClassification"), ("opt", "OPTForQuestionAnswering"),
    ("bert", "BertForTokenClassification"), ("roberta", "RobertaForTokenClassification"),
    ("bert", "BertForQuestionAnswering"), ("electra", "ElectraForQuestionAnswering"),
    ("llama", "LlamaForTokenClassification"), ("llama", "LlamaForQuestionAnswering"),
    ("bart", "BartForCausalLM"), ("mbart", "MBartForCausalLM"), ("whisper", "WhisperForCausalLM"),
)  # fmt: skip
"""Type and class of configurations whose `architectures` names another class than usual."""

OTHER_KEYS = (
    Variant("gpt2", {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
                     "max_position_embeddings": 300}),
    Variant("gptj", {"hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4}),
    Variant("bloom", {"n_embed": 256, "num_hidden_layers": 3, "num_attention_heads": 4}),
    Variant("falcon", {"n_embed": 256, "num_hidden_layers": 2, "num_attention_heads": 4}),
    Variant("distilbert", {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}),
    Variant("t5", {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
                   "head_dim": 48, "num_decoder_layers": 2}),
    Variant("whisper", {"hidden_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4}),
    Variant("mixtral", {"num_experts": 4}), Variant("gpt_oss", {"num_experts": 4}),
    Variant("qwen3_moe", {"num_local_experts": 12}), Variant("minimax_m2", {"num_experts": 12}),
    Variant("deepseek_v2", {"num_experts": 4}), Variant("deepseek_v3", {"num_local_experts": 8}),
    Variant("glm4_moe", {"num_local_experts": 12}),
    Variant("llama", {"head_dim": None, "num_key_value_heads": None, "rope_theta": 5e5,
                      "rope_scaling": {"rope_type": "linear", "factor": 2.0}}),
    Variant("gemma3_text", {"layer_types": ["full_attention"] * 2, "num_hidden_layers": 2}),
    Variant("qwen3", {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 64,
                      "use_sliding_window": True, "num_hidden_layers": 2}),
    Variant("llama4_text", {"moe_layers": [1], "num_hidden_layers": 3, "num_local_experts": 2}),
    Variant("vit", {"id2label": {"0": "cat", "1": "dog", "2": "bird"}}),
    Variant("llama4_text", {"no_rope_layers": [], "num_hidden_layers": 4}),
    Variant("mistral3", {"text_config": {"model_type": "ministral3", "num_hidden_layers": 2}}),
    Variant("bert", {"is_decoder": True, "architectures": ["BertForQuestionAnswering"],
                     "id2label": {"0": "a", "1": "b", "2": "c"}}),
    Variant("gptj", {"n_layer": 1, "architectures": ["GPTJForQuestionAnswering"],
                     "id2label": {"0": "a", "1": "b", "2": "c"}}),
    Variant("opt", {"word_embed_proj_dim": 96, "architectures": ["OPTForQuestionAnswering"]}),
)  # fmt: skip
"""Configurations in further keys: other names, the form of earlier versions, lists of layers."""


def variants(family: Family) -> Iterator[Variant]:
    """Yield the default configuration of a family, then the altered ones."""
    if family.has_default:
        yield Variant(family.model_type, {})
    draw = random.Random(family.model_type)
    number = max(VARIANTS, *(len(axis) for axis in family.axes))
    orders = [draw.sample(range(len(axis)), len(axis)) for axis in family.axes]
    for index in range(number):
        settings = dict(family.base)
        for axis, order in zip(family.axes, orders, strict=True):
            if index % len(axis) == 0:
                draw.shuffle(order)
            settings |= axis[order[index % len(axis)]]
        yield Variant(
            family.model_type, {"text_config": settings} if family.text_config else settings
        )


def write_sparse(variant: Variant, folder: Path, **more: Any) -> Path:
    """Write a config.json of the altered keys alone and return its path."""
    path = folder / "config.json"
    folder.mkdir(parents=True, exist_ok=True)
    content = {"model_type": variant.model_type, **variant.settings, **more}
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def load(path: Path) -> Any:
    """Return the configuration of a file, as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(path.parent)


def save(config: Any, folder: Path) -> Path:
    """Write the config.json that transformers writes and return its path."""
    config.save_pretrained(folder)
    return folder / "config.json"


def build(config: Any, **settings: Any) -> Any:
    """Return the model of a configuration on the meta device: shapes without weights.

    Args:
        config: Its `architectures` names the class; without it, transformers maps the configuration
            to one. Of a multimodal configuration it is the text tower.
        settings: Further arguments of the class's `_from_config`.
    """
    import torch
    import transformers

    if config.architectures:
        kind = getattr(transformers, config.architectures[0])
    else:
        config = config.get_text_config() if "text_config" in config.sub_configs else config
        kind = class_of(config)
    with torch.device("meta"):
        return kind._from_config(config, **settings).eval()


def class_of(config: Any) -> Any:
    """Return the class with a head that transformers maps a configuration to."""
    from transformers.models.auto import modeling_auto as auto

    decoding = (
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    )
    others = (
        auto.MODEL_FOR_MASKED_LM_MAPPING, auto.MODEL_FOR_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    )  # fmt: skip
    for mapping in decoding if config.is_encoder_decoder else others:
        if type(config) in mapping:
            return mapping[type(config)]
    raise LookupError(f"transformers maps {type(config).__name__} to no class with a head")
