"""GEMM through a cache, with a menu of tiles: how a GPU's libraries run it.

A cache is not a scratchpad: nobody places tiles in it optimally. What is counted on is that the
tiles of one wave, which run at the same time, share what they read, and that an operand small
enough to stay in the cache is read from memory once.
"""

from dataclasses import dataclass

import numpy as np

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.parts import Engine, Level
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.traffic import level_bandwidth

SPLITS = (1, 2, 4, 8, 16)
"""Ways in which the inner dimension may be cut among units."""


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


@dataclass(frozen=True, slots=True, eq=False)
class MenuChoice:
    """The tile and split chosen for each GEMM and design; all shapes are (R, N)."""

    compute_s: Floats
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
    shape: MenuShape, product: Product, memory: Columns[Level], cache: Columns[Level]
) -> MenuChoice:
    """Choose, for each GEMM and design, the tile and split with the least time.

    Time is the largest of compute, cache and memory time. Ties go to the earlier menu entry and
    the smaller split.

    Args:
        shape: The GEMMs.
        product: Engine and format; the engine has a tile menu.
        memory: Outermost level.
        cache: The cache between memory and the units.
    """
    menu = product.engine.tile_menu
    if not menu:
        raise ValueError(f"engine {product.engine.name} has no tile menu")
    options = [(*tile, split) for tile in menu for split in SPLITS]
    tile_m, tile_n, tile_k, split = np.array(options, dtype=np.float64).T[:, :, None, None]
    found = _options(shape, product, memory, cache, _Tiles(tile_m, tile_n, tile_k, split))
    # The first of equal times wins: menu order, then the smaller split.
    chosen = np.argmin(found["time"], axis=0)[None]
    best = {
        key: np.take_along_axis(np.broadcast_to(values, found["time"].shape), chosen, axis=0)[0]
        for key, values in found.items()
    }
    return MenuChoice(
        compute_s=best["compute"], memory_read_bytes=best["memory_read"],
        memory_write_bytes=best["memory_write"], cache_read_bytes=best["cache_read"],
        cache_write_bytes=best["cache_write"], unit_read_bytes=best["unit_read"],
        active_units=best["active"], tile=(chosen[0] // len(SPLITS)).astype(np.float64),
        split=best["split"], waves=best["waves"], executed_macs=best["executed"],
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Tiles:
    """Tile sizes and splits of O options, each of shape (O, 1, 1)."""

    m: Floats
    n: Floats
    k: Floats
    split: Floats


def _options(
    shape: MenuShape, product: Product, memory: Columns[Level], cache: Columns[Level], tiles: _Tiles
) -> dict[str, Floats]:
    """Return time, bytes and waves of every option, broadcastable to (O, R, N)."""
    engine, split = product.engine, tiles.split
    depth = np.ceil(shape.k / split / tiles.k) * tiles.k
    down, across = np.ceil(shape.m / tiles.m), np.ceil(shape.n / tiles.n)
    count = down * across * split * shape.instances
    waves = np.ceil(count / engine.units)
    active = np.minimum(count, engine.units)
    compute = waves * _tile_cycles(product, tiles, depth) / engine.clock_hz
    reads = across * shape.m * shape.k * shape.a_bytes + down * shape.k * shape.n * shape.b_bytes
    outputs = shape.m * shape.n * shape.out_bytes
    partials = (split - 1.0) * shape.m * shape.n * shape.spill_bytes
    cache_read = (reads + partials) * shape.instances
    cache_write = (outputs + partials) * shape.instances
    memory_read = _memory_reads(shape, engine, cache, tiles, down=down, across=across)
    memory_write = outputs * shape.instances
    time = np.maximum(
        np.maximum(compute, (cache_read + cache_write) / level_bandwidth(cache, requesters=active)),
        (memory_read + memory_write) / level_bandwidth(memory, requesters=active),
    )
    # A part of k without a single k step is no part: its unit would draw bandwidth for nothing.
    time = np.where(depth * (split - 1.0) < shape.k, time, np.inf)
    rereads = np.ceil(tiles.m / engine.rows)
    unit_read = count * depth * (tiles.m * shape.a_bytes + tiles.n * shape.b_bytes * rereads)
    return {
        "time": time, "compute": compute, "memory_read": memory_read, "memory_write": memory_write,
        "cache_read": cache_read, "cache_write": cache_write, "unit_read": unit_read,
        "active": active, "waves": waves, "split": split,
        "executed": count * tiles.m * tiles.n * depth,
    }  # fmt: skip


def _tile_cycles(product: Product, tiles: _Tiles, depth: Floats) -> Floats:
    """Return the cycles of one tile on one unit; a tile of few rows costs as much as `min_rows`."""
    engine = product.engine
    rows = np.maximum(tiles.m, engine.min_rows)
    rate = product.unit_macs_per_cycle * engine.issue_efficiency
    cycles: Floats = rows * tiles.n * depth / rate + engine.fill_cycles + engine.tile_start_cycles
    return cycles


def _memory_reads(
    shape: MenuShape, engine: Columns[Engine], cache: Columns[Level], tiles: _Tiles, *,
    down: Floats, across: Floats,
) -> Floats:  # fmt: skip
    """Return the bytes of A and B read from memory, with the reuse inside a wave.

    The tiles of a wave form a block whose sides make its reads least (swizzled order). An operand
    that fits half the cache, beside the other's stream, is read once.
    """
    capacity = cache.instances * cache.size_bytes * cache.usable
    aspect = tiles.n * shape.b_bytes / (tiles.m * shape.a_bytes)
    block_down = np.minimum(np.maximum(np.sqrt(engine.units * aspect), 1.0), down)
    block_across = np.minimum(np.maximum(engine.units / block_down, 1.0), across)
    block_down = np.minimum(np.maximum(engine.units / block_across, 1.0), down)
    a_total, b_total = shape.m * shape.k * shape.a_bytes, shape.k * shape.n * shape.b_bytes
    a_times = np.where(a_total <= capacity / 2, 1.0, np.ceil(across / block_across))
    b_times = np.where(b_total <= capacity / 2, 1.0, np.ceil(down / block_down))
    reads: Floats = (a_total * a_times + b_total * b_times) * shape.instances
    return reads
