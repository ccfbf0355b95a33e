"""The cost ledger: exact in sum, and what it lacks is named."""

import pytest
from tests.unit.evaluate.paper import evaluate, paper_scenario

import pentarch as pa


def test_the_parts_on_paper() -> None:
    # Two devices of 5 USD with parts for 3, a host of 40 USD.
    found = evaluate(paper_scenario(devices=2, price_usd=5.0, part_usd=3.0))
    amounts = {entry.name: entry.amount for entry in found.cost_ledger}

    assert amounts == {
        "part": 6.0, "design cost, margin and channel": 4.0, "host, boards, network and supply": 40.0,
    }  # fmt: skip
    assert sum(amounts.values()) == found.system_usd == 50.0
    assert [entry.ideal for entry in found.cost_ledger] == [True, False, False]
    assert found.cost_ledger[0].share == pytest.approx(6 / 50)


def test_a_device_sold_below_its_parts_is_said_to_be() -> None:
    found = evaluate(paper_scenario(price_usd=2.0, part_usd=3.0))
    amounts = {entry.name: entry.amount for entry in found.cost_ledger}

    assert amounts["design cost, margin and channel"] == -1.0
    assert sum(amounts.values()) == found.system_usd == 42.0


@pytest.mark.parametrize(
    ("known", "named"),
    [
        ({"price_usd": 5.0}, "the bill of material of paper (back-end paper)"),
        ({"part_usd": 3.0}, "price_usd of paper"),
    ],
)
def test_what_is_unknown_is_named(known: dict[str, float], named: str) -> None:
    found = evaluate(paper_scenario(**known))

    assert found.cost_ledger == ()
    assert f"no cost ledger: {named} is unknown" in found.notes


def test_a_designed_chip_shows_yield_loss_and_design_cost_apart_from_the_margin() -> None:
    found = pa.evaluate(pa.partition("llama-3-8b", "2xedge_soc"))
    amounts = {entry.name: entry.amount for entry in found.cost_ledger}
    ideal = {entry.name for entry in found.cost_ledger if entry.ideal}

    # A lean design at 5 nm costs 103 million USD, here over 100,000 chips.
    assert amounts["design cost"] == pytest.approx(2 * 1030)
    # A fabless vendor sells for 2.5 times what the chip costs.
    parts = ("die", "yield loss", "package", "memory", "test", "assembly loss")
    assert amounts["margin and channel"] == pytest.approx(1.5 * sum(amounts[n] for n in parts))
    assert ideal == {"die", "package", "memory", "test"}


@pytest.mark.parametrize("system", ["h100_sxm", "8xh100_sxm", "edge_soc"])
def test_the_ledger_of_real_systems_sums_to_their_price(system: str) -> None:
    found = pa.evaluate(pa.partition("llama-3-8b", system))

    assert found.cost_ledger
    assert sum(e.amount for e in found.cost_ledger) == pytest.approx(found.system_usd, rel=1e-12)
    assert sum(entry.share for entry in found.cost_ledger) == pytest.approx(1.0, abs=1e-12)
    losses = {entry.name for entry in found.cost_ledger if not entry.ideal}
    assert all(entry.name not in losses for entry in found.cost_ledger if entry.ideal)
