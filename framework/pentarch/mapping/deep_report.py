"""The mapping of one GEMM row on a machine, level by level, with its certificate."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pentarch.graph.table import GemmTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.parts import Buffering, Level
from pentarch.mapping.arithmetic import Product, resolve
from pentarch.mapping.cost_deep import busy, map_on, software_buffers, tile_bytes
from pentarch.mapping.costs import RowRequest
from pentarch.mapping.gemm import (
    GemmRows,
    Objective,
    least_time_s,
    map_gemms,
    map_gemms_one_level,
)
from pentarch.mapping.single import KEPT_ORDERS, GemmShape
from pentarch.mapping.staircase import next_refetch_bytes
from pentarch.mapping.traffic import level_bandwidth

if TYPE_CHECKING:
    from pentarch.mapping.cost_gemm import GemmShape as RowShape

KEPT = ("b", "c", "a")
"""Operand that stationarity 0, 1, 2 keeps."""


@dataclass(frozen=True, slots=True)
class LevelTiles:
    """What one buffer holds at a time, and the loops that walk its tiles."""

    name: str
    """The buffer."""
    tile: tuple[float, float, float]
    """Along M, K, N."""
    order: str
    """Loops over the tiles inside the tile above, outer to inner."""


@dataclass(frozen=True, slots=True)
class MappingReport:
    """The mapping of one GEMM behind software-managed buffers, from the outermost to the innermost."""

    levels: tuple[LevelTiles, ...]
    """One per buffer."""
    traffic: dict[str, float]
    """Bytes between memory and the outermost buffer: a, b, c_write, c_read."""
    least_s: float
    """No nest of even tiles takes less time, by compute, bytes and rates alone."""
    next_refetch: tuple[float, float] | None
    """Capacity of the outermost buffer that would move less, and what it would move."""


@dataclass(frozen=True, slots=True)
class _Found:
    """Tiles and stationarities as arrays, and the bound on time."""

    tiles: Floats
    """(levels, 3)."""
    kept: Floats
    """(levels,)."""
    b_bytes: float
    read_bytes: float
    write_bytes: float
    least_s: float


def report_mapping(request: RowRequest, objective: Objective = "time") -> MappingReport | None:
    """Return the mapping of the first row on the first design, `None` unless software manages it.

    Raises:
        InputError: An energy objective on a machine that does not state its energies.
    """
    from pentarch.mapping.cost_gemm import gemm_groups, gemm_shape

    table = request.rows
    if not isinstance(table, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(table).__name__}")
    group = gemm_groups(table)[0]
    product = resolve(request.machine, group.a_format, group.b_format)
    buffers = None if product is None else software_buffers(request.machine, product)
    if product is None or buffers is None:
        return None
    shape = gemm_shape(table, group, request.sequences)
    found = _find(request, product, shape, buffers, objective)
    gemm = single_gemm(request)
    final = gemm.m * gemm.n * gemm.out_bytes
    spilled = found.write_bytes - final
    outer_size = float(tile_bytes(request, buffers)[0][0])
    return MappingReport(
        levels=tuple(
            LevelTiles(level.name, _triple(tile), KEPT_ORDERS[KEPT[int(kept)]])
            for level, tile, kept in zip(buffers, found.tiles, found.kept, strict=True)
        ),
        traffic={
            "a": found.read_bytes - found.b_bytes - spilled, "b": found.b_bytes,
            "c_write": found.write_bytes, "c_read": spilled,
        },
        least_s=found.least_s,
        next_refetch=next_refetch_bytes(
            gemm, outer_size, double=buffers[0].buffering is Buffering.DOUBLE
        ),
    )  # fmt: skip


def _find(
    request: RowRequest, product: Product, shape: "RowShape", buffers: tuple[Columns[Level], ...],
    objective: Objective,
) -> _Found:  # fmt: skip
    """Map by the route that costs the row: its own for one or two buffers and time, else the deep one."""
    from pentarch.mapping.cost_gemm import mapper_rows

    if objective != "time" or len(buffers) > 2:
        deep = map_on(request, product, shape, buffers, objective, detail=True)
        if deep.detail is None:
            raise TypeError("a mapping came without its tiles")
        return _Found(
            tiles=deep.detail.tile[:, :, 0, 0], kept=deep.detail.kept[:, 0, 0],
            b_bytes=float(deep.memory_b_bytes[0, 0]), read_bytes=float(deep.read_bytes[0, 0, 0]),
            write_bytes=float(deep.write_bytes[0, 0, 0]), least_s=float(deep.least_s[0, 0]),
        )  # fmt: skip
    rows = mapper_rows(request, shape)
    seconds = busy(product, shape, buffers[0])[0]
    if len(buffers) == 1:
        return _find_behind_one(request, rows, seconds / shape.instances, buffers)
    return _find_behind_two(request, product, shape, buffers, seconds)


def _find_behind_one(
    request: RowRequest, rows: GemmRows, seconds: Floats, buffers: tuple[Columns[Level], ...]
) -> _Found:
    (capacity,), outer = tile_bytes(request, buffers), buffers[0]
    found = map_gemms_one_level(rows, capacity, outer.buffering is Buffering.DOUBLE, detail=True)
    if found.detail is None:
        raise TypeError("a mapping came without its tiles")
    moved = found.memory_read_bytes + found.memory_write_bytes
    memory_s = moved / level_bandwidth(request.machine.levels[0])
    slowest = np.maximum(np.maximum(seconds, memory_s), moved / level_bandwidth(outer))
    return _Found(
        tiles=found.detail.tile[None, :, 0, 0], kept=found.detail.outer[:1, 0],
        b_bytes=float(found.memory_b_bytes[0, 0]), read_bytes=float(found.memory_read_bytes[0, 0]),
        write_bytes=float(found.memory_write_bytes[0, 0]), least_s=float(slowest[0, 0]),
    )  # fmt: skip


def _find_behind_two(
    request: RowRequest, product: Product, shape: "RowShape", buffers: tuple[Columns[Level], ...],
    seconds: Floats,
) -> _Found:  # fmt: skip
    from pentarch.mapping.cost_gemm import mapper_rows, streamed_bytes, two_buffers

    rows = mapper_rows(request, shape)
    two, floor_s = two_buffers(request, shape, buffers, streamed_bytes(shape, product), seconds)
    found = map_gemms(rows, two, floor_s, store=request.store, detail=True)
    detail = found.detail
    if detail is None or detail.inner is None or detail.register_tile is None:
        raise TypeError("a mapping came without its tiles")
    return _Found(
        tiles=np.stack([detail.tile[:, 0, 0], detail.register_tile[:, 0, 0]]),
        kept=np.stack([detail.outer[0, 0], detail.inner[0, 0]]),
        b_bytes=float(found.memory_b_bytes[0, 0]), read_bytes=float(found.memory_read_bytes[0, 0]),
        write_bytes=float(found.memory_write_bytes[0, 0]),
        least_s=float(least_time_s(rows, two, floor_s)[0, 0]),
    )  # fmt: skip


def single_gemm(request: RowRequest) -> GemmShape:
    """Return the first row on the first design as a single GEMM."""
    from pentarch.mapping.cost_gemm import gemm_groups, gemm_shape, mapper_rows

    table = request.rows
    if not isinstance(table, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(table).__name__}")
    rows = mapper_rows(request, gemm_shape(table, gemm_groups(table)[0], request.sequences))
    words = (rows.a_bytes, rows.b_bytes, rows.out_bytes, rows.accumulator_bytes, rows.spill_bytes)
    return GemmShape(
        float(rows.m[0, 0]), float(rows.k[0]), float(rows.n[0]), *(float(word[0]) for word in words)
    )


def _triple(tile: Floats) -> tuple[float, float, float]:
    m, k, n = (float(size) for size in tile)
    return m, k, n
