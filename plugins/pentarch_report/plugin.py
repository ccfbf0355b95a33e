"""The built-in sections of a report as a plug-in."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pentarch import hookimpl

if TYPE_CHECKING:
    from pentarch.contracts.report_section import ReportSection


@hookimpl
def register_report_sections() -> Iterable[type["ReportSection"]]:
    """Return the six built-in sections."""
    from pentarch_report.answer import AnswerSection
    from pentarch_report.breakdowns import BreakdownSection
    from pentarch_report.designs import DesignsSection
    from pentarch_report.operators import OperatorsSection
    from pentarch_report.provenance import ProvenanceSection
    from pentarch_report.roofline import RooflineSection

    return [
        AnswerSection,
        DesignsSection,
        BreakdownSection,
        RooflineSection,
        OperatorsSection,
        ProvenanceSection,
    ]
