"""The compiled kernels of attention, second part: times of tiles on units, and what to choose.

A unit takes a tile of query rows and passes it over its keys. Where units would idle, the keys of
a tile are split among several of them (flash-decoding), which then exchange partial outputs and
statistics. Chosen by least time: the split; behind a cache, the tile; and, if both may run, the
fused or the unfused kernel. Geometry of blocks is that of `attention_kernels`.

References:
    Dao, Haziza, Massa, Sizov, "Flash-Decoding for long-context inference", 2023 (split keys).
"""

from typing import NamedTuple

import numpy as np

from pentarch.mapping.attention_kernels import Row, Work, cut_rows, make_row, touched_keys
from pentarch.mapping.compilation import compiled, inlined

ENGINE_FIELDS = (
    "units", "macs_per_cycle", "clock_hz", "height", "width", "start_cycles", "fill_cycles",
    "barrier_s", "unit_bytes", "cache_bytes", "streams", "stream_rows", "stream_columns",
    "score_s", "rescale_s", "combine_s", "value_s", "score_exp_s", "rescale_exp_s", "combine_exp_s",
    "memory_bytes_per_s", "memory_unit", "memory_write", "memory_latency_s",
    "buffer_bytes_per_s", "buffer_unit", "buffer_write", "buffer_latency_s",
    "inner_bytes_per_s", "inner_unit", "inner_write", "inner_latency_s",
)  # fmt: skip
"""What N designs offer. Matrix units, with the array's sides for padding; the level whose time
counts what arrays read (0 none, 1 buffer, 2 the one behind it), and the sides that say how much;
the vector engine's seconds for a score, a row's rescaling, a row's part of a split, a
multiplication, and those of an engine for exponentials alone; of each level all bandwidth, that of
one unit, that of writes (negative if shared with reads), and latency."""
LOAD_FIELDS = (
    "heads", "fits", "score_blocks", "convert_s", "split_bytes",
    "memory_read", "memory_write", "buffer_read", "buffer_write", "inner_read", "inner_write",
    "plain_memory_read", "plain_memory_write", "plain_buffer_read", "plain_buffer_write",
    "plain_inner_read", "plain_inner_write", "kv_fetched",
)  # fmt: skip
"""What R rows ask of N designs: KV heads; whether the buffer holds one row; blocks of keys into
which scores fall; seconds of conversions; bytes of the partial results of one split; bytes of each
level without what arrays read; those of the unfused kernel; and, behind a cache, 0 where keys and
values live on chip, else 1."""
PLAN_FIELDS = (
    "fused", "split", "matrix_s", "time_s", "scores", "active", "tile_rows", "tile_keys",
    "kv_memory_bytes", "kv_cache_bytes", "fits",
)  # fmt: skip
"""What was chosen; the bytes of keys and values only behind a cache."""
FUSED, UNFUSED, BEST = 0, 1, 2
"""Which kernels may be taken."""


class Unit(NamedTuple):
    """One design; fields as in ENGINE_FIELDS, the levels apart."""

    units: float
    rate: float
    clock_hz: float
    height: float
    width: float
    start: float
    fill: float
    barrier_s: float
    unit_bytes: float
    cache_bytes: float
    streams: float
    stream_rows: float
    stream_columns: float
    score_s: float
    rescale_s: float
    combine_s: float
    value_s: float
    score_exp_s: float
    rescale_exp_s: float
    combine_exp_s: float


class Rates(NamedTuple):
    """One level of one design."""

    all_bytes_per_s: float
    unit_bytes_per_s: float
    write_bytes_per_s: float
    latency_s: float


class Levels(NamedTuple):
    """The storage levels of one design."""

    memory: Rates
    buffer: Rates
    inner: Rates


