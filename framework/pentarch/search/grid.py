"""Proposing every design of a finite space, in a fixed order."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from pentarch.results import Scalar
from pentarch.search.enumeration import finite
from pentarch.search.records import Outcome, Proposal, Record
from pentarch.search.space import Space


class GridProposer:
    """Enumerates a finite space.

    Args:
        space: The design space.

    Raises:
        FieldError: A parameter of the space is continuous.
    """

    def __init__(self, space: Space) -> None:
        finite(space.search, where=f"space {space.name}".rstrip())
        self._designs: Iterator[dict[str, Scalar]] = space.designs()
        self._next = 0

    def propose(self, batch: int, count: int) -> list[Proposal]:
        """Return the next designs, fewer than `count` at the end of the space."""
        proposals = [
            Proposal(number=self._next + index, point=point)
            for index, point in enumerate(islice(self._designs, count))
        ]
        self._next += len(proposals)
        return proposals

    def learn(self, proposal: Proposal, outcome: Outcome) -> dict[str, Any]:
        """Learn nothing: the order is fixed."""
        return {}

    def replay(self, records: Sequence[Record], state: Mapping[str, Any]) -> None:
        """Skip the designs of a run log."""
        self.propose(0, len(records))

    def state(self) -> dict[str, Any]:
        """Return nothing: the position follows from the trials."""
        return {}
