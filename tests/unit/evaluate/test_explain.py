"""One design in full: what it says about operators, memory, bottleneck and inputs."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.unit.evaluate.paper import (
    FP8,
    Given,
    evaluate,
    one_stage,
    paper_scenario,
    paper_workload,
)
from tests.unit.evaluate.test_serving import pipeline

import pentarch
from pentarch.contracts.partitioner import PartitionRequest
from pentarch.errors import InputError
from pentarch.evaluate.api import evaluate as evaluate_planned
from pentarch.evaluate.api import partition
from pentarch.evaluate.designs import plan_cost
from pentarch.evaluate.prepare import PlanCoster, prepare
from pentarch.evaluate.scenario import default_precisions, describe_template
from pentarch.hardware.machine import Provenance
from pentarch.hardware.runtime import Runtime
from pentarch.plan.plan import Plan
from pentarch.results import Evaluation, VerdictKind
from pentarch.workload.query import Query


def test_operators_on_paper() -> None:
    found = evaluate(paper_scenario(bytes_per_s=500.0, concurrency=2))
    costs = {(cost.name, cost.phase): cost for cost in found.operators}
    qkv, head = costs["layer.qkv", "decode"], costs["lm_head", "prefill"]
    attention = costs["layer.attention", "decode"]

    # a step of two sequences: 2 x 192 MACs / 1000, 192 B / 500; twice
    assert (qkv.executions, qkv.time_s, qkv.total_s) == pytest.approx((2, 0.384, 0.768))
    assert qkv.terms_s == pytest.approx({"array": 0.384, "memory": 0.384})
    assert qkv.executed_macs == 384
    assert qkv.read_bytes == {"memory": 192.0}
    assert qkv.energy_j == pytest.approx(384 * 2 + 192 * 3)
    # 256 MACs / 1000 against 256 B / 500
    assert (head.bottleneck, head.next_bottleneck) == ("memory", "array")
    # contexts 5 and 6, averaged: 2 x 5.5 x 16 B / 500
    assert attention.time_s == pytest.approx(2 * 5.5 * 16 / 500)
    assert {cost.fidelity for cost in found.operators} == {"analytical"}


def test_operators_of_a_phase_fill_its_time() -> None:
    found = evaluate(paper_scenario(bytes_per_s=500.0, concurrency=3))
    prefill = sum(cost.total_s for cost in found.operators if cost.phase == "prefill")
    decode = sum(cost.total_s for cost in found.operators if cost.phase == "decode")

    assert found.query_s == pytest.approx(3 * prefill + decode)


def test_the_bottleneck_weighs_prefill_by_the_queries_in_flight() -> None:
    # At 900 B/s prefill computes 2.208 s and waits for the LM head (0.284 s); decode waits for memory:
    # (1536 + 176) B / 900 = 1.90 s. One query: computing, 2.208 against 2.187. Long answers: memory.
    assert evaluate(paper_scenario(bytes_per_s=900.0)).bottleneck == "array"
    assert evaluate(paper_scenario(bytes_per_s=900.0, output_tokens=9)).bottleneck == "memory"
    # At 450 B/s, two queries of two tokens: the decode step waits 768 / 450 + 2 x 80 / 450 = 2.06 s, the
    # LM head of each prefill 0.57 s; each prefill computes 2.208 s. 4.4 against 3.2: computing, though
    # one prefill alone would not outweigh the step.
    loaded = paper_scenario(bytes_per_s=450.0, concurrency=2, output_tokens=2)
    assert evaluate(loaded).bottleneck == "array"


def test_without_operators_that_take_time_there_is_a_start() -> None:
    found = evaluate(paper_scenario(start_s=1e3))
    assert found.bottleneck == "start"


def test_verdicts_stand_in_their_order_with_what_they_lack() -> None:
    found = evaluate(paper_scenario())

    assert [verdict.id for verdict in found.targets] == [
        "processing", "latency", "energy", "cost", "programmability",
    ]  # fmt: skip
    unknown = {v.id: v.reason for v in found.targets if v.verdict is VerdictKind.UNKNOWN}
    assert set(unknown) == {"cost", "programmability"}
    assert all("back-end paper" in str(reason) for reason in unknown.values())


def test_an_evaluation_survives_json() -> None:
    found = evaluate(paper_scenario(price_usd=5.0, devices=2))
    assert Evaluation.model_validate_json(found.model_dump_json()) == found


def digest(**changes: Any) -> str:
    return evaluate(paper_scenario(**changes)).inputs.hash


def test_the_digest_of_inputs_tells_inputs_apart() -> None:
    assert digest() == digest()
    different = [digest(), digest(concurrency=2), digest(bytes_per_s=999.0), digest(devices=2),
                 digest(runtime=Runtime(name="slow")), digest(precisions=FP8.replace(kv="bf16")),
                 digest(workload=paper_workload(layers=2)), digest(cap_w=99.0)]  # fmt: skip
    assert len(set(different)) == len(different)


def test_inputs_count_the_sources_of_runtime_and_system() -> None:
    assumed = Provenance(source="as others", grade="asm")
    published = Provenance(source="datasheet", grade="pub")
    scenario = paper_scenario()
    runtime = Runtime(name="slow", step_s=0.5, sources={"step_s": assumed})
    system = scenario.system.replace(sources={"host_w": published, "host_usd": assumed})
    found = evaluate(replace(scenario, runtime=runtime, system=system)).inputs

    assert evaluate(scenario).inputs.grades == {}
    assert found.grades == {"asm": 2, "pub": 1}
    assert found.figures == ("runtime.step_s", "system.host_usd")


def test_inputs_list_the_terms_of_ownership_that_nobody_stated() -> None:
    priced = paper_scenario(price_usd=5.0)
    stated = replace(priced, economics=priced.economics.replace(usd_per_kwh=0.2))

    assert evaluate(priced).inputs.figures == ("economics.usd_per_kwh", "economics.utilization")
    assert evaluate(priced).inputs.grades == {"asm": 2, "est": 1}
    assert evaluate(stated).inputs.figures == ("economics.utilization",)


def test_the_digest_does_not_depend_on_the_process() -> None:
    # Sets are held in an order that hash seeds change: fused functions, and what a buffer holds.
    text = (
        "from tests.unit.evaluate.paper import evaluate, paper_scenario\n"
        "from pentarch.hardware.runtime import Runtime\n"
        "names = frozenset({'norm', 'rotary', 'silu', 'quantize', 'residual'})\n"
        "runtime = Runtime(name='some', fused_functions=names)\n"
        "print(evaluate(paper_scenario(runtime=runtime, buffer_bytes=9.0)).inputs.hash)\n"
    )
    root = Path(__file__).parents[3]
    source = str(Path(pentarch.__file__).parents[1])
    found = {
        subprocess.run(
            [sys.executable, "-c", text], check=True, capture_output=True, text=True, cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join((source, str(root)))},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_the_fullest_stage_is_shown() -> None:
    workload = paper_workload(layers=2)
    found = evaluate(
        paper_scenario(workload=workload, devices=3, partitioner=Given(partial(pipeline, copies=2)))
    )

    # a layer 512 + 2 x 8 gains and the cache of 15 tokens; the ends 256 + 256 + 8 and none
    assert found.memory_bytes["weights"] == 512 + 16
    assert found.memory_bytes["kv"] == 15 * 16


def test_a_long_query_is_noted() -> None:
    found = evaluate(paper_scenario(prompt_tokens=4096, memory_bytes=1e9))
    assert "paper was made for 4096 positions; the query has 4099" in found.notes
    assert "positions" not in " ".join(evaluate(paper_scenario(prompt_tokens=4093)).notes)


def test_the_lines_of_json_are_plain() -> None:
    document = json.loads(evaluate(paper_scenario(mac_j=None)).model_dump_json())
    assert document["query_j"] is None
    assert document["mfu"]["query"] == pytest.approx(1.0)


def test_a_coster_answers_with_the_times_of_a_plan() -> None:
    scenario = paper_scenario(bytes_per_s=500.0, concurrency=2)
    seen: list[Plan] = []

    def choose(request: PartitionRequest) -> Plan:
        cost = request.coster.cost(one_stage(request))
        assert cost.fits
        assert cost.reason == ""
        assert cost.ttft_s == pytest.approx(2.72 * (1 + 1 / 3))  # test_serving
        assert cost.tpot_s == pytest.approx(3.776 / 2 + 2.72 / 3)
        assert cost.collective_s == 0
        seen.append(one_stage(request))
        return seen[0]

    prepared = prepare(paper_scenario(bytes_per_s=500.0, concurrency=2, partitioner=Given(choose)))
    assert prepared.plan == seen[0]
    coster = PlanCoster(scenario, FP8)
    assert coster.cost(prepared.plan) == plan_cost(prepared)


def test_a_coster_says_why_a_plan_does_not_fit() -> None:
    scenario = paper_scenario(memory_bytes=10.0)
    cost = PlanCoster(scenario, FP8).cost(prepare(scenario).plan)

    assert not cost.fits
    assert "short" in cost.reason


def test_a_cached_prefix_must_leave_something() -> None:
    with pytest.raises(InputError, match="4 cached tokens leave nothing of the prompt to process"):
        evaluate(paper_scenario(prefix_tokens=4))

    # The last token alone: 512 + 256 MACs and 4 pairs.
    found = evaluate(paper_scenario(prefix_tokens=3, output_tokens=1))
    assert found.query_s == pytest.approx((768 + 4 * 16) / 1000)
    assert found.useful_flops == 2 * (768 + 64)


def test_default_formats_of_a_machine_without_fp8() -> None:
    machine = describe_template(paper_scenario())
    engine = machine.engines[0]

    def offering(*names: str) -> Any:
        groups = {"macs_per_cycle": dict.fromkeys(names, engine.macs_per_cycle["fp8"])}
        own = type(engine)(engine.model, 1, engine.numbers, groups, engine.structure)
        return replace(machine, engines=(own,))

    assert default_precisions(offering("fp8", "bf16")) == (FP8.replace(hidden="bf16"), ())
    chosen, notes = default_precisions(offering("fp32", "bf16", "int8", "fp4"))
    assert (chosen.weights, chosen.activations, chosen.kv) == ("bf16", "bf16", "bf16")
    assert notes == ("paper has no fp8: weights, activations and KV cache are bf16",)
    with pytest.raises(InputError, match="multiplies no float of at least 8 bits"):
        default_precisions(offering("int8", "fp4"))


def test_the_public_functions_plan_and_evaluate(fakes: Any, registry_of: Any) -> None:
    # Plug-ins from the shared fakes: a workload, a system and a partitioner given as objects.
    from pentarch.catalog import Library

    class Named(Library):
        def device(self, name: Any) -> Any:
            return fakes.device(name=str(name))

    library = Named(registry_of(fake=fakes.plugin()))
    system = paper_scenario().system.replace(device="any")
    with pytest.raises(InputError, match="alone"):
        partition(paper_workload(), system, Query(), library=library)  # no `single` here
    planned = partition(paper_workload(), system, Query(prompt_tokens=4, output_tokens=3),
                        partitioner="alone", library=library)  # fmt: skip
    found = evaluate_planned(planned)

    assert planned.plan.devices == found.devices == 1
    assert planned.scenario.device.name == "any"
    assert found.partitioner == "alone"
    assert found.feasible
