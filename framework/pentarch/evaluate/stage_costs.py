"""Cost of one stage: every row of the operator table on the stage's machines.

All numbers are per device and, for times and energies, weighted by how often one query executes a
row, so that phases are plain sums.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import CostError
from pentarch.evaluate.batches import ask_rows, ask_segment, overrides
from pentarch.evaluate.peak_work import compulsory_bytes, own_macs, seconds_per_mac
from pentarch.evaluate.phase_stack import PhaseStack
from pentarch.evaluate.residency import Residency
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import (
    AttentionTable,
    CollectiveTable,
    GemmTable,
    OperatorTable,
    RowCommon,
    VectorTable,
)
from pentarch.hardware.columns import FEW_DESIGNS, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.assemble import stacked_names
from pentarch.mapping.compilation import load_sums
from pentarch.mapping.cost_vector import VectorLoad, is_fused, sum_vector
from pentarch.mapping.costs import (
    AnyRows,
    CacheState,
    RowCosts,
    RowMemo,
    RowRequest,
    RowSums,
    SegmentCosts,
    SegmentRequest,
)
from pentarch.mapping.engine import RowTimes, check_costs, row_times
from pentarch.mapping.gemm import FrontStore
from pentarch.mapping.launching import started

PHASES = (Phase.PREFILL, Phase.DECODE)
"""Order of the phases wherever figures are kept by phase."""

KINDS = (OperatorKind.GEMM, OperatorKind.ATTENTION, OperatorKind.VECTOR, OperatorKind.COLLECTIVE)

IN_A_MODEL = CacheState.layer()
"""What a cache holds when an operator of a query starts."""

R = TypeVar("R", bound=RowCommon)


@dataclass(frozen=True, slots=True, eq=False)
class StageInput:
    """What a stage is costed on."""

    table: OperatorTable
    """The lowered plan."""
    machine: MachineTable
    """N designs."""
    backend: AnyBackend
    """Their back-end."""
    runtime: Runtime
    """Software stack."""
    concurrency: Floats
    """Sequences that a decode step processes at once: a micro-batch, shape (N,)."""
    residency: Residency
    """What lives on chip."""
    store: FrontStore | None
    """Mappings found before."""
    useful: Mapping[str, float] = field(default_factory=dict)
    """Share of its multiply-accumulates that is useful, by operator: less than 1 where devices
    repeat each other's work or parts are uneven. Operators that are left out: 1."""
    memo: RowMemo = field(default_factory=RowMemo)
    """What follows from the rows alone."""