class Load(NamedTuple):
    """What one kernel of an operator asks of one design; fields as in LOAD_FIELDS."""

    heads: float
    combines: float
    """1 where the parts of a split leave partial results, else 0."""
    scores: float
    score_blocks: float
    convert_s: float
    split_bytes: float
    memory_read: float
    memory_write: float
    buffer_read: float
    buffer_write: float
    inner_read: float
    inner_write: float


class Design(NamedTuple):
    """Units and levels."""

    unit: Unit
    levels: Levels


class Chosen(NamedTuple):
    """A split, the time of the slowest resource with it, and that of the matrix units."""

    split: float
    time_s: float
    matrix_s: float


class Slot(NamedTuple):
    """Row `r` on design `n`: where its load is read and its plan written."""

    loads: np.ndarray
    out: np.ndarray
    r: int
    n: int


class Tile(NamedTuple):
    """Query rows and keys that a unit takes at a time."""

    rows: float
    keys: float


@inlined
def make_rates(values: np.ndarray, first: int, n: int) -> Rates:
    """Return a level whose fields begin at `first`."""
    return Rates(values[n, first], values[n, first + 1], values[n, first + 2], values[n, first + 3])


@inlined
def make_design(values: np.ndarray, n: int) -> Design:
    """Return design `n` of (N, fields)."""
    unit = Unit(
        values[n, 0], values[n, 1], values[n, 2], values[n, 3], values[n, 4], values[n, 5],
        values[n, 6], values[n, 7], values[n, 8], values[n, 9], values[n, 10], values[n, 11],
        values[n, 12], values[n, 13], values[n, 14], values[n, 15], values[n, 16], values[n, 17],
        values[n, 18], values[n, 19],
    )  # fmt: skip
    levels = Levels(make_rates(values, 20, n), make_rates(values, 24, n), make_rates(values, 28, n))
    return Design(unit, levels)


@inlined
def make_load(loads: np.ndarray, first: int, scores: float, r: int, n: int) -> Load:
    """Return the load of the kernel whose bytes begin at `first`."""
    return Load(
        loads[0, r, n], 1.0, scores, loads[2, r, n], loads[3, r, n], loads[4, r, n],
        loads[first, r, n], loads[first + 1, r, n], loads[first + 2, r, n], loads[first + 3, r, n],
        loads[first + 4, r, n], loads[first + 5, r, n],
    )  # fmt: skip


@inlined
def level_s(rates: Rates, read: float, write: float, active: float) -> float:
    """Return the time of a level's bytes when `active` units draw on it, as `traffic.level_costs`."""
    if read + write <= 0.0:
        return 0.0
    total = min(rates.all_bytes_per_s, active * rates.unit_bytes_per_s)
    if rates.write_bytes_per_s < 0.0:
        return (read + write) / total + rates.latency_s
    return max(read / total, write / rates.write_bytes_per_s) + rates.latency_s


@inlined
def vector_s(row: Row, unit: Unit, load: Load, parts: float) -> float:
    """Return the time of softmax work, with `parts` partial results to combine for each row."""
    rows = load.heads * row.group * row.positions
    again = load.score_blocks - 1.0
    outputs = (1.0 + again + 2.0 * parts) * row.value_dim * unit.value_s
    main = load.scores * unit.score_s + load.convert_s
    main += rows * (outputs + again * unit.rescale_s + parts * unit.combine_s)
    exps = load.scores * unit.score_exp_s
    exps += rows * (again * unit.rescale_exp_s + parts * unit.combine_exp_s)
    return max(main, exps)


@inlined
def piece_cycles(row: Row, unit: Unit, rows: float, keys: float, padded: float) -> float:
    """Return the cycles of a tile of query rows and `keys` keys on one unit.

    Rows are padded to what the unit cannot fill. Along the longer side of an array lie the values
    of P V, padded, and the keys of Q K^T, `padded` of them.
    """
    tall = np.ceil(rows / unit.height) * unit.height
    outputs = keys * (np.ceil(row.value_dim / unit.width) * unit.width)
    return float(tall * (padded * row.head_dim + outputs) / unit.rate)


