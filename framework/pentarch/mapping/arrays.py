"""Cycles of matrix engines with free tiles: systolic arrays and the like."""

import numpy as np

from pentarch.hardware.columns import Floats
from pentarch.hardware.parts import Stationary
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.compilation import load_sums

SPLITS = (1, 2, 4, 8, 16, 32)
"""Ways in which the inner dimension may be cut among units."""


def array_seconds(
    product: Product, *, m: Floats, k: Floats, n: Floats, instances: Floats,
    spill_s: Floats | None = None,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Return the compute time of GEMMs on a device's arrays and the split that gives it.

    Output-stationary: a unit computes rows x columns of C at a time, k streams through, either
    operand may lie along the rows, and k may be cut among units that would idle. Tiles follow one
    another without a gap (accumulators are double buffered): the skew of the array is paid once.
    Weight-stationary: a unit holds rows of k by columns of n while m streams through; the next
    weights load behind it, so a tile takes at least the load time.
    No array: a unit computes whole tiles of `min_rows` rows.

    Args:
        product: Engine and format.
        m: Rows of A of one instance, shape (R, N).
        k: Inner dimension, shape (R, 1).
        n: Output features, shape (R, 1).
        instances: Equal GEMMs, shape (R, N).
        spill_s: Time in which the partial sums of one further part of k cross the outer buffer,
            shape (R, N): units wait for it. `None` means no time.

    Returns:
        Seconds (R, N), the wait for partial sums included, and the ways in which k is cut (R, N).
        Partial sums of a split cross the outer buffer: (split - 1) * m * n words are written and
        read.
    """
    stationary = product.engine.stationary
    if stationary is Stationary.OUTPUT:
        cycles, split = _output_stationary(
            product, m=m, k=k, n=n, instances=instances, spill_s=spill_s
        )
    elif stationary is Stationary.WEIGHT:
        cycles = _weight_stationary(product, m=m, k=k, n=n, instances=instances)
        split = np.ones_like(cycles)
    else:
        engine = product.engine
        rows = np.ceil(m / engine.min_rows) * engine.min_rows
        cycles = rows * k * n * instances / (product.unit_macs_per_cycle * engine.units)
        cycles = cycles + engine.tile_start_cycles + engine.fill_cycles
        split = np.ones_like(cycles)
    return cycles / (product.engine.clock_hz * product.engine.issue_efficiency), split


def _output_stationary(
    product: Product, *, m: Floats, k: Floats, n: Floats, instances: Floats, spill_s: Floats | None
) -> tuple[Floats, Floats]:
    engine, sums = product.engine, load_sums()
    cycles_per_k = engine.rows * engine.columns / product.unit_macs_per_cycle
    per_part = np.zeros(m.shape)
    if spill_s is not None:
        per_part = spill_s * engine.clock_hz * engine.issue_efficiency
    figures = np.empty((len(sums.ARRAY_FIELDS), m.shape[1]))
    for row, values in enumerate((
        engine.rows, engine.columns, engine.units, cycles_per_k, engine.tile_start_cycles,
        engine.fill_cycles,
    )):  # fmt: skip
        figures[row] = values
    out = np.empty((2, *m.shape))
    sums.output_stationary(
        (sums.door(m), sums.door(instances), sums.door(per_part)),
        np.concatenate((k, n), axis=1), figures, np.array(SPLITS, dtype=np.float64), out,
    )  # fmt: skip
    return out[0], out[1]


def _weight_stationary(
    product: Product, *, m: Floats, k: Floats, n: Floats, instances: Floats
) -> Floats:
    engine = product.engine
    tiles = np.ceil(k / engine.rows) * np.ceil(n / engine.columns) * instances
    waves = np.ceil(tiles / engine.units)
    cycles_per_row = engine.rows * engine.columns / product.unit_macs_per_cycle
    streaming = np.maximum(np.maximum(m, engine.min_rows) * cycles_per_row, engine.load_cycles)
    cycles: Floats = waves * (streaming + engine.tile_start_cycles) + engine.fill_cycles
    return cycles