class KindCosts:
    """Rows of one kind, costed; of one phase only where the back-end costs segments.

    Sums over the rows are there at once. What belongs to single rows is found when it is asked for:
    a batch of designs rarely asks.

    Args:
        given: On what they are costed.
        kind: Which kind.
        rows: The rows, R of them.
        costs: Their costs for one execution; by default back-end and engine are asked for them.
        sums: The sums over the rows, where they were found without the rows' costs.
    """

    def __init__(
        self, given: StageInput, kind: OperatorKind, rows: AnyRows, *,
        costs: RowCosts | None = None, sums: RowSums | None = None,
    ) -> None:  # fmt: skip
        self.given = given
        self.kind = kind
        self.rows = rows
        if costs is not None:
            check_costs(self.request, costs)
            self.costs = costs
        if sums is not None:
            self.sums = sums

    @cached_property
    def request(self) -> RowRequest:
        """What the back-end or the engine is asked."""
        return _request(self.given, self.kind, self.rows)

    @property
    def weights(self) -> Floats:
        """Executions by one query, shape (R, 1), or (R, N) where they differ between designs."""
        executions = self.rows.executions
        return executions if executions.ndim == 2 else executions[:, None]

    @cached_property
    def is_decode(self) -> npt.NDArray[np.bool_]:
        """Rows of the decode phase, shape (R,)."""
        return self.given.memo.of(self.rows, "is decode", lambda: self.rows.is_decode)

    @cached_property
    def useful(self) -> Floats:
        """Share of the rows' multiply-accumulates that is useful, (R, 1)."""
        return self.given.memo.of(self.rows, "useful", self._find_useful, self.given.useful)

    def _find_useful(self) -> Floats:
        shares = self.given.useful
        found = np.array([shares.get(name, 1.0) for name in self.rows.names])[:, None]
        own = self.rows.useful if isinstance(self.rows, GemmTable | AttentionTable) else None
        return found if own is None else found * own[:, None]

    @cached_property
    def costs(self) -> RowCosts:
        """Their costs for one execution."""
        found = ask_rows(self.given.backend, self.request)
        costs = started(found, self.given.machine, self.given.runtime, self._alone)
        check_costs(self.request, costs)
        return costs

    @property
    def _alone(self) -> npt.NDArray[np.bool_] | None:
        """Rows that are launched on their own, (R,); `None` for all."""
        rows, runtime = self.rows, self.given.runtime
        if not isinstance(rows, VectorTable):
            return None
        return self.given.memo.of(rows, "alone", lambda: ~is_fused(runtime, rows), runtime)

    def find(self) -> None:
        """Find the costs now.

        Raises:
            CostError: A cost is not a finite, non-negative number.
            PluginError: A back-end's costs have the wrong shape.
        """
        _ = self.costs

    @cached_property
    def times(self) -> RowTimes:
        """Their times for one execution at nominal clock."""
        return row_times(self.costs, overlap=self.given.machine.overhead.overlap)

    @cached_property
    def per_mac_s(self) -> Floats:
        """Time of one multiply-accumulate at the peak that a row runs at, (1, N) or (R, N)."""
        return seconds_per_mac(self.request)

    @cached_property
    def ideal_s(self) -> Floats:
        """Time of the useful work at the peak it runs at, for one execution, shape (R, N)."""
        return own_macs(self.request) * self.per_mac_s * self.useful

    @cached_property
    def replicated_s(self) -> Floats:
        """The same of work that other devices of the stage do as well, shape (R, N)."""
        return own_macs(self.request) * self.per_mac_s * (1.0 - self.useful)

    @cached_property
    def executed_s(self) -> Floats:
        """Time of the executed multiply-accumulates at that peak, for one execution, (R, N)."""
        return self.costs.executed_macs * self.per_mac_s

    @cached_property
    def compulsory_bytes(self) -> Floats:
        """Weights and cached keys and values that one execution has to fetch from memory, (R, N)."""
        return compulsory_bytes(self.request)

    @cached_property
    def sums(self) -> RowSums:
        """What one query spends on the rows."""
        energy = self.costs.energy_j
        known = [joules for joules in energy.values() if joules is not None]
        busy, *sums = self.totals([self.times.total_s, *known])
        left = iter(sums)
        return RowSums(
            busy_s=busy,
            energy_j={
                name: None if joules is None else next(left) for name, joules in energy.items()
            },
        )

    @property
    def fits(self) -> npt.NDArray[np.bool_] | None:
        """Designs that can run every row, shape (N,); `None` means all."""
        if "costs" not in self.__dict__ and "sums" in self.__dict__:
            return None
        fits: npt.NDArray[np.bool_] = np.logical_and.reduce(self.costs.fits, axis=0)
        return fits

    @property
    def multiplies(self) -> bool:
        """Whether the rows multiply and accumulate at all."""
        return self.kind in (OperatorKind.GEMM, OperatorKind.ATTENTION)

    def total(self, values: Floats) -> Floats:
        """Return the sum over the rows of each phase, weighted by executions.

        Args:
            values: One figure of one execution, (R, N), or several of them, (R, F N).

        Returns:
            Shape (2, N) or (2, F N): prefill, decode.
        """
        kernels = load_sums()
        phases = self.given.memo.of(self.rows, "phases", lambda: self.is_decode.astype(np.int64))
        out = np.zeros((len(PHASES), values.shape[1]))
        kernels.weigh(kernels.door(values), kernels.door(self.weights), phases, out)
        return out

    def totals(self, figures: Sequence[Floats]) -> list[Floats]:
        """Return `total` of several figures, of few designs side by side in one pass."""
        designs = self.given.machine.length
        if designs > FEW_DESIGNS or self.weights.shape[1] > 1:
            return [self.total(values) for values in figures]
        every = self.total(np.concatenate(figures, axis=1))
        return [every[:, at : at + designs] for at in range(0, every.shape[1], designs)]

    def in_phase(self, phase: Phase) -> npt.NDArray[np.bool_]:
        """Return the mask of the rows of a phase, shape (R,)."""
        return self.is_decode if phase is Phase.DECODE else ~self.is_decode


