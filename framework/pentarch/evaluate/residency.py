"""What stays in the outermost on-chip buffer: weights, KV cache, activations between operators.

A byte that stays is not fetched again, and is a byte less for tiles. Data are taken in the order of
memory traffic saved per byte and query; of the prefixes of that order, each filled as far as there
is room, the one with the least estimated time of a query wins, the smaller of equals.

An operator takes its arithmetic, padded to the array, its memory traffic, or that of the buffer,
whichever is longest; traffic that hides behind the others counts a hundredth, for its energy.
Traffic is the convex relaxation of the tiling problem (an output tile fills the buffer; Hong and
Kung 1981); what a decision really saves is found by the mapper afterwards, and `evaluate.settling`
takes another candidate where that is faster. Weights and KV cache
stay for good, activations for the phase they belong to.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pentarch.evaluate.peak_work import cached_width
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, GemmTable, OperatorTable, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Management, Stationary
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import Product, bits_to_bytes, resolve
from pentarch.mapping.cached_vector import PRIMITIVES
from pentarch.mapping.compilation import load_keeping
from pentarch.mapping.cost_vector import is_fused
from pentarch.mapping.costs import RowMemo
from pentarch.mapping.traffic import level_bandwidth, vector_engine, vector_work
from pentarch.workload.formats import number_format

Flags = npt.NDArray[np.bool_]

TILE_SHARE = 0.125
"""Share of an on-chip buffer that resident data leave to tiles: an assumption (1/8), since a buffer
filled to the brim could not stage what streams through it."""

LEAST_BYTES = 262144.0
"""Bytes that a tile of an outermost buffer with another one behind it is left at least: an assumption.
It depends on no figure of the design, so that no larger one leaves less to what stays."""


@dataclass(frozen=True, eq=False)
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
    choices: "Choices | None" = None
    """What else could have been decided; `None` where there was no choice."""

    @cached_property
    def reserved(self) -> Floats:
        """Bytes that tiles cannot have: data that stay, and the larger of the phases' activations."""
        largest = np.maximum(self.activations[Phase.PREFILL], self.activations[Phase.DECODE])
        reserved: Floats = self.bytes + largest
        return reserved

    @cached_property
    def kv_share(self) -> Floats | None:
        """Share of the KV cache, `None` where no design keeps any."""
        return self.kv if self.kv.any() else None

    @cached_property
    def activation_rooms(self) -> Floats | None:
        """Bytes kept for the activations of prefill and decode, (2, N); `None` where there are none."""
        rooms = np.stack([self.activations[Phase.PREFILL], self.activations[Phase.DECODE]])
        return rooms if rooms.any() else None

    @cached_property
    def _keeps_weights(self) -> bool:
        return bool(self.weights.any() or self.experts.any())

    def weight_shares(self, is_routed: Flags) -> Floats | None:
        """Return the share of each row's weights, (R, N), `None` where no design keeps any.

        Args:
            is_routed: Rows of routed experts, (R,).
        """
        if not self._keeps_weights:
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
class Choices:
    """What a decision was made from, as `mapping.keeping` takes it."""

    rows: Floats
    """`keeping.ROW_FIELDS`, (R, 13)."""
    products: Floats
    """`keeping.PRODUCT_FIELDS`, (P, 4, N)."""
    stage: Floats
    """`keeping.TABLE_FIELDS`, (13,)."""
    designs: Floats
    """`keeping.DESIGN_FIELDS`, (12, N)."""
    holding: "Holding"
    """What the devices hold."""
    room: Floats
    """Bytes that data may take, (N,)."""
    numbers: npt.NDArray[np.int64]
    """The candidate that was taken, (N,)."""

    def taken(self, at: npt.NDArray[np.intp], numbers: npt.NDArray[np.int64]) -> Residency:
        """Return the decision for some designs, which may repeat, with a candidate given for each.

        Args:
            at: The designs, (P,).
            numbers: Their candidates, (P,).
        """
        kernel, held = load_keeping(), self.holding
        own = replace(
            self, products=np.ascontiguousarray(self.products[:, :, at]),
            designs=np.ascontiguousarray(self.designs[:, at]), room=self.room[at], numbers=numbers,
            holding=Holding(held.weights[at], held.kv[at], held.in_step[at], held.copies),
        )  # fmt: skip
        out = np.empty((len(kernel.OUT_FIELDS), len(at)))
        kernel.choose(own.rows, own.products, own.stage, own.designs, own.numbers, out)
        return own.residency(out)

    def residency(self, out: Floats) -> Residency:
        """Return what `keeping.OUT_FIELDS` say."""
        found = dict(zip(load_keeping().OUT_FIELDS, out, strict=True))
        kept = {Phase.PREFILL: found["prefill"], Phase.DECODE: found["decode"]}
        return Residency(
            weights=found["weights"], experts=found["experts"], kv=found["kv"], activations=kept,
            bytes=_with_the_rest(found, self.holding, self.room, float(self.stage[1])), choices=self,
        )  # fmt: skip


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


