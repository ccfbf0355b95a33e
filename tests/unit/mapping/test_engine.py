"""The engine's door, and what must hold for any machine and any row."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.mapping.machines import (
    array,
    attentions,
    cached_machine,
    collectives,
    gemms,
    level,
    link,
    machine,
    memory,
    request,
    vector,
    vectors,
)

from pentarch.errors import CostError
from pentarch.graph.table import RowCommon
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Scope, Stationary
from pentarch.mapping.costs import RowCosts
from pentarch.mapping.engine import check_costs, cost_rows, row_times

ROWS: dict[str, RowCommon] = {
    "gemm": gemms(
        {"rows": 1.0, "k": 300.0, "n": 200.0},
        {"rows": 40.0, "k": 64.0, "n": 500.0, "a_formats": "bf16", "b_formats": "int4_g128"},
        {"rows": 3.0, "k": 64.0, "n": 96.0, "experts": 8.0, "experts_per_token": 2.0},
        {"a_formats": "bf16", "b_formats": "bf16"},
    ),
    "attention": attentions(
        {"keys": 100.0},
        {"query_tokens": 33.0, "keys": 40.0, "kv_formats": "fp8"},
        {"query_tokens": 16.0, "keys": 16.0, "pairs": 50.0},
    ),
    "vector": vectors({}, {"transcendental": 9.0, "fusable": False}, {"functions": "kv_append"}),
    "collective": collectives(
        {}, {"functions": "all_to_all"}, {"functions": "send", "degree": 2.0}
    ),
}
KINDS = sorted(ROWS)
SHAPES = ("one buffer", "two buffers", "cache")


def random_machine(shape: str, draws: Any, length: int) -> MachineTable:
    """Return designs of one structure whose numbers are log-uniform draws."""

    def draw(low: float, high: float) -> Any:
        return np.exp(draws.uniform(np.log(low), np.log(high), length))

    whole = draws.integers(1, 40, length).astype(np.float64)
    links = (link(length=length, degree=8.0, bytes_per_s=draw(1e8, 1e10)),)
    if shape == "cache":
        on = cached_machine(
            length, cache={"size_bytes": draw(1e4, 1e7)}, units=whole, macs_per_cycle={
                "bf16": draw(16, 1024), "fp8": draw(16, 1024)}, mac_j={"bf16": 1e-12, "fp8": 1e-12},
        )  # fmt: skip
        return replace(on, links=links)
    levels = [
        memory(length, read_bytes_per_s=draw(1e9, 1e11)),
        level("buffer", length, size_bytes=draw(4e3, 1e6)),
    ]
    feeds = "buffer"
    if shape == "two buffers":
        feeds = "own"
        levels.append(
            level("own", length, scope=Scope.UNIT, instances=whole, size_bytes=draw(1e3, 1e5))
        )
    style = (Stationary.OUTPUT, Stationary.WEIGHT, Stationary.NONE)[int(draws.integers(3))]
    engine = array(length, feeds_from=feeds, units=whole, stationary=style, clock_hz=draw(1e8, 3e9))
    return machine(length, levels=tuple(levels), engines=(engine, vector(length)), links=links)


def single(on: MachineTable, index: int) -> MachineTable:
    """Return one design of a batch."""
    at = np.array([index])
    return replace(
        on, length=1, levels=tuple(part.take(at) for part in on.levels),
        engines=tuple(part.take(at) for part in on.engines),
        links=tuple(part.take(at) for part in on.links), overhead=on.overhead.take(at),
        power=on.power.take(at), cost=on.cost.take(at),
    )  # fmt: skip


def arrays_of(costs: RowCosts) -> dict[str, Any]:
    found: dict[str, Any] = {
        "fixed_s": costs.fixed_s, "executed_macs": costs.executed_macs, "fits": costs.fits,
    }  # fmt: skip
    for group in ("compute_s", "level_s", "read_bytes", "write_bytes", "energy_j", "detail"):
        for name, values in getattr(costs, group).items():
            found[f"{group}.{name}"] = values
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_gives_the_same_bytes_as_its_designs_one_by_one(shape: str, kind: str) -> None:
    draws = np.random.default_rng(7)
    on = random_machine(shape, draws, 6)
    load = draws.integers(1, 50, 6).astype(np.float64)
    together = arrays_of(cost_rows(request(on, ROWS[kind], sequences=load)))
    for index in range(6):
        alone = arrays_of(cost_rows(request(single(on, index), ROWS[kind], sequences=load[index])))
        assert alone.keys() == together.keys()
        for name, values in alone.items():
            assert values[:, 0].tobytes() == together[name][:, index].tobytes(), name


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES), kind=st.sampled_from(KINDS),
    exponent=st.one_of(st.none(), st.floats(1, 8)),
)  # fmt: skip
def test_no_row_beats_any_of_its_resources_and_nothing_is_negative(
    seed: int, shape: str, kind: str, exponent: float | None
) -> None:
    on = random_machine(shape, np.random.default_rng(seed), 3)
    asked = request(on, ROWS[kind], sequences=3.0)
    costs = cost_rows(asked)
    check_costs(asked, costs)
    times = row_times(costs, overlap=None if exponent is None else np.full(3, exponent))
    assert (times.total_s >= times.terms_s).all()
    assert (times.total_s <= (costs.fixed_s + times.terms_s.sum(axis=0)) * (1 + 1e-9)).all()
    for name, joules in costs.energy_j.items():
        assert joules is not None, name
        assert (joules >= 0).all(), name


def compulsory(kind: str) -> tuple[Any, Any]:
    """Return the bytes that must be read and written for three sequences, by row."""
    if kind == "gemm":
        moved = [  # A, B, C; one weight for all rows
            (3 * 300 + 300 * 200, 3 * 200 * 2),
            (120 * 64 * 2 + 64 * 500 * 4.125 / 8, 120 * 500 * 2),
            # 9 rows take 2 experts each: at least two are visited, with a row each
            (2 * 64 * 96, 18 * 96 * 2),
            (24 * 16 * 2 + 16 * 12 * 2, 24 * 12 * 2),
        ]
    else:
        moved = [  # 3 x (8 query heads of width 4 and 2 key-value heads of keys and values)
            (3 * (8 * 4 * 2 + 2 * 100 * 8 * 2), 3 * 8 * 4 * 2),
            (3 * (33 * 8 * 4 * 2 + 2 * 40 * 8), 3 * 33 * 8 * 4 * 2),
            (3 * (16 * 8 * 4 * 2), 3 * 16 * 8 * 4 * 2),
        ]
    return np.array(moved).T[:, :, None]


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES),
    kind=st.sampled_from(["gemm", "attention"]),
)  # fmt: skip
def test_memory_moves_at_least_every_operand_once(seed: int, shape: str, kind: str) -> None:
    on = random_machine(shape, np.random.default_rng(seed), 3)
    costs = cost_rows(request(on, ROWS[kind], sequences=3.0))
    read, write = compulsory(kind)
    assert (costs.read_bytes["memory"] >= read * (1 - 1e-12)).all()
    assert (costs.write_bytes["memory"] >= write * (1 - 1e-12)).all()


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1), shape=st.sampled_from(SHAPES), kind=st.sampled_from(KINDS),
    faster=st.floats(1, 10), part=st.sampled_from(["memory", "buffers", "clock", "links"]),
)  # fmt: skip
def test_faster_parts_are_never_slower(
    seed: int, shape: str, kind: str, faster: float, part: str
) -> None:
    on = random_machine(shape, np.random.default_rng(seed), 3)

    def scaled(entry: Any, *fields: str) -> Any:
        numbers = {
            name: values * faster if name in fields else values
            for name, values in entry.numbers.items()
        }
        return replace(entry, numbers=numbers)

    rates = ("read_bytes_per_s", "write_bytes_per_s", "requester_bytes_per_s")
    quick = replace(
        on,
        levels=tuple(
            scaled(entry, *rates) if part == ("buffers" if index else "memory") else entry
            for index, entry in enumerate(on.levels)
        ),
        engines=tuple(scaled(e, "clock_hz") if part == "clock" else e for e in on.engines),
        links=tuple(scaled(e, "bytes_per_s") if part == "links" else e for e in on.links),
    )

    def total(one: MachineTable) -> Any:
        return row_times(cost_rows(request(one, ROWS[kind], sequences=3.0)), overlap=None).total_s

    assert (total(quick) <= total(on) * (1 + 1e-9)).all()


def test_the_bottleneck_is_the_resource_with_the_largest_term() -> None:
    on = machine()
    times = row_times(cost_rows(request(on, gemms({}))), overlap=None)
    largest = times.terms_s[times.bottleneck.item(), 0, 0]
    assert largest == times.terms_s.max() == times.total_s.item()


def test_rows_without_terms_take_their_fixed_time() -> None:
    costs = cost_rows(request(machine(), collectives({"degree": 1.0})))
    costs.fixed_s[...] = 2e-6
    times = row_times(costs, overlap=None)
    assert times.total_s.item() == 2e-6
    assert times.resources == ()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0])
def test_an_impossible_cost_names_figure_row_machine_and_design(value: float) -> None:
    asked = request(machine(2), gemms({}, {}))
    costs = cost_rows(asked)
    costs.level_s["memory"][1, 1] = value
    with pytest.raises(
        CostError, match=r"level_s\[memory\] of operator 'row1' on machine 'made-up, design 1'"
    ):
        check_costs(asked, costs)


def test_an_unknown_energy_is_no_error() -> None:
    asked = request(machine(engines=(array(mac_j=None), vector())), gemms({}))
    check_costs(asked, cost_rows(asked))
