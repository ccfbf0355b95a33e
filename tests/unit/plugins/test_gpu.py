from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import gemms, request

import pentarch as pa
from pentarch.errors import FieldError, MissingFigureError
from pentarch.evaluate.row_power import capped_row_seconds
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable, peak_macs_per_s
from pentarch.hardware.parts import Management
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.view import View
from pentarch.mapping.costs import CacheState
from pentarch.mapping.engine import cost_rows, row_times
from pentarch.mapping.launching import started
from pentarch.testing import BackendConformance
from pentarch_gpu.backend import GpuBackend
from pentarch_gpu.device import CALIBRATED, GpuDevice
from pentarch_gpu.priors import priors_of


class TestGpuConformance(BackendConformance):
    @pytest.fixture
    def backend(self) -> pa.AnyBackend:
        return GpuBackend()


@pytest.fixture(scope="module")
def h100() -> GpuDevice:
    """Return an H100 with the priors of the model, whatever was fitted to measurements of it."""
    device = pa.device("h100_sxm")
    assert isinstance(device, GpuDevice)
    fields = GpuDevice.model_fields
    priors = {name: fields[name].get_default(call_default_factory=True) for name in CALIBRATED}
    return device.replace(**priors)


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
    # 0.03 bytes in the time of each of 989.4e12 / 2 multiply-accumulates a second
    assert cache.read_bytes_per_s.item() == pytest.approx(0.03 * 989.4e12 / 2)
    assert cache.requester_bytes_per_s.item() == pytest.approx(0.03 * 989.4e12 / 2 / 132)
    assert cache.usable.item() == 0.4
    # the larger of 30 GB/s and 1.5 of 3350 / 132
    assert memory.requester_bytes_per_s.item() == pytest.approx(1.5 * 3.35e12 / 132)


def test_the_vector_peak_is_one_value_for_two_flops(h100: GpuDevice) -> None:
    vector = machine_of(h100).engines[1]
    rate = vector.values_per_cycle["elementwise"] * vector.units * vector.clock_hz
    assert 2 * rate.item() == pytest.approx(66.9e12)


def test_the_bill_of_material_is_near_the_published_estimate(h100: GpuDevice) -> None:
    # `manufacturing.product_cost.h100_total`: 3,320 USD
    found = machine_of(h100).cost
    parts = {name: values.item() for name, values in found.parts_usd.items()}
    assert sum(parts.values()) == pytest.approx(3320, rel=0.2)
    # 814 mm2 at 17,000 USD a wafer of 57.6 dies, 73 % of which can be sold
    assert parts["die"] == pytest.approx(295, abs=0.5)
    assert parts["yield loss"] == pytest.approx(295.2 * (1 / 0.73 - 1), abs=0.5)
    # a package that fails takes die and five stacks along: 0.985 each
    inside = sum(parts[name] for name in ("die", "yield loss", "memory", "package"))
    assert parts["assembly loss"] == pytest.approx(inside * (0.985**-6 - 1))
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
    ideal = moved / (3.35e12 * 0.93 * 0.89)
    assert costs.level_s["hbm3"].item() == pytest.approx(ideal)
    assert costs.level_s["L2"].item() < ideal
    assert costs.compute_s["tensor cores"].item() < ideal


def gemm_seconds(device: GpuDevice, m: float, k: float, n: float) -> float:
    """Return the time of a bf16 product inside a model, without starts and power cap."""
    on = machine_of(device)
    rows = gemms({"rows": m, "k": k, "n": n, "a_formats": "bf16", "b_formats": "bf16"})
    costs = cost_rows(request(on, rows, cached=CacheState.layer()))
    return float(row_times(costs, overlap=on.overhead.overlap).total_s.item())


def test_a_large_gemm_runs_at_its_issue_efficiency_less_starts_and_waves(h100: GpuDevice) -> None:
    share = 2 * 8192**3 / 989.4e12 / gemm_seconds(h100, 8192, 8192, 8192)
    # 97 % inside a tile; prologues, outputs and part of the last wave are lost
    assert 0.85 < share < 0.97


def test_waves_make_a_staircase(h100: GpuDevice) -> None:
    # One tile of 128 x 128 for each of 132 multiprocessors, then one more row of them
    only = replace_menu(machine_of(h100), ((128, 128, 64),))

    def seconds(tiles: int) -> float:
        rows = {"rows": 128.0 * tiles, "k": 8192.0, "n": 128.0}
        table = gemms({**rows, "a_formats": "bf16", "b_formats": "bf16"})
        whole = Runtime(name="r", kernels=(KernelSet(operator=KernelOperator.GEMM, most_parts=1),))
        return float(
            cost_rows(request(only, table, runtime=whole)).compute_s["tensor cores"].item()
        )

    first, edge, over, full = (seconds(tiles) for tiles in (1, 132, 133, 264))
    assert first == edge
    # half of the unfilled second wave is paid
    assert over == pytest.approx(edge * (133 / 132 + 0.5 * (2 - 133 / 132)))
    assert full == pytest.approx(2 * edge)


