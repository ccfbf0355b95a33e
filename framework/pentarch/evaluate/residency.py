"""What stays in the outermost on-chip buffer: weights, KV cache, activations between operators.

A byte that stays is not fetched again, and is a byte less for tiles. Data are taken in the order of
memory traffic saved per byte and query; of the prefixes of that order, each filled as far as there
is room, the one with the least estimated memory traffic of a query wins, the smaller of equals. The
estimate is the convex relaxation of the tiling problem (an output tile fills the buffer; Hong and
Kung 1981); what a decision really saves is found by the mapper afterwards. Weights and KV cache stay
for good, activations for the phase they belong to.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.peak_work import cached_width
from pentarch.graph.operators import Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Management
from pentarch.mapping.arithmetic import bits_to_bytes
from pentarch.mapping.compilation import load_keeping
from pentarch.workload.formats import number_format

Flags = npt.NDArray[np.bool_]

TILE_SHARE = 0.125
"""Share of an on-chip buffer that resident data leave to tiles: an assumption (1/8), since a buffer
filled to the brim could not stage what streams through it."""


@dataclass(frozen=True, slots=True, eq=False)
class Residency:
    """What lives in the outermost on-chip buffer, for N designs; shapes (N,)."""

    weights: Floats
    """Share of the dense weights that GEMMs stream."""
    experts: Floats
    """Share of the weights of routed experts."""
    kv: Floats
    """Share of the KV cache of all queries in flight."""
    activations: dict[Phase, Floats]
    """Bytes kept for the activations of a phase; an operator whose inputs and outputs are no larger
    leaves them on chip."""
    bytes: Floats
    """Bytes that weights and KV cache take for good."""

    @property
    def reserved(self) -> Floats:
        """Bytes that tiles cannot have: data that stay, and the larger of the phases' activations."""
        largest = np.maximum(self.activations[Phase.PREFILL], self.activations[Phase.DECODE])
        reserved: Floats = self.bytes + largest
        return reserved

    @property
    def kv_share(self) -> Floats | None:
        """Share of the KV cache, `None` where no design keeps any."""
        return self.kv if self.kv.any() else None

    @property
    def activation_rooms(self) -> Floats | None:
        """Bytes kept for the activations of prefill and decode, (2, N); `None` where there are none."""
        rooms = np.stack([self.activations[Phase.PREFILL], self.activations[Phase.DECODE]])
        return rooms if rooms.any() else None

    def weight_shares(self, is_routed: Flags) -> Floats | None:
        """Return the share of each row's weights, (R, N), `None` where no design keeps any.

        Args:
            is_routed: Rows of routed experts, (R,).
        """
        if not (self.weights.any() or self.experts.any()):
            return None
        return np.where(is_routed[:, None], self.experts, self.weights)

    def staying(
        self, rows: GemmTable | AttentionTable | VectorTable, sequences: Floats
    ) -> Flags | None:
        """Return whether the activations of each row stay, (R, N), `None` where none do.

        Args:
            rows: The rows.
            sequences: Sequences that each processes at once, (R, N).
        """
        rooms = self.activation_rooms
        if rooms is None:
            return None
        room = rooms[rows.is_decode.astype(np.intp)]
        stays: Flags = (room > 0.0) & (activation_bytes(rows)[:, None] * sequences <= room)
        return stays


@dataclass(frozen=True, slots=True, eq=False)
class Holding:
    """What one device of a stage has to hold; shapes (N,)."""

    weights: Floats
    """Weight bytes, those that are only looked up included."""
    kv: Floats
    """KV-cache bytes of the queries in flight."""
    in_step: Floats
    """Sequences that a decode step processes at once."""
    copies: float = 1.0
    """Equal copies of the stage in sequence; `executions` of its rows count all of them."""


def no_residency(length: int) -> Residency:
    """Return the decision that nothing stays."""
    nothing = np.zeros(length)
    return Residency(nothing, nothing, nothing, dict.fromkeys(Phase, nothing), nothing)


def choose_residency(table: OperatorTable, machine: MachineTable, holding: Holding) -> Residency:
    """Decide what stays in the outermost on-chip buffer.

    A buffer managed by hardware keeps nothing for good. A buffer that may hold weights only leaves
    nothing to tiles. Weights that no GEMM streams (embedding tables, gains) stay as well where all
    others do and there is room.

    Args:
        table: Rows of the stage.
        machine: N designs.
        holding: What one of its devices holds.
    """
    if len(machine.levels) < 2 or machine.levels[1].management is not Management.SOFTWARE:
        return no_residency(machine.length)
    buffer = machine.levels[1]
    whole = buffer.instances * buffer.size_bytes * buffer.usable
    is_store = buffer.holds == {"weights"}  # tiles live elsewhere
    room = whole * (1.0 if is_store else 1.0 - TILE_SHARE)
    tiles = np.full_like(whole, np.inf) if is_store else whole
    may_keep_kv = 1.0 if "kv" in buffer.holds else 0.0
    designs = np.ascontiguousarray(
        np.stack([tiles, room, holding.in_step, holding.kv * may_keep_kv])
    )
    kernel = load_keeping()
    out = np.empty((len(kernel.OUT_FIELDS), machine.length))
    stage = stage_figures(table, buffer.holds, holding.copies)
    kernel.choose(row_figures(table.gemm, holding.copies), stage, designs, out)
    found = dict(zip(kernel.OUT_FIELDS, out, strict=True))
    kept = {Phase.PREFILL: found["prefill"], Phase.DECODE: found["decode"]}
    return Residency(
        weights=found["weights"], experts=found["experts"], kv=found["kv"], activations=kept,
        bytes=_with_the_rest(found, holding, room, float(stage[1])),
    )  # fmt: skip


