"""Which assumptions move a verdict: every end against an evaluation of its own."""

import math
from dataclasses import replace

import numpy as np
import pytest

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.cli.assumptions import rests_on
from pentarch.evaluate import sensitivity as study
from pentarch.evaluate.api import Planned
from pentarch.evaluate.prepare import prepare
from pentarch.evaluate.sensitivity import sensitivity
from pentarch.hardware.machine import MachineTable, provenance
from pentarch.hardware.technology import assuming, technology
from pentarch.results import InputEffect, Sensitivity, TargetId, VerdictKind
from pentarch.targets import Targets, figure_of

QUERY = pa.Query(prompt_tokens=256, output_tokens=32)


def planned(system: str = "h100_sxm", **changes: object) -> Planned:
    """Return a small model on one device."""
    return pa.partition("llama-3-8b", system, QUERY, **changes)  # type: ignore[arg-type]


def effects(found: tuple[Sensitivity, ...], target: TargetId) -> dict[str, InputEffect]:
    """Return the listed inputs of a target by path."""
    entry = next(entry for entry in found if entry.target is target)
    return {effect.path: effect for effect in entry.inputs}


def alone(path: str, value: float, figure: str) -> float | None:
    """Return a figure of a device whose file says something else."""
    library = default_library()
    base = planned()
    device = library.device("h100_sxm").replace(**{path: value})
    changed = replace(base.scenario, device=device)
    return figure_of(pa.evaluate(Planned(prepared=prepare(changed))), figure)


def test_ends_of_a_device_field_are_evaluations_of_their_own() -> None:
    found = effects(sensitivity(planned().prepared, count=99), TargetId.ENERGY)
    effect = found["static_share"]
    assert (effect.low, effect.value, effect.high) == (0.18, 0.36, 0.72)
    assert not effect.interval_stated
    assert effect.figure_low == alone("static_share", 0.18, "w_per_pflops.delivered")
    assert effect.figure_high == alone("static_share", 0.72, "w_per_pflops.delivered")
    assert effect.figure_low is not None
    assert effect.figure_high is not None
    slope = math.log(effect.figure_high / effect.figure_low) / math.log(4.0)
    assert effect.elasticity == pytest.approx(slope)
    assert slope > 0  # more static power, more watts


def test_ends_of_a_library_figure_are_what_its_source_states() -> None:
    found = effects(sensitivity(planned().prepared, count=99), TargetId.ENERGY)
    effect = found["memory.hbm3.device_io"]
    figure = technology().figure("memory.hbm3.device_io")
    assert (effect.low, effect.high) == figure.range == (3.0, 5.0)
    assert effect.interval_stated
    with assuming(technology().with_figures(figure.replace(value=5.0))):
        dear = pa.evaluate(planned())
    assert effect.figure_high == dear.w_per_pflops.delivered
    assert technology().si("memory.hbm3.device_io") == figure.base_value  # as before


def test_numbers_outside_the_machine_are_tested_too() -> None:
    found = effects(sensitivity(planned(runtime="vllm").prepared, count=99), TargetId.LATENCY)
    effect = found["runtime.step_s"]
    base = pa.evaluate(planned(runtime="vllm")).query_s
    assert base is not None
    # 31 decode steps and one prefill, each with the stack's own time between two steps
    assert effect.figure_high == pytest.approx(base + 32 * effect.value, rel=1e-6)


def test_an_input_that_flips_a_verdict_comes_first_and_says_so() -> None:
    watts = pa.evaluate(planned()).w_per_pflops.delivered
    assert watts is not None
    tight = planned(targets=Targets(w_per_pflops=watts * 1.05))
    entry = next(e for e in sensitivity(tight.prepared, count=1) if e.target is TargetId.ENERGY)
    assert entry.verdict is VerdictKind.MET
    first = entry.inputs[0]
    assert first.flips
    assert VerdictKind.MISSED in (first.verdict_low, first.verdict_high)
    assert all(effect.flips for effect in entry.inputs)  # with a count of 1 only those that flip
    lines = list(rests_on(entry))
    verb = "flips" if len(entry.inputs) == 1 else "flip"
    assert f"of {entry.tested} estimates and assumptions {len(entry.inputs)} {verb} it" in lines[0]
    assert first.path in lines[1]
    assert "missed" in lines[1]


