from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pentarch.catalog import default_library
from pentarch.evaluate.batches import describe
from pentarch.validation.files import kernel_rows, score_files
from pentarch.validation.kernels import (
    CollectivePart,
    GemmPart,
    KernelRow,
    Part,
    VectorPart,
    quantize_part,
)
from pentarch.validation.predict import KernelBatch, predict, predict_all

MEASURED = Path(__file__).parents[2] / "validation" / "data" / "measured"
KERNELS = ("aic_gemm", "aic_context_attention", "aic_generation_attention", "aic_moe",
           "aic_collectives", "llmcompass_ops", "vidur_ops", "neusight_fp32_ops")  # fmt: skip


def row(*parts: Part, device: str = "h100_sxm", copies: float | None = None) -> KernelRow:
    return KernelRow(
        file="f.csv", label="r", device=device, operator="gemm", precision="", subset="main",
        runtimes=("vllm",), measured_s=1.0, parts=parts, copies=copies,
    )  # fmt: skip


def gemm(m: float, k: float, n: float, word: str = "bf16", weights: str | None = None) -> GemmPart:
    return GemmPart(m, k, n, a_format=word, b_format=weights or word, out_format="bf16")


def seconds(*rows: KernelRow) -> list[float]:
    found: list[float] = predict_all(rows, default_library()).seconds.tolist()
    return found


@pytest.mark.parametrize("name", KERNELS)
def test_rows_predicted_together_are_the_rows_predicted_alone(name: str) -> None:
    library = default_library()
    rows, _ = kernel_rows(MEASURED / f"{name}.csv", library)
    together = predict_all(rows, library)
    for index in range(0, len(rows), 7):
        alone = predict_all([rows[index]], library)
        assert together.seconds[index].tobytes() == alone.seconds[0].tobytes()
        assert together.rooflines[index].tobytes() == alone.rooflines[0].tobytes()


def test_a_row_of_several_stacks_gets_the_median_of_theirs() -> None:
    library = default_library()
    one = row(quantize_part(4096.0**2, "fp8"), gemm(4096, 4096, 4096, "fp8"))
    names = ("vllm", "framework-eager", "kernel-time")
    alone = [
        predict([one], library.device("h100_sxm"), library.runtime(name), library).item()
        for name in names
    ]
    assert len(set(alone)) == 3
    assert seconds(replace(one, runtimes=names)) == [sorted(alone)[1]]


def test_a_fit_can_ask_for_many_designs_at_once() -> None:
    library = default_library()
    device = library.device("h100_sxm")
    backend, runtime = library.backend_of(device), library.runtime("vllm")
    rows = [row(gemm(1, 8192, 8192)), row(gemm(4096, 4096, 4096))]
    shares = np.array([0.5, 0.7, 0.9])
    machines = describe(backend, device, 3, {"memory_efficiency": shares})
    batch = KernelBatch.of(rows, machines)
    found = batch.seconds(machines, backend, runtime)
    assert found.shape == (2, 3)
    for index, share in enumerate(shares):
        changed = device.replace(memory_efficiency=float(share))
        alone = predict(rows, changed, runtime, library)
        assert found[:, index].tobytes() == alone.tobytes()
    assert found[0, 0] > found[0, 1] > found[0, 2]  # a GEMV streams its weights


def test_plain_rooflines_by_hand() -> None:
    rows = [
        row(gemm(8192, 8192, 8192)), row(gemm(1, 8192, 8192)),
        row(CollectivePart("all_reduce", 1e9, 8.0)), row(CollectivePart("send", 1e9, 2.0)),
    ]  # fmt: skip
    found = predict_all(rows, default_library()).rooflines
    assert found[0] == pytest.approx(2 * 8192**3 / 989.4e12)
    assert found[1] == pytest.approx((8192**2 + 2 * 8192) * 2 / 3.35e12)
    assert found[2] == pytest.approx(2 * 7 / 8 * 1e9 / 450e9)
    assert found[3] == pytest.approx(1e9 / 450e9)


@pytest.mark.parametrize("name", ["vidur_ops", "aic_moe"])
def test_what_is_cold_is_never_faster_than_the_roofline(name: str) -> None:
    found = score_files([MEASURED / f"{name}.csv"]).rows
    assert found
    assert all(one.roofline is not None and one.predicted >= one.roofline for one in found)


def test_weights_that_stay_in_the_cache_come_from_there() -> None:
    # 12.6 MB fit what data have of the 50 MB of the cache; six sets of them do not
    small, large = gemm(1, 4096, 1536), gemm(1, 16384, 16384)
    cold, warm, rotated = seconds(row(small), row(small, copies=1.0), row(small, copies=6.0))
    assert warm < 0.9 * cold
    assert warm < 0.9 * rotated <= 0.9 * cold * (1 + 1e-9)
    out, same = seconds(row(large), row(large, copies=6.0))  # 537 MB a copy
    assert same == pytest.approx(out, rel=1e-3)


def test_how_many_copies_fit_is_decided_by_the_cache_of_the_device() -> None:
    # 12.6 MB fit the 50 MB of an H100, and not the 6 MB of an A40
    part = gemm(1, 4096, 1536)
    for device, is_warm in (("h100_sxm", True), ("a40", False)):
        cold, warm = seconds(row(part, device=device), row(part, device=device, copies=1.0))
        assert (warm < 0.9 * cold) is is_warm


def test_a_device_without_the_format_keeps_16_bit_activations() -> None:
    whole = row(quantize_part(64.0 * 4096, "fp8"), gemm(64, 4096, 4096, "fp8"), device="a100_sxm")
    stored = row(gemm(64, 4096, 4096, "bf16", "fp8"), device="a100_sxm")
    found = seconds(whole, stored)
    assert found[0] == found[1]
    native = seconds(replace(whole, device="h100_sxm"), replace(stored, device="h100_sxm"))
    assert native[0] != native[1]


def test_a_group_that_no_link_joins_cannot_run(tmp_path: Path) -> None:
    path = tmp_path / "c.csv"
    path.write_text(
        "device,library,mode,op,num_gpus,message_bytes,latency_ms,flags\n"
        "h100_pcie,nccl-2,eager,all_reduce,4,1024,1,\nh100_pcie,nccl-2,eager,all_reduce,2,1024,1,\n"
    )
    found = score_files([path])
    assert len(found.rows) == 1
    (missing,) = found.unscored
    assert (missing.reason, missing.name, missing.n) == ("cannot run on h100_pcie", "all_reduce", 1)


def test_operators_of_a_row_add_up() -> None:
    first, second = gemm(512, 4096, 4096), VectorPart("norm", bytes_in=1e8, bytes_out=1e8)
    alone = seconds(row(first), row(second))
    assert seconds(row(first, second)) == [pytest.approx(sum(alone), rel=1e-12)]


def test_devices_of_other_boards_are_reached_over_the_network() -> None:
    part = CollectivePart("send", 1e9, 2.0)
    near, far = seconds(row(part), replace(row(part), devices_per_board=1))
    # 450 GB/s of NVLink against a port of 50 GB/s
    assert far / near == pytest.approx(9.0, rel=0.05)
