"""The compiled loops of the cost model against NumPy, term by term."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import GHZ, IDEAL, machine, memory, request, vector, vectors

from pentarch.graph.operators import Phase
from pentarch.hardware.columns import Floats, sum_rows
from pentarch.hardware.parts import Overhead, Stationary
from pentarch.mapping import summing
from pentarch.mapping.cost_vector import VectorLoad, cost_vector, sum_vector
from pentarch.mapping.costs import REMEMBERED, RowMemo
from pentarch.mapping.engine import row_times

ROWS, DESIGNS = 5, 33


def numbers(*shape: int, seed: int = 0) -> Floats:
    return np.random.default_rng(seed).uniform(0.5, 1e3, shape)


@pytest.mark.parametrize("width", [1, DESIGNS])
def test_weighted_sums_add_the_rows_of_each_phase_in_order(width: int) -> None:
    values, weights = numbers(ROWS, DESIGNS), numbers(ROWS, width, seed=1)
    phases = np.array([0, 1, 1, 0, 1])
    found = np.zeros((2, DESIGNS))
    summing.weigh(values, weights, phases, found)

    expected = [sum_rows((values * weights)[phases == phase]) for phase in (0, 1)]
    assert found.tobytes() == np.array(expected).tobytes()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, -1e-300])
def test_one_wrong_value_is_seen_wherever_it_is(wrong: float) -> None:
    values = numbers(ROWS, DESIGNS)
    values[0, 0] = 0.0
    assert summing.is_sound(values)
    for row in range(ROWS):
        for design in (0, 7, DESIGNS - 1):
            changed = values.copy()
            changed[row, design] = wrong
            assert not summing.is_sound(changed)


@pytest.mark.parametrize("has_write_port", [False, True])
def test_a_level_takes_the_time_of_its_slower_port(has_write_port: bool) -> None:
    read, write = numbers(ROWS, DESIGNS), numbers(ROWS, DESIGNS, seed=1)
    read[1], write[1] = 0.0, 0.0
    level, waits = numbers(5, DESIGNS, seed=2), np.array([1.0, 1.0, 0.0, 1.0, 0.0])
    busy = (read + write) / level[0]
    if has_write_port:
        busy = np.maximum(read / level[0], write / level[1])
    else:
        level[1] = 0.0
    expected = np.where(read + write > 0, busy + level[2] * waits[:, None], 0.0)
    found = np.empty((2, ROWS, DESIGNS))
    summing.level_costs(read, write, level, waits, found)

    assert found[0].tobytes() == expected.tobytes()
    assert found[1].tobytes() == (read * level[3] + write * level[4]).tobytes()


@pytest.mark.parametrize("stationary", [Stationary.OUTPUT, Stationary.WEIGHT])
def test_arrays_read_each_word_once_for_what_they_hold(stationary: Stationary) -> None:
    m, rows = np.floor(numbers(ROWS, DESIGNS)), np.floor(numbers(ROWS, 6, seed=1))
    height, width = np.floor(numbers(2, DESIGNS, seed=2)) + 1.0
    k, n, a, b, out, held = (column[:, None] for column in rows.T)
    words, sums = m * k * np.ceil(n / width), m * n
    b_words: Any = k * n * np.ceil(m / height)
    returned: Any = 0.0
    if stationary is Stationary.WEIGHT:
        b_words, returned = k * n, (np.ceil(k / height) - 1.0) * sums * held
    found = np.empty((2, ROWS, DESIGNS))
    engine = np.stack([height, width])
    summing.stream(m, rows, engine, stationary is Stationary.WEIGHT, found)

    assert found[0] == pytest.approx(words * a + b_words * b + returned, rel=1e-14)
    assert found[1] == pytest.approx(sums * out + returned, rel=1e-14)


def test_a_slower_clock_slows_what_follows_it() -> None:
    scaled, still, fixed, weights = (numbers(ROWS, DESIGNS, seed=seed) for seed in range(4))
    ratio = numbers(DESIGNS, seed=4) / 1e3
    found = np.empty(DESIGNS)
    summing.slowed(scaled, still, fixed, weights, ratio, found)

    expected = sum_rows((fixed + np.maximum(scaled / ratio, still)) * weights)
    assert found.tobytes() == expected.tobytes()


def test_the_door_copies_only_what_has_to_be_copied() -> None:
    values = numbers(ROWS, DESIGNS)
    assert summing.door(values) is values
    for other in (values[:, ::2], values.T, np.broadcast_to(values[:1], values.shape)):
        copied = summing.door(other)
        assert copied.flags.c_contiguous
        assert copied.flags.writeable
        assert (copied == other).all()
    assert summing.door(np.ones(3, dtype=np.int64)).dtype == np.float64


VECTOR_ROWS = vectors(
    {"functions": "rms_norm", "transcendental": 3.0, "reduce": 7.0},
    {"functions": "quantize", "convert": 5.0, "phases": Phase.DECODE},
    {"functions": "kv_append", "elementwise": 0.0, "phases": Phase.DECODE, "weight_bytes": 0.0},
    {"functions": "sampling", "fusable": False, "phases": Phase.DECODE},
)


def load(length: int, kept: float | np.ndarray = 0.0) -> VectorLoad:
    return VectorLoad(
        concurrency=np.arange(1.0, length + 1.0), resident_kv=np.ones(length) * kept,
        start_s=np.full(length, 1e-7), activation_bytes=None,
    )  # fmt: skip


def test_activations_that_stay_move_in_the_buffer() -> None:
    # Of three designs the first keeps nothing, the second the rows of prefill, the third all rows.
    on, rooms = machine(3), np.array([[0.0, 1e6, 1e6], [0.0, 0.0, 1e6]])
    kept = VectorLoad(np.full(3, 2.0), None, rooms, np.zeros(3))
    sums = sum_vector(VECTOR_ROWS, on, IDEAL, kept, RowMemo())
    assert sums is not None
    is_decode = VECTOR_ROWS.is_decode
    stays = np.where(is_decode[:, None], [[False, False, True]], [[False, True, True]])
    asked = request(on, VECTOR_ROWS, resident_activations=stays)
    sequences = np.where(is_decode[:, None], 2.0, 1.0) * np.ones(3)
    costs = cost_vector(replace(asked, sequences=sequences))
    weights = VECTOR_ROWS.executions[:, None]
    assert costs.read_bytes["buffer"][:, 0].sum() == 0.0
    for name in ("memory", "buffer"):
        joules, by_rows = sums.energy_j[name], costs.energy_j[name]
        assert joules is not None
        assert by_rows is not None
        assert joules.sum(axis=0) == pytest.approx(sum_rows(by_rows * weights), rel=1e-12)
    busy = sum_rows(row_times(costs, overlap=None).total_s * weights)
    assert sums.busy_s.sum(axis=0) == pytest.approx(busy, rel=1e-12)


def test_work_that_no_lane_can_do_needs_a_look_at_the_rows() -> None:
    slow = machine(3, engines=(vector(3, values_per_cycle={"elementwise": 1.0}),))
    assert sum_vector(VECTOR_ROWS, slow, IDEAL, load(3), RowMemo()) is None
    loose = machine(3, overhead=machine_overhead(3, overlap=2.0))
    assert sum_vector(VECTOR_ROWS, loose, IDEAL, load(3), RowMemo()) is None
    assert sum_vector(VECTOR_ROWS, machine(3), IDEAL, load(3), RowMemo()) is not None


def machine_overhead(length: int, **changes: float) -> Any:
    from pentarch.hardware.columns import columns

    return columns(Overhead, length, **changes)


def test_an_unknown_energy_stays_unknown_in_sums() -> None:
    on = machine(3, engines=(vector(3, value_j=None, clock_hz=GHZ),))
    found = sum_vector(VECTOR_ROWS, on, IDEAL, load(3), RowMemo())
    assert found is not None
    assert found.energy_j["vector"] is None
    silent = machine(3, levels=(memory(3, read_j_per_byte=None), *machine(3).levels[1:]))
    found = sum_vector(VECTOR_ROWS, silent, IDEAL, load(3), RowMemo())
    assert found is not None
    assert found.energy_j["memory"] is None


def test_energy_of_vector_rows_is_that_of_their_costs() -> None:
    on = machine(3)
    asked = request(on, VECTOR_ROWS, sequences=1.0)
    costs = cost_vector(asked)
    one = VectorLoad(np.ones(3), None, None, np.zeros(3))
    sums = sum_vector(VECTOR_ROWS, on, IDEAL, one, RowMemo())
    assert sums is not None
    weights = VECTOR_ROWS.executions[:, None]
    for name, joules in sums.energy_j.items():
        by_rows = costs.energy_j[name]
        assert joules is not None
        assert by_rows is not None
        assert joules.sum(axis=0) == pytest.approx(sum_rows(by_rows * weights), rel=1e-12)


def test_a_memo_tells_rows_apart_by_identity_and_forgets_the_oldest() -> None:
    memo, made = RowMemo(), []

    def make() -> int:
        made.append(1)
        return len(made)

    first, second = vectors({}), vectors({})
    assert [memo.of(first, "fact", make), memo.of(first, "fact", make)] == [1, 1]
    assert memo.of(second, "fact", make) == 2
    assert memo.of(first, "other", make) == 3
    for index in range(REMEMBERED):
        memo.of(first, index, make)
    assert memo.of(first, "fact", make) == REMEMBERED + 4
