from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

import pentarch_gpu.plugin
from pentarch import Catalog, hookimpl
from pentarch.catalog import Library, default_library
from pentarch.errors import UnknownNameError
from pentarch.evaluate.batches import describe
from pentarch_gpu.device import CALIBRATED, GpuDevice

GPUS = [
    "a100_pcie_40", "a100_pcie_80", "a100_sxm", "a100_sxm_40", "a40", "b200_sxm", "b300_sxm",
    "b60", "gb200", "gb300", "gh200_144", "gh200_96", "h100_nvl", "h100_pcie", "h100_sxm",
    "h200_sxm", "jetson_agx_orin_64", "jetson_agx_thor_128", "l4", "l40s", "mi100", "mi210",
    "mi250_1gcd", "mi300x", "mi325x", "mi355x", "p100_pcie_16", "p4", "rtx_4090",
    "rtx_pro_6000_server", "t4", "v100_pcie_32",
]  # fmt: skip
NAMES = {
    "NVIDIA V100 SXM2 32GB": "v100_sxm_32", "NVIDIA A10": "a10", "NVIDIA RTX A6000": "rtx_a6000",
    "NVIDIA RTX 6000 Ada": "rtx_6000_ada", "NVIDIA RTX 3090": "rtx_3090",
    "NVIDIA RTX 3090 Ti": "rtx_3090_ti", "NVIDIA RTX 4080": "rtx_4080",
    "NVIDIA RTX 5090": "rtx_5090", "AMD Instinct MI250": "mi250", "AMD Instinct MI250X": "mi250x",
    "AMD Radeon RX 7900 XTX": "rx_7900_xtx", "Intel Data Center GPU Max 1550": "max_1550",
    "Intel Arc B580": "b580", "NVIDIA Jetson Orin NX 16GB": "jetson_orin_nx_16",
    "NVIDIA Jetson Orin Nano 8GB (Super)": "jetson_orin_nano_8",
    "NVIDIA Jetson Orin Nano 8GB": "jetson_orin_nano_8",
    "NVIDIA Jetson AGX Thor T5000": "jetson_agx_thor_128",
    "NVIDIA Jetson AGX Thor 128GB": "jetson_agx_thor_128", "NVIDIA GB10 (DGX Spark)": "gb10",
    "NVIDIA GB10 (DGX Spark class)": "gb10", "NVIDIA A100": "a100_sxm",
    "NVIDIA A100 SXM 80GB (330 W cap)": "a100_sxm_330w", "NVIDIA GB200 192GB": "gb200",
    "NVIDIA GB200 (per GPU)": "gb200", "NVIDIA GH200 96GB (variant assumed)": "gh200_96",
    "NVIDIA B200 180GB (DGX)": "b200_sxm", "AMD Instinct MI250X (one GCD)": "mi250x_1gcd",
    "AMD Instinct MI250 (one GCD per count, assumed)": "mi250_1gcd",
    "NVIDIA RTX 4090 (Core Ultra 265K host)": "rtx_4090", "Intel Arc Pro B60": "b60",
}  # fmt: skip

CALIBRATION = """\
kind: calibration
backend: gpu
device: {device}
family: {family}
source: a benchmark
date: 2026-01-31
parameters:
  memory_efficiency: {{value: {value}}}
  die_mm2: {{value: 1}}
"""


def gpus() -> list[GpuDevice]:
    library = default_library()
    found = [library.device(entry.name) for entry in library.names("device")]
    return [device for device in found if isinstance(device, GpuDevice)]


@pytest.mark.parametrize("name", GPUS)
def test_every_measured_gpu_is_in_the_catalog_alone_and_by_eight(name: str) -> None:
    library = default_library()
    assert isinstance(library.device(name), GpuDevice)
    assert library.system(f"8x{name}").devices == 8


@pytest.mark.parametrize("label", NAMES)
def test_labels_of_published_figures_name_devices(label: str) -> None:
    assert default_library().device(label).name == NAMES[label]


def test_every_gpu_can_be_described_and_belongs_to_a_family() -> None:
    library = default_library()
    for device in gpus():
        machine = describe(library.backend_of(device), device, 1)
        assert device.architecture
        assert machine.levels[0].read_bytes_per_s.item() == device.memory_bytes_per_s
        assert "fp32" in device.peak_flops_per_s


def test_every_figure_of_a_gpu_has_a_source() -> None:
    for device in gpus():
        assert "*" in device.sources
        for field in ("multiprocessors", "clock_hz", "peak_flops_per_s", "memory_bytes_per_s"):
            assert device.sources[field].source, (device.name, field)
        if device.price_usd is not None:
            assert device.sources["price_usd"].grade in ("pub", "est"), device.name


