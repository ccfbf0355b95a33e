"""Columns of routing against the counts that one device is left with."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.unit.evaluate.test_prepare import experts_workload

import pentarch as pa
from pentarch.graph.build import build_graph
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Phase, Split
from pentarch.graph.table import GemmTable
from pentarch.hardware.kernel_set import KernelUse
from pentarch.mapping.routed import by_activation, reroute
from pentarch.plan.plan import Degrees, Placement, Plan, Stage

PLAIN = pa.Precisions(weights="bf16", activations="bf16", kv="bf16")


def rows(routing: str, *, devices: int = 1) -> GemmTable:
    """Return the GEMM rows of four experts, two per token, shared out among devices."""
    workload, query = (
        experts_workload(),
        pa.Query(prompt_tokens=8, output_tokens=1, routing=routing),
    )
    graph = build_graph(workload, phase=Phase.PREFILL, query=query, precisions=PLAIN)
    placements = tuple(
        Placement(
            operator=op.name, repeat=op.repeat,
            cut=Split.EXPERTS if getattr(op, "experts", 0) and devices > 1 else Split.NONE,
            ways=devices if getattr(op, "experts", 0) else 1,
        )
        for op in graph.operators
    )  # fmt: skip
    plan = Plan(
        workload=workload.name, system="one", partitioner="test", degrees=Degrees(),
        stages=(Stage(backend="none", device="none", devices=devices, placements=placements),),
    )  # fmt: skip
    return lower(workload, query=query, precisions=PLAIN, plan=plan).gemm


def left(table: GemmTable, tokens: float) -> tuple[float, float]:
    """Return visited experts and pairs of the expert rows, which all agree."""
    given = np.full(len(table.names), tokens)
    visited, work = np.full_like(given, -1.0), np.full_like(given, -1.0)
    reroute(table, given, visited, work)
    routed = table.experts > 0
    assert np.all(visited[~routed] == -1.0)  # dense weights stay as they are
    assert len(set(visited[routed])) == len(set(work[routed])) == 1
    return float(visited[routed][0]), float(work[routed][0])


def test_uniform_routing_on_one_device_stays_as_it_is() -> None:
    table = rows("uniform")
    assert table.routing_skew is None
    assert table.expert_devices is None
    assert left(table, 8.0) == (-1.0, -1.0)


def test_rows_of_experts_say_what_lies_between_their_products() -> None:
    table = rows("uniform")
    assert table.activations is not None
    expected = ["relu" if experts else "" for experts in table.experts.tolist()]
    assert list(table.activations) == expected
    everything = np.arange(len(table.names))
    routed = np.flatnonzero(table.experts > 0)
    ((use, chosen),) = by_activation(table, everything, routed)
    assert use == KernelUse(function="relu")
    assert chosen.tolist() == routed.tolist()
    mixed = replace(table, activations=(*("relu",) * (len(table.names) - 1), "gelu"))
    parts = {
        use.function: part.tolist() for use, part in by_activation(mixed, everything, everything)
    }
    assert parts == {"relu": everything[:-1].tolist(), "gelu": [everything[-1]]}
    plain = replace(table, activations=None)
    assert [use for use, _ in by_activation(plain, everything, routed)] == [KernelUse()]


def test_rows_say_how_their_tokens_choose() -> None:
    table = rows("zipf(1.5)")
    assert table.routing_skew is not None
    routed = table.experts > 0
    assert table.routing_skew[routed].tolist() == [1.5, 1.5]
    assert not table.routing_skew[~routed].any()
    assert rows("worst").routing_skew[routed].tolist() == [math.inf] * 2  # type: ignore[index]


def test_the_worst_case_by_hand() -> None:
    # Alone: three tokens with two experts each could visit six, and there are four.
    assert left(rows("worst"), 1.0) == (2.0, 2.0)
    assert left(rows("worst"), 3.0) == (4.0, 6.0)
    # Two devices with two experts each: every token chooses both of one.
    assert left(rows("worst", devices=2), 3.0) == (2.0, 6.0)
    # Four devices with one expert each: a token gives a device one row.
    assert left(rows("worst", devices=4), 3.0) == (1.0, 3.0)


def test_uniform_routing_to_several_devices_waits_for_the_fullest() -> None:
    table = rows("uniform", devices=2)
    assert table.expert_devices is not None
    assert table.expert_devices[table.experts > 0].tolist() == [2, 2]
    visited, pairs = left(table, 64.0)
    assert visited == pytest.approx(2 * (1 - 0.5**64))
    assert pairs == pytest.approx(64 + math.sqrt(2 * 64 * math.log(2)))


def test_a_skew_leaves_the_popular_experts_to_the_fullest_device() -> None:
    # zipf(1), two of four: the first expert is certain (12/25 x 2 < 1: 0.96, 0.48, 0.32, 0.24)
    visited, pairs = left(rows("zipf(1)", devices=2), 100.0)
    mean = 100 * (0.96 + 0.32)
    assert pairs == pytest.approx(mean + math.sqrt(2 * mean * math.log(2)))
    assert visited == pytest.approx(2 - 0.04**100 - 0.68**100)
