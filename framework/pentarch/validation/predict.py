"""Times of measured kernels as the engine predicts them: many rows of one device in one call.

A `KernelBatch` holds the rows as tables of the engine, made once; `seconds` costs them on any design
of the device under any runtime, so that a fit can ask thousands of times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import InputError
from pentarch.evaluate.batches import ask_rows, describe
from pentarch.evaluate.row_power import capped_row_seconds
from pentarch.graph.operators import OperatorKind
from pentarch.hardware.columns import Floats
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import EngineKind
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.system import System, on_boards
from pentarch.mapping.arithmetic import resolve
from pentarch.mapping.collectives import links_for
from pentarch.mapping.costs import CacheState, RowRequest
from pentarch.mapping.engine import check_costs
from pentarch.mapping.launching import started
from pentarch.validation.kernels import AttentionPart, CollectivePart, GemmPart, KernelRow
from pentarch.validation.tables import KindRows, tables_of

if TYPE_CHECKING:
    from pentarch.catalog import Library

COLLECTIVE_SHARE = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}
"""Bytes over the link of one of p devices / bytes of the message, times p / (p - 1), without
in-network sums; a send moves its message once."""


@dataclass(frozen=True, slots=True, eq=False)
class KernelBatch:
    """Measured kernels of one device as tables of the engine."""

    count: int
    """Number of kernels, R."""
    kinds: tuple[KindRows, ...]
    """Their operators by kind."""
    copies: Floats
    """Sets of weights that the timing loop of each kernel goes through, NaN when nothing stays warm, (R,)."""
    footprints: Floats
    """Bytes of weights between two uses of the same, (R,); NaN where they follow from `copies`."""

    @classmethod
    def of(cls, rows: Sequence[KernelRow], machine: MachineTable) -> "KernelBatch":
        """Return rows as tables; the machine says which formats are multiplied and which only stored."""
        offered = frozenset(
            name
            for engine in machine.engines
            if engine.kind is not EngineKind.VECTOR
            for name in engine.macs_per_cycle
        )
        copies = [np.nan if row.copies is None else row.copies for row in rows]
        footprints = [np.nan if row.footprint is None else row.footprint for row in rows]
        return cls(
            count=len(rows), kinds=tables_of([row.parts for row in rows], offered=offered),
            copies=np.array(copies, dtype=np.float64),
            footprints=np.array(footprints, dtype=np.float64),
        )  # fmt: skip

    def seconds(self, machine: MachineTable, backend: AnyBackend, runtime: Runtime) -> Floats:
        """Return the time of each kernel on each design, shape (R, N); NaN where one cannot run.

        Args:
            machine: N designs.
            backend: Their back-end.
            runtime: The stack that ran the kernels.

        Raises:
            CostError: A cost is not finite or negative.
        """
        total = np.zeros((self.count, machine.length))
        for entry in self.kinds:
            request = RowRequest(
                kind=entry.kind, rows=entry.rows, machine=machine, runtime=runtime,
                sequences=np.repeat(entry.sequences[:, None], machine.length, axis=1),
                cached=self._cached(entry),
            )  # fmt: skip
            costs = ask_rows(backend, request)
            check_costs(request, costs)
            times = capped_row_seconds(started(costs, machine, runtime), machine)
            np.add.at(total, entry.owner, np.where(costs.fits, times, np.nan))
        return total

    def _cached(self, entry: KindRows) -> CacheState:
        """Return what the timing loops left in the cache."""
        copies = self.copies[entry.owner]
        return CacheState(
            copies=np.where(np.isnan(copies), np.inf, copies),
            footprint=self.footprints[entry.owner],
        )

    def rooflines(self, machine: MachineTable) -> Floats:
        """Return the larger of work / peak and bytes / bandwidth, added up, shape (R,); NaN without a peak.

        Every byte moves once, at the peak bandwidth of memory or link, on the first design.
        """
        total = np.zeros(self.count)
        memory = machine.levels[0]
        rate = float((memory.instances * memory.read_bytes_per_s)[0])
        for entry in self.kinds:
            moved = (entry.weight_bytes + entry.other_bytes) / rate
            if entry.kind is OperatorKind.COLLECTIVE:
                moved = np.array([_link_seconds(part, machine) for part in entry.parts])
            work = [_compute_seconds(part, machine) for part in entry.parts]
            np.add.at(total, entry.owner, np.maximum(moved, np.array(work)))
        return total


def _compute_seconds(part: object, machine: MachineTable) -> float:
    if isinstance(part, GemmPart):
        flops = 2.0 * part.instances * part.m * part.k * part.n
        return flops / _peak(machine, part.a_format, part.b_format, OperatorKind.GEMM)
    if isinstance(part, AttentionPart):
        pairs = part.queries * part.keys
        if part.queries > 1 and part.queries == part.keys:
            pairs = part.queries * (part.queries + 1.0) / 2.0
        flops = 4.0 * part.batch * part.heads * pairs * part.head_dim
        return flops / _peak(machine, part.query_format, part.kv_format, OperatorKind.ATTENTION)
    return 0.0


def _peak(machine: MachineTable, first: str, second: str, kind: OperatorKind) -> float:
    product = resolve(machine, first, second, kind)
    return float("nan") if product is None else 2.0 * float(product.peak_macs_per_s[0])


def _link_seconds(part: object, machine: MachineTable) -> float:
    if not isinstance(part, CollectivePart):
        return 0.0
    for link, joined in links_for(machine, part.degree):
        if joined[0]:
            times = COLLECTIVE_SHARE.get(part.function)
            share = 1.0 if times is None else times * (part.degree - 1.0) / part.degree
            return float(share * part.message_bytes / link.bytes_per_s[0])
    return float("nan")


def family_of(backend: AnyBackend, device: Device) -> str | None:
    """Return the family of a device, `None` where it has none."""
    field = backend.family_field
    return None if field is None else getattr(device, field)


def predict(
    rows: Sequence[KernelRow], device: Device, runtime: Runtime, library: "Library"
) -> Floats:
    """Return the time of each row on a device, shape (R,); NaN where it cannot run.

    Args:
        rows: Measured kernels; their own devices and runtimes are not looked at.
        device: The device, as its back-end's own model.
        runtime: The stack.
        library: Knows the back-end of the device.

    Raises:
        CostError: A cost is not finite or negative.
    """
    backend = library.backend_of(device)
    machine = describe(backend, device, 1)
    stack = runtime.for_family(family_of(backend, device))
    found: Floats = KernelBatch.of(rows, machine).seconds(machine, backend, stack)[:, 0]
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Predictions of measured kernels, in their order."""

    seconds: Floats
    """Predicted times, (R,); NaN where a row cannot run on its device."""
    rooflines: Floats
    """Plain rooflines, (R,)."""


