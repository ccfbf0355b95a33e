"""The transformer families and named workloads that pentarch ships with."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pentarch import hookimpl

if TYPE_CHECKING:
    from pentarch.contracts.catalog import Catalog
    from pentarch.contracts.workload_family import WorkloadFamily


@hookimpl
def register_workload_families() -> Iterable[type["WorkloadFamily"]]:
    """Provide the Llama and GPT families."""
    from pentarch_transformers.gpt import GptFamily
    from pentarch_transformers.llama import LlamaFamily

    return [LlamaFamily, GptFamily]


@hookimpl
def register_catalogs() -> Iterable["Catalog"]:
    """Provide the named workloads."""
    from pentarch.contracts.catalog import Catalog

    return [Catalog(kind="workload", package="pentarch_transformers.workloads")]
