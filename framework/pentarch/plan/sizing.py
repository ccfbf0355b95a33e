"""How many devices a rate asks for."""

from fractions import Fraction
from math import ceil

from pentarch.errors import FieldError


def devices_needed(target_flops_per_s: float, peak_flops_per_s: float, *, efficiency: float) -> int:
    """Return the least number of devices that deliver a rate together.

    Args:
        target_flops_per_s: Rate to be delivered.
        peak_flops_per_s: Peak rate of one device.
        efficiency: Share of its peak that a device delivers, above 0 and at most 1.

    Returns:
        The quotient target / (peak x efficiency), rounded up. It is exact for the decimal numbers
        that the arguments stand for, so that 1 / 0.05 is 20 and never 21.

    Raises:
        FieldError: An argument is not positive and finite, or the efficiency exceeds 1.

    Examples:
        >>> devices_needed(1e15, 1e15, efficiency=0.05)
        20
    """
    target = _positive("target_flops_per_s", target_flops_per_s)
    peak = _positive("peak_flops_per_s", peak_flops_per_s)
    share = _positive("efficiency", efficiency)
    if share > 1:
        raise FieldError(
            where="devices_needed",
            path="efficiency",
            problem=f"found {efficiency!r}",
            expected="a share of the peak, above 0 and at most 1",
        )
    return ceil(target / (peak * share))


def _positive(name: str, value: float) -> Fraction:
    try:
        exact = Fraction(
            repr(float(value))
        )  # the decimal number that was written, not its nearest float
    except ValueError:
        exact = Fraction(0)
    if exact <= 0:
        raise FieldError(
            where="devices_needed",
            path=name,
            problem=f"found {value!r}",
            expected="a positive finite number",
        )
    return exact
