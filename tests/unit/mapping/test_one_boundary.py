"""One buffer boundary against brute force, the reference, and itself."""

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.mapping.gemm import GemmRows, map_gemms_one_level
from pentarch.mapping.reference import least_traffic
from pentarch.mapping.single import (
    GemmShape,
    Tile,
    evaluate_tiling,
    map_gemm,
    traffic_lower_bound,
    traffic_staircase,
)

from .brute_force import least_one_boundary
from .exhaustive import register_tile, total
from .sampling import random_shape, rows_of


def test_it_equals_every_tile_and_order_walked_on_small_gemms() -> None:
    generator = np.random.default_rng(1)
    for _ in range(120):
        shape = random_shape(generator, 8)
        capacity = float(np.floor(np.exp(generator.uniform(1.0, 5.0))))
        dims = np.array([shape.m, shape.k, shape.n], dtype=np.int64)
        words = np.array(
            [shape.a_bytes, shape.b_bytes, shape.out_bytes, shape.accumulator_bytes,
             shape.spill_bytes]
        )  # fmt: skip
        walked = least_one_boundary(dims, words, capacity)
        best = map_gemm(shape, capacity)
        assert (-1.0 if best is None else best.traffic_bytes) == walked, (shape, capacity)


def test_of_equal_traffic_the_first_stationarity_and_the_fewest_trips_win() -> None:
    generator = np.random.default_rng(6)
    for _ in range(300):
        shape = random_shape(generator, 24)
        capacity = float(np.floor(np.exp(generator.uniform(2.5, 6.0))))
        dims = (int(shape.m), int(shape.k), int(shape.n))
        found = map_gemms_one_level(rows_of(shape), np.array([capacity]), False, detail=True)
        tiles = [register_tile(shape, dims, kept, capacity) for kept in range(3)]
        costs = []
        for kept, tile in enumerate(tiles):
            trips = [-(-size // part) for size, part in zip(dims, tile, strict=True)]
            costs.append(total(shape, trips))
            tile[kept] = 1
        kept = costs.index(min(costs))
        assert found.detail is not None
        assert found.detail.outer[0, 0] == kept
        assert found.detail.tile[:, 0, 0].tolist() == tiles[kept], (shape, capacity)


def test_it_agrees_with_the_full_scan_on_random_gemms() -> None:
    generator = np.random.default_rng(2)
    found = 0
    for index in range(600):
        shape = random_shape(generator, (60, 3000)[index % 2])
        capacity = float(np.floor(np.exp(generator.uniform(np.log(4), np.log(4e5)))))
        scanned, best = least_traffic(shape, capacity), map_gemm(shape, capacity)
        assert (scanned is None) == (best is None)
        if best is not None and scanned is not None:
            found += 1
            assert best.traffic_bytes == pytest.approx(scanned, rel=1e-9)
            assert best.traffic_bytes >= traffic_lower_bound(shape, capacity)
    assert found > 500


def test_the_tile_found_fits_and_costs_what_was_said() -> None:
    generator = np.random.default_rng(3)
    for _ in range(200):
        shape = random_shape(generator, 500)
        capacity = float(np.floor(np.exp(generator.uniform(np.log(30), np.log(1e5)))))
        found = map_gemms_one_level(rows_of(shape), np.array([capacity]), False, detail=True)
        tile = Tile(*found.detail.tile[:, 0, 0])
        live = (
            shape.a_bytes * tile.m * tile.k
            + shape.b_bytes * tile.k * tile.n
            + shape.accumulator_bytes * tile.m * tile.n
        )
        assert live <= capacity
        order = ("knm", "mnk", "mkn")[int(found.detail.outer[0, 0])]
        walked = evaluate_tiling(shape, tile, order=order)
        assert found.memory_read_bytes[0, 0] == pytest.approx(
            walked.a_bytes + walked.b_bytes + walked.c_read_bytes, rel=1e-12
        )
        assert found.memory_write_bytes[0, 0] == pytest.approx(walked.c_write_bytes, rel=1e-12)
        assert found.memory_b_bytes[0, 0] == pytest.approx(walked.b_bytes, rel=1e-12)


@pytest.mark.parametrize("uneven", [False, True])
def test_more_capacity_is_never_more_traffic(uneven: bool) -> None:
    shape = GemmShape(197.0, 768.0, 1000.0, 2.0, 0.53125, 2.0, 4.0, 4.0)
    capacity = np.arange(10.0, 60000.0, 7.0)
    found = map_gemms_one_level(rows_of(shape, len(capacity)), capacity, False, uneven=uneven)
    total = (found.memory_read_bytes + found.memory_write_bytes)[0]
    assert (np.diff(total) <= 0.0).all()
    assert np.diff(total).min() < 0.0


def test_uneven_tiles_never_move_more_than_even_ones() -> None:
    generator = np.random.default_rng(4)
    for _ in range(100):
        shape = random_shape(generator, 300)
        capacity = float(np.floor(np.exp(generator.uniform(np.log(20), np.log(1e5)))))
        even, uneven = map_gemm(shape, capacity), map_gemm(shape, capacity, convention="uneven")
        assert even is not None
        assert uneven is not None
        assert uneven.traffic_bytes <= even.traffic_bytes


def test_the_staircase_equals_the_direct_optimum_and_every_step_falls() -> None:
    generator = np.random.default_rng(5)
    for shape in (GemmShape(2048, 12288, 12288), random_shape(generator, 4000)):
        capacities, traffics = traffic_staircase(shape, 3000.0, 2.0**25)
        assert (np.diff(capacities) > 0).all()
        assert (np.diff(traffics) < 0).all()
        at = np.floor(np.exp(generator.uniform(np.log(3000), np.log(2**25), 300)))
        at = np.concatenate((at, capacities, capacities[1:] - 1))
        found = map_gemms_one_level(rows_of(shape, len(at)), at, False)
        step = np.searchsorted(capacities, at, side="right") - 1
        assert (found.memory_read_bytes + found.memory_write_bytes)[0].tolist() == traffics[
            step
        ].tolist()


def test_the_staircase_of_a_gemm_that_never_fits_is_empty() -> None:
    capacities, traffics = traffic_staircase(GemmShape(4, 4, 4), 1.0, 2.0)
    assert capacities.size == traffics.size == 0


def test_a_resident_b_costs_nothing_at_memory_and_leaves_room() -> None:
    # B is the whole problem: 1 x 4096 x 4096. With it resident only A (4096) and C (4096) move.
    rows = rows_of(GemmShape(1.0, 4096.0, 4096.0))
    resident = GemmRows(
        rows.m, rows.k, rows.n, rows.a_bytes, rows.b_bytes, rows.out_bytes,
        rows.accumulator_bytes, rows.spill_bytes, b_resident=np.array([[True]]),
    )  # fmt: skip
    found = map_gemms_one_level(resident, np.array([4097.0]), False)
    assert found.memory_b_bytes[0, 0] == 0.0
    assert found.memory_read_bytes[0, 0] == 4096.0
    assert found.memory_write_bytes[0, 0] == 4096.0


def test_a_buffer_too_small_for_one_word_of_each_is_said_not_raised() -> None:
    found = map_gemms_one_level(rows_of(GemmShape(3, 5, 7), 2), np.array([2.0, 3.0]), False)
    assert found.fits.tolist() == [[False, True]]
    assert np.isfinite(found.memory_read_bytes).all()
    assert found.memory_read_bytes[0, 0] >= found.memory_read_bytes[0, 1]


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(InputError, match=r"GemmRows\.k contains 0"):
        map_gemms_one_level(rows_of(GemmShape(3, 0, 7)), np.array([9.0]), False)
    with pytest.raises(InputError, match=r"buffer_bytes has the shape"):
        map_gemms_one_level(rows_of(GemmShape(3, 5, 7)), np.array([9.0, 9.0]), False)
    with pytest.raises(InputError, match="loop order"):
        evaluate_tiling(GemmShape(3, 5, 7), Tile(1, 1, 1), order="mmk")
    with pytest.raises(InputError, match="tile along k is 6"):
        evaluate_tiling(GemmShape(3, 5, 7), Tile(1, 6, 1), order="mnk")
