"""What has to fit, and what may stay on chip."""

from typing import Any

import numpy as np
import pytest
from tests.unit.evaluate.paper import evaluate, paper_scenario, run

from pentarch.evaluate.memory import memory_use
from pentarch.evaluate.residency import Holding, choose_residency
from pentarch.hardware.columns import columns
from pentarch.hardware.parts import Level, Management, Scope
from pentarch.hardware.runtime import Runtime

# fp8, one byte a value: GEMM weights, the 32 x 8 embedding and three norms of 8 gains
GEMM_WEIGHTS = 512 + 256
WEIGHTS = GEMM_WEIGHTS + 32 * 8 + 3 * 8
# 4 + 3 tokens and half a block of 16 lost, 16 bytes a token
KV = (4 + 3 + 8) * 16
# the widest operator reads and writes for each of 4 prompt tokens: qkv 8 + 24 values
ACTIVATIONS = 4 * (8 + 24)


def test_what_one_query_needs() -> None:
    found = evaluate(paper_scenario()).memory_bytes

    assert found == {"weights": WEIGHTS, "kv": KV, "activations": ACTIVATIONS, "capacity": 1e6}


def test_a_design_fits_at_exactly_its_capacity_and_not_below() -> None:
    needed = float(WEIGHTS + 3 * KV + ACTIVATIONS)
    figures = run(
        paper_scenario(concurrency=3), memory_bytes=[needed - 1, np.nextafter(needed, 0), needed]
    )

    assert figures.feasibility.fits.tolist() == [False, False, True]
    assert figures.values["short_bytes"] is not None
    assert figures.values["short_bytes"][[0, 2]].tolist() == [1.0, 0.0]
    assert figures.feasibility.reason(2) is None


def test_a_misfit_is_answered_with_its_arithmetic() -> None:
    # 1048 + 2 x 240 + 128 = 1656 B, of 1 kB
    found = evaluate(paper_scenario(memory_bytes=1000.0, concurrency=2))

    assert not found.feasible
    assert found.reason == (
        "paper needs 1.05 kB of weights + 480 B of KV cache for 2 queries + 128 B of activations = "
        "1.66 kB, its memory has 1.00 kB: 656 B short"
    )
    assert found.query_s is not None  # its figures are still there, to say how it would do


def test_a_misfit_of_one_query_is_said_in_the_singular() -> None:
    reason = evaluate(paper_scenario(memory_bytes=1000.0)).reason
    assert reason is not None
    assert "+ 240 B of KV cache for 1 query + " in reason


def test_the_fullest_replica_decides() -> None:
    # Three queries on two replicas: one of them holds two.
    needed = float(WEIGHTS + 2 * KV + ACTIVATIONS)
    figures = run(paper_scenario(devices=2, concurrency=3), memory_bytes=[needed - 1, needed])

    assert figures.feasibility.fits.tolist() == [False, True]


def test_a_runtime_keeps_memory_and_has_blocks_of_its_own() -> None:
    # A tenth is kept; half a block of 64 tokens is lost per query instead of half of 16.
    runtime = Runtime(name="stack", memory_reserve=0.1, kv_block_tokens=64)
    found = evaluate(paper_scenario(runtime=runtime)).memory_bytes

    assert found["capacity"] == pytest.approx(9e5)
    assert found["kv"] == (4 + 3 + 32) * 16


def test_many_short_sequences_need_activations_for_each() -> None:
    # A decode step of 10 sequences has 10 tokens at once, more than a prompt of 4.
    found = evaluate(paper_scenario(concurrency=10)).memory_bytes
    assert found["activations"] == 10 * (8 + 24)


def resident(buffer_bytes: float, **level: Any) -> tuple[float, float, float]:
    """Return which shares of the scenario's weights and cache a buffer keeps, and their bytes."""
    scenario = paper_scenario(buffer_bytes=1.0)
    figures = run(scenario)
    given = figures.stages[0].costs.given
    fields: dict[str, Any] = {"name": "buffer", "scope": Scope.DIE, "read_bytes_per_s": 1.0}
    buffer = columns(Level, 1, **{**fields, "size_bytes": buffer_bytes, **level})
    machine = given.machine
    changed = type(machine)(
        **{name: getattr(machine, name) for name in machine.__slots__}
        | {"levels": (machine.levels[0], buffer)}
    )
    runtime = Runtime(name="ideal")
    use = memory_use(given.table, changed, runtime, np.ones(1))
    holding = Holding(use.weights, use.kv, np.ones(1))
    found = choose_residency(given.table, changed, holding, runtime)
    return float(found.weights[0]), float(found.kv[0]), float(found.bytes[0])


def test_residency_leaves_an_eighth_to_tiles() -> None:
    # Beside all data the widest operator's activations stay, and the 8 bytes of the residual stream.
    largest = ACTIVATIONS + 4 * 8
    assert resident((WEIGHTS + KV + largest) * 8 / 7 + 1) == (1.0, 1.0, WEIGHTS + KV)
    # The 256 bytes of the embedding table and 24 of gains stay outside where room is short.
    assert resident((GEMM_WEIGHTS + KV + largest) * 8 / 7 + 1) == (1.0, 1.0, GEMM_WEIGHTS + KV)
    assert 0.0 < resident(GEMM_WEIGHTS)[0] < 1.0


def test_residency_counts_all_instances_and_what_is_usable() -> None:
    whole = resident(4096.0)
    assert whole == (1.0, 1.0, WEIGHTS + KV)
    assert resident(4096.0, instances=4.0, usable=0.25) == whole
    assert resident(4096.0, instances=4.0, usable=0.0625) == resident(1024.0) != whole


def test_a_cache_keeps_nothing_for_good() -> None:
    assert resident(1e9, management=Management.CACHE) == (0.0, 0.0, 0.0)


def test_a_buffer_keeps_only_what_it_may_hold() -> None:
    assert resident(1e9, holds=frozenset({"activations"})) == (0.0, 0.0, 0.0)
    assert resident(1e9, holds=frozenset({"weights"})) == (1.0, 0.0, WEIGHTS)
    # A buffer for weights only leaves nothing to tiles.
    assert resident(GEMM_WEIGHTS, holds=frozenset({"weights"})) == (1.0, 0.0, GEMM_WEIGHTS)
