"""From a scenario to a plan and its operator table: done once, whatever the number of designs."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pentarch.contracts.partitioner import PartitionRequest, PlanCost
from pentarch.errors import InputError
from pentarch.evaluate.scenario import Scenario, default_precisions, describe_template
from pentarch.graph.build import build_graph
from pentarch.graph.lowering import lower
from pentarch.graph.operators import Phase
from pentarch.graph.table import OperatorTable, RowCommon
from pentarch.plan.plan import Plan
from pentarch.workload.query import Precisions


@dataclass(frozen=True, slots=True, eq=False)
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
    notes: tuple[str, ...]
    """What was replaced or left out."""


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
        build_graph(scenario.workload, phase=phase, query=query, precisions=precisions) for phase in phases
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
        notes=notes + plan.notes + _length_note(scenario),
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
    changes: dict[str, Any] = {
        name: _pick(getattr(table, name), stage) for name in ("gemm", "attention", "vector", "collective")
    }
    for name in ("weight_bytes", "kv_bytes_per_token", "kv_bytes_per_query", "activation_bytes_per_token"):
        changes[name] = getattr(table, name)[stage : stage + 1]
    return replace(table, **changes)


def _pick(rows: RowCommon, stage: int) -> RowCommon:
    """Return the rows of one stage; every column has one entry per row."""
    kept = np.flatnonzero(rows.stage == stage)
    changes: dict[str, Any] = {}
    for column in fields(rows):
        values = getattr(rows, column.name)
        if isinstance(values, np.ndarray):
            changes[column.name] = values[kept]
        elif isinstance(values, tuple):
            changes[column.name] = tuple(values[index] for index in kept)
    return replace(rows, **changes)


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
                scenario=self._scenario, precisions=self._precisions, plan=plan, tables=tables, notes=()
            )
        )
