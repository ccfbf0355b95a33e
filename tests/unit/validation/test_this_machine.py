import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.errors import InputError
from pentarch.validation import this_machine, this_machine_timing
from pentarch.validation.kernels import GemmPart, VectorPart
from pentarch.validation.this_machine import (
    ThisMachine,
    _MachineModel,
    calibrate_this_machine,
    write_device,
)
from pentarch.validation.this_machine_draft import Draft
from pentarch.validation.this_machine_facts import MachineFacts, read_facts
from pentarch.validation.this_machine_timing import (
    Probe,
    Sampled,
    probes_for,
    time_apart,
    time_calls,
)

pytest.importorskip("scipy")

FACTS = MachineFacts(
    model="Test 8-Core", cores=8, threads=16, clock_hz=3e9, flags=frozenset({"avx2", "fma"}),
    l2_bytes=2**20, l3_bytes=2**25, memory_bytes=2.0**34,
)  # fmt: skip
TRUTH = {
    "simd_efficiency": 0.7, "core_bytes_per_s": 8e9, "channel_bytes_per_s": 40e9,
    "operator_start_s": 3e-6, "line_transfer_s": 4e-7, "transcendental_share": 0.03,
}  # fmt: skip
"""What the pretended machine is like."""


def pretended(
    facts: MachineFacts, truth: dict[str, float], *, slower: float = 1.0
) -> Callable[[Sequence[Probe], float], list[Sampled]]:
    """Return a stopwatch that reads what the model says of a machine, with five repetitions 1 % apart."""
    model = _MachineModel(default_library(), Draft.of(facts, "pretended"))

    def measure(probes: Sequence[Probe], seconds: float) -> list[Sampled]:
        columns = {name: np.array([value]) for name, value in truth.items()}
        times = model.seconds(probes, columns)[:, 0] * slower
        return [
            Sampled(probe, tuple(time * (1.0 + 0.01 * step) for step in range(5)))
            for probe, time in zip(probes, times.tolist(), strict=True)
        ]

    return measure


@pytest.fixture(autouse=True)
def without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine_timing, "has_torch", lambda: False)


@pytest.fixture(scope="module")
def found() -> ThisMachine:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(this_machine_timing, "has_torch", lambda: False)
        patch.setattr(this_machine, "_load", lambda: None)
        return calibrate_this_machine(
            default_library(), name="mine", facts=FACTS, measure=pretended(FACTS, TRUTH)
        )


@pytest.mark.parametrize("name", TRUTH)
def test_the_fit_finds_what_the_machine_is_like(found: ThisMachine, name: str) -> None:
    one = found.parameters[name]
    assert one.identified
    assert one.value == pytest.approx(TRUTH[name], rel=0.2)  # the prior draws it a little
    assert one.interval is not None
    assert one.interval[0] < TRUTH[name] < one.interval[1]


def test_errors_shrink(found: ThisMachine) -> None:
    assert found.before["all"].mape > 0.3
    assert found.after["all"].mape < 0.05
    assert found.after["all"].n == len(found.operators)
    assert set(found.after) == {"all", "attention", "exp", "gemm", "start", "stream"}


def test_an_operator_has_its_fastest_tenth_and_both_predictions(found: ThisMachine) -> None:
    first = found.operators[0]
    assert first.label == "start 16 fp32, numpy, one core"
    assert first.repetitions == 5
    # one core has no barrier: the start alone, within the noise of the repetitions
    assert first.measured_s == pytest.approx(3e-6, rel=0.02)


