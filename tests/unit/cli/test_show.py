import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pentarch.catalog import Library
from pentarch.cli.main import main


def test_a_workload_has_its_counts(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("show", "tiny", "--kv", "bf16", "--context", "10")

    # hidden 64, 2 layers; per layer 4 x 64 x 64 attention + 3 x 64 x 128 feed-forward weights;
    # LM head and embedding 512 x 64 each; 2 norms per layer + 1 of 64 gains
    layer = 4 * 64 * 64 + 3 * 64 * 128
    head = 512 * 64
    assert shown["parameters"]["total"] == 2 * layer + 2 * head + 5 * 64
    assert shown["kv_bytes_per_token"] == 2 * 2 * 64 * 2  # layers x (key, value) x width x bytes
    assert shown["dense_flops_per_token"] == 2 * (2 * layer + head)
    # attention adds 2 x 2 x width FLOPs per key, layer and token: scores and weighted values
    assert shown["useful_flops_per_token"] == shown["dense_flops_per_token"] + 2 * 2 * 2 * 64 * 10
    assert shown["kind"] == "workload"


def test_a_workload_has_work_and_traffic_of_each_phase(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("show", "tiny", "--kv", "bf16", "--context", "10")

    # one byte per weight (fp8), two per key and value of 64 features, 2 layers and 10 tokens
    weights = 2 * (4 * 64 * 64 + 3 * 64 * 128) + 512 * 64
    prefill, decode = shown["prefill"], shown["decode"]
    assert prefill["compulsory_bytes"] == decode["compulsory_bytes"] == weights + 2 * 10 * 128 * 2
    assert decode["useful_flops"] == shown["useful_flops_per_token"]
    assert decode["flops_per_byte"] == decode["useful_flops"] / decode["compulsory_bytes"]
    # ten tokens see 1 to 10 keys; the head scores the last one only, a plain pass all of them
    layers = 10 * (weights - 512 * 64)
    assert prefill["useful_flops"] == 2 * (layers + 512 * 64 + 2 * 2 * 64 * 55)
    assert prefill["dense_flops"] == 2 * (layers + 10 * 512 * 64 + 2 * 2 * 64 * 100)


def test_a_config_on_disk_is_shown_like_a_name(
    pentarch_json: Callable[..., Any], tmp_path: Path
) -> None:
    config = tmp_path / "mine" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"model_type": "fake", "layers": 2}), encoding="utf-8")

    shown, named = pentarch_json("show", str(config)), pentarch_json("show", "tiny")

    assert shown["name"] == "mine"
    assert shown["parameters"] == named["parameters"]


def test_a_device_has_its_fields_and_its_machine(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("show", "the chip")

    assert (shown["name"], shown["size_bytes"], shown["backend"]) == ("chip", 16e9, "fake")
    assert [level["name"] for level in shown["machine"]["levels"]] == ["memory", "scratchpad"]


@pytest.mark.parametrize(
    ("name", "kind", "field"),
    [
        ("fake-family", "workload family", "class"),
        ("alone", "partitioner", "about"),
        ("device_count", "metric", "class"),
        ("ideal", "runtime", "attention"),
    ],
)
def test_anything_with_a_name_can_be_shown(
    pentarch_json: Callable[..., Any], name: str, kind: str, field: str
) -> None:
    shown = pentarch_json("show", name)

    assert (shown["name"], shown["kind"]) == (name, kind)
    assert shown[field]


def test_a_plugin_shows_what_it_provides(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("show", "fake", "--kind", "plugin")

    assert shown["provides"]["partitioners"] == ["alone"]
    assert shown["provides"]["workloads"] == ["both", "tiny"]


def test_a_back_end_shows_the_schema_of_its_devices(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("show", "fake", "--kind", "backend")

    assert "size_bytes" in shown["device_model"]["properties"]


def test_a_name_of_two_kinds_asks_which(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "both"]) == 2
    assert "'both' is a workload and a device" in capsys.readouterr().err
    assert main(["show", "both", "--kind", "device"]) == 0
    assert "size_bytes" in capsys.readouterr().out


def test_an_unknown_name_mentions_the_plugin_that_failed(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "tony"]) == 2
    error = capsys.readouterr().err
    assert "Did you mean 'tiny'" in error
    assert "Plug-in 'lost' failed to load: ImportError: no lost here" in error


def test_an_unknown_kind_is_an_error(
    fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", "tiny", "--kind", "gadget"]) == 2
    assert "No kind is called 'gadget'" in capsys.readouterr().err


def test_large_whole_numbers_are_grouped_years_are_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "h100_sxm"]) == 0
    text = capsys.readouterr().out
    assert " 80,000,000,000\n" in text
    assert " 2022\n" in text
