"""Families of the built-in plug-in: counts, patterns, heads, and configurations that are wrong."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.graph.build import build_graph
from pentarch.graph.operators import Attention, Phase
from pentarch.graph.passes import prefill_passes
from pentarch.workload.attention import GroupedQueryAttention, LatentAttention
from pentarch.workload.importing import import_config, import_entry
from pentarch.workload.layers import ExpertFeedForward
from pentarch.workload.parameters import parameters
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload
from pentarch_transformers import plugin

FAMILIES = {family.name: family() for family in plugin.register_workload_families()}
TYPES = sorted(kind for family in FAMILIES.values() for kind in family.model_types)

# num_parameters() of the class that transformers 5.23.0 maps each type's default configuration to
# (of multimodal types the text tower), counted on the meta device.
DEFAULT_COUNTS = {
    "bart": 406_291_456, "bert": 109_514_298, "bloom": 16_156_544, "cohere": 34_980_831_232,
    "cohere2": 34_980_831_232, "deepseek_v2": 38_612_307_968, "deepseek_v3": 671_026_404_352,
    "distilbert": 66_985_530, "electra": 13_546_682, "ernie4_5": 360_748_032,
    "exaone4": 9_429_069_824, "falcon": 6_921_720_704, "gemma": 8_537_680_896,
    "gemma2": 2_614_341_888, "gemma3": 2_628_658_432, "gemma3_text": 2_628_658_432,
    "glm": 9_399_951_360, "glm4": 9_400_279_040, "glm4_moe": 103_481_200_640,
    "glm4_moe_lite": 29_943_390_976, "gpt2": 124_439_808, "gpt_bigcode": 111_446_784,
    "gpt_neo": 1_315_575_808, "gpt_neox": 20_554_567_680, "gpt_oss": 116_829_156_672,
    "gptj": 6_050_882_784, "granite": 6_738_415_616, "granitemoe": 37_039_116_288,
    "helium": 2_172_643_840, "llama": 6_738_415_616, "llama4": 107_769_861_120,
    "llama4_text": 107_769_861_120, "mbart": 406_295_552, "minimax_m2": 228_689_748_992,
    "mistral": 7_241_732_096, "mistral3": 23_572_403_200, "mixtral": 46_702_792_704,
    "mpt": 1_311_213_568, "mt5": 172_119_424, "olmo": 6_888_095_744, "olmo2": 6_888_624_128,
    "olmoe": 13_361_612_800, "opt": 125_239_296, "persimmon": 9_397_175_296,
    "phi": 1_418_270_720, "phi3": 3_821_079_552, "phimoe": 41_872_793_600,
    "qwen2": 12_049_846_272, "qwen2_moe": 14_315_784_192, "qwen3": 12_049_461_248,
    "qwen3_moe": 15_350_731_776, "roberta": 124_696_665, "smollm3": 3_075_098_624,
    "stablelm": 2_795_443_200, "starcoder2": 3_030_371_328, "t5": 60_506_624,
    "umt5": 172_122_112, "vit": 85_800_194, "whisper": 37_760_640, "xlm-roberta": 109_514_298,
}  # fmt: skip


def read(model_type: str, **config: Any) -> Workload:
    """Return the workload of a configuration of one type."""
    (family,) = (found for found in FAMILIES.values() if model_type in found.model_types)
    return family.import_workload(
        {"model_type": model_type, **config}, name="sample", where="config.json"
    )


def total(model_type: str, **config: Any) -> int:
    return parameters(read(model_type, **config)).total


@pytest.mark.parametrize("model_type", sorted(DEFAULT_COUNTS))
def test_a_configuration_of_a_type_alone_has_the_librarys_count(model_type: str) -> None:
    assert total(model_type) == DEFAULT_COUNTS[model_type]


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("fold", [True, False])
def test_graphs_of_every_type_hold_all_parameters(model_type: str, fold: bool) -> None:
    workload = read(model_type)
    query = Query(prompt_tokens=5, output_tokens=1)
    graph = build_graph(
        workload, phase=Phase.PREFILL, query=query, precisions=Precisions(), fold=fold
    )
    assert graph.parameters == parameters(workload).total - workload.unused_parameters


def groups(workload: Workload) -> dict[str, int]:
    return {group.name: group.count for group in workload.layers}


def attention_of(workload: Workload, group: str) -> GroupedQueryAttention:
    found = workload.group(group).layer.attention
    assert isinstance(found, GroupedQueryAttention)
    return found


def test_gemma_3_has_one_global_layer_after_five_local_ones() -> None:
    workload = read("gemma3_text", num_hidden_layers=8, sliding_window=100)
    assert workload.order == (*["local"] * 5, "global", "local", "local")
    assert attention_of(workload, "local").window == 100
    assert attention_of(workload, "global").window is None


def test_layer_types_of_a_file_win_over_the_pattern() -> None:
    types = ["full_attention", "sliding_attention", "full_attention"]
    workload = read("gpt_oss", num_hidden_layers=3, layer_types=types)
    assert workload.order == ("global", "local", "global")


def test_llama_4_chunks_three_of_four_layers_and_interleaves_experts() -> None:
    workload = read("llama4_text", num_hidden_layers=8, interleave_moe_layer_step=2)
    assert groups(workload) == {"local_dense": 4, "local_experts": 2, "global_experts": 2}
    local, far = (attention_of(workload, name) for name in ("local_dense", "global_experts"))
    assert (local.chunk, local.rotary_dim) == (8192, 128)
    assert (far.chunk, far.rotary_dim) == (None, 0)  # no positions where the context is long
    dense = workload.group("local_dense").layer.feed_forward
    assert getattr(dense, "width", 0) == 16384


def test_deepseek_has_dense_first_layers_and_a_latent_cache() -> None:
    workload = read("deepseek_v3")
    assert groups(workload) == {"dense": 3, "experts": 58}
    attention = workload.layers[0].layer.attention
    assert isinstance(attention, LatentAttention)
    assert attention.kv_width == 512 + 64
    without = read("deepseek_v2", q_lora_rank=None, num_hidden_layers=1)
    assert isinstance(without.layers[0].layer.attention, LatentAttention)
    # one matrix of 4096 x 32 x 192 for two of 4096 x 1536 and 1536 x 32 x 192, and no norm between
    direct, staged = 4096 * 6144, 4096 * 1536 + 1536 * 6144 + 1536
    assert total("deepseek_v2", q_lora_rank=None, num_hidden_layers=1) == (
        total("deepseek_v2", num_hidden_layers=1) + direct - staged
    )


def test_active_parameters_of_published_mixtures() -> None:
    # Mixtral of Experts, 2024: 47 B, of which 13 B active; DeepSeek-V3, 2024: 671 B, 37 B
    mixtral = parameters(read("mixtral"))
    assert (round(mixtral.total / 1e9, 1), round(mixtral.active / 1e9, 1)) == (46.7, 12.9)
    deepseek = parameters(read("deepseek_v3"))
    assert (round(deepseek.total / 1e9), int(deepseek.active / 1e9)) == (671, 37)


def test_qwen_mixes_dense_layers_in_where_the_file_says() -> None:
    workload = read("qwen3_moe", num_hidden_layers=6, decoder_sparse_step=2, mlp_only_layers=[3])
    assert workload.order == (
        "global_dense", "global_experts", "global_dense", "global_dense", "global_dense",
        "global_experts",
    )  # fmt: skip
    shared = read("qwen2_moe", num_hidden_layers=1).layers[0].layer.feed_forward
    assert isinstance(shared, ExpertFeedForward)
    assert shared.shared_gate


def test_falcon_of_each_generation_has_its_own_heads_and_norms() -> None:
    small = attention_of(read("falcon"), "decoder")
    assert (small.heads, small.kv_heads) == (71, 1)
    new = read("falcon", new_decoder_architecture=True, hidden_size=8192,
               num_attention_heads=128, num_kv_heads=8)  # fmt: skip
    layer = new.layers[0].layer
    assert attention_of(new, "decoder").kv_heads == 8
    assert layer.parallel
    assert layer.feed_forward_norm is not None  # one norm for each block
    old = read("falcon", multi_query=False, alibi=True, parallel_attn=False, bias=True)
    assert attention_of(old, "decoder").score_bias == "alibi"
    assert attention_of(old, "decoder").kv_heads == 71


def test_keys_of_two_names_are_the_same_key() -> None:
    assert total("gpt2", hidden_size=64, num_hidden_layers=2, n_head=4) == total(
        "gpt2", n_embd=64, n_layer=2, num_attention_heads=4
    )
    with pytest.raises(
        FieldError, match=r"hidden_size: found 64\. Expected 32, the value of n_embd"
    ):
        read("gpt2", n_embd=32, hidden_size=64)


def test_a_tied_table_is_counted_once() -> None:
    config = {"vocab_size": 1000, "hidden_size": 64, "num_attention_heads": 4,
              "num_hidden_layers": 1, "num_key_value_heads": 4}  # fmt: skip
    untied = total("llama", **config, tie_word_embeddings=False)
    assert untied - total("llama", **config, tie_word_embeddings=True) == 1000 * 64


@pytest.mark.parametrize(
    ("model_type", "architecture", "count"),
    # the same source as the defaults above
    [
        ("bert", "BertModel", 109_482_240),
        ("bert", "BertForSequenceClassification", 109_483_778),
        ("vit", "ViTModel", 86_389_248),
        ("t5", "T5EncoderModel", 35_330_816),
        ("t5", "T5Model", 60_506_624),
        ("llama", "LlamaModel", 6_607_343_616),
        ("distilbert", "DistilBertForSequenceClassification", 66_955_010),
        ("electra", "ElectraModel", 13_483_008),
        ("gptj", "GPTJModel", 5_844_393_984),
        ("whisper", "WhisperModel", 37_760_640),
        ("bart", "BartForCausalLM", 254_084_096),
        ("mbart", "MBartForCausalLM", 254_086_144),
        ("whisper", "WhisperForCausalLM", 29_552_256),
        ("roberta", "RobertaForTokenClassification", 124_055_810),
        ("distilbert", "DistilBertForQuestionAnswering", 66_364_418),
        ("llama", "LlamaForQuestionAnswering", 6_607_351_810),
        ("opt", "OPTForSequenceClassification", 125_239_296 + 2 * 768),
    ],
)
def test_the_class_that_a_file_names_decides_about_the_head(
    model_type: str, architecture: str, count: int
) -> None:
    workload = read(model_type, architectures=[architecture])
    assert parameters(workload).total == count
    query = Query(prompt_tokens=5, output_tokens=1)
    graph = build_graph(workload, phase=Phase.PREFILL, query=query, precisions=Precisions())
    assert graph.parameters == count - workload.unused_parameters


@pytest.mark.parametrize("model_type", ["bart", "mbart", "whisper"])
def test_a_decoder_alone_generates_without_an_encoder(model_type: str) -> None:
    whole = read(model_type)
    alone = read(model_type, architectures=["AnyForCausalLM"], num_hidden_layers=1)
    assert alone.encoder is None
    assert alone.generates
    assert alone.depth == whole.depth
    query = Query(prompt_tokens=5, output_tokens=3)
    graph = build_graph(alone, phase=Phase.DECODE, query=query, precisions=Precisions())
    assert not any(isinstance(op, Attention) and op.cross for op in graph.operators)
    # the weights that are stored all the same: 4 matrices, biases of q, v, o (Whisper) and k, a norm
    hidden, biases = whole.hidden, 3 if model_type == "whisper" else 4
    assert alone.unused_parameters == whole.depth * (4 * hidden**2 + (biases + 2) * hidden)
    (note,) = alone.notes
    assert "never read" in note


@pytest.mark.parametrize("model_type", ["t5", "bart", "whisper"])
def test_attention_inside_an_encoder_sees_all_of_its_tokens(model_type: str) -> None:
    workload = read(model_type)
    query = Query(prompt_tokens=200, output_tokens=4)
    passes = prefill_passes(workload, query=query, precisions=Precisions())
    seen = {
        op.name: contexts
        for one in passes
        for op in one.graph.operators
        if isinstance(op, Attention)
        for contexts in [one.contexts(op)]
    }
    read_tokens = 1500 if model_type == "whisper" else 200
    assert seen["encoder.attention"] == ((read_tokens, 1.0),)
    assert seen["decoder.cross_attention"] == ((read_tokens, 1.0),)
    assert seen["decoder.attention"] == ((1, 1.0),)


def test_an_encoder_used_as_a_decoder_is_causal_and_generates() -> None:
    assert not read("bert").generates
    decoder = read("bert", is_decoder=True, architectures=["BertLMHeadModel"])
    assert decoder.generates
    assert parameters(decoder).total == DEFAULT_COUNTS["bert"]
    with pytest.raises(FieldError, match="add_cross_attention: found True"):
        read("bert", is_decoder=True, add_cross_attention=True)


def test_a_list_of_layers_without_entries_states_nothing() -> None:
    assert read("llama4_text", no_rope_layers=[]) == read("llama4_text")


def test_the_text_tower_is_read_as_the_type_that_it_names() -> None:
    tower = {"model_type": "ministral3", "num_hidden_layers": 2}
    assert (
        read("mistral3", text_config=tower).layers == read("ministral3", num_hidden_layers=2).layers
    )
    with pytest.raises(FieldError, match=r"text_config\.model_type: found 'qwen2'\. Expected"):
        read("mistral3", text_config={"model_type": "qwen2"})


def test_a_head_that_is_not_described_is_an_error_with_its_name() -> None:
    with pytest.raises(FieldError, match=r"architectures\[0\]: found 'BertForPreTraining'"):
        read("bert", architectures=["BertForPreTraining"])
    with pytest.raises(FieldError, match=r"architectures: found 'BertModel'\. Expected a list"):
        read("bert", architectures="BertModel")


def test_images_and_sound_set_their_own_tokens() -> None:
    vit = read("vit", image_size=[32, 64], patch_size=16)
    assert vit.positions == 2 * 4 + 1
    query = Query(prompt_tokens=1000, output_tokens=1)
    graph = build_graph(vit, phase=Phase.PREFILL, query=query, precisions=Precisions())
    assert graph.tokens == 9
    whisper = read("whisper")
    heard = build_graph(whisper, phase=Phase.PREFILL, query=query, precisions=Precisions())
    assert heard.tokens == 1500
    cross = heard.operator("decoder.cross_attention")
    assert isinstance(cross, Attention)
    assert (cross.context, cross.cross, cross.causal) == (1500, True, False)


def write(folder: Path, text: str) -> Path:
    path = folder / "config.json"
    path.write_text(text, encoding="utf-8")
    return path


def test_unknown_type_names_itself_the_nearest_and_the_way_to_add_one(tmp_path: Path) -> None:
    path = write(tmp_path, json.dumps({"model_type": "qwen3moe"}))
    with pytest.raises(UnknownNameError, match=r"'qwen3moe'.*'qwen3_moe'") as caught:
        import_config(path, FAMILIES)
    assert "WorkloadFamily" in str(caught.value)


def test_an_entry_needs_no_family_where_its_type_is_known() -> None:
    entry = {"kind": "workload", "about": "x", "source": "y", "aliases": ["org/x"],
             "config": {"model_type": "opt"}}  # fmt: skip
    workload = import_entry(entry, name="x", where="x.yaml", families=FAMILIES)
    assert (workload.family, workload.source) == ("gpt", "y")
    entry["config"] = {"hidden_size": 64}
    with pytest.raises(FieldError, match=r"x\.yaml: config\.model_type: is missing"):
        import_entry(entry, name="x", where="x.yaml", families=FAMILIES)


@pytest.mark.parametrize(
    ("model_type", "config", "said"),
    [
        ("llama", {"hidden_size": 100, "num_attention_heads": 3}, "num_attention_heads: 3 heads"),
        (
            "qwen3",
            {"num_attention_heads": 6},
            r"32 key-value heads \(what the model type",
        ),
        ("gemma2", {"hidden_size": 30, "num_attention_heads": 4, "head_dim": 8}, "4 heads do not"),
        (
            "mixtral",
            {"num_local_experts": 4, "num_experts_per_tok": 5},
            "found 5. Expected at most",
        ),
        (
            "gemma3_text",
            {"layer_types": ["full_attention"]},
            "has 1 entries. Expected one for each",
        ),
        ("gpt_oss", {"num_hidden_layers": 1, "layer_types": ["odd"]}, r"layer_types\[0\]: found"),
        ("llama4", {"text_config": []}, r"text_config: found \[\]"),
        (
            "llama4",
            {"text_config": {"hidden_size": "5120"}},
            "text_config.hidden_size: found '5120'",
        ),
        ("llama", {"num_hidden_layers": 10**9}, "found 1000000000. Expected at most 100000"),
        ("bert", {"vocab_size": 10**400}, "found a number of about 400 digits"),
        ("gpt_neo", {"attention_types": [[["global"], 10**9]]}, "is no pattern"),
        ("gpt_neo", {"attention_types": [[["global"], 3]]}, "describes 3 layers"),
        ("t5", {"feed_forward_proj": "twice-gelu"}, "found 'twice-gelu'"),
        ("vit", {"patch_size": 300}, "are larger than the image"),
        ("vit", {"id2label": {}}, "a table with at least one entry"),
        ("gpt_neox", {"rotary_pct": 2}, "found 2. Expected a number from 0 to 1"),
        ("helium", {"head_dim": 64}, "20 heads of 64 are not the hidden size"),
        ("deepseek_v3", {"q_lora_rank": 0}, "q_lora_rank: found 0. Expected greater than 0"),
    ],
)
def test_contradictions_name_file_key_and_remedy(
    model_type: str, config: dict[str, Any], said: str
) -> None:
    with pytest.raises(FieldError, match=said) as caught:
        read(model_type, **config)
    assert str(caught.value).startswith("config.json: ")


KEYS = (
    "hidden_size", "n_embd", "d_model", "intermediate_size", "num_hidden_layers", "n_layer",
    "num_layers", "num_attention_heads", "n_head", "num_heads", "num_key_value_heads", "head_dim",
    "vocab_size", "max_position_embeddings", "tie_word_embeddings", "hidden_act", "layer_types",
    "sliding_window", "num_local_experts", "num_experts", "num_experts_per_tok", "n_shared_experts",
    "q_lora_rank", "kv_lora_rank", "text_config", "rope_parameters", "rotary_dim", "id2label",
    "architectures", "attention_types", "moe_layers", "no_rope_layers", "image_size", "patch_size",
    "attention_bias", "type_vocab_size", "word_embed_proj_dim", "feed_forward_proj",
)  # fmt: skip
NUMBERS = st.integers(-3, 80) | st.sampled_from([10**5, 10**9, 10**30, 2**63, -(10**300)])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.floats() | st.text(max_size=5)
    | st.sampled_from(["gelu", "full_attention", "gated-gelu", "4096"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model_type=st.sampled_from(TYPES),
    config=st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6),
)
def test_any_configuration_is_read_or_refused_within_a_second(
    model_type: str, config: dict[str, Any]
) -> None:
    begun, said, found = time.process_time(), "", None
    try:
        found = read(model_type, **config)
    except InputError as error:
        said = str(error)
    if found is None:
        assert said.startswith("config.json")
    else:
        assert parameters(found).total > 0
    assert time.process_time() - begun < 1.0


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"model_type": "llama", "x": ' + '{"x": ' * 50_000 + "1" + "}" * 50_001,
        '{"model_type": "llama", "hidden_size": 1e999}',
        '{"model_type": "llama", "hidden_size": NaN}',
        '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}",
        '{"model_type": ["llama"]}',
        '{"model_type": "' + "llama" * 100_000 + '"}',
        '{"model_type": "llama", "layer_types": "' + " " * 5_000_000 + '"}',
    ],
    ids=["open", "deep", "infinite", "nan", "digits", "list", "long", "large"],
)
def test_hostile_files_are_refused_within_a_second(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, text)
    begun = time.process_time()
    with pytest.raises(InputError, match=r"config\.json") as caught:
        import_config(path, FAMILIES)
    assert time.process_time() - begun < 1.0
    assert len(str(caught.value)) < 2000
