"""Which kernel, split and tile attention takes on each design, and the traffic that follows."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Engine, EngineKind, Level, Management, Stationary
from pentarch.hardware.runtime import AttentionKernel
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.attention import (
    AttentionTraffic,
    CheckedRows,
    map_checked_rows,
    scratch,
    unfused_bytes,
    visible_scores,
)
from pentarch.mapping.costs import RowRequest
from pentarch.mapping.traffic import level_bandwidth, values_per_s, vector_engine

SCORE_WORK = {"transcendental": 1.0, "reduce": 2.0, "elementwise": 3.0}
"""Vector work per score of a softmax: one exp; running maximum and sum; scale, subtract, convert."""

RESCALE_WORK = {"transcendental": 1.0, "elementwise": 2.0}
"""Vector work per query row, besides a multiplication of each output, when a further block of keys
moves the running maximum: the factor, and the statistics."""

COMBINE_WORK = {"transcendental": 1.0, "reduce": 2.0, "elementwise": 1.0}
"""Vector work per query row and part when the parts of a split are combined, besides a
multiplication and an addition of each output: maximum, sum and the factor."""


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """How R attention rows run on N designs; arrays of shape (R, N)."""

    memory_read: Floats
    memory_write: Floats
    memory_kv: Floats
    """Share of keys and values in `memory_read`."""
    buffer_read: Floats
    buffer_write: Floats
    exchanged: Floats
    """Partial outputs and statistics of a split, written to the outermost buffer and read back."""
    spilled: Floats
    """Share of them that the buffer cannot hold: memory moves it, too."""
    scores: Floats
    """Scores that are computed."""
    vector: Mapping[str, Floats]
    """Values by primitive of the vector engine."""
    matrix_s: Floats
    """Busy time of the matrix units."""
    row_block: Floats
    """Query rows that the buffer holds at a time."""
    plan: Mapping[str, Floats]
    """Figures of the kernels' plan by name."""

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Whether the kernel taken can run."""
        return self.plan["fits"] > 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """The engines of softmax work."""

    main: Columns[Engine]
    """Runs everything that the other does not."""
    special: Columns[Engine] | None
    """Special-function units with a term of their own: a vector engine that only has
    transcendentals; `None` where they share the main engine's time."""

    @classmethod
    def of(cls, machine: MachineTable) -> "Vectors | None":
        """Return the vector engines of a machine, or `None` without one."""
        return machine.derived.once("vectors", lambda: cls._find(machine))

    @classmethod
    def _find(cls, machine: MachineTable) -> "Vectors | None":
        main = vector_engine(machine)
        if main is None:
            return None
        alone = (
            engine
            for engine in machine.engines_of(EngineKind.VECTOR)[1:]
            if set(engine.values_per_cycle) == {"transcendental"}
        )
        return cls(main=main, special=next(alone, None))

    def seconds(self, work: Mapping[str, float]) -> tuple[Floats | float, Floats | float]:
        """Return the time of work for one value each: on the main engine, on the special one.

        Primitives without a rate take none: what needs them cannot run at all.
        """
        busy: list[Floats | float] = [0.0, 0.0]
        for primitive, count in work.items():
            apart = primitive == "transcendental" and self.special is not None
            engine = self.special if apart and self.special is not None else self.main
            per_s = values_per_s(engine, primitive)
            if per_s is not None:
                busy[apart] = busy[apart] + count / per_s
        return busy[0], busy[1]


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """Attention rows of one pair of formats on the machines of a request."""

    request: RowRequest
    product: Product
    buffers: tuple[Columns[Level], ...]
    """Levels between memory and engine, the outermost first."""
    view: CheckedRows
    vectors: Vectors | None
    converted: Floats | None
    """Values of keys converted before use, shape (R, N); `None` where stored as computed."""

    @property
    def is_cached(self) -> bool:
        """Whether hardware decides what the outermost buffer holds."""
        return bool(self.buffers[0].management is Management.CACHE)


@cache
def time_kernels() -> ModuleType:
    """Return the compiled kernels of times, importing numba on the first call."""
    return import_module("pentarch.mapping.attention_times")


def choose(case: Case) -> Variant:
    """Return the kernel, split and tile with the least time for each row and design.

    The runtime fixes the kernel or leaves the choice; then the fused one wins a tie. The time is
    that of the slowest of matrix units, vector engine, memory and on-chip buffers.
    """
    plain = Moved(*unfused_bytes(case.view, case.view.column("q_bytes")), _keys_once(case.view))
    return _through_cache(case, plain) if case.is_cached else _behind_scratchpad(case, plain)


