"""Work, energy, power and money of a query, worked out on paper."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluate.paper import (
    FP8,
    Given,
    evaluate,
    one_stage,
    paper_scenario,
    paper_workload,
    run,
    value,
)

from pentarch.hardware.system import System
from pentarch.targets import Economics
from pentarch.workload.query import Precisions

PREFILL_MACS = 4 * 512 + 256 + 16 * (1 + 2 + 3 + 4)
DECODE_MACS = 2 * (512 + 256) + 16 * (5 + 6)


def test_useful_and_delivered_flops() -> None:
    figures = run(paper_scenario())
    flops = 2 * (PREFILL_MACS + DECODE_MACS)

    assert evaluate(paper_scenario()).useful_flops == flops
    assert value(figures, "delivered_flops_per_s") == pytest.approx(
        flops / value(figures, "query_s")
    )
    assert value(figures, "peak_flops_per_s") == 2000


def test_a_query_whose_time_is_all_ideal_has_an_mfu_of_one() -> None:
    # At 1000 MAC/s and 1000 B/s no operator waits for a byte (see `paper`), even at one query.
    figures = run(paper_scenario())

    for name in ("mfu.prefill", "mfu.decode", "mfu.query", "hfu"):
        assert value(figures, name) == pytest.approx(1.0, rel=1e-12)
    assert value(figures, "query_s") == pytest.approx((PREFILL_MACS + DECODE_MACS) / 1000)


def test_mfu_of_phases_on_paper() -> None:
    # 500 B/s: prefill 2.464 s of work in 2.720 s, decode 1.712 s in 3.424 s (test_serving).
    figures = run(paper_scenario(bytes_per_s=500.0))

    assert value(figures, "mfu.prefill") == pytest.approx(2.464 / 2.720)
    assert value(figures, "mfu.decode") == pytest.approx(1.712 / 3.424)
    assert value(figures, "mfu.query") == pytest.approx((2.464 + 1.712) / (2.720 + 3.424))


def test_mbu_on_paper() -> None:
    # Two steps read 2 x 768 B of weights and (5 + 6) x 16 B of keys and values.
    alone = run(paper_scenario(bytes_per_s=500.0))
    assert value(alone, "mbu") == pytest.approx((1536 + 176) / 500 / 3.424)

    # Two sequences read the weights once and their caches both; a step waits for MACs besides.
    both = run(paper_scenario(bytes_per_s=500.0, concurrency=2))
    assert value(both, "mbu") == pytest.approx((1536 + 2 * 176) / 500 / 3.776)


def test_what_stays_on_chip_is_no_memory_traffic() -> None:
    # 7/8 of 960 is 840: room for 768 bytes of GEMM weights, read three times by a query, and for 72
    # of the 240 bytes of the cache (4 + 3 tokens and half a block of 16, 16 bytes each).
    figures = run(
        paper_scenario(bytes_per_s=500.0, buffer_bytes=960.0, buffer_keeps=("weights", "kv"))
    )
    residency = figures.stages[0].costs.given.residency

    assert residency.weights.tolist() == [1.0]
    assert residency.kv.tolist() == [pytest.approx(0.3)]
    # decode: MACs 1.536 s, and 70 % of 176 B / 500 for keys and values, all that memory moves
    moved = 0.7 * 176 / 500
    assert value(figures, "decode_s") == pytest.approx(1.536 + moved)
    assert value(figures, "mbu") == pytest.approx(moved / (1.536 + moved))


def test_mfu_counts_the_peak_of_the_format_a_gemm_runs_in() -> None:
    # The LM head in bf16 runs at 500 MAC/s. Its useful work at that peak is all its time:
    # an MFU of 1, while useful FLOPs over the fp8 peak would be less.
    mixed = FP8.replace(lm_head="bf16", hidden="bf16")
    figures = run(paper_scenario(precisions=mixed, bytes_per_s=1e6))
    head_macs = 3 * 256

    assert value(figures, "mfu.query") == pytest.approx(1.0)
    assert value(figures, "hfu") == pytest.approx(1.0)
    assert value(figures, "query_s") == pytest.approx(
        (PREFILL_MACS + DECODE_MACS + head_macs) / 1000
    )
    assert value(figures, "peak_flops_per_s") == 2000  # most work is fp8
    ratio = value(figures, "delivered_flops_per_s") / value(figures, "peak_flops_per_s")
    assert ratio == pytest.approx(4176 / (4176 + 768))


def test_delivered_is_mfu_times_peak_when_there_is_one_format() -> None:
    figures = run(paper_scenario(bytes_per_s=np.pi * 100, concurrency=7, devices=3))

    assert value(figures, "delivered_flops_per_s") == pytest.approx(
        value(figures, "mfu.query") * value(figures, "peak_flops_per_s"), rel=1e-12
    )


def test_replicated_key_value_heads_are_executed_but_not_useful() -> None:
    # Two query heads on one key-value head, cut in two: each device has its own copy of that head.
    # qkv: 8 x (8 + 8) = 128 weights in all, 8 x (4 + 8) = 96 on each device, 192 executed.
    workload = paper_workload(heads=2, kv_heads=1)
    figures = run(
        paper_scenario(
            workload=workload, devices=2, partitioner=Given(partial(one_stage, devices=2))
        )
    )
    whole = 128 + 64 + 128 + 128  # weights of the layer
    tokens = 4 + 2
    useful = tokens * whole + 3 * 256 + 16 * (10 + 11)
    extra = tokens * (192 - 128)

    assert value(figures, "delivered_flops_per_s") * value(figures, "query_s") == 2 * useful
    assert value(figures, "hfu") == pytest.approx(1.0)
    assert value(figures, "mfu.query") == pytest.approx(useful / (useful + extra))


@given(
    bandwidth=st.floats(10, 1e5), load=st.integers(1, 50), devices=st.integers(1, 5),
    prompt=st.integers(1, 60), tokens=st.integers(1, 30),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_utilizations_are_shares_and_in_order(
    bandwidth: float, load: int, devices: int, prompt: int, tokens: int
) -> None:
    figures = run(
        paper_scenario(
            bytes_per_s=bandwidth, concurrency=load, devices=devices, prompt_tokens=prompt,
            output_tokens=tokens,
        )
    )  # fmt: skip
    mfu, limit = value(figures, "mfu.query"), 1 + 1e-12
    assert 0 < mfu <= value(figures, "hfu") * limit
    assert value(figures, "hfu") <= limit
    assert value(figures, "mfu.prefill") <= limit
    if tokens > 1:
        # the query is somewhere between its phases
        low, high = sorted((value(figures, "mfu.prefill"), value(figures, "mfu.decode")))
        assert low / limit <= mfu <= high * limit
        assert value(figures, "mbu") <= limit


def test_energy_of_one_query_on_paper() -> None:
    # Bandwidth 500 B/s: 6.144 s a query, alone on the system.
    # MACs: (2464 + 1712) x 2 J. Bytes: prefill 512 + 64 + 256, decode 1536 + 176, 3 J each.
    # Static: (7 + 1) W x 6.144 s. Regulators lose 1/0.8 - 1 = 1/4 of those three.
    # Board 5 W and host 10 W x 6.144 s.
    evaluation = evaluate(paper_scenario(bytes_per_s=500.0))
    macs, moved, static = 4176 * 2.0, (832 + 1712) * 3.0, 8 * 6.144
    expected = {
        "array": macs, "memory": moved, "static": static,
        "regulators": (macs + moved + static) / 4, "board": 5 * 6.144, "host": 10 * 6.144,
    }  # fmt: skip

    assert evaluation.energy_j == pytest.approx(expected)
    assert evaluation.query_j == pytest.approx(sum(expected.values()))
    assert evaluation.mean_w == pytest.approx(sum(expected.values()) / 6.144)
    assert evaluation.j_per_token == pytest.approx(sum(expected.values()) / 3)


def test_static_power_of_all_reserved_devices_counts() -> None:
    # One query on four devices: three idle, all draw 8 W (at 80 % regulators) and 5 W of board.
    alone, four = evaluate(paper_scenario()), evaluate(paper_scenario(devices=4))
    seconds = alone.query_s
    assert seconds is not None
    assert alone.query_j is not None

    for name in ("array", "memory", "host"):
        assert four.energy_j[name] == pytest.approx(alone.energy_j[name])
    assert four.energy_j["static"] == pytest.approx(4 * 8 * seconds)
    assert four.energy_j["board"] == pytest.approx(4 * 5 * seconds)
    assert four.query_j == pytest.approx(alone.query_j + 3 * (8 / 0.8 + 5) * seconds)


@given(
    load=st.integers(1, 40), devices=st.integers(1, 4), bandwidth=st.floats(50, 1e4),
    cap=st.one_of(st.none(), st.floats(9, 1e4)),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_components_sum_to_the_energy_and_power_follows(
    load: int, devices: int, bandwidth: float, cap: float | None
) -> None:
    found = evaluate(
        paper_scenario(concurrency=load, devices=devices, bytes_per_s=bandwidth, cap_w=cap)
    )
    assert found.query_j is not None
    assert found.queries_per_s is not None
    assert found.mean_w is not None
    assert found.peak_w is not None

    assert sum(joules or 0.0 for joules in found.energy_j.values()) == pytest.approx(found.query_j)
    assert found.mean_w == pytest.approx(found.query_j * found.queries_per_s)
    assert found.mean_w <= found.peak_w * (1 + 1e-12)
    if cap is not None:
        assert found.full_load_w is not None
        # (cap / 0.8 + 5 W of board) each, and the host
        assert found.full_load_w == pytest.approx(devices * (cap / 0.8 + 5) + 10)
        assert found.mean_w <= found.full_load_w * (1 + 1e-9)


def test_full_load_without_a_cap_is_full_rate_everywhere() -> None:
    # 1000 MAC/s x 2 J + 500 B/s x 3 J + 8 W static = 3508 W; / 0.8 + 5 W board + 10 W host
    found = evaluate(paper_scenario(bytes_per_s=500.0))

    assert found.full_load_w == pytest.approx(3508 / 0.8 + 15)
    assert found.w_per_pflops.peak == pytest.approx((3508 / 0.8 + 15) / (2000 / 1e15))


def test_both_bases_of_watts_per_pflops() -> None:
    found = evaluate(paper_scenario(cap_w=100.0))
    assert found.mean_w is not None
    assert found.delivered_flops_per_s is not None

    assert found.w_per_pflops.delivered == pytest.approx(
        found.mean_w / found.delivered_flops_per_s * 1e15
    )
    # joules per useful PFLOP is the same figure
    assert found.query_j is not None
    assert found.w_per_pflops.delivered == pytest.approx(found.query_j / found.useful_flops * 1e15)
    assert found.w_per_pflops.peak == pytest.approx((100 / 0.8 + 5 + 10) / 2000 * 1e15)


@pytest.mark.parametrize(
    ("missing", "component"), [("mac_j", "array"), ("byte_j", "memory"), ("static_w", "static")]
)
def test_a_missing_energy_leaves_the_sum_unknown_and_the_times_known(
    missing: str, component: str
) -> None:
    found = evaluate(paper_scenario(**{missing: None}))

    assert found.energy_j[component] is None
    assert found.query_j is None
    assert found.mean_w is None
    assert found.peak_w is None
    assert found.w_per_pflops.delivered is None
    assert found.query_usd is None
    assert found.query_s == evaluate(paper_scenario()).query_s
    assert found.feasible


def test_a_missing_host_power_leaves_the_energy_unknown() -> None:
    found = evaluate(paper_scenario(system=System(name="paper", device="paper")))

    assert found.energy_j["host"] is None
    assert found.query_j is None
    assert found.full_load_w is None


def test_the_device_supplies_host_figures_that_the_system_lacks() -> None:
    system = System(name="paper", device="paper", devices=3)
    found = evaluate(
        paper_scenario(system=system, host_w=2.0, host_usd=9.0, price_usd=100.0, concurrency=3)
    )
    assert found.queries_per_s is not None

    assert found.energy_j["host"] == pytest.approx(3 * 2.0 / found.queries_per_s)
    assert found.system_usd == pytest.approx(3 * (100 + 9))


def test_price_and_bill_of_material() -> None:
    found = evaluate(paper_scenario(price_usd=300.0, part_usd=25.0, devices=2))

    assert found.system_usd == 2 * 300 + 40
    assert found.bom_usd == 2 * 25 + 40
    assert found.price_parts_usd == {"part": 50.0, "host": 40.0}
    assert sum(found.price_parts_usd.values()) == found.bom_usd


def test_a_missing_price_is_unknown_not_free() -> None:
    found = evaluate(paper_scenario())

    assert found.system_usd is None
    assert found.bom_usd is None
    assert found.query_usd is None
    assert found.tco == {}
    assert found.price_parts_usd == {}


def test_cost_of_a_query_on_paper() -> None:
    # 100 USD over 2 years, 5 % of it a year for operation; half of the time in use, so that
    # 31,557,600 s / 2 serve one query each `query_s`; energy at the wall, 80 % of which arrives,
    # times a facility factor of 1.5, at 0.1 USD/kWh.
    economics = Economics(
        life_years=2, utilization=0.5, usd_per_kwh=0.1, pue=1.5, operation_share_per_year=0.05
    )
    system = System(name="paper", device="paper", host_w=10.0, host_usd=40.0, supply_efficiency=0.8)
    found = evaluate(paper_scenario(price_usd=60.0, economics=economics, system=system))
    assert found.query_s is not None
    assert found.query_j is not None

    served = 31_557_600 / 2 / found.query_s
    money = (100 / 2 + 100 * 0.05) / served + found.query_j / 0.8 * 1.5 / 3.6e6 * 0.1
    assert found.query_usd == pytest.approx(money)


def test_cost_of_a_query_in_a_data_center_on_paper() -> None:
    # A facility of 8 USD/W for the wall power at full load stands 10 years, and 0.2 USD/W are spent
    # each year. Full load is the device's cap behind its regulators, its board and the host.
    economics = Economics(
        life_years=2, utilization=0.5, usd_per_kwh=0.1, pue=1.5, facility_usd_per_w=8.0,
        facility_life_years=10, operation_usd_per_w_year=0.2,
    )  # fmt: skip
    system = System(name="paper", device="paper", host_w=10.0, host_usd=40.0, supply_efficiency=0.8)
    found = evaluate(paper_scenario(price_usd=60.0, cap_w=90.0, economics=economics, system=system))
    assert found.query_s is not None
    assert found.query_j is not None
    assert found.full_load_w == pytest.approx(90 / 0.8 + 5 + 10)

    served = 31_557_600 / 2 / found.query_s
    wall_w = found.full_load_w / 0.8
    assert found.tco == pytest.approx({
        "system": 100 / 2 / served, "facility": wall_w * 8 / 10 / served,
        "energy": found.query_j / 0.8 * 1.5 / 3.6e6 * 0.1, "operation": wall_w * 0.2 / served,
    })  # fmt: skip
    assert found.query_usd == pytest.approx(sum(found.tco.values()))


def test_devices_without_work_are_paid_for_and_named() -> None:
    # A plan of one device on a system of three.
    system = System(name="paper", device="paper", devices=3, host_w=10.0, host_usd=40.0)
    found = evaluate(paper_scenario(system=system, partitioner=Given(one_stage), price_usd=100.0))

    assert found.devices == 1
    assert found.system_usd == 340
    assert any("2 of 3 devices have no part" in note for note in found.notes)


def test_a_batch_equals_its_single_designs_bit_for_bit() -> None:
    rng = np.random.default_rng(3)
    scenario = paper_scenario(concurrency=5, cap_w=20.0, price_usd=5.0, part_usd=1.0, year=2020.0,
                              vector_rate=100.0, update_s=60.0)  # fmt: skip
    swept = {
        "macs_per_s": rng.uniform(100, 5000, 40), "bytes_per_s": rng.uniform(100, 5000, 40),
        "mac_j": rng.uniform(0.01, 3, 40), "cap_w": rng.uniform(5, 3000, 40),
        "year": rng.choice([2012.0, 2019.0, 2024.0], 40),
    }  # fmt: skip
    batch = run(scenario, **swept)
    for index in range(40):
        own = {name: float(column[index]) for name, column in swept.items()}
        single = run(replace(scenario, device=scenario.device.replace(**own)))
        for name, column in batch.values.items():
            if column is not None:
                assert column[index] == value(single, name), (name, index)
        assert batch.feasibility.reason(index) == single.feasibility.reason(0)


def test_more_bandwidth_is_never_slower_and_more_load_never_less_throughput() -> None:
    faster = run(paper_scenario(concurrency=4), bytes_per_s=np.linspace(50, 5000, 100))
    assert (np.diff(faster.values["query_s"]) <= 1e-12).all()

    loaded = run(paper_scenario(bytes_per_s=300.0), concurrency=np.arange(1.0, 100.0))
    assert (np.diff(loaded.values["throughput_tokens_per_s"]) >= -1e-12).all()
    assert (np.diff(loaded.values["query_s"]) > 0).all()


def test_default_formats_follow_the_device_and_say_so() -> None:
    found = evaluate(paper_scenario(precisions=None))
    assert found.operating_point.precisions == Precisions()
    assert not any("has no fp8" in note for note in found.notes)
