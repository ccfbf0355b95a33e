"""Fused attention through a cache: how a GPU's attention kernels run it.

A tile is a block of query rows on one unit, which passes over keys that it draws itself. With q the
exponent of the overlap, terms of one shape are

* decode: units = waves x (start + (products^q + softmax^q + loads^q)^(1/q)), or the tiles of keys one
  after another where a kernel states their least time; keys are cut into parts
  where tiles are few, whose results a further kernel adds: fixed time + parts x serial time + bytes /
  rate of all units;
* several positions: units = max(all scores spread over the waves, the longest block) + waves x
  start, with (products^s + softmax^s)^(1/s) for a score. Blocks at the diagonal are computed whole;
* memory = bytes that the cache does not hold / bandwidth; cache = all bytes / rate of all units.

References:
    Dao, Fu, Ermon, Rudra, Ré, "FlashAttention: fast and memory-efficient exact attention with
    IO-awareness", 2022. Dao, Haziza, Massa, Sizov, "Flash-Decoding for long-context inference",
    2023 (parts of the keys).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache as remembered
from importlib import import_module
from types import ModuleType

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet, KernelUse
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.attention import CheckedRows
from pentarch.mapping.attention_plan import SCORE_WORK, Case
from pentarch.mapping.cached_rates import CacheRates
from pentarch.mapping.menu import kept_share
from pentarch.mapping.traffic import vector_work

Picked = npt.NDArray[np.intp]

DECODE_KEYS, PREFILL_KEYS = 64, 128
"""Keys of a tile where a kernel states none."""


@dataclass(frozen=True, slots=True, eq=False)
class CachedAttention:
    """How R attention rows run on N designs; all shapes are (R, N)."""

    unit_s: Floats
    """Time of the units."""
    memory_s: Floats
    """Time of the memory."""
    cache_s: Floats
    """Time in which the units draw from the cache."""
    combine_s: Floats
    """Time after them in which the parts of a split are added."""
    memory_read_bytes: Floats
    memory_write_bytes: Floats
    cache_read_bytes: Floats
    cache_write_bytes: Floats
    scores: Floats
    """Scores of real query rows, over whole tiles of keys."""
    executed: Floats
    """Scores of whole tiles."""
    split: Floats
    """Parts that the keys are cut into."""
    tile: Floats
    """Query rows of a tile."""
    tile_keys: Floats
    """Keys of a tile."""
    waves: Floats
    """Rounds in which all units take one tile each."""
    fits: npt.NDArray[np.bool_]
    """Whether a unit's buffer holds a tile."""


@remembered
def load_cached_attention() -> ModuleType:
    """Return the module of kernels, importing numba on the first call."""
    return import_module("pentarch.mapping.cached_attention_kernels")


def add_cached_attention(
    ledger: RowLedger, case: Case, picked: Picked, formats: tuple[str, str]
) -> None:
    """Add attention rows that a cache feeds to a ledger.

    Args:
        ledger: Where costs are collected.
        case: Rows of one pair of formats.
        picked: Their positions in the table.
        formats: Of the queries, and of keys and values.
    """
    request = case.request
    for part in request.memo.of(
        request.rows, ("cached attention", formats),
        lambda: _parts(request.runtime, case.view, picked, formats), request.runtime,
    ):  # fmt: skip
        own = _own_case(case, part)
        _add(ledger, own, part, map_cached(own, part))


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """Rows that one kernel runs: all with one query position, or all with several; columns (R, 1)."""

    kernel: KernelSet
    """What the library makes of the engine."""
    is_decode: bool
    """Whether each row has one query position."""
    chosen: Picked
    """The rows among those of their formats."""
    picked: Picked
    """Their positions in the table."""
    table: Floats
    """As in `CheckedRows`."""
    rows: Floats
    """`ROW_FIELDS` of the kernels, (R, 11)."""
    positions: Floats
    """Query positions."""
    query_rows: Floats
    """Query rows that share a KV head."""
    kv_bytes: Floats
    """Bytes of K and V of one KV head."""
    query_bytes: Floats
    """Bytes of the queries that share it."""
    output_bytes: Floats
    """Bytes of their outputs."""
    width: Floats
    """Multiply-accumulates of a score: of Q by K and of P by V."""
    value_dim: Floats
    """Width of a value."""
    per_key_bytes: Floats
    """Bytes of a key and its value."""
    part_bytes: Floats
    """Bytes of the partial results of one query row."""


