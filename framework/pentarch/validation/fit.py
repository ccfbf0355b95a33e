"""Maximum-a-posteriori fits of positive parameters to measured times.

With x = log(parameters), x0 and s from log-normal priors, the fit minimizes

    sum over rows of rho(log(predicted / measured) / noise) + sum ((x - x0) / s)^2

where rho is the soft L1 loss: quadratic for errors of the noise's size, linear for outliers. The
derivatives come from finite differences, all of them from one batch of predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pentarch.errors import InputError
from pentarch.hardware.columns import Floats
from pentarch.hardware.priors import Prior

SCALE = 1.5
"""Error in units of the noise from which on the loss grows linearly."""
STEP = 3e-3
"""Change of the logarithm of a parameter for a derivative."""
WIDE_STEP = 0.03
"""The same, both ways, for the spread after the fit: wide enough to see over kinks."""
FAR = 1.5
"""Spreads from its prior at which a parameter that the fit could not feel is tried once more."""
MARGIN = 1e-6
"""Distance from the bounds at which a fit starts."""
ROUNDS = 40
"""Evaluations of the derivatives at most."""
TOLERANCE = 1e-4
"""Relative change of parameters or of the sum that ends a fit."""
UNFELT = 0.97
"""Share of its prior's spread from which on a parameter moved next to nothing."""
SPREAD_LEFT = 0.8
"""A parameter is not identified when its posterior is at least so wide as this share of its prior."""
EVIDENCE = 2.0
"""Half the sum of squares by which predictions may get worse when a parameter goes back to its prior:
a likelihood ratio of e^2."""
QUANTILE = 1.6448536269514722
"""Of the normal distribution: 90 % lie within so many standard deviations."""

Predict = Callable[[Mapping[str, Floats]], Floats]
"""Parameters of N designs, (N,) each -> predicted seconds, (R, N)."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a fit says of one parameter."""

    value: float
    """The most probable value; that of the prior where the rows do not determine it."""
    prior: Prior
    """What was expected."""
    log_spread: float
    """Standard deviation of the logarithm after the fit."""
    identified: bool
    """Whether the rows determine it."""

    @property
    def interval(self) -> tuple[float, float]:
        """Range that holds the value with a probability of 90 %, cut at the prior's bounds."""
        factor = float(np.exp(QUANTILE * self.log_spread))
        low, high = self.value / factor, self.value * factor
        return max(low, self.prior.low), min(high, self.prior.high)


