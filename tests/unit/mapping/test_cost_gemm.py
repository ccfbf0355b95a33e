from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import (
    PJ,
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

from pentarch.errors import InputError
from pentarch.hardware.parts import Management, Scope, Stationary
from pentarch.mapping.cost_gemm import cost_gemm
from pentarch.mapping.engine import row_times

# The GEMM of these tests: A is 8 x 16 and B 16 x 12 in fp8, C is 8 x 12 in bf16 with fp32 sums.
# The 4 KiB buffer holds all of it (128 + 192 + 4 * 96 bytes), so that memory gives A and B once,
# 320 bytes, and takes C once, 192 bytes. The array is 4 x 4.


def test_every_figure_of_an_output_stationary_gemm_as_worked_out_on_paper() -> None:
    costs = cost_gemm(request(machine(), gemms({})))
    assert costs.fits.all()
    assert costs.executed_macs.item() == 8 * 16 * 12
    assert costs.read_bytes["memory"].item() == 128 + 192
    assert costs.write_bytes["memory"].item() == 192
    # Tiles of C: 2 down, 3 across. The array reads A for each of the 3, B for each of the 2.
    from_arrays = 8 * 16 * 3 + 16 * 12 * 2
    assert costs.read_bytes["buffer"].item() == from_arrays + 192  # and C on its way to memory
    assert costs.write_bytes["buffer"].item() == 192 + 320  # C from the array; A and B from memory
    # 6 tiles of 16 cycles and a start of 2, and one fill of 8: 116 cycles at 1 GHz
    assert costs.compute_s["array"].item() == pytest.approx(116e-9)
    assert costs.level_s["memory"].item() == pytest.approx(512 / 4e9 + 20e-9)
    assert costs.level_s["buffer"].item() == pytest.approx((960 + 512) / 32e9)
    assert costs.energy_j["array"].item() == pytest.approx(1536 * PJ)
    assert costs.energy_j["memory"].item() == pytest.approx((320 * 10 + 192 * 20) * PJ)
    assert costs.energy_j["buffer"].item() == pytest.approx((960 * 2 + 512 * 3) * PJ)
    times = row_times(costs, overlap=None)
    assert times.resources[times.bottleneck.item()] == "memory"
    assert times.total_s.item() == pytest.approx(148e-9)


def test_a_weight_stationary_array_reloads_sums_and_hides_no_load_longer_than_the_stream() -> None:
    on = machine(engines=(array(stationary=Stationary.WEIGHT), vector()))
    costs = cost_gemm(request(on, gemms({})))
    # 4 x 3 tiles of B; 8 rows stream in 8 cycles, but the next weights need 10; each starts in 2.
    assert costs.compute_s["array"].item() == pytest.approx((12 * (10 + 2) + 8) * 1e-9)
    # A for each of the 3 columns of tiles, B once, fp32 sums back for 3 of the 4 rows of tiles
    returned = 3 * 8 * 12 * 4
    assert costs.read_bytes["buffer"].item() == 8 * 16 * 3 + 16 * 12 + returned + 192
    assert costs.write_bytes["buffer"].item() == 192 + returned + 320


def test_units_without_an_array_pad_rows_and_read_both_words_of_every_product() -> None:
    bare = array(stationary=Stationary.NONE, rows=1.0, columns=1.0, min_rows=16.0)
    costs = cost_gemm(request(machine(engines=(bare, vector())), gemms({})))
    # 8 rows take as long as 16: 16 * 16 * 12 / 16 cycles, one start, one fill
    assert costs.compute_s["array"].item() == pytest.approx((192 + 2 + 8) * 1e-9)
    assert costs.read_bytes["buffer"].item() == 2 * 8 * 16 * 12 + 192


def test_idle_units_share_the_inner_dimension_and_pay_for_the_partial_sums() -> None:
    on = machine(engines=(array(units=4.0), vector()))
    costs = cost_gemm(request(on, gemms({"rows": 4.0, "k": 64.0, "n": 4.0})))
    # One tile of C for 4 units. Cycles + what 16 fp32 sums to and fro cost at 32 B a cycle, 4 a part:
    # 1: 64+10 | 2: 32+10+4 | 4: 16+10+12 = 38 | 8: two rounds of 8+2, 8, 28
    assert costs.compute_s["array"].item() == pytest.approx(38e-9)
    streamed, partial = 4 * 64 + 64 * 4, 3 * 16 * 4
    assert costs.read_bytes["buffer"].item() == streamed + partial + 32
    assert costs.write_bytes["buffer"].item() == 32 + partial + 512
    # the arrays wait for the partial sums: the buffer's own time is that of the rest
    assert costs.level_s["buffer"].item() == pytest.approx((streamed + 32 + 32 + 512) / 32e9)


def test_no_split_where_the_buffer_is_too_slow_for_partial_sums() -> None:
    # At 3.2 B a cycle a further part costs 40 cycles: 74 unsplit against 42 + 40
    slow = machine(
        levels=(memory(), level("buffer", read_bytes_per_s=3.2e9)),
        engines=(array(units=4.0), vector()),
    )
    costs = cost_gemm(request(slow, gemms({"rows": 4.0, "k": 64.0, "n": 4.0})))
    assert costs.compute_s["array"].item() == pytest.approx(74e-9)
    assert costs.write_bytes["buffer"].item() == 32 + 512


def test_two_buffers_pass_every_byte_on_and_count_it_at_both_sides() -> None:
    inner = level("own", scope=Scope.UNIT, size_bytes=1024.0, write_bytes_per_s=16e9)
    on = machine(
        levels=(memory(), level("buffer"), inner),
        engines=(array(feeds_from="own"), vector()),
    )
    costs = cost_gemm(request(on, gemms({})))
    # All of it fits 1 KiB too: A and B pass the outer buffer once, C as well.
    assert costs.read_bytes["memory"].item() == 320
    assert costs.read_bytes["buffer"].item() == 320 + 192
    assert costs.write_bytes["buffer"].item() == 192 + 320
    assert costs.read_bytes["own"].item() == 768 + 192
    assert costs.write_bytes["own"].item() == 192 + 320
    # reads and writes have ports of their own: max(960 / 32, 512 / 16) ns
    assert costs.level_s["own"].item() == pytest.approx(32e-9)


def test_resident_weights_are_not_read_from_memory() -> None:
    costs = cost_gemm(request(machine(), gemms({}), resident_weights=np.array([[1.0]])))
    assert costs.read_bytes["memory"].item() == 128
    assert costs.write_bytes["buffer"].item() == 192 + 128


def test_a_share_of_the_weights_saves_its_part() -> None:
    costs = cost_gemm(request(machine(), gemms({}), resident_weights=np.array([[0.25]])))
    assert costs.read_bytes["memory"].item() == 128 + 0.75 * 192
    assert costs.write_bytes["buffer"].item() == 192 + 128 + 0.75 * 192


def test_activations_that_stay_leave_memory_to_the_weights() -> None:
    # 200 bytes hold no operand: B is fetched again and again unless A and C are at hand.
    small = machine(levels=(memory(), level("buffer", size_bytes=200.0)))
    row = {"rows": 32.0, "k": 64.0}
    moves = cost_gemm(request(small, gemms(row)))
    stays = cost_gemm(request(small, gemms(row), resident_activations=np.array([[True]])))
    assert moves.read_bytes["memory"].item() > 32 * 64 + 64 * 12
    assert stays.read_bytes["memory"].item() == 64 * 12
    assert stays.write_bytes["memory"].item() == 0.0
    assert stays.energy_j["memory"].item() == pytest.approx(64 * 12 * 10e-12)  # type: ignore[union-attr]  # known


def test_sequences_multiply_rows_and_share_the_weight() -> None:
    costs = cost_gemm(request(machine(), gemms({"rows": 1.0}), sequences=8.0))
    assert costs.executed_macs.item() == 8 * 16 * 12
    assert costs.read_bytes["memory"].item() == 128 + 192


def test_a_narrow_output_reads_its_operands_at_least_once() -> None:
    # n = 1 on an array 4 wide: A still crosses the buffer once, not a quarter of it.
    costs = cost_gemm(request(machine(), gemms({"n": 1.0})))
    assert costs.read_bytes["buffer"].item() == 8 * 16 + 16 * 2 + 16


def test_experts_are_visited_as_often_as_uniform_routing_expects() -> None:
    # 3 tokens on 2 of 4 experts each: enumerate the 6^3 choices of pairs.
    pairs = [(a, b) for a in range(4) for b in range(a)]
    seen = [len({*x, *y, *z}) for x in pairs for y in pairs for z in pairs]
    visited = sum(seen) / len(seen)
    row = {"rows": 3.0, "experts": 4.0, "experts_per_token": 2.0, "k": 16.0, "n": 12.0}
    costs = cost_gemm(request(machine(), gemms(row)))
    assert costs.executed_macs.item() == pytest.approx(3 * 2 * 16 * 12)
    # weights of the experts visited; 6 rows among 3.5 experts are 2 whole rows in the mapper
    rows = int(np.ceil(6 / visited))
    assert costs.read_bytes["memory"].item() == pytest.approx(visited * (16 * 12 + rows * 16))


def test_one_token_visits_as_many_experts_as_it_is_routed_to() -> None:
    row = {"rows": 1.0, "experts": 8.0, "experts_per_token": 2.0}
    costs = cost_gemm(
        request(cached_machine(), gemms({**row, "a_formats": "bf16", "b_formats": "bf16"}))
    )
    assert costs.read_bytes["memory"].item() == pytest.approx(2 * (16 + 16 * 12) * 2)


def test_narrow_weights_are_converted_word_by_word_on_the_vector_engine() -> None:
    row = {"a_formats": "bf16", "b_formats": "int4_g128"}
    costs = cost_gemm(request(machine(), gemms(row)))
    assert costs.compute_s["vector"].item() == pytest.approx(16 * 12 / 8 * 1e-9)
    assert costs.energy_j["vector"].item() == pytest.approx(16 * 12 * 5 * PJ)
    # 4.125 bits a weight, scales included
    assert costs.read_bytes["memory"].item() == pytest.approx(8 * 16 * 2 + 16 * 12 * 4.125 / 8)


def test_conversion_without_a_vector_engine_or_its_rate_cannot_run() -> None:
    rows = gemms({"a_formats": "bf16", "b_formats": "int4_g128"})
    alone = cost_gemm(request(machine(engines=(array(),)), rows))
    assert not alone.fits.any()
    assert "no vector engine" in alone.notes[0]
    lacking = vector(values_per_cycle={"elementwise": 1.0})
    assert not cost_gemm(request(machine(engines=(array(), lacking)), rows)).fits.any()


def test_a_format_that_no_engine_multiplies_cannot_run_and_says_so() -> None:
    only_fp8 = array(macs_per_cycle={"fp8": 16.0})
    rows = gemms({"a_formats": "fp32"}, {})
    costs = cost_gemm(request(machine(engines=(only_fp8, vector())), rows))
    assert costs.fits[:, 0].tolist() == [False, True]
    assert costs.notes == ("no engine of made-up multiplies fp32 by fp8",)


def test_an_energy_that_nobody_states_stays_unknown() -> None:
    silent = array(mac_j={"bf16": PJ})
    rows = gemms({}, {"a_formats": "bf16", "b_formats": "bf16"})
    costs = cost_gemm(request(machine(engines=(silent, vector())), rows))
    assert costs.energy_j["array"] is None
    assert costs.energy_j["memory"] is not None


def test_a_buffer_below_one_tile_does_not_fit() -> None:
    # one word of A, B and a sum: 1 + 1 + 4 bytes
    def fits(size: float) -> bool:
        on = machine(levels=(memory(), level("buffer", size_bytes=size)))
        return bool(cost_gemm(request(on, gemms({}))).fits.item())

    assert fits(6.0)
    assert not fits(5.0)


def test_reserved_bytes_leave_less_room_for_tiles() -> None:
    small = machine(levels=(memory(), level("buffer", size_bytes=200.0)))
    large = machine(levels=(memory(), level("buffer", size_bytes=1600.0)))
    reserved = cost_gemm(request(large, gemms({"k": 160.0}), reserved_bytes=np.array([1400.0])))
    assert (
        reserved.read_bytes["memory"].item()
        == cost_gemm(request(small, gemms({"k": 160.0}))).read_bytes["memory"].item()
        > cost_gemm(request(large, gemms({"k": 160.0}))).read_bytes["memory"].item()
    )


@pytest.mark.parametrize(
    "levels",
    [
        lambda: (memory(), level("buffer", management=Management.FIFO)),
        lambda: (memory(), level("buffer", management=Management.CACHE)),
    ],
    ids=["fifo", "cache without a menu"],
)
def test_a_hierarchy_without_a_mapper_is_an_error_that_names_the_levels(
    levels: Callable[[], Any],
) -> None:
    with pytest.raises(InputError, match=r"no mapper for the levels memory .* -> .*buffer"):
        cost_gemm(request(machine(levels=levels()), gemms({})))


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="GEMM rows expected"):
        cost_gemm(request(machine(), attentions({})))
