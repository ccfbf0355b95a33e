"""Priors of fitted figures: what a back-end expects of a device before anything was measured on it.

A prior is log-normal: factors up and down are equally likely. What other devices turned out to be,
against their own priors, moves the prior of a device that was not measured:

    g = sum over the other families of their mean log(value / prior) / (their number + 1)
    r = g + n / (n + 1) (mean over the n devices of its own family - g)
    expected = prior exp(r)

so that one family says half of what it found, and many say nearly all of it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pentarch.errors import InputError


@dataclass(frozen=True, slots=True)
class Prior:
    """What is expected of one figure before a fit."""

    value: float
    """Median."""
    spread: float
    """Standard deviation of the logarithm: 0.1 means about 10 % up or down."""
    low: float
    """Least value that a fit may find."""
    high: float
    """Largest value that a fit may find."""
    reason: str
    """Where it comes from."""

    def __post_init__(self) -> None:
        if not (0 < self.low <= self.value <= self.high and 0 < self.spread < math.inf):
            raise InputError(
                f"A prior of {self.value:g} between {self.low:g} and {self.high:g} with a spread of "
                f"{self.spread:g} is none. Give 0 < low <= value <= high and a spread above 0."
            )

    def moved(self, log_ratio: float) -> "Prior":
        """Return the prior with its median times exp(log_ratio), kept between the bounds."""
        value = min(max(self.value * math.exp(log_ratio), self.low), self.high)
        return Prior(value, self.spread, self.low, self.high, self.reason)


def expected_log_ratio(ratios: Mapping[str, Sequence[float]], family: str | None) -> float:
    """Return how far, as a logarithm, a figure is expected from the prior of its device.

    Args:
        ratios: log(value / prior) of the devices on which it was identified, by their family.
        family: Family of the device; `None` when it belongs to none.

    Examples:
        >>> round(expected_log_ratio({"Alpha": [0.2, 0.4], "Beta": [0.1]}, None), 6)
        0.133333
        >>> round(expected_log_ratio({"Alpha": [0.2, 0.4], "Beta": [0.1]}, "Alpha"), 6)
        0.216667
    """
    others = [math.fsum(found) / len(found) for name, found in ratios.items() if name != family]
    general = math.fsum(others) / (len(others) + 1)
    own = ratios.get(family, ()) if family is not None else ()
    if not own:
        return general
    return general + len(own) / (len(own) + 1) * (math.fsum(own) / len(own) - general)