@inlined
def matrix_cycles(
    row: Row, unit: Unit, work: Work, key_block: float, heads: float, split: float
) -> float:
    """Return the cycles of all units when the keys of each tile are cut into `split` parts.

    The longest of three bounds, which a schedule of longest parts first comes close to: the
    longest part, all parts shared evenly (without padding of keys), and the parts of the busiest
    unit if all were the shortest. Without a mask parts are equal and the last one is exact: waves.
    """
    parts = heads * work.tiles * split
    waves = np.ceil(parts / unit.units)
    mean = work.keys.keys / work.tiles
    mean = max(mean / split, min(mean, key_block))
    busy = parts / unit.units * piece_cycles(row, unit, work.rows, mean, mean)
    for bound in range(2):
        keys = work.keys.longest if bound == 0 else work.keys.shortest
        keys = min(keys, np.ceil(keys / (key_block * split)) * key_block)
        padded = np.ceil(keys / unit.width) * unit.width
        cycles = piece_cycles(row, unit, work.rows, keys, padded)
        busy = max(busy, cycles if bound == 0 else waves * cycles)
    return float(busy + waves * unit.start + unit.fill)


@inlined
def split_time(
    row: Row, design: Design, work: Work, key_block: float, load: Load, split: float
) -> Chosen:
    """Return the times with a split."""
    unit, levels = design
    parts = split * load.combines if split > 1.0 else 0.0
    active = min(unit.units, load.heads * work.tiles * split)
    matrix_s = matrix_cycles(row, unit, work, key_block, load.heads, split) / unit.clock_hz
    exchanged = parts * load.split_bytes
    spilled = exchanged if exchanged > unit.cache_bytes else 0.0
    per_mac = row.kv_bytes / min(unit.stream_rows, row.group * row.positions)
    per_mac += row.q_bytes / unit.stream_columns
    executed = load.heads * work.keys.weighted
    streamed = executed * (row.head_dim + row.value_dim) * per_mac
    memory_s = level_s(
        levels.memory, load.memory_read + spilled, load.memory_write + spilled, active
    )
    buffer_s = level_s(
        levels.buffer, load.buffer_read + exchanged + (streamed if unit.streams == 1.0 else 0.0),
        load.buffer_write + exchanged, active,
    )  # fmt: skip
    slowest = max(max(matrix_s, memory_s), max(buffer_s, vector_s(row, unit, load, parts)))
    if unit.streams == 2.0:
        inner_read = load.inner_read + streamed
        slowest = max(slowest, level_s(levels.inner, inner_read, load.inner_write, unit.units))
    return Chosen(split, slowest + (unit.barrier_s if parts > 0.0 else 0.0), matrix_s)


@inlined
def best_split(row: Row, design: Design, work: Work, key_block: float, load: Load) -> Chosen:
    """Return the split with the least time; a smaller one wins a tie.

    Candidates go in steps of a quarter to an eighth, so that what fewer units may take more units
    may take, too; a part may be less than a block of keys. Where all units have work and wait for
    something else, nothing is split.
    """
    best = split_time(row, design, work, key_block, load, 1.0)
    units, parts = design.unit.units, load.heads * work.tiles
    if parts >= 3.0 * units or (parts >= units and best.matrix_s < best.time_s):
        return best
    split, step = 2.0, 1.0
    while split <= work.keys.longest and parts * split < 4.0 * units:
        found = split_time(row, design, work, key_block, load, split)
        if found.time_s < best.time_s:
            best = found
        if split >= 8.0 * step:
            step *= 2.0
        split += step
    return best


@inlined
def write_plan(work: Work, active: float, chosen: Chosen, tile: Tile, slot: Slot) -> None:
    """Write the figures that all plans have."""
    loads, out, r, n = slot
    out[1, r, n], out[2, r, n], out[3, r, n] = chosen.split, chosen.matrix_s, chosen.time_s
    out[4, r, n] = loads[0, r, n] * work.keys.weighted
    out[5, r, n], out[6, r, n], out[7, r, n] = active, tile.rows, tile.keys


