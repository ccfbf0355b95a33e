from pathlib import Path
from typing import Any

import pytest

from pentarch.catalog import default_library
from pentarch.errors import FieldError
from pentarch.hardware.runtime import Runtime, Scheduler
from pentarch.validation.labels import format_name, plain_label, runtime_name, workload_name
from pentarch.validation.lines import Line, read_lines
from pentarch.validation.rows import Unscored
from pentarch.validation.runs import (
    Deployment,
    Limits,
    Protocol,
    RunPredictor,
    RunRow,
    figures,
    measured_as,
)
from pentarch.validation.serving import mlperf_rows, published_rows, serving_rows, sweep_rows
from pentarch.workload.query import Precisions

MEASURED = Path(__file__).parents[2] / "validation" / "data" / "measured"
BF16 = Precisions(weights="bf16", activations="bf16", kv="bf16")


def deployment(**changes: Any) -> Deployment:
    base = {"workload": "llama-3-8b", "device": "h100_sxm", "devices": 1, "tensor": 1, "pipeline": 1,
            "runtime": "vllm", "precisions": BF16, "prompt_tokens": 512, "output_tokens": 11}  # fmt: skip
    return Deployment(**(base | changes))


def run(load: int | None, figure: str = "throughput", **changes: Any) -> RunRow:
    limits, queues = changes.pop("limits", Limits()), changes.pop("may_queue", False)
    return RunRow(
        file="f.csv", label="r", device="h100_sxm", subset="main", precision="bf16",
        metric="throughput", figure=figure, measured=1.0, deployments=(deployment(**changes),),
        concurrency=load, limits=limits, may_queue=queues,
    )  # fmt: skip


def value(row: RunRow) -> float:
    (found,) = RunPredictor(default_library()).predict([row])
    assert isinstance(found, float), found
    return found


def test_figures_of_static_and_continuous_batches_by_hand() -> None:
    # t_p = 2 s, t_d = 0.1 s, C = 4, T = 11: query = 4 x 2 + 10 x 0.1 = 9 s, 44 tokens in 9 s
    found = figures(
        {"ttft_s": 2.5, "tpot_s": 0.65, "query_s": 9.0, "throughput_tokens_per_s": 44 / 9},
        deployment(), load=4, prefill_s=2.0,
    )  # fmt: skip
    assert found["ttft"] == 2.5
    assert found["ttft_static"] == 8.0
    assert found["tpot_static"] == pytest.approx(0.1)
    assert found["decode_rate"] == pytest.approx(40)
    assert found["prefill_rate"] == 256
    assert found["throughput_in_out"] == pytest.approx(44 / 9 * 523 / 11)
    assert found["queries"] == pytest.approx(4 / 9)


def test_loads_of_one_deployment_share_an_evaluation_and_differ() -> None:
    predictor = RunPredictor(default_library())
    found = predictor.predict([run(load, "tpot") for load in (1, 4, 16)])
    times = [float(one) for one in found]
    assert times == sorted(times)
    assert found[0] == value(run(1, "tpot"))


def test_an_engine_that_chooses_its_load_takes_the_one_that_serves_most_within_the_limits() -> None:
    free, bound = value(run(None)), value(run(None, limits=Limits(tpot_s=0.012)))
    assert free > bound > 0
    assert free >= max(value(run(load)) for load in (1, 32, 256))
    (none,) = RunPredictor(default_library()).predict([run(None, limits=Limits(tpot_s=1e-6))])
    assert none == "no load keeps to the limits of the benchmark"


def test_queries_that_do_not_fit_wait_where_a_file_says_how_many_were_sent() -> None:
    long = {"prompt_tokens": 8192, "output_tokens": 64}  # 1.1 GB of keys and values a query
    (found,) = RunPredictor(default_library()).predict([run(512, **long)])
    assert isinstance(found, str)
    assert found.startswith("infeasible")
    waiting = value(run(512, may_queue=True, **long))
    assert waiting >= value(run(32, **long))


def test_several_degrees_are_tried_and_the_best_counts() -> None:
    row = run(None, devices=8, tensor=8)
    both = RunRow(**{
        **{name: getattr(row, name) for name in row.__dataclass_fields__},
        "deployments": (deployment(devices=8, tensor=8), deployment(devices=8, tensor=1)),
    })  # fmt: skip
    assert value(both) == max(value(row), value(run(None, devices=8, tensor=1)))


