"""Rates at which the units behind a cache work under a kernel library."""

from dataclasses import dataclass

import numpy as np

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine, Level
from pentarch.mapping.traffic import level_bandwidth

PRODUCTS = frozenset({KernelOperator.GEMM, KernelOperator.BATCHED, KernelOperator.MOE})
"""Operators whose kernels read tiles of matrices."""


@dataclass(frozen=True, slots=True, eq=False)
class CacheRates:
    """What memory, cache and units of N designs do under a kernel library; shapes (N,)."""

    memory: Floats
    """Bytes per second of memory."""
    memory_unit: Floats
    """Bytes per second that one unit can draw from memory, infinite without a limit."""
    cache_unit: Floats
    """Bytes per second that one unit can draw from the cache, infinite without a limit."""
    cache: Floats
    """Bytes per second that all units can draw from the cache."""
    exchange: Floats
    """The same where partial results are exchanged, which takes no library's tricks."""
    start_s: Floats
    """Start of a tile."""
    split_s: Floats
    """Fixed time of adding partial results."""
    wave_share: Floats
    """Share of an unfilled wave that is paid."""
    overlap: Floats
    """Exponent of the overlap, 0 for perfect overlap."""

    @classmethod
    def of(
        cls,
        machine: MachineTable,
        engine: Columns[Engine],
        cache: Columns[Level],
        kernel: KernelSet,
    ) -> "CacheRates":
        """Return the rates of an engine behind a cache.

        Args:
            machine: The designs.
            engine: The engine.
            cache: The level between memory and units.
            kernel: What the library makes of them.
        """
        # The kernel is kept beside its rates, so that no other one has its id.
        key = ("cache rates", engine.name, cache.name, id(kernel))
        return machine.derived.once(
            key, lambda: (kernel, cls._find(machine, engine, cache, kernel))
        )[1]

    @classmethod
    def _find(
        cls, machine: MachineTable, engine: Columns[Engine], cache: Columns[Level],
        kernel: KernelSet,
    ) -> "CacheRates":  # fmt: skip
        length, memory = machine.length, machine.levels[0]
        endless = np.full(length, np.inf)
        peak = memory.instances * memory.read_bytes_per_s
        share = memory.stream_efficiency * kernel.stream
        if kernel.operator in PRODUCTS:
            share = share * engine.tile_stream_share
        own, unit = cache.requester_bytes_per_s, memory.requester_bytes_per_s
        drawn = level_bandwidth(cache)
        if own is not None:
            drawn = np.minimum(drawn, engine.units * own)
        q = machine.overhead.overlap if kernel.overlap is None else kernel.overlap
        paid = engine.wave_share if kernel.wave_share is None else kernel.wave_share
        return cls(
            memory=peak * np.minimum(share, kernel.most_stream),
            memory_unit=endless if unit is None else unit,
            cache_unit=endless if own is None else own * kernel.feed, cache=drawn * kernel.feed,
            exchange=drawn,
            start_s=(engine.fill_cycles + engine.tile_start_cycles) / engine.clock_hz,
            split_s=engine.split_s * kernel.split, wave_share=_of_all(paid, length),
            overlap=_of_all(0.0 if q is None else q, length),
        )  # fmt: skip


def _of_all(value: Floats | float, length: int) -> Floats:
    """Return a figure that a kernel may state for all designs, shape (N,)."""
    return np.full(length, value) if isinstance(value, float | int) else value
