"""Collects the cost of rows piece by piece and hands it over as `RowCosts`."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.parts import Level
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import level_energy, level_time

Rows = npt.NDArray[np.intp]


class RowLedger:
    """Sums the costs of R rows on N designs as they are found.

    Args:
        request: What is costed.
        count: Number of rows, R.
    """

    def __init__(self, request: RowRequest, *, count: int) -> None:
        self.request = request
        self.shape = (count, request.machine.length)
        self._compute: dict[str, Floats] = {}
        self._level: dict[str, Floats] = {}
        self._read: dict[str, Floats] = {}
        self._write: dict[str, Floats] = {}
        self._energy: dict[str, Floats | None] = {}
        self._detail: dict[str, Floats] = {}
        self._macs = np.zeros(self.shape)
        self._fixed = np.zeros(self.shape)
        self._fits = np.ones(self.shape, dtype=np.bool_)
        self._notes: dict[str, None] = {}

    def note(self, text: str) -> None:
        """Tell the reader something, once."""
        self._notes.setdefault(text)

    def cannot_run(self, rows: Rows, reason: str) -> None:
        """Mark rows that no design of the batch can run."""
        self._fits[rows] = False
        self.note(reason)

    def restrict(self, rows: Rows, fits: npt.NDArray[np.bool_], reason: str) -> None:
        """Mark the designs that cannot run rows; `fits` has the shape (rows, N)."""
        if not fits.all():
            self._fits[rows] &= fits
            self.note(reason)

    def add_macs(self, rows: Rows, macs: Floats, product: Product) -> None:
        """Count multiply-accumulates and their energy; `macs` has the shape (rows, N)."""
        self._macs[rows] += macs
        energy = product.mac_j
        self._add_energy(rows, product.engine.name, None if energy is None else macs * energy)

    def add_padding(self, rows: Rows, macs: Floats) -> None:
        """Count multiply-accumulates with zeros, shape (rows, N).

        They are executed and take time; no data toggles in them, so they cost no energy.
        """
        self._macs[rows] += macs

    def add_compute(
        self,
        rows: Rows,
        resource: str,
        seconds: Floats,
        joules: Floats | None,
        *,
        energy_known: bool = False,
    ) -> None:
        """Add busy time of an engine or link.

        Args:
            rows: Positions of the rows.
            resource: Engine or link name.
            seconds: Shape (rows, N).
            joules: Shape (rows, N); `None` when unknown.
            energy_known: Whether the energy was added elsewhere, so that `None` adds nothing.
        """
        self._slot(self._compute, resource)[rows] += seconds
        if not energy_known:
            self._add_energy(rows, resource, joules)

    def add_traffic(
        self, rows: Rows, level: Columns[Level], read: Floats, write: Floats, *,
        requesters: Floats | None = None, timed: bool = True, waits: Floats | float = 1.0,
    ) -> None:  # fmt: skip
        """Add traffic of a level, with its time and energy.

        Args:
            rows: Positions of the rows.
            level: The level.
            read: Bytes read, shape (rows, N).
            write: Bytes written, shape (rows, N).
            requesters: Units that draw on the level at once.
            timed: Whether the traffic takes time; the buffers of a unit that are as wide as its
                array cost energy only.
            waits: 1 where the level's latency counts, 0 where it is hidden.
        """
        name = level.name
        self._slot(self._read, name)[rows] += read
        self._slot(self._write, name)[rows] += write
        if timed:
            self._slot(self._level, name)[rows] += level_time(
                level, read, write, requesters=requesters, waits=waits
            )
        self._add_energy(rows, name, level_energy(level, read, write))

    def add_fixed(self, rows: Rows, seconds: Floats) -> None:
        """Add time that overlaps with nothing, shape (rows, N) or broadcastable."""
        self._fixed[rows] += seconds

    def add_detail(self, rows: Rows, name: str, values: Floats) -> None:
        """Add a figure for explanation, shape (rows, N)."""
        self._slot(self._detail, name)[rows] += values

    def costs(self) -> RowCosts:
        """Return what was collected."""
        return RowCosts(
            compute_s=self._compute, level_s=self._level, fixed_s=self._fixed, read_bytes=self._read,
            write_bytes=self._write, energy_j=self._energy, executed_macs=self._macs, fits=self._fits,
            notes=tuple(self._notes), detail=self._detail,
        )  # fmt: skip

    def _slot(self, store: dict[str, Floats], name: str) -> Floats:
        if name not in store:
            store[name] = np.zeros(self.shape)
        return store[name]

    def _add_energy(self, rows: Rows, component: str, joules: Floats | None) -> None:
        if joules is None:
            self._energy[component] = None
            return
        current = self._energy.setdefault(component, np.zeros(self.shape))
        if current is not None:
            current[rows] += joules


def stacked_names(*groups: Mapping[str, object]) -> tuple[str, ...]:
    """Return the keys of several mappings, each once, in order of appearance."""
    return tuple(dict.fromkeys(key for group in groups for key in group))
