"""Collects the cost of rows piece by piece and hands it over as `RowCosts`."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelSet
from pentarch.hardware.parts import Level
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import level_costs, level_energy

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
        self._macs: Floats | None = None
        self._fixed: Floats | None = None
        self._overlap: Floats | None = None
        self._host: Floats | None = None
        self._start: Floats | None = None
        self._fits = np.ones(self.shape, dtype=np.bool_)
        self._notes: dict[str, None] = {}
        self._owned: dict[int, Floats] = {}
        self._spans: dict[int, tuple[Rows, Rows | slice]] = {}

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
        self._macs = self._sum(self._macs, rows, macs)
        energy = product.mac_j
        self._add_energy(rows, product.engine.name, None if energy is None else macs * energy)

    def add_padding(self, rows: Rows, macs: Floats) -> None:
        """Count multiply-accumulates with zeros, shape (rows, N).

        They are executed and take time; no data toggles in them, so they cost no energy.
        """
        self._macs = self._sum(self._macs, rows, macs)

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
        self._add(self._compute, resource, rows, seconds)
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
        self._add(self._read, name, rows, read)
        self._add(self._write, name, rows, write)
        if timed:
            seconds, joules = level_costs(level, read, write, requesters=requesters, waits=waits)
            self._add(self._level, name, rows, seconds)
        else:
            joules = level_energy(level, read, write)
        self._add_energy(rows, name, joules)

    def add_level_time(self, rows: Rows, name: str, seconds: Floats) -> None:
        """Add busy time of a level that was found apart from its traffic, shape (rows, N)."""
        self._add(self._level, name, rows, seconds)

    def set_kernel(self, rows: Rows, kernel: KernelSet) -> None:
        """Note what a kernel has of its own: how its terms overlap, and what its start takes."""
        if kernel.overlap is not None:
            if self._overlap is None:
                own = self.request.machine.overhead.overlap
                self._overlap = np.broadcast_to(np.inf if own is None else own, self.shape).copy()
            self._overlap[rows] = kernel.overlap
        if kernel.host_s is not None:
            if self._host is None:
                self._host = np.full(self.shape, self.request.runtime.launch_s)
            self._host[rows] = kernel.host_s
        if kernel.start != 1.0:
            if self._start is None:
                self._start = np.ones(self.shape)
            self._start[rows] = kernel.start

    def add_fixed(self, rows: Rows, seconds: Floats) -> None:
        """Add time that overlaps with nothing, shape (rows, N) or broadcastable."""
        self._fixed = self._sum(self._fixed, rows, seconds)

    def add_detail(self, rows: Rows, name: str, values: Floats) -> None:
        """Add a figure for explanation, shape (rows, N)."""
        self._add(self._detail, name, rows, values)

    def costs(self) -> RowCosts:
        """Return what was collected."""
        fixed = np.zeros(self.shape) if self._fixed is None else self._fixed
        macs = np.zeros(self.shape) if self._macs is None else self._macs
        return RowCosts(
            compute_s=self._compute, level_s=self._level, fixed_s=fixed, read_bytes=self._read,
            write_bytes=self._write, energy_j=self._energy, executed_macs=macs, fits=self._fits,
            notes=tuple(self._notes), detail=self._detail, overlap=self._overlap, host_s=self._host,
            start_share=self._start,
        )  # fmt: skip

    def _sum(self, before: Floats | None, rows: Rows, values: Floats) -> Floats:
        """Return a figure with values added to some rows.

        What covers all rows is taken as it is: callers may use one array for several figures, so
        nothing that came in is changed; arrays made here are.
        """
        if len(rows) == self.shape[0] and np.shape(values) == self.shape:
            return values if before is None else before + values
        if before is not None and id(before) in self._owned:
            total = before
        else:
            total = np.zeros(self.shape) if before is None else before.copy()
            self._owned[id(total)] = total
        total[self._span(rows)] += values
        return total

    def _span(self, rows: Rows) -> Rows | slice:
        """Return rows that follow one another as a slice, which is faster, others as they are."""
        found = self._spans.get(id(rows))
        if found is not None:
            return found[1]
        count = len(rows)
        span: Rows | slice = rows
        if count and rows[-1] - rows[0] == count - 1 and (rows[1:] - rows[:-1] == 1).all():
            span = slice(int(rows[0]), int(rows[-1]) + 1)
        self._spans[id(rows)] = rows, span  # the rows are kept, so that no others have their id
        return span

    def _add(self, store: dict[str, Floats], name: str, rows: Rows, values: Floats) -> None:
        store[name] = self._sum(store.get(name), rows, values)

    def _add_energy(self, rows: Rows, component: str, joules: Floats | None) -> None:
        before = self._energy.get(component)
        if joules is None or (component in self._energy and before is None):
            self._energy[component] = None
        else:
            self._energy[component] = self._sum(before, rows, joules)


def stacked_names(*groups: Mapping[str, object]) -> tuple[str, ...]:
    """Return the keys of several mappings, each once, in order of appearance."""
    return tuple(dict.fromkeys(key for group in groups for key in group))
