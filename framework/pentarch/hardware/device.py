"""What every device model of a back-end has in common."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat

from pentarch.hardware.machine import Provenance
from pentarch.model import Model


class Device(Model):
    """A device that a back-end can describe: datasheet figures or free design parameters.

    A back-end derives its own model from this one and documents every field with meaning, unit
    and bounds. Numbers can be swept by a search; everything else is structure.
    """

    name: str
    """Unique in the catalog, for example `"h100_sxm"`."""
    about: str = ""
    """One line for lists."""
    aliases: tuple[str, ...] = ()
    """Other names that the catalog resolves to this device."""
    year: float | None = Field(default=None, ge=1990, le=2100)
    """Year of tape-out or, when that is not published, of first sale."""
    price_usd: PositiveFloat | None = None
    """Dated list or street price of one device with its memory; `None` when unknown."""
    price_kind: Literal["list", "street", "estimate"] | None = None
    """What the price is."""
    price_year: float | None = None
    """Year of the price."""
    host_usd: NonNegativeFloat | None = None
    """Price per device of all else in a system (board, host, NIC, supply, cooling, enclosure), where
    no system states its own; `None` when unknown."""
    host_w: NonNegativeFloat | None = None
    """Power per device of all else in a system, where no system states its own."""
    update_s: NonNegativeFloat | None = None
    """Time to bring a new operator to a device in the field; `None` when unknown."""
    sources: dict[str, Provenance] = {}
    """Source and grade by field; the entry `"*"` covers the fields that have none of their own."""