class Moved(NamedTuple):
    """Bytes of memory, shape (R, N)."""

    read: Floats
    write: Floats
    kv: Floats
    """Share of keys and values in `read`."""


def _behind_scratchpad(case: Case, plain: Moved) -> Variant:
    traffic, view = _mapped(case), case.view
    fused = Moved(traffic.memory_read_bytes, traffic.memory_write_bytes, traffic.memory_kv_bytes)
    # A scratchpad is written by memory and read by it, too; one without a buffer behind it has its
    # traffic with the arrays added where they are known.
    buffer, plain_buffer = (fused.write, fused.read), (plain.write, plain.read)
    if traffic.sram_read_bytes is not None and traffic.sram_write_bytes is not None:
        buffer = (traffic.sram_read_bytes, traffic.sram_write_bytes)
        plain_buffer = (plain.read + plain.write, plain.read + plain.write)
    blocks = _score_blocks(case, traffic)
    loads = {
        "fits": traffic.fits, "score_blocks": blocks,
        **_level_loads(case, fused, buffer, prefix=""),
        **_level_loads(case, plain, plain_buffer, prefix="plain_"),
    }  # fmt: skip
    plan = _plan(case, loads, menu=None)
    takes = plan["fused"] > 0.0
    every = bool(takes.all())

    def pick(first: Floats, second: Floats) -> Floats:
        return first if every else np.where(takes, first, second)

    parts = _exchanged(view, plan)
    spilled = np.where(parts > _room(case), parts, 0.0)
    return Variant(
        memory_read=pick(fused.read, plain.read), memory_write=pick(fused.write, plain.write),
        memory_kv=pick(fused.kv, plain.kv), buffer_read=pick(buffer[0], plain_buffer[0]),
        buffer_write=pick(buffer[1], plain_buffer[1]), exchanged=parts,
        spilled=spilled,
        scores=plan["scores"], vector=_vector_counts(case, plan, blocks),
        matrix_s=plan["matrix_s"], row_block=pick(traffic.row_block, plan["tile_rows"]), plan=plan,
    )  # fmt: skip


def _mapped(case: Case) -> AttentionTraffic:
    """Return the least traffic of the fused kernel behind one or two scratchpads."""
    outer, inner = case.buffers[0], case.buffers[1:2]
    return map_checked_rows(
        case.view, _room(case), double=outer.buffering is Buffering.DOUBLE,
        register_bytes=inner[0].size_bytes * inner[0].usable if inner else None,
    )  # fmt: skip


def _room(case: Case) -> Floats:
    """Return the bytes of the outermost buffer that attention can have, shape (N,)."""
    outer = case.buffers[0]
    room: Floats = outer.instances * outer.size_bytes * outer.usable
    if case.request.reserved_bytes is not None:
        room = np.maximum(room - case.request.reserved_bytes, 0.0)
    return room


def _through_cache(case: Case, plain: Moved) -> Variant:
    """Blocks live in the units' own buffers; the cache serves what they read again."""
    view, heads = case.view, case.view.kv_heads
    queries = heads * view.query_rows * view.column("head_dim") * view.column("q_bytes")
    outputs = heads * view.query_rows * view.column("value_dim") * view.column("out_bytes")
    loads = {
        "memory_read": queries, "memory_write": outputs, "buffer_read": queries,
        "buffer_write": outputs, "plain_memory_read": plain.read - _kept(case, plain.kv),
        "plain_memory_write": plain.write, "plain_buffer_read": plain.read,
        "plain_buffer_write": plain.write, "kv_fetched": 1.0 - _kept(case, np.ones(1)),
    }  # fmt: skip
    plan = _plan(case, loads, menu=_menu(case.product))
    fused = plan["fused"] > 0.0
    parts = _exchanged(view, plan)
    spilled = np.where(parts > _room(case), parts, 0.0)
    kv = np.where(fused, plan["kv_memory_bytes"], plain.kv)
    blocks = np.ceil(plan["scores"] / (heads * view.query_rows) / plan["tile_keys"])
    return Variant(
        memory_read=np.where(fused, queries + kv, plain.read),
        memory_write=np.where(fused, outputs, plain.write), memory_kv=kv, spilled=spilled,
        buffer_read=np.where(fused, queries + plan["kv_cache_bytes"], plain.read),
        buffer_write=np.where(fused, outputs, plain.write), exchanged=parts, scores=plan["scores"],
        vector=_vector_counts(case, plan, blocks), matrix_s=plan["matrix_s"],
        row_block=plan["tile_rows"], plan=plan,
    )  # fmt: skip


