from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import gemms, request

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.errors import FieldError
from pentarch.hardware.machine import peak_macs_per_s
from pentarch.hardware.parts import EngineKind, Management
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.view import View
from pentarch.mapping.engine import cost_rows, row_times
from pentarch.testing import BackendConformance
from pentarch.validation.kernels import GemmPart, KernelRow
from pentarch.validation.predict import predict
from pentarch_cpu.backend import CpuBackend
from pentarch_cpu.device import CpuDevice


class TestCpuConformance(BackendConformance):
    @pytest.fixture
    def backend(self) -> pa.AnyBackend:
        return CpuBackend()


NAMES = sorted(entry.name for entry in default_library().names("device") if entry.plugin == "cpu")


def cpu(**changes: Any) -> CpuDevice:
    """16 cores at 2 GHz, 256-bit FMA twice a cycle; 200 GB/s, of which one core draws 10."""
    values: dict[str, Any] = {
        "name": "plain", "cores": 16, "clock_hz": 2e9, "simd_bytes_per_cycle": 64, "l2_bytes": 2**21,
        "l3_bytes": 2**25, "memory": "ddr5", "memory_bytes": 64e9, "memory_channels": 4,
        "channel_bytes_per_s": 50e9, "memory_efficiency": 1.0, "memory_latency_s": 0.0,
        "core_bytes_per_s": 10e9, "dot_macs_per_cycle": {"int8": 64, "bf16": 32}, "overlap": 64,
        "simd_efficiency": 1.0, "block_start_s": 0.0, "power_cap_w": 200,
    }  # fmt: skip
    return CpuDevice(**{**values, **changes})


def machine_of(device: CpuDevice) -> Any:
    found = CpuBackend().machine(View(device))
    found.check()
    return found


def seconds(device: CpuDevice, **row: Any) -> float:
    """Return the time of one GEMM, fp32 unless it says otherwise."""
    formats = {"a_formats": "fp32", "b_formats": "fp32", "out_formats": "fp32"}
    machine = machine_of(device)
    costs = cost_rows(request(machine, gemms({**formats, **row})))
    assert costs.fits.all()
    return float(row_times(costs, overlap=machine.overhead.overlap).total_s[0, 0])


@pytest.mark.parametrize(
    ("name", "kind", "tera"),
    [
        # data sheet peaks: cores x base clock x operations per cycle
        ("xeon_8480plus", "bf16", 114.7), ("xeon_8480plus", "int8", 229.4), ("xeon_8480plus", "fp32", 7.2),
        ("xeon_8380", "int8", 23.6), ("xeon_8380", "fp32", 5.9), ("epyc_9654", "bf16", 14.7),
        ("epyc_9654", "fp32", 7.4), ("epyc_9965", "int8", 110.6), ("grace_cpu", "fp32", 7.1),
        ("graviton3", "fp32", 5.3), ("ryzen_7950x", "fp32", 2.3), ("raspberry_pi_5", "fp32", 0.15),
    ],
)  # fmt: skip
def test_peaks_are_cores_times_clock_times_ports(name: str, kind: str, tera: float) -> None:
    peak = peak_macs_per_s(CpuBackend().machine(View(pa.device(name))), kind)
    assert peak is not None
    assert 2 * peak.item() == pytest.approx(tera * 1e12, rel=0.025)


@pytest.mark.parametrize(
    ("name", "gigabytes"),
    [("xeon_8480plus", 307.2), ("xeon_6980p", 844.8), ("epyc_9654", 460.8), ("grace_cpu", 512.0),
     ("ryzen_7950x", 83.2), ("raspberry_pi_5", 17.1)],
)  # fmt: skip
def test_channels_make_the_published_bandwidth(name: str, gigabytes: float) -> None:
    memory = CpuBackend().machine(View(pa.device(name))).levels[0]
    assert memory.read_bytes_per_s.item() == pytest.approx(gigabytes * 1e9, rel=2e-3)


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Intel Xeon Platinum 8592+ 2S", "xeon_8592plus"), ("INTEL XEON 6980P", "xeon_6980p"),
        ("AWS m7i.16xlarge (4th gen Xeon, 64 vCPU)", "xeon_8480plus_32c"),
        ("Raspberry Pi 5 16GB", "raspberry_pi_5"), ("Apple M2 Max (CPU cores only)", "m2_max_cpu"),
    ],
)  # fmt: skip
def test_labels_of_measurements_lead_to_devices(label: str, name: str) -> None:
    assert default_library().device_name(label) == name


