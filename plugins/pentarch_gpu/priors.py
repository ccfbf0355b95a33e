"""What to expect of a GPU's figures before it was measured: medians, spreads and bounds.

The medians are figures that designs of several makers and years have in common once they are put in
the right units: bytes of cache bandwidth per multiply-accumulate, shares of the datasheet's peaks,
latencies. The spreads say how far apart such designs are.
"""

from collections.abc import Mapping

from pentarch.hardware.priors import Prior
from pentarch.workload.formats import number_format
from pentarch_gpu.device import GpuDevice

COMMON: Mapping[str, tuple[float, float, float, float, str]] = {
    "issue_efficiency": (0.97, 0.03, 0.4, 1.0, "matrix units are issued to without gaps in long tiles"),
    "k_step_s": (80e-9, 0.4, 2e-9, 1e-6, "latency of cache and scratchpad behind a few steps in flight"),
    "cache_bytes_per_mac": (0.030, 0.12, 0.003, 0.3, "cache bandwidth balanced with the matrix peak"),
    "drain_ratio": (0.42, 0.3, 0.05, 5.0, "outputs leave at about half the rate of operands"),
    "memory_efficiency": (0.93, 0.05, 0.6, 1.0, "long streams lose to refresh and turn-around"),
    "cache_share": (0.40, 0.3, 0.1, 1.0, "a cache in parts, random replacement, other data"),
    "split_s": (2.5e-6, 0.4, 0.05e-6, 30e-6, "one more pass over the grid of tiles"),
    "overlap": (4.0, 0.2, 1.5, 12.0, "asynchronous copies overlap nearly all of their time"),
    "wave_share": (0.5, 0.25, 0.05, 1.0, "half of an unfilled wave is hidden by what follows"),
    "sm_memory_ratio": (1.0, 0.25, 0.1, 10.0, "loads in flight cover the share of a multiprocessor"),
    "transcendental_per_cycle": (16.0, 0.4, 2.0, 200.0, "special function units of a multiprocessor"),
    "mac_energy_ratio": (1.0, 0.2, 0.2, 5.0, "energy of the process node in the technology library"),
}  # fmt: skip
"""By field: median, spread of the logarithm, bounds, reason."""

STARTS: Mapping[str, float] = {"Ampere": 3.2e-6}
"""Time between two kernels of a captured graph by architecture."""
START = 2.2e-6
"""The same for other architectures."""
STACKED_SHARE, FLAT_SHARE = 0.89, 0.99
"""Bandwidth that tiles reach / that of long streams, behind stacked memory and other memory."""
BASE_FORMATS = frozenset({"bf16", "fp16"})
"""Formats that `issue_efficiency` itself is for."""

SCALAR_ENERGY = Prior(3.5, 0.4, 0.1, 20.0, "issue and register operands of each multiply-add")
"""Energy of a multiply-add that is an instruction of its own / that of the arithmetic alone: a matrix
instruction spreads issue and registers over hundreds of them, a vector instruction over none."""


def priors_of(device: GpuDevice) -> Mapping[str, Prior]:
    """Return what to expect of the figures that a fit may set, by field or `field.key`.

    Args:
        device: As its file states it.
    """
    found = {name: Prior(*values) for name, values in COMMON.items()}
    start = STARTS.get(device.architecture or "", START)
    found["kernel_start_s"] = Prior(
        start, 0.25, 0.5e-6, 60e-6, "launch of a captured graph's next kernel"
    )
    stacked = device.memory.startswith("hbm")
    share = STACKED_SHARE if stacked else FLAT_SHARE
    found["tile_stream_share"] = Prior(share, 0.05, 0.6, 1.0, "rows of a tile lie apart in memory")
    for name in sorted(
        {number_format(key).compute for key in device.peak_flops_per_s} - BASE_FORMATS
    ):
        found[f"format_efficiency.{name}"] = Prior(
            0.97, 0.05, 0.3, 1.1, "narrow formats are fed as well"
        )
        found[f"format_energy.{name}"] = (
            SCALAR_ENERGY if name == "fp32" and _is_scalar(device)
            else Prior(1.0, 0.15, 0.1, 3.0, "ratios of the technology library")
        )  # fmt: skip
    return {**found, **_links(device)}


def _is_scalar(device: GpuDevice) -> bool:
    """Return whether FP32 products run in vector units, one multiply-add to an instruction lane."""
    return device.peak_flops_per_s.get("fp32", 0.0) <= device.vector_flops_per_s


def _links(device: GpuDevice) -> Mapping[str, Prior]:
    """Return priors of a link's figures: what the file or the model assumes."""
    if device.link is None:
        return {}
    return {
        "link_latency_s": Prior(
            device.link_latency_s, 0.5, 1e-7, 1e-4, "assumption for its kind of link"
        ),
        "link_message_s": Prior(
            device.link_message_s, 0.6, 1e-7, 3e-4, "assumption for its kind of link"
        ),
        "link_efficiency": Prior(
            device.link_efficiency, 0.15, 0.1, 1.0, "assumption for its kind of link"
        ),
    }
