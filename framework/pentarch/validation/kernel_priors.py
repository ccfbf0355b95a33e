"""What to expect of a software stack's figures before its kernels were measured.

Factors say what a library makes of an engine: 1 is what the hardware itself does. Times are those of
kernels of today on data-center GPUs. The spreads are wide where stacks differ.
"""

from collections.abc import Mapping

from pentarch.hardware.kernel_figures import KERNELS, kernel_key
from pentarch.hardware.kernel_set import CollectiveProtocol, KernelOperator, KernelSet, Protocol
from pentarch.hardware.priors import Prior
from pentarch.hardware.runtime import Runtime

Spec = tuple[float, float, float, float]
"""Median, spread of the logarithm, bounds."""

GEMM: Mapping[str, Spec] = {
    "efficiency": (0.95, 0.06, 0.3, 1.3), "step": (1.5, 0.6, 0.05, 30.0),
    "drain": (1.0, 0.3, 0.05, 10.0), "stream": (1.0, 0.06, 0.5, 1.5), "split": (2.0, 0.6, 0.05, 20.0),
    "convert": (0.6, 0.5, 0.01, 10.0), "start_s": (6e-6, 0.5, 1e-8, 1e-4),
    "feed": (0.25, 0.6, 0.01, 3.0), "host_s": (25e-6, 0.5, 1e-7, 1e-3),
    "overlap": (4.0, 0.3, 1.0, 12.0), "wave_share": (0.5, 0.3, 0.05, 1.0),
    "scattered": (0.2, 0.5, 0.01, 1.0),
    "feed_per_mac": (0.06, 0.6, 0.003, 1.0), "drain_per_mac": (0.12, 0.6, 0.003, 3.0),
}  # fmt: skip
"""Products with dense weights."""

PRIORS: Mapping[KernelOperator, Mapping[str, Spec]] = {
    KernelOperator.GEMM: GEMM,
    KernelOperator.BATCHED: GEMM,
    KernelOperator.MOE: {
        "efficiency": (0.8, 0.2, 0.1, 1.3), "step": (2.0, 0.5, 0.1, 30.0),
        "stream": (1.0, 0.15, 0.05, 1.5), "start_s": (10e-6, 0.8, 1e-7, 5e-4),
        "token_s": (20e-9, 1.5, 1e-11, 1e-4),
    },
    KernelOperator.QUANTIZE: {
        "start_s": (2.5e-6, 0.5, 1e-7, 1e-4), "row_s": (0.3e-6, 0.8, 1e-9, 1e-4),
        "token_s": (0.2e-9, 0.8, 1e-12, 1e-6), "passes": (1.2, 0.3, 0.3, 10.0),
    },
    KernelOperator.ATTENTION_DECODE: {
        "start_s": (5.8e-6, 0.4, 1e-7, 1e-4), "tile_start_s": (1.75e-6, 0.5, 1e-8, 1e-4),
        "efficiency": (0.62, 0.25, 0.05, 1.3), "split": (1.0, 0.6, 0.02, 20.0),
        "part_s": (50e-9, 0.6, 1e-10, 1e-5), "overlap": (3.5, 0.25, 1.0, 12.0),
        "wave_share": (0.6, 0.3, 0.05, 1.0), "feed": (0.7, 0.3, 0.05, 3.0), "cache": (1.0, 0.5, 0.1, 3.0),
        "wide": (1.0, 0.25, 0.1, 3.0), "softmax": (1.5, 0.5, 0.2, 10.0), "token_s": (1e-9, 0.7, 1e-12, 1e-6),
        "key_tile_s": (3e-6, 0.7, 1e-8, 1e-3),
        "host_s": (50e-6, 0.5, 1e-7, 1e-3),
    },
    KernelOperator.ATTENTION_PREFILL: {
        "start_s": (5.3e-6, 0.4, 1e-7, 1e-4), "tile_start_s": (1.25e-6, 0.5, 1e-8, 1e-4),
        "efficiency": (0.77, 0.15, 0.1, 1.3), "overlap": (2.0, 0.4, 1.0, 12.0),
        "softmax_overlap": (3.0, 0.3, 1.0, 12.0), "wave_share": (0.5, 0.3, 0.05, 1.0),
        "feed": (0.7, 0.4, 0.02, 3.0), "wide": (0.95, 0.15, 0.1, 3.0), "softmax": (1.0, 0.4, 0.2, 10.0),
        "token_s": (0.1e-9, 0.7, 1e-13, 1e-7), "host_s": (50e-6, 0.5, 1e-7, 1e-3),
    },
    KernelOperator.VECTOR: {
        "passes": (1.3, 0.5, 0.2, 20.0), "start_s": (5e-6, 0.8, 1e-8, 1e-3),
        "efficiency": (0.1, 0.8, 1e-3, 2.0), "stream": (0.9, 0.15, 0.2, 1.3),
        "host_s": (20e-6, 0.8, 1e-7, 1e-3),
    },
    KernelOperator.COLLECTIVE: {"host_s": (15e-6, 0.7, 1e-8, 1e-3)},
}  # fmt: skip
"""By operator and field."""

