"""Measured kernels: what a benchmark ran, in the engine's words, and how it was timed.

A row of a kernel file is one or more operators that ran one after another (a quantization and the
GEMM that needs it; the GEMMs and activations of a mixture of experts) and the time of all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class GemmPart:
    """`instances` GEMMs C[m, n] = A[m, k] B[k, n] of one kernel."""

    m: float
    k: float
    n: float
    a_format: str
    """Format of A, if the device multiplies it; else A keeps `out_format`."""
    b_format: str
    out_format: str
    instances: float = 1.0
    """Independent GEMMs: a batch, or the experts that some token visits."""
    name: str = "gemm"
    routed: bool = False
    """Whether the instances are experts that tokens choose: one grouped GEMM of unequal heights,
    `m` on average."""
    activation: str = ""
    """Function between the two products of experts that this is one of; empty if unknown."""


@dataclass(frozen=True, slots=True)
class AttentionPart:
    """Attention of `batch` sequences; causal when there are as many queries as keys."""

    batch: float
    queries: float
    keys: float
    heads: float
    kv_heads: float
    head_dim: float
    query_format: str
    kv_format: str


@dataclass(frozen=True, slots=True)
class VectorPart:
    """A pass over tensors: bytes moved and work done."""

    function: str
    bytes_in: float
    bytes_out: float
    weight_bytes: float = 0.0
    elementwise: float = 0.0
    reduce: float = 0.0
    transcendental: float = 0.0
    convert: float = 0.0
    lines: float = 0.0
    """Rows of values (tokens) that are reduced each by itself; 0 if unknown."""
    needs_format: str | None = None
    """Format that the pass produces; the pass is left out on a device that does not multiply it."""


@dataclass(frozen=True, slots=True)
class CollectivePart:
    """A collective among `degree` devices; bytes as in `graph.operators.Collective`."""

    function: str
    message_bytes: float
    degree: float


Part = GemmPart | AttentionPart | VectorPart | CollectivePart


@dataclass(frozen=True, slots=True)
class KernelRow:
    """One measured time of one kernel or a few."""

    file: str
    """Base name of the file."""
    label: str
    """What was run, for people: names the row among the worst."""
    device: str
    """Device as the file calls it; the catalog's name after `files.named_devices`."""
    operator: str
    """gemm, attention_prefill, ..., as groups are named."""
    precision: str
    """Format as the file calls it, or empty."""
    subset: str
    """main, L2fit or flagged."""
    runtimes: tuple[str, ...]
    """Stack that ran it; of several, the file states the median."""
    measured_s: float
    """The time."""
    parts: tuple[Part, ...]
    """What was run, in order."""
    copies: float | None = None
    """Sets of weights (or of keys and values) that the timing loop goes through before it meets the
    first again; `None` when nothing is met again while it is warm."""
    footprint: float | None = None
    """Bytes of weights that the loop touches between two uses of the same, where they are not
    `copies` equal sets."""
    framework: str = ""
    """Column of the file, where it has one for each stack."""
    kernel: str = ""
    """Kernel that was measured, where the file says so."""
    devices_per_board: int | None = None
    """Devices of a collective on one board; `None` means as many as the link of a board joins."""


FLAGGED = frozenset({"ambiguous", "tp_gt_node", "slow_vs_peer", "queueing"})
"""Flags of rows that are not to be relied on."""


def subset_of(flags: frozenset[str]) -> str:
    """Return the subset that a row with these flags belongs to.

    Examples:
        >>> subset_of(frozenset({"L2fit", "spread"})), subset_of(frozenset({"peak"}))
        ('L2fit', 'main')
    """
    if flags & FLAGGED:
        return "flagged"
    return "L2fit" if "L2fit" in flags else "main"


QUANTIZED: Mapping[str, tuple[str, str, bool]] = MappingProxyType(
    {
        "bf16": ("bf16", "bf16", False),
        "fp16": ("fp16", "fp16", False),
        "fp32": ("fp32", "fp32", False),
        "fp8": ("fp8", "fp8", True),
        "fp8_block": ("fp8", "fp8_block", True),
        "nvfp4": ("nvfp4", "nvfp4", True),
        "mxfp4": ("mxfp4", "mxfp4", True),
        "int8": ("int8", "int8", False),
        "w4a16": ("bf16", "int4_g128", False),
        "w8a16": ("bf16", "int8", False),
        "w4a16_mxfp4": ("bf16", "mxfp4", False),
    }
)
"""Precision of a file -> (format of A, of B, whether A is quantized by a pass of its own)."""


def quantize_part(values: float, to: str, *, lines: float = 0.0) -> VectorPart:
    """Return the pass that turns 16-bit activations into a narrower format, with its largest value."""
    from pentarch.workload.formats import number_format

    return VectorPart(
        function="quantize", bytes_in=2.0 * values, bytes_out=values * number_format(to).bytes,
        reduce=values, convert=values, lines=lines, needs_format=to,
    )  # fmt: skip
