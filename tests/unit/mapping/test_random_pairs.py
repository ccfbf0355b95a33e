"""Properties that hold for any operator on any machine, on 10,000 random pairs of both.

100 machines of one structure at a time, 20 to 40 operators each: GEMMs and attention behind one and
two scratchpads and through a cache, double and single buffered.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import (
    array,
    attentions,
    cached_machine,
    gemms,
    level,
    machine,
    memory,
    request,
    vector,
)

from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Scope
from pentarch.mapping.costs import RowCosts
from pentarch.mapping.engine import cost_rows, row_times

DESIGNS = 100
BYTES = {"fp8": 1.0, "bf16": 2.0}


def scale(generator: np.random.Generator, low: float, high: float) -> Floats:
    """Return one value a design, spread evenly over the powers between two bounds."""
    return np.floor(np.exp(generator.uniform(np.log(low), np.log(high), DESIGNS)))


def scratchpads(generator: np.random.Generator, *, depth: int, double: bool) -> dict[str, Any]:
    """Return random figures of machines with `depth` scratchpads."""
    return {
        "depth": depth, "buffering": Buffering.DOUBLE if double else Buffering.SINGLE,
        "outer": scale(generator, 1e5, 1e8), "inner": scale(generator, 4e3, 6e4),
        "memory": scale(generator, 1e9, 1e12), "buffer": scale(generator, 1e11, 1e13),
        "clock": scale(generator, 2e8, 3e9), "units": scale(generator, 1, 64),
    }  # fmt: skip


def build_scratchpads(figures: dict[str, Any]) -> MachineTable:
    """Return the machines of `figures`."""
    kind, inner_name = figures["buffering"], "buffer" if figures["depth"] == 1 else "registers"
    levels = [
        memory(DESIGNS, read_bytes_per_s=figures["memory"], latency_s=1e-7),
        level("buffer", DESIGNS, size_bytes=figures["outer"], read_bytes_per_s=figures["buffer"],
              buffering=kind),
    ]  # fmt: skip
    if figures["depth"] == 2:
        levels.append(
            level("registers", DESIGNS, scope=Scope.UNIT, size_bytes=figures["inner"],
                  instances=figures["units"], read_bytes_per_s=1e12, buffering=kind)
        )  # fmt: skip
    return machine(
        DESIGNS, levels=tuple(levels),
        engines=(
            array(DESIGNS, feeds_from=inner_name, clock_hz=figures["clock"], units=figures["units"],
                  rows=16.0, columns=16.0, macs_per_cycle={"fp8": 256.0, "bf16": 256.0}),
            vector(DESIGNS, feeds_from="buffer", clock_hz=figures["clock"]),
        ),
    )  # fmt: skip


def cached(generator: np.random.Generator) -> dict[str, Any]:
    """Return random figures of machines with a cache and a tile menu."""
    return {
        "outer": scale(generator, 1e6, 1e8), "memory": scale(generator, 1e10, 1e12),
        "clock": scale(generator, 2e8, 3e9), "buffer": scale(generator, 1e12, 1e13),
    }  # fmt: skip


def build_cached(figures: dict[str, Any]) -> MachineTable:
    """Return the machines of `figures`."""
    found = cached_machine(
        DESIGNS,
        cache={"size_bytes": figures["outer"], "read_bytes_per_s": figures["buffer"],
               "requester_bytes_per_s": figures["buffer"] / 8},
        clock_hz=figures["clock"],
    )  # fmt: skip
    outer = memory(DESIGNS, read_bytes_per_s=figures["memory"], latency_s=1e-7)
    return replace(found, levels=(outer, *found.levels[1:]))


def sizes(generator: np.random.Generator, count: int, high: float) -> list[float]:
    """Return whole numbers between 1 and `high`, small ones as likely as large ones."""
    return np.floor(np.exp(generator.uniform(0.0, np.log(high), count))).tolist()


def random_gemms(generator: np.random.Generator, count: int) -> GemmTable:
    """Return GEMMs in bf16 of any shape."""
    columns = zip(*(sizes(generator, count, high) for high in (4096, 16384, 16384)), strict=True)
    wide = {"a_formats": "bf16", "b_formats": "bf16", "out_formats": "bf16"}
    return gemms(*({"rows": m, "k": k, "n": n, **wide} for m, k, n in columns))


def random_attentions(generator: np.random.Generator, count: int) -> AttentionTable:
    """Return attention of prefill and decode, with and without grouped heads."""
    rows = []
    for _ in range(count):
        kv_heads, group = float(generator.integers(1, 9)), float(generator.choice([1, 4, 7]))
        keys = float(generator.integers(2, 4096))
        tokens = 1.0 if generator.random() < 0.5 else keys
        rows.append(
            {"heads": kv_heads * group, "kv_heads": kv_heads, "head_dim": 64.0, "value_dim": 64.0,
             "query_tokens": tokens, "keys": keys}
        )  # fmt: skip
    return attentions(*rows)


def seconds(costs: RowCosts) -> Floats:
    """Return the time of each row and machine, infinite where it cannot run."""
    return np.where(costs.fits, row_times(costs, overlap=None).total_s, np.inf)


KINDS: dict[str, tuple[Callable[..., dict[str, Any]], Callable[..., MachineTable]]] = {
    "one": (lambda g: scratchpads(g, depth=1, double=False), build_scratchpads),
    "one-double": (lambda g: scratchpads(g, depth=1, double=True), build_scratchpads),
    "two": (lambda g: scratchpads(g, depth=2, double=False), build_scratchpads),
    "two-double": (lambda g: scratchpads(g, depth=2, double=True), build_scratchpads),
    "cache": (cached, build_cached),
}
ROWS = {"gemm": (random_gemms, 12), "attention": (random_attentions, 8)}  # 5 x 20 x 100 pairs


@pytest.fixture(params=[(kind, rows) for kind in KINDS for rows in ROWS], ids="-".join)
def pairs(request: pytest.FixtureRequest) -> tuple[dict[str, Any], Any, Any]:
    """Return figures of machines, what builds them, and operators."""
    kind, rows = request.param
    generator = np.random.default_rng([list(KINDS).index(kind), list(ROWS).index(rows)])
    draw, build = KINDS[kind]
    make, count = ROWS[rows]
    return draw(generator), build, make(generator, count)


def compulsory(rows: GemmTable | AttentionTable) -> Floats:
    """Return the bytes that have to cross the memory boundary once, shape (R, 1)."""
    if isinstance(rows, GemmTable):
        words = rows.rows * rows.k + rows.k * rows.n + rows.rows * rows.n
    else:
        queries = rows.heads * rows.query_tokens * (rows.head_dim + rows.value_dim)
        words = queries + rows.kv_heads * rows.keys * (rows.head_dim + rows.value_dim)
    return np.asarray(2.0 * words)[:, None]


def test_traffic_is_at_least_compulsory_and_time_at_least_the_roofline(pairs: Any) -> None:
    figures, build, rows = pairs
    on = build(figures)
    costs = cost_rows(request(on, rows))
    moved = costs.read_bytes["memory"] + costs.write_bytes["memory"]
    if isinstance(rows, GemmTable):
        macs = (rows.rows * rows.k * rows.n)[:, None]
    else:
        macs = (rows.heads * rows.pairs * (rows.head_dim + rows.value_dim))[:, None]
    peak = on.engines[0].units * on.engines[0].clock_hz * 256.0
    roofline = np.maximum(macs / peak, compulsory(rows) / figures["memory"])

    assert costs.fits.any()
    assert (moved >= compulsory(rows) * (1 - 1e-12))[costs.fits].all()
    assert (seconds(costs) >= roofline * (1 - 1e-12))[costs.fits].all()
    assert (costs.executed_macs >= macs * (1 - 1e-12))[costs.fits].all()


@pytest.mark.parametrize("figure", ["memory", "buffer", "outer", "clock"])
def test_more_bandwidth_capacity_or_clock_is_never_slower(pairs: Any, figure: str) -> None:
    figures, build, rows = pairs
    before = seconds(cost_rows(request(build(figures), rows)))
    more = {**figures, figure: figures[figure] * 1.37}
    after = seconds(cost_rows(request(build(more), rows)))

    assert (after <= before * (1 + 1e-12)).all()


@pytest.mark.parametrize("name", ["rows", "k", "n", "heads", "keys"])
def test_a_larger_dimension_is_never_cheaper(pairs: Any, name: str) -> None:
    figures, build, rows = pairs
    if not hasattr(rows, name):
        return
    on = build(figures)
    larger: dict[str, Any] = {name: getattr(rows, name) + 3.0}
    if name == "heads":  # whole groups of query heads
        larger = {name: rows.heads + rows.kv_heads}
    if name == "keys":
        larger |= {"pairs": rows.pairs + 3.0 * rows.query_tokens,
                   "dense_pairs": rows.dense_pairs + 3.0 * rows.query_tokens}  # fmt: skip
    before, after = (cost_rows(request(on, r)) for r in (rows, replace(rows, **larger)))

    fits = before.fits & after.fits
    # Behind two scratchpads a GEMM gets the best of a class with one register tile for each operand
    # that is kept; the class of the larger GEMM may hold a mapping that the smaller one's lacks.
    slack = 1e-3 if figures.get("depth") == 2 and isinstance(rows, GemmTable) else 1e-12
    assert (seconds(after) >= seconds(before) * (1 - slack))[fits].all()


def test_energy_is_the_sum_over_bytes_and_multiply_accumulates(pairs: Any) -> None:
    figures, build, rows = pairs
    on = build(figures)
    costs = cost_rows(request(on, rows))
    for held in on.levels:
        read, write = held.read_j_per_byte, held.write_j_per_byte
        joules = costs.energy_j[held.name]
        assert read is not None
        assert write is not None
        assert joules is not None
        expected = costs.read_bytes[held.name] * read + costs.write_bytes[held.name] * write
        np.testing.assert_allclose(joules, expected, rtol=1e-12)
    assert set(costs.energy_j) <= {part.name for part in (*on.levels, *on.engines)}
