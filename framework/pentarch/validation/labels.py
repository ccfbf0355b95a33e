"""Names that files of measurements use for workloads, software and formats, in pentarch's words."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pentarch.catalog import Library

_ENDINGS = re.compile(r"-(instruct|chat|hf|it|fp8|nvfp4|fp4|base|edge|99(\.9)?|v0\.\d)$")

_WORKLOADS: Mapping[str, str] = MappingProxyType(
    {
        "bert-large": "bert-large", "gpt2-large": "gpt2-large", "gpt3-27": "gpt3-2.7b",
        "gpt3-xl": "gpt3-xl-3072", "opt-13": "opt-1.3b", "gptj": "gpt-j-6b", "gpt-j": "gpt-j-6b",
        "llama2-70b": "llama-2-70b", "llama2-7b": "llama-2-7b", "llama3.1-8b": "llama-3.1-8b",
        "llama3.1-405b": "llama-3.1-405b", "meta-llama-3-8b": "llama-3-8b",
        "meta-llama-3-70b": "llama-3-70b", "bloomz-7b": "bloom-7b1", "bloomz-176b": "bloom-176b",
        "gemma2-2b": "gemma-2-2b", "phi-3-3.8b": "phi-3-mini", "deepseek-v3.1": "deepseek-v3",
        "deepseek-r1-distill-14b": "deepseek-r1-distill-qwen-14b",
    }
)  # fmt: skip
"""Names that differ by more than case, owner and ending."""

_SOFTWARE: Mapping[str, str] = MappingProxyType(
    {
        "tensorrt-llm": "trtllm", "tensorrt": "trtllm", "trtllm": "trtllm", "vllm": "vllm",
        "sglang": "sglang", "llama.cpp": "llama.cpp", "ollama": "llama.cpp", "gpt-fast": "compiled",
        "tinychat": "compiled", "mlc": "compiled", "deepspeed": "deepspeed",
        "pytorch": "framework-eager", "itrex llm": "llama.cpp", "t-mac": "llama.cpp",
        "itrex pytorch": "framework-eager",
    }
)  # fmt: skip
"""Beginning of a name of software -> runtime of the catalog."""

_FORMATS: Mapping[str, str] = MappingProxyType(
    {
        "fp16/bf16": "fp16", "f16": "fp16", "q8_0": "int8", "int4": "int4_g128",
        "uint4": "int4_g128", "int4 g128": "int4_g128", "int4 g32": "q4_0", "q4_k_s": "q4_0",
        "int4_wo": "int4_g128", "fp8_block": "fp8", "fp4": "nvfp4",
    }
)  # fmt: skip
"""Format of a file -> format of pentarch; q8_0 without its scales, of which pentarch has no format."""


def plain_label(label: str) -> str:
    """Return the name of a device without trademark signs.

    Examples:
        >>> plain_label("INTEL(R) XEON(R) 6980P")
        'INTEL XEON 6980P'
    """
    return " ".join(re.sub(r"\((R|TM)\)", "", label, flags=re.IGNORECASE).split())


def workload_name(library: "Library", label: str) -> str | None:
    """Return the catalog's name of a model that a file calls `label`, `None` without one.

    Owner, case and endings such as `-Instruct` do not count.
    """
    known = library.entries["workload"]
    name = label.split("/")[-1].strip().lower().replace("_", "-").replace(" ", "-")
    while True:
        for candidate in (name, _WORKLOADS.get(name)):
            if candidate in known:
                return candidate
        shorter = _ENDINGS.sub("", name)
        if shorter == name:
            return None
        name = shorter


def runtime_name(library: "Library", software: str) -> str | None:
    """Return the runtime that stands for a software, `None` when none does."""
    name = software.strip().lower()
    if name in library.entries["runtime"]:
        return name
    return next((found for start, found in _SOFTWARE.items() if name.startswith(start)), None)


def format_name(label: str) -> str | None:
    """Return pentarch's number format for a file's, `None` without one.

    Examples:
        >>> format_name("int4 g128"), format_name("FP8"), format_name("ternary")
        ('int4_g128', 'fp8', None)
    """
    from pentarch.errors import UnknownNameError
    from pentarch.workload.formats import number_format

    name = label.strip().lower()
    try:
        return number_format(_FORMATS.get(name, name)).name
    except UnknownNameError:
        return None