def test_levels_are_memory_a_shared_cache_and_the_cores_own() -> None:
    memory, shared, own = machine_of(cpu()).levels
    assert memory.requester_bytes_per_s.item() == 10e9
    assert shared.management is Management.CACHE
    assert shared.read_bytes_per_s.item() == pytest.approx(16 * 10 * 2e9)  # 10 B a cycle and core
    assert (own.instances.item(), own.size_bytes.item()) == (16, 2**21)


def test_a_barrier_visits_every_core() -> None:
    def barrier_s(cores: int) -> float:
        table = machine_of(cpu(cores=cores, line_transfer_s=4e-8))
        return float(table.overhead.barrier_s.item())

    assert barrier_s(1) == 0.0
    assert barrier_s(2) == pytest.approx(4e-8)
    assert barrier_s(65) == pytest.approx(64 * 4e-8)


def test_more_cores_make_a_tiny_operator_slower() -> None:
    row = KernelRow(
        file="", label="tiny", device="", operator="gemm", precision="fp32", subset="main",
        runtimes=("ideal",), measured_s=1.0, parts=(GemmPart(1, 16, 16, "fp32", "fp32", "fp32"),),
    )  # fmt: skip
    times = [
        predict([row], cpu(cores=cores), Runtime(name="ideal"), default_library()).item()
        for cores in (16, 64, 256)
    ]
    assert times[1] - times[0] == pytest.approx(48 * 5e-8, rel=1e-6)
    assert times[2] - times[1] == pytest.approx(192 * 5e-8, rel=1e-6)


def test_few_cores_cannot_saturate_memory() -> None:
    # A product of one row reads 4096 x 4096 words of 4 bytes once: 67.1 MB.
    size = 4096 * 4096 * 4
    row = {"rows": 1.0, "k": 4096.0, "n": 4096.0}
    assert seconds(cpu(cores=4), **row) == pytest.approx(size / 40e9, rel=0.02)
    assert seconds(cpu(cores=8), **row) == pytest.approx(size / 80e9, rel=0.02)
    assert seconds(cpu(cores=64), **row) == pytest.approx(size / 200e9, rel=0.02)


def test_an_operator_with_work_for_few_cores_draws_what_they_can() -> None:
    # 64 columns in blocks of at least 16: four cores at work, 10 GB/s each.
    size = 65536 * 64 * 4
    row = {"rows": 1.0, "k": 65536.0, "n": 64.0}
    device = cpu(cores=16)
    shared = seconds(device.replace(core_bytes_per_s=1e12), **row)
    assert seconds(device, **row) > 1.2 * shared
    assert shared == pytest.approx(size / 200e9, rel=0.05)


def test_ports_of_clusters_limit_all_cores() -> None:
    row = {"rows": 1.0, "k": 4096.0, "n": 4096.0}
    free = cpu(cores=32)
    tied = free.replace(clusters=4, cluster_bytes_per_s=25e9)
    wide = free.replace(clusters=4, cluster_bytes_per_s=60e9)
    assert seconds(tied, **row) == pytest.approx(2.0 * seconds(free, **row), rel=0.02)
    assert seconds(wide, **row) == seconds(free, **row)


