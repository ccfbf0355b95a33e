from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import PJ, cached_machine, gemms, request, vector

from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.cached_gemm import kept_operands
from pentarch.mapping.cost_gemm import cost_gemm
from pentarch.mapping.costs import CacheState, RowCosts

BF16 = {"a_formats": "bf16", "b_formats": "bf16"}


def cost(rows: dict[str, Any], *kernels: KernelSet, **changes: Any) -> RowCosts:
    on = changes.pop("on", None) or cached_machine()
    return cost_gemm(
        request(on, gemms({**BF16, **rows}), runtime=Runtime(name="r", kernels=kernels), **changes)
    )


def on_vector(**engine: Any) -> MachineTable:
    on = cached_machine()
    return replace(on, engines=(on.engines[0], vector(feeds_from="own", **engine)))


def test_alone_everything_moves_and_in_a_model_only_the_weights() -> None:
    # cache of 1e6 bytes: A 16 kB and C 32 kB fit half of it, B 524 kB does not
    row = {"rows": 16.0, "k": 512.0, "n": 512.0}
    a, b, c = 16 * 512 * 2, 512 * 512 * 2, 16 * 512 * 2
    cold, layer = cost(row), cost(row, cached=CacheState.layer())
    assert cold.read_bytes["memory"].item() == a + b
    assert cold.write_bytes["memory"].item() == c
    assert layer.read_bytes["memory"].item() == b
    assert layer.write_bytes["memory"].item() == 0
    assert layer.level_s["memory"].item() == pytest.approx(b / 1e11)


def test_a_loop_keeps_what_random_replacement_spares_of_its_sets_of_weights() -> None:
    sizes = tuple(np.array([[size]]) for size in (10.0, 40.0, 20.0))
    room = np.array([200.0])

    def survives(turns: float) -> float:
        share = np.exp(-turns)
        for _ in range(400):
            share = np.exp(-(1 - share) * turns)
        return 1.0 if turns <= 1 else float(share)

    for copies in (1.0, 3.0, 6.0, np.inf):
        kept = kept_operands(CacheState(copies=np.array([copies])), sizes, room)[:, 0, 0]
        assert kept[0] == 1.0
        assert kept[1] == pytest.approx(survives((copies * 40 + 30) / 200), abs=1e-2)
        assert kept[2] == pytest.approx(survives((copies * 60 + 10) / 200), abs=1e-2)
    stated = CacheState(copies=np.array([6.0]), footprint=np.array([70.0]))
    assert kept_operands(stated, sizes, room)[:, 0, 0].tolist() == [1.0, 1.0, 1.0]
    partly = CacheState(copies=np.array([6.0]), footprint=np.array([np.nan]))
    plain = CacheState(copies=np.array([6.0]))
    assert (kept_operands(partly, sizes, room) == kept_operands(plain, sizes, room)).all()


def test_narrow_weights_are_converted_inside_the_tiles() -> None:
    # A unit of the vector engine converts one word a cycle, half an engine's unit serves one
    row = {"rows": 16.0, "k": 3200.0, "n": 64.0, "b_formats": "int4_g128"}
    narrow = KernelSet(operator=KernelOperator.GEMM, most_parts=1, least_area=0, convert=0.5)
    costs = cost(row, narrow, on=on_vector(units=16.0))
    # 64 columns of 3200 words at half of 1e9 words a second for each of 16 units
    assert costs.compute_s["array"].item() == pytest.approx(64 * 3200 / 0.5e9 + 120e-9)
    assert costs.compute_s["vector"].item() == 0
    assert costs.energy_j["vector"].item() == pytest.approx(3200 * 64 * 5 * PJ)
    lacking = on_vector(values_per_cycle={"elementwise": 1.0})
    found = cost(row, on=lacking)
    assert not found.fits.any()
    assert found.notes == ("made-up has no vector engine to convert weights",)


def test_time_on_top_comes_from_the_kernels_for_the_formats() -> None:
    row = {"rows": 16.0, "k": 512.0, "n": 512.0}
    other = KernelSet(operator=KernelOperator.GEMM, a_formats=frozenset({"fp8"}), start_s=9e-6)
    own = KernelSet(operator=KernelOperator.GEMM, start_s=4e-6, host_s=7e-6, start=0.5)
    costs = cost(row, other, own)
    assert costs.fixed_s.item() == pytest.approx(4e-6 + cost(row).fixed_s.item())
    assert costs.host_s is not None
    assert costs.start_share is not None
    assert (costs.host_s.item(), costs.start_share.item()) == (7e-6, 0.5)


def test_tokens_that_choose_experts_make_a_grouped_gemm_and_a_batch_does_not() -> None:
    grouped = KernelSet(operator=KernelOperator.MOE, start_s=20e-6, token_s=1e-7)
    experts = {"rows": 64.0, "k": 256.0, "n": 64.0, "experts": 16.0, "experts_total": 64.0,
               "experts_per_token": 2.0}  # fmt: skip
    routed = cost(experts, grouped)
    visited = 16 * (1 - (1 - 2 / 16) ** 64)
    assert routed.fixed_s.item() == pytest.approx(20e-6 + visited * 1e-7, rel=1e-6)
    all_of_them = {**experts, "experts_per_token": 16.0, "experts_total": 16.0}
    batch = cost(all_of_them, grouped)
    assert batch.fixed_s.item() < 20e-6


def test_a_batch_runs_on_its_own_kernels_where_there_are_any() -> None:
    plain = KernelSet(operator=KernelOperator.GEMM, start_s=4e-6)
    own = KernelSet(operator=KernelOperator.BATCHED, start_s=9e-6)
    one = {"rows": 64.0, "k": 256.0, "n": 64.0}
    many = {**one, "experts": 16.0, "experts_per_token": 16.0, "experts_total": 16.0}
    free = cost(many).fixed_s.item()
    assert cost(many, plain).fixed_s.item() == pytest.approx(free + 4e-6)
    assert cost(many, plain, own).fixed_s.item() == pytest.approx(free + 9e-6)
    assert cost(one, own, plain).fixed_s.item() == pytest.approx(cost(one).fixed_s.item() + 4e-6)


def test_bytes_of_a_batch_are_those_of_its_designs() -> None:
    rows = gemms({**BF16, "rows": 300.0, "k": 900.0, "n": 700.0}, {**BF16, "k": 64.0})
    rates = np.array([2e10, 1e11, 7e11])

    def costed(values: Any) -> RowCosts:
        on = cached_machine(len(values), k_step_bytes=128.0, k_step_s=1e-7, wave_share=0.4)
        outer = replace(on.levels[0], numbers={**on.levels[0].numbers, "read_bytes_per_s": values})
        on = replace(on, levels=(outer, *on.levels[1:]))
        return cost_gemm(request(on, rows, cached=CacheState.layer()))

    whole = costed(rates)
    for design in range(3):
        alone = costed(rates[[design]])
        for name in ("compute_s", "level_s", "read_bytes", "detail"):
            for key, values in getattr(whole, name).items():
                part = np.ascontiguousarray(values[:, [design]])
                assert getattr(alone, name)[key].tobytes() == part.tobytes(), (name, key)