def test_the_device_states_sources_and_can_be_used(found: ThisMachine, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    write_device(found, path)
    device = pa.device(str(path))
    assert device.cores == 8
    assert device.sources["core_bytes_per_s"].grade == "meas"
    assert "5 to 5 repetitions" in device.sources["core_bytes_per_s"].source
    assert device.sources["clock_hz"].grade == "pub"
    assert device.sources["*"].grade == "asm"
    evaluation = pa.evaluate(
        pa.partition("llama-3.2-1b", str(path), pa.Query(prompt_tokens=16, output_tokens=4))
    )
    # bf16 is stored and multiplied as fp32: 1.24e9 words of 2 bytes at 40 GB/s at the very least
    assert evaluation.tpot_s is not None
    assert 2 * 1.2e9 / 40e9 < evaluation.tpot_s < 2.0


def test_the_document_is_json_and_yaml(found: ThisMachine) -> None:
    document = json.loads(found.model_dump_json())
    assert {"device", "parameters", "before", "after"} <= set(document)
    assert yaml.safe_load(yaml.safe_dump(found.device)) == found.device
    assert found.device["kind"] == "device"
    assert found.device["backend"] == "cpu"


def test_one_core_has_no_barrier_to_fit() -> None:
    facts = MachineFacts(model="one", cores=1, threads=1, clock_hz=2e9, flags=frozenset({"neon"}))
    truth = {"simd_efficiency": 0.8, "core_bytes_per_s": 6e9, "channel_bytes_per_s": 6e9}
    one = calibrate_this_machine(default_library(), facts=facts, measure=pretended(facts, truth))
    assert "line_transfer_s" not in one.parameters
    assert all("one core" in operator.label for operator in one.operators)
    assert one.parameters["channel_bytes_per_s"].value == pytest.approx(6e9, rel=0.15)
    assert one.device["core_bytes_per_s"] == one.device["channel_bytes_per_s"]


def test_what_is_unknown_is_said() -> None:
    facts = MachineFacts(cores=2, threads=2)
    some = calibrate_this_machine(
        default_library(), facts=facts, measure=pretended(facts, {"clock_hz": 3e9})
    )
    said = " ".join(some.notes)
    assert (
        "not known, assumed: clock_hz, simd_bytes_per_cycle, l2_bytes, l3_bytes, memory_bytes"
        in said
    )
    assert "power limit" in said
    assert "clock_hz" not in some.device["sources"]
    assert some.device["sources"]["*"]["grade"] == "asm"


def test_a_parameter_that_nothing_shows_stays_at_its_prior(found: ThisMachine) -> None:
    kept = [name for name, one in found.parameters.items() if not one.identified]
    for name in kept:
        assert found.parameters[name].value == found.parameters[name].prior
        assert found.device["sources"][name]["grade"] == "asm"
    assert any(", ".join(kept) in note for note in found.notes) or not kept


def test_a_clock_that_is_too_low_is_raised() -> None:
    slow = MachineFacts(cores=2, threads=2, clock_hz=1e9, flags=frozenset({"avx2"}))
    measure = pretended(slow, {"clock_hz": 3e9, "simd_efficiency": 0.95, "operator_start_s": 1e-6})
    raised = calibrate_this_machine(default_library(), facts=slow, measure=measure)
    assert raised.device["clock_hz"] == pytest.approx(3e9, rel=0.1)
    assert raised.device["sources"]["clock_hz"]["grade"] == "meas"
    assert any(note.startswith("clock raised from 1.00 to") for note in raised.notes)


def test_other_work_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine, "_load", lambda: 40.0)
    busy = calibrate_this_machine(default_library(), facts=FACTS, measure=pretended(FACTS, TRUTH))
    assert any("load 40.0" in note for note in busy.notes)


def test_products_that_other_work_held_up_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine, "_load", lambda: None)
    quiet = pretended(FACTS, TRUTH)

    def measure(probes: Sequence[Probe], seconds: float) -> list[Sampled]:
        """Add 20 ms, the turn of another process, to what several threads do together."""
        return [
            one if one.probe.is_single or one.probe.operator == "stream"
            else Sampled(one.probe, tuple(time + 0.02 for time in one.seconds))
            for one in quiet(probes, seconds)
        ]  # fmt: skip

    busy = calibrate_this_machine(default_library(), facts=FACTS, measure=measure)
    assert any("held its threads up" in note for note in busy.notes)
    assert {
        one.label.endswith("one core") or "stream" in one.label
        for one in busy.operators
        if one.used
    } == {True}
    assert busy.after["all"].n == sum(one.used for one in busy.operators) < len(busy.operators)
    assert busy.parameters["simd_efficiency"].value == pytest.approx(0.7, rel=0.2)
    assert busy.parameters["channel_bytes_per_s"].value == pytest.approx(40e9, rel=0.2)
    assert not busy.parameters["line_transfer_s"].identified


