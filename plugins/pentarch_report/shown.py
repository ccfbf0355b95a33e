"""Which designs of a study the sections show in full, what they are called, and what is asked."""

from collections.abc import Mapping

from pentarch.model import load
from pentarch.results import Design, StudyResult
from pentarch.targets import Targets, conditions


def shown_designs(result: StudyResult) -> tuple[tuple[str, Design], ...]:
    """Return the designs of a comparison, else best and nearest, by name and each only once."""
    if result.compared:
        return tuple(
            (f"{design.evaluation.system} (trial {design.trial.number})", design)
            for design in result.compared
        )
    named: list[tuple[str, Design]] = []
    for name, design in (("best", result.best), ("nearest", result.nearest)):
        if design is None:
            continue
        if any(design.trial.number == other.trial.number for _, other in named):
            continue
        named.append((f"{name} (trial {design.trial.number})", design))
    return tuple(named)


def thresholds(result: StudyResult) -> dict[str, float]:
    """Return thresholds by figure: of all the study's conditions, else those its verdicts name."""
    found: dict[str, float] = {}
    settings = result.settings.get("targets")
    if isinstance(settings, Mapping):
        targets = load(Targets, settings, where="settings.targets of the run")
        found = {condition.figure: condition.threshold for condition in conditions(targets)}
    for design in (result.best, result.nearest, *result.compared):
        if design is not None:
            found |= {v.figure: v.threshold for v in design.evaluation.targets}
    return found
