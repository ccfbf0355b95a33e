"""The operator table: a workload graph lowered to arrays, once per plan.

One row per distinct operator, phase and context node. Each row says how often a query executes it
(`executions`), so that every total is a sum over rows; nothing loops over tokens or layers. Rows
of the decode phase process as many sequences as are in flight, rows of prefill one
(definitions.md, Serving, closed form); `batched` says which.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pentarch.graph.operators import OperatorKind, Phase

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class RowCommon:
    """What rows of every kind have; every array has the shape (rows,)."""

    names: tuple[str, ...]
    """Operator of each row; rows of one operator at several contexts share it."""
    phases: tuple[Phase, ...]
    """Phase of each row."""
    executions: Floats
    """Times one query executes the row: layers x steps at this context."""
    stage: npt.NDArray[np.int64]
    """Stage of the plan that runs the row."""

    @property
    def is_decode(self) -> Flags:
        """Mask of the rows of the decode phase."""
        return np.array([phase is Phase.DECODE for phase in self.phases], dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class GemmTable(RowCommon):
    """GEMM rows, as one device of a stage executes them."""

    rows: Floats
    """Rows of A per sequence."""
    k: Floats
    """Inner dimension."""
    n: Floats
    """Output features."""
    experts: Floats
    """Experts on the device, 0 for a dense weight."""
    experts_per_token: Floats
    """Experts that each row visits, on this device on average."""
    experts_total: Floats
    """Experts of the whole layer, 0 for a dense weight."""
    a_formats: tuple[str, ...]
    """Number format of A."""
    b_formats: tuple[str, ...]
    """Number format of B."""
    out_formats: tuple[str, ...]
    """Number format of C."""
    layers: Floats
    """Distinct weights that the row stands for: equal layers with weights of their own."""
    streams_weights: Flags
    """Whether this row is the one that counts its weight's storage (the decode twin of a prefill
    row, and a tied weight, are stored once)."""
    accumulator_format: str = "fp32"
    """Format of a partial sum on chip."""
    spill_format: str = "fp32"
    """Format of a partial sum that leaves its buffer."""
    useful: Floats | None = None
    """Share of the row's multiply-accumulates that is useful work of the query, whoever repeats it;
    `None` means all (definitions.md, Useful FLOPs)."""
    routing_skew: Floats | None = None
    """Exponent of the experts' popularity, infinite in the worst case; `None` means 0, uniform."""
    expert_devices: Floats | None = None
    """Devices that share the experts of the layer; `None` means 1."""
    activations: tuple[str, ...] | None = None
    """Function between the two products of experts, of both; empty where there is none or it is
    unknown. `None` means that it is so everywhere."""


@dataclass(frozen=True, slots=True)
class AttentionTable(RowCommon):
    """Attention rows, as one device of a stage executes them."""

    heads: Floats
    """Query heads on the device."""
    kv_heads: Floats
    """Key-value heads on the device."""
    head_dim: Floats
    """Width of queries and keys."""
    value_dim: Floats
    """Width of values."""
    query_tokens: Floats
    """Queries per sequence."""
    keys: Floats
    """Keys per sequence that are read: the context, or less under a window."""
    pairs: Floats
    """Query-key pairs per head that are useful (causal, windowed)."""
    dense_pairs: Floats
    """Query-key pairs per head without masking: query_tokens x context."""
    causal: Flags
    """Whether masked blocks can be skipped."""
    query_formats: tuple[str, ...]
    """Number format of queries, probabilities, outputs."""
    kv_formats: tuple[str, ...]
    """Number format of keys and values."""
    out_formats: tuple[str, ...]
    """Number format of the outputs."""
    accumulator_format: str = "fp32"
    """Format of output accumulators, scores and softmax statistics on chip."""
    values_in_keys: Flags | None = None
    """Whether the first `value_dim` features of a key are its value (latent attention, absorbed):
    read and stored once; `None` means none are."""
    useful: Floats | None = None
    """Share of the row's multiply-accumulates that is useful work of the query; `None` means all."""