def _parts(
    runtime: Runtime, view: CheckedRows, picked: Picked, formats: tuple[str, str]
) -> tuple[_Part, ...]:
    """Return the rows by the kernel that runs them."""
    single = view.column("positions")[:, 0] == 1.0
    found = []
    for operator, members in (
        (KernelOperator.ATTENTION_DECODE, np.flatnonzero(single)),
        (KernelOperator.ATTENTION_PREFILL, np.flatnonzero(~single)),
    ):
        for kernel, chosen in _by_kernel(runtime, operator, formats, view, members):
            found.append(_part(kernel, view, picked, chosen))
    return tuple(found)


def _by_kernel(
    runtime: Runtime, operator: KernelOperator, formats: tuple[str, str], view: CheckedRows,
    members: Picked,
) -> Iterator[tuple[KernelSet, Picked]]:  # fmt: skip
    """Yield kernels with the rows that they run, of those that one operator has."""
    group, head_dim = view.column("group")[:, 0], view.column("head_dim")[:, 0]
    rows: dict[KernelUse, list[int]] = {}
    for row in members.tolist():
        use = KernelUse(group=float(group[row]), head_dim=float(head_dim[row]))
        rows.setdefault(use, []).append(row)
    by_kernel: dict[KernelSet, list[int]] = {}
    for use, own in rows.items():
        by_kernel.setdefault(runtime.kernel(operator, *formats, use), []).extend(own)
    for kernel, own in by_kernel.items():
        yield kernel, np.array(sorted(own), dtype=np.intp)


def _part(kernel: KernelSet, view: CheckedRows, picked: Picked, chosen: Picked) -> _Part:
    """Return what is known of the chosen rows, which one kernel runs."""
    own = CheckedRows(
        kv_heads=view.kv_heads[chosen], table=np.ascontiguousarray(view.table[chosen])
    )
    head_dim, value_dim = own.column("head_dim"), own.column("value_dim")
    streamed, query_rows = head_dim + own.streamed_value_dim, own.query_rows
    return _Part(
        kernel=kernel, is_decode=kernel.operator is KernelOperator.ATTENTION_DECODE,
        chosen=chosen, picked=picked[chosen], table=own.table, rows=_rows(own),
        positions=own.column("positions"), query_rows=query_rows,
        kv_bytes=own.column("kv_length") * streamed * own.column("kv_bytes"),
        query_bytes=query_rows * head_dim * own.column("q_bytes"),
        output_bytes=query_rows * value_dim * own.column("out_bytes"),
        width=head_dim + value_dim, value_dim=value_dim,
        per_key_bytes=streamed * own.column("kv_bytes"),
        part_bytes=query_rows * ((value_dim + 2.0) * own.column("accumulator_bytes")),
    )  # fmt: skip


def _own_case(case: Case, part: _Part) -> Case:
    chosen = part.chosen
    view = CheckedRows(kv_heads=np.ascontiguousarray(case.view.kv_heads[chosen]), table=part.table)
    return Case(
        request=case.request, product=case.product, buffers=case.buffers, view=view,
        vectors=case.vectors, converted=None if case.converted is None else case.converted[chosen],
    )  # fmt: skip


def map_cached(case: Case, part: _Part) -> CachedAttention:
    """Return how the rows of one kernel run.

    Args:
        case: The rows.
        part: What is known of them.
    """
    kernels, view, kernel = load_cached_attention(), case.view, part.kernel
    shape = view.kv_heads.shape
    moved = _footprints(view, part)
    kept = _kept(case, part, moved)
    out = np.empty((len(kernels.OUT_FIELDS), *shape))
    run = kernels.time_decode if part.is_decode else kernels.time_prefill
    options = _options(case, kernel, is_decode=part.is_decode)
    run(view.kv_heads, kept, part.rows, options, _designs(case, kernel), out)
    found = dict(zip(kernels.OUT_FIELDS, out, strict=True))
    return CachedAttention(
        unit_s=found["unit_s"], memory_s=found["memory_s"], cache_s=found["cache_s"],
        combine_s=found["combine_s"], scores=found["scores"], executed=found["executed"],
        split=found["split"], tile=found["tile"], waves=found["waves"],
        tile_keys=np.full(shape, options[0, 1]),
        fits=found["fits"] > 0.0,
        **_bytes(view, part, kept, moved, found),
    )  # fmt: skip