def test_a_sweep_yields_three_figures_a_line_and_flags_queued_first_tokens() -> None:
    lines = read_lines(MEASURED / "llama70b_8xa100.csv")
    rows = [row for row in sweep_rows(lines, "f.csv", default_library()) if isinstance(row, RunRow)]
    assert len(rows) == 3 * len(lines)
    assert {row.metric for row in rows} == {"ttft", "itl", "throughput"}
    flagged = [row for row in rows if row.subset == "flagged"]
    assert flagged
    assert all(row.metric == "ttft" and row.concurrency != 1 for row in flagged)


def serving_line(**values: object) -> Line:
    base = {"device": "h100_sxm", "mode": "agg", "model_path": "meta-llama/Llama-3.1-70B",
            "backend": "vllm", "isl": 1024, "osl": 128, "concurrency": 4, "gemm_quant_mode": "fp8",
            "tp_size": 4, "pp_size": 1, "attention_dp_size": 1, "moe_ep_size": 1, "ttft_ms": 100,
            "tpot_ms": 10, "flags": ""}  # fmt: skip
    return Line({key: str(one) for key, one in (base | values).items()}, where="f.csv, line 2")


@pytest.mark.parametrize(
    ("changes", "reason", "name"),
    [
        ({"mode": "disagg"}, "not predicted", "disagg serving"),
        ({"attention_dp_size": 8}, "not predicted", "attention data parallelism"),
        ({"moe_ep_size": 8}, "not predicted", "expert parallelism"),
        ({"model_path": "who/knows"}, "unknown workload", "who/knows"),
        (
            {"tp_size": 12},
            "not predicted",
            "tensor parallelism over a number of devices that does not divide the heads",
        ),
    ],
)
def test_what_is_not_predicted_is_counted(
    changes: dict[str, object], reason: str, name: str
) -> None:
    (found,) = serving_rows([serving_line(**changes)], "f.csv", default_library())
    assert found == Unscored("f.csv", reason, name, 2)


def test_a_serving_row_says_how_it_was_run() -> None:
    ttft, tpot = serving_rows([serving_line(flags="queueing;")], "f.csv", default_library())
    assert isinstance(ttft, RunRow)
    assert isinstance(tpot, RunRow)
    (one,) = ttft.deployments
    assert (one.workload, one.devices, one.tensor) == ("llama-3.1-70b", 4, 4)
    assert (one.precisions.weights, one.precisions.kv) == ("fp8", "fp8")
    assert (ttft.measured, tpot.measured, ttft.subset) == (0.1, 0.01, "flagged")
    with pytest.raises(FieldError, match="line 2"):
        list(serving_rows([serving_line(gemm_quant_mode="fp9")], "f.csv", default_library()))


def test_a_row_without_its_clients_has_no_first_token_to_compare() -> None:
    line = serving_line(concurrency="", replica_batch=16)
    ttft, tpot = serving_rows([line], "f.csv", default_library())
    assert ttft == Unscored("f.csv", "not recorded", "concurrency of a time to first token")
    assert isinstance(tpot, RunRow)
    assert tpot.concurrency == 16


@pytest.mark.parametrize(
    ("source", "prompt", "in_step"),
    [("dated-csv", 922, False), ("db-dump", 922, False), ("gap-analysis", 1024, True)],
)
def test_sources_differ_in_lengths_and_in_what_keeps_in_step(
    source: str, prompt: int, in_step: bool
) -> None:
    """Lengths drawn evenly from 0.8 to 1 of the stated one have a mean of 0.9."""
    ttft, _ = serving_rows([serving_line(source_class=source)], "f.csv", default_library())
    assert isinstance(ttft, RunRow)
    assert ttft.deployments[0].prompt_tokens == prompt
    assert ttft.protocol.in_step is in_step
    assert ttft.protocol.rounds == 10


FOUND = {"ttft": 0.1, "query": 11.0, "prefill": 0.1, "decode": 0.5}
"""t_p = 100 ms, ten decode steps of 50 ms; latencies of a long loop."""


def test_a_short_run_counts_its_first_burst() -> None:
    # 4 prompts in one pass: all first tokens after 0.4 s. Of two rounds one waits 0.4 s, one 0.1 s.
    stack = Runtime(name="s", scheduler=Scheduler.MIXED)
    first, pace = measured_as(Protocol(rounds=2.0), deployment(), stack, FOUND, load=4)
    assert first == pytest.approx(0.25)
    assert pace == pytest.approx((11.0 - 0.25) / 10)