@dataclass(frozen=True, slots=True, eq=False)
class Observations:
    """Measured times, R of them."""

    seconds: Floats
    """Times, (R,)."""
    noise: Floats
    """Expected standard deviation of the logarithm of predicted / measured, (R,)."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """The result of one fit."""

    estimates: Mapping[str, Estimate]
    """What was found, by parameter."""
    before: Floats
    """Predicted times at the priors, (R,)."""
    after: Floats
    """Predicted times at what was found, (R,)."""


def fit_parameters(predict: Predict, observed: Observations, priors: Mapping[str, Prior]) -> Fit:
    """Fit positive parameters to measured times.

    A parameter that the rows do not determine goes back to its prior, and the others are fitted
    once more beside it. One whose logarithm is vague but that cannot go back without worse
    predictions is determined all the same: a time may be known to be next to nothing.

    Args:
        predict: Predicts all rows for several sets of parameters at once.
        observed: What was measured.
        priors: What is expected of each parameter.

    Raises:
        InputError: There is nothing to fit, scipy is missing, or a row cannot be predicted.
    """
    if not priors or not len(observed.seconds):
        raise InputError(
            f"A fit needs parameters and rows; found {len(priors)} parameters and "
            f"{len(observed.seconds)} rows. Name a file with rows of what is fitted."
        )
    problem = _Problem(predict, observed, dict(priors))
    found, spreads = _settle(problem, priors)
    values = {name: found.get(name, prior.value) for name, prior in priors.items()}
    both = problem.seconds(
        {name: np.array([priors[name].value, value]) for name, value in values.items()}
    )
    return Fit(
        estimates={
            name: Estimate(
                value=values[name], prior=prior, log_spread=min(spreads[name], prior.spread),
                identified=name in found,
            )
            for name, prior in priors.items()
        },
        before=both[:, 0], after=both[:, 1],
    )  # fmt: skip


def _settle(
    problem: "_Problem", priors: Mapping[str, Prior]
) -> tuple[Mapping[str, float], Mapping[str, float]]:
    """Return the values that the rows determine, and the spreads of all logarithms."""
    free = tuple(priors)
    middle = problem.start(free)
    x, spread, least = problem.solve(free, middle)
    spreads = dict(zip(free, spread.tolist(), strict=True))
    shifts = dict(zip(free, np.abs(x - middle).tolist(), strict=True))
    vague = [name for name in free if spreads[name] >= SPREAD_LEFT * priors[name].spread]
    vague.sort(key=lambda name: shifts[name] / priors[name].spread)
    while vague:
        kept = tuple(name for name in free if name not in vague)
        start = np.array([x[free.index(name)] for name in kept])
        at, spread, cost = problem.solve(kept, start)
        if cost - least <= EVIDENCE:
            spreads |= dict(zip(kept, spread.tolist(), strict=True))
            return dict(zip(kept, np.exp(at).tolist(), strict=True)), spreads
        vague.pop()
    return dict(zip(free, np.exp(x).tolist(), strict=True)), spreads


class _Problem:
    """One fit: residuals and their derivatives, found together and kept until the next point."""

    def __init__(self, predict: Predict, observed: Observations, priors: dict[str, Prior]) -> None:
        self._predict, self._observed, self._priors = predict, observed, priors
        self._logs = np.log(observed.seconds)

    def start(self, free: Sequence[str]) -> Floats:
        """Return where a fit of some parameters starts: their priors, inside the bounds."""
        low, high = self._bounds(free)
        middle = np.log([self._priors[name].value for name in free])
        return np.clip(middle, low + MARGIN, high - MARGIN)

    def solve(self, free: Sequence[str], start: Floats) -> tuple[Floats, Floats, float]:
        """Return the most probable logarithms, their standard deviations, and half the sum of squares.

        A parameter may have no effect at all until it is far enough from its prior, as the energy of
        an operation below a power cap. Those that the first search could not feel are tried there.
        """
        if not free:
            return start, start, 0.5 * float(np.sum(self._residuals(free, start, start)[0] ** 2))
        cost, x = self._search(free, start)
        spread = self._spread(free, x)
        prior = np.array([self._priors[name].spread for name in free])
        for index in np.flatnonzero(spread >= UNFELT * prior).tolist():
            for side in (FAR, -FAR):
                other = x.copy()
                other[index] += side * prior[index]
                found, where = self._search(free, other)
                if found < cost:
                    cost, x, spread = found, where, self._spread(free, where)
        return x, spread, cost

    def _search(self, free: Sequence[str], start: Floats) -> tuple[float, Floats]:
        """Return the least half sum of squares found from a start, and where it is."""
        least_squares = _least_squares()
        low, high = self._bounds(free)
        kept: dict[bytes, tuple[Floats, Floats]] = {}

        def at(x: Floats) -> tuple[Floats, Floats]:
            key = x.tobytes()
            if key not in kept:
                kept.clear()
                kept[key] = self._residuals(free, x, high)
            return kept[key]

        found = least_squares(
            lambda x: at(x)[0], np.clip(start, low + MARGIN, high - MARGIN), bounds=(low, high),
            jac=lambda x: at(x)[1], max_nfev=ROUNDS, xtol=TOLERANCE, ftol=TOLERANCE,
        )  # fmt: skip
        return float(found.cost), np.asarray(found.x)

    def _spread(self, free: Sequence[str], x: Floats) -> Floats:
        """Return the standard deviations of the logarithms around a point, from wide differences."""
        low, high = self._bounds(free)
        count = len(free)
        points = np.repeat(x[:, None], 2 * count, axis=1)
        each = np.arange(count)
        points[each, each] = np.minimum(x + WIDE_STEP, high)
        points[each, count + each] = np.maximum(x - WIDE_STEP, low)
        softened = _softened(self._errors(free, points))
        slopes = (softened[:, :count] - softened[:, count:]) / (
            points[each, each] - points[each, count + each]
        )
        slopes = np.concatenate(
            [slopes, np.diag([1.0 / self._priors[name].spread for name in free])]
        )
        covariance = np.linalg.pinv(slopes.T @ slopes)
        spread: Floats = np.sqrt(np.maximum(np.diag(covariance), 0.0))
        return spread

    def _errors(self, free: Sequence[str], points: Floats) -> Floats:
        """Return log(predicted / measured) / noise at N points, (R, N); other parameters as priors."""
        columns = {
            name: np.full(points.shape[1], prior.value) for name, prior in self._priors.items()
        } | {name: np.exp(points[index]) for index, name in enumerate(free)}
        errors: Floats = (
            np.log(self.seconds(columns)) - self._logs[:, None]
        ) / self._observed.noise[:, None]
        return errors

    def seconds(self, columns: Mapping[str, Floats]) -> Floats:
        """Return predicted times, (R, N).

        Raises:
            InputError: One is not a positive number.
        """
        found = self._predict(columns)
        good = np.isfinite(found) & (found > 0)
        if not good.all():
            row = int(np.argmin(good.all(axis=1)))
            raise InputError(
                f"Row {row} of those to be fitted cannot be predicted: {found[row].tolist()[:3]} s. "
                "Leave out rows that the device cannot run."
            )
        return found

    def _bounds(self, free: Sequence[str]) -> tuple[Floats, Floats]:
        priors = [self._priors[name] for name in free]
        return np.log([one.low for one in priors]), np.log([one.high for one in priors])

    def _residuals(self, free: Sequence[str], x: Floats, high: Floats) -> tuple[Floats, Floats]:
        """Return residuals, (R + P,), and their derivatives, (R + P, P), at one point."""
        count = len(free)
        steps = np.where(x + STEP > high, -STEP, STEP)
        points = np.repeat(x[:, None], count + 1, axis=1)
        points[np.arange(count), np.arange(count) + 1] += steps
        residuals = _softened(self._errors(free, points))
        slopes = (residuals[:, 1:] - residuals[:, :1]) / steps
        spread = np.array([self._priors[name].spread for name in free])
        middle = np.log([self._priors[name].value for name in free])
        return (
            np.concatenate([residuals[:, 0], (x - middle) / spread]),
            np.concatenate([slopes, np.diag(1.0 / spread)]),
        )


def _softened(errors: Floats) -> Floats:
    """Return residuals whose squares are the soft L1 loss of errors in units of the noise."""
    inside = (errors / SCALE) ** 2
    softened: Floats = np.sign(errors) * SCALE * np.sqrt(2.0 * (np.sqrt(1.0 + inside) - 1.0))
    return softened


def _least_squares() -> Any:
    try:
        from scipy.optimize import least_squares
    except ImportError as error:
        raise InputError(
            "A fit needs scipy, which is not installed. Install it with "
            "`pip install 'pentarch[calibrate]'`."
        ) from error
    return least_squares
