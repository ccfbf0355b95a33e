"""Which designs of a call share a front of mappings, and the fronts themselves."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.compilation import load_kernels

if TYPE_CHECKING:
    from pentarch.mapping.gemm import FrontStore, Objective

Array = NDArray[np.float64]

Groups = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]
"""First design of each group, group of each design, designs of each group."""

FIRST_POINTS = 512
"""Points a front has room for before its first growth."""


class FrontRoute:
    """Finds or builds the fronts that the designs of one call share."""

    def __init__(
        self, table: Array, designs: Array, store: "FrontStore", objective: "Objective"
    ) -> None:
        self.table = table
        self.designs = designs
        self.store = store
        # Only the time objective has a direct route.
        self.least = store.shared_designs if objective == "time" else 1
        self.found: list[Array] = []
        self.groups: dict[bytes, Groups] = {}

    def number_buffers(self) -> NDArray[np.int64] | None:
        """Return a number per design for its buffer sizes, or `None` if no front can pay off."""
        if self.designs.shape[1] < self.least and not len(self.store):
            return None
        _, sram = np.unique(self.designs[0], return_inverse=True)
        sizes, registers = np.unique(self.designs[1], return_inverse=True)
        _, pair, count = np.unique(
            sram * len(sizes) + registers, return_inverse=True, return_counts=True
        )
        if count.max() < self.least and not len(self.store):  # rows only split them further
            return None
        return np.asarray(pair, dtype=np.int64)

    def keys(self, row: int, own: Array, pair: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """Return the number of each design's front (-1 for none), or `None` if there are none.

        Args:
            row: Which GEMM.
            own: (3, N): its rows of A, share of B and others on chip.
            pair: (N,): number of the buffer sizes.
        """
        first, member, count = self._groups(own, pair)
        self.found = []
        numbers = np.full(len(first), -1, dtype=np.int64)
        for index, design in enumerate(first):
            if count[index] < self.least and not len(self.store):
                continue
            key = (
                *own[:, design].tolist(),
                *self.table[row].tolist(),
                *self.designs[:2, design].tolist(),
            )
            front = self.store.find(key)
            if front is None and count[index] >= self.least:
                front = _build_front(key)
                self.store.keep(key, front)
            if front is not None:
                numbers[index] = len(self.found)
                self.found.append(front)
        return np.asarray(numbers[member]) if self.found else None

    def _groups(self, own: Array, pair: NDArray[np.int64]) -> Groups:
        """Return the designs that share a front; many rows have the same groups."""
        varying = [values for values in own if (values != values[0]).any()]
        known = b"".join(values.tobytes() for values in varying)
        found = self.groups.get(known)
        if found is None:
            group = pair
            for values in varying:
                sizes, number = np.unique(values, return_inverse=True)
                group = np.unique(group * len(sizes) + number, return_inverse=True)[1]
            _, first, member, count = np.unique(
                group, return_index=True, return_inverse=True, return_counts=True
            )
            found = self.groups[known] = (first, member, count)
        return found

    def gathered(self) -> tuple[Array, NDArray[np.int64]]:
        """Return the fronts of the last row side by side, and where each begins and ends."""
        ends = np.cumsum([0, *(front.shape[1] for front in self.found)])
        return np.concatenate(self.found, axis=1), ends.astype(np.int64)


def _build_front(key: tuple[float, ...]) -> Array:
    """Return FRONT_FIELDS of all non-dominated mappings of `key`: M, what stays, row, buffers."""
    kernels = load_kernels()
    table = np.array([key[3:10]])
    designs = np.array([[key[10]], [key[11]], [1.0], [1.0], [1.0]])
    loads = np.zeros((len(kernels.LOAD_FIELDS), 1, 1))
    loads[:3, 0, 0] = key[:3]
    modes = np.full((1, 1), 3, dtype=np.int64)
    room = FIRST_POINTS
    while True:
        front = np.empty((1, len(kernels.FRONT_FIELDS), room))
        points: int = kernels.map_two_boundaries(table, loads, designs, modes, front)
        if points >= 0:
            return front[0, :, :points].copy()
        room *= 4