PROTOCOLS: Mapping[Protocol, Mapping[str, Spec]] = {
    Protocol.RING: {
        "start_s": (10e-6, 0.6, 1e-7, 1e-3), "hop_s": (1e-6, 0.5, 1e-8, 1e-4),
        "efficiency": (0.65, 0.2, 0.05, 1.0),
    },
    Protocol.LOW_LATENCY: {
        "start_s": (5e-6, 0.6, 1e-7, 1e-3), "hop_s": (0.7e-6, 0.6, 1e-8, 1e-4),
        "efficiency": (0.25, 0.4, 0.02, 1.0),
    },
    Protocol.ONE_SHOT: {
        "start_s": (4e-6, 0.6, 1e-7, 1e-3), "hop_s": (0.7e-6, 0.6, 1e-8, 1e-4),
        "efficiency": (0.6, 0.3, 0.02, 1.0),
    },
    Protocol.IN_NETWORK: {
        "start_s": (12e-6, 0.6, 1e-7, 1e-3), "efficiency": (0.62, 0.2, 0.05, 1.0),
    },
}  # fmt: skip
"""By protocol and field."""

STATED: frozenset[tuple[KernelOperator, str]] = frozenset({
    *(
        (operator, name)
        for operator in (KernelOperator.GEMM, KernelOperator.BATCHED)
        for name in ("feed", "split", "convert", "scattered")
    ),
    (KernelOperator.VECTOR, "efficiency"), (KernelOperator.VECTOR, "stream"),
})  # fmt: skip
"""Factors that are fitted only where the stack states one."""

OF_TILES: frozenset[str] = frozenset({"feed_per_mac"})
"""Figures whose median is what the stack states: kernels of small tiles are made to be fed faster."""

LAUNCH: Spec = (20e-6, 0.7, 1e-7, 1e-3)
"""Host time per operator, where the stack has any."""
COLLECTIVE_START: Spec = (5e-6, 0.7, 1e-7, 1e-3)
"""Software time of starting a collective, where the stack has any."""


def runtime_priors(runtime: Runtime) -> Mapping[str, Prior]:
    """Return what to expect of the figures of a stack that a fit may set.

    A time, an exponent or a share is fitted where the stack states one at all; factors always are.

    Args:
        runtime: The stack, as its file states it.
    """
    found: dict[str, Prior] = {}
    for name, spec in (("launch_s", LAUNCH), ("collective_start_s", COLLECTIVE_START)):
        if getattr(runtime, name):
            found[name] = _prior(spec)
    for kernel in runtime.kernels:
        head = f"{KERNELS}.{kernel_key(kernel.model_dump())}"
        found |= {f"{head}.{name}": prior for name, prior in _kernel_priors(kernel).items()}
        for protocol in kernel.protocols:
            entries = _protocol_priors(protocol)
            found |= {
                f"{head}.protocols.{protocol.protocol}.{name}": one for name, one in entries.items()
            }
    return found


def _kernel_priors(kernel: KernelSet) -> Mapping[str, Prior]:
    found: dict[str, Prior] = {}
    for name, spec in PRIORS[kernel.operator].items():
        neutral = KernelSet.model_fields[name].default
        is_free = neutral == 1.0 and (kernel.operator, name) not in STATED
        stated = getattr(kernel, name)
        if is_free or stated not in (neutral, None, 0.0):
            median = stated if name in OF_TILES else spec[0]
            found[name] = _prior((median, *spec[1:]))
    return found


def _protocol_priors(protocol: CollectiveProtocol) -> Mapping[str, Prior]:
    specs = PROTOCOLS[protocol.protocol]
    return {name: _prior(spec) for name, spec in specs.items() if getattr(protocol, name)}


def _prior(spec: Spec) -> Prior:
    median, spread, low, high = spec
    return Prior(median, spread, low, high, "kernels of today's stacks on data-center GPUs")
