"""All designs as points, with axes that the reader chooses."""

from collections.abc import Iterable, Mapping, Sequence

from pentarch.contracts.figures import figure_unit, label_of, parameter_names
from pentarch.contracts.report_section import Block, ReportSection, ScatterBlock, TextBlock
from pentarch.results import StudyResult, TargetId, Trial
from pentarch_report.shown import thresholds

POINTS = 5000
"""Designs drawn at most: more is slow in a browser."""
VALUES = 250_000
"""Values embedded at most, about 2.5 MB."""

_DIGITS = 6
_PREFERRED = ("system_usd", "query_s", "query_j", "delivered_flops_per_s")
_LOG_RATIO = 20.0
_Column = tuple[float | None, ...]


class DesignsSection(ReportSection):
    """Every design, two figures at a time."""

    name = "designs"
    title = "Designs"
    order = 20

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return the plot, or a sentence where no design has two figures."""
        if not result.trials:
            return []
        figures = _names(trial.figures for trial in result.trials)
        parameters = _names(trial.parameters for trial in result.trials)
        width = len(figures) + len(parameters) + 2 * len(TargetId) + 1
        trials = _thinned(result, min(POINTS, max(1, VALUES // width)))
        columns, texts, headings = _columns(trials, figures, parameters)
        usable = [name for name in columns if any(value is not None for value in columns[name])]
        axes = _axes(result, [name for name in usable if name in figures])
        if axes is None:
            return [TextBlock(text="No plot of the designs: fewer than two figures have a value.")]
        x, y = axes
        columns = {name: columns[name] for name in usable}
        return [
            ScatterBlock(
                note=_note(len(trials), len(result.trials)),
                labels=tuple(f"trial {trial.number}" for trial in trials),
                columns=columns, x=x, y=y,
                log_x=_spreads(columns[x]), log_y=_spreads(columns[y]),
                groups=tuple(_group(trial.targets_met) for trial in trials),
                group_order=tuple(_group(count) for count in range(len(TargetId) + 1)),
                names={**{name: label_of(name) for name in columns}, **_short(parameters, figures)},
                units={name: figure_unit(name) for name in columns},
                thresholds=_thresholds(result),
                texts=texts,
                verdicts={
                    target.value: tuple(trial.verdicts.get(target) for trial in trials)
                    for target in TargetId
                },
                headings={
                    title: kept
                    for title, names in headings.items()
                    if (kept := tuple(name for name in names if name in columns or name in texts))
                },
                marks=_marks(result, trials),
            )
        ]  # fmt: skip


def _group(count: int) -> str:
    return f"{count} of {len(TargetId)} targets met"


def _names(mappings: Iterable[Mapping[str, object]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for mapping in mappings for name in mapping))


def _thinned(result: StudyResult, count: int) -> tuple[Trial, ...]:
    """Return at most about `count` trials: the front, best, nearest, then an even share."""
    if len(result.trials) <= count:
        return result.trials
    kept = {design.trial.number for design in (result.best, result.nearest) if design}
    kept |= {trial.number for trial in result.front[: count // 2]}
    stride = -(-len(result.trials) // max(1, count - len(kept)))
    kept |= {trial.number for trial in result.trials[::stride]}
    return tuple(trial for trial in result.trials if trial.number in kept)


def _note(drawn: int, total: int) -> str:
    note = "A dashed line is the threshold of a target."
    if drawn < total:
        note += (
            f" {drawn:,} of {total:,} designs are drawn: the front, the best, the nearest and an "
            "even sample of the others; the run log has them all."
        )
    return note


def _columns(
    trials: Sequence[Trial], figures: Sequence[str], parameters: Sequence[str]
) -> tuple[dict[str, _Column], dict[str, tuple[str | None, ...]], dict[str, tuple[str, ...]]]:
    """Return number columns and text columns of shape (trials,) by name, and their headings."""
    columns: dict[str, _Column] = {}
    texts: dict[str, tuple[str | None, ...]] = {}
    named: list[str] = []
    for path in parameters:
        name = _column_name(path, figures)
        named.append(name)
        values = [trial.parameters.get(path) for trial in trials]
        if any(isinstance(value, bool | str) for value in values):
            texts[name] = tuple(None if value is None else str(value) for value in values)
        else:
            columns[name] = tuple(None if v is None else float(v) for v in values)
    for figure in figures:
        columns[figure] = tuple(_rounded(trial.figures.get(figure)) for trial in trials)
    margins = {
        "least_margin": tuple(_rounded(trial.least_margin) for trial in trials),
        **{
            f"margin.{target}": tuple(_rounded(trial.margins.get(target)) for trial in trials)
            for target in TargetId
        },
    }
    columns |= margins
    reason = "ruled out because"
    texts[reason] = tuple(trial.reason for trial in trials)
    return columns, texts, {
        "parameters": tuple(named),
        "figures": tuple(figures),
        "margins": tuple(margins),
        "notes": (reason,),
    }  # fmt: skip


def _column_name(path: str, figures: Sequence[str]) -> str:
    """Return the key of a parameter's column, which must not be that of a figure."""
    return f"{path} (parameter)" if path in figures else path


def _short(parameters: Sequence[str], figures: Sequence[str]) -> dict[str, str]:
    short = parameter_names(parameters)
    return {_column_name(path, figures): short[path] for path in parameters}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")


def _axes(result: StudyResult, figures: Sequence[str]) -> tuple[str, str] | None:
    wanted = dict.fromkeys((*result.objectives, *_PREFERRED, *figures))
    chosen = [name for name in wanted if name in figures][:2]
    return (chosen[0], chosen[1]) if len(chosen) == 2 else None


def _spreads(column: _Column) -> bool:
    """Return whether a column is positive and spans more than a linear axis shows well."""
    values = [value for value in column if value is not None]
    return bool(values) and min(values) > 0 and max(values) > _LOG_RATIO * min(values)


def _thresholds(result: StudyResult) -> dict[str, float]:
    margins = ("least_margin", *(f"margin.{target}" for target in TargetId))
    return {**thresholds(result), **dict.fromkeys(margins, 0.0)}


def _marks(result: StudyResult, trials: Sequence[Trial]) -> dict[str, tuple[int, ...]]:
    front = {trial.number for trial in result.front}
    marks = {"Pareto front": tuple(i for i, trial in enumerate(trials) if trial.number in front)}
    for name, design in (("nearest", result.nearest), ("best", result.best)):
        if design is not None:
            number = design.trial.number
            marks[name] = tuple(i for i, trial in enumerate(trials) if trial.number == number)
    return {name: indices for name, indices in marks.items() if indices}
