"""Cost of collective rows: links, and nothing else."""

import numpy as np

from pentarch.graph.table import CollectiveTable
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.collectives import collective_cost, links_for
from pentarch.mapping.costs import RowCosts, RowRequest


def cost_collective(request: RowRequest) -> RowCosts:
    """Return the cost of collective rows on the machine's links, per device."""
    table = request.rows
    if not isinstance(table, CollectiveTable):
        raise TypeError(f"collective rows expected, got {type(table).__name__}")
    ledger = RowLedger(request, count=len(table.names))
    for index, function in enumerate(table.functions):
        rows = np.array([index], dtype=np.intp)
        degree = float(table.degree[index])
        if degree <= 1 and function != "send":
            continue
        joined = np.zeros(request.machine.length, dtype=np.bool_)
        for link, designs in links_for(request.machine, degree):
            joined |= designs
            size = np.where(designs, table.bytes[index] * request.sequences[rows], 0.0)
            cost = collective_cost(function, link, size_bytes=size, degree=degree)
            joules = None if link.j_per_byte is None else cost.sent_bytes * link.j_per_byte
            ledger.add_compute(rows, link.name, cost.seconds, joules)
            start = request.runtime.collective_start_s
            ledger.add_fixed(rows, np.where(cost.seconds > 0, start, 0.0))
            ledger.add_detail(rows, "sent_bytes", cost.sent_bytes)
        ledger.restrict(
            rows, joined[None], f"no link of {request.machine.name} joins {degree:g} devices"
        )
    return ledger.costs()
