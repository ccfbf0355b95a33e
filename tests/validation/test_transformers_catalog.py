"""Every named workload against the model that transformers builds, and against what is published."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.validation.transformers_models import Variant, build, load, write_sparse

from pentarch.catalog import default_library
from pentarch.documents import read_document
from pentarch.workload.parameters import ParameterCounts, parameters

PUBLISHED_FILE = Path(__file__).parent / "models" / "published_parameters.csv"
LIBRARY = default_library()
NAMES = [entry.name for entry in LIBRARY.names("workload") if entry.plugin == "transformers"]
GUESSES = {"gpt4-dense", "gpt4-moe"}
UNPUBLISHED = {"gpt3-xl-3072", *GUESSES}
"""Entries whose count nobody published."""
OWN_WORDS = {"gpt3-xl", "gpt3-2.7b", "gpt3-6.7b", "gpt3-13b", "gpt3-175b", *UNPUBLISHED}
"""Entries that no configuration of transformers describes."""
MORE_KEYS: dict[str, dict[str, Any]] = {"glm": {"pad_token_id": 0}}
"""Keys beside the dimensions, where the default of transformers is beyond a small vocabulary."""

ACTIVE = {  # billions of parameters that a token meets, and how far "about" goes
    "mixtral-8x7b": (12.9, 0.005),  # Jiang et al. 2024, section 1
    "mixtral-8x22b": (39, 0.005),  # Mistral AI, Cheaper, better, faster, stronger, 2024
    "deepseek-v2": (21, 0.02),  # DeepSeek-AI 2024, abstract
    "deepseek-v3": (37, 0.02),  # DeepSeek-AI 2024, abstract
    "qwen3-30b-a3b": (3.3, 0.02),  # model card
    "qwen3-235b-a22b": (22, 0.02),  # model card
    "llama-4-scout-17b-16e": (17, 0.02),  # model card
    "llama-4-maverick-17b-128e": (17, 0.02),  # model card
}

LABELS = {  # how published measurements call models
    "Llama-2-7B": "llama-2-7b", "Llama-3-8B": "llama-3-8b", "Llama-2-70B": "llama-2-70b",
    "GPT-J-6B": "gpt-j-6b", "Llama-7B": "llama-7b", "Llama-3-70B": "llama-3-70b",
    "Llama-3.1-8B": "llama-3.1-8b", "Llama-3.2-3B": "llama-3.2-3b",
    "Llama-3.3-70B": "llama-3.3-70b", "Falcon-180B": "falcon-180b", "Llama-2-13B": "llama-2-13b",
    "Qwen2-0.5B": "qwen2-0.5b", "TinyLlama-1.1B": "tinyllama-1.1b", "Phi-3-3.8B": "phi-3-mini",
    "ChatGLM3-6B": "chatglm3-6b", "Llama-3.1-405B": "llama-3.1-405b", "BLOOMZ-7B": "bloom-7b1",
    "Mixtral-8x7B": "mixtral-8x7b", "Mistral-7B": "mistral-7b", "Llama-3.1-70B": "llama-3.1-70b",
    "DeepSeek-R1-Distill-14B": "deepseek-r1-distill-qwen-14b", "Qwen3-8B": "qwen3-8b",
    "Qwen3-32B": "qwen3-32b", "Llama-3.2-1B": "llama-3.2-1b", "Qwen2.5-1.5B": "qwen2.5-1.5b",
    "Gemma2-2B": "gemma-2-2b", "BLOOMZ-176B": "bloom-176b", "Qwen2.5-0.5B": "qwen2.5-0.5b",
    "CodeLlama-34B": "codellama-34b", "Llama-65B": "llama-65b", "llama2-70b-99": "llama-2-70b",
    "llama2-70b-99.9": "llama-2-70b", "gptj-99": "gpt-j-6b", "gptj-99.9": "gpt-j-6b",
    "llama3.1-405b": "llama-3.1-405b", "llama3.1-8b": "llama-3.1-8b",
    "llama3.1-8b-edge": "llama-3.1-8b", "deepseek-r1": "deepseek-r1",
    "deepseek-ai/DeepSeek-R1": "deepseek-r1", "deepseek-ai/DeepSeek-V3": "deepseek-v3",
    "Qwen/Qwen3-32B": "qwen3-32b", "meta-llama/Llama-3.1-70B": "llama-3.1-70b",
    "MiniMaxAI/MiniMax-M2.5": "minimax-m2.5", "openai/gpt-oss-120b": "gpt-oss-120b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b", "moonshotai/Kimi-K2.5": "kimi-k2.5",
    "Qwen/Qwen3-235B-A22B-FP8": "qwen3-235b-a22b", "nvidia/DeepSeek-R1-NVFP4": "deepseek-r1",
    "bert_large": "bert-large", "gpt2_large": "gpt2-large", "opt_13": "opt-1.3b",
    "gpt3_27": "gpt3-2.7b", "gpt3_xl": "gpt3-xl", "Qwen/Qwen-72B": "qwen-72b",
    "codellama/CodeLlama-34b-Instruct-hf": "codellama-34b", "microsoft/phi-2": "phi-2",
    "internlm/internlm-20b": "internlm-20b", "meta-llama/Llama-2-70b-hf": "llama-2-70b",
    "nvidia/Qwen3-32B-NVFP4": "qwen3-32b", "nvidia/DeepSeek-V3.1-NVFP4": "deepseek-v3",
}  # fmt: skip


def published() -> Iterator[tuple[str, str]]:
    with PUBLISHED_FILE.open(encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(line for line in stream if not line.startswith("#"))
        yield from ((row["name"], row["billions"]) for row in rows)


def counts(name: str) -> ParameterCounts:
    return parameters(LIBRARY.workload(name))


def test_every_named_workload_has_a_published_count() -> None:
    assert {name for name, _ in published()} == set(NAMES) - UNPUBLISHED
    assert len(NAMES) >= 60


@pytest.mark.parametrize(("name", "billions"), list(published()))
def test_parameters_are_those_that_are_published(name: str, billions: str) -> None:
    decimals = len(billions.partition(".")[2])

    assert round(counts(name).total / 1e9, decimals) == float(billions)


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_those_that_are_published(name: str) -> None:
    billions, relative = ACTIVE[name]

    assert counts(name).active / 1e9 == pytest.approx(billions, rel=relative)


@pytest.mark.usefixtures("transformers_installed")
@pytest.mark.filterwarnings("ignore:::(torch|transformers|huggingface_hub)")
@pytest.mark.parametrize("name", sorted(set(NAMES) - OWN_WORDS))
def test_parameters_are_those_of_the_model_in_transformers(name: str, tmp_path: Path) -> None:
    entry = LIBRARY.entries["workload"][name]
    assert entry.file is not None
    config = dict(read_document(entry.file, where=entry.where).values["config"])
    model_type = config.pop("model_type")
    path = write_sparse(Variant(model_type, config), tmp_path, **MORE_KEYS.get(model_type, {}))

    assert counts(name).total == build(load(path)).num_parameters()


@pytest.mark.parametrize(("label", "name"), list(LABELS.items()))
def test_labels_of_published_measurements_find_their_workload(label: str, name: str) -> None:
    assert LIBRARY.workload(label).name == name