@dataclass(frozen=True, eq=False)
class StageCosts:
    """All rows of a stage, costed."""

    given: StageInput
    """What was costed."""
    kinds: tuple[KindCosts, ...]
    """By kind; kinds without rows are left out."""
    segments: Mapping[Phase, SegmentCosts] = field(default_factory=dict)
    """What the back-end costs as a whole: the time of a pass replaces the sum over the rows."""

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Designs that can run every row, shape (N,)."""
        result = np.ones(self.given.machine.length, dtype=np.bool_)
        for entry in self.kinds:
            fits = entry.fits
            if fits is not None:
                result = np.logical_and(result, fits)
        return result

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rows' costs want the reader to know."""
        return tuple(dict.fromkeys(note for entry in self.kinds for note in entry.costs.notes))

    def busy_s(self, phase: Phase) -> Floats:
        """Return the time of a phase for one query's passes at nominal clock, shape (N,)."""
        if phase in self.segments:
            return self.segments[phase].pass_s * self.passes(phase)
        total = np.zeros(self.given.machine.length)
        for entry in self.kinds:
            total = total + entry.sums.busy_s[PHASES.index(phase)]
        return total

    def passes(self, phase: Phase) -> float:
        """Return the forward passes of one query in a phase."""
        return self.given.table.passes(phase)

    def stack(self, phase: Phase) -> PhaseStack:
        """Return the rows of a phase, of all kinds, as one block."""
        if phase in self.segments:
            return self._segment_stack(phase)
        names = stacked_names(*(dict.fromkeys(entry.times.resources) for entry in self.kinds))
        designs = self.given.machine.length
        masks = [entry.in_phase(phase) for entry in self.kinds]
        rows = sum(int(mask.sum()) for mask in masks)
        shared = all(entry.weights.shape[1] == 1 for entry in self.kinds)
        terms = np.zeros((len(names), rows, designs))
        fixed, weights = np.zeros((rows, designs)), np.zeros((rows, 1 if shared else designs))
        overlap = self.given.machine.overhead.overlap
        if any(entry.costs.overlap is not None for entry in self.kinds):
            overlap = np.full((rows, designs), np.inf if overlap is None else overlap)
        start = 0
        for entry, mask in zip(self.kinds, masks, strict=True):
            end = start + int(mask.sum())
            if overlap is not None and entry.costs.overlap is not None:
                overlap[start:end] = entry.costs.overlap[mask]
            fixed[start:end], weights[start:end] = entry.costs.fixed_s[mask], entry.weights[mask]
            for position, name in enumerate(entry.times.resources):
                terms[names.index(name), start:end] = entry.times.terms_s[position][mask]
            start = end
        return PhaseStack(
            resources=names, terms_s=terms, fixed_s=fixed, weights=weights, overlap=overlap,
        )  # fmt: skip

    def _segment_stack(self, phase: Phase) -> PhaseStack:
        """Return a phase costed as a whole: one row, each design's pass on its bottleneck."""
        segment = self.segments[phase]
        names = tuple(dict.fromkeys(segment.bottleneck))
        at = np.array([names.index(name) for name in segment.bottleneck])
        terms = np.where(at == np.arange(len(names))[:, None], segment.pass_s, 0.0)
        return PhaseStack(
            resources=names, terms_s=terms[:, None, :], fixed_s=np.zeros((1, len(at))),
            weights=np.array([[self.passes(phase)]]), overlap=None,
        )  # fmt: skip

    def phase_energy(self, phase: Phase) -> dict[str, Floats | None]:
        """Return the dynamic energy of a phase by component in joules, shape (N,) each."""
        result: dict[str, Floats | None] = {}
        for entry in self.kinds:
            for name, joules in entry.sums.energy_j.items():
                if joules is None or (name in result and result[name] is None):
                    result[name] = None
                    continue
                part, previous = joules[PHASES.index(phase)], result.get(name)
                result[name] = part if previous is None else previous + part
        return result

    @cached_property
    def ideal_s(self) -> Floats:
        """Time of a query's useful work at the peak it runs at, by phase, shape (2, N)."""
        return self._at_peak[0]

    @cached_property
    def executed_s(self) -> Floats:
        """Time of a query's executed multiply-accumulates at that peak, by phase, shape (2, N)."""
        return self._at_peak[1]

    @cached_property
    def compulsory_bytes(self) -> Floats:
        """Bytes that a query has to fetch from memory, by phase, shape (2, N)."""
        return self._at_peak[2]

    @cached_property
    def _at_peak(self) -> tuple[Floats, ...]:
        """Sums over the rows that multiply: ideal and executed time, compulsory bytes."""
        totals = tuple(np.zeros((len(PHASES), self.given.machine.length)) for _ in range(3))
        for entry in self.kinds:
            if entry.multiplies:
                figures = (entry.ideal_s, entry.executed_s, entry.compulsory_bytes)
                for total, part in zip(totals, entry.totals(figures), strict=True):
                    total += part
        return totals


