"""The options that say how the phases of a query run, in every command that takes them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pentarch.cli.main import main
from pentarch.search.api import search

OPTIONS = [
    "--prefix-tokens", "100", "--chunk-tokens", "300", "--draft-tokens", "2", "--acceptance", "0.5",
    "--draft-share", "0.1", "--experts", "mxfp4", "--routing", "zipf(1.2)",
]  # fmt: skip
EXPECTED = {
    "prefix_tokens": 100, "chunk_tokens": 300, "draft_tokens": 2, "acceptance": 0.5, "draft": None,
    "draft_share": 0.1, "kv_cache": True, "routing": "zipf(1.2)",
}  # fmt: skip


def test_options_reach_the_operating_point(run_json: Callable[..., Any]) -> None:
    shown = run_json("evaluate", "mixtral-8x7b", "2xh100_sxm", *OPTIONS)
    point = shown["operating_point"]
    assert EXPECTED.items() <= point["query"].items()
    assert point["precisions"]["experts"] == "mxfp4"
    assert [shown] == run_json("compare", "mixtral-8x7b", "2xh100_sxm", *OPTIONS)


def test_no_cache_leaves_no_state(run_json: Callable[..., Any]) -> None:
    lengths = ["--prompt", "100", "--output", "4"]
    kept = run_json("partition", "llama-3-8b", "h100_sxm", *lengths)
    anew = run_json("partition", "llama-3-8b", "h100_sxm", *lengths, "--no-kv-cache")
    assert kept["memory"][0]["kv_bytes"] == 65_536 * (104 + 8)
    assert anew["memory"][0]["kv_bytes"] == 0
    assert anew["tpot_s"] > kept["tpot_s"]


def test_narrow_experts_take_less_memory(run_json: Callable[..., Any]) -> None:
    plain = run_json("partition", "mixtral-8x7b", "8xh100_sxm")["memory"][0]["weights_bytes"]
    found = run_json("partition", "mixtral-8x7b", "8xh100_sxm", "--experts", "mxfp4")
    # 32 layers of 8 experts with three weights of 4096 x 14336, an eighth of each per device
    experts = 32 * 8 * 3 * 4096 * 14336 / 8
    assert plain - found["memory"][0]["weights_bytes"] == pytest.approx(experts * (1 - 4.25 / 8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--draft-tokens", "2"], "acceptance: missing, with 2 draft tokens a step"),
        (["--no-kv-cache", "--prefix-tokens", "1"], "found 1, without a KV cache"),
        (["--routing", "trace"], "uniform, worst, or zipf(ALPHA)"),
        (["--draft-tokens", "65", "--acceptance", "1"], "draft_tokens"),
        (["--prefix-tokens", "1024"], "1024 cached tokens leave nothing"),
        (["--draft-tokens", "1", "--acceptance", "1", "--draft", "lama"], "lama"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "llama-3-8b", "h100_sxm", *options]) == 2
    assert message in capsys.readouterr().err


SPACE = """\
kind: space
about: Phases of one design.
workload: llama-3-8b
query: {prompt_tokens: 256, output_tokens: 16, acceptance: 0.8, concurrency: 4}
system: h100_sxm
partitioner: single
search:
  query.draft_tokens: {choice: [0, 3]}
  query.chunk_tokens: {choice: [64, 256]}
objectives: [query_s]
"""


def test_a_space_states_and_searches_them(tmp_path: Path, run_json: Callable[..., Any]) -> None:
    path = tmp_path / "phases.yaml"
    path.write_text(SPACE, encoding="utf-8")
    found = search(path, strategy="exhaustive", log=str(tmp_path / "log.sqlite"))
    times = {
        (trial.parameters["query.draft_tokens"], trial.parameters["query.chunk_tokens"]):
        trial.figures["query_s"] for trial in found.trials
    }  # fmt: skip
    assert len(times) == 4
    for (drafts, chunk), seconds in times.items():
        options = ["--prompt", "256", "--output", "16", "--concurrency", "4", "--acceptance", "0.8",
                   "--draft-tokens", str(drafts), "--chunk-tokens", str(chunk)]  # fmt: skip
        alone = run_json("evaluate", "llama-3-8b", "h100_sxm", *options)
        assert alone["query_s"] == seconds
    assert len(set(times.values())) == 4


def test_the_head_of_an_evaluation_names_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "mixtral-8x7b", "2xh100_sxm", *OPTIONS]) == 0
    head = " ".join(capsys.readouterr().out.split("target")[0].split())
    assert (
        "fp8 weights, mxfp4 experts, fp8 activations, fp8 KV, 100 prompt tokens cached, "
        "prefill in chunks of 300, 2 drafts a step, 50% accepted, zipf(1.2) routing"
    ) in head


def test_defaults_are_not_named(capsys: pytest.CaptureFixture[str]) -> None:
    lengths = ["--prompt", "10", "--output", "2", "--no-kv-cache"]
    assert main(["evaluate", "llama-3-8b", "h100_sxm", *lengths]) == 0
    head = " ".join(capsys.readouterr().out.split("target")[0].split())
    assert head.endswith("1 in flight, fp8 weights, fp8 activations, fp8 KV, no KV cache")
