"""N designs of one prepared scenario: from device columns to figures."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache

import numpy as np

from pentarch.contracts.partitioner import PlanCost
from pentarch.evaluate.figures import Deployment, Figures, figures
from pentarch.evaluate.memory import memory_use
from pentarch.evaluate.prepare import Prepared
from pentarch.evaluate.residency import Holding, choose_residency
from pentarch.evaluate.settling import settle
from pentarch.evaluate.stage_costs import StageInput, cost_stage
from pentarch.evaluate.stage_result import StageResult, run_stage
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.mapping.gemm import FrontStore

MANY_DESIGNS = 256
"""From so many designs a batch makes arrays that an allocator takes from the system one by one."""

LARGE_BLOCK_BYTES = 16 << 20
"""More than the arrays of a batch and what is free between two batches; never touched."""


@cache
def keep_freed_memory() -> None:
    """Have the allocator keep what batches free, so that the next finds it mapped.

    The GNU C library gives large blocks back to the system at once, which maps and clears each page
    again for the next batch. It raises its limit to the largest block that was
    ever freed. Elsewhere this does nothing.
    """
    np.empty(LARGE_BLOCK_BYTES, dtype=np.uint8)


def run_designs(
    prepared: Prepared,
    *,
    length: int,
    columns: Mapping[str, Floats] | None = None,
    concurrency: Floats | None = None,
    store: FrontStore | None = None,
) -> Figures:
    """Return the figures of N designs that differ in numbers only.

    Args:
        prepared: Plan and operator table.
        length: Number of designs, N.
        columns: Swept fields of the device, shape (N,) each.
        concurrency: Queries in flight, shape (N,); by default the query's.
        store: Mappings found before.

    Raises:
        FieldError: A swept value is not allowed, or the back-end described an impossible machine.
        CostError: A cost is NaN or infinite.
    """
    if length >= MANY_DESIGNS:
        keep_freed_memory()
    scenario = prepared.scenario
    is_template = length == 1 and not columns
    machine = prepared.machine if is_template else prepared.describe(length, columns)
    load = (
        concurrency
        if concurrency is not None
        else np.full(length, float(scenario.query.concurrency))
    )
    replicas = float(prepared.plan.degrees.data)
    own = np.maximum(load / replicas, 1.0)
    in_sequence = float(sum(stage.copies for stage in prepared.plan.stages))
    micro = own / np.minimum(own, in_sequence)
    stages = tuple(
        _run_stage(prepared, index, machine=machine, own=own, micro=micro, store=store)
        for index in range(len(prepared.plan.stages))
    )
    return figures(
        stages,
        Deployment(
            system=prepared.system, economics=scenario.economics, concurrency=load,
            own=own, replicas=replicas, devices=float(prepared.plan.devices),
        ),
    )  # fmt: skip


def _run_stage(
    prepared: Prepared, index: int, *, machine: MachineTable, own: Floats, micro: Floats,
    store: FrontStore | None,
) -> StageResult:  # fmt: skip
    scenario, stage, table = prepared.scenario, prepared.plan.stages[index], prepared.tables[index]
    memory = memory_use(table, machine, scenario.runtime, own, batch=micro)
    holding = Holding(memory.weights, memory.kv, micro, float(stage.copies))
    kept = choose_residency(table, machine, holding, scenario.runtime, prepared.memo)
    given = StageInput(
        table=table, machine=machine, backend=scenario.backend, runtime=scenario.runtime,
        concurrency=micro, residency=kept, store=store,
        useful=prepared.useful[index], memo=prepared.memo,
    )  # fmt: skip
    costs = settle(cost_stage(given))
    memory = replace(memory, on_chip=costs.given.residency.bytes)
    return run_stage(
        costs, memory, devices=float(stage.devices), copies=float(stage.copies),
        is_first=index == 0,
    )  # fmt: skip


def plan_cost(prepared: Prepared) -> PlanCost:
    """Return what a partitioner wants to know of a plan, for the scenario's own device."""
    found = run_designs(prepared, length=1)
    steps = max(prepared.scenario.query.decode_steps, 1)
    collective = 0.0
    for stage in found.stages:
        for entry in stage.costs.kinds:
            if entry.kind is OperatorKind.COLLECTIVE:
                mask = entry.in_phase(Phase.DECODE)
                collective += float((entry.times.total_s[mask] * entry.weights[mask]).sum())
    tpot = found.values["tpot_s"]
    ttft = found.values["ttft_s"]
    return PlanCost(
        fits=bool(found.feasibility.fits[0]), reason=found.feasibility.reason(0) or "",
        ttft_s=float("nan") if ttft is None else float(ttft[0]),
        tpot_s=float("nan") if tpot is None else float(tpot[0]), collective_s=collective / steps,
    )  # fmt: skip
