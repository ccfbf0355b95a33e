"""What stays on chip, settled by times: candidates that may be faster than the estimate's are costed.

`evaluate.residency` takes the candidate with the least estimate. Once it is costed, a lower bound on
the time of every other candidate follows from its rows: what no residency changes, bytes that cross
memory once, and the relaxed optimum of the tiling problem. Candidates whose bound is not above the
time found (less `rivals.TOLERANCE`) are costed as well, and the fastest is taken.

With more room every candidate keeps no less and leaves tiles no less, so that a query gets no slower
with capacity, bandwidth, arrays or clock by more than that tolerance. That holds for stages whose
rows the engine costs, one stage in sequence, with objective time and no power cap; larger inner
buffers are subject to what `mapping.scan` says of its class.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.batches import LISTS, PARTS, overrides
from pentarch.evaluate.peak_work import compulsory_bytes
from pentarch.evaluate.residency import Choices, Residency, activation_bytes
from pentarch.evaluate.stage_costs import KindCosts, StageCosts, StageInput, cost_stage
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, EngineKind, Management
from pentarch.mapping.arithmetic import bits_to_bytes, resolve
from pentarch.mapping.attention_plan import SCORE_WORK, Vectors
from pentarch.mapping.compilation import load_rivals
from pentarch.mapping.cost_gemm import GemmGroup, gemm_groups, gemm_shape, mapper_rows
from pentarch.mapping.costs import RowCosts, RowSums
from pentarch.mapping.gemm import GemmRows, map_gemms_one_level
from pentarch.workload.formats import number_format

Picked = npt.NDArray[np.intp]
T = TypeVar("T", bound=np.generic)

BATCH = 2048
"""Rivals costed at once."""


def settle(costs: StageCosts) -> StageCosts:
    """Return the costs with the fastest candidate of each design.

    Args:
        costs: Those of the candidates with the least estimate.
    """
    given = costs.given
    choices = given.residency.choices
    if choices is None or not _is_settled(given):
        return costs
    at, numbers = _rivals(costs, choices)
    if not len(at):
        return costs
    own = query_seconds(costs)
    for start in range(0, len(at), BATCH):
        part = slice(start, start + BATCH)
        other = cost_stage(_rival_input(given, choices, at[part], numbers[part]))
        seconds = query_seconds(other)
        # The fastest of a design comes first, the first of equals.
        order = np.lexsort((numbers[part], seconds, at[part]))
        designs, first = np.unique(at[part][order], return_index=True)
        picked = order[first]
        wins = seconds[picked] < own[designs]
        if wins.any():
            designs, picked = designs[wins], picked[wins]
            own[designs] = seconds[picked]
            costs = _exchange(costs, other, _Change(designs, picked))
    return costs


def query_seconds(costs: StageCosts) -> Floats:
    """Return the time of one query's prefill and its share of decode steps, (N,).

    Infinite where a row cannot run.
    """
    seconds = costs.busy_s(Phase.PREFILL) + costs.busy_s(Phase.DECODE) / costs.given.concurrency
    return np.where(costs.fits, seconds, np.inf)


def _is_settled(given: StageInput) -> bool:
    """Return whether the engine costs the rows, on arrays that fetch their weights, a prompt a pass."""
    if given.prompts is not None:
        return False
    own = any(overrides(given.backend, method) for method in ("cost_rows", "cost_segment"))
    return not own and not given.machine.engines_of(EngineKind.IN_MEMORY)


def _rivals(costs: StageCosts, choices: Choices) -> tuple[Picked, npt.NDArray[np.int64]]:
    """Return the designs and the candidates that may be faster than what was costed."""
    kernel, length = load_rivals(), costs.given.machine.length
    gemms = attentions = np.zeros((0, 0))
    found = [np.zeros((3, 0, length)), np.zeros((3, 0, length))]
    for entry in costs.kinds:
        if isinstance(entry.rows, GemmTable):
            gemms, found[0] = _gemm_figures(entry, choices), _gemm_found(entry)
        elif isinstance(entry.rows, AttentionTable):
            copies = choices.holding.copies
            attentions, found[1] = _attention_figures(entry, copies), _attention_found(entry)
    taken = np.empty((2, length))
    taken[0] = choices.numbers
    np.divide(query_seconds(costs), choices.holding.copies, out=taken[1])
    out = np.zeros((length, kernel.CANDIDATES), dtype=np.bool_)
    kernel.rivals(
        gemms.reshape(-1, len(kernel.RIVAL_FIELDS)),
        attentions.reshape(-1, len(kernel.ATTENTION_FIELDS)),
        choices.stage, choices.designs, (found[0], found[1], taken), out,
    )  # fmt: skip
    at, numbers = np.nonzero(out)
    return at, numbers.astype(np.int64)


def _gemm_figures(entry: KindCosts, choices: Choices) -> Floats:
    """Return `rivals.RIVAL_FIELDS`, (R, 13)."""
    rows = entry.rows
    if not isinstance(rows, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(rows).__name__}")
    own, spill = choices.rows, number_format(rows.spill_format).bytes

    def make() -> Floats:
        words = [
            bits_to_bytes(formats) for formats in (rows.a_formats, rows.b_formats, rows.out_formats)
        ]
        return np.column_stack(
            [
                rows.k, rows.n, *words, own[:, 10], np.full(len(own), spill), rows.rows, rows.experts,
                own[:, 5], own[:, 6], own[:, 11], rows.experts_per_token,
            ]
        )  # fmt: skip

    return entry.given.memo.of(rows, ("rivals", choices.holding.copies), make)


def _attention_figures(entry: KindCosts, copies: float) -> Floats:
    """Return `rivals.ATTENTION_FIELDS`, (A, 3)."""
    rows = entry.rows
    if not isinstance(rows, AttentionTable):
        raise TypeError(f"attention rows expected, got {type(rows).__name__}")
    return entry.given.memo.of(
        rows, ("rivals", copies),
        lambda: np.column_stack([rows.is_decode, rows.executions / copies, activation_bytes(rows)]),
    )  # fmt: skip


def _found(entry: KindCosts) -> Floats:
    """Return `rivals.FOUND_FIELDS` of rows, (3, R, N), with their times filled in."""
    total = entry.times.total_s
    found = np.zeros((3, *total.shape))
    found[1] = total
    return found


def _gemm_found(entry: KindCosts) -> Floats:
    """Return `rivals.FOUND_FIELDS` of GEMM rows, (3, R, N)."""
    machine, costs, rows = entry.given.machine, entry.costs, entry.rows
    if not isinstance(rows, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(rows).__name__}")
    found = _found(entry)
    for busy in costs.compute_s.values():  # time of the arithmetic and what overlaps with nothing
        np.maximum(found[0], busy, out=found[0])
    found[0] += costs.fixed_s
    crossing: Floats | None = None
    for group in entry.given.memo.of(rows, "gemm groups", lambda: gemm_groups(rows)):
        product = resolve(machine, group.a_format, group.b_format)
        if product is None:
            continue
        depth = machine.level_index(product.engine.feeds_from)
        if depth == 1 or (depth == 2 and entry.given.runtime.objective == "time"):
            crossing = _crossing(costs, machine) if crossing is None else crossing
        if depth == 1 and crossing is not None:
            found[2, group.picked] = crossing[group.picked]
        elif depth == 2 and crossing is not None:
            _add_inner(entry, group, found, crossing)
    return found


def _crossing(costs: RowCosts, machine: MachineTable) -> Floats:
    """Return the bytes of the outermost buffer less those it exchanges with memory, (R, N)."""
    memory, outer = machine.levels[0].name, machine.levels[1].name
    inside = costs.read_bytes[outer] + costs.write_bytes[outer]
    return inside - costs.read_bytes[memory] - costs.write_bytes[memory]


def _add_inner(entry: KindCosts, group: GemmGroup, found: Floats, crossing: Floats) -> None:
    """Fill in the least bytes between the two buffers, and the time of the inner one with them.

    Args:
        entry: The GEMM rows.
        group: Which of them.
        found: `rivals.FOUND_FIELDS`, (3, R, N).
        crossing: Bytes that cross between the buffers now, (R, N).
    """
    rows, machine, picked = entry.rows, entry.given.machine, group.picked
    if not isinstance(rows, GemmTable) or machine.levels[2].management is not Management.SOFTWARE:
        return
    shape, inner = gemm_shape(rows, group, entry.request.sequences), machine.levels[2]
    alone = replace(mapper_rows(entry.request, shape), b_resident=None, others_resident=None)
    moved = shape.of_all(
        least_bytes(alone, inner.size_bytes * inner.usable, inner.buffering is Buffering.DOUBLE)
    )
    saved = np.maximum(crossing[picked] - moved, 0.0)
    rate = inner.read_bytes_per_s
    if inner.write_bytes_per_s is not None:
        rate = np.minimum(rate, inner.write_bytes_per_s)
    busy = entry.costs.level_s[inner.name][picked]
    faster = busy - saved / (inner.instances * rate * inner.stream_efficiency)
    found[0, picked] = np.maximum(found[0, picked], faster)
    found[2, picked] = moved


def least_bytes(rows: GemmRows, buffer_bytes: Floats, double: bool) -> Floats:
    """Return the least bytes of GEMMs behind one buffer, (R, N); equal designs are mapped once."""
    sizes, first, number = np.unique(buffer_bytes, return_index=True, return_inverse=True)
    is_shared = 2 * len(sizes) <= len(number) and bool((rows.m == rows.m[:, :1]).all())
    if is_shared:
        rows, buffer_bytes = replace(rows, m=np.ascontiguousarray(rows.m[:, first])), sizes
    least = map_gemms_one_level(rows, buffer_bytes, double)
    moved = least.memory_read_bytes + least.memory_write_bytes
    return moved[:, number] if is_shared else moved


def _attention_found(entry: KindCosts) -> Floats:
    """Return `rivals.FOUND_FIELDS` of attention rows, (3, A, N)."""
    found = _found(entry)
    found[0] = _least_attention(entry)
    found[2] = compulsory_bytes(replace(entry.request, resident_kv=None))
    return found


def _least_attention(entry: KindCosts) -> Floats:
    """Return time that attention takes whatever stays: matrix units, and one pass over the scores."""
    machine, costs, rows = entry.given.machine, entry.costs, entry.rows
    if not isinstance(rows, AttentionTable):
        raise TypeError(f"attention rows expected, got {type(rows).__name__}")
    vectors = Vectors.of(machine)
    slowest = np.zeros_like(costs.fixed_s)
    for name, busy in costs.compute_s.items():
        if all(name != engine.name for engine in machine.engines_of(EngineKind.VECTOR)):
            slowest = np.maximum(slowest, busy)
    if vectors is not None:
        scores = costs.executed_macs / (rows.head_dim + rows.value_dim)[:, None]
        for busy_s in vectors.seconds(SCORE_WORK):
            slowest = np.maximum(slowest, scores * busy_s)
    return slowest


def _rival_input(
    given: StageInput, choices: Choices, at: Picked, numbers: npt.NDArray[np.int64]
) -> StageInput:
    """Return what designs are costed on with other candidates."""
    parts: dict[str, Any] = {
        name: tuple(part.take(at) for part in getattr(given.machine, name)) for name in LISTS
    }
    for name in PARTS:
        part = getattr(given.machine, name)
        parts[name] = None if part is None else part.take(at)
    return replace(
        given, machine=replace(given.machine, length=len(at), **parts),
        concurrency=given.concurrency[at], residency=choices.taken(at, numbers.copy()),
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Change:
    """Some designs of a batch that become those of another."""

    at: Picked
    """Which, (P,)."""
    picked: Picked
    """Where they are in the other batch, (P,)."""

    def put(self, own: npt.NDArray[T], new: npt.NDArray[T] | None) -> npt.NDArray[T]:
        """Return figures with those of the other batch, zero where it has none."""
        changed = own.copy()
        changed[..., self.at] = 0 if new is None else new[..., self.picked]
        return changed

    def put_all(
        self, own: Mapping[str, Floats | None], new: Mapping[str, Floats | None], like: Floats
    ) -> dict[str, Floats | None]:
        """Return a group of figures; what one batch lacks is zero there, unknown stays unknown."""
        found: dict[str, Floats | None] = {}
        for name in dict.fromkeys((*own, *new)):
            before, after = own.get(name, np.zeros_like(like)), new.get(name)
            unknown = before is None or (name in new and after is None)
            found[name] = None if unknown or before is None else self.put(before, after)
        return found

    def put_rows(self, own: RowCosts, new: RowCosts) -> RowCosts:
        """Return the costs of rows."""
        changes: dict[str, Any] = {}
        for field in fields(own):
            before, after = getattr(own, field.name), getattr(new, field.name)
            if isinstance(before, Mapping):
                changes[field.name] = self.put_all(before, after, own.fixed_s)
            elif isinstance(before, np.ndarray):
                changes[field.name] = self.put(before, after)
        changes["notes"] = tuple(dict.fromkeys((*own.notes, *new.notes)))
        return replace(own, **changes)

    def put_residency(self, own: Residency, new: Residency) -> Residency:
        """Return the decision."""
        if own.choices is None or new.choices is None:
            raise ValueError("a decision came without its choices")
        return Residency(
            weights=self.put(own.weights, new.weights), experts=self.put(own.experts, new.experts),
            kv=self.put(own.kv, new.kv), bytes=self.put(own.bytes, new.bytes),
            activations={
                phase: self.put(kept, new.activations[phase])
                for phase, kept in own.activations.items()
            },
            choices=replace(own.choices, numbers=self.put(own.choices.numbers, new.choices.numbers)),
        )  # fmt: skip


def _exchange(costs: StageCosts, other: StageCosts, change: _Change) -> StageCosts:
    """Return costs in which some designs are those of another batch."""
    residency = change.put_residency(costs.given.residency, other.given.residency)
    given = replace(costs.given, residency=residency)
    kinds = []
    for own, new in zip(costs.kinds, other.kinds, strict=True):
        sums = RowSums(
            busy_s=change.put(own.sums.busy_s, new.sums.busy_s),
            energy_j=change.put_all(own.sums.energy_j, new.sums.energy_j, own.sums.busy_s),
        )
        kind = KindCosts(given, own.kind, own.rows, sums=sums)
        if own.kind is not OperatorKind.VECTOR:  # vector rows follow when they are asked for
            kind.costs = change.put_rows(own.costs, new.costs)
        kinds.append(kind)
    return replace(costs, given=given, kinds=tuple(kinds))
