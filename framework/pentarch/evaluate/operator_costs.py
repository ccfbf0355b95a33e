"""Cost of each operator of one design, for people: rows become plain numbers, once."""

from collections.abc import Mapping, Sequence

from pentarch.evaluate.stage_costs import KindCosts
from pentarch.graph.operators import Phase
from pentarch.hardware.columns import Floats
from pentarch.results import OperatorCost

Column = Sequence[float]
"""One figure of all rows of a kind, for one design."""


class DesignRows:
    """Rows of one kind for one design, as plain numbers.

    Args:
        entry: The rows, costed.
        index: Which design of the batch.
    """

    def __init__(self, entry: KindCosts, index: int) -> None:
        def column(values: Floats) -> Column:
            numbers: list[float] = values[:, index].tolist()
            return numbers

        costs, times = entry.costs, entry.times
        self.weights: Column = entry.weights[:, 0].tolist()
        self.terms = {
            name: column(times.terms_s[position]) for position, name in enumerate(times.resources)
        }
        self.terms["start"] = column(costs.fixed_s)
        self.total = column(times.total_s)
        self.read = {name: column(values) for name, values in costs.read_bytes.items()}
        self.write = {name: column(values) for name, values in costs.write_bytes.items()}
        self.energy = [
            None if values is None else column(values) for values in costs.energy_j.values()
        ]
        self.macs = column(costs.executed_macs)
        self.fidelity = str(costs.fidelity)

    def mean(self, values: Column, rows: Sequence[int]) -> float:
        """Return the mean over some rows, weighted by how often a query executes them."""
        if len(rows) == 1:
            return values[rows[0]]
        weight = sum(self.weights[row] for row in rows)
        return sum(values[row] * self.weights[row] for row in rows) / weight

    def positive(self, group: Mapping[str, Column], rows: Sequence[int]) -> dict[str, float]:
        """Return the means of a group that are not zero."""
        means = {name: self.mean(values, rows) for name, values in group.items()}
        return {name: value for name, value in means.items() if value > 0}


def operator_costs(
    entry: KindCosts, index: int, *, runs: Mapping[Phase, float]
) -> list[OperatorCost]:
    """Return the operators of one kind; rows of one operator at several contexts are averaged.

    Args:
        entry: Rows of one kind, costed.
        index: Which design of the batch.
        runs: How often the stage runs each phase while all queries in flight are answered once.
    """
    members: dict[tuple[str, Phase], list[int]] = {}
    for row, (name, phase) in enumerate(zip(entry.rows.names, entry.rows.phases, strict=True)):
        members.setdefault((name, phase), []).append(row)
    design = DesignRows(entry, index)
    return [
        _operator_cost(design, rows, name=name, phase=phase, runs=runs[phase])
        for (name, phase), rows in members.items()
    ]


def _operator_cost(
    design: DesignRows, rows: Sequence[int], *, name: str, phase: Phase, runs: float
) -> OperatorCost:
    terms = design.positive(design.terms, rows)
    ranked = sorted(terms, key=lambda resource: -terms[resource])
    energies = [None if joules is None else design.mean(joules, rows) for joules in design.energy]
    known = [joules for joules in energies if joules is not None]
    executions = sum(design.weights[row] for row in rows)
    time = design.mean(design.total, rows)
    return OperatorCost(
        name=name, phase=str(phase), executions=executions, time_s=time, total_s=time * executions,
        busy_s=time * executions * runs, bottleneck=ranked[0] if ranked else "nothing",
        next_bottleneck=ranked[1] if len(ranked) > 1 else None, terms_s=terms,
        read_bytes=design.positive(design.read, rows),
        write_bytes=design.positive(design.write, rows),
        energy_j=sum(known) if len(known) == len(energies) else None,
        executed_macs=design.mean(design.macs, rows), fidelity=design.fidelity,
    )  # fmt: skip
