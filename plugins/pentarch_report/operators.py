"""Every operator of the shown designs, with what binds it and what would bind next."""

from collections.abc import Sequence

from pentarch.contracts.figures import show_figure, show_value
from pentarch.contracts.report_section import Block, ReportSection, TableBlock
from pentarch.results import Evaluation, OperatorCost, StudyResult
from pentarch.units import percent
from pentarch_report.shown import shown_designs

ROWS = 200
"""Operators listed, those that take most time."""


class OperatorsSection(ReportSection):
    """Operators by time."""

    name = "operators"
    title = "Operators"
    order = 40

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return one table per shown design."""
        return [
            _table(name, design.evaluation)
            for name, design in shown_designs(result)
            if design.evaluation.operators
        ]


def _table(name: str, evaluation: Evaluation) -> TableBlock:
    operators = sorted(evaluation.operators, key=lambda operator: -operator.total_s)
    total = sum(operator.total_s for operator in operators)
    rest = len(operators) - ROWS
    return TableBlock(
        title=f"Operators, {name}",
        header=(
            "operator", "phase", "executions", "time each", "total", "share", "bottleneck",
            "binds next", "energy each", "fidelity",
        ),
        rows=tuple(_row(operator, total) for operator in operators[:ROWS]),
        numeric=(2, 3, 4, 5, 8),
        note="Share is of the summed time of all operators, before overlap between queries."
        + (f" {rest:,} more, each faster than these, are left out." if rest > 0 else ""),
    )  # fmt: skip


def _row(operator: OperatorCost, total: float) -> tuple[str, ...]:
    return (
        operator.name,
        operator.phase,
        show_value(operator.executions, ""),
        show_figure("time_s", operator.time_s),
        show_figure("total_s", operator.total_s),
        percent(operator.total_s / total if total > 0 else None),
        operator.bottleneck,
        operator.next_bottleneck or "nothing",
        show_figure("energy_j", operator.energy_j),
        operator.fidelity,
    )