@pytest.mark.parametrize("seconds", [0.0, 46.0, float("nan")])
def test_the_time_is_bounded(seconds: float) -> None:
    with pytest.raises(InputError, match="2 to 45 s"):
        calibrate_this_machine(default_library(), seconds=seconds)


def test_an_interruption_passes_through() -> None:
    def interrupted(probes: Sequence[Probe], seconds: float) -> list[Sampled]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_this_machine(default_library(), facts=FACTS, measure=interrupted)


def test_progress_is_told() -> None:
    lines: list[str] = []
    calibrate_this_machine(
        default_library(), facts=FACTS, measure=pretended(FACTS, TRUTH), progress=lines.append
    )
    assert lines == ["Test 8-Core: 8 cores, 17 operators to time", "fitting"]


def test_torch_is_timed_in_the_formats_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(this_machine_timing, "has_torch", lambda: True)
    with_bf16 = probes_for(FACTS, formats=frozenset({"fp32", "bf16"}))
    without = probes_for(FACTS, formats=frozenset({"fp32"}))
    assert {probe.format for probe in with_bf16 if probe.software == "torch"} == {"fp32", "bf16"}
    assert {probe.format for probe in without} == {"fp32"}


def test_loops_go_through_more_than_the_cache_holds() -> None:
    probes = probes_for(FACTS, formats=frozenset())
    assert {probe.span_bytes for probe in probes} == {0, 4 * 2**25}
    assert [probe.sizes for probe in probes if not probe.span_bytes] == [(64, 96, 64)]
    small = MachineFacts(l3_bytes=2**20, memory_bytes=2.0**33)
    assert probes_for(small, formats=frozenset())[0].span_bytes == 2**26


def test_attention_through_numpy_is_two_products_and_five_passes() -> None:
    parts = Probe("attention", (16, 1024, 64)).parts
    products = [part for part in parts if isinstance(part, GemmPart)]
    passes = [part for part in parts if isinstance(part, VectorPart)]
    scores = 16 * 1024 * 1024
    assert sum(part.m * part.k * part.n * part.instances for part in products) == 2 * scores * 64
    assert sum(part.bytes_in for part in passes) == 5 * 4 * scores
    assert sum(part.bytes_out for part in passes) == 3 * 4 * scores
    assert sum(part.transcendental for part in passes) == scores


class Clock:
    """Time that passes with each call of `work`."""

    def __init__(self, each_s: float) -> None:
        self.now = 0.0
        self.calls = 0
        self._each_s = each_s

    def work(self) -> None:
        self.calls += 1
        self.now += self._each_s

    def read(self) -> float:
        return self.now


@pytest.mark.parametrize(("each_s", "count"), [(0.01, 10), (10.0, 5), (0.0005, 60)])
def test_calls_are_repeated_until_the_time_is_up(each_s: float, count: int) -> None:
    clock = Clock(each_s)
    samples = time_calls(clock.work, 0.0999, clock.read)
    assert len(samples) == count
    assert samples == pytest.approx([each_s] * count)


def test_short_calls_are_timed_together() -> None:
    clock = Clock(1e-6)
    samples = time_calls(clock.work, 1.0, clock.read)
    assert samples == pytest.approx([1e-6] * 60)
    assert clock.calls == 2 + 60 * 300  # 0.3 ms a sample


def test_operators_run_on_one_core_in_a_process_of_their_own() -> None:
    probes = [
        Probe("start", (16,), is_single=True),
        Probe("gemm", (4, 8, 8), is_single=True, span_bytes=512),
    ]
    found = time_apart(probes, 0.001)
    assert [len(times) >= 5 for times in found] == [True, True]
    assert all(0 < time < 0.1 for times in found for time in times)


