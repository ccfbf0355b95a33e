"""Where energy, time, money, silicon and memory of the shown designs go."""

from collections.abc import Callable, Mapping, Sequence

from pentarch.contracts.figures import show_figure, shown_ledger
from pentarch.contracts.report_section import BarBlock, Block, ReportSection
from pentarch.results import AmountEntry, Design, Evaluation, OperatorCost, StudyResult
from pentarch_report.shown import shown_designs

OPERATORS = 12
"""Operators drawn, those that take most time."""
SMALL = 0.005
"""Share of a ledger up to which entries are drawn together."""

_Parts = Mapping[str, float | None]


class BreakdownSection(ReportSection):
    """What the totals are made of."""

    name = "breakdowns"
    title = "Breakdowns"
    order = 30

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return bars for energy, time, losses, price, area and memory, as far as known."""
        designs = shown_designs(result)
        found: list[Block | None] = [
            _stack("Where the time goes, from peak to delivered", "%", designs, _ledger),
            _stack("Where the energy of one query goes", "J", designs, _energy_ledger),
            _stack("Energy of one query by component", "J", designs, _energy),
        ]
        found += [_operators(name, design.evaluation) for name, design in designs]
        found += [
            _stack("What the price of the system pays for", "USD", designs, _cost_ledger),
            _stack("Bill of material of the system by part", "USD", designs, _price),
            _stack("Silicon of one device by part", "mm2", designs, _area),
            _stack("Memory of the fullest device by use", "B", designs, _memory),
        ]
        return [block for block in found if block is not None]


def _energy(evaluation: Evaluation) -> _Parts:
    return evaluation.energy_j


def _price(evaluation: Evaluation) -> _Parts:
    return evaluation.price_parts_usd


def _area(evaluation: Evaluation) -> _Parts:
    return evaluation.area_mm2


def _ledger(evaluation: Evaluation) -> _Parts:
    return {entry.name: entry.share for entry in shown_ledger(evaluation)}


def _energy_ledger(evaluation: Evaluation) -> _Parts:
    return _amounts(evaluation.energy_ledger)


def _cost_ledger(evaluation: Evaluation) -> _Parts:
    return _amounts(evaluation.cost_ledger)


def _amounts(ledger: Sequence[AmountEntry]) -> _Parts:
    """Return the entries worth a color, and the others together."""
    found = {entry.name: entry.amount for entry in ledger if abs(entry.share) > SMALL}
    rest = sum(entry.amount for entry in ledger if abs(entry.share) <= SMALL)
    return found | ({"smaller parts": rest} if rest > 0 else {})


def _memory(evaluation: Evaluation) -> _Parts:
    return {"KV cache" if name == "kv" else name: v for name, v in evaluation.memory_bytes.items()}


def _stack(
    title: str,
    unit: str,
    designs: Sequence[tuple[str, Design]],
    parts_of: Callable[[Evaluation], _Parts],
) -> BarBlock | None:
    rows = [(name, parts_of(design.evaluation)) for name, design in designs]
    rows = [(name, parts) for name, parts in rows if parts]
    if not rows:
        return None
    names = dict.fromkeys(name for _, parts in rows for name in parts if not _is_capacity(name))
    notes = [
        f"Unknown in {bar}, and missing from its bar: {', '.join(unknown)}."
        for bar, parts in rows
        if (unknown := [name for name in names if name in parts and parts[name] is None])
    ]
    notes += [
        f"Below zero in {bar}, and missing from its bar: {', '.join(below)}."
        for bar, parts in rows
        if (below := [name for name in names if (parts.get(name) or 0.0) < 0])
    ]
    notes += [
        f"Capacity in {bar}: {show_figure('capacity_bytes', value)}."
        for bar, parts in rows
        for name, value in parts.items()
        if _is_capacity(name)
    ]
    return BarBlock(
        title=title,
        note=" ".join(notes),
        unit=unit,
        bars=tuple(bar for bar, _ in rows),
        parts={
            name: tuple(max(parts.get(name) or 0.0, 0.0) for _, parts in rows) for name in names
        },
    )


def _is_capacity(name: str) -> bool:
    return name.startswith("capacity")


def _operators(name: str, evaluation: Evaluation) -> BarBlock | None:
    """Return the time of the slowest operators; the color of a bar is its bottleneck."""
    operators = sorted(evaluation.operators, key=lambda operator: -operator.device_s)
    top, rest = operators[:OPERATORS], operators[OPERATORS:]
    if not top:
        return None
    bottlenecks = dict.fromkeys(operator.bottleneck for operator in top)
    queries = evaluation.operating_point.query.concurrency
    note = "The color is the bottleneck."
    if all(operator.busy_s is not None for operator in operators) and queries > 1:
        note += (
            " While the queries in flight are answered: a prefill for each of them, decode steps "
            "for all of them together."
        )
    if rest:
        seconds = sum(operator.device_s for operator in rest)
        note += f" {len(rest):,} further operators take {show_figure('time_s', seconds)} together."
    return BarBlock(
        title=f"Time by operator, {name}",
        note=note,
        unit="s",
        bars=tuple(_bar_name(operator) for operator in top),
        parts={
            f"bound by {bottleneck}": tuple(
                operator.device_s if operator.bottleneck == bottleneck else 0.0 for operator in top
            )
            for bottleneck in bottlenecks
        },
    )


def _bar_name(operator: OperatorCost) -> str:
    return f"{operator.name} ({operator.phase})"
