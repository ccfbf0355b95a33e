"""The next step of the staircase against the whole staircase and one byte less."""

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.mapping.single import GemmShape, map_gemm, traffic_staircase
from pentarch.mapping.staircase import next_refetch_bytes

from .sampling import random_shape


@pytest.mark.parametrize("double", [False, True])
def test_the_next_step_is_the_first_of_the_staircase_that_moves_less(double: bool) -> None:
    generator = np.random.default_rng(1)
    steps = 0
    for _ in range(120):
        shape = random_shape(generator, 120)
        capacity = float(np.floor(np.exp(generator.uniform(1.0, 9.0))))
        used = float(np.floor(capacity / 2)) if double else capacity
        now = map_gemm(shape, used)
        capacities, traffics = traffic_staircase(shape, max(1.0, used), 1e7)
        better = np.ceil(capacities[traffics < (np.inf if now is None else now.traffic_bytes)])
        found = next_refetch_bytes(shape, capacity, double=double)
        if not len(better):
            assert found is None
            continue
        assert found is not None
        steps += 1
        at_step = map_gemm(shape, better[0])
        assert found == (better[0] * (1 + double), at_step.traffic_bytes), (shape, capacity)
    assert steps > 40


def test_one_byte_less_than_the_next_step_moves_as_much_as_now() -> None:
    shape = GemmShape(2048, 12288, 12288)
    capacity, traffic = next_refetch_bytes(shape, 2**21)
    assert map_gemm(shape, 2**21).traffic_bytes == map_gemm(shape, capacity - 1).traffic_bytes
    assert map_gemm(shape, capacity).traffic_bytes == traffic < 503_316_480


def test_what_moves_once_has_no_next_step_and_what_does_not_fit_has_one() -> None:
    shape = GemmShape(8, 8, 8)
    assert next_refetch_bytes(shape, 1000) is None
    # a word of each operand
    assert next_refetch_bytes(shape, 2)[0] == 3
    assert next_refetch_bytes(shape, 2, double=True)[0] == 6
    with pytest.raises(InputError, match="buffer_bytes"):
        next_refetch_bytes(shape, float("nan"))
