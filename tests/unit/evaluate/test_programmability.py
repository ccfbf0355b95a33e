"""Target 5, scored by hand on the packaged reference operators."""

from collections.abc import Mapping

import numpy as np
import pytest
from tests.unit.evaluate.paper import PaperBackend, PaperDevice, evaluate, paper_scenario

from pentarch.evaluate.programmability import FEWEST, reference_operators, score
from pentarch.hardware.columns import columns
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Program
from pentarch.hardware.view import View

ALL = frozenset(
    {"gemm", "elementwise", "reduce", "transcendental", "gather", "scan", "top-k",
     "data-dependent-branch"}
)  # fmt: skip


def score_of(
    rates: Mapping[str, float],
    *,
    year: float | list[float] | None = None,
    new_silicon: bool = False,
) -> list[float]:
    """Return the scores of machines whose memory streams 250 values (1000 B) a second."""
    length = len(year) if isinstance(year, list) else 1
    machine: MachineTable = PaperBackend().machine(View(PaperDevice(name="paper"), length))
    program = columns(
        Program, length, primitives=dict(rates), tape_out_year=year, needs_new_silicon=new_silicon
    )
    fields = {name: getattr(machine, name) for name in machine.__slots__}
    found = score(type(machine)(**{**fields, "program": program}))
    assert found is not None
    assert found.shape == (length,)
    return [float(one) for one in found]


def needing(*primitives: str, since: float = 0) -> float:
    """Return the share of reference operators later than a year that need any of `primitives`."""
    later = [entry for entry in reference_operators() if entry.year > since]
    return sum(bool(set(entry.primitives) & set(primitives)) for entry in later) / len(later)


def test_a_machine_that_runs_everything_scores_one() -> None:
    assert score_of(dict.fromkeys(ALL, 1e6)) == [1.0]


def test_an_absent_primitive_loses_what_needs_it() -> None:
    # Of the 24 packaged operators two need a scan, two top-k or a branch after 2021, ...
    assert needing("scan") == 2 / 24
    assert score_of(dict.fromkeys(ALL - {"scan"}, 1e6)) == pytest.approx([22 / 24])
    assert score_of(dict.fromkeys(ALL - {"gather", "scan"}, 1e6)) == pytest.approx(
        [1 - needing("gather", "scan")]
    )


def test_a_rate_of_zero_is_as_good_as_none() -> None:
    rates = {**dict.fromkeys(ALL, 1e6), "scan": 0.0}
    assert score_of(rates) == pytest.approx([22 / 24])


def test_ten_times_the_roofline_is_the_limit() -> None:
    # Memory streams 1000 B/s / 4 B = 250 values per second: a tenth of that is 25.
    for rate, expected in ((25.0, 1.0), (24.9, 22 / 24)):
        assert score_of({**dict.fromkeys(ALL, 1e6), "scan": rate}) == pytest.approx([expected])


def test_a_gemm_is_its_own_roofline() -> None:
    assert score_of({**dict.fromkeys(ALL, 1e6), "gemm": 1.0}) == [1.0]


def test_only_operators_after_the_tape_out_are_scored() -> None:
    # After 2022: 8 operators, of which selective-scan and gated-delta-rule scan.
    later = [entry for entry in reference_operators() if entry.year > 2022]
    assert len(later) == 8
    assert score_of(dict.fromkeys(ALL - {"scan"}, 1e6), year=2022) == pytest.approx([6 / 8])


def test_with_fewer_than_five_later_operators_all_are_scored() -> None:
    later = [entry for entry in reference_operators() if entry.year > 2023]
    assert len(later) < FEWEST
    assert score_of(dict.fromkeys(ALL - {"scan"}, 1e6), year=2023) == pytest.approx([22 / 24])


def test_designs_of_a_batch_have_years_of_their_own() -> None:
    rates = dict.fromkeys(ALL - {"scan"}, 1e6)
    assert score_of(rates, year=[2022.0, 2023.0, 2022.0]) == pytest.approx([6 / 8, 22 / 24, 6 / 8])


def test_designs_that_are_equal_score_as_one_alone() -> None:
    rates = dict.fromkeys(ALL - {"scan"}, 1e6)
    assert score_of(rates, year=[2022.0] * 3) == score_of(rates, year=2022.0) * 3


def test_new_silicon_for_an_operator_scores_nothing() -> None:
    assert score_of(dict.fromkeys(ALL, 1e6), new_silicon=True) == [0.0]


def test_without_a_description_the_score_is_unknown() -> None:
    found = evaluate(paper_scenario())

    assert found.programmability is None
    assert found.update_s is None


def test_the_score_and_the_time_of_an_update_reach_the_evaluation() -> None:
    # `PaperDevice` lacks the data-dependent branch.
    found = evaluate(paper_scenario(vector_rate=1e6, update_s=90.0))

    assert found.update_s == 90.0
    assert found.programmability == pytest.approx(1 - needing("data-dependent-branch"))


def test_reference_operators_are_sorted_and_use_known_primitives() -> None:
    years = [entry.year for entry in reference_operators()]
    assert years == sorted(years)
    assert {name for entry in reference_operators() for name in entry.primitives} == ALL
    assert np.unique([entry.name for entry in reference_operators()]).size == len(years)
