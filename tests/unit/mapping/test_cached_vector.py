from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import cached_machine, request, vector, vectors

from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.cost_vector import cost_vector
from pentarch.mapping.costs import CacheState, RowCosts

# memory 1e11 B/s and 20 ns; cache 1e6 bytes, 4e11 B/s and 3e10 B/s for each of 8 vector units
SMALL: dict[str, Any] = {"bytes_in": 6e4, "bytes_out": 4e4, "weight_bytes": 0.0}
LARGE: dict[str, Any] = {"bytes_in": 6e7, "bytes_out": 4e7, "weight_bytes": 0.0}


def on_units() -> MachineTable:
    on = cached_machine()
    return replace(on, engines=(on.engines[0], vector(feeds_from="own", units=8.0)))


def cost(
    rows: Any, *kernels: KernelSet, state: CacheState | None = None, sequences: float = 1.0
) -> RowCosts:
    stack = Runtime(
        name="stack", fused_functions=frozenset(), quantize_fused=False, kernels=kernels
    )
    return cost_vector(
        request(on_units(), vectors(rows), runtime=stack, cached=state, sequences=sequences)
    )


def test_activations_that_fit_the_cache_stay_there_inside_a_model() -> None:
    warm = cost(SMALL, state=CacheState.layer())
    assert warm.read_bytes["memory"].item() == warm.write_bytes["memory"].item() == 0
    assert warm.level_s["memory"].item() == 0
    assert warm.level_s["cache"].item() == pytest.approx(1e5 / (8 * 3e10))
    for found in (cost(SMALL), cost(LARGE, state=CacheState.layer())):
        moved = found.read_bytes["memory"].item() + found.write_bytes["memory"].item()
        assert found.level_s["memory"].item() == pytest.approx(moved / 1e11 + 20e-9)


def test_gains_and_new_keys_pass_through_memory_in_any_case() -> None:
    gains = cost({**SMALL, "weight_bytes": 500.0}, state=CacheState.layer())
    assert gains.read_bytes["memory"].item() == 500
    keys = cost({**SMALL, "functions": "kv_append"}, state=CacheState.layer())
    assert (keys.read_bytes["memory"].item(), keys.write_bytes["memory"].item()) == (0, 4e4)


def test_a_library_may_stream_below_the_memorys_rate_and_more_than_once() -> None:
    slow = KernelSet(
        operator=KernelOperator.VECTOR, functions=frozenset({"softmax"}), stream=0.5, passes=2.0,
        start_s=3e-6,
    )  # fmt: skip
    softmax = cost({**LARGE, "functions": "softmax"}, slow)
    assert softmax.level_s["memory"].item() == pytest.approx((2 * 6e7 + 4e7) / 5e10 + 20e-9)
    assert softmax.fixed_s.item() == 3e-6
    other = cost(LARGE, slow)
    assert other.level_s["memory"].item() == pytest.approx(1e8 / 1e11 + 20e-9)
    assert other.fixed_s.item() == 0


QUANTIZE = KernelSet(
    operator=KernelOperator.QUANTIZE, a_formats=frozenset({"fp8"}), start=0.5, row_s=2e-7,
    token_s=1e-10, overlap=3.0,
)  # fmt: skip


def quantized(lines: float, length: float, word: float = 1.0, **changes: Any) -> RowCosts:
    values = lines * length
    row = {
        "bytes_in": 2 * values, "bytes_out": word * values, "weight_bytes": 0.0,
        "elementwise": 0.0, "reduce": values, "convert": values, "functions": "quantize",
    }  # fmt: skip
    table = replace(vectors(row), lines=np.array([lines]))
    stack = Runtime(name="stack", quantize_fused=False, kernels=(QUANTIZE,))
    return cost_vector(request(on_units(), table, runtime=stack, **changes))


def test_rows_are_converted_by_blocks_of_threads_so_that_few_take_as_long_as_one() -> None:
    one, sixteen, many = (quantized(rows, 4096) for rows in (1.0, 16.0, 64.0))
    each = 2e-7 + 4096 * 1e-10
    assert one.compute_s["vector"].item() == pytest.approx(each)
    assert sixteen.compute_s["vector"].item() == pytest.approx(each)  # two on each of 8 units
    assert many.compute_s["vector"].item() == pytest.approx(4 * each)
    assert one.overlap is not None
    assert one.start_share is not None
    assert (one.overlap.item(), one.start_share.item()) == (3.0, 0.5)


def test_formats_of_conversions_are_told_by_the_width_of_what_they_write() -> None:
    other = quantized(1.0, 4096, word=0.5625)
    assert other.overlap is None
    assert other.compute_s["vector"].item() == pytest.approx(2 * 4096 / 8 * 1e-9)


def test_a_decode_step_without_known_lines_has_one_for_each_sequence() -> None:
    values = 4096.0
    row = {
        "bytes_in": 2 * values, "bytes_out": values, "weight_bytes": 0.0, "elementwise": 0.0,
        "reduce": values, "convert": values, "functions": "quantize",
    }  # fmt: skip
    costs = cost(row, QUANTIZE, sequences=64.0)
    assert costs.compute_s["vector"].item() == pytest.approx(4 * (2e-7 + 4096 * 1e-10))


def test_without_kernels_or_a_state_rows_stream_from_memory_as_on_any_machine() -> None:
    found = cost(SMALL)
    assert found.level_s["memory"].item() == pytest.approx(1e5 / 1e11 + 20e-9)
    assert found.read_bytes["memory"].item() == 6e4
    assert "cache" not in found.level_s


def test_a_lacking_rate_concerns_only_the_rows_with_that_work() -> None:
    on = on_units()
    slow = vector(feeds_from="own", units=8.0, values_per_cycle={"elementwise": 1.0})
    on = replace(on, engines=(on.engines[0], slow))
    table = vectors(SMALL, {**SMALL, "transcendental": 5.0})
    costs = cost_vector(request(on, table, cached=CacheState.layer()))
    assert costs.fits[:, 0].tolist() == [True, False]
    assert costs.notes == ("vector of made-up has no rate for transcendental",)
