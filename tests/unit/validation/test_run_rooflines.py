import pytest

from pentarch.catalog import default_library
from pentarch.validation.run_rooflines import RunRoofline
from pentarch.validation.runs import Deployment
from pentarch.workload.query import Precisions


def roofline(load: int, *, devices: int = 1, tensor: int = 1) -> dict[str, float]:
    one = Deployment(
        workload="llama-3-8b", device="h100_sxm", devices=devices, tensor=tensor, pipeline=1,
        runtime="vllm", precisions=Precisions(weights="bf16", activations="bf16", kv="bf16"),
        prompt_tokens=1000, output_tokens=101,
    )  # fmt: skip
    found = RunRoofline(one, default_library()).figures(load)
    assert found is not None
    return dict(found)


def test_a_decode_step_reads_weights_and_cache_once() -> None:
    # 8.03e9 parameters of 2 bytes; 131,072 bytes a token (32 layers, 8 heads of 128, K and V)
    expected = (8.03e9 * 2 + 1050 * 131072) / 3.35e12
    assert roofline(1)["tpot"] == pytest.approx(expected, rel=0.01)


def test_a_prefill_runs_at_the_peak() -> None:
    # 2 FLOPs for each of 7e9 weights of the layers and token, attention on top
    assert roofline(1)["ttft"] == pytest.approx(2 * 7e9 * 1000 / 989.4e12, rel=0.05)


def test_prefills_of_others_come_between_and_groups_share_the_load() -> None:
    assert roofline(9)["tpot"] > roofline(1)["tpot"]
    assert roofline(8, devices=8)["tpot"] == pytest.approx(roofline(1)["tpot"])
    assert roofline(8, devices=8)["throughput"] == pytest.approx(8 * roofline(1)["throughput"])
    assert roofline(1, devices=8, tensor=8)["tpot"] == pytest.approx(roofline(1)["tpot"] / 8)
