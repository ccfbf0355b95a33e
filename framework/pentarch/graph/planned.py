"""What lowering reads of a plan (`pentarch.plan.plan`), which lives on a higher floor."""

from collections.abc import Sequence
from typing import Protocol

from pentarch.graph.operators import Collective, Split


class PlacementLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Placement`."""

    @property
    def operator(self) -> str:
        """Name of the operator."""

    @property
    def repeat(self) -> int:
        """Repeats that each copy of the stage runs."""

    @property
    def cut(self) -> Split:
        """Dimension that is cut."""

    @property
    def ways(self) -> int:
        """Parts it is cut into."""


class StageLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Stage`."""

    @property
    def copies(self) -> int:
        """Equal stages in sequence."""

    @property
    def placements(self) -> Sequence[PlacementLike]:
        """What it runs."""

    @property
    def collectives(self) -> Sequence[Collective]:
        """Communication inside the group."""

    @property
    def sends(self) -> Sequence[Collective]:
        """Hand-over to the next stage."""


class PlanLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Plan`, which lives on a higher floor."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def stages(self) -> Sequence[StageLike]:
        """In the order in which a token passes them."""

    @property
    def devices(self) -> int:
        """Devices reserved by the whole plan."""
