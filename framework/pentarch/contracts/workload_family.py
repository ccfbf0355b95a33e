"""The workload-family contract: from a model configuration to a workload."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from pentarch.workload.workload import Workload


class WorkloadFamily(ABC):
    """Reads the configurations of one family of transformers. Instances hold no state."""

    name: ClassVar[str]
    """Unique among families, for example `"llama"`."""
    about: ClassVar[str]
    """One line for lists."""
    model_types: ClassVar[frozenset[str]]
    """Values of `model_type` in a config.json that this family reads."""

    @abstractmethod
    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        """Return the workload that a configuration describes.

        Args:
            config: The parsed configuration, unchecked.
            name: Name for the workload.
            where: File that the configuration comes from, for errors.

        Raises:
            FieldError: A field is missing or wrong.
        """
