import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pentarch.catalog import Library
from pentarch.cli.main import main

POINT = ["--prompt", "64", "--output", "4", "--concurrency", "2", "--partitioner", "alone"]


def test_an_evaluation_is_one_document(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("evaluate", "tiny", "chip", *POINT)

    assert (shown["workload"], shown["system"], shown["feasible"]) == ("tiny", "chip", True)
    assert shown["operating_point"]["query"]["concurrency"] == 2
    assert [verdict["id"] for verdict in shown["targets"]] == [
        "processing", "latency", "energy", "cost", "programmability",
    ]  # fmt: skip
    # closed form: whole latency is the first token plus three more
    assert shown["query_s"] == pytest.approx(shown["ttft_s"] + 3 * shown["tpot_s"])


def test_formats_and_thresholds_reach_the_evaluation(
    pentarch_json: Callable[..., Any], tmp_path: Path
) -> None:
    targets = tmp_path / "targets.yaml"
    targets.write_text("query_s: 250 ms\nsystem_usd: 7,000 USD\n", encoding="utf-8")

    shown = pentarch_json(
        "evaluate", "tiny", "chip", *POINT, "--kv", "bf16", "--targets", str(targets)
    )

    thresholds = {verdict["id"]: verdict["threshold"] for verdict in shown["targets"]}
    assert (thresholds["latency"], thresholds["cost"]) == (0.25, 7000)
    assert shown["operating_point"]["precisions"]["kv"] == "bf16"


def test_terms_of_ownership_reach_the_cost_of_a_query(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    terms = tmp_path / "data-center.yaml"
    terms.write_text(
        "pue: 1.1\nfacility_usd_per_w: 11\noperation_usd_per_w_year: 0.3\n", encoding="utf-8"
    )
    point = ["evaluate", "llama-3-8b", "h100_sxm", "--json"]

    def shown(*options: str) -> Any:
        assert main([*point, *options]) == 0
        return json.loads(capsys.readouterr().out)

    edge, facility = shown(), shown("--economics", str(terms))

    assert edge["tco"]["facility"] == edge["tco"]["operation"] == 0
    assert facility["tco"]["system"] == edge["tco"]["system"] > 0
    assert facility["tco"]["energy"] == pytest.approx(1.1 * edge["tco"]["energy"])
    # 11 USD over 14 years and 0.3 USD a year, each for the same watts
    shares = facility["tco"]["facility"] / facility["tco"]["operation"]
    assert shares == pytest.approx(11 / 14 / 0.3)
    assert facility["query_usd"] == pytest.approx(sum(facility["tco"].values()))


def test_a_check_that_fails_exits_with_one(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "tiny", "chip", *POINT]) == 0
    assert "processing" in capsys.readouterr().out
    assert main(["evaluate", "tiny", "chip", *POINT, "--check"]) == 1


def test_a_wrong_format_is_an_input_error(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", "tiny", "chip", "--kv", "fp9"]) == 2
    assert "fp9" in capsys.readouterr().err


def test_systems_are_compared_in_the_order_given(
    pentarch_json: Callable[..., Any], fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = pentarch_json("compare", "tiny", "2xchip", "chip", *POINT)

    assert [entry["system"] for entry in shown] == ["2xchip", "chip"]
    assert main(["compare", "tiny", "2xchip", "chip", *POINT]) == 0
    assert "2xchip" in capsys.readouterr().out