def _level_loads(
    case: Case, moved: Moved, buffer: tuple[Floats, Floats], *, prefix: str
) -> dict[str, Floats]:
    """Return the bytes of each level as the ledger counts them, but for what arrays read."""
    kept = _kept(case, moved.kv)
    read, write = buffer
    found = {"memory_read": moved.read - kept, "memory_write": moved.write}
    if len(case.buffers) == 1:
        found |= {"buffer_read": read, "buffer_write": write + moved.write - kept}
    else:
        found |= {
            "buffer_read": read, "buffer_write": write - kept,
            "inner_read": write - moved.read, "inner_write": read,
        }  # fmt: skip
    return {prefix + name: values for name, values in found.items()}


def _plan(case: Case, loads: Mapping[str, Any], *, menu: Floats | None) -> dict[str, Floats]:
    """Return PLAN_FIELDS by name from the loads of a case; what all cases share is added."""
    kernels, view = time_kernels(), case.view
    rows = view.kv_heads * view.query_rows
    part = rows * ((view.column("value_dim") + 2.0) * view.column("accumulator_bytes"))
    convert_s: Floats | float = 0.0
    if case.converted is not None and case.vectors is not None:
        convert_s = case.converted * case.vectors.seconds({"convert": 1.0})[0]
    given = {
        "heads": view.kv_heads, "fits": 1.0, "convert_s": convert_s,
        "split_bytes": part, **loads,
    }  # fmt: skip
    count = view.kv_heads.shape[1]
    packed = scratch(len(kernels.LOAD_FIELDS), view.kv_heads.shape)
    for at, name in enumerate(kernels.LOAD_FIELDS):
        packed[at, :, :count] = given.get(name, 0.0)  # zero: this kind of machine has nothing there
    out = scratch(len(kernels.PLAN_FIELDS), view.kv_heads.shape)
    wanted = {
        AttentionKernel.FUSED: kernels.FUSED, AttentionKernel.UNFUSED: kernels.UNFUSED,
        AttentionKernel.BEST: kernels.BEST,
    }[case.request.runtime.attention]  # fmt: skip
    engines = _engine_table(case)
    if menu is None:
        kernels.time_rows(view.table, packed, engines, wanted, out)
    else:
        kernels.time_cached_rows(view.table, packed, engines, menu, wanted, out)
    return dict(zip(kernels.PLAN_FIELDS, out[:, :, :count], strict=True))


def _engine_table(case: Case) -> Floats:
    """Return ENGINE_FIELDS of each design, shape (N, fields)."""
    machine, engine = case.request.machine, case.product.engine
    memory, outer, unit = machine.levels[0], case.buffers[0], case.buffers[-1]
    has_array = engine.tile_menu is None and engine.stationary is not Stationary.NONE
    own = unit.size_bytes * unit.usable
    limits = {
        "units": engine.units,
        "macs_per_cycle": case.product.unit_macs_per_cycle * engine.issue_efficiency,
        "clock_hz": engine.clock_hz,
        "height": np.minimum(engine.rows, engine.columns) if has_array else engine.min_rows,
        "width": np.maximum(engine.rows, engine.columns) if has_array else 1.0,
        "start_cycles": engine.tile_start_cycles,
        "fill_cycles": engine.fill_cycles,
        "barrier_s": machine.overhead.barrier_s,
        "unit_bytes": np.floor(own / 2.0) if unit.buffering is Buffering.DOUBLE else own,
        "cache_bytes": _room(case),
        "streams": _streams(case),
        "stream_rows": engine.rows,
        "stream_columns": engine.columns,
        **_vector_limits(case.vectors),
        **_level_limits("memory", memory),
        **_level_limits("buffer", outer),
        **_level_limits("inner", unit),
    }
    names = time_kernels().ENGINE_FIELDS
    table = np.empty((len(names), machine.length))
    for at, name in enumerate(names):
        table[at] = limits[name]
    return np.ascontiguousarray(table.T)


def _streams(case: Case) -> float:
    """Return the level whose time counts what arrays read: 0 none, 1 the first, 2 the second."""
    if len(case.buffers) == 1:
        return 0.0 if case.is_cached else 1.0
    return 2.0 if is_timed(case.product, case.buffers[1]) else 0.0


def is_timed(product: Product, level: Columns[Level]) -> bool:
    """Return whether a level behind the first takes time: not if it is as wide as its unit."""
    return bool(level.management is Management.SOFTWARE and product.engine.tile_menu is None)


