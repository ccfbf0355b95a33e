"""What the engine is asked and what it answers: requests for costs of rows, and the costs."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
import numpy.typing as npt

from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import (
    AttentionTable,
    CollectiveTable,
    GemmTable,
    OperatorTable,
    VectorTable,
)
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime

if TYPE_CHECKING:
    from pentarch.mapping.gemm import FrontStore

AnyRows = GemmTable | AttentionTable | VectorTable | CollectiveTable
"""Rows of one kind."""

T = TypeVar("T")

REMEMBERED = 1024
"""Facts about rows that one memo keeps."""


class RowMemo:
    """Keeps what follows from rows alone, so that it is found once per plan and not once per batch.

    Threads may share one: what is kept is never changed, and making it twice does no harm.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[
            tuple[int, Hashable, int], tuple[AnyRows | OperatorTable, object, object]
        ] = OrderedDict()

    def of(
        self, rows: AnyRows | OperatorTable, what: Hashable, make: Callable[[], T],
        under: object = None,
    ) -> T:  # fmt: skip
        """Return what `make` returned for these rows.

        Args:
            rows: The rows, or the table of them, told apart by identity.
            what: Which fact about them; with `under` it names everything else that the fact depends
                on.
            make: Finds it.
            under: A frozen object that the fact depends on too, such as the runtime, told apart by
                identity.
        """
        key = (id(rows), what, id(under))
        entry = self._kept.get(key)
        if entry is not None and entry[0] is rows and entry[1] is under:
            return cast(T, entry[2])
        made = make()
        with self._lock:
            self._kept[key] = (rows, under, made)
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return made


class Fidelity(StrEnum):
    """How a cost was found; the weakest first."""

    ANALYTICAL = "analytical"
    TABULATED = "tabulated"
    SIMULATED = "simulated"
    MEASURED = "measured"


@dataclass(frozen=True, slots=True, eq=False)
class CacheState:
    """What a cache managed by hardware holds when rows start.

    Inputs that fit half of it are there, written by the operator before. Everything else follows
    from what is touched until the same data come round again, which random replacement spares with
    the probability of `mapping.menu.kept_share`.
    """

    copies: Floats | None = None
    """Sets of weights (or of keys and values) that a timing loop goes through, shape (R,), infinite
    where none is met again; `None` in a model, where the weights of all other layers come first."""
    footprint: Floats | None = None
    """Bytes of weights touched between two uses of the same, shape (R,), where they are not `copies`
    equal sets; NaN where they are; `None` means they always are."""

    @classmethod
    def layer(cls) -> "CacheState":
        """Return the state inside a model: activations that fit are warm, weights are not."""
        return cls()

    @property
    def is_layer(self) -> bool:
        """Whether the rows are part of a model that runs from its first layer to its last."""
        return self.copies is None and self.footprint is None

    def take(self, picked: npt.NDArray[np.intp]) -> "CacheState":
        """Return the state for some of the rows."""
        return CacheState(
            copies=None if self.copies is None else self.copies[picked],
            footprint=None if self.footprint is None else self.footprint[picked],
        )

    def between(self, weights: Floats) -> Floats:
        """Return the bytes of weights touched between two uses of the same, shape (R, N).

        Args:
            weights: Bytes of one set, (R, N).
        """
        sets = np.full(len(weights), np.inf) if self.copies is None else self.copies
        touched: Floats = np.where(weights > 0.0, weights * sets[:, None], 0.0)
        if self.footprint is None:
            return touched
        stated = self.footprint[:, None]
        return np.where(np.isnan(stated), touched, stated)


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
    resident_weights: Floats | None = None
    """Share of each row's weights that lives in the outermost on-chip buffer, shape (R, N)."""
    resident_kv: Floats | None = None
    """Share of the KV cache that lives there, shape (N,)."""
    resident_activations: npt.NDArray[np.bool_] | None = None
    """Whether the inputs and outputs of a row stay there, shape (R, N)."""
    store: "FrontStore | None" = None
    """Mappings found before, kept by the caller."""
    memo: RowMemo = field(default_factory=RowMemo)
    """What follows from the rows alone, kept by the caller."""
    cached: CacheState | None = None
    """What a cache managed by hardware holds when the rows start; `None` for nothing: each operator
    alone, everything cold."""


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
    overlap: Floats | None = None
    """Exponent with which the terms of each row overlap, (R, N), infinite for perfect overlap, where
    its kernel has one of its own; `None` means the machine's."""
    host_s: Floats | None = None
    """Host time of each row, (R, N), where its kernel has one of its own; `None` means the
    runtime's."""
    start_share: Floats | None = None
    """Factor on the machine's operator start, (R, N), where kernels have one; `None` means 1."""

    def with_fixed(self, seconds: Floats) -> "RowCosts":
        """Return the same costs with other fixed times, (R, N)."""
        # Field by field: `dataclasses.replace` takes three times as long.
        return RowCosts(
            self.compute_s, self.level_s, seconds, self.read_bytes, self.write_bytes,
            self.energy_j, self.executed_macs, self.fits, self.fidelity, self.notes, self.detail,
            self.overlap, self.host_s, self.start_share,
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RowSums:
    """What one query spends on rows of one kind: prefill and decode, arrays of shape (2, N)."""

    busy_s: Floats
    """Sum of the rows' times at nominal clock."""
    energy_j: Mapping[str, Floats | None]
    """Dynamic energy by component; `None` when a figure is unknown."""


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
