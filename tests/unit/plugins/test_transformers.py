import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml

from pentarch.errors import FieldError
from pentarch.workload.importing import import_config, import_entry
from pentarch.workload.parameters import parameters
from pentarch.workload.workload import (
    Activation,
    ExpertFeedForward,
    NormKind,
    PositionEmbedding,
    Workload,
)
from pentarch_transformers import plugin
from pentarch_transformers.gpt import GptFamily
from pentarch_transformers.llama import LlamaFamily

PUBLISHED = {  # billions of parameters, and the digits they are given with
    # LLaMA, 2023, table 2
    "llama-7b": (6.7, 1), "llama-13b": (13.0, 1), "llama-33b": (32.5, 1), "llama-65b": (65.3, 1),
    # model cards of Llama 3.1, 3.2 and 3.3
    "llama-3.1-8b": (8.03, 2), "llama-3.1-70b": (70.6, 1), "llama-3.1-405b": (406, 0),
    "llama-3.2-1b": (1.24, 2), "llama-3.2-3b": (3.21, 2), "llama-3.3-70b": (70.6, 1),
}  # fmt: skip

FAMILIES = {family.name: family for family in (LlamaFamily(), GptFamily())}
ENTRIES = {
    entry.name.removesuffix(".yaml"): entry.read_text(encoding="utf-8")
    for entry in resources.files("pentarch_transformers.workloads").iterdir()
    if entry.name.endswith(".yaml")
}


def named(name: str) -> Workload:
    entry = yaml.safe_load(ENTRIES[name])
    return import_entry(entry, name=name, where=f"{name}.yaml", families=FAMILIES)


def gpt_count(layers: int, hidden: int, vocab: int, positions: int) -> int:
    """Return the parameters of a GPT with a feed-forward block four times as wide as `hidden`."""
    layer = 12 * hidden * hidden + 13 * hidden
    return layers * layer + (vocab + positions + 2) * hidden


