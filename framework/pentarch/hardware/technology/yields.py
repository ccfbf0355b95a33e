"""Dies per wafer and the share of them that works."""

from enum import StrEnum
from math import comb

import numpy as np

from pentarch.errors import FieldError
from pentarch.hardware.technology.library import FigureLog, check_node, reading
from pentarch.hardware.technology.quantities import Values


class ClusterAlpha(StrEnum):
    """Source of the defect clustering parameter of the negative binomial law."""

    ACTUARY = "actuary22"
    """10, weakly clustered."""
    COMMON = "common"
    """3, the textbook value."""


def dies_per_wafer(die_mm2: Values, *, used: FigureLog | None = None) -> Values:
    """Return how many dies of `die_mm2` fit a 300 mm wafer, as a continuous estimate.

    N = π (d/2 - e)² / S - π (d - 2e) / sqrt(2 S), S = A + 2 s sqrt(A) + s² with wafer diameter d,
    edge loss e and scribe lane s. The formula suits dies much smaller than the wafer; where it
    falls below zero, no die fits.

    References:
        Y. Feng, K. Ma, Chiplet Actuary, DAC 2022.
    """
    log = reading(used)
    owner = "dies per wafer"
    diameter_mm = log.si("manufacturing.formulas.wafer_diameter", owner=owner)
    edge_mm = log.si("manufacturing.formulas.edge_loss", owner=owner)
    scribe_mm = log.si("manufacturing.formulas.scribe_lane", owner=owner)
    area = np.asarray(die_mm2, dtype=np.float64)
    _check_positive(area, "die_mm2")
    site_mm2 = area + 2 * scribe_mm * np.sqrt(area) + scribe_mm**2
    inner = np.pi * (diameter_mm / 2 - edge_mm) ** 2 / site_mm2
    rim = np.pi * (diameter_mm - 2 * edge_mm) / np.sqrt(2 * site_mm2)
    count = np.maximum(inner - rim, 0.0)
    return float(count) if count.ndim == 0 else count


def defects_per_mm2(node: str, *, used: FigureLog | None = None) -> float:
    """Return the defect density of a mature process.

    Raises:
        UnknownNameError: The node is unknown.
        MissingFigureError: None is stated (n2).
    """
    return reading(used).si(f"nodes.{check_node(node)}.d0", owner=f"node {node}")


def poisson_yield(defects: Values) -> Values:
    """Return exp(-A·D), the yield of unclustered defects.

    Args:
        defects: Expected defects per die, A·D.
    """
    return _shaped(np.exp(-np.asarray(defects, dtype=np.float64)))


def murphy_yield(defects: Values) -> Values:
    """Return ((1 - exp(-A·D)) / (A·D))², Murphy's yield; 1 for no defects.

    Args:
        defects: Expected defects per die, A·D.
    """
    expected = np.asarray(defects, dtype=np.float64)
    safe = np.where(expected > 0, expected, 1.0)
    return _shaped(np.where(expected > 0, (-np.expm1(-safe) / safe) ** 2, 1.0))


def negative_binomial_yield(defects: Values, *, alpha: float) -> Values:
    """Return (1 + A·D/alpha)^-alpha, the yield of clustered defects.

    Args:
        defects: Expected defects per die, A·D.
        alpha: Clustering; large values approach Poisson. `cluster_alpha` reads stated ones.
    """
    _check_positive(np.asarray(alpha), "alpha")
    return _shaped((1.0 + np.asarray(defects, dtype=np.float64) / alpha) ** -alpha)


def cluster_alpha(
    source: ClusterAlpha = ClusterAlpha.ACTUARY, *, used: FigureLog | None = None
) -> float:
    """Return a stated clustering parameter."""
    return reading(used).si(f"manufacturing.yield_cluster_alpha.{source}", owner="yield")


def harvested_yield(
    fixed_defects: Values,
    unit_defects: Values,
    *,
    units: int,
    needed: int,
    alpha: float,
) -> Values:
    """Return the yield of a die that is sold with `needed` of its `units` repeated units working.

    Y = Ynb(fixed part) · Σ_{j ≥ needed} C(units, j) y^j (1 - y)^(units - j), y = exp(-A_unit · D).
    Large accelerator dies are sold so: H100 has 144 SMs of which 132 are enabled.

    Args:
        fixed_defects: Expected defects in the part that must work as a whole, A·D.
        unit_defects: Expected defects in one repeated unit.
        units: Units on the die.
        needed: Units that must work.
        alpha: Clustering of the fixed part.

    Raises:
        FieldError: `needed` is not between 0 and `units`.
    """
    if not 0 <= needed <= units or units < 1:
        raise FieldError(
            where="harvested_yield",
            path="needed",
            problem=f"found {needed} of {units} units",
            expected="0 to the number of units, of at least one",
        )
    fixed = negative_binomial_yield(fixed_defects, alpha=alpha)
    working = np.asarray(poisson_yield(unit_defects), dtype=np.float64)
    tail = np.zeros_like(working)
    # The fewest terms: few dead units are allowed, and their terms are the largest.
    for dead in range(units - needed + 1):
        ways = float(comb(units, dead))
        tail = tail + ways * (1.0 - working) ** dead * working ** (units - dead)
    return _shaped(np.asarray(fixed * np.minimum(tail, 1.0), dtype=np.float64))


def _shaped(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]") -> Values:
    return float(values) if np.ndim(values) == 0 else values


def _check_positive(values: "np.ndarray[tuple[int, ...], np.dtype[np.float64]]", path: str) -> None:
    if not np.all(values > 0):
        raise FieldError(
            where="yield model",
            path=path,
            problem=f"found {float(np.min(values))}",
            expected="a number above 0",
        )
