"""The answer: best or nearest design, its verdicts, and why nothing is better."""

import re
from collections import Counter
from collections.abc import Sequence

from pentarch.contracts.figures import (
    comparison_of,
    count_verdicts,
    label_of,
    parameter_names,
    show_figure,
    show_margin,
    show_parameter,
    why_not,
)
from pentarch.contracts.report_section import (
    Block,
    ReportSection,
    TableBlock,
    TextBlock,
    VerdictsBlock,
)
from pentarch.results import Design, StudyResult, TargetId, Trial, VerdictKind
from pentarch.targets import figure_of
from pentarch_report.shown import shown_designs, thresholds

FRONT_ROWS = 200
"""Rows of the front that are listed."""
REASON_ROWS = 10
"""Kinds of reasons that are listed."""

_KEY_FIGURES = (
    "delivered_flops_per_s", "peak_flops_per_s", "mfu.prefill", "mfu.decode", "mfu.query", "mbu",
    "ttft_s", "tpot_s", "query_s", "throughput_tokens_per_s", "mean_w", "peak_w",
    "w_per_pflops.delivered", "w_per_pflops.peak", "j_per_token", "query_j", "system_usd",
    "bom_usd", "query_usd", "programmability", "update_s",
)  # fmt: skip
_NUMBER = re.compile(r"\d[\d,.]*(?:e[+-]?\d+)?")


class AnswerSection(ReportSection):
    """What a reader must know first."""

    name = "answer"
    title = "Answer"
    order = 10

    def blocks(self, result: StudyResult) -> Sequence[Block]:
        """Return the sentence, the verdicts, the designs, the counts, the front and the reasons."""
        designs = shown_designs(result)
        found: list[Block] = [TextBlock(text=_lead(result), is_lead=True)]
        found += [
            VerdictsBlock(title=name, verdicts=design.evaluation.targets)
            for name, design in designs
            if design.evaluation.targets
        ]
        if designs:
            found += [_parameters(designs), _figures(result, designs)]
        if result.trials:
            found.append(_counts(result.trials))
        if result.front:
            found.append(_front(result))
        reasons = _reasons(result.trials)
        return [*found, reasons] if reasons else found


def _lead(result: StudyResult) -> str:
    reason = why_not(result)
    if result.best is None:
        return reason or "There is no design."
    trial = result.best.trial
    objective = result.objectives[0] if result.objectives else "query_j"
    value = show_figure(objective, trial.figures.get(objective))
    if result.n_feasible == 1:
        return (
            f"Trial {trial.number} alone of {result.n_trials:,} designs meets all five targets; "
            f"its {label_of(objective)} is {value}."
        )
    return (
        f"Trial {trial.number} meets all five targets and has the best {label_of(objective)} of "
        f"the {result.n_feasible:,} designs that do: {value}."
    )


def _columns(names: Sequence[str], rows: dict[str, list[str]], *, first: str) -> TableBlock:
    return TableBlock(
        header=(first, *names),
        rows=tuple((name, *cells) for name, cells in rows.items()),
        numeric=tuple(range(1, len(names) + 1)),
    )


def _parameters(designs: Sequence[tuple[str, Design]]) -> TableBlock:
    paths = dict.fromkeys(path for _, design in designs for path in design.trial.parameters)
    names = parameter_names(paths)
    rows = {
        names[path]: [
            show_parameter(path, design.trial.parameters[path])
            if path in design.trial.parameters
            else "not a parameter of this design"
            for _, design in designs
        ]
        for path in paths
    }
    table = _columns([name for name, _ in designs], rows, first="parameter")
    return table.replace(title="Design parameters")


def _figures(result: StudyResult, designs: Sequence[tuple[str, Design]]) -> TableBlock:
    asked = thresholds(result)
    rows = {
        label_of(figure): [
            *(show_figure(figure, figure_of(design.evaluation, figure)) for _, design in designs),
            f"{comparison_of(figure)} {show_figure(figure, asked[figure])}"
            if figure in asked
            else "",
        ]
        for figure in _KEY_FIGURES
    }
    table = _columns([*(name for name, _ in designs), "asked"], rows, first="figure")
    return table.replace(title="Figures at the operating point")


def _counts(trials: Sequence[Trial]) -> TableBlock:
    counts = count_verdicts(trials)
    rows = []
    for target in TargetId:
        margins = [
            (margin, trial.number)
            for trial in trials
            if (margin := trial.margins.get(target)) is not None
        ]
        best, number = max(margins, key=lambda pair: (pair[0], -pair[1]), default=(None, None))
        rows.append(
            (
                target.value,
                *(f"{counts[target][kind]:,}" for kind in VerdictKind),
                show_margin(best),
                "none" if number is None else f"trial {number}",
            )
        )
    return TableBlock(
        title="Each target alone",
        header=("target", *(kind.value for kind in VerdictKind), "best margin", "reached by"),
        rows=tuple(rows),
        numeric=tuple(range(1, len(VerdictKind) + 2)),
        note=f"Designs by verdict, of {len(trials):,}. A target that no design meets alone rules "
        "out the five together.",
    )


def _front(result: StudyResult) -> TableBlock:
    trials = result.front[:FRONT_ROWS]
    rest = len(result.front) - len(trials)
    of_what = "designs that meet all five" if result.best else "designs that can run"
    note = f"Non-dominated among the {of_what}."
    rows = tuple(
        (
            str(trial.number),
            *(show_figure(name, trial.figures.get(name)) for name in result.objectives),
            *(trial.verdicts.get(target, "") for target in TargetId),
            show_margin(trial.least_margin),
            trial.binding or "",
        )
        for trial in trials
    )
    start = 1 + len(result.objectives)
    return TableBlock(
        title="Pareto front",
        header=(
            "trial", *(label_of(name) for name in result.objectives),
            *(target.value for target in TargetId), "least margin", "binding target",
        ),
        rows=rows,
        numeric=(*range(start), start + len(TargetId)),
        verdicts=tuple(range(start, start + len(TargetId))),
        note=note + (f" {rest:,} more are in the run log." if rest else ""),
    )  # fmt: skip


def _reasons(trials: Sequence[Trial]) -> TableBlock | None:
    kinds: Counter[str] = Counter()
    examples: dict[str, Trial] = {}
    for trial in trials:
        if trial.reason is not None:
            kind = _NUMBER.sub("#", trial.reason)
            kinds[kind] += 1
            examples.setdefault(kind, trial)
    if not kinds:
        return None
    rest = sum(kinds.values()) - sum(count for _, count in kinds.most_common(REASON_ROWS))
    return TableBlock(
        title="Why designs were ruled out",
        header=("designs", "for example"),
        rows=tuple(
            (f"{count:,}", f"trial {examples[kind].number}: {examples[kind].reason}")
            for kind, count in kinds.most_common(REASON_ROWS)
        ),
        numeric=(0,),
        note="Reasons that differ only in their numbers are counted together."
        + (f" {rest:,} designs have rarer reasons." if rest else ""),
    )
