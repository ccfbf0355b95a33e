"""From a scenario to a plan and its operator table: done once, whatever the number of designs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pentarch.contracts.partitioner import PartitionRequest, PlanCost
from pentarch.evaluate.batches import describe
from pentarch.evaluate.scenario import Scenario, default_precisions, describe_template
from pentarch.evaluate.table_rows import select_rows
from pentarch.graph.build import build_graph
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Attention, Gemm, Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.system import System, on_boards
from pentarch.mapping.costs import RowMemo
from pentarch.plan.plan import Plan
from pentarch.workload.query import Precisions


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scenario with plan and operator table."""

    scenario: Scenario
    """What was prepared."""
    precisions: Precisions
    """Number formats, defaults resolved."""
    plan: Plan
    """Who runs what."""
    tables: tuple[OperatorTable, ...]
    """Operator rows of each stage."""
    useful: tuple[Mapping[str, float], ...]
    """Share of its multiply-accumulates that is useful, by operator, of each stage."""
    notes: tuple[str, ...]
    """What was replaced or left out."""
    memo: RowMemo = field(default_factory=RowMemo)
    """What follows from the rows of the tables alone."""

    @cached_property
    def machine(self) -> MachineTable:
        """The scenario's own device on its boards, one design."""
        return self.describe(1)

    @cached_property
    def system(self) -> System:
        """The system with the host figures of its devices where it states none of its own."""
        return self.scenario.with_system_costs()

    def describe(self, length: int, columns: Mapping[str, Floats] | None = None) -> MachineTable:
        """Return N designs that differ from the scenario's device in numbers only.

        Args:
            length: Number of designs, N.
            columns: Swept fields of the device, shape (N,) each.

        Raises:
            FieldError: A swept value is not allowed, or the back-end described an impossible machine.
        """
        scenario = self.scenario
        return on_boards(
            describe(scenario.backend, scenario.device, length, columns), scenario.system
        )


def prepare(scenario: Scenario) -> Prepared:
    """Partition and lower a scenario.

    Raises:
        InputError: The partitioner cannot cut the system, or the plan does not fit the graph.
    """
    scenario = replace(scenario, runtime=_own_runtime(scenario))
    machine = describe_template(scenario)
    precisions, notes = scenario.precisions, tuple[str, ...]()
    if precisions is None:
        precisions, notes = default_precisions(machine)
    query = scenario.query
    query.check()
    phases = [Phase.PREFILL] + ([Phase.DECODE] if query.decode_steps else [])
    graphs = tuple(
        build_graph(scenario.workload, phase=phase, query=query, precisions=precisions)
        for phase in phases
    )
    request = PartitionRequest(
        workload=scenario.workload, graphs=graphs, query=query, precisions=precisions,
        system=scenario.system, backend=scenario.backend.name, machine=machine,
        coster=PlanCoster(scenario, precisions), degree=scenario.degree,
    )  # fmt: skip
    plan = scenario.partitioner.partition(request)
    tables = lower_stages(scenario, precisions, plan)
    return Prepared(
        scenario=scenario, precisions=precisions, plan=plan, tables=tables,
        useful=useful_shares(graphs[0], plan, tables),
        notes=notes + plan.notes + _length_note(scenario) + _draft_note(scenario),
    )  # fmt: skip


def _own_runtime(scenario: Scenario) -> Runtime:
    """Return the stack with the kernels that it has for the device's family only."""
    field = scenario.backend.family_field
    family = None if field is None else getattr(scenario.device, field)
    return scenario.runtime.for_family(family)


def lower_stages(
    scenario: Scenario, precisions: Precisions, plan: Plan
) -> tuple[OperatorTable, ...]:
    """Return the operator table of each stage of a plan."""
    table = lower(
        scenario.workload, query=scenario.query, precisions=precisions, plan=plan,
        draft=scenario.draft,
    )  # fmt: skip
    if len(plan.stages) == 1:
        return (table,)
    return tuple(_stage_rows(table, index) for index in range(len(plan.stages)))


