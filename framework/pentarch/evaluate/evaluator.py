"""Evaluates points of a scenario: groups them by structure, vectorizes over the rest."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pentarch.errors import FieldError, InputError, MissingFigureError, UnknownNameError
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.explain import evaluation_of
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.points import Point, PointResults
from pentarch.evaluate.prepare import Prepared, prepare
from pentarch.evaluate.scenario import Scenario, change_scenario, split_path
from pentarch.hardware.columns import FieldRole, Floats, field_specs
from pentarch.mapping.gemm import FrontStore
from pentarch.results import Evaluation, Scalar
from pentarch.targets import conditions, judge_columns, unknown_reason

if TYPE_CHECKING:
    from pentarch.catalog import Library

CHUNK = 2048
"""Designs evaluated at once: their columns stay in the processor's caches."""

PREPARED = 256
"""Structures whose plan and operator table are kept."""

CONCURRENCY = "query.concurrency"


@dataclass(frozen=True, slots=True)
class _Group:
    """Points that differ in numbers only."""

    members: tuple[int, ...]
    structure: tuple[tuple[str, Scalar], ...]


class ScenarioEvaluator:
    """Evaluates points of one scenario, many at a time (`points.PointEvaluator`).

    Args:
        scenario: What paths that a point does not name are taken from.
        library: Resolves names.
    """

    def __init__(self, scenario: Scenario, library: "Library") -> None:
        self.scenario = scenario
        self.targets = scenario.targets
        self._library = library
        self._prepared: OrderedDict[tuple[tuple[str, Scalar], ...], Prepared] = OrderedDict()
        self._store = FrontStore()

    def check(self, parameters: Mapping[str, Sequence[Scalar]]) -> None:
        """Check parameter paths and the values they can take, before a search starts.

        Raises:
            InputError: A path names nothing, or a value is not allowed there.
        """
        structural = {
            path: values for path, values in parameters.items() if not self._is_number(path)
        }
        for path, values in structural.items():
            for value in values:
                change_scenario(self.scenario, {path: value}, self._library)
        for path, values in parameters.items():
            if path in structural:
                continue
            for value in values:
                if isinstance(value, str):
                    raise FieldError(
                        where="space",
                        path=f"search.{path}",
                        problem=f"found {value!r}",
                        expected="a number",
                    )
                change_scenario(self.scenario, {path: value}, self._library)

    def evaluate(self, points: Sequence[Point]) -> PointResults:
        """Return figures and verdicts; a design that does not fit is infeasible with its reason.

        Raises:
            CostError: A cost is NaN or infinite.
        """
        count = len(points)
        values: dict[str, Floats] = {}
        feasible = np.zeros(count, dtype=np.bool_)
        reasons: list[str | None] = [None] * count
        backends = [self.scenario.backend.name] * count
        for group in self._groups(points):
            for start in range(0, len(group.members), CHUNK):
                members = group.members[start : start + CHUNK]
                found = self._try(group.structure, [points[index] for index in members])
                if isinstance(found, str):
                    for index in members:
                        reasons[index] = found
                    continue
                where = np.array(members)
                feasible[where] = found.feasibility.fits
                backend = self._prepare(group.structure).scenario.backend.name
                for offset in np.flatnonzero(~found.feasibility.fits).tolist():
                    reasons[members[offset]] = found.feasibility.reason(offset)
                for index in members:
                    backends[index] = backend
                for name, column in found.values.items():
                    target = values.setdefault(name, np.full(count, np.nan))
                    if column is not None:
                        target[where] = column
        columns = judge_columns(values, count, self.targets)
        self._name_unknown(values, feasible, reasons, backends=backends)
        return PointResults(
            figures=values, feasible=feasible, reasons=tuple(reasons), targets=columns
        )

    def evaluation(self, point: Point) -> Evaluation:
        """Return one point in full, verdicts and operators included."""
        group = self._groups([point])[0]
        changed = change_scenario(self.scenario, point, self._library)
        found = self._run(group.structure, [point])
        return evaluation_of(self._prepare(group.structure), found, 0, scenario=changed)

    def _try(
        self, structure: tuple[tuple[str, Scalar], ...], points: Sequence[Point]
    ) -> Figures | str:
        """Return the figures of points or, where such a system cannot be described or cut, why not."""
        if structure not in self._prepared:
            scenario = change_scenario(self.scenario, dict(structure), self._library)
            try:
                self._prepare(structure, scenario)
            except (FieldError, UnknownNameError):
                raise
            except InputError as error:  # a degree that does not divide the devices, and the like
                return str(error)
        try:
            return self._run(structure, points)
        except MissingFigureError as error:
            return str(error)

    def _is_number(self, path: str) -> bool:
        """Whether a path can differ inside one batch."""
        if path == CONCURRENCY:
            return True
        owner, field = split_path(path)
        spec = field_specs(type(self.scenario.device)).get(field) if owner == "device" else None
        return spec is not None and spec.role is FieldRole.NUMBER

    def _groups(self, points: Sequence[Point]) -> list[_Group]:
        grouped: dict[tuple[tuple[str, Scalar], ...], list[int]] = {}
        is_number: dict[tuple[str, bool], bool] = {}
        for index, point in enumerate(points):
            structure: list[tuple[str, Scalar]] = []
            swept: list[str] = []
            for path, value in point.items():
                key_of_path = (path, "device" in point)
                if key_of_path not in is_number:
                    # Another device may lack the field, or have it as structure.
                    is_number[key_of_path] = path == CONCURRENCY or (
                        "device" not in point and self._is_number(path)
                    )
                if is_number[key_of_path]:
                    swept.append(path)
                else:
                    structure.append((path, value))
            # Points that sweep different fields cannot share columns.
            key = (*sorted(structure), ("", ",".join(sorted(swept))))
            grouped.setdefault(key, []).append(index)
        return [
            _Group(members=tuple(members), structure=key[:-1]) for key, members in grouped.items()
        ]

    def _prepare(
        self, structure: tuple[tuple[str, Scalar], ...], scenario: Scenario | None = None
    ) -> Prepared:
        found = self._prepared.get(structure)
        if found is None:
            found = prepare(
                scenario or change_scenario(self.scenario, dict(structure), self._library)
            )
            self._prepared[structure] = found
            if len(self._prepared) > PREPARED:
                self._prepared.popitem(last=False)
        else:
            self._prepared.move_to_end(structure)
        return found

    def _run(self, structure: tuple[tuple[str, Scalar], ...], points: Sequence[Point]) -> Figures:
        prepared = self._prepare(structure)
        names = {path for path, _ in structure}
        columns: dict[str, Floats] = {}
        load: Floats | None = None
        for path in points[0]:
            if path in names:
                continue
            column = np.array([_number(path, point[path]) for point in points])
            if path == CONCURRENCY:
                load = _whole(path, column)
            else:
                columns[split_path(path)[1]] = column
        return run_designs(
            prepared, length=len(points), columns=columns, concurrency=load, store=self._store
        )

    def _name_unknown(
        self, values: Mapping[str, Floats], feasible: np.ndarray[tuple[int], np.dtype[np.bool_]],
        reasons: list[str | None], *, backends: Sequence[str],
    ) -> None:  # fmt: skip
        """Give every design whose verdict lacks a figure a reason that names it."""
        for condition in conditions(self.targets):
            column = values.get(condition.figure)
            unknown = (
                np.isnan(column) if column is not None else np.ones(len(reasons), dtype=np.bool_)
            )
            for index in np.flatnonzero(unknown & feasible):
                if reasons[int(index)] is None:
                    reasons[int(index)] = unknown_reason(
                        condition.figure, backend=backends[int(index)]
                    )


def _number(path: str, value: Scalar) -> float:
    if isinstance(value, str):
        raise FieldError(where="point", path=path, problem=f"found {value!r}", expected="a number")
    return float(value)


def _whole(path: str, values: Floats) -> Floats:
    good = (values >= 1) & (values == np.floor(values))
    if not good.all():
        raise FieldError(
            where="point", path=path, problem=f"found {values[int(np.argmin(good))]:g}",
            expected="a whole number of at least 1",
        )  # fmt: skip
    return values