# Llama: the counts of the published checkpoints. GPT: the closed form of the architecture; for the
# experts 15 more blocks of two h x 4h matrices with biases, and a router, in each layer.
COUNTS = {
    "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496,
    "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320,
    "llama-2-70b": 68_976_648_192,
    "gpt2-xl": 1_557_611_200,
    "gpt3-175b": gpt_count(96, 12288, 50257, 2048),
    "gpt4-dense": gpt_count(96, 38400, 100277, 8192),
    "gpt4-moe": gpt_count(120, 10752, 100277, 8192)
    + 120 * (15 * (8 * 10752**2 + 5 * 10752) + 16 * 10752),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_agree_with_the_published_count(name: str) -> None:
    billions, digits = PUBLISHED[name]
    assert round(parameters(named(name)).total / 1e9, digits) == billions


@pytest.mark.parametrize("name", sorted(COUNTS))
def test_named_workload_has_its_known_count(name: str) -> None:
    workload = named(name)
    assert parameters(workload).total == COUNTS[name]
    assert workload.name == name
    assert (workload.source is None) == name.startswith("gpt4")
    assert (workload.assumption is None) != name.startswith("gpt4")


def test_sizes_are_those_that_the_models_are_known_by() -> None:
    # billions of parameters; GPT-4: about 1.7 T if dense, 1.8 T if a mixture
    known = {"gpt2-xl": 1.5, "gpt3-175b": 175, "gpt4-dense": 1700, "gpt4-moe": 1800}
    for name, billions in known.items():
        assert parameters(named(name)).total / 1e9 == pytest.approx(billions, rel=0.04), name


def test_gpt4_mixture_runs_two_of_sixteen_experts() -> None:
    workload = named("gpt4-moe")
    counts = parameters(workload)
    block = workload.layers[0].layer.feed_forward
    assert isinstance(block, ExpertFeedForward)
    assert (block.experts, block.experts_per_token) == (16, 2)
    assert counts.total - counts.active == 120 * 14 * (8 * 10752**2 + 5 * 10752)


def test_families_build_what_they_are_known_for() -> None:
    llama, gpt = named("llama-3-8b"), named("gpt3-175b")
    layer = llama.layers[0].layer
    assert (llama.depth, llama.hidden, llama.tied) == (32, 4096, False)
    assert (layer.attention.heads, layer.attention.kv_heads) == (32, 8)
    assert layer.attention.rotary_dim == layer.attention.head_dim == 128
    assert layer.attention_norm is not None
    assert layer.attention_norm.kind is NormKind.RMS
    assert llama.position_embedding is PositionEmbedding.NONE
    assert gpt.position_embedding is PositionEmbedding.LEARNED
    assert gpt.tied
    assert gpt.layers[0].layer.attention.qkv_bias
    assert gpt.layers[0].layer.attention.rotary_dim == 0


def write(folder: Path, **config: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def test_llama_config_equals_the_catalog_entry(tmp_path: Path) -> None:
    path = write(
        tmp_path, model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=128256,
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=8192, rms_norm_eps=1e-5,
        rope_scaling=None, torch_dtype="bfloat16", tie_word_embeddings=False,
    )  # fmt: skip
    workload, entry = import_config(path, FAMILIES), named("llama-3-8b")
    assert workload.layers == entry.layers
    assert parameters(workload) == parameters(entry)


def test_llama_config_without_dimensions_is_the_library_default(tmp_path: Path) -> None:
    # Those defaults are Llama 7B: multi-head, 11008 wide, 32000 tokens, 2048 positions.
    workload = import_config(write(tmp_path, model_type="llama"), FAMILIES)
    assert parameters(workload).total == COUNTS["llama-2-7b"]
    assert workload.positions == 2048


def test_llama_config_states_head_width_biases_and_activation(tmp_path: Path) -> None:
    path = write(
        tmp_path, model_type="llama", hidden_size=100, num_attention_heads=8, head_dim=16,
        num_key_value_heads=None, intermediate_size=32, num_hidden_layers=1, vocab_size=10,
        attention_bias=True, mlp_bias=True, hidden_act="gelu_pytorch_tanh",
        tie_word_embeddings=True,
    )  # fmt: skip
    workload = import_config(path, FAMILIES)
    assert workload.layers[0].layer.feed_forward.activation is Activation.GELU  # type: ignore[union-attr]  # dense
    # q, k, v of 128 with biases, o of 128 x 100 with one; three 100 x 32 with biases; three norms
    attention = 3 * (100 * 128 + 128) + 128 * 100 + 100
    feed_forward = 2 * (100 * 32 + 32) + 32 * 100 + 100
    assert parameters(workload).total == attention + feed_forward + 3 * 100 + 10 * 100


def test_gpt2_config_equals_the_catalog_entry(tmp_path: Path) -> None:
    path = write(
        tmp_path, model_type="gpt2", n_layer=48, n_embd=1600, n_head=25, n_inner=None,
        n_positions=1024, n_ctx=1024, vocab_size=50257, activation_function="gelu_new",
        attn_pdrop=0.1,
    )  # fmt: skip
    workload = import_config(path, FAMILIES)
    assert workload.layers == named("gpt2-xl").layers
    assert parameters(workload).total == COUNTS["gpt2-xl"]


def test_gpt2_config_without_dimensions_is_gpt2_small(tmp_path: Path) -> None:
    workload = import_config(write(tmp_path, model_type="gpt2"), FAMILIES)
    assert parameters(workload).total == 124_439_808


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"num_hidden_layers": "32"}, "num_hidden_layers: found '32'. Expected a valid integer"),
        ({"num_hidden_layers": 12.5}, "num_hidden_layers: found 12.5. Expected a valid integer"),
        ({"num_hidden_layers": 12.0}, "num_hidden_layers: found 12.0. Expected a valid integer"),
        ({"num_hidden_layers": True}, "num_hidden_layers: found True. Expected a valid integer"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: found 0. Expected greater than 0"),
        ({"num_hidden_layers": None}, "num_hidden_layers: found None. Expected a valid integer"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings: found 1. Expected a valid boolean"),
        ({"num_key_value_heads": 5}, "num_key_value_heads: 5 key-value heads do not divide 32"),
        ({"num_attention_heads": 3}, "num_attention_heads: 3 heads do not divide .* 4096"),
        ({"hidden_act": "prelu"}, "hidden_act: found 'prelu'. Expected 'silu', "),
    ],
)
def test_wrong_llama_values_name_file_field_and_remedy(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    path = write(tmp_path, model_type="llama", **config)
    with pytest.raises(FieldError, match=said) as caught:
        import_config(path, FAMILIES)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"layers": None}, r"m\.yaml: config\.layers: found None"),
        ({"heads": 7}, r"m\.yaml: config\.heads: 7 heads do not divide the hidden size 64"),
        ({"kv_heads": 3}, r"m\.yaml: config\.kv_heads: 3 key-value heads do not divide 4"),
        ({"experts": 4}, r"m\.yaml: config\.experts_per_token: is missing"),
        ({"experts_per_token": 4}, r"m\.yaml: config\.experts: is missing"),
        ({"experts": 4, "experts_per_token": 5}, r"config\.experts_per_token: found 5"),
        ({"model_type": "gpt2", "add_cross_attention": True}, "add_cross_attention: found True"),
    ],
)
def test_wrong_gpt_values_name_file_field_and_remedy(config: dict[str, Any], said: str) -> None:
    right = {"layers": 2, "hidden": 64, "heads": 4, "ffn": 256, "vocab": 1000, "positions": 128}
    entry = {"kind": "workload", "about": "x", "family": "gpt", "source": "y"}
    with pytest.raises(FieldError, match=said):
        import_entry({**entry, "config": {**right, **config}}, name="m", where="m.yaml",
                     families=FAMILIES)  # fmt: skip


def test_plugin_hands_over_its_families_and_catalog() -> None:
    families = list(plugin.register_workload_families())
    assert families[:2] == [LlamaFamily, GptFamily]
    types = [kind for family in families for kind in family.model_types]
    assert len(types) == len(set(types)) >= 60  # no two read the same configuration
    (catalog,) = plugin.register_catalogs()
    assert (catalog.kind, catalog.package) == ("workload", "pentarch_transformers.workloads")