def cost_stage(given: StageInput) -> StageCosts:
    """Cost every row of the operator table on the stage's machines.

    A back-end's `cost_segment` goes first, then its `cost_rows`; the engine costs what they leave.

    Raises:
        CostError: A cost is not a finite, non-negative number.
        PluginError: A back-end's costs have the wrong shape.
    """
    if not overrides(given.backend, "cost_segment"):
        return StageCosts(
            given=given, kinds=tuple(_cost_kind(given, kind, rows) for kind, rows in _rows(given))
        )
    kinds: list[KindCosts] = []
    segments: dict[Phase, SegmentCosts] = {}
    for phase in (Phase.PREFILL, Phase.DECODE):
        found = tuple(_rows(given, phase))
        requests = tuple(_request(given, kind, rows) for kind, rows in found)
        segment = None
        if requests:
            passes = given.table.passes(phase)
            segment = ask_segment(
                given.backend, SegmentRequest(phase=phase, requests=requests, passes=passes)
            )
        if segment is None:
            kinds += [_cost_kind(given, kind, rows) for kind, rows in found]
            continue
        _check_pass(given, requests[0], segment)
        segments[phase] = segment
        kinds += [
            KindCosts(given, kind, rows, costs=costs)
            for (kind, rows), costs in zip(found, segment.rows, strict=True)
        ]
    return StageCosts(given=given, kinds=tuple(kinds), segments=segments)


def select_rows(rows: R, kept: npt.NDArray[np.intp]) -> R:
    """Return some rows of a table; every column has one entry per row."""
    changes: dict[str, Any] = {}
    for column in fields(rows):
        values = getattr(rows, column.name)
        if isinstance(values, np.ndarray):
            changes[column.name] = values[kept]
        elif isinstance(values, tuple):
            changes[column.name] = tuple(values[index] for index in kept)
    return replace(rows, **changes)


def _rows(given: StageInput, phase: Phase | None = None) -> Iterator[tuple[OperatorKind, AnyRows]]:
    """Yield the rows of all kinds that have some, of one phase or of both."""
    for kind in KINDS:
        rows: AnyRows = given.table.rows_of(kind)
        if phase is not None and rows.names:
            rows = select_rows(rows, np.flatnonzero(rows.is_decode == (phase is Phase.DECODE)))
        if rows.names:
            yield kind, rows


def _cost_kind(given: StageInput, kind: OperatorKind, rows: AnyRows) -> KindCosts:
    if isinstance(rows, VectorTable):
        sums = _quick_sums(given, rows)
        if sums is not None:
            return KindCosts(given, kind, rows, sums=sums)
    found = KindCosts(given, kind, rows)
    found.find()  # what is wrong with a cost is said here, not where a figure is first asked for
    return found


def _quick_sums(given: StageInput, rows: VectorTable) -> RowSums | None:
    """Return the sums over vector rows that the engine costs, or `None` where rows are needed."""
    backend = given.backend
    if overrides(backend, "cost_rows") or OperatorKind.VECTOR not in backend.operators:
        return None
    load = VectorLoad(
        concurrency=given.concurrency, resident_kv=given.residency.kv_share,
        activation_bytes=given.residency.activation_rooms, start_s=_start(given),
    )  # fmt: skip
    sums = sum_vector(rows, given.machine, given.runtime, load, given.memo)
    # The rows name the figure that is out of bounds.
    return sums if sums is not None and np.isfinite(sums.busy_s).all() else None


def _check_pass(given: StageInput, request: RowRequest, segment: SegmentCosts) -> None:
    checks = {
        "pass_s": (segment.pass_s, segment.pass_s > 0),
        "interval_s": (
            segment.interval_s, (segment.interval_s > 0) & (segment.interval_s <= segment.pass_s),
        ),
    }  # fmt: skip
    for figure, (values, is_right) in checks.items():
        good = np.isfinite(values) & is_right
        if not good.all():
            design = int(np.argmin(good))
            raise CostError(
                figure=figure, operator=f"{request.rows.names[0]} and what follows",
                machine=f"{given.machine.name}, design {design}", value=float(values[design]),
            )  # fmt: skip


def _request(given: StageInput, kind: OperatorKind, rows: AnyRows) -> RowRequest:
    sequences = np.where(rows.is_decode[:, None], given.concurrency[None, :], 1.0)
    residency = given.residency
    routed = rows.experts > 0 if isinstance(rows, GemmTable) else None
    return RowRequest(
        kind=kind, rows=rows, sequences=sequences, machine=given.machine, runtime=given.runtime,
        reserved_bytes=residency.reserved, store=given.store, memo=given.memo,
        resident_weights=None if routed is None else residency.weight_shares(routed),
        resident_kv=residency.kv_share,
        resident_activations=(
            None if isinstance(rows, CollectiveTable) else residency.staying(rows, sequences)
        ),
        cached=IN_A_MODEL,
    )  # fmt: skip


def _start(given: StageInput) -> Floats:
    """Return the start of an operator that is launched on its own, shape (N,)."""
    overhead = given.machine.overhead
    start: Floats = overhead.barrier_s + given.runtime.launch_s
    return start + overhead.operator_start_s if given.runtime.hardware_start else start
