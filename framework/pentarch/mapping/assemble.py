"""Collects the cost of rows piece by piece and hands it over as `RowCosts`."""

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelSet
from pentarch.hardware.parts import Level
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.costs import Fidelity, RowCosts, RowRequest
from pentarch.mapping.traffic import level_costs, level_energy

Rows = npt.NDArray[np.intp]


FEW_ROWS = 64
"""Rows that are looked at one by one in Python: below so many that is faster than in NumPy."""


class _Spans:
    """Finds rows that follow one another: as a slice they are reached faster."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept: dict[int, tuple[Rows, Rows | slice]] = {}

    def of(self, rows: Rows) -> Rows | slice:
        """Return rows as a slice if they follow one another, others as they are."""
        found = self._kept.get(id(rows))
        if found is None:  # the rows are kept, so that no others have their id
            found = self._kept[id(rows)] = rows, _span(rows)
        return found[1]


def _span(rows: Rows) -> Rows | slice:
    count = len(rows)
    if not count or rows[-1] - rows[0] != count - 1:
        return rows
    first, last = int(rows[0]), int(rows[-1])
    if count <= FEW_ROWS:
        follow = rows.tolist() == list(range(first, last + 1))
    else:
        follow = bool((rows[1:] - rows[:-1] == 1).all())
    return slice(first, last + 1) if follow else rows


class _Sum:
    """One figure of R rows on N designs, added piece by piece.

    What covers all rows is taken as it is: callers may use one array for several figures, so
    nothing that came in is changed.

    Args:
        shape: (R, N).
        spans: Where rows follow one another.
    """

    __slots__ = ("_held", "_shape", "_spans")

    def __init__(self, shape: tuple[int, int], spans: _Spans) -> None:
        self._shape = shape
        self._spans = spans
        # What covers all rows, and what was added to some rows since: one pair, so that threads
        # that ask for the total at once see both as they were or both as they are.
        self._held: tuple[Floats | None, list[tuple[Rows, Floats]]] = None, []

    def add(self, rows: Rows, values: Floats) -> None:
        """Add values of shape (rows, N), or broadcastable to it, to some rows."""
        whole, pieces = self._held
        if values.shape != self._shape or len(rows) != self._shape[0]:
            pieces.append((rows, values))
            return
        if pieces:
            whole = self.total()
        self._held = values if whole is None else whole + values, []

    def total(self) -> Floats:
        """Return the sum of all pieces, zero where there are none, shape (R, N)."""
        whole, pieces = self._held
        if whole is not None and not pieces:
            return whole
        found = np.zeros(self._shape) if whole is None else whole.copy()
        low, high = (len(found), 0) if whole is None else (0, len(found))  # what has values so far
        for rows, values in pieces:
            span = self._spans.of(rows)
            if isinstance(span, slice):
                if span.stop <= low or span.start >= high:
                    found[span] = values
                else:
                    part = found[span]
                    part += values
                low, high = min(low, span.start), max(high, span.stop)
            else:
                found[span] += values
                low, high = 0, len(found)
        self._held = found, []
        return found


class _Details(Mapping[str, Floats]):
    """Figures for explanation: each is put together when it is asked for."""

    __slots__ = ("_sums",)

    def __init__(self, sums: Mapping[str, _Sum]) -> None:
        self._sums = sums

    def __getitem__(self, name: str) -> Floats:
        return self._sums[name].total()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sums)

    def __len__(self) -> int:
        return len(self._sums)


class RowLedger:
    """Sums the costs of R rows on N designs as they are found.

    Args:
        request: What is costed.
        count: Number of rows, R.
    """

    def __init__(self, request: RowRequest, *, count: int) -> None:
        self.request = request
        self.shape = (count, request.machine.length)
        self._spans = _Spans()
        self._compute: dict[str, _Sum] = {}
        self._level: dict[str, _Sum] = {}
        self._read: dict[str, _Sum] = {}
        self._write: dict[str, _Sum] = {}
        self._energy: dict[str, _Sum | None] = {}
        self._detail: dict[str, _Sum] = {}
        self._macs = _Sum(self.shape, self._spans)
        self._fixed = _Sum(self.shape, self._spans)
        self._overlap: Floats | None = None
        self._host: Floats | None = None
        self._start: Floats | None = None
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
        if np.count_nonzero(fits) < fits.size:
            self._fits[rows] &= fits
            self.note(reason)

    def add_macs(self, rows: Rows, macs: Floats, product: Product) -> None:
        """Count multiply-accumulates and their energy; `macs` has the shape (rows, N)."""
        self._macs.add(rows, macs)
        energy = product.mac_j
        self._add_energy(rows, product.engine.name, None if energy is None else macs * energy)

    def add_padding(self, rows: Rows, macs: Floats) -> None:
        """Count multiply-accumulates with zeros, shape (rows, N).

        They are executed and take time; no data toggles in them, so they cost no energy.
        """
        self._macs.add(rows, macs)

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
        self._fixed.add(rows, seconds)

    def add_detail(self, rows: Rows, name: str, values: Floats) -> None:
        """Add a figure for explanation, shape (rows, N)."""
        self._add(self._detail, name, rows, values)

    def costs(self) -> RowCosts:
        """Return what was collected, as the engine's own: analytical."""
        return RowCosts(
            compute_s=_totals(self._compute), level_s=_totals(self._level),
            fixed_s=self._fixed.total(), read_bytes=_totals(self._read),
            write_bytes=_totals(self._write),
            energy_j={
                name: None if joules is None else joules.total()
                for name, joules in self._energy.items()
            },
            executed_macs=self._macs.total(), fits=self._fits, fidelity=Fidelity.ANALYTICAL,
            notes=tuple(self._notes), detail=_Details(self._detail), overlap=self._overlap,
            host_s=self._host, start_share=self._start,
        )  # fmt: skip

    def _add(self, store: dict[str, _Sum], name: str, rows: Rows, values: Floats) -> None:
        found = store.get(name)
        if found is None:
            found = store[name] = _Sum(self.shape, self._spans)
        found.add(rows, values)

    def _add_energy(self, rows: Rows, component: str, joules: Floats | None) -> None:
        if joules is None:
            self._energy[component] = None
            return
        found = self._energy.get(component)
        if found is None:
            if component in self._energy:  # what is unknown stays unknown
                return
            found = self._energy[component] = _Sum(self.shape, self._spans)
        found.add(rows, joules)


def _totals(sums: Mapping[str, _Sum]) -> dict[str, Floats]:
    return {name: figure.total() for name, figure in sums.items()}


def stacked_names(*groups: Mapping[str, object]) -> tuple[str, ...]:
    """Return the keys of several mappings, each once, in order of appearance."""
    return tuple(dict.fromkeys(key for group in groups for key in group))
