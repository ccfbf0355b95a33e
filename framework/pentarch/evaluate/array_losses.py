"""Why an engine that is the slowest resource of a row takes longer than its work at peak."""

from collections.abc import Iterable, Iterator

import numpy as np

from pentarch.evaluate.batches import overrides
from pentarch.evaluate.design_rows import DesignRows, dimensions, one_design
from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.parts import Management
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.arrays import array_seconds
from pentarch.mapping.traffic import level_bandwidth
from pentarch.workload.formats import number_format

PADDING = "padding of tiles"
MASKED = "masked scores"
WAVES = "partly filled waves"
FILL = "fill and tile starts"
ISSUE = "issue of engines"
STEPS = "short steps and drains of tiles"
ARRAY = "padding, fill and waves"

Rows = np.ndarray[tuple[int], np.dtype[np.intp]]


def array_losses(view: DesignRows, rows: Rows) -> Iterator[tuple[str, Floats]]:
    """Yield (cause, seconds of one execution by row); the last one is for what others leave.

    Padding is work on zeros, masked scores are those that whole blocks compute beyond a mask, issue
    is what an engine loses on a long and full tile, waves are units without a tile in the last
    round, or waiting for the partial sums of a split that fills it, and fill is the start of tiles
    and arrays; of a menu's tiles, steps are what is left: latency of short k steps, drains of
    outputs, tiles of fewer rows than an instruction takes. Rows of which the back-end costs the
    products itself are not split.

    Args:
        view: The rows' kind.
        rows: Those whose slowest resource is the engine that multiplies.
    """
    table, engine_idle = view.entry.rows, np.zeros(len(rows))
    worked = view.executed_s[rows]
    extra = worked - view.ideal_s[rows] - view.replicated_s[rows]
    known = not overrides(view.given.backend, "cost_rows")
    for position, row in enumerate(rows):
        product = view.products[row]
        if product is not None:
            share = float(product.engine.issue_efficiency[view.index])
            engine_idle[position] = worked[position] * (1.0 / share - 1.0)
    if isinstance(table, AttentionTable):
        yield MASKED, extra
        if known:
            yield ISSUE, engine_idle
        yield ARRAY, np.full(len(rows), np.inf)
        return
    if not known or not isinstance(table, GemmTable):
        yield PADDING, extra
        yield ARRAY, np.full(len(rows), np.inf)
        return
    padded, filled = extra + worked + engine_idle, np.zeros(len(rows))
    waves = np.full(len(rows), np.inf)
    for product, members in _by_product(view, rows):
        busy = view.terms_s[view.entry.times.resources.index(product.engine.name), rows[members]]
        if product.engine.tile_menu is not None:
            full, counted = _menu_waves(view, table, rows[members], product)
            filled[members] = full * _start_s(view, product)
            waves[members] = busy * (1.0 - full / counted)
            continue
        padded[members], waved = _array_times(view, table, rows[members], product)
        filled[members] = busy - waved
    yield ISSUE, engine_idle
    yield FILL, filled
    yield PADDING, padded - worked - engine_idle
    yield WAVES, waves
    yield STEPS, np.full(len(rows), np.inf)


def _by_product(view: DesignRows, rows: Rows) -> Iterable[tuple[Product, Rows]]:
    """Return each way in which products run, with the positions in `rows` that do."""
    found: dict[int, tuple[Product, list[int]]] = {}
    for position, row in enumerate(rows):
        product = view.products[row]
        if product is not None:
            found.setdefault(id(product), (product, []))[1].append(position)
    return [(product, np.array(members, dtype=np.intp)) for product, members in found.values()]


def _start_s(view: DesignRows, product: Product) -> float:
    """Return the time in which one unit starts and ends one tile."""
    engine, index = product.engine, view.index
    cycles = float(engine.fill_cycles[index] + engine.tile_start_cycles[index])
    return cycles / float(engine.clock_hz[index])


def _menu_waves(
    view: DesignRows, table: GemmTable, rows: Rows, product: Product
) -> tuple[Floats, Floats]:
    """Return the waves that the tiles of a menu would fill, and those that are paid for.

    Where the author of the costs does not say which tiles they are, all waves count as full.
    """
    menu, detail = product.engine.tile_menu, view.entry.costs.detail
    if menu is None or not {"tile", "split", "waves"} <= set(detail):
        return np.ones(len(rows)), np.ones(len(rows))
    tile, split, paid = (view.of(detail[name])[rows] for name in ("tile", "split", "waves"))
    tiles = np.array(menu, dtype=np.float64)[tile.astype(np.intp)]
    sizes = dimensions(table, view.sequences)
    count = np.ceil(sizes.m[rows] / tiles[:, 0]) * np.ceil(table.n[rows] / tiles[:, 1])
    full = count * split * sizes.instances[rows] / float(product.engine.units[view.index])
    return full, np.maximum(paid, full)


def _array_times(
    view: DesignRows, table: GemmTable, rows: Rows, product: Product
) -> tuple[Floats, Floats]:
    """Return the time without fill and with every unit busy to the end, and that without fill.

    On one unit of the same kind there is no wave that is partly filled: its time / units is what
    padded tiles take.
    """
    sizes = dimensions(table, view.sequences)
    m, instances = sizes.m[rows, None], sizes.instances[rows, None]
    k, n = table.k[rows, None], table.n[rows, None]
    units = float(product.engine.units[view.index])
    free = {"fill_cycles": 0.0, "tile_start_cycles": 0.0}
    alone, _ = array_seconds(
        one_design(product, view.index, units=1.0, **free), m=m, k=k, n=n, instances=instances
    )
    waved, _ = array_seconds(
        one_design(product, view.index, **free), m=m, k=k, n=n, instances=instances,
        spill_s=_spill_s(view, table, m * n * instances),
    )  # fmt: skip
    return alone[:, 0] / units, waved[:, 0]


def _spill_s(view: DesignRows, table: GemmTable, words: Floats) -> Floats | None:
    """Return the time in which the sums of one further part of k cross the outermost buffer."""
    levels = view.given.machine.levels
    if len(levels) < 2 or levels[1].management is not Management.SOFTWARE:
        return None
    both_ways = 2.0 * words * number_format(table.spill_format).bytes
    crossing: Floats = both_ways / float(level_bandwidth(levels[1])[view.index])
    return crossing
