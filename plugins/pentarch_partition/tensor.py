"""Tensor parallelism: every operator is cut among all devices of the group.

The cut of Shoeybi et al., Megatron-LM, 2019, section 3: projections into heads and into the
feed-forward hidden layer are cut by columns, those out of them by rows, so that each block needs
one all-reduce of its output. The LM head is cut by columns, and its logits are gathered.
"""

from typing import ClassVar, Literal

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.graph.operators import Attention, Collective, Gather, Gemm, Split
from pentarch.plan.plan import Degrees, Placement, Plan, Stage


class TensorPartitioner(Partitioner):
    """Cuts every operator among the devices of one group, with all-reduces between."""

    name: ClassVar[str] = "tensor"
    about: ClassVar[str] = (
        "each operator cut among all devices, all-reduce after each block (Megatron)"
    )

    def partition(self, request: PartitionRequest) -> Plan:
        """Return the plan with one stage whose devices cut every operator.

        Raises:
            InputError: The degree is below 1, larger than the system, or does not divide it.
        """
        degree = request.system.devices if request.degree is None else request.degree
        _check_degree(degree, request.system.devices)
        operators = request.graphs[0].operators
        placements = tuple(
            Placement(
                operator=operator.name, repeat=operator.repeat, cut=operator.split,
                ways=1 if operator.split is Split.NONE else degree,
            )
            for operator in operators
        )  # fmt: skip
        copies = request.system.devices // degree
        return Plan(
            workload=request.workload.name, system=request.system.name, partitioner=self.name,
            degrees=Degrees(tensor=degree, data=copies),
            stages=(
                Stage(
                    backend=request.backend, device=request.system.device, devices=degree,
                    placements=placements, collectives=_collectives(request, degree),
                ),
            ),
            notes=_notes(request, degree),
        )  # fmt: skip


def _check_degree(degree: int, devices: int) -> None:
    if degree < 1 or degree > devices or devices % degree:
        raise InputError(
            f"A tensor degree of {degree} does not divide the {devices} devices of the system. "
            "Choose a divisor, or another number of devices."
        )


def _collectives(request: PartitionRequest, degree: int) -> tuple[Collective, ...]:
    """Return the all-reduce after each row cut, and the gathers of embeddings and logits."""
    if degree == 1:
        return ()
    found: list[Collective] = []
    for operator in request.graphs[0].operators:
        if isinstance(operator, Gemm) and operator.split is Split.ROWS:
            found.append(_after(operator, "all_reduce", request.workload.hidden, request, degree))
        elif (
            isinstance(operator, Gather)
            and operator.function == "embedding"
            and operator.split is Split.VALUES
        ):
            found.append(_after(operator, "all_gather", request.workload.hidden, request, degree))
        elif isinstance(operator, Gemm) and operator.split is Split.COLUMNS and not operator.layer:
            found.append(_after(operator, "all_gather", operator.n, request, degree))
    return tuple(found)


def _after(
    operator: Gemm | Gather, function: Literal["all_reduce", "all_gather"], values: int,
    request: PartitionRequest, degree: int,
) -> Collective:  # fmt: skip
    """Return a collective on an operator's output; logits are those of one token per step."""
    is_head = isinstance(operator, Gemm) and not operator.layer
    return Collective(
        name=f"{operator.name}.{function}", layer=operator.layer, repeat=operator.repeat,
        function=function, values=values, format=request.precisions.hidden, degree=degree,
        per_token=not is_head,
    )  # fmt: skip


def _notes(request: PartitionRequest, degree: int) -> tuple[str, ...]:
    replicated = {
        operator.kv_heads
        for operator in request.graphs[0].operators
        if isinstance(operator, Attention) and operator.kv_heads < degree
    }
    return tuple(
        f"{heads} key-value heads are fewer than the tensor degree {degree}: each is replicated"
        for heads in sorted(replicated)
    )
