"""Tensor parallelism: every operator is cut among all devices of the group.

The cut of Shoeybi et al., Megatron-LM, 2019, section 3: projections into heads and into the
feed-forward hidden layer are cut by columns, those out of them by rows, so that each block needs
one all-reduce of its output; blocks whose outputs are added need one together
(`pentarch.plan.reductions`). The LM head is cut by columns, and its logits are gathered.
"""

from typing import ClassVar, Literal

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.graph.operators import Attention, Collective, Gather, Gemm, Split
from pentarch.plan.plan import Degrees, Placement, Plan, Stage
from pentarch.plan.reductions import reductions


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
    """Return the all-reduce after each sum of row cuts, and the gathers of embeddings and logits.

    An all-reduce is named for the last operator whose partial sums it reduces.
    """
    if degree == 1:
        return ()
    found: list[Collective] = []
    reduced = {reduction.last.name for reduction in reductions(request.graphs[0])}
    for operator in request.graphs[0].operators:
        if isinstance(operator, Gemm) and operator.name in reduced:
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
    heads_notes = tuple(
        f"{heads} key-value heads are fewer than the tensor degree {degree}: each is replicated"
        for heads in sorted(replicated)
    )
    return heads_notes + _sum_notes(request, degree)


def _sum_notes(request: PartitionRequest, degree: int) -> tuple[str, ...]:
    """Return which operators share an all-reduce, once for all layer groups."""
    if degree == 1:
        return ()
    shared = {
        tuple(gemm.name.removeprefix(f"{gemm.layer}.") for gemm in reduction.gemms): None
        for reduction in reductions(request.graphs[0])
        if len(reduction.gemms) > 1
    }
    return tuple(
        f"partial sums of {' and '.join(names)} are added on each device and reduced once"
        for names in shared
    )
