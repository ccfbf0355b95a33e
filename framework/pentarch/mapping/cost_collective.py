"""Cost of collective rows: links, and nothing else."""

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from pentarch.graph.table import CollectiveTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.collectives import collective_cost, links_for
from pentarch.mapping.costs import RowCosts, RowRequest


def cost_collective(request: RowRequest) -> RowCosts:
    """Return the cost of collective rows on the machine's links, per device."""
    table = request.rows
    if not isinstance(table, CollectiveTable):
        raise TypeError(f"collective rows expected, got {type(table).__name__}")
    ledger = RowLedger(request, count=len(table.names))
    groups = request.memo.of(table, "collective groups", lambda: _groups(table))
    for group in groups:
        function, degree, rows = group.function, group.degree, group.rows
        if degree <= 1 and function != "send":
            continue
        kernel = request.memo.of(
            table, ("kernel", function), partial(collective_kernel, request.runtime, function),
            request.runtime,
        )  # fmt: skip
        ledger.set_kernel(rows, kernel)
        joined = np.zeros(request.machine.length, dtype=np.bool_)
        sequences = request.sequences
        sizes = group.bytes * (sequences if group.is_all else sequences[rows])
        for link, designs in links_for(request.machine, degree):
            joined |= designs
            size = sizes if np.count_nonzero(designs) == len(designs) else sizes * designs
            cost = collective_cost(
                function, link, size_bytes=size, degree=degree, protocols=kernel.protocols
            )
            joules = None if link.j_per_byte is None else cost.sent_bytes * link.j_per_byte
            ledger.add_compute(rows, link.name, cost.seconds, joules)
            start = request.runtime.collective_start_s + kernel.start_s
            ledger.add_fixed(rows, np.where(cost.seconds > 0, start, 0.0))
            ledger.add_detail(rows, "sent_bytes", cost.sent_bytes)
        if np.count_nonzero(joined) < len(joined):
            ledger.restrict(
                rows, np.broadcast_to(joined, sizes.shape),
                f"no link of {request.machine.name} joins {degree:g} devices",
            )  # fmt: skip
    return ledger.costs()


def collective_kernel(runtime: Runtime, function: str) -> KernelSet:
    """Return how a stack runs a collective."""
    for entry in runtime.kernels:
        suits = not entry.functions or function in entry.functions
        if entry.operator is KernelOperator.COLLECTIVE and suits:
            return entry
    return KernelSet(operator=KernelOperator.COLLECTIVE)


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Rows of one collective among equally many devices."""

    function: str
    degree: float
    rows: npt.NDArray[np.intp]
    """Their positions."""
    bytes: Floats
    """Bytes of one sequence, (R, 1)."""
    is_all: bool
    """Whether these are all rows of the table."""


def _groups(table: CollectiveTable) -> tuple[_Group, ...]:
    """Return the rows by collective and number of devices."""
    members: dict[tuple[str, float], list[int]] = {}
    for index, key in enumerate(zip(table.functions, table.degree.tolist(), strict=True)):
        members.setdefault(key, []).append(index)
    return tuple(
        _Group(
            function=function, degree=degree, rows=np.array(rows, dtype=np.intp),
            bytes=table.bytes[rows][:, None], is_all=len(rows) == len(table.names),
        )
        for (function, degree), rows in members.items()
    )  # fmt: skip
