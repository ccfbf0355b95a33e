import numpy as np
from tests.unit.mapping.machines import gemms, level, machine, request

from pentarch.mapping.assemble import RowLedger, stacked_names


def ledger(count: int = 2, designs: int = 3) -> RowLedger:
    return RowLedger(request(machine(designs), gemms(*[{}] * count)), count=count)


FIRST, SECOND = np.array([0]), np.array([1])


def test_costs_of_rows_add_up_where_they_belong() -> None:
    book = ledger()
    book.add_compute(FIRST, "array", np.full((1, 3), 2.0), np.full((1, 3), 7.0))
    book.add_compute(FIRST, "array", np.array([[1.0, 0.0, 0.0]]), np.full((1, 3), 1.0))
    book.add_compute(SECOND, "vector", np.full((1, 3), 5.0), None, energy_known=True)
    book.add_fixed(SECOND, np.array([[1.0, 2.0, 3.0]]))
    costs = book.costs()
    assert costs.compute_s["array"].tolist() == [[3, 2, 2], [0, 0, 0]]
    assert costs.energy_j["array"] is not None
    assert costs.energy_j["array"].tolist() == [[8, 8, 8], [0, 0, 0]]
    assert "vector" not in costs.energy_j
    assert costs.fixed_s.tolist() == [[0, 0, 0], [1, 2, 3]]


def test_pieces_add_up_in_any_order_and_leave_what_came_in_alone() -> None:
    rng = np.random.default_rng(5)
    every = np.arange(5)
    groups = [every[:2], every[2:], np.array([0, 3, 4]), np.array([3, 1]), every]
    for _ in range(20):
        book, expected = ledger(5), np.zeros((5, 3))
        pieces = [(groups[at], rng.random((len(groups[at]), 3))) for at in rng.integers(0, 5, 6)]
        before = [values.copy() for _, values in pieces]
        for rows, values in pieces:
            book.add_level_time(rows, "memory", values)
            book.add_detail(rows, "shown", values)
            expected[rows] += values
        costs = book.costs()
        assert np.allclose(costs.level_s["memory"], expected, rtol=1e-15, atol=0.0)
        assert np.array_equal(costs.detail["shown"], costs.level_s["memory"])
        assert all(np.array_equal(one, two[1]) for one, two in zip(before, pieces, strict=True))


def test_details_are_a_mapping_of_what_was_shown() -> None:
    book = ledger()
    book.add_detail(FIRST, "split", np.full((1, 3), 2.0))
    book.add_detail(np.arange(2), "tile", np.array([[8.0], [4.0]]))
    detail = book.costs().detail
    assert list(detail) == ["split", "tile"]
    assert len(detail) == 2
    assert detail["split"].tolist() == [[2, 2, 2], [0, 0, 0]]
    assert detail["tile"].tolist() == [[8, 8, 8], [4, 4, 4]]
    assert detail["split"].tolist() == [[2, 2, 2], [0, 0, 0]]
    assert detail.get("waves") is None


def test_an_unknown_energy_is_never_forgotten() -> None:
    book = ledger()
    some = np.ones((1, 3))
    book.add_compute(FIRST, "array", some, some)
    book.add_compute(SECOND, "array", some, None)
    book.add_compute(FIRST, "array", some, some)
    assert book.costs().energy_j["array"] is None


def test_untimed_traffic_costs_energy_but_no_time() -> None:
    book = ledger()
    book.add_traffic(
        FIRST, level("buffer", 3), np.full((1, 3), 10.0), np.full((1, 3), 10.0), timed=False
    )
    costs = book.costs()
    assert costs.level_s == {}
    assert costs.read_bytes["buffer"][0].tolist() == [10, 10, 10]
    assert costs.energy_j["buffer"] is not None


def test_a_restriction_stays_and_its_reason_is_told_once() -> None:
    book = ledger()
    book.restrict(FIRST, np.array([[True, True, True]]), "never said")
    book.restrict(FIRST, np.array([[True, False, True]]), "too small")
    book.restrict(FIRST, np.array([[True, True, False]]), "too small")
    book.cannot_run(SECOND, "impossible")
    costs = book.costs()
    assert costs.fits.tolist() == [[True, False, False], [False, False, False]]
    assert costs.notes == ("too small", "impossible")


def test_names_appear_once_in_order() -> None:
    assert stacked_names({"b": 1, "a": 2}, {"a": 3, "c": 4}) == ("b", "a", "c")