def test_a_budget_of_two_prompts_makes_groups_of_two() -> None:
    # In step, 4 clients, 2 a pass: 0.2 s for the pass, half of the queries wait for another one.
    stack = Runtime(name="s", scheduler=Scheduler.MIXED, step_tokens=100_000)
    protocol = Protocol(in_step=True, step_prompts=2.0)
    first, _ = measured_as(protocol, deployment(), stack, FOUND, load=4)
    assert first == pytest.approx(0.2 + 0.5 * 0.2 + 0.05, rel=0.01)
    whole, _ = measured_as(Protocol(in_step=True), deployment(), stack, FOUND, load=4)
    assert whole == pytest.approx(0.4 + 0.05)


def test_new_queries_wait_for_the_next_look_where_prompts_go_first() -> None:
    stack = Runtime(name="s", scheduler=Scheduler.PREFILL_FIRST)
    protocol = Protocol(polls=((1, 10.0), (16, 30.0)))
    few, _ = measured_as(protocol, deployment(), stack, FOUND, load=15)
    many, _ = measured_as(protocol, deployment(), stack, FOUND, load=16)
    assert few == pytest.approx(0.1 + 10 * 0.05)
    assert many == pytest.approx(0.1 + 30 * 0.05)


def test_queries_without_a_place_wait_for_one() -> None:
    long = {"prompt_tokens": 8192, "output_tokens": 64}
    changes = {"metric": "ttft", "protocol": Protocol(rounds=10.0), "may_queue": True}
    rows = [
        RunRow(**{
            **{name: getattr(run(load, "ttft", **long), name) for name in RunRow.__slots__},
            **changes,
        })
        for load in (16, 512)
    ]  # fmt: skip
    few, many = RunPredictor(default_library()).predict(rows)
    assert isinstance(few, float)
    assert isinstance(many, float)
    assert many > 10 * few


@pytest.mark.parametrize(
    ("accelerator", "software", "precision"),
    [
        ("NVIDIA H100-SXM-80GB", "TensorRT 10.2 CUDA 12.4", "fp8"),
        ("NVIDIA H100-SXM-80GB", "vLLM 0.6", "fp16"),
        ("NVIDIA A100-SXM-80GB", "TensorRT 10.2", "fp16"),
    ],
)
def test_what_nvidia_calls_fp16_runs_quantized_on_hopper(
    accelerator: str, software: str, precision: str
) -> None:
    line = Line(
        {"division": "closed", "model": "llama2-70b-99", "scenario": "Offline", "unit": "Tokens/s",
         "accelerator": accelerator, "processor": "", "accel_per_node": "8", "cpu_per_node": "2",
         "nodes": "1", "weight_dtype": "fp16", "software": software, "id": "1", "result": "100"},
        where="f.csv, line 2",
    )  # fmt: skip
    (row,) = mlperf_rows([line], "f.csv", default_library())
    assert isinstance(row, RunRow)
    assert row.deployments[0].precisions.weights == precision
    assert row.precision == "fp16"


def test_mlperf_rows_of_the_open_division_are_left_out() -> None:
    lines = read_lines(MEASURED / "mlperf_llm.csv")
    found = list(mlperf_rows(lines, "f.csv", default_library()))
    assert len(found) == len(lines)
    offline = [row for row in found if isinstance(row, RunRow) and "Offline" in row.label]
    assert offline
    assert all(row.concurrency is None and row.limits == Limits() for row in offline)


def test_published_rows_are_read_by_their_tag() -> None:
    lines = read_lines(MEASURED / "e2e_published.csv")
    for line, row in zip(lines, published_rows(lines, "f.csv", default_library()), strict=True):
        if line["scored"] == "0":
            assert isinstance(row, Unscored)
        if isinstance(row, RunRow) and line["tag"] == "decode_only":
            assert row.figure in ("decode_rate", "tpot_static")


@pytest.mark.parametrize(
    ("label", "name"),
    [("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"), ("Llama-2-7B", "llama-2-7b"),
     ("meta-llama/Llama-2-70b-hf", "llama-2-70b"), ("llama2-70b-99.9", "llama-2-70b"),
     ("no-such-model", None)],
)  # fmt: skip
def test_names_of_models(label: str, name: str | None) -> None:
    assert workload_name(default_library(), label) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [("TensorRT-LLM 0.6.1", "trtllm"), ("llama.cpp CUDA (May 2024)", "llama.cpp"), ("vLLM", "vllm"),
     ("gpt-fast (PyTorch 2.x)", "compiled"), ("custom RTL/HLS", None)],
)  # fmt: skip
def test_names_of_software(label: str, name: str | None) -> None:
    assert runtime_name(default_library(), label) == name


def test_names_of_formats_and_devices() -> None:
    assert format_name("fp16/bf16") == "fp16"
    assert format_name("ternary") is None
    assert plain_label("Intel(R) Xeon(R)  6787P") == "Intel Xeon 6787P"