def replace_menu(on: MachineTable, menu: tuple[tuple[int, int, int], ...]) -> MachineTable:
    engine = on.engines[0]
    changed = replace(engine, structure={**engine.structure, "tile_menu": menu})
    return replace(on, engines=(changed, *on.engines[1:]))


def test_up_to_the_smallest_tile_more_rows_cost_nothing(h100: GpuDevice) -> None:
    few = [gemm_seconds(h100, m, 8192, 8192) for m in (1, 4, 8)]
    assert max(few) == pytest.approx(min(few), rel=0.01)
    assert gemm_seconds(h100, 1024, 8192, 8192) > 2 * few[0]


def test_a_tiny_kernel_takes_as_long_as_its_start(h100: GpuDevice) -> None:
    on = machine_of(h100)
    rows = gemms({"rows": 1.0, "k": 64.0, "n": 64.0, "a_formats": "bf16", "b_formats": "bf16"})
    costs = cost_rows(request(on, rows, cached=CacheState.layer()))
    graphed = started(costs, on, Runtime(name="graphed"))
    eager = started(costs, on, Runtime(name="eager", launch_s=20e-6, issues_ahead=True))
    times = [
        row_times(found, overlap=on.overhead.overlap).total_s.item() for found in (graphed, eager)
    ]
    assert 2.2e-6 < times[0] < 3.2e-6
    assert times[1] == pytest.approx(20e-6, rel=0.01)


def test_a_power_cap_slows_a_repeated_gemm_down_by_less_than_the_power_it_saves(
    h100: GpuDevice,
) -> None:
    rows = gemms(
        {"rows": 8192.0, "k": 8192.0, "n": 8192.0, "a_formats": "bf16", "b_formats": "bf16"}
    )

    def seconds(device: GpuDevice) -> float:
        on = machine_of(device)
        costs = cost_rows(request(on, rows, cached=CacheState.layer()))
        return float(capped_row_seconds(costs, on).item())

    free = seconds(h100.replace(power_cap_w=5000, static_share=0.05))
    plain = seconds(h100.replace(mac_energy_ratio=1.6))
    tight = seconds(h100.replace(mac_energy_ratio=1.6, power_cap_w=350, static_share=0.36))
    assert plain > free
    # half of the power: V and f fall together, so that the time grows by less than two
    assert plain < tight < 2 * plain


def test_formats_have_an_efficiency_and_an_energy_of_their_own(h100: GpuDevice) -> None:
    plain = machine_of(h100).engines[0]
    own = machine_of(
        h100.replace(
            format_efficiency={"fp8": 0.9}, format_energy={"fp8": 0.5}, mac_energy_ratio=2.0
        )
    ).engines[0]
    assert own.format_efficiency["fp8"].item() == 0.9
    assert own.mac_j["fp8"].item() == pytest.approx(plain.mac_j["fp8"].item())
    assert own.mac_j["bf16"].item() == pytest.approx(2 * plain.mac_j["bf16"].item())


def test_a_multiply_add_of_vector_units_is_expected_to_cost_more_than_its_arithmetic(
    h100: GpuDevice,
) -> None:
    # FP32 runs in vector units of NVIDIA's and in matrix units of AMD's data-center GPUs.
    matrix = pa.device("mi210")
    assert isinstance(matrix, GpuDevice)
    name = "format_energy.fp32"
    assert priors_of(h100)[name].value > 2.0 > priors_of(matrix)[name].value == 1.0
    assert priors_of(h100)["format_energy.fp8"].value == 1.0


def test_what_a_fit_may_set_are_fields_of_the_device() -> None:
    assert set(GpuDevice.model_fields) >= CALIBRATED


def test_a_batch_of_gpus_gives_the_same_bytes_as_its_members(h100: GpuDevice) -> None:
    bandwidth = np.array([1e12, 2e12, 4e12])
    batch = GpuBackend().machine(View(h100, 3, {"memory_bytes_per_s": bandwidth}))
    rows = gemms({"a_formats": "bf16", "b_formats": "bf16", "k": 4096.0, "n": 4096.0})
    together = cost_rows(request(batch, rows)).level_s["hbm3"]
    for index in range(3):
        alone = machine_of(h100.replace(memory_bytes_per_s=bandwidth[index]))
        assert cost_rows(request(alone, rows)).level_s["hbm3"].item() == together[0, index]