def _rows(view: CheckedRows) -> Floats:
    """Return `ROW_FIELDS` of the kernels, shape (R, 11)."""
    names = ("group", "positions", "kv_length", "head_dim", "value_dim")
    last = ("q_bytes", "kv_bytes", "out_bytes", "window", "causal")
    columns = [view.column(name) for name in names]
    columns += [view.streamed_value_dim, *(view.column(name) for name in last)]
    return np.ascontiguousarray(np.hstack(columns))


def _options(case: Case, kernel: KernelSet, *, is_decode: bool) -> Floats:
    """Return query rows and keys of each tile and the most parts of keys, shape (O, 4)."""
    menu = case.product.engine.tile_menu or ()
    tiles = kernel.query_tiles or tuple(sorted({tile[0] for tile in menu}))
    keys = kernel.key_tile or (DECODE_KEYS if is_decode else PREFILL_KEYS)
    single = kernel.most_parts if kernel.splits_single else 1
    several = kernel.most_parts if kernel.splits_groups else 1
    return np.array([[tile, keys, several, single] for tile in tiles], dtype=np.float64)


def _designs(case: Case, kernel: KernelSet) -> Floats:
    """Return `DESIGN_FIELDS` of the kernels, shape (20, N)."""
    engine, machine = case.product.engine, case.request.machine
    rates = CacheRates.of(machine, engine, case.buffers[0], kernel)
    nothing = np.zeros(machine.length)
    score_s, convert_s, vectors = nothing, nothing, case.vectors
    if vectors is not None:
        units = vectors.main.units
        main_s, special_s = vectors.seconds(SCORE_WORK)
        score_s = np.maximum(main_s, special_s) * units * kernel.softmax
        if case.converted is not None:
            convert_s = vectors.seconds({"convert": 1.0})[0] * units / kernel.convert
    unit = case.buffers[-1]
    own = unit.size_bytes * unit.usable if len(case.buffers) > 1 else np.inf
    inner = kernel.softmax_overlap
    figures = (
        engine.units,
        case.product.unit_macs_per_cycle * engine.clock_hz
        * np.minimum(case.product.efficiency * kernel.efficiency, 1.0),
        score_s, rates.start_s + kernel.tile_start_s, rates.memory_unit, rates.memory,
        rates.cache, rates.exchange, rates.overlap, rates.overlap if inner is None else inner,
        rates.wave_share, rates.split_s, kernel.part_s, kernel.wide, convert_s,
        kernel.tiles_per_unit, engine.units if vectors is None else vectors.main.units, own,
        kernel.key_tile_s, np.inf if kernel.splits_below is None else kernel.splits_below,
    )  # fmt: skip
    packed = np.empty((len(figures), machine.length))
    for at, figure in enumerate(figures):
        packed[at] = figure
    return packed


def _kept(case: Case, part: _Part, moved: tuple[Floats, Floats, Floats]) -> Floats:
    """Return the share of K and V, of Q, and of O that the cache holds already; (4, R, N).

    The last share is that of the keys of one head that a round of tiles leaves to the next.
    """
    view, state = case.view, case.request.cached
    kept = np.zeros((4, *view.kv_heads.shape))
    room = cache_room(case, part.kernel)
    stored, queries, outputs = moved
    if not part.is_decode:
        kept[3] = kept_share(stored / view.kv_heads, room)
    if state is None:
        return kept
    share = np.zeros(view.kv_heads.shape)
    if state.is_layer and not part.is_decode:
        # Keys and values of this pass were written by the operator before; older ones were not.
        fresh = stored + queries + outputs <= room / 2.0
        share = np.where(fresh, part.positions / view.column("kv_length"), 0.0)
    elif not state.is_layer:
        between = state.take(part.picked).between(stored)
        share = kept_share(between + queries + outputs, room)
    kept[0] = np.minimum(share, 1.0)
    kept[1] = kept[2] = np.where(
        queries + outputs <= room / 2.0, 1.0, 0.0 if state.is_layer else share
    )
    return kept


def cache_room(case: Case, kernel: KernelSet) -> Floats:
    """Return the bytes of the cache in use, shape (N,)."""
    level = case.buffers[0]
    share = np.minimum(level.usable * kernel.cache, 1.0)
    room: Floats = level.instances * level.size_bytes * share
    return room