def _vector_limits(vectors: Vectors | None) -> dict[str, Floats | float]:
    """Return seconds of vector work by field; without an engine nothing runs, in no time."""
    found: dict[str, Floats | float] = {}
    for name, work in (
        ("score", SCORE_WORK), ("rescale", RESCALE_WORK), ("combine", COMBINE_WORK),
        ("value", {"elementwise": 1.0}),
    ):  # fmt: skip
        main, special = (0.0, 0.0) if vectors is None else vectors.seconds(work)
        found[f"{name}_s"], found[f"{name}_exp_s"] = main, special
    return found


def _level_limits(name: str, level: Columns[Level]) -> dict[str, Floats | float]:
    """Return the rates of a level; without a limit a unit draws any bandwidth."""
    unit, write = level.requester_bytes_per_s, level.write_bytes_per_s
    return {
        f"{name}_bytes_per_s": level_bandwidth(level),
        f"{name}_unit": np.inf if unit is None else unit,
        f"{name}_write": -1.0 if write is None
        else level.instances * write * level.stream_efficiency,
        f"{name}_latency_s": level.latency_s,
    }  # fmt: skip


def _menu(product: Product) -> Floats:
    """Return the tiles (query rows, keys) that a unit can take, shape (tiles, 2).

    They are those of the engine's products. An engine without a menu takes what its array holds.
    """
    engine = product.engine
    if engine.tile_menu is None:
        return np.array([[float(engine.rows.max()), float(engine.columns.max())]])
    return np.array(list(dict.fromkeys((m, n) for m, n, _ in engine.tile_menu)), dtype=np.float64)


def _keys_once(view: CheckedRows) -> Floats:
    """Return the bytes of all keys and values, shape (R, N)."""
    width = view.column("head_dim") + view.streamed_value_dim
    once: Floats = view.kv_heads * (view.column("kv_length") * width * view.column("kv_bytes"))
    return once


def _kept(case: Case, kv_bytes: Floats) -> Floats | float:
    """Return the bytes of keys and values that memory is spared because they live on chip."""
    resident = case.request.resident_kv
    return 0.0 if resident is None else resident * kv_bytes


def _exchanged(view: CheckedRows, plan: Mapping[str, Floats]) -> Floats:
    """Return the bytes of partial outputs and statistics, written once and read once, (R, N)."""
    parts = np.where((plan["split"] > 1.0) & (plan["fused"] > 0.0), plan["split"], 0.0)
    words = (view.column("value_dim") + 2.0) * view.column("accumulator_bytes")
    exchanged: Floats = parts * view.kv_heads * (view.query_rows * words)
    return exchanged


def _score_blocks(case: Case, traffic: AttentionTraffic) -> Floats:
    """Return into how many blocks of keys the scores of a row fall, at least 1, (R, N).

    The running output is rescaled once per further block. A block is as wide as the array, or all
    scores where the buffer holds those of all rows beside their outputs.
    """
    engine, view = case.product.engine, case.view
    width = np.maximum(engine.rows, engine.columns)
    keys = np.minimum(view.column("kv_length"), view.column("window"))
    scores = view.query_rows * keys * view.column("accumulator_bytes")
    in_one = (traffic.row_block == view.query_rows) & (traffic.spare_bytes >= scores)
    blocks: Floats = np.where(in_one, 1.0, np.ceil(keys / width))
    return blocks


def _vector_counts(case: Case, plan: Mapping[str, Floats], blocks: Floats) -> dict[str, Floats]:
    """Return vector work by primitive: softmax, rescaling, combination, division, conversion.

    The unfused softmax runs over the scores that were spilled, in one go.
    """
    view, fused = case.view, plan["fused"] > 0.0
    rows = view.kv_heads * view.query_rows
    scores, again = plan["scores"], blocks - 1.0
    if not fused.all():
        scores = np.where(fused, scores, view.kv_heads * visible_scores(view))
        again = np.where(fused, again, 0.0)
    parts = np.where(fused & (plan["split"] > 1.0), plan["split"], 0.0)
    counts = {name: scores * factor for name, factor in SCORE_WORK.items()}
    width, outputs = view.column("value_dim"), np.ones(1)
    for work, times, per_row in ((RESCALE_WORK, again, 1.0), (COMBINE_WORK, parts, 2.0)):
        if times.any():
            outputs = outputs + times * per_row
            for name, factor in work.items():
                counts[name] = counts[name] + times * rows * factor
    counts["elementwise"] = counts["elementwise"] + rows * width * outputs
    if case.converted is not None:
        counts["convert"] = case.converted
    return counts
