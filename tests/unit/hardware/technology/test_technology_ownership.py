"""Cost of owning a system."""

import numpy as np
import pytest

from pentarch.errors import FieldError
from pentarch.hardware.technology import (
    Ownership,
    OwnershipTerms,
    ownership_cost,
    ownership_terms,
)

YEAR_S = 365.25 * 86400


def test_ownership_by_hand() -> None:
    owned = Ownership(
        system_usd=100_000.0, provisioned_w=10_000.0, mean_w=6_000.0, queries_per_s=50.0,
        utilization=0.5,
    )  # fmt: skip
    cost = ownership_cost(owned, ownership_terms())
    per_year = (
        100_000 / 5  # price over five years
        + 11 * 10_000 / 14  # facility
        + 6 * 1.10 * 8766 * 0.08  # kWh
        + 0.3 * 10_000
    )
    assert cost.usd_per_query == pytest.approx(per_year / (50 * 0.5 * YEAR_S))
    assert cost.usd_per_s == pytest.approx(per_year / YEAR_S)
    assert cost.energy_usd_per_s == pytest.approx(6 * 1.10 * 0.08 / 3600)


def test_edge_has_no_facility() -> None:
    owned = Ownership(
        system_usd=1_000.0, provisioned_w=100.0, mean_w=50.0, queries_per_s=1.0, utilization=0.1
    )
    cost = ownership_cost(owned, ownership_terms(at_edge=True))
    assert cost.facility_usd_per_s == 0.0
    assert cost.operation_usd_per_s == 0.0
    assert cost.energy_usd_per_s == pytest.approx(0.05 * 0.08 / 3600)


def test_gigawatt_campus_is_near_the_published_cost_of_ownership() -> None:
    # Epoch AI 2026: 38 USD/W, 8.5e9 USD a year; 27 USD/W of it are servers and network
    owned = Ownership(
        system_usd=27e9, provisioned_w=1e9, mean_w=0.75e9, queries_per_s=1.0, utilization=1.0
    )
    cost = ownership_cost(owned, ownership_terms())
    assert cost.usd_per_query is not None
    assert cost.usd_per_query * YEAR_S == pytest.approx(8.5e9, rel=0.2)
    assert cost.energy_usd_per_s * YEAR_S == pytest.approx(0.6e9, rel=0.1)


def test_a_facility_of_unknown_power_is_unknown_not_free() -> None:
    owned = Ownership(
        system_usd=1_000.0, provisioned_w=None, mean_w=50.0, queries_per_s=1.0, utilization=0.5
    )
    in_facility = ownership_cost(owned, ownership_terms())
    assert in_facility.facility_usd_per_s is None
    assert in_facility.usd_per_query is None
    assert ownership_cost(owned, ownership_terms(at_edge=True)).usd_per_query is not None


def test_operation_as_a_share_of_the_price_for_many_designs() -> None:
    terms = OwnershipTerms(life_s=100.0, usd_per_j=0.0, operation_per_s=0.001)
    prices = np.array([10.0, 20.0])
    owned = Ownership(
        system_usd=prices, provisioned_w=None, mean_w=np.zeros(2), queries_per_s=2.0,
        utilization=1.0,
    )  # fmt: skip
    found = ownership_cost(owned, terms).usd_per_query
    assert found is not None
    np.testing.assert_allclose(np.asarray(found), prices * 0.011 / 2)


def test_utilization_is_a_share() -> None:
    owned = Ownership(
        system_usd=1.0, provisioned_w=1.0, mean_w=1.0, queries_per_s=1.0, utilization=1.5
    )
    with pytest.raises(FieldError, match="utilization"):
        ownership_cost(owned, ownership_terms())
