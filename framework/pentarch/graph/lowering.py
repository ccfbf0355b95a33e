"""From a planned workload to its operator table (`pentarch.graph.table`); no loops over tokens.

A decode step's attention grows with the context; between the kinks where a sliding window fills up
it is linear in it. `context_nodes` places rows on the ends of each linear segment with weights that
make the weighted sum over rows equal the sum over all steps, exactly. All other operators cost the
same in each step and get one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np

from pentarch.errors import FieldError, UnknownNameError
from pentarch.graph.flops import KV_BLOCK_TOKENS, prefill_flops, query_flops
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.lengths import Lengths, lengths_of
from pentarch.graph.operators import (
    Attention,
    Collective,
    Gather,
    Gemm,
    Operator,
    Phase,
    Split,
    Vector,
)
from pentarch.graph.passes import (
    Passes,
    decode_passes,
    draft_passes,
    draft_prefill,
    longest,
    prefill_passes,
)
from pentarch.graph.passes import context_nodes as context_nodes
from pentarch.graph.planned import PlanLike, StageLike
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


def lower(
    workload: Workload, *, query: Query, precisions: Precisions, plan: PlanLike,
    draft: Workload | None = None,
) -> OperatorTable:  # fmt: skip
    """Return the operator table of a planned workload and query.

    Args:
        workload: The transformer.
        query: Lengths; the load multiplies rows when they are costed.
        precisions: Number formats by role.
        plan: Stages whose placements name operators of the folded graph.
        draft: Model that makes the drafts, where the query names one. Each device of the first
            stage holds it whole and runs it.

    Returns:
        Rows as one device of each stage runs them. `executions` counts all copies of a stage,
        `layers` and the storage figures one of them. Prefill rows count the storage of weights.

    Raises:
        FieldError: The plan is another workload's, or runs an operator too often or not at all, or
            cuts one in a way that its kind does not have.
        UnknownNameError: The plan names an operator that the graph does not have.
    """
    lengths = lengths_of(workload, query)
    prefill = prefill_passes(workload, query=query, precisions=precisions)
    decode = decode_passes(workload, query=query, precisions=precisions)
    placed = prefill[-1].graph
    _check_plan(plan, placed)
    drafts = _Drafts.of(workload, draft, query=query, precisions=precisions)
    rows = _Rows(skew=query.routing_skew)
    stores = []
    known = tuple(_Known.of(passes, placed) for passes in (*prefill, *decode, *drafts.shared))
    for index, stage in enumerate(plan.stages):
        _add_stage(rows, stage, index=index, known=known)
        _add_collectives(rows, stage, index=index, known=known)
        stores.append(_stored(stage, placed, lengths=lengths, precisions=precisions))
    if drafts.prefill:
        stores[0] = stores[0].beside(
            _add_draft(rows, drafts, lengths=lengths, precisions=precisions)
        )
    is_plain = query.kv_cache and not query.draft_tokens
    return OperatorTable(
        workload=workload.name,
        **_row_tables(rows, precisions),
        prompt_tokens=query.prompt_tokens,
        output_tokens=query.output_tokens,
        useful_flops=float(query_flops(workload, query)),
        useful_flops_prefill=float(prefill_flops(workload, query)),
        devices=plan.devices,
        cached_tokens=query.prefix_tokens,
        chunks=sum(passes.times for passes in prefill),
        steps=None if is_plain else float(sum(passes.times for passes in decode)),
        chunk_tokens=None if query.chunk_tokens is None else longest(prefill),
        step_tokens=longest(decode),
        **_store_columns(stores),
    )


def _row_tables(rows: "_Rows", precisions: Precisions) -> dict[str, Any]:
    """Return the tables of all kinds of rows by field."""
    sums = precisions.accumulation
    return {
        "gemm": _table(
            GemmTable, rows.gemm, accumulator_format=sums, spill_format=precisions.spill
        ),
        "attention": _table(AttentionTable, rows.attention, accumulator_format=sums),
        "vector": _table(VectorTable, rows.vector),
        "collective": _table(CollectiveTable, rows.collective),
    }


@dataclass(frozen=True, slots=True)
class _Drafts:
    """What makes drafts: a share of the model's own steps, or a model beside it."""

    shared: tuple[Passes, ...] = ()
    prefill: tuple[Passes, ...] = ()
    decode: tuple[Passes, ...] = ()

    @classmethod
    def of(
        cls, workload: Workload, draft: Workload | None, *, query: Query, precisions: Precisions
    ) -> "_Drafts":
        if not query.draft_tokens or not query.decode_steps:
            return cls()
        if draft is not None:
            return cls(
                prefill=draft_prefill(draft, query=query, precisions=precisions),
                decode=draft_passes(draft, query=query, precisions=precisions),
            )
        if not query.draft_share:
            return cls()
        return cls(
            shared=draft_passes(
                workload, query=query, precisions=precisions, share=query.draft_share
            )
        )


