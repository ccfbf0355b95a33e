from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import gemms, request

import pentarch as pa
from pentarch.errors import FieldError, MissingFigureError
from pentarch.hardware.machine import peak_macs_per_s
from pentarch.hardware.parts import Management
from pentarch.hardware.view import View
from pentarch.mapping.engine import cost_rows
from pentarch.testing import BackendConformance
from pentarch_gpu.backend import GpuBackend
from pentarch_gpu.device import GpuDevice


class TestGpuConformance(BackendConformance):
    @pytest.fixture
    def backend(self) -> pa.AnyBackend:
        return GpuBackend()


@pytest.fixture(scope="module")
def h100() -> GpuDevice:
    device = pa.device("h100_sxm")
    assert isinstance(device, GpuDevice)
    return device


def machine_of(device: GpuDevice) -> Any:
    found = GpuBackend().machine(View(device))
    found.check()
    return found


@pytest.mark.parametrize(
    ("name", "tflops"),
    [("fp8", 1978.9), ("int8", 1978.9), ("bf16", 989.4), ("fp16", 989.4), ("tf32", 494.7)],
)
def test_dense_peaks_are_those_of_the_datasheet(h100: GpuDevice, name: str, tflops: float) -> None:
    peak = peak_macs_per_s(machine_of(h100), name)
    assert peak is not None
    assert 2 * peak.item() == pytest.approx(tflops * 1e12)


def test_levels_are_memory_cache_and_the_units_own(h100: GpuDevice) -> None:
    memory, cache, own = machine_of(h100).levels
    assert memory.size_bytes.item() == 80e9
    assert memory.read_bytes_per_s.item() == 3.35e12
    assert cache.management is Management.CACHE
    assert (cache.size_bytes.item(), own.instances.item()) == (50e6, 132)
    # 64 B a cycle and multiprocessor at 1.83 GHz
    assert cache.read_bytes_per_s.item() == pytest.approx(132 * 64 * 1.83e9)


def test_the_vector_peak_is_one_value_for_two_flops(h100: GpuDevice) -> None:
    vector = machine_of(h100).engines[1]
    rate = vector.values_per_cycle["elementwise"] * vector.units * vector.clock_hz
    assert 2 * rate.item() == pytest.approx(66.9e12)


def test_the_bill_of_material_is_near_the_published_estimate(h100: GpuDevice) -> None:
    # `manufacturing.product_cost.h100_total`: 3,320 USD
    found = machine_of(h100).cost
    parts = {name: values.item() for name, values in found.parts_usd.items()}
    assert sum(parts.values()) == pytest.approx(3320, rel=0.2)
    assert parts["memory"] == pytest.approx(1350, rel=0.1)
    assert parts["package"] == pytest.approx(735, rel=0.1)
    assert found.price_usd.item() == 27500


def test_a_gpu_without_a_die_area_has_neither_area_nor_bill(h100: GpuDevice) -> None:
    found = machine_of(h100.replace(die_mm2=None))
    assert found.area is None
    assert found.cost.parts_usd is None


def test_static_power_is_its_share_of_the_limit_and_the_memory_comes_on_top(
    h100: GpuDevice,
) -> None:
    found = machine_of(h100)
    assert found.power.static_w.item() == pytest.approx(0.36 * 700)
    assert found.levels[0].static_w.item() == pytest.approx(5 * 3.0)
    assert found.power.cap_w.item() == 700


def test_links_reach_the_board_and_then_the_network(h100: GpuDevice) -> None:
    board, network = machine_of(h100).links
    assert (board.degree.item(), board.bytes_per_s.item()) == (8, 450e9)
    assert board.in_network_reduction
    assert network.bytes_per_s.item() == 50e9
    assert machine_of(h100.replace(link=None, network=None)).links == ()


def test_a_link_without_its_bandwidth_is_an_error_that_names_it(h100: GpuDevice) -> None:
    with pytest.raises(FieldError, match="link_bytes_per_s: is missing"):
        machine_of(h100.replace(link_bytes_per_s=None))
    with pytest.raises(MissingFigureError, match="network_bytes_per_s"):
        machine_of(h100.replace(network_bytes_per_s=None))


def test_a_decode_gemm_reaches_the_sustained_memory_bandwidth_and_no_more(h100: GpuDevice) -> None:
    # Llama-3-8B's up and gate projections at batch 1: 4096 x 28672 weights in bf16
    bf16 = {"a_formats": "bf16", "b_formats": "bf16"}
    rows = gemms({"rows": 1.0, "k": 4096.0, "n": 28672.0, **bf16})
    costs = cost_rows(request(machine_of(h100), rows))
    moved = (4096 * 28672 + 4096 + 28672) * 2
    ideal = moved / (3.35e12 * 0.9) + 6e-7
    assert costs.level_s["hbm3"].item() == pytest.approx(ideal)
    assert costs.level_s["L2"].item() < ideal
    assert costs.compute_s["tensor cores"].item() < ideal


def test_a_large_gemm_runs_at_its_issue_efficiency_less_starts_and_waves(h100: GpuDevice) -> None:
    bf16 = {"a_formats": "bf16", "b_formats": "bf16"}
    rows = gemms({"rows": 8192.0, "k": 8192.0, "n": 8192.0, **bf16})
    costs = cost_rows(request(machine_of(h100), rows))
    share = 2 * 8192**3 / 989.4e12 / costs.compute_s["tensor cores"].item()
    # 85 % inside a tile; at most 800 of each tile's cycles and part of the last wave are lost
    assert 0.7 < share < 0.85


def test_a_batch_of_gpus_gives_the_same_bytes_as_its_members(h100: GpuDevice) -> None:
    bandwidth = np.array([1e12, 2e12, 4e12])
    batch = GpuBackend().machine(View(h100, 3, {"memory_bytes_per_s": bandwidth}))
    rows = gemms({"a_formats": "bf16", "b_formats": "bf16", "k": 4096.0, "n": 4096.0})
    together = cost_rows(request(batch, rows)).level_s["hbm3"]
    for index in range(3):
        alone = machine_of(h100.replace(memory_bytes_per_s=bandwidth[index]))
        assert cost_rows(request(alone, rows)).level_s["hbm3"].item() == together[0, index]
