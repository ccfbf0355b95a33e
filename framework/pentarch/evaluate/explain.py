"""One design in full: figures, verdicts, operators, and where the time went."""

import hashlib
import json
from collections import Counter, defaultdict
from functools import cache
from types import MappingProxyType

import numpy as np

from pentarch._version import VERSION
from pentarch.evaluate.cost_ledger import cost_ledger, unknown_costs
from pentarch.evaluate.design_rows import DesignRows, weight_column
from pentarch.evaluate.energy_ledger import energy_ledger, unknown_energies
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.ledger import loss_ledger
from pentarch.evaluate.operator_costs import START, operator_costs
from pentarch.evaluate.power import static_power
from pentarch.evaluate.prepare import Prepared
from pentarch.evaluate.roofs import device_roofs
from pentarch.evaluate.scenario import Scenario
from pentarch.evaluate.stage_costs import PHASES
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import Phase
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable, Provenance, provenance
from pentarch.hardware.technology import technology
from pentarch.results import (
    Evaluation,
    Inputs,
    MfuFigures,
    OperatingPoint,
    OperatorCost,
    WattsPerPflops,
)
from pentarch.targets import Economics, judge

TEXT = {"about", "sources"}
"""Fields that say something about an input and change no figure."""

LATENCY_NOTE = "query latency is the mean: the closed form gives no p95"