def test_peaks_are_a_sensible_number_of_operations_a_cycle() -> None:
    # per unit and cycle: 128 lanes of FP32 in most families, and a tensor core at most 64 Ki FLOP
    for device in gpus():
        cycles = device.multiprocessors * device.clock_hz
        assert 64 <= device.vector_flops_per_s / cycles <= 520, device.name
        assert max(device.peak_flops_per_s.values()) / cycles <= 2**16, device.name


def test_half_a_card_has_half_of_its_figures() -> None:
    library = default_library()
    for whole, half in (("mi250", "mi250_1gcd"), ("mi250x", "mi250x_1gcd")):
        card, die = library.device(whole), library.device(half)
        assert isinstance(card, GpuDevice)
        assert isinstance(die, GpuDevice)
        for field in ("multiprocessors", "memory_bytes", "power_cap_w"):
            assert getattr(die, field) == pytest.approx(getattr(card, field) / 2), (half, field)
        assert die.memory_bytes_per_s == pytest.approx(card.memory_bytes_per_s / 2, rel=1e-3)


def test_a_variant_differs_from_its_base_only_in_what_it_states() -> None:
    library = default_library()
    base, capped = library.device("a100_sxm"), library.device("a100_sxm_330w")
    assert isinstance(base, GpuDevice)
    assert isinstance(capped, GpuDevice)
    assert (base.power_cap_w, capped.power_cap_w) == (400, 330)
    assert capped.peak_flops_per_s == base.peak_flops_per_s
    assert capped.sources["clock_hz"] == base.sources["clock_hz"]
    assert not set(base.aliases) & set(capped.aliases)


@pytest.mark.parametrize(
    ("name", "kind"), [("Intel Core i9-13900K", "cpu"), ("Intel Gaudi 2", "soc"), ("amd alveo u280", "fpga")]
)  # fmt: skip
def test_a_device_without_a_back_end_is_named_with_its_class(name: str, kind: str) -> None:
    for look_up in (default_library().device, default_library().system):
        with pytest.raises(UnknownNameError, match=f"{name} is a {kind} .* no back-end yet"):
            look_up(name)


class BareGpus:
    """The GPUs without what was fitted to measurements."""

    register_backends = staticmethod(pentarch_gpu.plugin.register_backends)

    @hookimpl
    def register_catalogs(self) -> Iterable[Catalog]:
        found = pentarch_gpu.plugin.register_catalogs()
        return [entry for entry in found if entry.kind != "calibration"]


@pytest.fixture
def calibrated(
    registry_of: Callable[..., Any], fakes: Any, catalog_package: Callable[[Mapping[str, str]], str]
) -> Library:
    """Return the GPUs with two calibrations of the Hopper family and one of Ada."""
    files = {
        "h100_sxm.yaml": CALIBRATION.format(device="h100_sxm", family="Hopper", value=0.8),
        "h200_sxm.yaml": CALIBRATION.format(device="h200_sxm", family="Hopper", value=0.7),
        "l40s.yaml": CALIBRATION.format(device="l40s", family="Ada", value=0.6),
    }
    fitted = fakes.plugin([Catalog("calibration", catalog_package(files))])
    return Library(registry_of(gpu=BareGpus(), fitted=fitted))


def efficiency(library: Library, name: str) -> tuple[float, str]:
    device = library.device(name)
    assert isinstance(device, GpuDevice)
    assert device.die_mm2 != 1  # not among the fields that a fit may set
    return device.memory_efficiency, device.sources["memory_efficiency"].grade


def test_calibrations_reach_devices_of_the_catalog(calibrated: Library) -> None:
    assert efficiency(calibrated, "h100_sxm") == (0.8, "meas")
    assert efficiency(calibrated, "gh200_96") == (pytest.approx((0.8 * 0.7) ** 0.5), "der")


def test_leaving_out_a_device_or_a_family(calibrated: Library) -> None:
    without = calibrated.leaving_out("NVIDIA H100 SXM 80GB")
    assert efficiency(without, "h100_sxm") == (pytest.approx(0.7), "der")
    assert without.devices_left_out == {"h100_sxm"}
    families = calibrated.leaving_out("hopper")
    assert efficiency(families, "h100_sxm") == (pytest.approx(0.6), "der")
    assert {"h100_sxm", "gh200_144", "h200_sxm"} <= families.devices_left_out
    assert "l40s" not in families.devices_left_out


def test_leaving_out_what_does_not_exist_names_what_does(calibrated: Library) -> None:
    with pytest.raises(UnknownNameError, match="Hopper"):
        calibrated.leaving_out("hoper")


def test_fields_that_a_fit_may_set_are_fields_that_no_datasheet_states() -> None:
    assert set(GpuDevice.model_fields) >= CALIBRATED
    folder = Path(pentarch_gpu.plugin.__file__).parent / "devices"
    stated = "\n".join(file.read_text() for file in folder.glob("*.yaml"))
    assert "memory_efficiency:" not in stated
