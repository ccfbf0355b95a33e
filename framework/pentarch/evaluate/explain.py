"""One design in full: figures, verdicts, operators, and where the time went."""

import hashlib
import json
from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt

from pentarch._version import VERSION
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.ledger import loss_ledger
from pentarch.evaluate.prepare import Prepared
from pentarch.evaluate.scenario import Scenario
from pentarch.evaluate.stage_costs import KindCosts
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.results import (
    Evaluation,
    Inputs,
    MfuFigures,
    OperatingPoint,
    OperatorCost,
    WattsPerPflops,
)
from pentarch.targets import judge

LATENCY_NOTE = "query latency is the mean: the closed form gives no p95"


def evaluation_of(
    prepared: Prepared, figures: Figures, index: int, *, scenario: Scenario
) -> Evaluation:
    """Return design `index` in full.

    Args:
        prepared: Plan and operator table that the figures were computed on.
        figures: Figures of a batch.
        index: Which design of the batch.
        scenario: The scenario of this design, its own numbers included.
    """
    machine = figures.stages[0].costs.given.machine

    def value(name: str) -> float | None:
        column = figures.values.get(name)
        return None if column is None else float(column[index])

    operators = tuple(
        cost
        for stage in figures.stages
        for entry in stage.costs.kinds
        for cost in _operator_costs(entry, index)
    )
    table = prepared.tables[0]
    notes = (*prepared.notes, *(note for stage in figures.stages for note in stage.costs.notes))
    evaluation = Evaluation(
        workload=scenario.workload.name, system=scenario.system.name, backend=scenario.backend.name,
        partitioner=prepared.plan.partitioner, devices=prepared.plan.devices,
        operating_point=OperatingPoint(
            query=scenario.query, precisions=prepared.precisions, runtime=scenario.runtime.name,
            degrees=prepared.plan.degrees.model_dump(),
        ),
        feasible=bool(figures.feasibility.fits[index]), reason=figures.feasibility.reason(index),
        ttft_s=value("ttft_s"), tpot_s=value("tpot_s"), query_s=value("query_s"),
        throughput_tokens_per_s=value("throughput_tokens_per_s"), queries_per_s=value("queries_per_s"),
        useful_flops=table.useful_flops, delivered_flops_per_s=value("delivered_flops_per_s"),
        peak_flops_per_s=value("peak_flops_per_s"),
        mfu=MfuFigures(prefill=value("mfu.prefill"), decode=value("mfu.decode"), query=value("mfu.query")),
        mbu=value("mbu"), hfu=value("hfu"), mean_w=value("mean_w"), peak_w=value("peak_w"),
        full_load_w=value("full_load_w"),
        w_per_pflops=WattsPerPflops(
            delivered=value("w_per_pflops.delivered"), peak=value("w_per_pflops.peak")
        ),
        j_per_token=value("j_per_token"), query_j=value("query_j"),
        energy_j={name: _at(joules, index) for name, joules in figures.energy_j.items()},
        system_usd=value("system_usd"), bom_usd=value("bom_usd"), query_usd=value("query_usd"),
        price_parts_usd=_group(machine.cost.parts_usd, index),
        area_mm2={} if machine.area is None else _group(machine.area.parts_mm2, index),
        programmability=value("programmability"), update_s=value("update_s"),
        memory_bytes=_memory(figures, index), bottleneck=_bottleneck(operators),
        operators=operators, ledger=loss_ledger(figures, index),
        notes=tuple(dict.fromkeys((*notes, LATENCY_NOTE))),
        inputs=_inputs(scenario, prepared, machine, index),
    )  # fmt: skip
    return evaluation.model_copy(update={"targets": judge(evaluation, scenario.targets)})


def _at(column: Floats | None, index: int) -> float | None:
    return None if column is None else float(column[index])


def _group(group: dict[str, Floats] | None, index: int) -> dict[str, float]:
    return {} if group is None else {name: float(column[index]) for name, column in group.items()}


