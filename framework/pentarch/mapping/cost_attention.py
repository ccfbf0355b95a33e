"""Cost of attention rows: fused, unfused or the better of both, behind scratchpads or a cache."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.errors import InputError
from pentarch.graph.operators import OperatorKind
from pentarch.graph.table import AttentionTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Level, Management, Stationary
from pentarch.hardware.runtime import AttentionKernel
from pentarch.mapping.arithmetic import Product, bits_to_bytes, resolve
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.attention import (
    AttentionRows,
    AttentionTraffic,
    map_attention,
    unfused_attention_bytes,
)
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import level_bandwidth, vector_engine, vector_work
from pentarch.workload.formats import number_format

KEY_TILE = 128.0
"""Keys that one unit takes at a time when the keys of a head are shared among units (KV split)."""

SCORE_WORK = {"transcendental": 1.0, "reduce": 2.0, "elementwise": 3.0}
"""Vector work per score of a softmax: one exp; running maximum and sum; scale, subtract, convert."""


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """One way of running R attention rows on N designs; arrays of shape (R, N)."""

    memory_read: Floats
    memory_write: Floats
    memory_kv: Floats
    """Share of keys and values in `memory_read`."""
    buffer_read: Floats
    buffer_write: Floats
    scores: Floats
    """Scores that are computed."""
    row_block: Floats
    """Query rows of a block."""
    fits: npt.NDArray[np.bool_]
    is_fused: npt.NDArray[np.bool_]


def cost_attention(request: RowRequest) -> RowCosts:
    """Return the cost of attention rows.

    The runtime fixes the kernel or leaves the choice: then each row and design takes the kernel
    with the lesser of max(compute, memory) times.
    """
    table = request.rows
    if not isinstance(table, AttentionTable):
        raise TypeError(f"attention rows expected, got {type(table).__name__}")
    machine = request.machine
    ledger = RowLedger(request, count=len(table.names))
    by_format: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(zip(table.query_formats, table.kv_formats, strict=True)):
        by_format.setdefault(pair, []).append(index)
    for (query_format, kv_format), members in by_format.items():
        picked = np.array(members, dtype=np.intp)
        product = resolve(machine, query_format, kv_format, OperatorKind.ATTENTION)
        if product is None:
            text = f"no engine of {machine.name} multiplies {query_format} by {kv_format}"
            ledger.cannot_run(picked, text)
            continue
        if product.note:
            ledger.note(product.note)
        _add_rows(ledger, request, product, _rows(table, picked, request.sequences[picked]), picked)
    return ledger.costs()


def _rows(table: AttentionTable, picked: npt.NDArray[np.intp], sequences: Floats) -> AttentionRows:
    formats = {
        name: bits_to_bytes(tuple(getattr(table, name)[index] for index in picked))
        for name in ("query_formats", "kv_formats", "out_formats")
    }
    # A causal prefill sees every key of the context; its window is counted by `window_share`.
    keys = np.maximum(table.keys[picked], table.query_tokens[picked])
    return AttentionRows(
        kv_heads=table.kv_heads[picked][:, None] * sequences,
        group=table.heads[picked] / table.kv_heads[picked],
        positions=table.query_tokens[picked], kv_length=keys,
        head_dim=table.head_dim[picked], value_dim=table.value_dim[picked],
        q_bytes=formats["query_formats"], kv_bytes=formats["kv_formats"], out_bytes=formats["out_formats"],
        accumulator_bytes=np.full(len(picked), number_format(table.accumulator_format).bytes),
        causal=table.causal[picked] & (table.query_tokens[picked] > 1),
    )  # fmt: skip


def _window_share(
    table: AttentionTable, picked: npt.NDArray[np.intp], rows: AttentionRows
) -> Floats:
    """Return useful pairs under windows / causal pairs, at most 1, shape (R, 1)."""
    earlier = rows.kv_length - rows.positions
    causal = rows.positions * earlier + rows.positions * (rows.positions + 1.0) / 2.0
    every = np.where(rows.causal, causal, rows.positions * rows.kv_length)
    share: Floats = np.minimum(table.pairs[picked] / every, 1.0)[:, None]
    return share


def _add_rows(
    ledger: RowLedger, request: RowRequest, product: Product, rows: AttentionRows,
    picked: npt.NDArray[np.intp],
) -> None:  # fmt: skip
    table = request.rows
    if not isinstance(table, AttentionTable):
        raise TypeError(f"attention rows expected, got {type(table).__name__}")
    buffers = _buffers(request.machine, product)
    share = _window_share(table, picked, rows)
    variant = _choose(request, product, rows, buffers, share)
    macs = variant.scores * (rows.head_dim + rows.value_dim)[:, None]
    ledger.add_macs(picked, macs, product)
    seconds = _matrix_seconds(product, rows, variant)
    ledger.add_compute(picked, product.engine.name, seconds, None, energy_known=True)
    _add_vector_work(
        ledger, request.machine, _vector_counts(table, product, rows, variant, picked), picked
    )
    resident = request.resident_kv
    kept = np.zeros_like(macs) if resident is None else np.where(resident, variant.memory_kv, 0.0)
    memory = request.machine.levels[0]
    ledger.add_traffic(picked, memory, variant.memory_read - kept, variant.memory_write)
    streamed = macs * _streamed_bytes_per_mac(product, rows)
    first, behind = buffers[0], buffers[1:]
    filled, drained = variant.buffer_read, variant.buffer_write
    if first.management is Management.CACHE:
        ledger.add_traffic(picked, first, filled, drained)
        # Fills and write-backs cost the cache energy; their time is the memory's.
        ledger.add_traffic(
            picked, first, variant.memory_write, variant.memory_read - kept, timed=False
        )
    else:
        own_read, own_write = (0.0, 0.0) if behind else (streamed, variant.memory_write)
        ledger.add_traffic(picked, first, filled + own_read, drained + own_write - kept)
        filled, drained = filled - variant.memory_write, drained - variant.memory_read
    for level in behind:
        timed = level.management is Management.SOFTWARE and product.engine.tile_menu is None
        ledger.add_traffic(
            picked, level, streamed + drained, variant.memory_write + filled, timed=timed
        )
    ledger.restrict(picked, variant.fits, "no on-chip buffer holds one row of attention")
    ledger.add_detail(picked, "fused", variant.is_fused.astype(np.float64))
    ledger.add_detail(picked, "row_block", variant.row_block)


def _buffers(machine: MachineTable, product: Product) -> tuple[Columns[Level], ...]:
    """Return the levels between memory and engine, or raise where there is no mapper for them."""
    inner = machine.level_index(product.engine.feeds_from)
    buffers = machine.levels[1 : inner + 1]
    kinds = tuple(level.management for level in buffers)
    is_scratchpad = kinds in ((Management.SOFTWARE,), (Management.SOFTWARE,) * 2)
    if not is_scratchpad and kinds[:1] != (Management.CACHE,):
        order = " -> ".join(
            f"{level.name} ({level.management})" for level in machine.levels[: inner + 1]
        )
        raise InputError(
            f"Machine {machine.name} ({machine.backend}): no attention mapper for the levels {order}. "
            "Expected one or two software-managed buffers, or a cache. A back-end can cost attention "
            "rows itself with `cost_rows`."
        )
    return buffers


def _streamed_bytes_per_mac(product: Product, rows: AttentionRows) -> Floats:
    """Return bytes that the arrays read per MAC: keys and values serve a block of query rows."""
    height = np.minimum(product.engine.rows, (rows.group * rows.positions)[:, None])
    bytes_per_mac: Floats = (
        rows.kv_bytes[:, None] / height + rows.q_bytes[:, None] / product.engine.columns
    )
    return bytes_per_mac


def _vector_counts(
    table: AttentionTable, product: Product, rows: AttentionRows, variant: Variant,
    picked: npt.NDArray[np.intp],
) -> dict[str, Floats]:  # fmt: skip
    """Return vector work by primitive: the softmax and, for a narrower cache, its conversion."""
    counts = {name: variant.scores * factor for name, factor in SCORE_WORK.items()}
    stored = number_format(table.kv_formats[int(picked[0])]).bits
    if product.dequantized and stored < number_format(product.format).bits:
        words = rows.kv_length * (rows.head_dim + rows.value_dim)
        counts["convert"] = rows.kv_heads * words[:, None]
    return counts


def _add_vector_work(
    ledger: RowLedger,
    machine: MachineTable,
    counts: dict[str, Floats],
    picked: npt.NDArray[np.intp],
) -> None:
    engine = vector_engine(machine)
    if engine is None:
        ledger.cannot_run(picked, f"{machine.name} has no vector engine for the softmax")
        return
    seconds, joules, missing = vector_work(engine, counts)
    ledger.add_compute(picked, engine.name, seconds, joules)
    if missing:
        text = f"{engine.name} of {machine.name} has no rate for {', '.join(missing)}"
        ledger.cannot_run(picked, text)


def _matrix_seconds(product: Product, rows: AttentionRows, variant: Variant) -> Floats:
    """Return the time of Q K^T and P V on the matrix units.

    A unit takes a block of query rows by `KEY_TILE` keys; rows are padded to what the array
    cannot fill, and the last wave of blocks to all units.
    """
    engine = product.engine
    has_array = engine.tile_menu is None and engine.stationary is not Stationary.NONE
    height = np.minimum(engine.rows, engine.columns) if has_array else engine.min_rows
    query_rows = (rows.group * rows.positions)[:, None]
    block = np.minimum(np.maximum(variant.row_block, 1.0), query_rows)
    padded = np.ceil(block / height) * height / block
    keys = rows.kv_length[:, None]
    blocks = rows.kv_heads * np.ceil(query_rows / block) * np.ceil(keys / KEY_TILE)
    every = rows.kv_heads * query_rows * keys
    done = blocks * variant.scores / every  # blocks above the diagonal are skipped
    waves = np.ceil(np.maximum(done, 1.0) / engine.units)
    macs = variant.scores * (rows.head_dim + rows.value_dim)[:, None] * padded
    per_wave = (
        macs / np.maximum(done, 1.0) / (product.unit_macs_per_cycle * engine.issue_efficiency)
    )
    cycles = waves * (per_wave + engine.tile_start_cycles) + engine.fill_cycles
    seconds: Floats = cycles / engine.clock_hz
    return seconds


def _choose(
    request: RowRequest, product: Product, rows: AttentionRows,
    buffers: tuple[Columns[Level], ...], share: Floats,
) -> Variant:  # fmt: skip
    wanted = request.runtime.attention
    fused = _fused(request, rows, buffers, share)
    if wanted is AttentionKernel.FUSED:
        return fused
    unfused = _unfused(rows, fused, share, buffers)
    if wanted is AttentionKernel.UNFUSED:
        return unfused
    memory = level_bandwidth(request.machine.levels[0])

    def seconds(variant: Variant) -> Floats:
        moved = (variant.memory_read + variant.memory_write) / memory
        slow = np.where(variant.fits, 0.0, np.inf)
        return np.maximum(moved, _matrix_seconds(product, rows, variant)) + slow

    takes = seconds(fused) <= seconds(unfused)
    return Variant(
        **{
            name: np.where(takes, getattr(fused, name), getattr(unfused, name))
            for name in Variant.__dataclass_fields__
        }
    )


def _fused(
    request: RowRequest, rows: AttentionRows, buffers: tuple[Columns[Level], ...], share: Floats
) -> Variant:
    if buffers and buffers[0].management is Management.CACHE:
        return _fused_through_cache(request, rows, buffers, share)
    outer = buffers[0]
    room = outer.instances * outer.size_bytes * outer.usable
    if request.reserved_bytes is not None:
        room = np.maximum(room - request.reserved_bytes, 0.0)
    traffic = map_attention(
        rows, room, double=outer.buffering is Buffering.DOUBLE,
        register_bytes=buffers[1].size_bytes * buffers[1].usable if len(buffers) > 1 else None,
    )  # fmt: skip
    queries = traffic.memory_read_bytes - traffic.memory_kv_bytes
    if traffic.sram_read_bytes is None or traffic.sram_write_bytes is None:
        read, write = traffic.memory_write_bytes, queries + traffic.memory_kv_bytes * share
    else:  # a window takes nothing off queries and outputs
        whole = queries + traffic.memory_write_bytes
        read = whole + (traffic.sram_read_bytes - whole) * share
        write = whole + (traffic.sram_write_bytes - whole) * share
    return _variant(traffic, share, buffer_read=read, buffer_write=write)


def _fused_through_cache(
    request: RowRequest, rows: AttentionRows, buffers: tuple[Columns[Level], ...], share: Floats
) -> Variant:
    """Blocks live in the units' own buffers.

    The cache serves the re-reads of keys and values while those of the heads in flight fit it.
    """
    cache, unit = buffers[0], buffers[-1]
    traffic = map_attention(
        rows, unit.size_bytes * unit.usable, double=unit.buffering is Buffering.DOUBLE
    )
    words = (rows.head_dim + rows.value_dim)[:, None] * rows.kv_bytes[:, None]
    once = rows.kv_heads * rows.kv_length[:, None] * words
    passes = np.ceil((rows.group * rows.positions)[:, None] / np.maximum(traffic.row_block, 1.0))
    in_flight = np.minimum(rows.kv_heads, np.maximum(unit.instances / passes, 1.0))
    kept = (
        in_flight * rows.kv_length[:, None] * words
        <= cache.instances * cache.size_bytes * cache.usable
    )
    kv = np.where(kept, np.minimum(once, traffic.memory_kv_bytes), traffic.memory_kv_bytes)
    queries = traffic.memory_read_bytes - traffic.memory_kv_bytes
    variant = _variant(
        traffic, share, buffer_read=queries + traffic.memory_kv_bytes * share,
        buffer_write=traffic.memory_write_bytes,
    )  # fmt: skip
    return Variant(
        memory_read=queries + kv * share, memory_write=variant.memory_write, memory_kv=kv * share,
        buffer_read=variant.buffer_read, buffer_write=variant.buffer_write, scores=variant.scores,
        row_block=variant.row_block, fits=variant.fits, is_fused=variant.is_fused,
    )  # fmt: skip


def _variant(
    traffic: AttentionTraffic, share: Floats, *, buffer_read: Floats, buffer_write: Floats
) -> Variant:
    kv = traffic.memory_kv_bytes * share
    return Variant(
        memory_read=traffic.memory_read_bytes - traffic.memory_kv_bytes + kv,
        memory_write=traffic.memory_write_bytes, memory_kv=kv,
        buffer_read=buffer_read, buffer_write=buffer_write,
        scores=traffic.executed_scores * share, row_block=traffic.row_block, fits=traffic.fits,
        is_fused=np.ones(traffic.fits.shape, dtype=np.bool_),
    )  # fmt: skip


def _unfused(
    rows: AttentionRows, fused: Variant, share: Floats, buffers: tuple[Columns[Level], ...]
) -> Variant:
    """Scores are written to memory and read back once, as probabilities in the queries' format.

    Two GEMMs in tiles: rows are shared among units as keys are.
    """
    read, write = unfused_attention_bytes(rows, rows.q_bytes)
    once = (
        rows.kv_heads * (rows.kv_length * (rows.head_dim + rows.value_dim) * rows.kv_bytes)[:, None]
    )
    spilled = (write - fused.memory_write) * (1.0 - share)
    kv = once * share
    read, write = read - once + kv - spilled, write - spilled
    # A scratchpad is written by memory and read by it, too; one without a buffer behind it has its
    # traffic with the arrays added where they are known.
    buffer_read, buffer_write = read, write
    if buffers[0].management is Management.SOFTWARE:
        alone = len(buffers) == 1
        buffer_read, buffer_write = (write, read) if alone else (read + write, read + write)
    block = np.minimum(rows.group * rows.positions, KEY_TILE)[:, None]
    return Variant(
        memory_read=read, memory_write=write, memory_kv=kv, buffer_read=buffer_read,
        buffer_write=buffer_write, scores=fused.scores, row_block=np.broadcast_to(block, read.shape),
        fits=np.ones(read.shape, dtype=np.bool_), is_fused=np.zeros(read.shape, dtype=np.bool_),
    )  # fmt: skip
