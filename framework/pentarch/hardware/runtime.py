"""The runtime: the software stack on a machine, described apart from it (definitions.md, Runtime).

The same chip under `ideal` and under a stack of today is a comparison users need, so nothing here
is a property of hardware and nothing in a machine is a habit of software.
"""

from enum import StrEnum
from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveInt, field_serializer

from pentarch.hardware.kernel_set import UNKNOWN_USE, KernelOperator, KernelSet, KernelUse
from pentarch.hardware.machine import Provenance
from pentarch.model import Model
from pentarch.workload.query import FormatName


class AttentionKernel(StrEnum):
    """How attention is run."""

    FUSED = "fused"
    """Scores never leave the chip (online softmax)."""
    UNFUSED = "unfused"
    """Scores are written and read back."""
    BEST = "best"
    """The better of both for each operator and machine."""


class Scheduler(StrEnum):
    """How prompts and decode steps of different queries follow one another.

    See definitions.md, Serving, closed form.
    """

    STATIC = "static"
    """One pass processes the prompts of all queries, then all decode; the batch ends as a whole."""
    SERIAL = "serial"
    """A pass is a prefill or a decode step; waiting prompts come one at a time between steps."""
    MIXED = "mixed"
    """A pass decodes all running queries and processes the prompts that wait, up to `step_tokens`
    (in-flight batching)."""
    PREFILL_FIRST = "prefill_first"
    """Decode stands still while prompts wait; a pass of prefill takes up to `step_tokens`."""


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
    sequence_s: NonNegativeFloat = 0.0
    """Further host time between two decode steps for each sequence that decodes."""
    objective: Literal["time", "energy", "edp"] = "time"
    """What the stack's mapper makes least for GEMMs behind software-managed buffers: time, energy,
    or their product."""
    hardware_start: bool = True
    """Whether the machine's own operator start applies; a persistent kernel avoids it."""
    quantize_fused: bool = True
    """Whether activations are quantized by the operator that produces them."""
    static_formats: frozenset[FormatName] = frozenset()
    """Formats whose scales are fixed beforehand: inside a model their conversion is an elementwise
    kernel of its own instead of the library's quantization pass, fused or not."""
    fused_families: frozenset[str] | None = None
    """Device families for which `quantize_fused` and `static_formats` hold; on others the library's
    own pass quantizes. `None` means all."""
    scheduler: Scheduler = Scheduler.SERIAL
    """How the prompts of some queries share the device with the decode steps of others."""
    step_tokens: PositiveInt | None = None
    """Tokens that one forward pass processes at most, those of decode steps included; `None` means
    no limit."""
    request_s: NonNegativeFloat = 0.0
    """Host time of one query outside the passes: connection, scheduling, first reply."""
    prompt_token_s: NonNegativeFloat = 0.0
    """Host time per prompt token before the first pass: splitting the text, copying the tokens."""
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
        """Return the stack as it is on a device family: with its kernels and fusions only.

        Args:
            family: Architecture of the device; `None` when it belongs to none.
        """
        kept = tuple(entry for entry in self.kernels if entry.runs_on(family))
        changes: dict[str, object] = {} if kept == self.kernels else {"kernels": kept}
        if self.fused_families is not None and family not in self.fused_families:
            changes |= {"quantize_fused": False, "static_formats": frozenset()}
        return self.model_copy(update=changes) if changes else self

    def kernel(
        self, operator: KernelOperator, a_format: str | None = None, b_format: str | None = None,
        use: KernelUse = UNKNOWN_USE,
    ) -> KernelSet:  # fmt: skip
        """Return the kernels that run an operator; what limits nothing where there are none.

        Args:
            operator: What is run.
            a_format: Format of the activations, queries or values; `None` where there is none.
            b_format: Format of the weights, or of keys and values; `None` where there is none.
            use: What else a library may choose its kernels by.
        """
        for entry in self.kernels:
            if entry.suits(operator, a_format, b_format, use):
                return entry
        return KernelSet(operator=operator)

    @field_serializer("fused_functions", "static_formats", "fused_families")
    def _in_order(self, functions: frozenset[str] | None) -> list[str] | None:
        return None if functions is None else sorted(functions)