def _memory(figures: Figures, index: int) -> dict[str, float]:
    """Return the memory of the fullest stage's devices by use."""
    fullest = max(
        (stage.memory for stage in figures.stages),
        key=lambda use: float(use.total[index] / use.capacity[index]),
    )
    return {
        name: float(getattr(fullest, name)[index])
        for name in ("weights", "kv", "activations", "capacity")
    }


def _operator_costs(entry: KindCosts, index: int) -> list[OperatorCost]:
    """Return the operators of one kind; rows of one operator at several contexts are averaged."""
    rows: dict[tuple[str, str], list[int]] = {}
    for row, name in enumerate(entry.rows.names):
        rows.setdefault((name, str(entry.rows.phases[row])), []).append(row)
    return [
        _operator_cost(entry, np.array(members), index, name=name, phase=phase)
        for (name, phase), members in rows.items()
    ]


def _operator_cost(
    entry: KindCosts, rows: npt.NDArray[np.intp], index: int, *, name: str, phase: str
) -> OperatorCost:
    """Return one operator's cost, its rows weighted by how often a query executes them."""
    costs, times = entry.costs, entry.times
    weights = entry.weights[rows, 0]
    executions = float(weights.sum())

    def mean(values: Floats) -> float:
        return float((values[rows, index] * weights).sum() / executions)

    terms = {
        resource: mean(times.terms_s[position]) for position, resource in enumerate(times.resources)
    }
    terms["start"] = mean(costs.fixed_s)
    terms = {resource: seconds for resource, seconds in terms.items() if seconds > 0}
    ranked = sorted(terms, key=lambda resource: -terms[resource])
    energies = [None if joules is None else mean(joules) for joules in costs.energy_j.values()]
    known = [joules for joules in energies if joules is not None]
    time = mean(times.total_s)
    return OperatorCost(
        name=name, phase=phase, executions=executions, time_s=time, total_s=time * executions,
        bottleneck=ranked[0] if ranked else "nothing",
        next_bottleneck=ranked[1] if len(ranked) > 1 else None, terms_s=terms,
        read_bytes=_positive({level: mean(values) for level, values in costs.read_bytes.items()}),
        write_bytes=_positive({level: mean(values) for level, values in costs.write_bytes.items()}),
        energy_j=sum(known) if len(known) == len(energies) else None,
        executed_macs=mean(costs.executed_macs), fidelity=str(costs.fidelity),
    )  # fmt: skip


def _positive(group: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in group.items() if value > 0}


def _bottleneck(operators: tuple[OperatorCost, ...]) -> str | None:
    """Return the resource that is the bottleneck of the most time."""
    shares: dict[str, float] = defaultdict(float)
    for operator in operators:
        shares[operator.bottleneck] += operator.total_s
    return max(shares, key=lambda name: shares[name]) if shares else None


def _inputs(scenario: Scenario, prepared: Prepared, machine: MachineTable, index: int) -> Inputs:
    record = machine.record(index).model_dump(mode="json")
    record.pop("provenance")
    described = {
        "workload": scenario.workload.model_dump(mode="json"),
        "query": scenario.query.model_dump(mode="json"),
        "precisions": prepared.precisions.model_dump(mode="json"),
        "machine": record,
        "system": scenario.with_system_costs().model_dump(mode="json"),
        "runtime": scenario.runtime.model_dump(mode="json"),
        "plan": prepared.plan.model_dump(mode="json"),
        "economics": scenario.economics.model_dump(mode="json"),
        "version": VERSION,
    }
    text = json.dumps(described, sort_keys=True, default=sorted)
    grades = Counter(entry.grade for entry in machine.provenance.values())
    assumed = tuple(sorted(path for path, entry in machine.provenance.items() if entry.grade == "asm"))
    return Inputs(
        hash=hashlib.sha256(text.encode()).hexdigest()[:16], version=VERSION,
        grades=dict(sorted(grades.items())), figures=assumed,
    )  # fmt: skip
