"""GEMM through a cache, with a menu of tiles: how a GPU's libraries run it.

A cache is not a scratchpad: nobody places tiles in it optimally. What is counted on is that the
tiles of one wave, which run at the same time, share what they read, and that an operand small
enough to stay in the cache is read from memory once. Tile and split are those with the least time,
which is what a library's heuristics aim at.

t = (Tc^q + Tf^q + Tm^q)^(1/q) + spill, with

* Tc = waves x (max over work and k-step latency, joined with q, + start + outputs / drain rate),
* Tf = waves x bytes of a tile's operands / rate at which a unit draws from the cache,
* Tm = bytes from memory / min(bandwidth, units at work x what one can draw),
* spill = fixed time + partial sums of a split k over the rate of all units.

waves = tiles / units, of whose fraction the share `wave_share` is paid up to the next whole number.
"""

from dataclasses import dataclass
from functools import cache as remembered

import numpy as np

from pentarch.errors import InputError
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelSet
from pentarch.hardware.parts import Level
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.cached_rates import CacheRates
from pentarch.mapping.compilation import load_waves
from pentarch.mapping.traffic import level_bandwidth

SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Ways in which the inner dimension may be cut among units."""

REUSE_STEPS = 12
"""Fixed-point steps of `kept_share`; the share is then known to a percent."""


@dataclass(frozen=True, slots=True, eq=False)
class MenuShape:
    """R GEMMs on N designs, broadcastable to (R, N)."""

    m: Floats
    """Rows of A of one instance, (R, N)."""
    k: Floats
    """Inner dimension, (R, 1)."""
    n: Floats
    """Output features, (R, 1)."""
    instances: Floats
    """Equal GEMMs run at once (experts), (R, N)."""
    a_bytes: Floats
    """Per word of A, (R, 1)."""
    b_bytes: Floats
    """Per word of B, (R, 1)."""
    out_bytes: Floats
    """Per word of C, (R, 1)."""
    spill_bytes: Floats
    """Per word of a partial sum that leaves its unit, (R, 1)."""
    kept: Floats | None = None
    """Share of A, B and C that the cache holds when the row starts, and need not move, (3, R, N);
    `None` for nothing."""
    grouped: bool = False
    """Whether `m` is a mean over GEMMs of unequal heights (experts), which are covered by the
    expected number of tiles."""


@dataclass(frozen=True, slots=True, eq=False)
class MenuRules:
    """What a runtime's kernel library does with an engine."""

    kernel: KernelSet
    """Its tiles, splits and factors."""
    rates: CacheRates
    """Rates of the designs under it."""
    converted_per_s: Floats | None = None
    """Words of B that one unit converts per second, (N,); `None` where it converts none."""


@dataclass(frozen=True, slots=True, eq=False)
class MenuChoice:
    """The tile and split chosen for each GEMM and design; all shapes are (R, N)."""

    compute_s: Floats
    """Time of the units."""
    feed_s: Floats
    """Time in which the units draw operands from the cache."""
    memory_s: Floats
    """Time of the memory."""
    spill_s: Floats
    """Time after them in which partial sums are added."""
    memory_read_bytes: Floats
    memory_write_bytes: Floats
    cache_read_bytes: Floats
    cache_write_bytes: Floats
    unit_read_bytes: Floats
    """Read from the units' own buffers by the arrays."""
    active_units: Floats
    """Units that work at once."""
    tile: Floats
    """Index into the engine's menu."""
    split: Floats
    """Ways in which k is cut."""
    waves: Floats
    """Rounds in which all units take one tile each."""
    executed_macs: Floats
    """Multiply-accumulates of whole tiles, padding included."""


def choose_tiles(
    shape: MenuShape, product: Product, cache: Columns[Level], rules: MenuRules
) -> MenuChoice:
    """Choose, for each GEMM and design, the tile and split with the least time.

    Ties go to the earlier menu entry and the smaller split.

    Args:
        shape: The GEMMs.
        product: Engine and format; the engine has a tile menu.
        cache: The cache between memory and the units.
        rules: What the library does.

    Raises:
        InputError: No tile of the menu is as large as the library's smallest.
    """
    menu = product.engine.tile_menu
    if not menu:
        raise ValueError(f"engine {product.engine.name} has no tile menu")
    kernel = rules.kernel
    options = _options(tuple(menu), kernel.most_parts, kernel.least_area, kernel.tiles)
    if not len(options):
        raise InputError(
            f"Kernels for {kernel.operator} have no tile below {kernel.least_area:g} outputs, and the "
            f"menu of {product.engine.name} has none above among {_shown(kernel.tiles)}. Lower "
            "`least_area` in the runtime, or name other `tiles`."
        )
    kernels = load_waves()
    m, instances = (np.require(x, np.float64, ["C", "W"]) for x in (shape.m, shape.instances))
    kept = np.zeros((3, *m.shape)) if shape.kept is None else np.ascontiguousarray(shape.kept)
    out = np.empty((len(kernels.OUT_FIELDS), *m.shape))
    kernels.choose_waves(
        m, instances, kept, _rows(shape, product, menu, kernel.k_step), options,
        _designs(product, cache, rules), out,
    )  # fmt: skip
    found = dict(zip(kernels.OUT_FIELDS, out, strict=True))
    option = found["option"].astype(np.intp)
    return MenuChoice(
        compute_s=found["compute_s"], feed_s=found["feed_s"], memory_s=found["memory_s"],
        spill_s=found["spill_s"],
        memory_read_bytes=found["memory_read"], memory_write_bytes=found["memory_write"],
        cache_read_bytes=found["cache_read"], cache_write_bytes=found["cache_write"],
        unit_read_bytes=found["unit_read"], active_units=found["active"],
        tile=options[option, 3], split=options[option, 2], waves=found["waves"],
        executed_macs=found["executed"],
    )  # fmt: skip


