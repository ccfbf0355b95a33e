"""The partitioner contract: from a graph and a system to plans."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

from pentarch.hardware.machine import MachineTable
from pentarch.hardware.system import System
from pentarch.plan.plan import Plan
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

if TYPE_CHECKING:
    from pentarch.graph.graph import WorkloadGraph


@dataclass(frozen=True, slots=True)
class PlanCost:
    """What a coster says about a plan; for one design."""

    fits: bool
    """Whether weights, KV cache and activations fit every device."""
    reason: str
    """The arithmetic when they do not."""
    ttft_s: float
    """Time to first token."""
    tpot_s: float
    """Time per later token."""
    collective_s: float
    """The part of one decode step that is communication."""


class Coster(Protocol):
    """The engine as a partitioner sees it: what does a plan cost on this system?"""

    def cost(self, plan: Plan) -> PlanCost:
        """Return the cost of `plan` for the workload and query being partitioned."""


@dataclass(frozen=True, slots=True, eq=False)
class PartitionRequest:
    """What is to be partitioned."""

    workload: Workload
    """The model."""
    graphs: "tuple[WorkloadGraph, ...]"
    """Folded graphs: prefill, and decode at its last context if there is one."""
    query: Query
    """Lengths and load."""
    precisions: Precisions
    """Number formats."""
    system: System
    """What there is to run on."""
    backend: str
    """Back-end of the system's devices."""
    machine: MachineTable
    """One device of the system (N = 1)."""
    coster: Coster
    """Answers what a candidate costs."""
    degree: int | None = None
    """Degree that the user asked for; `None` leaves it to the partitioner."""


class Partitioner(ABC):
    """Cuts a workload graph for the devices of a system. Instances hold no state."""

    name: ClassVar[str]
    """Unique among partitioners, for example `"tensor"`."""
    about: ClassVar[str]
    """One line for lists."""

    @abstractmethod
    def partition(self, request: PartitionRequest) -> Plan:
        """Return the plan that this partitioner prefers.

        Raises:
            InputError: The request asks for what cannot be: a degree larger than the system.
        """

    def candidates(self, request: PartitionRequest) -> Iterator[Plan]:
        """Yield the plans worth comparing; by default only the preferred one."""
        yield self.partition(request)