@inlined
def plain_plan(row: Row, design: Design, tile: Tile, slot: Slot) -> None:
    """Write the unfused kernel to `out` if it takes less time than what is there.

    Its two products are in tiles of their own, whose keys are shared among units at no cost; the
    softmax runs over the scores that were spilled.
    """
    loads, out, r, n = slot
    work = cut_rows(row, min(tile.rows, row.group * row.positions), tile.keys)
    scores = loads[0, r, n] * row.group * touched_keys(row, 1.0, 1.0).weighted
    given = make_load(loads, 11, scores, r, n)
    load = Load(
        given.heads, 0.0, scores, 1.0, given.convert_s, 0.0, given.memory_read,
        given.memory_write, given.buffer_read, given.buffer_write, given.inner_read, given.inner_write,
    )  # fmt: skip
    chosen = best_split(row, design, work, tile.keys, load)
    if chosen.time_s < out[3, r, n]:
        active = min(design.unit.units, load.heads * work.tiles * chosen.split)
        out[0, r, n], out[8, r, n], out[9, r, n], out[10, r, n] = 0.0, 0.0, 0.0, 1.0
        write_plan(work, active, chosen, tile, slot)


@compiled
def time_rows(
    rows: np.ndarray, loads: np.ndarray, engines: np.ndarray, kernel: int, out: np.ndarray
) -> None:
    """Fill `out` (fields, R, N or more) with PLAN_FIELDS, for buffers that the mapping fills.

    A unit takes `height` rows at a time and keeps their accumulators, whatever the row block.

    Args:
        rows: (R, fields): ROW_FIELDS.
        loads: (fields, R, N or more): LOAD_FIELDS.
        engines: (N, fields): ENGINE_FIELDS.
        kernel: FUSED, UNFUSED or BEST; fused on equal times.
        out: Result.
    """
    for r in range(out.shape[1]):
        row = make_row(rows[r])
        every = row.group * row.positions
        for n in range(engines.shape[0]):
            design, slot = make_design(engines, n), Slot(loads, out, r, n)
            units, height = design.unit.units, design.unit.height
            out[3, r, n], out[8, r, n], out[9, r, n], out[10, r, n] = np.inf, 0.0, 0.0, 0.0
            bound = False
            if kernel != UNFUSED:
                work = cut_rows(row, min(height, every), 1.0)
                load = make_load(loads, 5, loads[0, r, n] * work.keys.weighted, r, n)
                chosen = best_split(row, design, work, 1.0, load)
                active = min(units, load.heads * work.tiles * chosen.split)
                out[0, r, n], out[10, r, n] = 1.0, loads[1, r, n]
                write_plan(work, active, chosen, Tile(min(height, every), 1.0), slot)
                if kernel == BEST and loads[1, r, n] == 0.0:
                    out[3, r, n] = np.inf
                elif chosen.time_s == chosen.matrix_s:
                    # With as many tiles the unfused kernel splits nothing: no less matrix time.
                    bound = load.heads * work.tiles >= 3.0 * units
            memory = design.levels.memory
            least = level_s(memory, loads[11, r, n], loads[12, r, n], units)
            if row.causal == 0.0 and row.window >= row.kv_length:
                scores = loads[0, r, n] * every * row.kv_length
                least = max(least, scores * design.unit.score_s)
            if least < out[3, r, n] and kernel != FUSED and not bound:
                plain_plan(row, design, Tile(height, 1.0), slot)