def choose_residency(
    table: OperatorTable, machine: MachineTable, holding: Holding, runtime: Runtime,
    memo: RowMemo | None = None,
) -> Residency:  # fmt: skip
    """Decide what stays in the outermost on-chip buffer.

    A buffer managed by hardware keeps nothing for good. A buffer that may hold weights only leaves
    nothing to tiles. Weights that no GEMM streams (embedding tables, gains) stay as well where all
    others do and there is room.

    Args:
        table: Rows of the stage.
        machine: N designs.
        holding: What one of its devices holds.
        runtime: Software stack: which vector operators it fuses with their neighbors.
        memo: What follows from the rows alone, kept by the caller.
    """
    memo = RowMemo() if memo is None else memo
    if len(machine.levels) < 2 or machine.levels[1].management is not Management.SOFTWARE:
        return no_residency(machine.length)
    buffer = machine.levels[1]
    whole = buffer.instances * buffer.size_bytes * buffer.usable
    is_store = buffer.holds == {"weights"}  # tiles live elsewhere
    copies = 2.0 if buffer.buffering is Buffering.DOUBLE else 1.0
    inner = _inner_bytes(machine)
    room = whole
    if not is_store:
        least = 0.0 if inner is None else copies * LEAST_BYTES
        room = np.maximum(whole - np.maximum(whole * TILE_SHARE, least), 0.0)
    tiles = np.full_like(whole, np.inf) if is_store else whole
    may_keep_kv = 1.0 if "kv" in buffer.holds else 0.0
    designs = np.empty((12, machine.length))
    for row, values in enumerate((
        tiles, room, holding.in_step, holding.kv * may_keep_kv, copies,
        1.0 / level_bandwidth(machine.levels[0]),
    )):  # fmt: skip
        designs[row] = values
    designs[6:8] = _attention_s(table.attention, machine, memo) / holding.copies
    designs[8:10] = _vector_s(table.vector, machine, memo) / holding.copies
    designs[10] = 1.0 / level_bandwidth(buffer)
    designs[11] = np.inf if inner is None else inner
    holds, equal = frozenset(buffer.holds), holding.copies
    stage = memo.of(
        table, ("residency", holds, equal), lambda: stage_figures(table, holds, equal, runtime),
        runtime,
    )  # fmt: skip
    rows = memo.of(table.gemm, ("residency", equal), lambda: row_figures(table.gemm, equal))
    kernel, products = load_keeping(), product_figures(table.gemm, machine)
    numbers = np.full(machine.length, -1, dtype=np.int64)
    out = np.empty((len(kernel.OUT_FIELDS), machine.length))
    kernel.choose(rows, products, stage, designs, numbers, out)
    return Choices(rows, products, stage, designs, holding, room, numbers).residency(out)


def _inner_bytes(machine: MachineTable) -> Floats | None:
    """Return the bytes of a tile in the buffer behind the outermost one, `None` without one."""
    if len(machine.levels) < 3 or machine.levels[2].management is not Management.SOFTWARE:
        return None
    inner = machine.levels[2]
    copies = 2.0 if inner.buffering is Buffering.DOUBLE else 1.0
    found: Floats = inner.size_bytes * inner.usable / copies
    return found


def _with_the_rest(
    found: dict[str, Floats], holding: Holding, room: Floats, expert_bytes: float
) -> Floats:
    """Return the bytes taken for good, with the weights that no GEMM streams where all fit."""
    every = holding.weights + holding.kv * found["kv"]
    streams = (found["weights"] >= 1.0) & ((found["experts"] >= 1.0) | (expert_bytes <= 0.0))
    fits = streams & (every + np.maximum(found["prefill"], found["decode"]) <= room)
    return np.where(fits, np.maximum(every, found["bytes"]), found["bytes"])


def row_figures(rows: GemmTable, copies: float) -> Floats:
    """Return `mapping.keeping.ROW_FIELDS` of GEMM rows, shape (R, 13)."""
    pairs = tuple(zip(rows.a_formats, rows.b_formats, strict=True))
    order = {pair: float(at) for at, pair in enumerate(dict.fromkeys(pairs))}
    sums = np.full(len(rows.names), number_format(rows.accumulator_format).bytes)
    return np.column_stack(
        [
            rows.rows, rows.k, rows.n, rows.experts, rows.experts_per_token,
            rows.is_decode.astype(np.float64), rows.executions / copies,
            bits_to_bytes(rows.a_formats), bits_to_bytes(rows.b_formats),
            bits_to_bytes(rows.out_formats), sums, activation_bytes(rows),
            [order[pair] for pair in pairs],
        ]
    )  # fmt: skip