@remembered
def _options(
    menu: tuple[tuple[int, int, int], ...], most_parts: int, least_area: float,
    tiles: tuple[tuple[int, int], ...],
) -> Floats:  # fmt: skip
    """Return tile rows, tile columns, split and number of the menu entry, shape (O, 4)."""
    options = [
        (tile[0], tile[1], split, number)
        for number, tile in enumerate(menu)
        for split in SPLITS
        if tile[0] * tile[1] >= least_area
        and split <= most_parts
        and (not tiles or tile[:2] in tiles)
    ]
    found: Floats = np.array(options, dtype=np.float64)
    found.flags.writeable = False
    return found


def _shown(tiles: tuple[tuple[int, int], ...]) -> str:
    return ", ".join(f"{high} x {wide}" for high, wide in tiles) or "all tiles"


def _rows(
    shape: MenuShape, product: Product, menu: tuple[tuple[int, int, int], ...], k_step: float
) -> Floats:
    step = product.engine.k_step_bytes
    a_bytes = shape.a_bytes[:, 0]
    depth = np.full(a_bytes.shape, float(menu[0][2]))
    if step is not None:
        depth = np.maximum(step[0] / a_bytes, 1.0)
    depth = depth * k_step
    columns = (shape.k, shape.n, shape.a_bytes, shape.b_bytes, shape.out_bytes, shape.spill_bytes)
    grouped = np.full(a_bytes.shape, float(shape.grouped))
    return np.column_stack([*(column[:, 0] for column in columns), depth, grouped])


def _designs(product: Product, cache: Columns[Level], rules: MenuRules) -> Floats:
    engine, kernel, rates = product.engine, rules.kernel, rules.rates
    endless = np.full(engine.clock_hz.shape, np.inf)
    drain, convert = engine.drain_bytes_per_s, rules.converted_per_s
    drain = endless if drain is None else drain * kernel.drain
    feed, whole = rates.cache_unit, level_bandwidth(cache) * kernel.feed
    rate = product.unit_macs_per_cycle * engine.clock_hz
    if kernel.feed_per_mac is not None:
        feed = kernel.feed_per_mac * rate
        whole = feed * engine.units
    if kernel.drain_per_mac is not None:
        drain = kernel.drain_per_mac * rate
    efficiency = np.minimum(product.efficiency * kernel.efficiency, 1.0)
    # Loads in flight cover the latency of a k step: its least time says what a unit draws at most.
    unit = np.where(engine.k_step_s > 0.0, np.inf, rates.memory_unit)
    room = np.minimum(cache.usable * kernel.cache, 1.0)
    figures = (
        engine.units,
        rate * efficiency,
        feed,
        drain,
        rates.start_s,
        engine.k_step_s * kernel.step,
        rates.wave_share,
        rates.split_s,
        cache.instances * cache.size_bytes * room,
        rates.memory,
        unit,
        rates.overlap,
        engine.min_rows,
        whole,
        endless if convert is None else convert,
        engine.units * kernel.tiles_per_unit if kernel.row_order else 0.0,
        1.0 / kernel.scattered - 1.0,
        1.0 if kernel.chosen_alone else 0.0,
    )
    packed = np.empty((len(figures), *engine.clock_hz.shape))
    for at, figure in enumerate(figures):
        packed[at] = figure
    return packed


def kept_share(footprint: Floats, capacity: Floats) -> Floats:
    """Return the share of data that a cache still holds when they come round again.

    Data of `footprint` bytes are read in a cycle; lines are replaced at random, so that a line
    survives with h = exp(-(1 - h) footprint / capacity).

    Args:
        footprint: Bytes of everything that is touched between two uses, (R, N).
        capacity: Bytes of the cache in use, (N,).
    """
    turns = np.maximum(footprint / capacity, 1e-9)
    share = np.exp(-turns)
    for _ in range(REUSE_STEPS):
        share = np.exp(-(1.0 - share) * turns)
    return np.where(turns <= 1.0, 1.0, share)