def predict_all(rows: Sequence[KernelRow], library: "Library") -> Predicted:
    """Return predictions of rows of any devices and runtimes, with one call for each pair of both.

    A row with several runtimes gets the median of theirs. Rows that were read from one line share
    their parts and are costed once.

    Raises:
        InputError: A device or runtime of a row is unknown.
    """
    seconds, rooflines = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    by_device: dict[tuple[str, int | None], list[int]] = {}
    for index, row in enumerate(rows):
        by_device.setdefault((row.device, row.devices_per_board), []).append(index)
    for (name, per_board), members in by_device.items():
        device = library.device(name)
        backend = library.backend_of(device)
        system = System(name=name, device=name, devices_per_board=per_board)
        machine = on_boards(describe(backend, device, 1), system)
        distinct: dict[Work, int] = {}
        for index in members:
            distinct.setdefault(_work(rows[index]), index)
        firsts = list(distinct.values())
        place = {key: at for at, key in enumerate(distinct)}
        plain = KernelBatch.of([rows[index] for index in firsts], machine).rooflines(machine)
        stacks = _by_runtime(rows, members)
        found: dict[tuple[str, Work], float] = {}
        for runtime, keys in stacks.items():
            chosen = [distinct[key] for key in keys]
            batch = KernelBatch.of([rows[index] for index in chosen], machine)
            stack = library.runtime(runtime).for_family(family_of(backend, device))
            times = batch.seconds(machine, backend, stack)[:, 0]
            found |= {(runtime, key): time for key, time in zip(keys, times.tolist(), strict=True)}
        for index in members:
            key = _work(rows[index])
            if not rows[index].runtimes:
                raise InputError(f"{rows[index].file}: {rows[index].label} names no runtime.")
            seconds[index] = np.median([found[name, key] for name in rows[index].runtimes])
            rooflines[index] = plain[place[key]]
    return Predicted(seconds=seconds, rooflines=rooflines)


Work = tuple[int, float | None, float | None]
"""What rows that need to be costed only once have in common: their parts, which rows of one line
share, and what the timing loop leaves in the cache."""


def _work(row: KernelRow) -> Work:
    return id(row.parts), row.copies, row.footprint


def _by_runtime(
    rows: Sequence[KernelRow], members: Sequence[int]
) -> Mapping[str, tuple[Work, ...]]:
    found: dict[str, dict[Work, None]] = {}
    for index in members:
        for runtime in rows[index].runtimes:
            found.setdefault(runtime, {}).setdefault(_work(rows[index]))
    return {runtime: tuple(keys) for runtime, keys in found.items()}
