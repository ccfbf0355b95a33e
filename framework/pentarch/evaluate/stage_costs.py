"""Cost of one stage: every row of the operator table on the stage's machines.

All numbers are per device and, for times and energies, weighted by how often one query executes a
row, so that phases are plain sums.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import CostError
from pentarch.evaluate.batches import ask_rows, ask_segment, overrides
from pentarch.evaluate.peak_work import compulsory_bytes, own_macs, seconds_per_mac
from pentarch.evaluate.phase_stack import PhaseStack
from pentarch.evaluate.residency import Residency
from pentarch.evaluate.table_rows import decode_rows, rows_by_kind
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import (
    AttentionTable,
    CollectiveTable,
    GemmTable,
    OperatorTable,
    VectorTable,
)
from pentarch.hardware.columns import FEW_DESIGNS, Floats, found_once
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime, Scheduler
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

IN_A_MODEL = CacheState.layer()
"""What a cache holds when an operator of a query starts."""


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

    @property
    def prompts(self) -> Floats | None:
        """Prompts that a pass of prefill processes at once, shape (N,); `None` for one."""
        return self.concurrency if self.runtime.scheduler is Scheduler.STATIC else None


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

    @found_once
    def request(self) -> RowRequest:
        """What the back-end or the engine is asked."""
        return _request(self.given, self.kind, self.rows)

    @property
    def weights(self) -> Floats:
        """Executions by one query, shape (R, 1), or (R, N) where they differ between designs.

        Queries that share a pass share its executions.
        """
        executions, prompts = self.rows.executions, self.given.prompts
        own = executions if executions.ndim == 2 else executions[:, None]
        return own if prompts is None else own / np.where(self.is_decode[:, None], 1.0, prompts)

    @found_once
    def is_decode(self) -> npt.NDArray[np.bool_]:
        """Rows of the decode phase, shape (R,)."""
        return decode_rows(self.rows, self.given.memo)

    @found_once
    def phases(self) -> npt.NDArray[np.int64]:
        """Position of each row's phase in `PHASES`, shape (R,)."""
        return self.given.memo.of(self.rows, "phases", lambda: self.is_decode.astype(np.int64))

    @found_once
    def useful(self) -> Floats:
        """Share of the rows' multiply-accumulates that is useful, (R, 1)."""
        return self.given.memo.of(self.rows, "useful", self._find_useful, self.given.useful)

    def _find_useful(self) -> Floats:
        shares = self.given.useful
        found = np.array([shares.get(name, 1.0) for name in self.rows.names])[:, None]
        own = self.rows.useful if isinstance(self.rows, GemmTable | AttentionTable) else None
        return found if own is None else found * own[:, None]

    @found_once
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

    @found_once
    def times(self) -> RowTimes:
        """Their times for one execution at nominal clock."""
        return row_times(self.costs, overlap=self.given.machine.overhead.overlap)

    @found_once
    def per_mac_s(self) -> Floats:
        """Time of one multiply-accumulate at the peak that a row runs at, (1, N) or (R, N)."""
        return seconds_per_mac(self.request)

    @found_once
    def ideal_s(self) -> Floats:
        """Time of the useful work at the peak it runs at, for one execution, shape (R, N)."""
        return own_macs(self.request) * self.per_mac_s * self.useful

    @found_once
    def replicated_s(self) -> Floats:
        """The same of work that other devices of the stage do as well, shape (R, N)."""
        return own_macs(self.request) * self.per_mac_s * (1.0 - self.useful)

    @found_once
    def executed_s(self) -> Floats:
        """Time of the executed multiply-accumulates at that peak, for one execution, (R, N)."""
        return self.costs.executed_macs * self.per_mac_s

    @found_once
    def compulsory_bytes(self) -> Floats:
        """Weights and cached keys and values that one execution has to fetch from memory, (R, N)."""
        return compulsory_bytes(self.request)

    @found_once
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
        door = load_sums().door
        return self._total(door(values))

    def _total(self, values: Floats) -> Floats:
        """Return `total` of C-contiguous, writable values."""
        kernels = load_sums()
        out = np.zeros((len(PHASES), values.shape[1]))
        kernels.weigh(values, kernels.door(self.weights), self.phases, out)
        return out

    def totals(self, figures: Sequence[Floats]) -> list[Floats]:
        """Return `total` of several figures, of few designs side by side in one pass."""
        designs = self.given.machine.length
        if designs > FEW_DESIGNS or self.weights.shape[1] > 1:
            return [self.total(values) for values in figures]
        every = self._total(np.concatenate(figures, axis=1))
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
        fits = [fits for entry in self.kinds if (fits := entry.fits) is not None]
        if not fits:
            return np.ones(self.given.machine.length, dtype=np.bool_)
        result: npt.NDArray[np.bool_] = np.logical_and.reduce(fits, axis=0)
        return result

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rows' costs want the reader to know."""
        return tuple(dict.fromkeys(note for entry in self.kinds for note in entry.costs.notes))

    def busy_s(self, phase: Phase) -> Floats:
        """Return the time of a phase for one query's passes at nominal clock, shape (N,)."""
        if phase in self.segments:
            return self.segments[phase].pass_s * self.passes(phase)
        busy: Floats = self._busy_s[PHASES.index(phase)]
        return busy

    @found_once
    def _busy_s(self) -> Floats:
        """Time of the rows of all kinds at nominal clock by phase, shape (2, N)."""
        if not self.kinds:
            return np.zeros((len(PHASES), self.given.machine.length))
        total: Floats = self.kinds[0].sums.busy_s
        for entry in self.kinds[1:]:
            total = total + entry.sums.busy_s
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
        row = PHASES.index(phase)
        return {
            name: None if joules is None else joules[row] for name, joules in self._energy_j.items()
        }

    @found_once
    def _energy_j(self) -> dict[str, Floats | None]:
        """Dynamic energy of the rows of all kinds by component and phase, shape (2, N) each."""
        result: dict[str, Floats | None] = {}
        for entry in self.kinds:
            for name, joules in entry.sums.energy_j.items():
                previous = result.get(name)
                if joules is None or (previous is None and name in result):
                    result[name] = None
                else:
                    result[name] = joules if previous is None else previous + joules
        return result

    @found_once
    def ideal_s(self) -> Floats:
        """Time of a query's useful work at the peak it runs at, by phase, shape (2, N)."""
        return self._at_peak[0]

    @found_once
    def executed_s(self) -> Floats:
        """Time of a query's executed multiply-accumulates at that peak, by phase, shape (2, N)."""
        return self._at_peak[1]

    @found_once
    def compulsory_bytes(self) -> Floats:
        """Bytes that a query has to fetch from memory, by phase, shape (2, N)."""
        return self._at_peak[2]

    @found_once
    def _at_peak(self) -> tuple[Floats, ...]:
        """Sums over the rows that multiply: ideal and executed time, compulsory bytes."""
        parts = [
            entry.totals((entry.ideal_s, entry.executed_s, entry.compulsory_bytes))
            for entry in self.kinds
            if entry.multiplies
        ]
        if not parts:
            return tuple(np.zeros((len(PHASES), self.given.machine.length)) for _ in range(3))
        first, *others = parts
        for part in others:
            first = [total + more for total, more in zip(first, part, strict=True)]
        return tuple(first)


