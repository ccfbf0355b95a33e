"""How tokens choose experts: distinct experts of a step, and the load of the fullest device.

See definitions.md, MoE. Popularity p of the experts falls with their rank as rank^-skew; a skew of
0 is uniform, an infinite one the worst case. A token chooses k different experts, so that expert e
is among them with the chance q_e = min(1, c p_e), c such that all q add up to k.
"""

import math
import re
from functools import lru_cache
from typing import Annotated

import numpy as np
import numpy.typing as npt
from pydantic import AfterValidator

Floats = npt.NDArray[np.float64]

_ZIPF = re.compile(r"zipf\(([0-9]*\.?[0-9]+)\)")


def _routing_name(name: str) -> str:
    routing_skew(name)
    return name


Routing = Annotated[str, AfterValidator(_routing_name)]
"""`uniform`, `zipf(ALPHA)` with an exponent above 0, or `worst`."""


def routing_skew(name: str) -> float:
    """Return the exponent of a routing's popularity: 0 for `uniform`, infinite for `worst`.

    Raises:
        ValueError: The name is no routing.

    Examples:
        >>> routing_skew("zipf(1.2)")
        1.2
    """
    if name == "uniform":
        return 0.0
    if name == "worst":
        return math.inf
    found = _ZIPF.fullmatch(name)
    if found is None or not 0 < float(found.group(1)) <= 10:
        raise ValueError("uniform, worst, or zipf(ALPHA) with an exponent above 0 and at most 10")
    return float(found.group(1))


@lru_cache(maxsize=256)
def _chances(experts: int, per_token: float, skew: float) -> tuple[float, ...]:
    if skew == 0.0:
        return (min(per_token / experts, 1.0),) * experts
    popularity = np.arange(1, experts + 1, dtype=np.float64) ** -skew
    chances = np.zeros(experts)
    free = np.ones(experts, dtype=np.bool_)
    left = min(per_token, float(experts))
    while True:  # those that would exceed 1 are certain; the others share what is left
        chances[free] = popularity[free] * left / popularity[free].sum()
        over = free & (chances > 1.0)
        if not over.any():
            return tuple(chances.tolist())
        chances[over] = 1.0
        left -= float(over.sum())
        free &= ~over


def choice_chances(experts: int, per_token: float, skew: float) -> Floats:
    """Return the chance that a token chooses each expert, shape (experts,), summing to `per_token`.

    Args:
        experts: Experts of a layer.
        per_token: Experts that each token chooses, at most all.
        skew: Exponent of the popularity, finite.
    """
    return np.array(_chances(experts, float(per_token), float(skew)))


def distinct_experts(
    experts: int, per_token: float, tokens: Floats, *, devices: int = 1, skew: float
) -> Floats:
    """Return the expected experts of the fullest device that at least one of `tokens` tokens chooses.

    The worst case for traffic is that no two tokens choose the same expert as long as there are
    others. Uniform routing gives E / R (1 - (1 - k / E)^B).

    Args:
        experts: Experts of a layer, E.
        per_token: Experts that each token chooses, k.
        tokens: Tokens of a step, B, any shape.
        devices: Devices that share the experts, R, dealt out in order of popularity.
        skew: Exponent of the popularity; infinite is the worst case.
    """
    held = -(-experts // devices)
    if math.isinf(skew):
        return np.asarray(np.minimum(float(held), per_token * tokens))
    chances = choice_chances(experts, per_token, skew)[::devices]
    if skew == 0.0:
        return np.asarray(held * (1.0 - (1.0 - chances[0]) ** tokens))
    missed = (1.0 - chances) ** np.asarray(tokens, dtype=np.float64)[..., None]
    return np.asarray((1.0 - missed).sum(axis=-1))


def fullest_load(
    experts: int, per_token: float, tokens: Floats, *, devices: int, skew: float
) -> Floats:
    """Return the token-expert pairs of the fullest of `devices` devices that share the experts.

    Experts are dealt out in order of popularity, so that each device has popular and rare ones.
    The mean m of the fullest device is exceeded by chance: by sqrt(2 m ln R) for R devices, the
    expected largest of R normal loads; it never has more than all tokens give it. In the worst case
    every token chooses experts of one device.

    Args:
        experts: Experts of a layer.
        per_token: Experts that each token chooses.
        tokens: Tokens of a step, any shape.
        devices: Devices that share the experts, R.
        skew: Exponent of the popularity; infinite is the worst case.
    """
    held = -(-experts // devices)
    most = np.asarray(tokens * float(min(per_token, held)))
    if devices == 1 or math.isinf(skew):
        return most
    chances = choice_chances(experts, per_token, skew)
    mean = tokens * max(float(chances[first::devices].sum()) for first in range(devices))
    return np.asarray(np.minimum(mean + np.sqrt(2.0 * mean * math.log(devices)), most))