@dataclass(frozen=True, slots=True)
class _DraftPlacement:
    """An operator of the draft model: every device of the first stage runs all of it."""

    operator: str
    repeat: int
    cut: Split = Split.NONE
    ways: int = 1


@dataclass(frozen=True, slots=True)
class _DraftStage:
    placements: tuple[_DraftPlacement, ...]
    copies: int = 1
    collectives: tuple[Collective, ...] = ()
    sends: tuple[Collective, ...] = ()


def _add_draft(
    rows: "_Rows", drafts: _Drafts, *, lengths: Lengths, precisions: Precisions
) -> "_Store":
    """Append the rows of a draft model to the first stage, and return what it stores there."""
    placed = drafts.prefill[-1].graph
    stage = _DraftStage(tuple(_DraftPlacement(op.name, op.repeat) for op in placed.operators))
    known = tuple(_Known.of(passes, placed) for passes in (*drafts.prefill, *drafts.decode))
    _add_stage(rows, stage, index=0, known=known)
    return _stored(stage, placed, lengths=lengths, precisions=precisions)


@dataclass(frozen=True, slots=True)
class _Rows:
    skew: float = 0.0
    gemm: list[dict[str, Any]] = field(default_factory=list)
    attention: list[dict[str, Any]] = field(default_factory=list)
    vector: list[dict[str, Any]] = field(default_factory=list)
    collective: list[dict[str, Any]] = field(default_factory=list)
    stored: set[tuple[int, str]] = field(default_factory=set)

    def stores(self, stage: int, name: str) -> bool:
        """Return whether a row is the first of its weight, which counts as stored there."""
        is_first = (stage, name) not in self.stored
        self.stored.add((stage, name))
        return is_first

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
class _Known:
    """Passes, with what placing their operators asks for again and again."""

    passes: Passes
    operators: dict[str, Operator]
    """By name."""
    riders: dict[str, list[str]]
    """Operators that no plan places, by the one in front of them."""
    heads: frozenset[str]
    """Operators behind the last layer."""
    missing: frozenset[str]
    """Operators that plans place and these passes do not run: an encoder's, in decode."""
    activations: dict[str, str]
    """Function between the two products of experts, by the name of either."""

    @classmethod
    def of(cls, passes: Passes, placed: WorkloadGraph) -> "_Known":
        """Return what is known of `passes`; `placed` is the graph whose operators plans name."""
        operators = {operator.name: operator for operator in passes.graph.operators}
        return cls(
            passes=passes, operators=operators, riders=_riders(placed, passes.graph),
            heads=_head_names(passes.graph),
            missing=frozenset(op.name for op in placed.operators if op.name not in operators),
            activations=_activations(passes.graph),
        )  # fmt: skip

    def times(self, name: str) -> float:
        """Return how often one query runs an operator or what follows it."""
        return self.passes.heads if name in self.heads else self.passes.times


def _add_stage(rows: _Rows, stage: StageLike, *, index: int, known: Sequence[_Known]) -> None:
    """Append the rows of a stage."""
    for placement in stage.placements:
        share = DeviceShare(cut=placement.cut, ways=placement.ways)
        for one in known:
            names = [placement.operator] if placement.operator in one.operators else []
            for name in names + one.riders.get(placement.operator, []):
                operator = one.operators[name]
                cut = placement.cut if name == placement.operator else operator.split
                own = share if cut is share.cut else DeviceShare(cut=cut, ways=placement.ways)
                times = one.times(name)
                if times:
                    activation = one.activations.get(name, "")
                    run = _Run(one.passes, index, stage.copies, placement.repeat, times, activation)
                    _add_operator(rows, operator, own, run)


def _riders(placed: WorkloadGraph, graph: WorkloadGraph) -> dict[str, list[str]]:
    """Return operators that only decode has, by the one in front of them that a plan places.

    They convert between the formats of the absorbed form of latent attention, and run where what
    they convert is made.
    """
    found: dict[str, list[str]] = {}
    if graph is placed:
        return found
    names = {operator.name for operator in placed.operators}
    before = ""
    for operator in graph.operators:
        if operator.name in names:
            before = operator.name
        else:
            found.setdefault(before, []).append(operator.name)
    return found


def _activations(graph: WorkloadGraph) -> dict[str, str]:
    """Return the function between the two products of experts, by the name of either."""
    found: dict[str, str] = {}
    before: list[str] = []
    function = ""
    for operator in graph.operators:
        if isinstance(operator, Gemm) and operator.experts:
            before.append(operator.name)
            if function:
                found |= dict.fromkeys(before, function)
                before, function = [], ""
        elif isinstance(operator, Vector) and before and operator.function != "quantize":
            function = function or operator.function
    return found


