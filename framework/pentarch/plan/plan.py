"""The plan: what a partitioner returns and everything after it reads.

A plan is made of stages in the order in which a token passes them. A stage is a group of devices
that run the same operators side by side; equal stages in sequence are written once with a count.
Operators are named as in the folded graph, so that a plan for 96 layers is as small as for two.
"""

from pydantic import Field, PositiveInt

from pentarch.graph.operators import Collective, Split
from pentarch.model import Model


class Degrees(Model):
    """Number of devices that share the work, by kind of parallelism."""

    tensor: PositiveInt = 1
    """Devices that cut each operator (TP)."""
    pipeline: PositiveInt = 1
    """Stages in sequence (PP)."""
    expert: PositiveInt = 1
    """Devices that share the experts (EP)."""
    data: PositiveInt = 1
    """Copies of everything, each with its own queries (DP)."""

    @property
    def devices(self) -> int:
        """Devices that the degrees ask for; experts are shared among the tensor group."""
        return self.tensor * self.pipeline * self.data


class Placement(Model):
    """One operator of the folded graph on a stage."""

    operator: str
    """Name of the operator."""
    repeat: PositiveInt
    """How many of the operator's repeats each of the stage's equal copies runs."""
    cut: Split = Split.NONE
    """Dimension that the stage's devices cut."""
    ways: PositiveInt = 1
    """Parts it is cut into; 1 means that every device runs all of it."""


class Stage(Model):
    """A group of devices that run the same operators, cut among them."""

    backend: str
    """Back-end of its devices."""
    device: str
    """Device model of the group, by name."""
    devices: PositiveInt
    """Devices in the group."""
    copies: PositiveInt = 1
    """Equal stages of this kind in sequence; each has its own devices and its own repeats."""
    placements: tuple[Placement, ...]
    """What it runs."""
    collectives: tuple[Collective, ...] = ()
    """Communication inside the group; `repeat` counts per copy and step."""
    sends: tuple[Collective, ...] = ()
    """Hand-over to the next stage, once a step."""


class Plan(Model):
    """A mapping of a workload graph onto the devices of a system."""

    workload: str
    """Name of the workload."""
    system: str
    """Name of the system."""
    partitioner: str
    """Who made it."""
    degrees: Degrees
    """Degrees of parallelism."""
    stages: tuple[Stage, ...] = Field(min_length=1)
    """In the order in which a token passes them."""
    notes: tuple[str, ...] = ()
    """What the partitioner wants its reader to know: clipped degrees, replicated heads."""

    @property
    def devices(self) -> int:
        """Devices reserved by the whole plan."""
        return self.degrees.data * sum(stage.devices * stage.copies for stage in self.stages)
