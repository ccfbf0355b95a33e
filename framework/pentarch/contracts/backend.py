"""The back-end contract: describe a machine; the engine costs operators on the description."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic, TypeVar

from pentarch.graph.operators import OperatorKind
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.priors import Prior
from pentarch.hardware.view import View
from pentarch.mapping.costs import Fidelity, RowCosts, RowRequest, SegmentCosts, SegmentRequest

__all__ = [
    "AnyBackend",
    "Backend",
    "Fidelity",
    "Prior",
    "RowCosts",
    "RowRequest",
    "SegmentCosts",
    "SegmentRequest",
]

D = TypeVar("D", bound=Device)


class Backend(ABC, Generic[D]):
    """A class of hardware.

    Describe the machine and, where the back-end knows better than the engine, cost rows or
    segments itself. Instances are made without arguments and hold no state.
    """

    name: ClassVar[str]
    """Unique among back-ends, for example `"gpu"`."""
    about: ClassVar[str]
    """One line for lists."""
    device_model: ClassVar[type[Any]]
    """The `Device` subclass that holds this class's parameters."""
    fidelity: ClassVar[Fidelity] = Fidelity.ANALYTICAL
    """How its costs are found."""
    operators: ClassVar[frozenset[OperatorKind]] = frozenset(OperatorKind)
    """Kinds of operators that it can run."""
    batch: ClassVar[bool] = True
    """Whether its methods take batches; if not, the framework calls them design by design."""
    calibrated: ClassVar[frozenset[str]] = frozenset()
    """Fields of the device model that a fit to measurements may set (`hardware.calibration`)."""
    family_field: ClassVar[str | None] = None
    """Field of the device model that names the family whose devices share what a fit finds; `None`
    without families."""

    @abstractmethod
    def machine(self, device: View[D]) -> MachineTable:
        """Describe one design or a batch of them.

        Args:
            device: N designs; its numbers are float64[N].

        Returns:
            N machines of one structure.
        """

    def priors(self, device: D) -> Mapping[str, Prior]:
        """Return what to expect of the figures that a fit may set, by field or `field.key`.

        Args:
            device: As its file states it, before any fit; the prior may follow from its datasheet.
        """
        return {}

    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        """Cost rows of one kind, or return `None` to leave them to the engine."""
        return None

    def cost_segment(self, request: SegmentRequest) -> SegmentCosts | None:
        """Cost all rows of a phase together, or return `None` to have them costed one by one."""
        return None


AnyBackend = Backend[Any]
"""A back-end of any device model."""
