"""From a planned workload to its operator table (`pentarch.graph.table`); no loops over tokens.

A decode step's attention grows with the context; between the kinks where a sliding window fills up
it is linear in it. `context_nodes` places rows on the ends of each linear segment with weights that
make the weighted sum over rows equal the sum over all steps, exactly. All other operators cost the
same in each step and get one row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np

from pentarch.errors import FieldError, UnknownNameError
from pentarch.graph.build import build_graph
from pentarch.graph.flops import KV_BLOCK_TOKENS, prefill_flops, query_flops
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.lengths import Lengths, check_generates, lengths_of
from pentarch.graph.operators import Attention, Collective, Gather, Gemm, Operator, Phase, Split
from pentarch.graph.shares import DeviceShare, attention_row, gemm_row, vector_row
from pentarch.graph.table import (
    AttentionTable,
    CollectiveTable,
    GemmTable,
    OperatorTable,
    RowCommon,
    VectorTable,
)
from pentarch.workload.formats import number_format
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload


class PlacementLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Placement`."""

    @property
    def operator(self) -> str:
        """Name of the operator."""

    @property
    def repeat(self) -> int:
        """Repeats that each copy of the stage runs."""

    @property
    def cut(self) -> Split:
        """Dimension that is cut."""

    @property
    def ways(self) -> int:
        """Parts it is cut into."""


class StageLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Stage`."""

    @property
    def copies(self) -> int:
        """Equal stages in sequence."""

    @property
    def placements(self) -> Sequence[PlacementLike]:
        """What it runs."""

    @property
    def collectives(self) -> Sequence[Collective]:
        """Communication inside the group."""

    @property
    def sends(self) -> Sequence[Collective]:
        """Hand-over to the next stage."""


class PlanLike(Protocol):
    """What lowering reads of a `pentarch.plan.plan.Plan`, which lives on a higher floor."""

    @property
    def workload(self) -> str:
        """Name of the workload."""

    @property
    def stages(self) -> Sequence[StageLike]:
        """In the order in which a token passes them."""

    @property
    def devices(self) -> int:
        """Devices reserved by the whole plan."""


def context_nodes(
    *, first: int, last: int, kinks: Iterable[int] = ()
) -> tuple[tuple[int, float], ...]:
    """Return contexts and weights that integrate over the decode steps.

    Args:
        first: Context of the first step.
        last: Context of the last step.
        kinks: Contexts at which a cost may change its slope; those outside are ignored.

    Returns:
        Pairs of context and weight, ascending. The weights add up to the number of steps, and the
        weighted sum of any function that is linear between the kinks is its sum over the steps.

    Examples:
        >>> context_nodes(first=11, last=20)
        ((11, 5.0), (20, 5.0))
        >>> context_nodes(first=11, last=10)
        ()
    """
    if last < first:
        return ()
    if last == first:
        return ((first, 1.0),)
    inner = sorted({kink for kink in kinks if first < kink < last})
    nodes = [first, *inner, last]
    # The sum over a segment's steps, its left end left out, of a line from f(left) to f(right) is
    # f(left) (m - 1) / 2 + f(right) (m + 1) / 2 for a segment of m steps.
    weights = dict.fromkeys(nodes, 0.0)
    weights[first] = 1.0
    for left, right in pairwise(nodes):
        steps = right - left
        weights[left] += (steps - 1) / 2
        weights[right] += (steps + 1) / 2
    return tuple((node, weight) for node, weight in weights.items() if weight)


def lower(
    workload: Workload, *, query: Query, precisions: Precisions, plan: PlanLike
) -> OperatorTable:
    """Return the operator table of a planned workload and query.

    Args:
        workload: The transformer.
        query: Lengths; the load multiplies rows when they are costed.
        precisions: Number formats by role.
        plan: Stages whose placements name operators of the folded graph.

    Returns:
        Rows as one device of each stage runs them. `executions` counts all copies of a stage,
        `layers` and the storage figures one of them. Prefill rows count the storage of weights.

    Raises:
        FieldError: The plan is another workload's, or runs an operator too often or not at all, or
            cuts one in a way that its kind does not have.
        UnknownNameError: The plan names an operator that the graph does not have.
    """
    lengths = lengths_of(workload, query)
    prefill = build_graph(workload, phase=Phase.PREFILL, query=query, precisions=precisions)
    nodes = context_nodes(first=lengths.first, last=lengths.last, kinks=workload.windows)
    graphs = {Phase.PREFILL: prefill}
    if query.decode_steps:
        check_generates(workload)
        graphs[Phase.DECODE] = build_graph(
            workload, phase=Phase.DECODE, query=query, precisions=precisions
        )
    _check_plan(plan, prefill)
    rows = _Rows()
    stores = []
    for index, stage in enumerate(plan.stages):
        _add_stage(rows, stage, index=index, graphs=graphs, steps=_Steps(lengths, nodes))
        _add_collectives(rows, stage, index=index, graphs=graphs, steps=lengths.steps)
        stores.append(_stored(stage, prefill, lengths=lengths, precisions=precisions))
    return OperatorTable(
        workload=workload.name,
        gemm=_table(
            GemmTable,
            rows.gemm,
            accumulator_format=precisions.accumulation,
            spill_format=precisions.spill,
        ),
        attention=_table(
            AttentionTable, rows.attention, accumulator_format=precisions.accumulation
        ),
        vector=_table(VectorTable, rows.vector),
        collective=_table(CollectiveTable, rows.collective),
        prompt_tokens=query.prompt_tokens,
        output_tokens=query.output_tokens,
        useful_flops=float(query_flops(workload, query)),
        useful_flops_prefill=float(prefill_flops(workload, query)),
        devices=plan.devices,
        **_store_columns(stores),
    )


@dataclass(frozen=True, slots=True)
class _Rows:
    gemm: list[dict[str, Any]] = field(default_factory=list)
    attention: list[dict[str, Any]] = field(default_factory=list)
    vector: list[dict[str, Any]] = field(default_factory=list)
    collective: list[dict[str, Any]] = field(default_factory=list)

    def add(self, operator: Operator, values: dict[str, Any]) -> None:
        if isinstance(operator, Gemm):
            self.gemm.append(values)
        elif isinstance(operator, Attention):
            self.attention.append(values)
        elif isinstance(operator, Collective):
            self.collective.append(values)
        else:
            self.vector.append(values)


def _check_plan(plan: PlanLike, graph: WorkloadGraph) -> None:
    if plan.workload != graph.workload:
        raise FieldError(
            where="plan",
            path="workload",
            problem=f"found {plan.workload!r}",
            expected=f"{graph.workload!r}, the workload being lowered",
        )
    placed = {operator.name: 0 for operator in graph.operators}
    for index, stage in enumerate(plan.stages):
        for placement in stage.placements:
            if placement.operator not in placed:
                raise UnknownNameError(
                    kind="operator",
                    name=placement.operator,
                    known=placed,
                    hint=f"Stage {index} of the plan places it; {graph.workload} has none.",
                )
            placed[placement.operator] += stage.copies * placement.repeat
    for operator in graph.operators:
        if placed[operator.name] != operator.repeat:
            raise FieldError(
                where="plan",
                path="stages",
                problem=f"{operator.name!r} runs {placed[operator.name]} times over all stages",
                expected=f"{operator.repeat}, as often as {graph.workload} has it",
            )


@dataclass(frozen=True, slots=True)
class _Steps:
    """Decode steps, and where attention over all of them is evaluated."""

    lengths: Lengths
    nodes: tuple[tuple[int, float], ...]

    def of(self, attention: Attention) -> tuple[tuple[int, float], ...]:
        """Return contexts and weights of one operator.

        Attention over an encoder sees the same keys in every step. Inside chunks the context falls
        back to one key at each border, but every whole chunk costs the same.
        """
        first, last = self.lengths.first, self.lengths.last
        if attention.cross:
            return ((attention.context, float(self.lengths.steps)),)
        if attention.chunk is not None:
            return _chunk_nodes(first=first, last=last, chunk=attention.chunk)
        return self.nodes


def _chunk_nodes(*, first: int, last: int, chunk: int) -> tuple[tuple[int, float], ...]:
    """Return contexts and weights of decode steps whose context starts anew in every chunk."""
    weights: dict[int, float] = {}
    start, end = (first - 1) // chunk, (last - 1) // chunk
    parts = [(first, min(last, (start + 1) * chunk), 1.0)]
    if end > start + 1:  # whole chunks, all alike: one stands for them
        parts.append(((start + 1) * chunk + 1, (start + 2) * chunk, float(end - start - 1)))
    if end > start:
        parts.append((end * chunk + 1, last, 1.0))
    for left, right, times in parts:
        for node, weight in context_nodes(first=left, last=right):
            weights[node] = weights.get(node, 0.0) + weight * times
    return tuple(sorted(weights.items()))


def _add_stage(
    rows: _Rows,
    stage: StageLike,
    *,
    index: int,
    graphs: dict[Phase, WorkloadGraph],
    steps: _Steps,
) -> None:
    by_phase = {
        phase: {operator.name: operator for operator in graph.operators}
        for phase, graph in graphs.items()
    }
    riders = _riders(by_phase)
    for placement in stage.placements:
        share = DeviceShare(cut=placement.cut, ways=placement.ways)
        for phase, operators in by_phase.items():
            names = [placement.operator] if placement.operator in operators else []
            names += riders.get(placement.operator, ()) if phase is Phase.DECODE else ()
            for name in names:
                operator = operators[name]
                cut = placement.cut if name == placement.operator else operator.split
                own = share if cut is share.cut else DeviceShare(cut=cut, ways=placement.ways)
                _add_operator(
                    rows, operator, own, _Run(phase, index, stage.copies, placement.repeat), steps
                )


def _riders(
    by_phase: dict[Phase, dict[str, Operator]],
) -> dict[str, list[str]]:
    """Return operators that only decode has, by the one in front of them that a plan places.

    They convert between the formats of the absorbed form of latent attention, and run where what
    they convert is made.
    """
    found: dict[str, list[str]] = {}
    placed = by_phase[Phase.PREFILL]
    before = ""
    for name in by_phase.get(Phase.DECODE, {}):
        if name in placed:
            before = name
        else:
            found.setdefault(before, []).append(name)
    return found


@dataclass(frozen=True, slots=True)
class _Run:
    """Where and how often a row runs."""

    phase: Phase
    stage: int
    copies: int
    repeat: int


def _add_operator(
    rows: _Rows, operator: Operator, share: DeviceShare, run: _Run, steps: _Steps
) -> None:
    """Append the row of one operator and phase, or those of its contexts."""
    times = float(run.copies * run.repeat)
    is_prefill = run.phase is Phase.PREFILL
    common = {
        "names": operator.name,
        "phases": run.phase,
        "stage": run.stage,
        "executions": times if is_prefill else times * steps.lengths.steps,
    }
    if isinstance(operator, Gemm):
        values = gemm_row(operator, share)
        values["layers"] = run.repeat
        values["streams_weights"] = is_prefill and not operator.tied
        rows.add(operator, common | values)
    elif isinstance(operator, Attention) and not is_prefill:
        for context, weight in steps.of(operator):
            values = attention_row(operator, share, context=context)
            rows.add(operator, common | values | {"executions": times * weight})
    elif isinstance(operator, Attention):
        values = attention_row(operator, share, context=operator.context)
        rows.add(operator, common | values)
    elif not isinstance(operator, Collective):
        rows.add(operator, common | vector_row(operator, share))


def _add_collectives(
    rows: _Rows, stage: StageLike, *, index: int, graphs: dict[Phase, WorkloadGraph], steps: int
) -> None:
    """Append rows for communication: `values` of a plan's collectives are those of one token.

    A collective is named for the operator in front of it, which says how many tokens there are.
    """
    tokens_of = {
        phase: {op.name: op.rows for op in graph.operators if isinstance(op, Gemm)}
        for phase, graph in graphs.items()
    }
    for collective in (*stage.collectives, *stage.sends):
        one_token = collective.values * number_format(collective.format).bytes
        source = collective.name.rpartition(".")[0]
        for phase, rows_of in tokens_of.items():
            if phase is Phase.DECODE and source in tokens_of[Phase.PREFILL].keys() - rows_of.keys():
                continue  # an encoder's: it runs in prefill only
            tokens = rows_of.get(source, graphs[phase].tokens)
            values = {
                "names": collective.name,
                "phases": phase,
                "stage": index,
                "executions": stage.copies
                * collective.repeat
                * (1 if phase is Phase.PREFILL else steps),
                "functions": collective.function,
                "bytes": one_token * (tokens if collective.per_token else 1),
                "degree": collective.degree,
            }
            rows.add(collective, values)


@dataclass(frozen=True, slots=True)
class _Store:
    weight_bytes: float = 0.0
    kv_bytes_per_token: float = 0.0
    kv_bytes_per_query: float = 0.0
    activation_bytes_per_token: float = 0.0


def _stored(
    stage: StageLike, prefill: WorkloadGraph, *, lengths: Lengths, precisions: Precisions
) -> _Store:
    """Return what one device of one copy of `stage` must hold."""
    operators = {operator.name: operator for operator in prefill.operators}
    other_bytes = precisions.of("hidden").bytes
    weights = kv_token = kv_query = live = 0.0
    tied_table = tied_head = 0.0
    for placement in stage.placements:
        operator = operators[placement.operator]
        share = DeviceShare(cut=placement.cut, ways=placement.ways)
        weights += placement.repeat * share.weight_bytes(operator, other_bytes=other_bytes)
        live = max(live, share.live_bytes(operator))
        if isinstance(operator, Attention):
            one = placement.repeat * share.kv_bytes_per_token(operator)
            if operator.cross:
                kv_query += one * (operator.context + KV_BLOCK_TOKENS / 2)
                continue
            limit = operator.chunk if operator.window is None else operator.window
            kept = lengths.held if limit is None else min(lengths.held, limit)
            kv_token += one
            kv_query += one * (kept + KV_BLOCK_TOKENS / 2)
        elif isinstance(operator, Gemm) and operator.name == "lm_head":
            tied_head = share.weights(operator)
        elif isinstance(operator, Gather) and operator.tied:
            tied_table = operator.table * share.values(operator)
    # A tied table is counted at the LM head. A stage that embeds without the head, or with a larger
    # part of the table than the head's, holds the rest of it too.
    weights += max(0.0, tied_table - tied_head) * precisions.of("lm_head").bytes
    return _Store(weights, kv_token, kv_query, live / prefill.tokens)


def _store_columns(stores: Sequence[_Store]) -> dict[str, Any]:
    """Return the storage figures as arrays of the shape (stages,)."""
    names = [entry.name for entry in fields(_Store)]
    return {name: np.array([getattr(store, name) for store in stores]) for name in names}


_TEXT = frozenset({"names", "phases", "a_formats", "b_formats", "out_formats", "query_formats",
                   "kv_formats", "functions", "kinds"})  # fmt: skip
_FLAGS = frozenset({"streams_weights", "causal", "fusable", "values_in_keys"})

T = TypeVar("T", bound=RowCommon)


def _table(table: type[T], rows: Sequence[dict[str, Any]], **scalars: str) -> T:
    """Return rows as a table of columns, with `scalars` that hold for all of them."""
    columns: dict[str, Any] = dict(scalars)
    for entry in fields(table):
        if entry.name in scalars:
            continue
        if entry.default is None and not all(entry.name in row for row in rows):
            continue  # a column that may be unknown, and is
        values = [row[entry.name] for row in rows]
        if entry.name in _TEXT:
            columns[entry.name] = tuple(values)
        elif entry.name in _FLAGS:
            columns[entry.name] = np.array(values, dtype=np.bool_)
        else:
            dtype = np.int64 if entry.name == "stage" else np.float64
            columns[entry.name] = np.array(values, dtype=dtype)
    return table(**columns)
