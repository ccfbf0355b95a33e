"""Two boundaries: the class by brute force, literal optimum, and both routes to the last bit."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.mapping.gemm import (
    FrontStore,
    GemmRows,
    TrafficEnergy,
    TwoLevelBuffers,
    least_time_s,
    map_gemms,
)
from pentarch.mapping.single import GemmShape

from .brute_force import least_two_boundaries
from .exhaustive import all_candidates
from .sampling import (
    as_bytes,
    compute_seconds,
    gpt3_rows,
    memory_and_register_bytes,
    pick,
    random_buffers,
    random_shape,
    rows_of,
)

NEVER, ALWAYS = 10**9, 1


def one_design(sram: float, registers: float, sram_speed: float = 4.0) -> TwoLevelBuffers:
    """Return a design whose memory moves a byte a second."""
    return TwoLevelBuffers(*(np.array([x], dtype=float) for x in (sram, registers, 1, sram_speed)))


def cases(
    seed: int, count: int, largest: int, room: tuple[float, float] = (0.0, 2.5)
) -> Iterator[tuple[GemmShape, float, float, float]]:
    """Yield shapes with registers for e**room tiles of one or so, and an SRAM at least as large."""
    generator = np.random.default_rng(seed)
    for _ in range(count):
        shape = random_shape(generator, largest)
        least = shape.a_bytes + shape.b_bytes + shape.accumulator_bytes
        registers = float(np.floor(least * np.exp(generator.uniform(*room))) + 1)
        sram = float(np.floor(registers * np.exp(generator.uniform(0.0, 3.0))))
        yield shape, sram, registers, float(np.exp(generator.uniform(0.3, 3.0)))


def test_the_search_finds_the_least_time_memory_and_register_traffic_of_its_class() -> None:
    for index, (shape, sram, registers, speed) in enumerate(cases(1, 150, 26)):
        every = all_candidates(shape, sram, registers)
        floor_s = (0.0, 1.3 * min(d for d, _ in every))[index % 2]
        wanted = min((max(floor_s, d, (d + q) / speed), d, q) for d, q in every)
        buffers = one_design(sram, registers, speed)
        found = map_gemms(rows_of(shape), buffers, np.array([[floor_s]]))
        d, q = memory_and_register_bytes(found)
        assert d[0, 0] == pytest.approx(wanted[1], rel=1e-12), (shape, sram, registers)
        assert q[0, 0] == pytest.approx(wanted[2], rel=1e-12), (shape, sram, registers)


def test_a_stored_front_holds_every_non_dominated_pair_of_its_class() -> None:
    for shape, sram, registers, _ in (*cases(2, 100, 24), *cases(12, 250, 24, (2.0, 3.5))):
        wanted, least = [], np.inf
        for d, q in sorted(all_candidates(shape, sram, registers)):
            if q < least:
                wanted.append((d, q))
                least = q
        store = FrontStore(shared_designs=ALWAYS)
        map_gemms(rows_of(shape), one_design(sram, registers), np.zeros((1, 1)), store=store)
        (front,) = store._fronts.values()
        assert front[0].tolist() == pytest.approx([d for d, _ in wanted], rel=1e-12)
        assert front[1].tolist() == pytest.approx([q for _, q in wanted], rel=1e-12)


def test_the_class_nearly_always_holds_the_literal_optimum(
    record_property: Callable[[str, object], None],
) -> None:
    # Every pair of tiles and all 36 pairs of orders, walked. The class may only lose, and rarely.
    ratios = []
    for shape, sram, registers, speed in cases(3, 150, 4):
        dims = np.array([shape.m, shape.k, shape.n], dtype=np.int64)
        words = np.array(
            [shape.a_bytes, shape.b_bytes, shape.out_bytes, shape.accumulator_bytes,
             shape.spill_bytes]
        )  # fmt: skip
        rates = np.array([0.0, 1.0, speed])
        literal = least_two_boundaries(dims, words, np.array([sram, registers]), rates)
        buffers = one_design(sram, registers, speed)
        d, q = memory_and_register_bytes(map_gemms(rows_of(shape), buffers, np.zeros((1, 1))))
        ratios.append(max(d[0, 0], (d + q)[0, 0] / speed) / literal)
        assert least_time_s(rows_of(shape), buffers, np.zeros((1, 1)))[0, 0] <= literal * (1 + 1e-9)
    equal = float(np.mean(np.array(ratios) < 1 + 1e-9))
    record_property("equal_to_literal_optimum", equal)
    record_property("worst_ratio", max(ratios))
    assert min(ratios) > 1 - 1e-9
    assert equal >= 0.95
    assert max(ratios) < 1.3


@pytest.mark.parametrize("double", [False, True])
def test_fronts_and_direct_search_give_the_same_bytes(double: bool) -> None:
    generator = np.random.default_rng(4)
    rows = gpt3_rows(60)
    buffers, macs = random_buffers(generator, 60, grid=True)
    buffers = replace(buffers, sram_double=double, register_double=double)
    resident = generator.random(rows.m.shape) < 0.3
    rows = replace(
        rows, b_resident=resident, m=np.maximum(1, rows.m // generator.choice([1, 2], 60))
    )
    compute = compute_seconds(rows, macs)
    direct = map_gemms(rows, buffers, compute, store=FrontStore(shared_designs=NEVER), detail=True)
    fronts = map_gemms(rows, buffers, compute, store=FrontStore(shared_designs=ALWAYS), detail=True)
    mixed = map_gemms(rows, buffers, compute, store=FrontStore(shared_designs=3), detail=True)
    assert as_bytes(direct) == as_bytes(fronts) == as_bytes(mixed)
    assert (direct.memory_b_bytes[resident] == 0.0).all()


def test_fronts_and_direct_search_agree_on_many_small_gemms_with_ties() -> None:
    for shape, sram, registers, _ in cases(5, 150, 40):
        speeds = np.exp(np.linspace(0.2, 3.5, 12))
        many = np.ones(12)
        buffers = TwoLevelBuffers(sram * many, registers * many, many, speeds)
        rows, compute = rows_of(shape, 12), np.zeros((1, 12))
        direct = map_gemms(
            rows, buffers, compute, store=FrontStore(shared_designs=NEVER), detail=True
        )
        fronts = map_gemms(
            rows, buffers, compute, store=FrontStore(shared_designs=ALWAYS), detail=True
        )
        assert as_bytes(direct) == as_bytes(fronts), shape


def test_a_batch_equals_its_designs_one_by_one_and_in_any_order() -> None:
    generator = np.random.default_rng(6)
    rows = gpt3_rows(70)
    buffers, macs = random_buffers(generator, 70, grid=True)
    buffers = replace(
        buffers, sram_bytes=np.where(np.arange(70) < 55, 2.0**19, buffers.sram_bytes),
        register_bytes=np.where(np.arange(70) < 55, 2.0**12, buffers.register_bytes),
    )  # fmt: skip
    compute = compute_seconds(rows, macs)
    store = FrontStore()
    whole = map_gemms(rows, buffers, compute, store=store, detail=True)
    assert len(store) == 10, "55 designs share a key: fronts and direct search are both at work"
    shuffled = generator.permutation(70)
    few, some = pick(rows, buffers, shuffled)
    turned = map_gemms(few, some, compute[:, shuffled])
    assert turned.memory_read_bytes.tobytes() == whole.memory_read_bytes[:, shuffled].tobytes()
    assert turned.sram_write_bytes.tobytes() == whole.sram_write_bytes[:, shuffled].tobytes()
    for design in range(0, 70, 3):
        few, some = pick(rows, buffers, [design])
        alone = map_gemms(few, some, compute[:, [design]], detail=True)
        assert alone.memory_read_bytes.tobytes() == whole.memory_read_bytes[:, [design]].tobytes()
        assert alone.sram_read_bytes.tobytes() == whole.sram_read_bytes[:, [design]].tobytes()
        assert alone.detail.tile.tobytes() == whole.detail.tile[:, :, [design]].tobytes()


def test_more_sram_or_bandwidth_is_never_slower() -> None:
    shape = GemmShape(300.0, 500.0, 700.0, 1.0, 1.0, 1.0, 4.0, 4.0)
    steps = np.arange(1500.0, 80000.0, 157.0)
    buffers = TwoLevelBuffers(
        steps, np.full_like(steps, 1200.0), np.ones_like(steps), np.full_like(steps, 5.0)
    )
    d, q = memory_and_register_bytes(
        map_gemms(rows_of(shape, len(steps)), buffers, np.zeros((1, len(steps))))
    )
    time = np.maximum(d, (d + q) / 5.0)[0]
    assert (np.diff(time) <= 0).all()
    assert time[-1] < time[0]
    faster = replace(buffers, sram_bytes_per_s=np.full_like(steps, 6.0))
    d2, q2 = memory_and_register_bytes(
        map_gemms(rows_of(shape, len(steps)), faster, np.zeros((1, len(steps))))
    )
    assert (np.maximum(d2, (d2 + q2) / 6.0)[0] <= time).all()


def test_tiles_fit_their_buffers() -> None:
    generator = np.random.default_rng(7)
    rows = gpt3_rows(30)
    buffers, macs = random_buffers(generator, 30)
    found = map_gemms(rows, buffers, compute_seconds(rows, macs), detail=True)
    for tile, size in (
        (found.detail.tile, buffers.sram_bytes),
        (found.detail.register_tile, buffers.register_bytes),
    ):
        m, k, n = tile
        assert (m * k + k * n + 4 * m * n <= size).all()
    assert (found.detail.register_tile <= found.detail.tile).all()


@pytest.mark.parametrize("objective", ["energy", "edp"])
def test_an_energy_objective_takes_the_best_candidate_of_the_class(objective: str) -> None:
    for shape, sram, registers, speed in cases(8, 12, 14):
        energy = TrafficEnergy(np.array([3.0]), np.array([0.5]), np.array([[100.0]]))
        buffers = replace(one_design(sram, registers, speed), energy=energy)

        def value(d: float, q: float, speed: float = speed) -> float:
            joules = 3.0 * d + 0.5 * (q + d) + 100.0
            return joules if objective == "energy" else joules * max(d, (d + q) / speed)

        wanted = min(value(d, q) for d, q in all_candidates(shape, sram, registers))
        found = map_gemms(rows_of(shape), buffers, np.zeros((1, 1)), objective=objective)
        d, q = memory_and_register_bytes(found)
        assert value(d[0, 0], q[0, 0]) == pytest.approx(wanted, rel=1e-12)


def test_an_energy_objective_without_energies_is_refused() -> None:
    with pytest.raises(InputError, match=r"TwoLevelBuffers\.energy"):
        map_gemms(
            rows_of(GemmShape(4, 4, 4)), one_design(64, 16), np.zeros((1, 1)), objective="energy"
        )


def test_registers_too_small_for_a_tile_of_one_are_said_not_raised() -> None:
    two = np.array([12.0, 12.0])
    buffers = TwoLevelBuffers(two, np.array([2.0, 3.0]), two, two)
    for shared in (NEVER, ALWAYS):
        found = map_gemms(
            rows_of(GemmShape(3, 5, 7), 2),
            buffers,
            np.zeros((1, 2)),
            store=FrontStore(shared_designs=shared),
        )
        assert found.fits.tolist() == [[False, True]]
        assert np.isfinite(found.sram_read_bytes).all()
        assert found.sram_read_bytes[0, 0] >= found.sram_read_bytes[0, 1]


def test_a_store_forgets_what_was_not_used_for_long() -> None:
    store = FrontStore(max_bytes=4000, shared_designs=ALWAYS)
    buffers = one_design(64, 16)
    for size in range(4, 40):
        map_gemms(rows_of(GemmShape(size, 9, 9)), buffers, np.zeros((1, 1)), store=store)
    assert 1 <= len(store) < 36
    assert sum(front.nbytes for front in store._fronts.values()) <= 4000
    assert next(reversed(store._fronts))[0] == 39.0


def test_a_resident_weight_is_read_from_sram_only() -> None:
    # One output word per SRAM pass: B (64 x 64 words) must still reach the registers once.
    rows = rows_of(GemmShape(1.0, 64.0, 64.0))
    resident = GemmRows(
        rows.m, rows.k, rows.n, rows.a_bytes, rows.b_bytes, rows.out_bytes,
        rows.accumulator_bytes, rows.spill_bytes, b_resident=np.array([[True]]),
    )  # fmt: skip
    found = map_gemms(resident, one_design(500, 200), np.zeros((1, 1)))
    assert found.memory_b_bytes[0, 0] == 0.0
    assert found.memory_read_bytes[0, 0] == 64.0
    assert found.sram_read_bytes[0, 0] >= 64.0 * 64.0
