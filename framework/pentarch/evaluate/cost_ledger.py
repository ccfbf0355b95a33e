"""The cost ledger: what the price of a system pays for; exact in sum."""

from pentarch.evaluate.figures import Figures
from pentarch.results import AmountEntry

DESIGN = "design cost"
MARGIN = "margin and channel"
UNSPLIT = "design cost, margin and channel"
SPARE = "devices without work"
HOST = "host, boards, network and supply"

LOST = "loss"
"""Last word of the parts of a bill of material that no device contains: what a yield costs."""

DUST = 1e-15
"""Share of the price below which an entry is a rounding error, and is left out."""


def cost_ledger(figures: Figures, index: int) -> tuple[AmountEntry, ...]:
    """Return what `system_usd` pays for, the parts of a device that work first.

    Ideal are the parts of the devices in the plan; beyond them lie what assembly and yield lose,
    the design cost that the price repays, what a buyer pays above both (margin and channel; negative
    where a device is sold below them), devices without work, and the host with all that is in the
    box. Where a machine does not state the design cost, it is one amount with the margin.

    Args:
        figures: Figures of a batch.
        index: Which design.

    Returns:
        Amounts that sum to `system_usd`; empty when the price, the host's price or the bill of
        material is unknown.
    """
    system, cost = figures.values["system_usd"], figures.stages[0].costs.given.machine.cost
    deployment = figures.deployment
    host = deployment.system.host_usd
    if system is None or host is None or cost.price_usd is None or not cost.parts_usd:
        return ()
    total = float(system[index])
    devices = deployment.devices
    spare = max(float(deployment.system.devices) - devices, 0.0)
    price = float(cost.price_usd[index])
    parts = {name: float(usd[index]) for name, usd in cost.parts_usd.items()}
    amounts = {
        (name, not name.endswith(LOST)): usd * devices for name, usd in parts.items()
    }  # fmt: skip
    design = 0.0 if cost.nre_usd is None else float(cost.nre_usd[index])
    amounts[DESIGN, False] = design * devices
    margin = UNSPLIT if cost.nre_usd is None else MARGIN
    amounts[margin, False] = (price - sum(parts.values()) - design) * devices
    amounts[SPARE, False] = price * spare
    amounts[HOST, False] = host
    if total <= 0:
        return ()
    entries = [
        AmountEntry(name=name, share=usd / total, ideal=ideal, amount=usd)
        for (name, ideal), usd in amounts.items()
        if abs(usd) > DUST * total
    ]
    return tuple(sorted(entries, key=lambda entry: (not entry.ideal, -entry.amount)))


def unknown_costs(figures: Figures) -> str | None:
    """Return why there is no cost ledger, naming the figure; `None` when all are known."""
    machine = figures.stages[0].costs.given.machine
    missing = []
    if machine.cost.price_usd is None:
        missing.append(f"price_usd of {machine.name}")
    if not machine.cost.parts_usd:
        missing.append(f"the bill of material of {machine.name} (back-end {machine.backend})")
    if figures.deployment.system.host_usd is None:
        missing.append(f"host_usd of {figures.deployment.system.name}")
    return f"no cost ledger: {' and '.join(missing)} is unknown" if missing else None