def cost_stage(given: StageInput) -> StageCosts:
    """Cost every row of the operator table on the stage's machines.

    A back-end's `cost_segment` goes first, then its `cost_rows`; the engine costs what they leave.

    Raises:
        CostError: A cost is not a finite, non-negative number.
        PluginError: A back-end's costs have the wrong shape.
    """
    if not overrides(given.backend, "cost_segment"):
        return StageCosts(
            given=given,
            kinds=tuple(_cost_kind(given, kind, rows) for kind, rows in rows_by_kind(given.table)),
        )
    kinds: list[KindCosts] = []
    segments: dict[Phase, SegmentCosts] = {}
    for phase in (Phase.PREFILL, Phase.DECODE):
        found = tuple(rows_by_kind(given.table, phase))
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


def _cost_kind(given: StageInput, kind: OperatorKind, rows: AnyRows) -> KindCosts:
    if isinstance(rows, VectorTable) and (sums := _quick_sums(given, rows)) is not None:
        return KindCosts(given, kind, rows, sums=sums)
    found = KindCosts(given, kind, rows)
    found.find()  # what is wrong with a cost is said here, not where a figure is first asked for
    return found


def _quick_sums(given: StageInput, rows: VectorTable) -> RowSums | None:
    """Return the sums over vector rows that the engine costs, or `None` where rows are needed."""
    backend = given.backend
    is_asked = overrides(backend, "cost_rows") or OperatorKind.VECTOR not in backend.operators
    if is_asked or given.prompts is not None:
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
    is_decode, residency = decode_rows(rows, given.memo), given.residency
    prompts = 1.0 if given.prompts is None else given.prompts
    sequences = np.where(is_decode[:, None], given.concurrency, prompts)
    routed = None
    if isinstance(rows, GemmTable):
        routed = given.memo.of(rows, "routed", partial(np.greater, rows.experts, 0.0))
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
