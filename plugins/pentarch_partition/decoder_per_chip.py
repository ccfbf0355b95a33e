"""One decoder block per device, the devices in sequence.

The mapping of the article behind the project: a model of 96 decoders on 96 chips, 12 systems of 8.
A token hops from device to device; a hop inside a board is cheaper than one between systems, and
each is itemized.
"""

from collections.abc import Sequence
from typing import ClassVar

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.graph.operators import Attention, Collective, Gather, Gemm, Vector
from pentarch.plan.plan import Degrees, Placement, Plan, Stage

AnyOperator = Gemm | Attention | Vector | Gather | Collective


class DecoderPerChipPartitioner(Partitioner):
    """Puts each decoder block on a device of its own; embedding and head join the first and last."""

    name: ClassVar[str] = "decoder-per-chip"
    about: ClassVar[str] = (
        "one decoder block per device, in sequence; hops inside and between boards"
    )

    def partition(self, request: PartitionRequest) -> Plan:
        """Return the plan with one stage per decoder block.

        Raises:
            InputError: The system has not exactly one device (or a multiple) for each block, or the
                workload has an encoder, whose blocks have no place in the sequence of decoders.
        """
        if request.workload.encoder is not None:
            raise InputError(
                f"{request.workload.name} has an encoder in front of its decoder. Partitioner "
                "'decoder-per-chip' knows decoders only: every one would need the encoder's output. Use "
                "the partitioner 'tensor' or 'single'."
            )
        blocks = _blocks(request)
        devices = request.system.devices
        if devices < blocks or devices % blocks:
            raise InputError(
                f"{request.workload.name} has {blocks} decoder blocks and {request.system.name} "
                f"{devices} devices. One block per device needs {blocks} devices or a multiple: try "
                f"`{blocks}x{request.system.device}`."
            )
        if request.degree not in (None, 1):
            raise InputError(
                "Partitioner 'decoder-per-chip' does not cut operators. Leave the degree out."
            )
        board = _board_size(request)
        crossings = (blocks - 1) // board
        stages = _stages(request, blocks=blocks, board=board, crossings=crossings)
        return Plan(
            workload=request.workload.name, system=request.system.name, partitioner=self.name,
            degrees=Degrees(pipeline=blocks, data=devices // blocks), stages=stages,
            notes=(
                f"{blocks - 1 - crossings} hops inside boards of {board}, {crossings} between boards",
            ),
        )  # fmt: skip


def _blocks(request: PartitionRequest) -> int:
    return sum(group.count for group in request.workload.layers)


def _board_size(request: PartitionRequest) -> int:
    """Return the devices that the innermost link joins, or the whole system without a second link."""
    if request.system.devices_per_board is not None:
        return request.system.devices_per_board
    links = request.machine.links
    return int(links[0].degree[0]) if links else request.system.devices


def _stages(
    request: PartitionRequest, *, blocks: int, board: int, crossings: int
) -> tuple[Stage, ...]:
    """Return the stages; those between the first and the last are grouped by the hop behind them."""
    operators: Sequence[AnyOperator] = request.graphs[0].operators
    layers = [operator for operator in operators if operator.layer]
    names = [operator.name for operator in operators]
    first_layer = min(names.index(operator.name) for operator in layers)
    before = [op for op in operators[:first_layer] if not op.layer]
    after = [op for op in operators[first_layer:] if not op.layer]
    stages: list[Stage] = []
    remaining = crossings
    for number, group in enumerate(request.workload.layers):
        inside = [op for op in layers if op.layer == group.name]
        is_first, is_last = number == 0, number == len(request.workload.layers) - 1
        count = group.count
        if blocks == 1:
            return (_stage(request, [*before, *inside, *after], copies=1, span=None),)
        if is_first:
            stages.append(_stage(request, [*before, *inside], copies=1, span=2))
            count -= 1
        if is_last:
            count -= 1
        crossing = min(remaining, count)
        remaining -= crossing
        if count - crossing:
            stages.append(_stage(request, inside, copies=count - crossing, span=2))
        if crossing:
            stages.append(_stage(request, inside, copies=crossing, span=board + 1))
        if is_last:
            stages.append(_stage(request, [*inside, *after], copies=1, span=None))
    return tuple(stages)


def _stage(
    request: PartitionRequest, operators: Sequence[AnyOperator], *, copies: int, span: int | None
) -> Stage:
    """Return equal stages; `span` is the number of devices among which the next one lies."""
    label = operators[0].name
    sends = () if span is None else (
        Collective(
            name=f"{label}.send_{span}", function="send", values=request.workload.hidden,
            format=request.precisions.hidden, degree=span,
        ),
    )  # fmt: skip
    return Stage(
        backend=request.backend, device=request.system.device, devices=1, copies=copies,
        placements=tuple(Placement(operator=op.name, repeat=1) for op in operators), sends=sends,
    )  # fmt: skip