def test_accesses_to_other_domains_slow_memory_down() -> None:
    def stream(**changes: float) -> float:
        memory = machine_of(cpu(**changes)).levels[0]
        return float(memory.stream_efficiency.item())

    assert stream(numa_domains=1, remote_share=0.5) == 1.0
    # Two domains: a quarter of the accesses crosses at half the speed, 0.75 + 0.25 x 2 = 1.25 the time.
    assert stream(numa_domains=2, remote_share=0.5, remote_bandwidth_ratio=0.5) == pytest.approx(
        0.8
    )
    assert stream(numa_domains=4, remote_share=0.5) < stream(numa_domains=2, remote_share=0.5)


def test_a_row_of_narrow_weights_waits_for_their_conversion() -> None:
    # 2 weights a cycle and core at 2 GHz on 16 cores: 64e9 weights a second, 36 GB/s of int4 with scales.
    row = {"rows": 1.0, "k": 4096.0, "n": 4096.0, "a_formats": "int8", "b_formats": "int4_g128",
           "out_formats": "bf16"}  # fmt: skip
    slow, fast = cpu(convert_per_cycle=2), cpu(convert_per_cycle=200)
    assert seconds(slow, **row) == pytest.approx(4096**2 / 64e9, rel=0.03)
    moved = 4096**2 * (4.125 / 8)
    assert seconds(fast, **row) == pytest.approx(moved / 160e9, rel=0.05)  # 16 cores draw 160 GB/s
    # Twice the bandwidth does not help who converts; int8 weights need no conversion.
    richer = slow.replace(channel_bytes_per_s=100e9, core_bytes_per_s=20e9)
    assert seconds(richer, **row) == pytest.approx(seconds(slow, **row), rel=0.03)
    plain = {**row, "b_formats": "int8"}
    assert seconds(slow, **plain) == seconds(fast, **plain)


def test_conversion_follows_the_vector_width_where_nothing_is_stated() -> None:
    rates = [
        machine_of(cpu(simd_bytes_per_cycle=width)).engines[-1].values_per_cycle["convert"].item()
        for width in (32, 64, 128)
    ]
    assert rates == [4.0, 8.0, 16.0]


def amx(**changes: Any) -> CpuDevice:
    values = {"matrix_unit": "AMX", "matrix_macs_per_cycle": {"int8": 1024, "bf16": 512}}
    return cpu(**{**values, "matrix_efficiency": 1.0, "core_bytes_per_s": 1e12, **changes})


def test_products_run_on_the_matrix_unit_in_its_formats_and_on_simd_in_others() -> None:
    engines = machine_of(amx()).engines
    assert [(one.name, one.kind) for one in engines] == [
        ("AMX", EngineKind.MATRIX), ("SIMD", EngineKind.MATRIX), ("SIMD vector", EngineKind.VECTOR),
    ]  # fmt: skip
    formats = {"bf16": "AMX", "int8": "AMX", "fp32": "SIMD"}
    for kind, name in formats.items():
        rows = gemms({"a_formats": kind, "b_formats": kind, "out_formats": "fp32"})
        costs = cost_rows(request(machine_of(amx()), rows))
        assert [key for key, time in costs.compute_s.items() if time.any()] == [name]


def test_the_matrix_unit_wins_with_many_rows_and_not_with_one() -> None:
    kind = {"a_formats": "bf16", "b_formats": "bf16", "out_formats": "bf16"}
    many = {"rows": 2048.0, "k": 4096.0, "n": 4096.0, **kind}
    one = {**many, "rows": 1.0}
    simd, matrix = cpu(core_bytes_per_s=1e12), amx()
    assert seconds(simd, **many) > 5 * seconds(matrix, **many)
    assert seconds(simd, **one) == pytest.approx(seconds(matrix, **one), rel=0.02)


