"""Everything on one device."""

from typing import ClassVar

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.plan.plan import Degrees, Placement, Plan, Stage


class SinglePartitioner(Partitioner):
    """Runs the whole graph on one device; further devices of the system each serve copies."""

    name: ClassVar[str] = "single"
    about: ClassVar[str] = "the whole model on one device; more devices hold copies (data parallel)"

    def partition(self, request: PartitionRequest) -> Plan:
        """Return the plan with one stage of one device."""
        if request.degree not in (None, 1):
            raise InputError(
                f"Partitioner 'single' puts the model on one device; a degree of {request.degree} "
                "was asked for. Leave the degree out, or use the partitioner 'tensor'."
            )
        placements = tuple(
            Placement(operator=operator.name, repeat=operator.repeat)
            for operator in request.graphs[0].operators
        )
        copies = request.system.devices
        return Plan(
            workload=request.workload.name, system=request.system.name, partitioner=self.name,
            degrees=Degrees(data=copies),
            stages=(
                Stage(
                    backend=request.backend, device=request.system.device, devices=1,
                    placements=placements,
                ),
            ),
            notes=(f"each of {copies} devices holds a copy of the model",) if copies > 1 else (),
        )  # fmt: skip
