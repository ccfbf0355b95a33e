"""Cost of owning a system, per second of its life and per query."""

from dataclasses import dataclass

from pentarch.hardware.technology.cost import check_share
from pentarch.hardware.technology.library import FigureLog, reading
from pentarch.hardware.technology.quantities import Values


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnershipTerms:
    """What turns a price and watts into a running cost."""

    life_s: float
    """Time over which the price of the system is written off."""
    usd_per_j: float
    """Price of electricity."""
    pue: float = 1.0
    """Facility power / IT power."""
    facility_usd_per_w: float = 0.0
    """Price of a facility per watt that it supplies to systems; 0 where there is none."""
    facility_life_s: float = float("inf")
    """Time over which the facility is written off."""
    operation_usd_per_w_s: float = 0.0
    """Staff, maintenance and other operation per watt supplied and second."""
    operation_per_s: float = 0.0
    """The same as a share of the system's price per second."""


def ownership_terms(*, at_edge: bool = False, used: FigureLog | None = None) -> OwnershipTerms:
    """Return the library's terms: lives of 5 and 14 years, 11 USD/W, PUE 1.10, 0.08 USD/kWh.

    Args:
        at_edge: Whether there is no data center: no facility, no operation, no facility power.
        used: Log of the figures read.

    References:
        Epoch AI, AI data center cost breakdown, 2026.
    """
    log = reading(used)
    owner = "cost of ownership"
    life_s = log.si("tco.life_it", owner=owner)
    usd_per_j = log.si("tco.electricity", owner=owner)
    if at_edge:
        return OwnershipTerms(life_s=life_s, usd_per_j=usd_per_j)
    return OwnershipTerms(
        life_s=life_s,
        usd_per_j=usd_per_j,
        pue=log.si("tco.pue_hyperscale", owner=owner),
        facility_usd_per_w=log.si("tco.facility_capex_per_w", owner=owner),
        facility_life_s=log.si("tco.life_facility", owner=owner),
        operation_usd_per_w_s=log.si("tco.opex_other", owner=owner),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ownership:
    """What is owned, and how many queries it answers."""

    system_usd: Values
    """Price of the system."""
    provisioned_w: Values | None
    """Power at the wall that the facility must be able to supply; `None` when unknown."""
    mean_w: Values
    """Mean power at the wall over the system's life, before facility overhead."""
    queries_per_s: Values
    """Query rate at full load."""
    utilization: Values
    """Share of the time that the system answers queries at that rate; always stated."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class OwnershipCost:
    """Cost of owning a system, by part, in USD per second of its life."""

    system_usd_per_s: Values
    """Price spread over the life of the system."""
    facility_usd_per_s: Values | None
    """Facility spread over its own, longer life; `None` when the power to supply is unknown."""
    energy_usd_per_s: Values
    """Electricity, facility overhead included."""
    operation_usd_per_s: Values | None
    """Staff, maintenance and other operation; `None` when the power to supply is unknown."""
    queries_per_s: Values
    """Queries answered per second of the system's life."""

    @property
    def usd_per_s(self) -> Values | None:
        """All of it; `None` when a part is unknown."""
        if self.facility_usd_per_s is None or self.operation_usd_per_s is None:
            return None
        bought = self.system_usd_per_s + self.facility_usd_per_s
        return bought + self.energy_usd_per_s + self.operation_usd_per_s

    @property
    def usd_per_query(self) -> Values | None:
        """All of it per query answered; `None` when a part is unknown."""
        total = self.usd_per_s
        return None if total is None else total / self.queries_per_s


def ownership_cost(owned: Ownership, terms: OwnershipTerms) -> OwnershipCost:
    """Return the cost of ownership per second and per query.

    [system/life + facility · P/life_f + P_mean · PUE · electricity + operation] ÷
    (query rate · utilization).

    Args:
        owned: The system, its power and its load.
        terms: What power, price and operation cost; `ownership_terms` reads the library's.

    Raises:
        FieldError: The utilization is not within (0, 1].
    """
    check_share(owned.utilization, "utilization")
    operation: Values | None = owned.system_usd * terms.operation_per_s
    facility: Values | None = 0.0 * owned.mean_w
    if terms.facility_usd_per_w or terms.operation_usd_per_w_s:
        supplied = owned.provisioned_w
        facility = operation = None
        if supplied is not None:
            facility = supplied * terms.facility_usd_per_w / terms.facility_life_s
            operation = (
                owned.system_usd * terms.operation_per_s + supplied * terms.operation_usd_per_w_s
            )
    return OwnershipCost(
        system_usd_per_s=owned.system_usd / terms.life_s,
        facility_usd_per_s=facility,
        energy_usd_per_s=owned.mean_w * terms.pue * terms.usd_per_j,
        operation_usd_per_s=operation,
        queries_per_s=owned.queries_per_s * owned.utilization,
    )
