"""The transformer families and named workloads that pentarch ships with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pentarch import hookimpl

if TYPE_CHECKING:
    from pentarch.contracts.catalog import Catalog
    from pentarch.contracts.workload_family import WorkloadFamily


@hookimpl
def register_workload_families() -> Iterable[type["WorkloadFamily"]]:
    """Provide the families, from decoders to encoders of images."""
    from pentarch_transformers.bert import BertFamily
    from pentarch_transformers.deepseek import DeepseekFamily
    from pentarch_transformers.falcon import FalconFamily
    from pentarch_transformers.gemma import GemmaFamily
    from pentarch_transformers.glm import CohereFamily, GlmFamily, GptOssFamily
    from pentarch_transformers.gpt import GptFamily
    from pentarch_transformers.llama import LlamaFamily
    from pentarch_transformers.olmo import OlmoFamily, StarcoderFamily
    from pentarch_transformers.phi import PhiFamily
    from pentarch_transformers.qwen import QwenFamily
    from pentarch_transformers.seed import SeedFamily
    from pentarch_transformers.t5 import T5Family, WhisperFamily
    from pentarch_transformers.vit import VitFamily

    return [
        LlamaFamily, GptFamily, QwenFamily, GemmaFamily, PhiFamily, DeepseekFamily, GptOssFamily,
        GlmFamily, CohereFamily, FalconFamily, OlmoFamily, StarcoderFamily, SeedFamily, BertFamily, T5Family,
        WhisperFamily, VitFamily,
    ]  # fmt: skip


@hookimpl
def register_catalogs() -> Iterable["Catalog"]:
    """Provide the named workloads."""
    from pentarch.contracts.catalog import Catalog

    return [Catalog(kind="workload", package="pentarch_transformers.workloads")]
