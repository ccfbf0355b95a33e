"""What the results rest on: inputs, versions, grades, assumptions, settings, the log, the space."""

import json
from collections.abc import Iterator, Mapping, Sequence

from pentarch.contracts.figures import (
    figure_unit,
    show_figure,
    show_parameter,
    without_password,
)
from pentarch.contracts.report_section import Block, ReportSection, TableBlock, TextBlock
from pentarch.results import Design, Evaluation, StudyResult
from pentarch_report.shown import shown_designs


class ProvenanceSection(ReportSection):
    """How to make this report again, and what to doubt in it."""

    name = "provenance"
    title = "Provenance"
    order = 90

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return tables of the run, the designs' inputs, the assumptions and the notes."""
        designs = shown_designs(result)
        found: list[Block] = [_run(result)]
        if designs:
            found.append(_inputs(designs))
        assumptions = _assumptions(designs)
        if assumptions:
            found.append(
                TableBlock(
                    title="Assumptions",
                    header=("assumption", "where it enters"),
                    rows=tuple(assumptions),
                )
            )
        for name, design in designs:
            notes = design.evaluation.notes
            found += [TextBlock(text=f"Note on {name}: {note}") for note in notes]
        return found


def _run(result: StudyResult) -> TableBlock:
    objectives = [
        f"{direction} {name}".strip()
        for name, direction in zip(
            result.objectives,
            result.directions or ("",) * len(result.objectives),
            strict=True,
        )
    ]
    rows = [
        ("space", result.space),
        ("run log", "none" if result.log is None else without_password(result.log)),
        ("run", "unknown" if result.run is None else str(result.run)),
        ("objectives", ", ".join(objectives)),
        ("designs", f"{result.n_trials:,}"),
        ("stopped by", result.stopped_by),
        ("time", show_figure("seconds_s", result.seconds)),
        *((f"settings: {name}", text) for name, text in _settings(result.settings)),
    ]
    return TableBlock(title="Run", header=("", "value"), rows=tuple(rows))


def _settings(settings: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            if isinstance(value, int | float) and figure_unit(name):
                text = show_parameter(name, value)
            yield prefix + name, without_password(text)


def _inputs(designs: Sequence[tuple[str, Design]]) -> TableBlock:
    rows = {name: _facts(design.evaluation) for name, design in designs}
    titles = next(iter(rows.values())).keys()
    return TableBlock(
        title="Designs",
        header=("", *rows),
        rows=tuple((title, *(facts[title] for facts in rows.values())) for title in titles),
    )


def _facts(evaluation: Evaluation) -> dict[str, str]:
    point = evaluation.operating_point
    query, precisions = point.query, point.precisions
    grades = [
        f"{count} of grade {grade}" for grade, count in sorted(evaluation.inputs.grades.items())
    ]
    degrees = [f"{name} {degree}" for name, degree in point.degrees.items()]
    return {
        "workload": evaluation.workload,
        "system": f"{evaluation.system}, devices: {evaluation.devices}",
        "back-end": evaluation.backend,
        "partitioner": evaluation.partitioner,
        "degrees": ", ".join(degrees) or "none",
        "runtime": point.runtime,
        "load": f"{point.load}, {query.concurrency} in flight",
        "lengths": f"{query.prompt_tokens:,} prompt tokens, {query.output_tokens:,} output tokens",
        "formats": f"weights {precisions.weights}, activations {precisions.activations}, "
        f"KV {precisions.kv}",
        "inputs hash": evaluation.inputs.hash,
        "version": evaluation.inputs.version,
        "graded figures": ", ".join(grades) or "none used",
    }


def _assumptions(designs: Sequence[tuple[str, Design]]) -> list[tuple[str, str]]:
    found: dict[tuple[str, str], None] = {}
    for name, design in designs:
        for verdict in design.evaluation.targets:
            if verdict.assumption:
                found[(verdict.assumption, f"threshold of {verdict.id}")] = None
        for figure in design.evaluation.inputs.figures:
            found[(f"technology figure {figure}", f"evaluation of {name}")] = None
    return list(found)
