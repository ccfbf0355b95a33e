"""Cost of one stage: every row of the operator table on the stage's machines.

All numbers are per device and, for times and energies, weighted by how often one query executes a
row, so that phases are plain sums.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import CostError
from pentarch.evaluate.batches import ask_rows, ask_segment, overrides
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable, RowCommon, VectorTable
from pentarch.hardware.columns import Floats, sum_rows
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import bits_to_bytes, resolve
from pentarch.mapping.assemble import stacked_names
from pentarch.mapping.cost_vector import is_fused
from pentarch.mapping.costs import AnyRows, RowCosts, RowRequest, SegmentCosts, SegmentRequest
from pentarch.mapping.engine import RowTimes, check_costs, row_times
from pentarch.mapping.gemm import FrontStore
from pentarch.mapping.traffic import combine

KINDS = (OperatorKind.GEMM, OperatorKind.ATTENTION, OperatorKind.VECTOR, OperatorKind.COLLECTIVE)

R = TypeVar("R", bound=RowCommon)


@dataclass(frozen=True, slots=True, eq=False)
class Residency:
    """What lives on chip for good, for N designs; shapes (N,)."""

    weights: npt.NDArray[np.bool_]
    """Whether all weights live in the outermost on-chip buffer."""
    kv: npt.NDArray[np.bool_]
    """Whether the KV cache of all queries in flight lives there too."""
    bytes: Floats
    """Bytes that they take."""


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


@dataclass(frozen=True, slots=True, eq=False)
class KindCosts:
    """Rows of one kind, costed; of one phase only where the back-end costs segments."""

    kind: OperatorKind
    """Which kind."""
    rows: AnyRows
    """The rows, R of them."""
    costs: RowCosts
    """Their costs for one execution."""
    times: RowTimes
    """Their times for one execution at nominal clock."""
    weights: Floats
    """Executions by one query, shape (R, 1)."""
    is_decode: npt.NDArray[np.bool_]
    """Rows of the decode phase, shape (R,)."""
    ideal_s: Floats
    """Time of the useful work at the peak it runs at, for one execution, shape (R, N)."""
    replicated_s: Floats
    """The same of work that other devices of the stage do as well, shape (R, N)."""
    executed_s: Floats
    """Time of the executed multiply-accumulates at that peak, for one execution, shape (R, N)."""
    compulsory_bytes: Floats
    """Weights and cached keys and values that one execution has to fetch from memory, (R, N)."""

    def in_phase(self, phase: Phase) -> npt.NDArray[np.bool_]:
        """Return the mask of the rows of a phase, shape (R,)."""
        return self.is_decode if phase is Phase.DECODE else ~self.is_decode


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
    """Executions by one query, (R, 1)."""
    overlap: Floats | None
    """Exponent q, (N,), or `None`."""

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


@dataclass(frozen=True, slots=True, eq=False)
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
            result &= entry.costs.fits.all(axis=0)
        return result

    @property
    def notes(self) -> tuple[str, ...]:
        """What the rows' costs want the reader to know."""
        return tuple(dict.fromkeys(note for entry in self.kinds for note in entry.costs.notes))

    def stack(self, phase: Phase) -> "PhaseStack":
        """Return the rows of a phase, of all kinds, as one block."""
        if phase in self.segments:
            return self._segment_stack(phase)
        names = stacked_names(*(dict.fromkeys(entry.times.resources) for entry in self.kinds))
        designs = self.given.machine.length
        masks = [entry.in_phase(phase) for entry in self.kinds]
        rows = sum(int(mask.sum()) for mask in masks)
        terms = np.zeros((len(names), rows, designs))
        fixed, weights = np.zeros((rows, designs)), np.zeros((rows, 1))
        start = 0
        for entry, mask in zip(self.kinds, masks, strict=True):
            end = start + int(mask.sum())
            fixed[start:end], weights[start:end] = entry.costs.fixed_s[mask], entry.weights[mask]
            for position, name in enumerate(entry.times.resources):
                terms[names.index(name), start:end] = entry.times.terms_s[position][mask]
            start = end
        return PhaseStack(
            resources=names, terms_s=terms, fixed_s=fixed, weights=weights,
            overlap=self.given.machine.overhead.overlap,
        )  # fmt: skip

    def _segment_stack(self, phase: Phase) -> "PhaseStack":
        """Return a phase costed as a whole: one row, each design's pass on its bottleneck."""
        segment = self.segments[phase]
        names = tuple(dict.fromkeys(segment.bottleneck))
        at = np.array([names.index(name) for name in segment.bottleneck])
        terms = np.where(at == np.arange(len(names))[:, None], segment.pass_s, 0.0)
        passes = 1.0 if phase is Phase.PREFILL else float(self.given.table.output_tokens - 1)
        return PhaseStack(
            resources=names, terms_s=terms[:, None, :], fixed_s=np.zeros((1, len(at))),
            weights=np.array([[passes]]), overlap=None,
        )  # fmt: skip

    def phase_energy(self, phase: Phase) -> dict[str, Floats | None]:
        """Return the dynamic energy of a phase by component in joules, shape (N,) each."""
        result: dict[str, Floats | None] = {}
        for entry in self.kinds:
            mask = entry.in_phase(phase)
            for name, joules in entry.costs.energy_j.items():
                if joules is None or (name in result and result[name] is None):
                    result[name] = None
                    continue
                part = sum_rows(joules[mask] * entry.weights[mask])
                previous = result.get(name)
                result[name] = part if previous is None else previous + part
        return result


