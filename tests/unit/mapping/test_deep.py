"""Any number of boundaries: literal optimum, certificate, the routes for one and two, properties."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.mapping.deep import DeepBuffers, DeepLevel, DeepTraffic, map_gemms_deep
from pentarch.mapping.gemm import GemmRows, TwoLevelBuffers, map_gemms, map_gemms_one_level
from pentarch.mapping.single import GemmShape

from .deep_brute_force import least, live, moved, nested_tiles
from .sampling import compute_seconds, random_shape, rows_of

ORDER_OF = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])
"""Loops, outer to inner, of stationarity 0, 1, 2."""


def hierarchy(
    sizes: list[float], seconds: list[float], joules: list[float] | None = None
) -> tuple[DeepLevel, ...]:
    """Return memory and buffers by seconds and joules per byte."""
    return tuple(
        DeepLevel(
            None if size is None else np.array([float(size)]), np.array([1.0 / second]),
            read_j_per_byte=None if joules is None else np.array([joules[at]]),
        )
        for at, (size, second) in enumerate(zip([None, *sizes], seconds, strict=True))
    )  # fmt: skip


def solve(shape: GemmShape, levels: tuple[DeepLevel, ...], objective: str = "time") -> DeepTraffic:
    """Map one GEMM on one design whose arithmetic takes no time."""
    buffers = DeepBuffers(levels, np.zeros((1, 1)))
    return map_gemms_deep(rows_of(shape), buffers, objective=objective, detail=True)


def small_cases(
    seed: int, count: int, levels: int, most: int
) -> Iterator[tuple[GemmShape, list[float], list[float], list[float]]]:
    """Yield tiny GEMMs with buffers that shrink inwards and levels that speed up."""
    generator = np.random.default_rng(seed)
    while count:
        shape = random_shape(generator, 7 if levels == 2 else 4)
        if not 4 <= shape.m * shape.k * shape.n <= most:
            continue
        count -= 1
        tile = shape.a_bytes + shape.b_bytes + shape.accumulator_bytes
        sizes = [float(np.floor(tile * np.exp(generator.uniform(0.0, 1.5))) + 1)]
        while len(sizes) < levels:
            sizes.insert(0, float(np.floor(sizes[0] * np.exp(generator.uniform(0.1, 1.3)))))
        steps = np.cumsum(np.concatenate(([0.0], generator.uniform(0.2, 1.8, levels))))
        yield shape, sizes, list(np.exp(-steps)), list(np.exp(-generator.permutation(steps)))


def literal(
    shape: GemmShape, sizes: list[float], seconds: list[float], joules: list[float]
) -> np.ndarray:
    """Return the least memory bytes, time, energy and product over every tile and order."""
    dims = (int(shape.m), int(shape.k), int(shape.n))
    words = np.array(
        [shape.a_bytes, shape.b_bytes, shape.out_bytes, shape.accumulator_bytes, shape.spill_bytes],
        dtype=float,
    )
    ports = np.array([seconds, joules]).T.copy()
    chains = nested_tiles(dims, len(sizes))
    return least(np.array(dims), words, np.array(sizes), ports, chains)


@pytest.mark.parametrize(("levels", "most"), [(2, 60), (3, 16)])
def test_no_tiles_and_orders_beat_the_mapper_by_more_than_its_gap(levels: int, most: int) -> None:
    equal = []
    for shape, sizes, seconds, joules in small_cases(levels, 200, levels, most):
        wanted = literal(shape, sizes, seconds, joules)
        slow = hierarchy(sizes, [1.0, *(1e-9 for _ in sizes)])
        found = solve(shape, slow)
        moved_bytes = found.read_bytes[0, 0, 0] + found.write_bytes[0, 0, 0]
        assert moved_bytes == wanted[0] == found.least_memory_bytes[0, 0], (shape, sizes)
        timed = hierarchy(sizes, seconds, joules)
        for at, objective in enumerate(("time", "energy", "edp"), start=1):
            found = solve(shape, timed, objective)
            time, energy = found.time_s[0, 0], found.energy_j[0, 0]
            value = (time, energy, time * energy)[at - 1]
            bound = value / (1.0 + found.gap[0, 0])
            assert bound * (1 - 1e-9) <= wanted[at] <= value * (1 + 1e-9), (shape, sizes)
            equal.append(value <= wanted[at] * (1 + 1e-9))
        assert found.least_s[0, 0] <= wanted[1] * (1 + 1e-9)
        assert found.least_j[0, 0] <= wanted[2] * (1 + 1e-9)
    assert np.mean(equal) >= 0.9


def test_every_level_moves_what_walking_its_tiles_moves() -> None:
    # The class gives no credit for the edge tiles of which a level needs a single one, so walking
    # may find fewer bytes, never more.
    same = []
    for shape, sizes, seconds, _ in small_cases(5, 150, 3, 60):
        found = solve(shape, hierarchy(sizes, seconds))
        words = np.array([shape.a_bytes, shape.b_bytes, shape.out_bytes, shape.accumulator_bytes,
                          shape.spill_bytes], dtype=float)  # fmt: skip
        tiles = found.detail.tile[:, :, 0, 0].astype(np.int64)
        orders = ORDER_OF[found.detail.kept[:, 0, 0].astype(np.int64)]
        dims = np.array([shape.m, shape.k, shape.n], dtype=np.int64)
        for level in range(3):
            assert live(tiles[level].astype(float), words) <= sizes[level]
            assert (tiles[level] <= (dims if level == 0 else tiles[level - 1])).all()
            down, up = moved(dims, tiles[: level + 1], orders[: level + 1], words)
            said = found.detail.moved[level, :, 0, 0]
            assert down <= said[:3].sum() * (1 + 1e-12)
            assert up <= said[3] * (1 + 1e-12)
            same.append(down + up == pytest.approx(said.sum(), rel=1e-12))
    assert np.mean(same) > 0.9


def test_one_boundary_equals_the_exact_route() -> None:
    generator = np.random.default_rng(7)
    for _ in range(100):
        shape = random_shape(generator, 3000)
        size = float(np.floor(np.exp(generator.uniform(np.log(12), np.log(1e6)))))
        found = solve(shape, hierarchy([size], [1.0, 1e-9]))
        wanted = map_gemms_one_level(rows_of(shape), np.array([size]), False)
        total = wanted.memory_read_bytes + wanted.memory_write_bytes
        assert found.read_bytes[0] + found.write_bytes[0] == pytest.approx(total, rel=1e-12)
        assert found.gap[0, 0] == 0.0


def test_two_boundaries_are_as_good_as_the_route_of_their_own() -> None:
    generator = np.random.default_rng(8)
    ratios = []
    for _ in range(60):
        shape = random_shape(generator, 1500)
        inner = float(np.floor(np.exp(generator.uniform(np.log(60), np.log(1e4)))))
        outer = float(np.floor(inner * np.exp(generator.uniform(0.0, 5.0))))
        speed = float(np.exp(generator.uniform(0.5, 3.0)))
        found = solve(shape, hierarchy([outer, inner], [1.0, 1.0 / speed, 1e-12]))
        one = np.ones(1)
        wanted = map_gemms(
            rows_of(shape), TwoLevelBuffers(outer * one, inner * one, one, speed * one),
            np.zeros((1, 1)),
        )  # fmt: skip
        memory = wanted.memory_read_bytes + wanted.memory_write_bytes
        onchip = (wanted.sram_read_bytes + wanted.sram_write_bytes) / speed
        ratios.append(float(found.time_s[0, 0] / np.maximum(memory, onchip)[0, 0]))
    assert np.exp(np.mean(np.log(ratios))) < 1.005
    assert max(ratios) < 1.1


def test_more_capacity_or_a_smaller_dimension_never_raises_memory_traffic() -> None:
    def memory_bytes(shape: GemmShape, sizes: list[float]) -> float:
        found = solve(shape, hierarchy(sizes, [1.0, 1e-9, 1e-9, 1e-9]))
        return float(found.read_bytes[0, 0, 0] + found.write_bytes[0, 0, 0])

    generator = np.random.default_rng(9)
    for _ in range(20):
        shape = random_shape(generator, 400)
        sizes = [4000.0, 900.0, 120.0]
        moved_bytes = memory_bytes(shape, sizes)
        once = (
            shape.m * shape.k * shape.a_bytes
            + shape.k * shape.n * shape.b_bytes
            + shape.m * shape.n * shape.out_bytes
        )
        assert moved_bytes >= once
        assert memory_bytes(shape, [4500.0, 900.0, 120.0]) <= moved_bytes
        for name in ("m", "k", "n"):
            larger = replace(shape, **{name: getattr(shape, name) + 1.0})
            assert memory_bytes(larger, sizes) >= moved_bytes


def batch() -> tuple[GemmRows, DeepBuffers]:
    """Return four GEMMs on five designs with three buffers."""
    generator = np.random.default_rng(10)
    m = generator.integers(1, 300, (4, 5)).astype(float)
    k, n = generator.integers(1, 300, (2, 4)).astype(float)
    one = np.ones(4)
    rows = GemmRows(m, k, n, one, 0.5 * one, 2 * one, 4 * one, 4 * one)
    levels = [DeepLevel(None, np.full(5, 1.0), read_j_per_byte=np.full(5, 1.0))]
    for size in (9000.0, 2000.0, 300.0):
        rate = levels[-1].read_bytes_per_s * generator.uniform(1.5, 4.0, 5)
        levels.append(
            DeepLevel(
                np.floor(size * generator.uniform(1.0, 2.0, 5)), rate, 0.7 * rate,
                read_j_per_byte=generator.uniform(0.1, 1.0, 5),
                write_j_per_byte=generator.uniform(0.1, 1.0, 5), double=size == 2000.0,
            )
        )  # fmt: skip
    return rows, DeepBuffers(tuple(levels), compute_seconds(rows, np.full(5, 1e3)))


@pytest.mark.parametrize("objective", ["time", "energy", "edp"])
def test_a_batch_equals_its_designs_one_by_one(objective: str) -> None:
    rows, buffers = batch()
    whole = map_gemms_deep(rows, buffers, objective=objective)
    for at in range(5):
        levels = tuple(
            replace(level, **{
                name: getattr(level, name)[[at]]
                for name in ("size_bytes", "read_bytes_per_s", "write_bytes_per_s",
                             "read_j_per_byte", "write_j_per_byte")
                if getattr(level, name) is not None
            })
            for level in buffers.levels
        )  # fmt: skip
        alone = map_gemms_deep(
            replace(rows, m=rows.m[:, [at]]),
            DeepBuffers(levels, buffers.compute_s[:, [at]]),
            objective=objective,
        )
        assert alone.read_bytes.tobytes() == whole.read_bytes[:, :, [at]].tobytes()
        assert alone.energy_j.tobytes() == whole.energy_j[:, [at]].tobytes()
        assert alone.gap.tobytes() == whole.gap[:, [at]].tobytes()


def test_each_objective_is_least_under_itself() -> None:
    rows, buffers = batch()
    found = {name: map_gemms_deep(rows, buffers, objective=name) for name in ("time", "energy")}
    assert (found["time"].time_s <= found["energy"].time_s * (1 + 1e-12)).all()
    better = found["energy"].energy_j <= found["time"].energy_j * (1 + 1e-12)
    assert (better | (found["energy"].gap > 0)).all()
    assert (found["time"].time_s >= found["time"].least_s * (1 - 1e-12)).all()


def test_a_resident_b_is_not_read_from_memory_and_leaves_room() -> None:
    rows, buffers = batch()
    resident = np.zeros(rows.m.shape, dtype=np.bool_)
    resident[1] = True
    found = map_gemms_deep(replace(rows, b_resident=resident), buffers)
    plain = map_gemms_deep(rows, buffers)
    assert (found.memory_b_bytes[1] == 0.0).all()
    assert (found.memory_b_bytes[0] == plain.memory_b_bytes[0]).all()
    assert (found.least_memory_bytes[1] < plain.least_memory_bytes[1]).all()


def test_a_buffer_below_one_tile_is_said_not_raised() -> None:
    shape = GemmShape(3, 5, 7)
    found = solve(shape, hierarchy([40.0, 2.0, 10.0], [1.0, 0.5, 0.2, 0.1]))
    assert not found.fits[0, 0]
    assert np.isfinite(found.read_bytes).all()


def test_wrong_hierarchies_are_named() -> None:
    shape, levels = GemmShape(3, 5, 7), hierarchy([40.0, 12.0], [1.0, 0.5, 0.2])
    with pytest.raises(InputError, match="at least one buffer"):
        solve(shape, levels[:1])
    with pytest.raises(InputError, match="needs the energy of a byte at every level"):
        solve(shape, levels, "energy")
    with pytest.raises(InputError, match=r"levels\[2\] has no size"):
        solve(shape, (*levels[:2], replace(levels[2], size_bytes=None)))
    with pytest.raises(InputError, match="no objective"):
        solve(shape, levels, "speed")
