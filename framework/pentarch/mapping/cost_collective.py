"""Cost of collective rows: links, and nothing else."""

from functools import partial

import numpy as np
import numpy.typing as npt

from pentarch.graph.table import CollectiveTable
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
    for (function, degree), rows in groups.items():
        if degree <= 1 and function != "send":
            continue
        kernel = request.memo.of(
            table, ("kernel", function), partial(collective_kernel, request.runtime, function),
            request.runtime,
        )  # fmt: skip
        ledger.set_kernel(rows, kernel)
        joined = np.zeros(request.machine.length, dtype=np.bool_)
        sizes = table.bytes[rows][:, None] * request.sequences[rows]
        for link, designs in links_for(request.machine, degree):
            joined |= designs
            size = np.where(designs, sizes, 0.0)
            cost = collective_cost(
                function, link, size_bytes=size, degree=degree, protocols=kernel.protocols
            )
            joules = None if link.j_per_byte is None else cost.sent_bytes * link.j_per_byte
            ledger.add_compute(rows, link.name, cost.seconds, joules)
            start = request.runtime.collective_start_s + kernel.start_s
            ledger.add_fixed(rows, np.where(cost.seconds > 0, start, 0.0))
            ledger.add_detail(rows, "sent_bytes", cost.sent_bytes)
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


def _groups(table: CollectiveTable) -> dict[tuple[str, float], npt.NDArray[np.intp]]:
    """Return the rows by collective and number of devices."""
    members: dict[tuple[str, float], list[int]] = {}
    for index, key in enumerate(zip(table.functions, table.degree.tolist(), strict=True)):
        members.setdefault(key, []).append(index)
    return {key: np.array(rows, dtype=np.intp) for key, rows in members.items()}
