"""Objectives: which figures a search improves, and in which direction."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Literal, get_args

from pydantic import BeforeValidator

from pentarch.contracts.metric import Metric
from pentarch.errors import UnknownNameError
from pentarch.model import Model
from pentarch.results import Evaluation, MfuFigures, WattsPerPflops

Direction = Literal["minimize", "maximize"]

MORE_IS_BETTER = frozenset(
    {
        "throughput_tokens_per_s", "queries_per_s", "useful_flops", "delivered_flops_per_s", "peak_flops_per_s",
        "mfu.prefill", "mfu.decode", "mfu.query", "mbu", "hfu", "programmability",
    }
)  # fmt: skip
"""Figures that are maximized unless a space says otherwise; the others are minimized."""

_NESTED: Mapping[str, type[Model]] = {"mfu": MfuFigures, "w_per_pflops": WattsPerPflops}


class Objective(Model):
    """A figure to improve."""

    figure: str
    """Name of the figure, dotted for nested ones, for example `"query_j"` or `"mfu.query"`."""
    direction: Direction | None = None
    """Minimize or maximize; `None` means as is usual for the figure."""


def _objective(raw: object) -> object:
    if isinstance(raw, str):
        match = re.fullmatch(r"(-?)\s*([A-Za-z_][\w.]*)", raw.strip())
        if match is None:
            raise ValueError(
                "the name of a figure, such as query_j, with - in front to maximize it"
            )
        return {"figure": match[2], "direction": "maximize" if match[1] else None}
    if isinstance(raw, Mapping) and len(raw) == 1 and next(iter(raw)) in get_args(Direction):
        direction, figure = next(iter(raw.items()))
        return {"figure": figure, "direction": direction}
    return raw


ObjectiveEntry = Annotated[
    Objective,
    BeforeValidator(_objective, json_schema_input_type=str | dict[Direction, str] | Objective),
]
"""An objective as YAML writes it: `query_j`, `-throughput_tokens_per_s` or `{maximize: mbu}`."""


@cache
def figure_names() -> frozenset[str]:
    """Return the names of the figures that every evaluation has."""
    names: set[str] = set()
    for name, field in Evaluation.model_fields.items():
        nested = _NESTED.get(name)
        if nested is not None:
            names.update(f"{name}.{inner}" for inner in nested.model_fields)
        elif field.annotation is float or float in get_args(field.annotation):
            names.add(name)
    return frozenset(names)


def resolve(
    objectives: Sequence[Objective], metrics: Mapping[str, Metric]
) -> tuple[Objective, ...]:
    """Return the objectives with their directions.

    Args:
        objectives: As the space states them.
        metrics: Metrics of plug-ins by name; each states its own direction.

    Raises:
        UnknownNameError: Neither an evaluation nor a metric has the figure.
    """
    resolved = []
    for objective in objectives:
        figure = objective.figure
        if figure in metrics:
            more_is_better = metrics[figure].higher_is_better
        elif figure in figure_names():
            more_is_better = figure in MORE_IS_BETTER
        else:
            raise UnknownNameError(
                kind="figure", name=figure, known=figure_names() | set(metrics),
                hint="An objective is such a figure or a metric: see `pentarch list metrics`.",
            )  # fmt: skip
        default: Direction = "maximize" if more_is_better else "minimize"
        resolved.append(Objective(figure=figure, direction=objective.direction or default))
    return tuple(resolved)