def _with_the_rest(
    found: dict[str, Floats], holding: Holding, room: Floats, expert_bytes: float
) -> Floats:
    """Return the bytes taken for good, with the weights that no GEMM streams where all fit."""
    every = holding.weights + holding.kv * found["kv"]
    streams = (found["weights"] >= 1.0) & ((found["experts"] >= 1.0) | (expert_bytes <= 0.0))
    fits = streams & (every + np.maximum(found["prefill"], found["decode"]) <= room)
    return np.where(fits, np.maximum(every, found["bytes"]), found["bytes"])


def row_figures(rows: GemmTable, copies: float) -> Floats:
    """Return `mapping.keeping.ROW_FIELDS` of GEMM rows, shape (R, 12)."""
    sums = np.full(len(rows.names), number_format(rows.accumulator_format).bytes)
    return np.column_stack(
        [
            rows.rows, rows.k, rows.n, rows.experts, rows.experts_per_token,
            rows.is_decode.astype(np.float64), rows.executions / copies,
            bits_to_bytes(rows.a_formats), bits_to_bytes(rows.b_formats),
            bits_to_bytes(rows.out_formats), sums, activation_bytes(rows),
        ]
    )  # fmt: skip


def stage_figures(table: OperatorTable, holds: frozenset[str], copies: float) -> Floats:
    """Return `mapping.keeping.TABLE_FIELDS` of a stage, shape (11,)."""
    rows = table.gemm
    sizes, routed = _weight_bytes(rows), rows.experts > 0
    may_keep_weights = 1.0 if "weights" in holds else 0.0
    share = (rows.experts_per_token[routed] / rows.experts[routed]).max(initial=0.0)
    return np.array(
        [
            sizes[~routed].sum() * may_keep_weights,
            sizes[routed].sum() * may_keep_weights,
            min(float(share), 1.0),
            table.passes(Phase.DECODE),
            _cache_reads(table.attention, copies),
            float(table.kv_bytes_per_query[0]),
            *(_working_bytes(table, phase) for phase in (Phase.PREFILL, Phase.DECODE)),
            *(_streamed_bytes(table, phase, copies) for phase in (Phase.PREFILL, Phase.DECODE)),
            1.0 if "activations" in holds else 0.0,
        ]
    )


def activation_bytes(rows: GemmTable | AttentionTable | VectorTable) -> Floats:
    """Return the bytes of the activations that each row reads and writes per sequence, shape (R,)."""
    if isinstance(rows, GemmTable):
        tokens = rows.rows * np.where(rows.experts > 0, rows.experts_per_token, 1.0)
        words = rows.k * bits_to_bytes(rows.a_formats) + rows.n * bits_to_bytes(rows.out_formats)
        return np.asarray(tokens * words)
    if isinstance(rows, AttentionTable):
        read = rows.head_dim * bits_to_bytes(rows.query_formats)
        written = rows.value_dim * bits_to_bytes(rows.out_formats)
        return np.asarray(rows.heads * rows.query_tokens * (read + written))
    return np.asarray(rows.bytes_in + rows.bytes_out)


def _weight_bytes(rows: GemmTable) -> Floats:
    """Return the bytes of the weights that each row stands for, counted at their prefill rows."""
    words = rows.k * rows.n * np.maximum(rows.experts, 1.0) * rows.layers
    return np.asarray(words * bits_to_bytes(rows.b_formats) * rows.streams_weights)


def _cache_reads(rows: AttentionTable, copies: float) -> float:
    """Return the bytes of keys and values that all decode steps of one sequence read on a device."""
    words = rows.kv_heads * rows.keys * cached_width(rows)
    read = words * bits_to_bytes(rows.kv_formats) * rows.executions
    return float((read * rows.is_decode).sum()) / copies


def _working_bytes(table: OperatorTable, phase: Phase) -> float:
    """Return the bytes per sequence that the layers' largest operator and the residual stream take.

    Operators that a pass executes once (the LM head) do not count: their outputs leave the chip.
    """
    passes = max(table.passes(phase), 1.0)
    largest = residual = 0.0
    for rows in (table.gemm, table.attention, table.vector):
        layers = rows.is_decode == (phase is Phase.DECODE)
        if not isinstance(rows, AttentionTable):  # contexts share the executions of attention
            layers &= rows.executions > passes
        largest = max(largest, float(activation_bytes(rows)[layers].max(initial=0.0)))
        if isinstance(rows, VectorTable):
            adds = layers & np.array([name == "add" for name in rows.functions], dtype=np.bool_)
            residual = float(rows.bytes_out[adds].max(initial=0.0))
    return largest + residual


def _streamed_bytes(table: OperatorTable, phase: Phase, copies: float) -> float:
    """Return the activation bytes of one query that attention and vector rows of a phase move."""
    total = 0.0
    for rows in (table.attention, table.vector):
        mask = rows.is_decode == (phase is Phase.DECODE)
        total += float((activation_bytes(rows) * rows.executions)[mask].sum())
    return total / copies
