"""Energies: components, ledger and cap; exact in sum for any device."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluate.paper import (
    Given,
    evaluate,
    one_stage,
    paper_scenario,
    paper_workload,
    run,
)
from tests.unit.evaluate.test_ledger import SCENARIOS

import pentarch as pa
from pentarch.evaluate.power import static_power
from pentarch.results import Evaluation


def joules(found: Evaluation) -> dict[str, float]:
    return {entry.name: entry.amount for entry in found.energy_ledger}


def assert_whole(found: Evaluation) -> None:
    """Hold the ledger of an evaluation against its components and its total."""
    assert found.query_j is not None
    assert sum(found.energy_j.values()) == pytest.approx(found.query_j, rel=1e-12)  # type: ignore[arg-type]  # all known
    amounts = [entry.amount for entry in found.energy_ledger]
    assert sum(amounts) == pytest.approx(found.query_j, rel=1e-9)
    assert min(amounts) >= -1e-9 * found.query_j
    assert sum(entry.share for entry in found.energy_ledger) == pytest.approx(1.0, abs=1e-12)
    order = [entry.ideal for entry in found.energy_ledger]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_ledger_sums_to_the_energy_of_a_query(name: str) -> None:
    assert_whole(evaluate(paper_scenario(**SCENARIOS[name])))


@pytest.mark.parametrize("system", ["h100_sxm", "8xh100_sxm", "edge_soc"])
def test_the_ledger_of_real_devices_sums(system: str) -> None:
    asked = pa.Query(prompt_tokens=300, output_tokens=5, concurrency=17)
    found = pa.evaluate(pa.partition("llama-3-8b", system, asked))

    assert_whole(found)
    names = {entry.name for entry in found.energy_ledger if entry.ideal}
    assert any(name.startswith("useful products in ") for name in names)
    assert any(name.startswith("weights once from ") for name in names)


def test_the_parts_on_paper() -> None:
    # Two queries of 4 + 3 tokens at 2 J a MAC and 3 J a byte. A query multiplies 4 x 512 + 256 + 10 x
    # 16 in prefill and 2 x 768 + 11 x 16 in its two steps. Prefill reads the weights for itself, the
    # steps share them; keys and values are its own: 4 x 16 B read in prefill and 11 x 16 B in steps.
    found = evaluate(paper_scenario(concurrency=2))
    parts = joules(found)
    macs = 4 * 512 + 256 + 10 * 16 + 2 * 768 + 11 * 16

    assert parts["useful products in fp8"] == pytest.approx(2 * macs)
    assert parts["weights once from memory"] == pytest.approx(3 * (768 + 2 * 768 / 2))
    assert parts["keys and values once from memory"] == pytest.approx(3 * (4 + 11) * 16)
    static = parts["static power during useful work"] + parts.get("static power while waiting", 0.0)
    assert static == pytest.approx(found.energy_j["static"])
    assert parts["regulators"] == pytest.approx(found.energy_j["regulators"])
    assert parts["host"] == pytest.approx(found.energy_j["host"])


def test_useful_products_cost_what_the_supply_of_the_cap_makes_them() -> None:
    free, capped = evaluate(paper_scenario()), evaluate(paper_scenario(cap_w=1500.0))
    name = "useful products in fp8"

    # The core's energy falls with the supply, the memory's does not.
    assert 0.25 < joules(capped)[name] / joules(free)[name] < 1
    memory = "weights once from memory"
    assert joules(capped)[memory] == pytest.approx(joules(free)[memory])


def test_static_power_is_split_like_the_time() -> None:
    found = evaluate(paper_scenario(devices=4))
    static = found.energy_j["static"]
    assert static is not None
    # Three of four devices have no query.
    assert joules(found)["static power of idle devices"] == pytest.approx(0.75 * static)


def test_products_that_devices_repeat_are_no_use_twice() -> None:
    workload = paper_workload(heads=2, kv_heads=1)
    plan = Given(partial(one_stage, devices=2))
    found = evaluate(paper_scenario(workload=workload, devices=2, partitioner=plan))

    # test_ledger: 64 weights of each of 6 tokens are another device's, too, at 2 J a MAC.
    assert joules(found)["replicated products"] == pytest.approx(2 * 6 * 64)


@pytest.mark.parametrize("unknown", ["mac_j", "byte_j", "static_w"])
def test_without_a_figure_there_is_no_ledger_and_a_note_names_it(unknown: str) -> None:
    found = evaluate(paper_scenario(**{unknown: None}))
    lacking = {"mac_j": "array", "byte_j": "memory", "static_w": "static"}[unknown]

    assert found.query_j is None
    assert found.energy_ledger == ()
    (note,) = (note for note in found.notes if note.startswith("no energy ledger"))
    assert f"energy of {lacking} of paper" in note


DEVICES: dict[str, st.SearchStrategy[Any]] = {
    "macs_per_s": st.floats(10.0, 1e5),
    "bytes_per_s": st.floats(10.0, 1e5),
    "mac_j": st.floats(0.0, 10.0),
    "byte_j": st.floats(0.0, 10.0),
    "static_w": st.floats(0.0, 50.0),
    "regulator": st.floats(0.3, 1.0),
    "step_s": st.floats(0.0, 1.0),
    "start_s": st.floats(0.0, 0.1),
    "cap_w": st.none() | st.floats(60.0, 1e5),
    "devices": st.integers(1, 3),
    "concurrency": st.integers(1, 40),
    "output_tokens": st.integers(1, 9),
}


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries(DEVICES))
def test_energies_of_any_device_sum_and_keep_the_cap(drawn: dict[str, Any]) -> None:
    scenario = paper_scenario(**drawn)
    found = evaluate(scenario)

    assert_whole(found)
    assert sum(entry.share for entry in found.ledger) == pytest.approx(1.0, abs=1e-12)
    assert found.ledger[0].share == pytest.approx(found.mfu.query, rel=1e-9)
    (stage,) = run(scenario).stages
    static = static_power(stage.costs.given.machine)
    assert static is not None
    for phase in (stage.prefill, stage.decode):
        assert phase.dynamic_j is not None
        if drawn["cap_w"] is not None and phase.seconds[0] > 0:
            mean_w = phase.dynamic_j[0] / phase.seconds[0] + static[0]
            assert mean_w <= drawn["cap_w"] * (1 + 1e-9)
        assert phase.seconds[0] >= phase.free_seconds[0] * (1 - 1e-12)
        assert 0 < phase.clock_ratio[0] <= 1
