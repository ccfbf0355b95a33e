import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pentarch.results import TargetId, Trial, VerdictKind
from pentarch.search.answer import best_trial, front, nearest_trial, non_dominated
from pentarch.search.objectives import Objective

J = Objective(figure="query_j", direction="minimize")
MBU = Objective(figure="mbu", direction="maximize")


def trial(
    number: int,
    margin: float | None = 0.5,
    *,
    j: float | None = 1.0,
    mbu: float | None = 0.5,
    feasible: bool = True,
) -> Trial:
    """Return a trial whose least margin is that of target 1; the other margins are 1."""
    margins = {target.value: 1.0 for target in TargetId} | {"processing": margin}
    verdicts = {
        target: VerdictKind.UNKNOWN
        if value is None
        else (VerdictKind.MET if value >= 0 else VerdictKind.MISSED)
        for target, value in margins.items()
    }
    return Trial(
        number=number, parameters={"x": number}, feasible=feasible, margins=margins,
        verdicts=verdicts, figures={"query_j": j, "mbu": mbu},
    )  # fmt: skip


def dominates(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> bool:
    return bool((a <= b).all() and (a < b).any())


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_the_front_equals_pairwise_comparison(columns: int) -> None:
    @given(
        losses=arrays(
            np.float64,
            st.tuples(st.integers(0, 25), st.just(columns)),
            elements=st.integers(-3, 3).map(float),
        )
    )
    def check(losses: npt.NDArray[np.float64]) -> None:
        expected = [
            index
            for index, row in enumerate(losses)
            if not any(dominates(other, row) for other in losses)
            and not any((losses[earlier] == row).all() for earlier in range(index))
        ]
        assert sorted(non_dominated(losses)) == expected

    check()


def test_the_best_meets_all_five_and_has_the_least_first_objective() -> None:
    trials = [trial(0, -0.1, j=1.0), trial(1, j=3.0), trial(2, j=2.0), trial(3, j=2.0)]
    best = best_trial(trials, [J, MBU])
    assert best is not None
    assert best.number == 2
    most = best_trial([trial(0, mbu=0.2), trial(1, mbu=0.3)], [MBU])
    assert most is not None
    assert most.number == 1
    assert best_trial([trial(0, -0.1)], [J]) is None


def test_a_design_with_an_unknown_verdict_is_never_the_best() -> None:
    assert best_trial([trial(0, None)], [J]) is None
    assert best_trial([trial(0, feasible=False)], [J]) is None


def test_the_nearest_has_the_largest_least_margin() -> None:
    trials = [trial(0, -0.5), trial(1, -0.2), trial(2, -0.2), trial(3, 0.9, feasible=False)]
    nearest = nearest_trial(trials)
    assert nearest is not None
    assert nearest.number == 1
    assert nearest_trial([trial(0, feasible=False)]) is None


def test_a_design_with_unknown_verdicts_is_nearest_only_when_all_have_some() -> None:
    mixed = nearest_trial([trial(0, None), trial(1, -99.0)])
    only = nearest_trial([trial(0, None)])
    assert mixed is not None
    assert mixed.number == 1
    assert only is not None
    assert only.number == 0


def test_the_front_is_of_designs_that_meet_all_five_else_of_all_that_run() -> None:
    passing = [trial(0, j=2.0), trial(1, j=1.0, mbu=0.1), trial(2, -1.0, j=0.1, mbu=0.9)]
    assert [entry.number for entry in front(passing, [J, MBU])] == [1, 0]
    failing = [trial(0, -1.0, j=2.0), trial(1, -2.0), trial(2, -1.0, j=0.1, feasible=False)]
    assert [entry.number for entry in front(failing, [J, MBU])] == [1]


def test_a_design_with_an_unknown_objective_is_not_on_the_front() -> None:
    assert front([trial(0, j=None)], [J]) == ()
    assert [entry.number for entry in front([trial(0, j=None), trial(1)], [J, MBU])] == [1]
