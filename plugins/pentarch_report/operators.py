"""Every operator of the shown designs, with what binds it and what would bind next."""

from collections.abc import Sequence

from pentarch.contracts.figures import show_figure, show_value
from pentarch.contracts.report_section import Block, ReportSection, TableBlock
from pentarch.results import Evaluation, OperatorCost, StudyResult
from pentarch.units import percent
from pentarch_report.rates import intensity, rate
from pentarch_report.shown import shown_designs

ROWS = 200
"""Operators listed, those that take most time."""
SHARE_NOTE = (
    "Share is of the summed time of all operators while as many queries are answered as are in "
    "flight: a prefill for each of them, decode steps for all of them together."
)


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
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    total = sum(operator.device_s for operator in operators)
    memory = evaluation.roofs[0].memory if evaluation.roofs else None
    rest = len(operators) - ROWS
    return TableBlock(
        title=f"Operators, {name}",
        header=(
            "operator", "phase", "share", "bottleneck", "binds next", "executions", "time each",
            "per query", "intensity", "rate", "energy each", "fidelity",
        ),
        rows=tuple(_row(operator, total, memory) for operator in operators[:ROWS]),
        numeric=(2, 5, 6, 7, 8, 9, 10),
        note=SHARE_NOTE + (f" Intensity is per byte moved at {memory}." if memory else "")
        + (f" {rest:,} more, each faster than these, are left out." if rest > 0 else ""),
    )  # fmt: skip


def _row(operator: OperatorCost, total: float, memory: str | None) -> tuple[str, ...]:
    flops_per_byte = None if memory is None else intensity(operator, memory)
    achieved = rate(operator) if operator.executed_macs > 0 else None
    return (
        operator.name,
        operator.phase,
        percent(operator.device_s / total if total > 0 else None),
        operator.bottleneck,
        operator.next_bottleneck or "nothing",
        show_value(operator.executions, ""),
        show_figure("time_s", operator.time_s),
        show_figure("total_s", operator.total_s),
        show_value(flops_per_byte, "FLOP/byte") if flops_per_byte else "none",
        show_value(achieved, "FLOPS") if achieved else "none",
        show_figure("energy_j", operator.energy_j),
        operator.fidelity,
    )
