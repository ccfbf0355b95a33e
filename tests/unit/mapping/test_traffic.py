import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.mapping.machines import array, level, machine, vector

from pentarch.hardware.parts import EngineKind
from pentarch.mapping.traffic import (
    combine,
    level_bandwidth,
    level_costs,
    level_energy,
    vector_engine,
    vector_work,
)


def one(value: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    return np.array([[value]])


def test_all_instances_serve_at_their_sustained_rate() -> None:
    four = level("l", instances=4.0, stream_efficiency=0.5)
    assert level_bandwidth(four).item() == 4 * 32e9 * 0.5


def test_few_requesters_cannot_draw_the_whole_bandwidth() -> None:
    shared = level("l", requester_bytes_per_s=5e9)
    assert level_bandwidth(shared, requesters=one(3)).item() == 15e9
    assert level_bandwidth(shared, requesters=one(30)).item() == 32e9
    assert level_bandwidth(shared).item() == 32e9


def test_reads_and_writes_share_one_port_or_have_one_each() -> None:
    shared = level("l", latency_s=1e-9)
    assert level_costs(shared, one(320), one(640))[0].item() == pytest.approx(30e-9 + 1e-9)
    apart = level("l", write_bytes_per_s=8e9)
    assert level_costs(apart, one(320), one(640))[0].item() == pytest.approx(80e-9)
    assert level_costs(apart, one(3200), one(640))[0].item() == pytest.approx(100e-9)


def test_no_traffic_takes_no_time_not_even_the_latency() -> None:
    assert level_costs(level("l", latency_s=1e-9), one(0), one(0))[0].item() == 0


def test_energy_of_writes_falls_back_to_that_of_reads_and_may_be_unknown() -> None:
    reads, writes = one(10), one(100)
    known = level_energy(level("l"), reads, writes)
    assert known is not None
    assert known.item() == pytest.approx((10 * 2 + 100 * 3) * 1e-12)
    fallback = level_energy(level("l", write_j_per_byte=None), reads, writes)
    assert fallback is not None
    assert fallback.item() == pytest.approx(110 * 2e-12)
    assert level_energy(level("l", read_j_per_byte=None), reads, writes) is None


def test_the_first_vector_engine_is_taken() -> None:
    second = vector(name="second")
    found = vector_engine(machine(engines=(array(), vector(), second)))
    assert found is not None
    assert (found.name, found.kind) == ("vector", EngineKind.VECTOR)
    assert vector_engine(machine(engines=(array(),))) is None


def test_vector_work_names_what_is_missing_only_where_there_is_work() -> None:
    engine = vector(issue_efficiency=0.5)
    counts = {"elementwise": one(80), "scan": one(0), "sort": one(4)}
    seconds, joules, missing = vector_work(engine, counts)
    assert seconds.item() == pytest.approx(80 / (8 * 0.5) * 1e-9)
    assert joules is not None
    assert joules.item() == pytest.approx(400e-12)
    assert missing == ("sort",)


def test_one_unknown_energy_makes_the_sum_unknown() -> None:
    engine = vector(value_j={"elementwise": 1e-12})
    _, joules, _ = vector_work(engine, {"elementwise": one(1), "reduce": one(1)})
    assert joules is None


def test_few_designs_are_combined_as_many_are() -> None:
    rng = np.random.default_rng(7)
    terms = [rng.random((3, 40)) * (rng.random((3, 40)) > 0.2) for _ in range(9)]
    overlap = rng.uniform(1.0, 6.0, 40)
    many = combine(terms, overlap)
    for design in range(40):
        alone = combine([term[:, [design]] for term in terms], overlap[[design]])
        assert alone.tobytes() == np.ascontiguousarray(many[:, [design]]).tobytes()


def test_perfect_overlap_is_the_longest_term() -> None:
    assert combine([one(3.0), one(4.0)], None).item() == 4.0


def test_the_exponent_two_adds_terms_as_sides_of_a_triangle() -> None:
    assert combine([one(3.0), one(4.0)], np.array([2.0])).item() == pytest.approx(5.0)
    assert combine([one(3.0), one(4.0)], np.array([1.0])).item() == pytest.approx(7.0)
    assert combine([one(0.0), one(0.0)], np.array([2.0])).item() == 0.0


@given(
    terms=st.lists(st.floats(0, 1e3), min_size=1, max_size=5),
    exponent=st.floats(1, 50),
)
def test_combined_time_lies_between_the_longest_term_and_the_sum(
    terms: list[float], exponent: float
) -> None:
    total = combine([one(term) for term in terms], np.array([exponent])).item()
    assert max(terms) <= total <= sum(terms) * (1 + 1e-9)