@inlined
def cached_keys(row: Row, unit: Unit, work: Work, heads: float) -> float:
    """Return the rows of K that one KV head reads from memory through a cache.

    Tiles of a head that run at once stream in step and read once. Tiles of later waves find the
    keys in the cache if those of all heads in flight fit it, else they read again.
    """
    value = row.value_dim * (1.0 - row.shared)
    together = min(heads, max(1.0, unit.units / work.tiles))
    held = together * row.kv_length * (row.head_dim + value) * row.kv_bytes
    if held <= unit.cache_bytes:
        return row.kv_length
    again = np.ceil(work.tiles / min(work.tiles, unit.units))
    return float(max(row.kv_length, work.keys.keys * again / work.tiles))


@inlined
def cached_plan(row: Row, design: Design, tile: Tile, slot: Slot) -> None:
    """Write the fused kernel with one tile if it takes less time than what is there."""
    loads, out, r, n = slot
    work, heads = cut_rows(row, tile.rows, tile.keys), loads[0, r, n]
    words = (row.head_dim + row.value_dim * (1.0 - row.shared)) * row.kv_bytes
    kv = heads * cached_keys(row, design.unit, work, heads) * words
    fetched = kv * loads[17, r, n]
    through = heads * work.keys.keys * words
    blocks = np.ceil(work.keys.weighted / (row.group * row.positions) / tile.keys)
    given = make_load(loads, 5, heads * work.keys.weighted, r, n)
    load = Load(
        heads, 1.0, given.scores, blocks, given.convert_s, given.split_bytes,
        given.memory_read + fetched, given.memory_write, given.buffer_read + through, given.buffer_write,
        given.inner_read, given.inner_write,
    )  # fmt: skip
    chosen = best_split(row, design, work, tile.keys, load)
    if chosen.time_s < out[3, r, n]:
        active = min(design.unit.units, heads * work.tiles * chosen.split)
        out[0, r, n], out[8, r, n], out[9, r, n] = 1.0, kv, through
        write_plan(work, active, chosen, tile, slot)


@compiled
def time_cached_rows(
    rows: np.ndarray, loads: np.ndarray, engines: np.ndarray, menu: np.ndarray, kernel: int,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Fill `out` (fields, R, N) with PLAN_FIELDS: each unit holds one tile in a buffer of its own.

    Of the menu the tile with the least time is taken, the first one of equals. A tile of m query
    rows and n keys needs room for queries, keys, values, scores, two statistics and outputs. A
    unit may take single rows and keys, too, if it holds no tile of the menu.

    Args:
        rows: (R, fields): ROW_FIELDS.
        loads: (fields, R, N or more): LOAD_FIELDS; memory and buffer bytes without keys and values, and
            neither fit nor blocks of scores.
        engines: (N, fields): ENGINE_FIELDS.
        menu: (tiles, 2): query rows and keys.
        kernel: FUSED, UNFUSED or BEST; fused on equal times.
        out: Result.
    """
    for r in range(out.shape[1]):
        row = make_row(rows[r])
        words = (row.head_dim + row.value_dim * (1.0 - row.shared)) * row.kv_bytes
        state = row.head_dim * row.q_bytes + (row.value_dim + 2.0) * row.p
        for n in range(engines.shape[0]):
            design, slot = make_design(engines, n), Slot(loads, out, r, n)
            room = design.unit.unit_bytes
            out[3, r, n], out[8, r, n], out[9, r, n], out[10, r, n] = np.inf, 0.0, 0.0, 0.0
            for t in range(menu.shape[0]):
                m = min(menu[t, 0], row.group * row.positions)
                keys = min(menu[t, 1], row.kv_length)
                if kernel != UNFUSED and m * state + keys * (words + m * row.p) <= room:
                    cached_plan(row, design, Tile(m, keys), slot)
                    out[10, r, n] = 1.0
            fits = state + words + row.p <= room
            if kernel == FUSED or (kernel == BEST and fits):
                cached_plan(row, design, Tile(1.0, 1.0), slot)
                out[10, r, n] = 1.0 if fits else 0.0
            if kernel != FUSED:
                plain_plan(row, design, Tile(menu[0, 0], menu[0, 1]), slot)