def _stage_rows(table: OperatorTable, stage: int) -> OperatorTable:
    changes: dict[str, Any] = {}
    for name in ("gemm", "attention", "vector", "collective"):
        rows = getattr(table, name)
        changes[name] = select_rows(rows, np.flatnonzero(rows.stage == stage))
    for name in (
        "weight_bytes",
        "kv_bytes_per_token",
        "kv_bytes_per_query",
        "activation_bytes_per_token",
    ):
        changes[name] = getattr(table, name)[stage : stage + 1]
    return replace(table, **changes)


def useful_shares(
    graph: WorkloadGraph, plan: Plan, tables: tuple[OperatorTable, ...]
) -> tuple[Mapping[str, float], ...]:
    """Return what share of the work of a stage's devices is useful, by operator.

    Work that devices of a stage repeat (operators that are not cut, replicated key-value heads) and
    the rest of parts that do not come out even are executed, but useful once only (definitions.md, Useful FLOPs).
    """
    whole: dict[str, float] = {}
    for operator in graph.operators:
        if isinstance(operator, Gemm):
            whole[operator.name] = float(
                operator.k * operator.n * max(operator.experts_per_token, 1)
            )
        elif isinstance(operator, Attention):
            whole[operator.name] = float(operator.heads)
    found = []
    for stage, table in zip(plan.stages, tables, strict=True):
        own = {**_gemm_parts(table.gemm), **_attention_parts(table.attention)}
        found.append(
            {
                name: whole[name] / (part * stage.devices)
                for name, part in own.items()
                if name in whole  # drafts are never useful: their rows say so
            }
        )
    return tuple(found)


def _gemm_parts(rows: GemmTable) -> dict[str, float]:
    visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
    return dict(zip(rows.names, (rows.k * rows.n * visits).tolist(), strict=True))


def _attention_parts(rows: AttentionTable) -> dict[str, float]:
    return dict(zip(rows.names, rows.heads.tolist(), strict=True))


def _length_note(scenario: Scenario) -> tuple[str, ...]:
    """Return a note where the query is longer than the workload's table of positions.

    Behind an encoder the positions are the decoder's, which makes its tokens from one on; what the
    encoder reads is held against its own table, if it has one. A front end sets its own length.
    """
    workload, query = scenario.workload, scenario.query
    made, read = query.last_context, 0
    if workload.encoder is not None:
        made = query.output_tokens
        read = 0 if workload.encoder.frontend is not None else query.prompt_tokens
    elif not workload.generates:
        made = 0 if workload.frontend is not None else query.prompt_tokens
    found = [("", made, workload.positions)]
    if workload.encoder is not None and workload.encoder.table_rows:
        found.append(("encoder of ", read, workload.encoder.table_rows))
    return tuple(
        f"{part}{workload.name} was made for {positions} positions; the query has {length}"
        for part, length, positions in found
        if length > positions
    )


def _draft_note(scenario: Scenario) -> tuple[str, ...]:
    query = scenario.query
    if not query.draft_tokens or query.draft is not None or query.draft_share:
        return ()
    return (
        "drafts cost nothing, as if they were looked up in the text; name a draft model (draft) or a "
        "share of a step (draft_share) if they do",
    )


class PlanCoster:
    """Tells a partitioner what a plan costs on the scenario's own device.

    Args:
        scenario: What is partitioned.
        precisions: Number formats, defaults resolved.
    """

    def __init__(self, scenario: Scenario, precisions: Precisions) -> None:
        self._scenario = scenario
        self._precisions = precisions

    def cost(self, plan: Plan) -> PlanCost:
        """Return the cost of `plan` for one design."""
        from pentarch.evaluate.designs import plan_cost

        tables = lower_stages(self._scenario, self._precisions, plan)
        return plan_cost(
            Prepared(
                scenario=self._scenario,
                precisions=self._precisions,
                plan=plan,
                tables=tables,
                useful=tuple({} for _ in tables),
                notes=(),
            )
        )