def test_an_input_that_makes_a_missed_design_infeasible_flips_nothing_but_is_listed() -> None:
    library = default_library()
    base = planned(runtime="vllm")
    free = library.device("h100_sxm").memory_bytes  # type: ignore[attr-defined]
    memory = pa.evaluate(base).memory_bytes
    used = memory["weights"] + memory["kv"] + memory["activations"]
    reserve = 1 - 1.2 * used / free  # five sixths of what is left are used
    runtime = base.scenario.runtime.replace(memory_reserve=reserve)
    never = Targets(query_s=1e-6)
    tight = prepare(replace(base.scenario, runtime=runtime, targets=never))
    entry = next(e for e in sensitivity(tight, count=1) if e.target is TargetId.LATENCY)
    (effect,) = entry.inputs
    assert effect.path == "runtime.memory_reserve"
    assert (effect.verdict_low, effect.verdict_high) == (VerdictKind.MISSED, VerdictKind.INFEASIBLE)
    assert not effect.flips


def test_a_whole_number_is_set_to_whole_numbers() -> None:
    runtime = default_library().runtime("sglang")
    assert runtime.kv_block_tokens == 1
    assert runtime.sources["kv_block_tokens"].grade == "asm"
    base = planned(runtime="sglang").prepared
    trial = next(t for t in study._trials(base)[0] if t.path == "runtime.kv_block_tokens")
    assert (trial.low, trial.high) == (1, 2)  # and not half a token
    odd = replace(base, scenario=replace(base.scenario, runtime=runtime.replace(kv_block_tokens=5)))
    trial = next(t for t in study._trials(odd)[0] if t.path == "runtime.kv_block_tokens")
    assert (trial.low, trial.high) == (3, 10)


def test_what_was_measured_or_published_is_left_alone() -> None:
    found = sensitivity(planned().prepared, count=99)
    paths = {effect.path for entry in found for effect in entry.inputs}
    assert paths
    assert not paths & {"memory_bytes_per_s", "peak_flops_per_s.fp8", "memory_efficiency"}
    assert {effect.grade for entry in found for effect in entry.inputs} <= {"asm", "est"}


def test_a_verdict_that_rests_on_no_assumption_is_said_so() -> None:
    found = sensitivity(planned().prepared)
    entry = next(entry for entry in found if entry.target is TargetId.PROGRAMMABILITY)
    assert entry.inputs == ()
    assert next(rests_on(entry)).endswith("moves it")


def test_remarks_are_named_as_untested() -> None:
    entry = sensitivity(planned().prepared)[0]
    assert "voltage curve of n4" in entry.untested


@pytest.mark.parametrize("system", ["edge_soc", "xeon_8592plus"])
def test_other_back_ends_are_tested_alike(system: str) -> None:
    found = sensitivity(planned(system).prepared)
    assert [entry.target for entry in found] == list(TargetId)
    assert any(entry.inputs for entry in found)


def test_an_interval_without_a_possible_machine_is_untested_and_the_rest_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = planned().prepared

    def impossible(value: float) -> MachineTable:
        return base.describe(1, {"cache_share": np.array([value])})  # at most 1

    entry = provenance("nobody", "asm")
    odd = study.Trial("cache_share", entry, 0.9, 0.5, 2.0, is_stated=False, machine=impossible)
    usual = study._trials
    monkeypatch.setattr(study, "_trials", lambda prepared: ([odd, *usual(prepared)[0]], []))
    found = sensitivity(base)
    assert found[0].untested == ("cache_share",)
    assert found[0].tested == len(usual(base)[0])


def test_a_mapping_is_tested_entry_by_entry() -> None:
    found = sensitivity(planned("m2_max_cpu").prepared)
    assert "dot_macs_per_cycle" not in found[0].untested


def test_evaluations_carry_it_only_when_it_is_asked_for() -> None:
    assert pa.evaluate(planned()).sensitivity == ()