def product_figures(rows: GemmTable, machine: MachineTable) -> Floats:
    """Return `mapping.keeping.PRODUCT_FIELDS` of the formats multiplied, (P, 4, N)."""
    pairs = dict.fromkeys(zip(rows.a_formats, rows.b_formats, strict=True))
    found = [_product_figures(resolve(machine, *pair), machine) for pair in pairs]
    return np.stack(found or [_product_figures(None, machine)])


def _product_figures(product: Product | None, machine: MachineTable) -> Floats:
    """Return the same of one product, (4, N): no time where no engine can run it."""
    figures = np.ones((4, machine.length))
    figures[0] = 0.0
    if product is not None:
        engine = product.engine
        figures[0] = 1.0 / (product.peak_macs_per_s * engine.issue_efficiency)
        if engine.stationary is Stationary.OUTPUT:
            figures[1], figures[3] = engine.rows, engine.columns
        elif engine.stationary is Stationary.WEIGHT:
            figures[2], figures[3] = engine.rows, engine.columns
        else:
            figures[1] = engine.min_rows
    return figures


def _attention_s(rows: AttentionTable, machine: MachineTable, memo: RowMemo) -> Floats:
    """Return the time of the arithmetic of all attention of a sequence, by phase, (2, N).

    The query rows that share a key head are padded to the array.
    """
    total = np.zeros((2, machine.length))
    figures = {
        pair: _product_figures(resolve(machine, *pair, OperatorKind.ATTENTION), machine)
        for pair in dict.fromkeys(zip(rows.query_formats, rows.kv_formats, strict=True))
    }
    paddings: dict[tuple[tuple[str, str], float], Floats] = {}
    for pair, shared, macs, phase in memo.of(rows, "residency", lambda: _attention_work(rows)):
        padding = paddings.get((pair, shared))
        if padding is None:
            blocks = figures[pair][1]
            padding = paddings[pair, shared] = np.ceil(shared / blocks) * blocks / shared
        total[phase] += macs * figures[pair][0] * padding
    return total


def _attention_work(
    rows: AttentionTable,
) -> tuple[tuple[tuple[str, str], float, float | Floats, int], ...]:
    """Return formats, query rows of a key head, multiply-accumulates and phase of each row."""
    shared = rows.query_tokens * rows.heads / rows.kv_heads
    macs = rows.heads * rows.pairs * (rows.head_dim + rows.value_dim)
    return tuple(
        (
            pair,
            float(shared[index]),
            macs[index] * rows.executions[index],
            int(rows.is_decode[index]),
        )
        for index, pair in enumerate(zip(rows.query_formats, rows.kv_formats, strict=True))
    )


def _vector_s(rows: VectorTable, machine: MachineTable, memo: RowMemo) -> Floats:
    """Return the time of the arithmetic of all vector rows of a sequence, by phase, (2, N)."""
    engine = vector_engine(machine)
    if engine is None:
        return np.zeros((2, machine.length))
    counts = memo.of(rows, "residency", lambda: _vector_counts(rows))
    seconds, _, _ = vector_work(engine, counts)
    return np.asarray(np.broadcast_to(seconds, (2, machine.length)))


def _vector_counts(rows: VectorTable) -> dict[str, Floats]:
    """Return the work of all rows of a sequence by primitive, (2, 1) each: by phase."""
    phases = (~rows.is_decode, rows.is_decode)
    return {
        name: np.array([[(getattr(rows, name) * rows.executions)[mask].sum()] for mask in phases])
        for name in PRIMITIVES
    }


def stage_figures(
    table: OperatorTable, holds: frozenset[str], copies: float, runtime: Runtime
) -> Floats:
    """Return `mapping.keeping.TABLE_FIELDS` of a stage, shape (13,)."""
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
            *_streamed_bytes(table.attention, copies),
            *_streamed_bytes(table.vector, copies, ~is_fused(runtime, table.vector)),
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


def _streamed_bytes(
    rows: AttentionTable | VectorTable, copies: float, moves: Flags | None = None
) -> tuple[float, float]:
    """Return the activation bytes of one query that rows move in prefill and decode.

    Args:
        rows: Attention or vector rows.
        copies: Equal copies of the stage.
        moves: Rows that move them at all, (R,); `None` for all.
    """
    moved = activation_bytes(rows) * rows.executions / copies
    if moves is not None:
        moved = moved * moves
    return float(moved[~rows.is_decode].sum()), float(moved[rows.is_decode].sum())
