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
BOUND_NOTE = (
    " The next resource binds once the bottleneck has so many times its speed. The bound of an "
    "operator is the longer of its work at peak and its compulsory bytes at the bandwidth of the "
    "level where they live."
)
DECISION_NOTE = (
    "Moved are the bytes that cross the outermost memory, above those that have to. The next "
    "refetch falls away once the named level has the stated room."
)
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
        """Return two tables per shown design: times and rates, and what was decided."""
        found: list[Block] = []
        for name, design in shown_designs(result):
            if design.evaluation.operators:
                found += [_table(name, design.evaluation), _decisions(name, design.evaluation)]
        return found


def _table(name: str, evaluation: Evaluation) -> TableBlock:
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    total = sum(operator.device_s for operator in operators)
    memory = evaluation.roofs[0].memory if evaluation.roofs else None
    rest = len(operators) - ROWS
    return TableBlock(
        title=f"Operators, {name}",
        header=(
            "operator", "phase", "share", "bottleneck", "binds next", "at times the speed",
            "executions", "time each", "above its bound", "per query", "intensity", "rate",
            "energy each", "fidelity",
        ),
        rows=tuple(_row(operator, total, memory) for operator in operators[:ROWS]),
        numeric=(2, 5, 6, 7, 8, 9, 10, 11, 12),
        note=SHARE_NOTE + BOUND_NOTE + (f" Intensity is per byte moved at {memory}." if memory else "")
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
        "none" if operator.headroom is None else f"{operator.headroom:.3g}",
        show_value(operator.executions, ""),
        show_figure("time_s", operator.time_s),
        _gap(None if operator.bounds is None else operator.bounds.time_gap),
        show_figure("total_s", operator.total_s),
        show_value(flops_per_byte, "FLOP/byte") if flops_per_byte else "none",
        show_value(achieved, "FLOPS") if achieved else "none",
        show_figure("energy_j", operator.energy_j),
        operator.fidelity,
    )


def _gap(gap: float | None) -> str:
    return "none" if gap is None else percent(max(gap, 0.0))


def _decisions(name: str, evaluation: Evaluation) -> TableBlock:
    """Return how each operator runs, whether it is fused, and what its traffic lacks."""
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    rest = len(operators) - ROWS
    return TableBlock(
        title=f"Decisions, {name}",
        header=("operator", "phase", "runs with", "fused", "why", "moved", "above need", "next refetch"),
        rows=tuple(_decision(operator) for operator in operators[:ROWS]),
        numeric=(5, 6),
        note=DECISION_NOTE + (f" {rest:,} more are left out." if rest > 0 else ""),
    )  # fmt: skip


def _decision(operator: OperatorCost) -> tuple[str, ...]:
    fusion, bounds = operator.fusion, operator.bounds
    runs = ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else f'{value:g}'}"
        for name, value in operator.mapping.items()
    )
    return (
        operator.name,
        operator.phase,
        runs or "unknown",
        "never" if fusion is None else ("yes" if fusion.fused else "no"),
        "" if fusion is None else fusion.reason,
        "unknown" if bounds is None else show_value(bounds.moved_bytes, "B"),
        _gap(None if bounds is None else bounds.bytes_gap),
        _refetch(operator),
    )


def _refetch(operator: OperatorCost) -> str:
    step = operator.next_refetch
    if step is None:
        return "none"
    return (
        f"{step.level} of {show_value(step.capacity_bytes, 'B')}, has "
        f"{show_value(step.now_bytes, 'B')}; saves {show_value(step.saved_bytes, 'B')}"
    )
