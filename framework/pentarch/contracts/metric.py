"""The metric contract: a further figure of an evaluation, usable as an objective."""

from abc import ABC, abstractmethod
from typing import ClassVar

from pentarch.results import Evaluation


class Metric(ABC):
    """A figure computed from an evaluation."""

    name: ClassVar[str]
    """Unique among figures, with the unit suffix, for example `"carbon_kg_per_query"`."""
    about: ClassVar[str]
    """One line for lists: meaning and unit."""
    higher_is_better: ClassVar[bool] = False
    """Direction of improvement."""

    @abstractmethod
    def value(self, evaluation: Evaluation) -> float | None:
        """Return the figure, or `None` when something it needs is unknown."""
