from collections.abc import Callable
from typing import Any

import pytest

from pentarch.catalog import Library
from pentarch.cli.main import main


def test_the_plan_is_one_document_with_the_promised_keys(
    pentarch_json: Callable[..., Any],
) -> None:
    shown = pentarch_json("partition", "tiny", "chip", "--partitioner", "alone")
    promised = {"stages", "degrees", "memory", "collectives", "feasible", "reason"}
    assert promised <= shown.keys()
    assert (shown["feasible"], shown["reason"], shown["devices"]) == (True, None, 1)
    memory = shown["memory"][0]
    assert memory["total_bytes"] == pytest.approx(
        memory["weights_bytes"]
        + memory["kv_bytes"]
        + memory["activations_bytes"]
        - memory["on_chip_bytes"]
    )
    evaluated = pentarch_json("evaluate", "tiny", "chip", "--partitioner", "alone")
    assert shown["ttft_s"] == pytest.approx(evaluated["ttft_s"])


def test_what_does_not_fit_is_an_answer_with_its_arithmetic(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["partition", "gpt3-175b", "h100_sxm"]) == 0
    out = capsys.readouterr().out
    assert "Cannot run: h100_sxm needs 175 GB of weights" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def test_tensor_parallelism_lists_its_collectives_with_times(
    run_json: Callable[..., Any],
) -> None:
    shown = run_json("partition", "llama-3-8b", "8xh100", "--concurrency", "4")
    by_name = {(one["name"], one["phase"]): one for one in shown["collectives"]}
    reduce = by_name["decoder.o.all_reduce", "decode"]
    # 32 layers x 255 steps; four sequences of 4096 values in bf16
    assert (reduce["executions"], reduce["bytes"]) == (32 * 255, 4 * 4096 * 2)
    assert reduce["total_s"] == pytest.approx(32 * 255 * reduce["time_s"])
    assert reduce["link"] == "nvlink4"
    assert by_name["decoder.o.all_reduce", "prefill"]["bytes"] == 1024 * 4096 * 2
    assert shown["hops"] == []


def test_partitioners_are_compared_and_those_that_cannot_say_why(
    run_json: Callable[..., Any], capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "80")
    rows = {row["partitioner"]: row for row in run_json("partition", "llama-3-8b", "8xh100",
                                                        "--compare")}  # fmt: skip
    assert rows["tensor"]["feasible"]
    assert rows["tensor"]["tpot_s"] < rows["single"]["tpot_s"]
    assert rows["single"]["collective_s"] == 0
    assert 0 < rows["tensor"]["collective_s"] < rows["tensor"]["tpot_s"]
    assert not rows["decoder-per-chip"]["feasible"]
    assert "32 decoder blocks" in rows["decoder-per-chip"]["reason"]
    alone = run_json("evaluate", "llama-3-8b", "8xh100", "--partitioner", "tensor")
    assert rows["tensor"]["query_s"] == pytest.approx(alone["query_s"])

    assert main(["partition", "llama-3-8b", "8xh100", "--compare"]) == 0
    out = capsys.readouterr().out
    assert out.index("tensor") < out.index("single")
    assert "decoder-per-chip cannot:" in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--partitioner", "alon"], "Did you mean 'alone'"),
        (["--compare", "--partitioner", "alone"], "Leave --partitioner out"),
        (["--degree", "0"], "--degree"),
        (["--weights", "fp9"], "fp9"),
    ],
)
def test_wrong_options_are_input_errors(
    options: list[str], said: str, fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["partition", "tiny", "chip", *options]) == 2
    assert said in capsys.readouterr().err


def test_a_wrong_name_ends_a_comparison_at_once(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["partition", "tinny", "chip", "--compare"]) == 2
    assert "Did you mean 'tiny'" in capsys.readouterr().err
