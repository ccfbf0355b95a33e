"""What the engine is asked and what it answers: requests for costs of rows, and the costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, CollectiveTable, GemmTable, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.gemm import FrontStore

AnyRows = GemmTable | AttentionTable | VectorTable | CollectiveTable
"""Rows of one kind."""


class Fidelity(StrEnum):
    """How a cost was found; the weakest first."""

    ANALYTICAL = "analytical"
    TABULATED = "tabulated"
    SIMULATED = "simulated"
    MEASURED = "measured"


@dataclass(frozen=True, slots=True, eq=False)
class RowRequest:
    """Rows of one kind, to be costed on N designs."""

    kind: OperatorKind
    """Kind of the rows; VECTOR includes gathers."""
    rows: AnyRows
    """The rows, R of them."""
    sequences: Floats
    """Sequences that each row processes at once, shape (R, N)."""
    machine: MachineTable
    """The designs."""
    runtime: Runtime
    """The software stack."""
    reserved_bytes: Floats | None = None
    """Bytes of the outermost on-chip buffer that resident data take, shape (N,)."""
    resident_weights: npt.NDArray[np.bool_] | None = None
    """Whether weights live in the outermost on-chip buffer, shape (N,)."""
    resident_kv: npt.NDArray[np.bool_] | None = None
    """Whether the KV cache lives there, shape (N,)."""
    store: FrontStore | None = None
    """Mappings found before, kept by the caller."""


@dataclass(frozen=True, slots=True, eq=False)
class RowCosts:
    """Costs of R rows on N designs, each for one execution of the row; all shapes are (R, N).

    Times are those of the resources working alone at nominal clock and without a power cap:
    overlap, cap and sums belong to the framework.
    """

    compute_s: Mapping[str, Floats]
    """Busy time by engine or link name."""
    level_s: Mapping[str, Floats]
    """Busy time by storage level name."""
    fixed_s: Floats
    """Time that overlaps with nothing: operator start, barriers, pipeline fill."""
    read_bytes: Mapping[str, Floats]
    """Bytes read by level name."""
    write_bytes: Mapping[str, Floats]
    """Bytes written by level name."""
    energy_j: Mapping[str, Floats | None]
    """Dynamic energy by component (engine, level or link name); `None` when a figure is unknown."""
    executed_macs: Floats
    """Multiply-accumulates that are executed; the padding of tiles counts, idle array elements do
    not."""
    fits: npt.NDArray[np.bool_]
    """Whether the row can run at all on the design."""
    fidelity: Fidelity | None = None
    """How the costs were found; `None` takes what their author declares: the back-end's `fidelity`,
    or analytical for the engine."""
    notes: tuple[str, ...] = ()
    """What the reader should know: fallbacks, clipped values."""
    detail: Mapping[str, Floats] = field(default_factory=dict)
    """Further figures for explanation, such as tile sizes."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentRequest:
    """A run of operators of one phase that share the resources of a stage."""

    phase: Phase
    """Phase of the rows."""
    requests: tuple[RowRequest, ...]
    """All rows of the phase, by kind; decode attention has one row per context."""
    passes: float = 1.0
    """Forward passes of one query that the rows' executions stand for: 1, or the decode steps."""


@dataclass(frozen=True, slots=True, eq=False)
class SegmentCosts:
    """What a back-end returns that runs a segment as a whole, for example as a layer pipeline."""

    rows: tuple[RowCosts, ...]
    """Costs of the rows in the order of the requests: energy and bytes are theirs, times are shown."""
    pass_s: Floats
    """Time of one forward pass of the segment, shape (N,): replaces the sum over the rows."""
    interval_s: Floats
    """Time after which the segment can accept the next pass, shape (N,); at most `pass_s`. The prefill
    of another query keeps a query waiting for so long."""
    bottleneck: tuple[str, ...]
    """Resource that sets the interval, by design, length N."""
    used: Mapping[str, Floats] = field(default_factory=dict)
    """Countable resources that the segment takes, shape (N,) each; more than the machine's
    `Budget.available` is infeasible."""
