"""Which designs of a study the sections show in full, and what they are called."""

from pentarch.results import Design, StudyResult


def shown_designs(result: StudyResult) -> tuple[tuple[str, Design], ...]:
    """Return the best and the nearest design by name; one entry where they are the same."""
    named: list[tuple[str, Design]] = []
    for name, design in (("best", result.best), ("nearest", result.nearest)):
        if design is None:
            continue
        if any(design.trial.number == other.trial.number for _, other in named):
            continue
        named.append((f"{name} (trial {design.trial.number})", design))
    return tuple(named)
