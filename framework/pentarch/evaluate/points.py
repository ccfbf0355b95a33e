"""Points: designs as a search proposes them, and the figures it gets back.

A point is a mapping from parameter path to value; what a path does not name comes from the
scenario. Paths:

    FIELD                 a field of the device model, for example `sram_bytes`
    query.FIELD           lengths and load, for example `query.concurrency`
    precisions.ROLE       number format of a role
    system.FIELD          for example `system.devices`
    device, runtime, partitioner, degree, workload    names (degree: an integer)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pentarch.results import Evaluation, Scalar
from pentarch.targets import TargetColumn, Targets

Floats = npt.NDArray[np.float64]
Point = Mapping[str, Scalar]
"""Changes to a scenario, by parameter path."""


@dataclass(frozen=True, slots=True, eq=False)
class PointResults:
    """Figures and verdicts of n points; arrays of shape (n,), NaN where a figure is unknown."""

    figures: Mapping[str, Floats]
    """By name as in `Evaluation` (dotted for nested ones), for example `query_j`, `mfu.query`."""
    feasible: npt.NDArray[np.bool_]
    """Whether the design can run at all."""
    reasons: tuple[str | None, ...]
    """Why not, with the arithmetic; also names an unknown figure that a verdict needs."""
    targets: tuple[TargetColumn, ...]
    """Verdicts, one column per target in the order of `TargetId`."""


class PointEvaluator(Protocol):
    """Evaluates points of one scenario, many at a time."""

    targets: Targets
    """Thresholds that the verdicts use."""

    def check(self, parameters: Mapping[str, Sequence[Scalar]]) -> None:
        """Check parameter paths and the values they can take, before a search starts.

        Args:
            parameters: All choices of a categorical parameter, or both bounds of a numeric one.

        Raises:
            InputError: A path names nothing, or a value is not allowed there.
        """

    def evaluate(self, points: Sequence[Point]) -> PointResults:
        """Return figures and verdicts; a design that does not fit is infeasible with its reason.

        Raises:
            CostError: A cost is NaN or infinite.
        """

    def evaluation(self, point: Point) -> Evaluation:
        """Return one point in full, verdicts and operators included."""
