"""From a scenario to a plan and its operator table: done once, whatever the number of designs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from pentarch.contracts.partitioner import PartitionRequest, PlanCost
from pentarch.errors import InputError
from pentarch.evaluate.batches import describe
from pentarch.evaluate.scenario import Scenario, default_precisions, describe_template
from pentarch.evaluate.stage_costs import select_rows
from pentarch.graph.build import build_graph
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Attention, Gemm, Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.system import on_boards
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
    machine = describe_template(scenario)
    precisions, notes = scenario.precisions, tuple[str, ...]()
    if precisions is None:
        precisions, notes = default_precisions(machine)
    query = scenario.query
    _check_query(scenario)
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
        useful=useful_shares(graphs[0], plan, tables), notes=notes + plan.notes + _length_note(scenario),
    )  # fmt: skip


def lower_stages(
    scenario: Scenario, precisions: Precisions, plan: Plan
) -> tuple[OperatorTable, ...]:
    """Return the operator table of each stage of a plan."""
    table = lower(scenario.workload, query=scenario.query, precisions=precisions, plan=plan)
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
        found.append({name: whole[name] / (part * stage.devices) for name, part in own.items()})
    return tuple(found)


def _gemm_parts(rows: GemmTable) -> dict[str, float]:
    visits = np.where(rows.experts == 0, 1.0, rows.experts_per_token)
    return dict(zip(rows.names, (rows.k * rows.n * visits).tolist(), strict=True))


def _attention_parts(rows: AttentionTable) -> dict[str, float]:
    return dict(zip(rows.names, rows.heads.tolist(), strict=True))


def _check_query(scenario: Scenario) -> None:
    query = scenario.query
    if query.prefix_tokens >= query.prompt_tokens:
        raise InputError(
            f"prefix_tokens is {query.prefix_tokens}, the prompt has {query.prompt_tokens} tokens. Prefill "
            "needs at least one token that is not cached: choose fewer prefix tokens."
        )


def _length_note(scenario: Scenario) -> tuple[str, ...]:
    positions = scenario.workload.positions
    if scenario.query.last_context > positions:
        return (
            f"{scenario.workload.name} was made for {positions} positions; the query has "
            f"{scenario.query.last_context}",
        )
    return ()


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