def test_a_tile_of_the_matrix_unit_takes_sixteen_rows() -> None:
    machine = machine_of(
        amx(channel_bytes_per_s=1e14, core_bytes_per_s=1e14, l3_bytes_per_cycle=1e4)
    )
    kind = {"a_formats": "bf16", "b_formats": "bf16", "out_formats": "bf16"}
    rows = [{"rows": m, "k": 4096.0, "n": 4096.0, **kind} for m in (1.0, 8.0, 16.0, 64.0)]
    times = cost_rows(request(machine, gemms(*rows))).compute_s["AMX"][:, 0]
    # 16 rows x 4096 x 4096 at 0.75 x 512 a cycle, 2 GHz, 16 cores
    assert times[2] == pytest.approx(16 * 4096**2 / (0.75 * 512 * 2e9 * 16), rel=0.01)
    assert times[0] == times[1] == times[2]
    assert times[3] == pytest.approx(4 * times[2], rel=0.01)


def test_l2_feeds_the_matrix_unit_in_part() -> None:
    # 512 MACs a cycle on blocks of 32 x 32 need 512 x 2 B x 2 / 32 = 64 B a cycle; L2 has 48.
    engine = machine_of(amx()).engines[0]
    assert engine.format_efficiency["bf16"].item() == pytest.approx(0.75)
    wide = machine_of(amx(l2_bytes_per_cycle=64)).engines[0]
    assert wide.format_efficiency["bf16"].item() == 1.0


def test_a_matrix_unit_without_rates_is_refused() -> None:
    with pytest.raises(FieldError, match=r"matrix_macs_per_cycle.*is empty"):
        CpuBackend().machine(View(cpu(matrix_unit="AMX")))


def test_a_link_without_bandwidth_is_refused() -> None:
    with pytest.raises(FieldError, match=r"link_bytes_per_s.*is missing"):
        CpuBackend().machine(View(cpu(link="UPI")))


def test_memory_is_added_to_the_price_of_the_processor() -> None:
    # DDR5 at 2.4 USD/GB in the technology library
    machine = machine_of(cpu(processor_usd=1000))
    assert machine.cost.price_usd.item() == pytest.approx(1000 + 64 * 2.4)
    assert machine_of(cpu(price_usd=500, processor_usd=1000)).cost.price_usd.item() == 500
    assert machine_of(cpu()).cost.price_usd is None


def test_unknown_power_stays_unknown() -> None:
    power = machine_of(cpu(power_cap_w=None)).power
    assert power.cap_w is None
    assert power.static_w is None


@pytest.mark.parametrize("name", NAMES)
def test_a_busy_cpu_draws_no_more_than_its_limit(name: str) -> None:
    """Arithmetic at the peak and static power together stay near the package's limit."""
    device = pa.device(name)
    machine = CpuBackend().machine(View(device))
    watts = max(
        float((rate * engine.units * engine.clock_hz * engine.mac_j[kind]).item())
        for engine in machine.engines
        for kind, rate in engine.macs_per_cycle.items()
    )
    assert machine.power.static_w.item() + watts < 1.5 * machine.power.cap_w.item()


def test_a_batch_of_cores_gives_what_each_gives_alone() -> None:
    counts = np.array([1.0, 7.0, 64.0])
    batch = CpuBackend().machine(View(cpu(), 3, {"cores": counts}))
    row = {"rows": 5.0, "k": 300.0, "n": 777.0, "a_formats": "bf16", "b_formats": "int4_g128"}
    together = cost_rows(request(batch, gemms(row))).compute_s["SIMD"][0]
    alone = [
        cost_rows(request(machine_of(cpu(cores=n)), gemms(row))).compute_s["SIMD"][0, 0]
        for n in counts
    ]
    assert together.tolist() == alone


def test_llama_decodes_near_the_bandwidth_bound() -> None:
    # bf16 weights of Llama-2-7B without embeddings: 13.2 GB over 0.8 x 307.2 GB/s = 53.7 ms a token.
    planned = pa.partition(
        "llama-2-7b", "xeon_8480plus", pa.Query(prompt_tokens=32, output_tokens=32)
    )
    tpot_s = pa.evaluate(planned).tpot_s
    assert tpot_s is not None
    assert 0.0537 < tpot_s < 1.1 * 0.0537