def test_a_process_that_fails_is_an_error_with_its_last_line() -> None:
    with pytest.raises(InputError, match="one core failed: KeyError: 'nonsense'"):
        time_apart([Probe("nonsense", (1,))], 0.001)


@pytest.mark.parametrize(
    "probe",
    [Probe("stream", (4096,)), Probe("gemm", (3, 5, 7), span_bytes=1000), Probe("attention", (2, 6, 4)),
     Probe("exp", (32,)), Probe("start", (16,))],
)  # fmt: skip
def test_every_operator_runs_here(probe: Probe) -> None:
    with this_machine_timing.prepared(probe) as call:
        first, second = call(), call()
    assert type(first) is type(second)


def test_facts_are_read_from_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    fields = "processor: {n}\nvendor_id: GenuineIntel\nmodel name: Made Up 9000\ncpu family: 6\n"
    fields += "cpu MHz: {mhz}\nflags: fma avx2 avx512f avx512_vnni amx_int8 amx_bf16\n\n"
    text = "".join(fields.format(n=n, mhz=2000 + n) for n in range(4))
    files = {
        "proc/cpuinfo": text,
        "proc/meminfo": "MemTotal:  16000 kB\n",
        "sys/fs/cgroup/cpu.max": "max 100000",
    }
    for n in range(4):
        place = f"sys/devices/system/cpu/cpu{n}"
        files |= {
            f"{place}/topology/core_id": str(n // 2), f"{place}/topology/physical_package_id": "0",
            f"{place}/cache/index0/level": "1", f"{place}/cache/index0/size": "32K",
            f"{place}/cache/index2/level": "2", f"{place}/cache/index2/size": "2048K",
            f"{place}/cache/index2/shared_cpu_list": "0-1" if n < 2 else "2-3",
            f"{place}/cache/index3/level": "3", f"{place}/cache/index3/size": "8M",
            f"{place}/cache/index3/shared_cpu_list": "0-1" if n < 2 else "2-3",
        }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    facts = read_facts(tmp_path)
    assert (facts.model, facts.cores, facts.threads) == ("Made Up 9000", 2, 4)
    assert facts.clock_hz == 2003e6
    assert (facts.l2_bytes, facts.l3_bytes) == (2**21, 2 * 2**23)
    assert facts.memory_bytes == 16000 * 1024
    assert facts.simd_bytes_per_cycle == 128
    assert facts.dot_macs_per_cycle == {"int8": 128}
    assert facts.matrix_macs_per_cycle == {"int8": 1024, "bf16": 512}
    (tmp_path / "sys/fs/cgroup/cpu.max").write_text("50000 100000")
    assert read_facts(tmp_path).cores == 1


def test_a_system_that_says_nothing_leaves_figures_unknown(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)
    assert facts.cores >= 1
    assert facts.clock_hz is None
    assert facts.l2_bytes is None
    assert facts.simd_bytes_per_cycle is None
    assert facts.dot_macs_per_cycle == {}


@pytest.mark.parametrize(
    ("values", "width"),
    [
        ({"flags": frozenset({"avx512f"}), "is_intel": True}, 128.0),
        ({"flags": frozenset({"avx512f"}), "family": 25}, 64.0),  # Zen 4: two cycles of a 256-bit port
        ({"flags": frozenset({"avx512f"}), "family": 26}, 128.0),
        ({"flags": frozenset({"avx2"})}, 64.0), ({"flags": frozenset({"asimd"})}, 32.0),
        ({"flags": frozenset({"sse2"})}, None),
    ],
)  # fmt: skip
def test_vector_width_follows_the_instruction_sets(
    values: dict[str, Any], width: float | None
) -> None:
    assert MachineFacts(**values).simd_bytes_per_cycle == width


def test_a_file_that_cannot_be_written_is_an_error(found: ThisMachine, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_device(found, tmp_path / "missing" / "mine.yaml")
