"""Fits every calibration that the plug-ins ship, and writes it into their package data.

    python tests/validation/make_calibrations.py FOLDER [NAME...]

FOLDER holds the files of measurements. All fits are made again from nothing, in the order of `PLAN`,
each with what the ones before found; with NAMEs only the steps whose name starts with one. Hardware
is fitted with stacks held fixed and stacks with hardware held fixed, in turns. No device moves the
prior of another, so that leaving one out leaves the fits of the others untouched; kernels that
several devices of a family share are also fitted to each of them alone, for the same reason.
The results depend on the files and the engine alone, the day stated among them: it is written here.
"""

import datetime
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ROOT / "plugins" / "pentarch_gpu" / "calibration"
STACKS = ROOT / "plugins" / "pentarch_runtimes" / "calibration"
DATE = datetime.date(2026, 11, 22)
"""Day on which the fits were last made with other data or another engine."""

MEASURED = ("a100_sxm", "h100_sxm", "b200_sxm", "gb200", "rtx_pro_6000_server", "b60")
FAMILIES = {
    "ampere": ("a100_sxm",), "hopper": ("h100_sxm",), "blackwell": ("b200_sxm", "gb200"),
    "blackwell-b200": ("b200_sxm",), "blackwell-gb200": ("gb200",),
    "blackwell-rtx": ("rtx_pro_6000_server",), "xe2": ("b60",),
}  # fmt: skip
"""Devices that share kernels, then each of several alone."""
NVIDIA = tuple(FAMILIES)[:-1]
"""Families that more than one stack was measured on."""
FP32_FAMILIES = {
    "ampere": ("a100_pcie_40", "a100_pcie_80"), "ampere-40": ("a100_pcie_40",),
    "ampere-80": ("a100_pcie_80",), "hopper": ("h100_sxm",), "ada": ("l4",),
    "turing": ("t4",), "volta": ("v100_pcie_32",), "pascal": ("p4",), "pascal-gp100": ("p100_pcie_16",),
    "cdna1": ("mi100",), "cdna2": ("mi210",),
}  # fmt: skip
"""Devices whose FP32 operators were measured, by family."""
PROFILED = {
    "ampere": ("a100_sxm", "a40"), "ampere-a100": ("a100_sxm",), "ampere-a40": ("a40",),
    "hopper": ("h100_sxm",),
}  # fmt: skip
"""Devices whose element-wise kernels were profiled, by family, then each of several alone."""
FP32 = tuple(device for devices in FP32_FAMILIES.values() for device in devices)
STREAM = ("memory_efficiency", "sm_memory_ratio", "transcendental_per_cycle")
TILES = (
    "kernel_start_s", "issue_efficiency", "k_step_s", "cache_bytes_per_mac", "drain_ratio",
    "tile_stream_share", "cache_share", "split_s", "overlap", "wave_share", "mac_energy_ratio",
)  # fmt: skip
WIDE = ("format_efficiency.fp32", "format_energy.fp32")
ATTENTION = ("aic_context_attention", "aic_generation_attention")
QUANTIZED = ("fp8", "nvfp4", "int8", "w4a16", "w8a16")


@dataclass(frozen=True)
class Step:
    """One fit."""

    name: str
    files: tuple[str, ...]
    device: str | None = None
    runtime: str | None = None
    parameters: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


def tiles(device: str) -> Step:
    """Return the fit of a device to its 16-bit GEMMs.

    Those of three benchmarks agree on the A100. Those of two on the H100 differ by 10 %, and the
    larger one would decide alone: there the one that all GPUs share is used.
    """
    others = {"a100_sxm": ("llmcompass_ops", "vidur_ops")}
    return Step(
        f"{device}-gemm", ("aic_gemm", *others.get(device, ())), device=device, parameters=TILES,
        operators=("gemm",), precisions=("bf16", "fp16"),
    )  # fmt: skip


def streams(device: str) -> Step:
    """Return the fit of a device's memory and exponentials to its attention."""
    return Step(f"{device}-attention", ATTENTION, device=device, parameters=STREAM)


def formats(device: str, *names: str) -> Step:
    """Return the fit of what narrow formats reach and draw."""
    fitted = tuple(
        f"{field}.{name}" for name in names for field in ("format_efficiency", "format_energy")
    )
    return Step(
        f"{device}-formats", ("aic_gemm",), device=device, parameters=fitted, precisions=QUANTIZED
    )


def stack(runtime: str, what: str, family: str, files: tuple[str, ...], *precisions: str) -> Step:
    """Return the fit of a stack's kernels on a family."""
    return Step(
        f"{runtime}-{what}-{family}", files, runtime=runtime, precisions=precisions,
        devices=FAMILIES.get(family, ()),
    )  # fmt: skip


def plan() -> Iterator[Step]:
    """Yield the fits in their order."""
    host = Step(
        "vllm-xpu-launch",
        ("aic_gemm",),
        runtime="vllm-xpu",
        parameters=("launch_s",),
        precisions=("bf16",),
    )
    yield from (tiles("b60"), host)
    yield from (tiles(device) for device in MEASURED)
    yield from attention()
    yield from (streams(device) for device in MEASURED)
    yield from (tiles(device) for device in MEASURED)
    yield host
    yield from attention()
    yield from gemms()
    yield formats("a100_sxm", "int8")
    yield formats("h100_sxm", "fp8")
    for device in ("b200_sxm", "gb200", "rtx_pro_6000_server"):
        yield formats(device, "fp8", "fp4")
    yield from gemms()
    yield from collectives()
    yield from experts()
    yield from others()


