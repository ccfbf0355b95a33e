"""Cost of one stage: every row of the operator table on the stage's machines.

All numbers are per device and, for times and energies, weighted by how often one query executes a
row, so that phases are plain sums.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.contracts.backend import AnyBackend
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import bits_to_bytes, resolve
from pentarch.mapping.assemble import stacked_names
from pentarch.mapping.cost_vector import is_fused
from pentarch.mapping.costs import AnyRows, RowCosts, RowRequest
from pentarch.mapping.engine import RowTimes, check_costs, cost_rows, row_times
from pentarch.mapping.gemm import FrontStore
from pentarch.mapping.traffic import combine

KINDS = (OperatorKind.GEMM, OperatorKind.ATTENTION, OperatorKind.VECTOR, OperatorKind.COLLECTIVE)


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


@dataclass(frozen=True, slots=True, eq=False)
class KindCosts:
    """Rows of one kind, costed."""

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
    compulsory_bytes: Floats
    """Weights and cached keys and values that one execution cannot do without, shape (R, N)."""

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

    def time(self, clock_ratio: Floats | None = None, unscaled: frozenset[str] = frozenset()) -> Floats:
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
        total: Floats = ((self.fixed_s + combine(list(terms), self.overlap)) * self.weights).sum(axis=0)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class StageCosts:
    """All rows of a stage, costed."""

    given: StageInput
    """What was costed."""
    kinds: tuple[KindCosts, ...]
    """By kind; kinds without rows are left out."""

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

    def phase_energy(self, phase: Phase) -> dict[str, Floats | None]:
        """Return the dynamic energy of a phase by component in joules, shape (N,) each."""
        result: dict[str, Floats | None] = {}
        for entry in self.kinds:
            mask = entry.in_phase(phase)
            for name, joules in entry.costs.energy_j.items():
                if joules is None or (name in result and result[name] is None):
                    result[name] = None
                    continue
                part = (joules[mask] * entry.weights[mask]).sum(axis=0)
                previous = result.get(name)
                result[name] = part if previous is None else previous + part
        return result


def cost_stage(given: StageInput) -> StageCosts:
    """Cost every row of the operator table on the stage's machines.

    A back-end's `cost_rows` goes first; the engine costs what it leaves.

    Raises:
        CostError: A cost is not a finite, non-negative number.
    """
    kinds = []
    for kind in KINDS:
        rows: AnyRows = given.table.rows_of(kind)
        if not rows.names:
            continue
        request = _request(given, kind, rows)
        costs = given.backend.cost_rows(request) or cost_rows(request)
        _add_starts(given, kind, rows, costs, request)
        check_costs(request, costs)
        times = row_times(costs, overlap=given.machine.overhead.overlap)
        kinds.append(
            KindCosts(
                kind=kind, rows=rows, costs=costs, times=times,
                weights=rows.executions[:, None], is_decode=rows.is_decode,
                ideal_s=_ideal_seconds(request), compulsory_bytes=_compulsory_bytes(request),
            )
        )  # fmt: skip
    return StageCosts(given=given, kinds=tuple(kinds))


def _request(given: StageInput, kind: OperatorKind, rows: AnyRows) -> RowRequest:
    sequences = np.where(rows.is_decode[:, None], given.concurrency[None, :], 1.0)
    residency = given.residency
    return RowRequest(
        kind=kind, rows=rows, sequences=sequences, machine=given.machine, runtime=given.runtime,
        reserved_bytes=residency.bytes, resident_weights=residency.weights,
        resident_kv=residency.kv, store=given.store,
    )  # fmt: skip


def _add_starts(
    given: StageInput, kind: OperatorKind, rows: AnyRows, costs: RowCosts, request: RowRequest
) -> None:
    """Add the start of every operator that is launched on its own."""
    overhead = given.machine.overhead
    start = overhead.barrier_s + given.runtime.launch_s
    if given.runtime.hardware_start:
        start = start + overhead.operator_start_s
    launched = np.ones((len(rows.names), 1))
    if kind is OperatorKind.VECTOR and isinstance(rows, VectorTable):
        launched = np.where(is_fused(request, rows), 0.0, 1.0)[:, None]
    costs.fixed_s[...] += launched * start


def _ideal_seconds(request: RowRequest) -> Floats:
    """Return the time of the useful work of GEMM and attention rows at the peak they run at.

    Returns:
        Seconds for one execution, shape (R, N) (DEFINITIONS.md, MFU: ideal time); zero for rows of
        other kinds.
    """
    rows = request.rows
    result = np.zeros(request.sequences.shape)
    if isinstance(rows, GemmTable):
        visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
        macs = rows.rows * visits * rows.k * rows.n
        pairs = list(zip(rows.a_formats, rows.b_formats, strict=True))
    elif isinstance(rows, AttentionTable):
        macs = rows.heads * rows.pairs * (rows.head_dim + rows.value_dim)
        pairs = list(zip(rows.query_formats, rows.kv_formats, strict=True))
    else:
        return result
    for pair in dict.fromkeys(pairs):
        product = resolve(request.machine, *pair)
        if product is not None:
            picked = np.array([index for index, other in enumerate(pairs) if other == pair])
            result[picked] = macs[picked, None] * request.sequences[picked] / product.peak_macs_per_s
    return result


def _compulsory_bytes(request: RowRequest) -> Floats:
    """Return the bytes of weights (visited experts once) and of keys and values, shape (R, N)."""
    rows, sequences = request.rows, request.sequences
    if isinstance(rows, GemmTable):
        tokens = rows.rows[:, None] * sequences
        experts, visits = rows.experts[:, None], rows.experts_per_token[:, None]
        share = np.minimum(visits / np.maximum(experts, 1.0), 1.0)
        visited = np.where(experts == 0, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
        return (rows.k * rows.n * bits_to_bytes(rows.b_formats))[:, None] * visited
    if isinstance(rows, AttentionTable):
        words = rows.kv_heads * rows.keys * (rows.head_dim + rows.value_dim)
        return (words * bits_to_bytes(rows.kv_formats))[:, None] * sequences
    return np.zeros(sequences.shape)
