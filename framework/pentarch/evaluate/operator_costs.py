"""Cost of each operator of one design, for people: rows become plain numbers, once."""

from collections.abc import Mapping, Sequence

from pentarch.evaluate.bounds import WORK, row_bounds
from pentarch.evaluate.decisions import fusion_of, mapping_of
from pentarch.evaluate.design_rows import DesignRows
from pentarch.evaluate.refetch import refetch_of
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.hardware.columns import Floats
from pentarch.results import Bounds, Fusion, OperatorCost

Column = Sequence[float]
"""One figure of all rows of a kind, for one design."""

START = "start"
"""Term of the time that overlaps with nothing."""


def operator_costs(view: DesignRows, *, runs: Mapping[Phase, float]) -> list[OperatorCost]:
    """Return the operators of one kind; rows of one operator at several contexts are averaged.

    Args:
        view: Rows of one kind, for one design.
        runs: How often the stage runs each phase while all queries in flight are answered once.
    """
    members: dict[tuple[str, Phase], list[int]] = {}
    rows = view.entry.rows
    for row, (name, phase) in enumerate(zip(rows.names, rows.phases, strict=True)):
        members.setdefault((name, phase), []).append(row)
    plain = _PlainRows(view)
    return [
        _operator_cost(plain, rows, name=name, phase=phase, runs=runs[phase])
        for (name, phase), rows in members.items()
    ]


class _PlainRows:
    """Rows of one kind for one design, as plain numbers."""

    def __init__(self, view: DesignRows) -> None:
        def group(values: Mapping[str, Floats]) -> dict[str, Column]:
            return {name: view.of(column).tolist() for name, column in values.items()}

        costs, times = view.entry.costs, view.entry.times
        self.view = view
        self.weights: Column = view.weights.tolist()
        self.terms: dict[str, Column] = {
            name: view.terms_s[position].tolist() for position, name in enumerate(times.resources)
        }
        self.terms[START] = view.fixed_s.tolist()
        self.total: Column = view.total_s.tolist()
        self.read, self.write = group(costs.read_bytes), group(costs.write_bytes)
        self.energy: list[Column | None] = [
            None if values is None else view.of(values).tolist()
            for values in costs.energy_j.values()
        ]
        self.macs: Column = view.of(costs.executed_macs).tolist()
        bounds = row_bounds(view)
        self.bounds: dict[str, Column] = {
            name: values.tolist() for name, values in bounds.seconds.items()
        }
        self.compulsory: Column = bounds.compulsory_bytes.tolist()
        self.moved: Column = bounds.moved_bytes.tolist()

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


def _operator_cost(
    plain: _PlainRows, rows: Sequence[int], *, name: str, phase: Phase, runs: float
) -> OperatorCost:
    terms = plain.positive(plain.terms, rows)
    ranked = sorted(terms, key=lambda resource: -terms[resource])
    energies = [None if joules is None else plain.mean(joules, rows) for joules in plain.energy]
    known = [joules for joules in energies if joules is not None]
    executions = sum(plain.weights[row] for row in rows)
    time = plain.mean(plain.total, rows)
    bounds = _bounds(plain, rows, time)
    cost = OperatorCost(
        name=name, phase=str(phase), executions=executions, time_s=time, total_s=time * executions,
        busy_s=time * executions * runs, bottleneck=ranked[0] if ranked else "nothing",
        next_bottleneck=ranked[1] if len(ranked) > 1 else None, terms_s=terms,
        read_bytes=plain.positive(plain.read, rows),
        write_bytes=plain.positive(plain.write, rows),
        energy_j=sum(known) if len(known) == len(energies) else None,
        executed_macs=plain.mean(plain.macs, rows), fidelity=str(plain.view.entry.costs.fidelity),
        headroom=terms[ranked[0]] / terms[ranked[1]] if len(ranked) > 1 else None, bounds=bounds,
        fusion=_fusion(plain, rows[0]),
    )  # fmt: skip
    if plain.view.products[rows[0]] is None:
        return cost
    view, first = plain.view, rows[0]
    is_refetched = plain.view.entry.kind is OperatorKind.GEMM and bounds is not None
    if not is_refetched or bounds is None or not bounds.moved_bytes > bounds.compulsory_bytes:
        return cost.defer(mapping=lambda: mapping_of(view, first))
    return cost.defer(
        mapping=lambda: mapping_of(view, first), next_refetch=lambda: refetch_of(view, first)
    )


def _fusion(plain: _PlainRows, row: int) -> Fusion | None:
    found = fusion_of(plain.view, row)
    return None if found is None else Fusion(fused=found[0], reason=found[1])


def _bounds(plain: _PlainRows, rows: Sequence[int], time: float) -> Bounds | None:
    """Return the bounds of an operator; a collective has none."""
    if plain.view.entry.kind is OperatorKind.COLLECTIVE:
        return None
    seconds = {name: plain.mean(values, rows) for name, values in plain.bounds.items()}
    deciding = max(seconds, key=lambda name: seconds[name])
    least = seconds[deciding]
    compulsory, moved = plain.mean(plain.compulsory, rows), plain.mean(plain.moved, rows)
    return Bounds(
        time_s=least, level=None if deciding == WORK else deciding,
        time_gap=time / least - 1.0 if least > 0 else None,
        compulsory_bytes=compulsory, moved_bytes=moved,
        bytes_gap=moved / compulsory - 1.0 if compulsory > 0 else None,
    )  # fmt: skip