def attention() -> Iterator[Step]:
    """Yield the fits of attention kernels."""
    for runtime in ("vllm", "sglang", "trtllm"):
        yield from (stack(runtime, "attention", family, ATTENTION) for family in NVIDIA)
    yield stack("vllm-xpu", "attention", "xe2", ATTENTION)


def gemms() -> Iterator[Step]:
    """Yield the fits of quantized GEMM kernels."""
    yield from (stack("trtllm", "gemm", "ampere", ("aic_gemm",), *QUANTIZED),)
    for runtime in ("vllm", "sglang", "trtllm"):
        for family in NVIDIA:
            if family != "ampere":
                yield stack(runtime, "gemm", family, ("aic_gemm",), *QUANTIZED)
    yield stack("vllm-xpu", "gemm", "xe2", ("aic_gemm",), *QUANTIZED)


def collectives() -> Iterator[Step]:
    """Yield the fits of collectives."""
    for runtime in ("nccl-tests", "vllm", "sglang", "trtllm"):
        yield from (
            stack(runtime, "collectives", family, ("aic_collectives",)) for family in NVIDIA
        )
    yield stack("oneccl", "collectives", "xe2", ("aic_collectives",))


def experts() -> Iterator[Step]:
    """Yield the fits of mixtures of experts; how activations are quantized is known from GEMMs."""
    for runtime, families in (("vllm", NVIDIA), ("vllm-xpu", ("xe2",))):
        for family in families:
            yield Step(
                f"{runtime}-moe-{family}", ("aic_moe",), runtime=runtime, devices=FAMILIES[family],
                parameters=("kernels.moe/", "kernels.vector/"),
            )  # fmt: skip


def others() -> Iterator[Step]:
    """Yield the fits to single operators of a framework, and of the devices that only those measured."""
    yield Step("a40-gemm", ("vidur_ops",), device="a40", parameters=TILES, operators=("gemm",))
    for family, devices in PROFILED.items():
        yield Step(
            f"kernel-time-vector-{family}", ("vidur_ops",), runtime="kernel-time",
            operators=("vector",), devices=devices,
        )  # fmt: skip
    compass = ("llmcompass_ops",)
    yield Step(
        "timed-calls-launch",
        compass,
        runtime="timed-calls",
        parameters=("launch_s",),
        operators=("gemm",),
        devices=("a100_sxm",),
    )
    for device in ("a100_sxm", "mi210"):
        yield Step(
            f"timed-calls-{device}", compass, runtime="timed-calls", operators=("gemm", "vector"),
            devices=(device,),
        )  # fmt: skip
    yield Step("timed-calls-collectives", compass, runtime="timed-calls", operators=("all_reduce",))
    eager = ("neusight_fp32_ops",)
    for _ in range(2):
        yield Step(
            "framework-eager-launch", eager, runtime="framework-eager", parameters=("launch_s",)
        )
        for family, devices in FP32_FAMILIES.items():
            yield Step(
                f"framework-eager-fp32-{family}", eager, runtime="framework-eager", operators=("gemm", "vector"),
                devices=devices,
            )  # fmt: skip
        for device in FP32:
            yield Step(
                f"{device}-fp32", eager, device=device, operators=("gemm", "vector"),
                parameters=WIDE,
            )  # fmt: skip
    yield from (
        stack("framework-eager", "collectives", family, ("aic_collectives",)) for family in FAMILIES
    )


def run(step: Step, folder: Path) -> str:
    """Make one fit, write it, and return a line about it."""
    from pentarch.catalog import Library
    from pentarch.registry import load_registry
    from pentarch.validation.calibrate import FitRequest, calibrate_device
    from pentarch.validation.calibrate_runtime import calibrate_runtime
    from pentarch.validation.calibration_file import calibration_text
    from pentarch.validation.fit_rows import RowFilter, read_rows

    began = time.monotonic()
    library = Library(load_registry())
    chosen = RowFilter(
        operators=frozenset(step.operators), precisions=frozenset(step.precisions),
        devices=frozenset({step.device} if step.device else step.devices),
    )  # fmt: skip
    rows = read_rows([folder / f"{name}.csv" for name in step.files], library, chosen)
    request = FitRequest(
        name=step.name, date=DATE, parameters=step.parameters, chosen=chosen, independent=True
    )
    if step.device is not None:
        result, target = calibrate_device(rows, step.device, library, request), DEVICES
    else:
        result, target = calibrate_runtime(rows, str(step.runtime), library, request), STACKS
    (target / f"{step.name}.yaml").write_text(calibration_text(result.calibration), "utf-8")
    before, after = result.before, result.after
    return (
        f"{step.name:<32} {after['rows']:5.0f} rows  MAPE {before['mape']:6.1%} -> {after['mape']:6.1%}"
        f"  median {after['median_ape']:6.1%}  bias {after['bias']:.3f}  {time.monotonic() - began:4.0f} s"
    )


def main(arguments: Sequence[str]) -> int:
    """Make the fits; return the exit code."""
    folder, names = Path(arguments[0]), tuple(arguments[1:])
    if not names:
        for place in (DEVICES, STACKS):
            for file in place.glob("*.yaml"):
                file.unlink()
    for step in plan():
        if not names or step.name.startswith(names):
            sys.stdout.write(run(step, folder) + "\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