def _footprints(view: CheckedRows, part: _Part) -> tuple[Floats, Floats, Floats]:
    """Return the bytes of K and V, of Q, and of O, (R, N) each."""
    heads = view.kv_heads
    return heads * part.kv_bytes, heads * part.query_bytes, heads * part.output_bytes


def _bytes(
    view: CheckedRows, part: _Part, kept: Floats, moved: tuple[Floats, Floats, Floats],
    found: dict[str, Floats],
) -> dict[str, Floats]:  # fmt: skip
    """Return the traffic of memory and cache: a tile draws the keys of its scores."""
    stored, queries, outputs = moved
    tile = found["tile"]
    if part.is_decode:
        # In decode one tile holds all query rows of a KV head, however many blocks they take.
        tile = np.ceil(part.query_rows / tile) * tile
    drawn = found["executed"] / tile * part.per_key_bytes
    parts = np.where(found["split"] > 1.0, found["split"], 0.0)
    exchanged = parts * view.kv_heads * part.part_bytes
    return {
        "memory_read_bytes": stored * (1.0 - kept[0]) + queries * (1.0 - kept[1]) + found["reread"],
        "memory_write_bytes": outputs * (1.0 - kept[2]),
        "cache_read_bytes": drawn + queries + exchanged,
        "cache_write_bytes": outputs + exchanged,
    }


def _add(ledger: RowLedger, case: Case, part: _Part, found: CachedAttention) -> None:
    product, machine, picked = case.product, case.request.machine, part.picked
    memory, cache, kernel = machine.levels[0], case.buffers[0], part.kernel
    macs = found.scores * part.width
    ledger.set_kernel(picked, kernel)
    ledger.add_macs(picked, macs, product)
    ledger.add_padding(picked, np.maximum(found.executed - found.scores, 0.0) * part.width)
    ledger.add_compute(picked, product.engine.name, found.unit_s, None, energy_known=True)
    _add_softmax(ledger, case, part, found)
    read, write = found.memory_read_bytes, found.memory_write_bytes
    ledger.add_traffic(picked, memory, read, write, timed=False)
    ledger.add_level_time(picked, memory.name, found.memory_s)
    # Fills and write-backs pass through the cache.
    ledger.add_traffic(
        picked, cache, found.cache_read_bytes + write, found.cache_write_bytes + read, timed=False
    )
    ledger.add_level_time(picked, cache.name, found.cache_s)
    for level in case.buffers[1:]:
        height = np.minimum(product.engine.rows, part.query_rows)
        view = case.view
        per_mac = view.column("kv_bytes") / height + view.column("q_bytes") / product.engine.columns
        ledger.add_traffic(picked, level, macs * per_mac, found.cache_read_bytes, timed=False)
    ledger.restrict(picked, found.fits, "no tile of attention fits a unit's buffer")
    tokens = case.request.sequences[picked] * part.positions
    ledger.add_fixed(picked, found.combine_s + kernel.start_s + kernel.token_s * tokens)
    for name, values in (
        ("fused", np.ones(found.split.shape)), ("split", found.split), ("tile_rows", found.tile),
        ("row_block", found.tile), ("tile_keys", found.tile_keys), ("waves", found.waves),
    ):  # fmt: skip
        ledger.add_detail(picked, name, values)


def _add_softmax(ledger: RowLedger, case: Case, part: _Part, found: CachedAttention) -> None:
    """Add the energy of the softmax, whose time is the units'."""
    machine, picked = case.request.machine, part.picked
    if case.vectors is None:
        ledger.cannot_run(picked, f"{machine.name} has no vector engine for the softmax")
        return
    counts = {name: found.scores * work for name, work in SCORE_WORK.items()}
    outputs = case.view.kv_heads * part.query_rows * part.value_dim
    counts["elementwise"] = counts["elementwise"] + outputs * found.split
    if case.converted is not None:
        counts["convert"] = case.converted
    engines = [(case.vectors.main, counts)]
    if case.vectors.special is not None:
        engines.append((case.vectors.special, {"transcendental": counts.pop("transcendental")}))
    for engine, work in engines:
        _, joules, missing = vector_work(engine, work)
        ledger.add_compute(picked, engine.name, np.zeros(found.unit_s.shape), joules)
        if missing:
            text = f"{engine.name} of {machine.name} has no rate for {', '.join(missing)}"
            ledger.cannot_run(picked, text)