def _head_names(graph: WorkloadGraph) -> frozenset[str]:
    """Return the operators behind the last layer."""
    found = []
    for operator in reversed(graph.operators):
        if operator.layer:
            break
        found.append(operator.name)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class _Run:
    """Where and how often a row runs."""

    passes: Passes
    stage: int
    copies: int
    repeat: int
    times: float
    activation: str
    """Function between the two products of experts that an operator is one of, else empty."""


def _add_operator(rows: _Rows, operator: Operator, share: DeviceShare, run: _Run) -> None:
    """Append the row of one operator and kind of pass, or those of its contexts."""
    passes = run.passes
    copies = float(run.copies * run.repeat)
    name = passes.prefix + operator.name
    common: dict[str, Any] = {
        "names": name,
        "phases": passes.phase,
        "stage": run.stage,
        "executions": copies * run.times,
    }
    if isinstance(operator, Gemm):
        values = gemm_row(operator, share)
        values["layers"] = run.repeat
        is_stored = passes.phase is Phase.PREFILL and not operator.tied
        values["streams_weights"] = is_stored and rows.stores(run.stage, name)
        values["useful"] = passes.useful_of_gemm(operator)
        values["routing_skew"] = rows.skew if operator.experts else 0.0
        values["expert_devices"] = share.ways if share.cut is Split.EXPERTS else 1
        values["activations"] = run.activation
        rows.add(operator, common | values)
    elif isinstance(operator, Attention):
        for context, weight in passes.contexts(operator):
            values = attention_row(operator, share, context=context)
            values["useful"] = passes.useful_of_attention(operator, context)
            rows.add(operator, common | values | {"executions": copies * weight})
    elif not isinstance(operator, Collective):
        rows.add(operator, common | vector_row(operator, share))


def _add_collectives(rows: _Rows, stage: StageLike, *, index: int, known: Sequence[_Known]) -> None:
    """Append rows for communication: `values` of a plan's collectives are those of one token.

    A collective is named for the operator in front of it, which says how many tokens there are.
    """
    for collective in (*stage.collectives, *stage.sends):
        source = collective.name.rpartition(".")[0]
        one_token = collective.values * number_format(collective.format).bytes
        for one in known:
            times = one.times(source)
            if source in one.missing or not times:
                continue
            tokens = _tokens(collective, one.operators.get(source), one.passes.graph)
            values = {
                "names": one.passes.prefix + collective.name,
                "phases": one.passes.phase,
                "stage": index,
                "executions": stage.copies * collective.repeat * times,
                "functions": collective.function,
                "bytes": one_token * tokens,
                "degree": collective.degree,
            }
            rows.add(collective, values)


def _tokens(collective: Collective, source: Operator | None, graph: WorkloadGraph) -> int:
    """Return the tokens per sequence whose values a collective moves."""
    if not collective.per_token:
        return source.rows if isinstance(source, Gemm) and not source.layer else 1
    if isinstance(source, Gemm):
        return source.rows
    if isinstance(source, Gather) and collective.function == "all_gather":
        return max(1, round(source.values_out / collective.values))
    return graph.tokens


@dataclass(frozen=True, slots=True)
class _Store:
    weight_bytes: float = 0.0
    kv_bytes_per_token: float = 0.0
    kv_bytes_per_query: float = 0.0
    activation_bytes_per_token: float = 0.0

    def beside(self, other: "_Store") -> "_Store":
        """Return what both need; of activations, which live one after the other, the larger."""
        return _Store(
            self.weight_bytes + other.weight_bytes,
            self.kv_bytes_per_token + other.kv_bytes_per_token,
            self.kv_bytes_per_query + other.kv_bytes_per_query,
            max(self.activation_bytes_per_token, other.activation_bytes_per_token),
        )


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
            one = placement.repeat * share.kv_bytes_per_token(operator, precisions.kv)
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
                   "kv_formats", "functions", "kinds", "activations"})  # fmt: skip
_FLAGS = frozenset({"streams_weights", "causal", "fusable", "values_in_keys"})

_DEFAULTS = {"useful": 1.0, "routing_skew": 0.0, "expert_devices": 1, "activations": ""}
"""What columns that may be left out then mean."""

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
        if values and values.count(_DEFAULTS.get(entry.name)) == len(values):
            continue  # what a table without the column says too
        if entry.name in _TEXT:
            columns[entry.name] = tuple(values)
        elif entry.name in _FLAGS:
            columns[entry.name] = np.array(values, dtype=np.bool_)
        else:
            dtype = np.int64 if entry.name == "stage" else np.float64
            columns[entry.name] = np.array(values, dtype=dtype)
    return table(**columns)