@dataclass(frozen=True, slots=True)
class VectorTable(RowCommon):
    """Vector and gather rows, as one device of a stage executes them."""

    bytes_in: Floats
    """Bytes read per sequence."""
    bytes_out: Floats
    """Bytes written per sequence."""
    weight_bytes: Floats
    """Parameter bytes read once a step, whatever the load."""
    elementwise: Floats
    """Elementwise operations per sequence."""
    reduce: Floats
    """Values reduced per sequence."""
    transcendental: Floats
    """Transcendental functions per sequence."""
    convert: Floats
    """Conversions per sequence."""
    fusable: Flags
    """Whether the row can ride on a neighbor without traffic of its own."""
    functions: tuple[str, ...]
    """What each row computes."""
    kinds: tuple[OperatorKind, ...]
    """VECTOR or GATHER."""
    lines: Floats | None = None
    """Rows of values (tokens) per sequence that are reduced each by itself, 0 where unknown; `None`
    means unknown for all."""


@dataclass(frozen=True, slots=True)
class CollectiveTable(RowCommon):
    """Collective rows."""

    functions: tuple[str, ...]
    """Which collective."""
    bytes: Floats
    """Bytes per sequence (see `operators.Collective.values`)."""
    degree: Floats
    """Devices that take part."""


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """A planned workload and query, ready to be costed on any machine.

    Totals are per device of the busiest stage unless they say otherwise.
    """

    workload: str
    """Name of the workload, for messages."""
    gemm: GemmTable
    """GEMM rows."""
    attention: AttentionTable
    """Attention rows."""
    vector: VectorTable
    """Vector and gather rows."""
    collective: CollectiveTable
    """Collective rows."""
    prompt_tokens: int
    """P."""
    output_tokens: int
    """T."""
    useful_flops: float
    """Useful FLOPs of one query over the whole model (definitions.md, Useful FLOPs), an exact integer."""
    useful_flops_prefill: float
    """The part of them that falls into prefill."""
    weight_bytes: Floats
    """Stored parameter bytes per device of each stage, shape (stages,)."""
    kv_bytes_per_token: Floats
    """KV-cache bytes per token and sequence per device of each stage, shape (stages,)."""
    kv_bytes_per_query: Floats
    """KV-cache bytes per sequence at P + T per device of each stage, shape (stages,): windows counted,
    half a block on top."""
    activation_bytes_per_token: Floats
    """Largest live activations per token per device of each stage, shape (stages,)."""
    devices: int
    """Devices that the plan reserves."""
    cached_tokens: int = 0
    """Prompt tokens whose keys and values are there already."""
    chunks: float = 1.0
    """Forward passes of prefill: more than one where the prompt is processed in chunks."""
    steps: float | None = None
    """Forward passes of decode, on average; `None` means one for each token but the first."""
    chunk_tokens: float | None = None
    """Tokens that a pass of prefill processes at most; `None` means the whole prompt."""
    step_tokens: float = 1.0
    """Tokens per sequence that a pass of decode processes at most."""

    def passes(self, phase: Phase) -> float:
        """Return the forward passes of one query in a phase."""
        if phase is Phase.PREFILL:
            return self.chunks
        return float(self.output_tokens - 1) if self.steps is None else self.steps

    def live_tokens(self, sequences: Floats, *, prompts: Floats | float = 1.0) -> Floats:
        """Return the tokens whose activations live at once, at most.

        Args:
            sequences: Sequences that a decode step processes, any shape.
            prompts: Prompts that a pass of prefill processes, of the same shape.
        """
        whole = self.prompt_tokens if self.chunk_tokens is None else self.chunk_tokens
        return np.maximum(float(whole) * prompts, sequences * self.step_tokens)

    def rows_of(self, kind: OperatorKind) -> Any:
        """Return the table of rows of one kind."""
        return {
            OperatorKind.GEMM: self.gemm, OperatorKind.ATTENTION: self.attention,
            OperatorKind.VECTOR: self.vector, OperatorKind.GATHER: self.vector,
            OperatorKind.COLLECTIVE: self.collective,
        }[kind]  # fmt: skip
