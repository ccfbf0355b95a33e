"""The rows of one phase as one block, and their time at any clock."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Floats, sum_rows
from pentarch.mapping.compilation import load_sums
from pentarch.mapping.traffic import combine


@dataclass(frozen=True, slots=True, eq=False)
class PhaseStack:
    """The rows of one phase as one block: K resources, R rows, N designs."""

    resources: tuple[str, ...]
    """Names of the resources, K."""
    terms_s: Floats
    """Busy time of each resource for one execution at nominal clock, (K, R, N)."""
    fixed_s: Floats
    """Time that overlaps with nothing, (R, N)."""
    weights: Floats
    """Executions by one query, (R, 1) or (R, N)."""
    overlap: Floats | None
    """Exponent q, (N,), or (R, N) where kernels have exponents of their own, or `None`."""

    def take(self, designs: npt.NDArray[np.intp]) -> "PhaseStack":
        """Return the phase for some of the designs."""
        shared = self.weights.shape[1] == 1
        return PhaseStack(
            resources=self.resources,
            terms_s=self.terms_s[:, :, designs],
            fixed_s=self.fixed_s[:, designs],
            weights=self.weights if shared else self.weights[:, designs],
            overlap=None if self.overlap is None else self.overlap[..., designs],
        )

    def time(
        self, clock_ratio: Floats | None = None, unscaled: frozenset[str] = frozenset()
    ) -> Floats:
        """Return the time of the phase for one query's passes, shape (N,).

        Args:
            clock_ratio: Core clock / nominal clock, shape (N,); `None` means 1.
            unscaled: Resources whose clock does not follow: memory and links.
        """
        if not len(self.weights):
            return np.zeros(self.fixed_s.shape[1])
        terms = self.terms_s
        if clock_ratio is not None:
            follows = np.array([name not in unscaled for name in self.resources])
            terms = np.where(follows[:, None, None], terms / clock_ratio, terms)
        total: Floats = sum_rows((self.fixed_s + combine(list(terms), self.overlap)) * self.weights)
        return total

    def at_clocks(self, unscaled: frozenset[str]) -> "ClockedPhase":
        """Return the phase prepared for being asked its time at many clocks."""
        return ClockedPhase(self, unscaled)


class ClockedPhase:
    """A phase that tells its time at one clock after the other.

    Of resources that overlap perfectly only the slowest one counts, of those that follow the clock
    and of those that do not: two blocks instead of one per resource.

    Args:
        stack: The phase.
        unscaled: Resources whose clock does not follow.
    """

    def __init__(self, stack: PhaseStack, unscaled: frozenset[str]) -> None:
        self._stack, self._unscaled = stack, unscaled
        self._scaled = _slowest(stack, [name not in unscaled for name in stack.resources])
        self._still = _slowest(stack, [name in unscaled for name in stack.resources])
        shape = stack.fixed_s.shape
        self._fixed = np.ascontiguousarray(stack.fixed_s)
        self._weights = np.array(np.broadcast_to(stack.weights, shape), order="C")

    def time(self, clock_ratio: Floats) -> Floats:
        """Return the time of the phase for one query's passes, shape (N,)."""
        if self._stack.overlap is not None:
            return self._stack.time(clock_ratio, self._unscaled)
        found = np.empty(clock_ratio.shape)
        load_sums().slowed(
            self._scaled, self._still, self._fixed, self._weights, clock_ratio, found
        )
        return found


def _slowest(stack: PhaseStack, chosen: list[bool]) -> Floats:
    """Return the largest term of the chosen resources, zero where there are none, (R, N)."""
    terms = [term for term, is_chosen in zip(stack.terms_s, chosen, strict=True) if is_chosen]
    found: Floats = np.zeros(stack.fixed_s.shape)
    for term in terms:
        np.maximum(found, term, out=found)
    return found
