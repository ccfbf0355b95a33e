"""Operators of the shown designs under the roofs of their devices."""

from collections.abc import Sequence

from pentarch.contracts.figures import show_value
from pentarch.contracts.report_section import Block, Line, LogPlotBlock, ReportSection
from pentarch.results import Evaluation, OperatorCost, Roofs, StudyResult
from pentarch.units import percent
from pentarch_report.rates import intensity, rate
from pentarch_report.shown import shown_designs

REACH = 4.0
"""Factor by which the axes reach beyond the outermost points and the ridge."""


class RooflineSection(ReportSection):
    """How near each operator comes to what its device could do."""

    name = "roofline"
    title = "Roofline"
    order = 35

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return one plot per shown design and kind of device."""
        found = [
            _plot(name, design.evaluation, roofs)
            for name, design in shown_designs(result)
            for roofs in design.evaluation.roofs
        ]
        return [block for block in found if block is not None]


def _plot(name: str, evaluation: Evaluation, roofs: Roofs) -> LogPlotBlock | None:
    points = [
        (operator, x, y)
        for operator in evaluation.operators
        if (x := intensity(operator, roofs.memory)) and (y := rate(operator))
    ]
    if not points:
        return None
    total = sum(operator.device_s for operator in evaluation.operators)
    shares = [operator.device_s / total for operator, _, _ in points]
    device = "device" if len(evaluation.roofs) == 1 else roofs.device
    peak, ridge = roofs.peak_flops_per_s[roofs.main_format], roofs.ridge
    return LogPlotBlock(
        title=f"Roofline of one {device}, {name}",
        note=_note(evaluation, roofs, sum(shares)),
        x_title=f"intensity at {roofs.memory}", x_unit="FLOP/byte",
        y_title="achieved rate", y_unit="FLOPS",
        labels=tuple(operator.name for operator, _, _ in points),
        x=tuple(x for _, x, _ in points), y=tuple(y for _, _, y in points),
        weights=tuple(shares),
        groups=tuple(operator.phase for operator, _, _ in points),
        texts=tuple(
            f"{percent(share)} of the time, bound by {operator.bottleneck}"
            for (operator, _, _), share in zip(points, shares, strict=True)
        ),
        lines=_lines(roofs, [x for _, x, _ in points]),
        callouts={f"ridge {show_value(ridge, 'FLOP/byte')}": (ridge, peak)},
    )  # fmt: skip


def _lines(roofs: Roofs, intensities: Sequence[float]) -> tuple[Line, ...]:
    """Return the slope of the memory and a flat roof per format, that of the main format first."""
    bandwidth, memory = roofs.memory_bytes_per_s, roofs.memory
    peaks = roofs.peak_flops_per_s
    top = max(peaks.values())
    low = min(*intensities, roofs.ridge) / REACH
    high = max(*intensities, top / bandwidth) * REACH
    slope = Line(
        name=f"{memory} {show_value(bandwidth, 'B/s')}",
        x=(low, top / bandwidth), y=(low * bandwidth, top),
    )  # fmt: skip
    flat = [
        Line(
            name=f"{form} peak {show_value(peaks[form], 'FLOPS')}",
            x=(peaks[form] / bandwidth, high), y=(peaks[form], peaks[form]),
            dashed=form != roofs.main_format,
        )
        for form in sorted(peaks, key=lambda form: form != roofs.main_format)
    ]  # fmt: skip
    return (slope, *flat)


def _note(evaluation: Evaluation, roofs: Roofs, drawn: float) -> str:
    note = (
        f"The area of a point is its share of the time. Left of the ridge an operator can at best "
        f"reach the slope and waits for {roofs.memory}; right of it the {roofs.main_format} peak "
        "is the limit. What lies far below both waits for something else."
    )
    left_out = [operator for operator in evaluation.operators if not _is_drawn(operator, roofs)]
    if not left_out:
        return note
    return (
        f"{note} {len(left_out):,} operators that multiply nothing or read nothing from "
        f"{roofs.memory} are not drawn; they take {percent(1.0 - drawn)} of the time."
    )


def _is_drawn(operator: OperatorCost, roofs: Roofs) -> bool:
    return bool(intensity(operator, roofs.memory) and rate(operator))
