"""The runtime: the software stack on a machine, described apart from it (definitions.md, Runtime).

The same chip under `ideal` and under a stack of today is a comparison users need, so nothing here
is a property of hardware and nothing in a machine is a habit of software.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_serializer

from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import Provenance
from pentarch.model import Model


class AttentionKernel(StrEnum):
    """How attention is run."""

    FUSED = "fused"
    """Scores never leave the chip (online softmax)."""
    UNFUSED = "unfused"
    """Scores are written and read back."""
    BEST = "best"
    """The better of both for each operator and machine."""


class Runtime(Model):
    """A software stack."""

    name: str
    """Unique in the catalog, for example `"ideal"`."""
    about: str = ""
    """One line for lists."""
    fused_functions: frozenset[str] | None = None
    """Vector and gather functions that ride on a neighbor; `None` means all that can."""
    attention: AttentionKernel = AttentionKernel.BEST
    """How attention is run."""
    launch_s: NonNegativeFloat = 0.0
    """Host time per operator that graph capture would hide; 0 when it is hidden."""
    step_s: NonNegativeFloat = 0.0
    """Host time between two forward passes (scheduling, sampling, detokenizing)."""
    objective: Literal["time", "energy", "edp"] = "time"
    """What the stack's mapper makes least for GEMMs behind software-managed buffers: time, energy,
    or their product."""
    hardware_start: bool = True
    """Whether the machine's own operator start applies; a persistent kernel avoids it."""
    quantize_fused: bool = True
    """Whether activations are quantized by the operator that produces them."""
    kv_block_tokens: PositiveInt = 16
    """Tokens of a KV-cache block; half a block per sequence is lost."""
    memory_reserve: float = Field(default=0.0, ge=0, lt=1)
    """Share of device memory that the stack keeps for itself."""
    collective_start_s: NonNegativeFloat = 0.0
    """Software time of starting one collective, on top of the link's own."""
    issues_ahead: bool = False
    """Whether the host issues operators without waiting for them: then the slower of host
    (`launch_s`) and device counts, else their sum."""
    kernels: tuple[KernelSet, ...] = ()
    """Kernels of the stack's libraries, the most special first: the first that suits an operator
    counts. Where none does, the library has whatever the hardware can run."""
    sources: dict[str, Provenance] = {}
    """Source and grade by field; the entry `"*"` covers the others."""

    def for_family(self, family: str | None) -> "Runtime":
        """Return the stack as it is on a device family: with those of its kernels only.

        Args:
            family: Architecture of the device; `None` when it belongs to none.
        """
        kept = tuple(entry for entry in self.kernels if entry.runs_on(family))
        if kept == self.kernels:
            return self
        return self.model_copy(update={"kernels": kept})

    def kernel(
        self, operator: KernelOperator, a_format: str | None = None, b_format: str | None = None
    ) -> KernelSet:
        """Return the kernels that run an operator; what limits nothing where there are none.

        Args:
            operator: What is run.
            a_format: Format of the activations, queries or values; `None` where there is none.
            b_format: Format of the weights, or of keys and values; `None` where there is none.
        """
        for entry in self.kernels:
            if entry.suits(operator, a_format, b_format):
                return entry
        return KernelSet(operator=operator)

    @field_serializer("fused_functions")
    def _in_order(self, functions: frozenset[str] | None) -> list[str] | None:
        return None if functions is None else sorted(functions)