def evaluation_of(
    prepared: Prepared, figures: Figures, index: int, *, scenario: Scenario
) -> Evaluation:
    """Return design `index` in full; operators, ledgers, roofs and inputs when they are asked for.

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

    evaluation = Evaluation(
        workload=scenario.workload.name, system=scenario.system.name, backend=scenario.backend.name,
        partitioner=prepared.plan.partitioner, devices=prepared.plan.devices,
        operating_point=OperatingPoint(
            query=scenario.query, precisions=prepared.precisions, runtime=scenario.runtime.name,
            degrees=dict(prepared.plan.degrees),
        ),
        feasible=bool(figures.feasibility.fits[index]), reason=figures.feasibility.reason(index),
        ttft_s=value("ttft_s"), tpot_s=value("tpot_s"), query_s=value("query_s"),
        throughput_tokens_per_s=value("throughput_tokens_per_s"), queries_per_s=value("queries_per_s"),
        useful_flops=prepared.tables[0].useful_flops, delivered_flops_per_s=value("delivered_flops_per_s"),
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
        tco=_ownership(figures, index), price_parts_usd=_price_parts(figures, index),
        area_mm2={} if machine.area is None else _group(machine.area.parts_mm2, index),
        programmability=value("programmability"), update_s=value("update_s"),
        memory_bytes=_memory(figures, index), bottleneck=_bottleneck(figures, index),
        notes=_all_notes(prepared, figures),
        inputs=_no_inputs(),
    )  # fmt: skip
    # The digest of the inputs takes as long as all the figures, so it waits, too.
    ledger = cache(lambda: loss_ledger(figures, index))  # the energy ledger asks for it, too
    return evaluation.settle(
        # The verdicts are models already: there is nothing to validate again.
        {"targets": judge(evaluation, scenario.targets)},
        {
            "operators": lambda: _operators(figures, index),
            "ledger": ledger,
            "energy_ledger": lambda: energy_ledger(figures, index, ledger()),
            "cost_ledger": lambda: cost_ledger(figures, index),
            "roofs": lambda: device_roofs(figures.stages, index),
            "inputs": lambda: _inputs(scenario, prepared, machine, index),
        },
    )


def _all_notes(prepared: Prepared, figures: Figures) -> tuple[str, ...]:
    """Return what the reader should know, each once: of the plan, of the costs, of the figures."""
    costs = (note for stage in figures.stages for note in stage.costs.notes)
    return tuple(dict.fromkeys((*prepared.notes, *costs, *_notes(figures), LATENCY_NOTE)))


@cache
def _no_inputs() -> Inputs:
    """Return what stands for the inputs until they are asked for."""
    return Inputs(hash="", version=VERSION, grades={})


def _operators(figures: Figures, index: int) -> tuple[OperatorCost, ...]:
    """Return the operators of all stages."""
    return tuple(
        cost
        for stage in figures.stages
        for runs in [_runs(figures, stage, index)]
        for entry in stage.costs.kinds
        for cost in operator_costs(DesignRows(entry, stage.costs.given, index), runs=runs)
    )


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


def _runs(figures: Figures, stage: StageResult, index: int) -> dict[Phase, float]:
    """Return how often a stage runs each phase while all queries in flight are answered once."""
    own = float(figures.deployment.own[index])
    return {Phase.PREFILL: own, Phase.DECODE: own / float(stage.costs.given.concurrency[index])}


def _bottleneck(figures: Figures, index: int) -> str | None:
    """Return the resource that is the bottleneck of the most time.

    While one query of C is answered, C prefills and the decode steps of all micro-batches are run.
    A phase that a back-end costs as a whole has one bottleneck.
    """
    shares: dict[str, float] = defaultdict(float)
    for stage in figures.stages:
        runs = _runs(figures, stage, index)
        of_phase = np.array([runs[phase] for phase in PHASES])
        for phase, segment in stage.costs.segments.items():
            seconds = float(stage.costs.stack(phase).time()[index])
            shares[segment.bottleneck[index]] += seconds * runs[phase]
        for entry in stage.costs.kinds:
            names = ("nothing", *entry.times.resources, START)
            fixed = entry.costs.fixed_s
            # The first of equals wins: nothing, where all terms are zero.
            terms = np.array([np.zeros(fixed.shape), *entry.times.terms, fixed])[:, :, index]
            busy = entry.times.total_s[:, index] * weight_column(entry, index)
            busy *= of_phase[entry.phases]
            bins = terms.argmax(axis=0) + entry.phases * len(names)  # one per phase and resource
            sums = np.bincount(bins, weights=busy, minlength=2 * len(names)).tolist()
            for phase, own in zip(PHASES, (sums[: len(names)], sums[len(names) :]), strict=True):
                if phase in stage.costs.segments:
                    continue
                for name, seconds in zip(names, own, strict=True):
                    if seconds > 0:
                        shares[name] += seconds
    return max(shares, key=lambda name: shares[name]) if shares else None


def _price_parts(figures: Figures, index: int) -> dict[str, float]:
    """Return the bill of material of the system: all its devices, and the host as it is bought."""
    deployment = figures.deployment
    parts = _group(figures.stages[0].costs.given.machine.cost.parts_usd, index)
    devices = max(deployment.devices, float(deployment.system.devices))
    found = {name: usd * devices for name, usd in parts.items()}
    if found and deployment.system.host_usd is not None:
        found["host"] = deployment.system.host_usd
    return found


def _ownership(figures: Figures, index: int) -> dict[str, float]:
    """Return the parts of `query_usd`; none when it is unknown."""
    if figures.values["query_usd"] is None:
        return {}
    parts = {name: usd for name, usd in figures.values.items() if name.startswith("tco.")}
    return {
        name.removeprefix("tco."): float(usd[index])
        for name, usd in parts.items()
        if usd is not None
    }


def _notes(figures: Figures) -> list[str]:
    """Return what the reader should know about the system and its power."""
    deployment, notes = figures.deployment, []
    idle = deployment.system.devices - deployment.devices
    if idle > 0:
        notes.append(
            f"{idle:g} of {deployment.system.devices} devices have no part in the plan: their price "
            "counts, their power does not"
        )
    for stage in figures.stages:
        machine = stage.costs.given.machine
        known = (static_power(machine), stage.prefill.dynamic_j, stage.decode.dynamic_j)
        if machine.power.cap_w is not None and any(figure is None for figure in known):
            notes.append(
                f"the power cap of {machine.name} was not applied: not all its energies are known"
            )
    machine = figures.stages[0].costs.given.machine
    reasons = (unknown_energies(figures.energy_j, machine), unknown_costs(figures))
    return [*notes, *(reason for reason in reasons if reason is not None)]


ECONOMICS = MappingProxyType({
    "life_years": "tco.life_it", "utilization": "tco.utilization_service",
    "usd_per_kwh": "tco.electricity",
})  # fmt: skip
"""Figure of the technology library that each default of `Economics` is; others stand for the edge."""


def _economics(stated: Economics) -> dict[str, Provenance]:
    """Return the sources of the terms that nobody stated; what a user states is no source of ours."""
    library, defaults = technology(), Economics()
    return {
        f"economics.{field}": provenance(library.citation(path), str(library.figure(path).grade))
        for field, path in ECONOMICS.items()
        if getattr(stated, field) == getattr(defaults, field)
    }


def _inputs(scenario: Scenario, prepared: Prepared, machine: MachineTable, index: int) -> Inputs:
    # Python values, not JSON's: sets stay sets and are sorted, so that the digest does not depend on
    # the order in which this process happens to hold them.
    record = machine.record(index).model_dump(exclude={"provenance"})
    described = {
        "workload": scenario.workload.model_dump(exclude=TEXT),
        "query": scenario.query.model_dump(),
        "precisions": prepared.precisions.model_dump(),
        "machine": record,
        "system": scenario.with_system_costs().model_dump(exclude=TEXT),
        "runtime": scenario.runtime.model_dump(exclude=TEXT),
        "plan": prepared.plan.model_dump(),
        "economics": scenario.economics.model_dump(),
        "version": VERSION,
    }
    text = json.dumps(described, sort_keys=True, default=sorted)
    sources = dict(machine.provenance)
    for owner, given in (("runtime", scenario.runtime), ("system", scenario.system)):
        sources |= {f"{owner}.{field}": entry for field, entry in given.sources.items()}
    if machine.cost.price_usd is not None:  # without a price no query is paid for
        sources |= _economics(scenario.economics)
    grades = Counter(entry.grade for entry in sources.values())
    assumed = tuple(sorted(path for path, entry in sources.items() if entry.grade == "asm"))
    return Inputs(
        hash=hashlib.sha256(text.encode()).hexdigest()[:16], version=VERSION,
        grades=dict(sorted(grades.items())), figures=assumed,
    )  # fmt: skip