def cost_stage(given: StageInput) -> StageCosts:
    """Cost every row of the operator table on the stage's machines.

    A back-end's `cost_segment` goes first, then its `cost_rows`; the engine costs what they leave.

    Raises:
        CostError: A cost is not a finite, non-negative number.
        PluginError: A back-end's costs have the wrong shape.
    """
    if not overrides(given.backend, "cost_segment"):
        return StageCosts(
            given=given, kinds=tuple(_cost_kind(given, request) for request in _requests(given))
        )
    kinds: list[KindCosts] = []
    segments: dict[Phase, SegmentCosts] = {}
    for phase in (Phase.PREFILL, Phase.DECODE):
        requests = tuple(_requests(given, phase))
        segment = None
        if requests:
            passes = 1.0 if phase is Phase.PREFILL else float(given.table.output_tokens - 1)
            segment = ask_segment(
                given.backend, SegmentRequest(phase=phase, requests=requests, passes=passes)
            )
        if segment is None:
            kinds += [_cost_kind(given, request) for request in requests]
            continue
        _check_pass(given, requests[0], segment)
        segments[phase] = segment
        kinds += [
            _kind_costs(given, request, costs)
            for request, costs in zip(requests, segment.rows, strict=True)
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


def _requests(given: StageInput, phase: Phase | None = None) -> Iterator[RowRequest]:
    """Yield the requests of all kinds that have rows, of one phase or of both."""
    for kind in KINDS:
        rows: AnyRows = given.table.rows_of(kind)
        if phase is not None and rows.names:
            rows = select_rows(rows, np.flatnonzero(rows.is_decode == (phase is Phase.DECODE)))
        if rows.names:
            yield _request(given, kind, rows)


def _cost_kind(given: StageInput, request: RowRequest) -> KindCosts:
    costs = ask_rows(given.backend, request)
    started = replace(costs, fixed_s=costs.fixed_s + _starts(given, request))
    return _kind_costs(given, request, started)


def _kind_costs(given: StageInput, request: RowRequest, costs: RowCosts) -> KindCosts:
    check_costs(request, costs)
    rows = request.rows
    per_mac = _seconds_per_mac(request)
    useful = np.array([given.useful.get(name, 1.0) for name in rows.names])[:, None]
    ideal = _own_macs(request) * per_mac
    return KindCosts(
        kind=request.kind, rows=rows, costs=costs,
        times=row_times(costs, overlap=given.machine.overhead.overlap),
        weights=rows.executions[:, None], is_decode=rows.is_decode, ideal_s=ideal * useful,
        replicated_s=ideal * (1.0 - useful), executed_s=costs.executed_macs * per_mac,
        compulsory_bytes=_compulsory_bytes(request),
    )  # fmt: skip


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
    return RowRequest(
        kind=kind, rows=rows, sequences=sequences, machine=given.machine, runtime=given.runtime,
        reserved_bytes=residency.bytes, resident_weights=residency.weights,
        resident_kv=residency.kv, store=given.store,
    )  # fmt: skip


def _starts(given: StageInput, request: RowRequest) -> Floats:
    """Return the start of every operator that is launched on its own, shape (R, N)."""
    overhead, rows = given.machine.overhead, request.rows
    start = overhead.barrier_s + given.runtime.launch_s
    if given.runtime.hardware_start:
        start = start + overhead.operator_start_s
    launched = np.ones((len(rows.names), 1))
    if isinstance(rows, VectorTable):
        launched = np.where(is_fused(request, rows), 0.0, 1.0)[:, None]
    result: Floats = launched * start
    return result


def _own_macs(request: RowRequest) -> Floats:
    """Return the multiply-accumulates of one execution without padding or masked blocks, (R, N)."""
    rows = request.rows
    if isinstance(rows, GemmTable):
        visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
        macs = rows.rows * visits * rows.k * rows.n
    elif isinstance(rows, AttentionTable):
        macs = rows.heads * rows.pairs * (rows.head_dim + rows.value_dim)
    else:
        return np.zeros(request.sequences.shape)
    result: Floats = macs[:, None] * request.sequences
    return result


def _seconds_per_mac(request: RowRequest) -> Floats:
    """Return 1 / the dense peak of the format that each row runs in, (R, N).

    See definitions.md, MFU, HFU, delivered, peak. Zero for rows that multiply nothing, or that no engine can run.
    """
    rows = request.rows
    result = np.zeros(request.sequences.shape)
    if isinstance(rows, GemmTable):
        pairs = list(zip(rows.a_formats, rows.b_formats, strict=True))
    elif isinstance(rows, AttentionTable):
        pairs = list(zip(rows.query_formats, rows.kv_formats, strict=True))
    else:
        return result
    for pair in dict.fromkeys(pairs):
        product = resolve(request.machine, *pair, request.kind)
        if product is not None:
            result[[other == pair for other in pairs]] = 1.0 / product.peak_macs_per_s
    return result


def _compulsory_bytes(request: RowRequest) -> Floats:
    """Return the bytes of weights (visited experts once) and of keys and values, shape (R, N).

    What lives on chip for good is not fetched from memory.
    """
    rows, sequences = request.rows, request.sequences
    if isinstance(rows, GemmTable):
        tokens = rows.rows[:, None] * sequences
        experts, visits = rows.experts[:, None], rows.experts_per_token[:, None]
        share = np.minimum(visits / np.maximum(experts, 1.0), 1.0)
        visited = np.where(experts == 0, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
        fetched = 1.0 if request.resident_weights is None else ~request.resident_weights
        return (rows.k * rows.n * bits_to_bytes(rows.b_formats))[:, None] * visited * fetched
    if isinstance(rows, AttentionTable):
        words = rows.kv_heads * rows.keys * (rows.head_dim + rows.value_dim)
        fetched = 1.0 if request.resident_kv is None else ~request.resident_kv
        return (words * bits_to_bytes(rows.kv_formats))[:, None] * sequences * fetched
    return np.zeros(sequences.shape)
