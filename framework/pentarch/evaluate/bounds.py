"""Lower bounds of operators: what no run of them can go below, wherever their data live."""

from dataclasses import dataclass

import numpy as np

from pentarch.evaluate.design_rows import DesignRows
from pentarch.graph.operators import OperatorKind
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.parts import Level
from pentarch.mapping.traffic import level_bandwidth

WORK = "work"
"""Name of the bound that no level sets."""


@dataclass(frozen=True, slots=True, eq=False)
class RowBounds:
    """Bounds of the rows of one kind for one design, for one execution; shapes (R,)."""

    seconds: dict[str, Floats]
    """Least time by what sets it: `WORK`, or a level."""
    compulsory_bytes: Floats
    """Bytes that must cross the outermost memory."""
    moved_bytes: Floats
    """Bytes that cross it."""


def row_bounds(view: DesignRows) -> RowBounds:
    """Return the bounds of rows: work at the peak of its format, and data once from where they live.

    Of weights, keys and values the part that lives on chip is read there, the rest crosses memory;
    so do the activations that are not kept on chip. A vector row's work takes its primitives one
    after another; what it moves is all it has to, since its arithmetic reuses nothing.
    """
    machine, index = view.given.machine, view.index
    memory = machine.levels[0]
    reads, writes = view.read(memory.name), view.write(memory.name)
    needed_reads, needed_writes = reads, writes
    resident = np.zeros(reads.shape)
    if view.entry.kind is OperatorKind.VECTOR:
        work = np.zeros(reads.shape)
        for name, values in view.entry.costs.compute_s.items():
            if name in {engine.name for engine in machine.engines}:
                work = work + view.of(values)
    else:
        work = view.ideal_s + view.replicated_s
        stored = np.minimum(view.compulsory_bytes, reads)
        needed_reads = stored + np.minimum(view.operands.inputs, reads - stored)
        needed_writes = np.minimum(view.operands.outputs, writes)
        resident = view.resident_bytes
    seconds = {
        WORK: np.minimum(work, view.total_s),
        memory.name: _seconds(memory, needed_reads, needed_writes, index),
    }
    if len(machine.levels) > 1 and resident.any():
        buffer = machine.levels[1]
        once = np.minimum(resident, view.read(buffer.name))
        seconds[buffer.name] = _seconds(buffer, once, np.zeros(once.shape), index)
    return RowBounds(
        seconds=seconds, compulsory_bytes=needed_reads + needed_writes, moved_bytes=reads + writes
    )


def _seconds(level: Columns[Level], read: Floats, write: Floats, index: int) -> Floats:
    """Return the time of a stream at the sustained bandwidth of a level."""
    bandwidth = float(level_bandwidth(level)[index])
    if level.write_bytes_per_s is None:
        shared: Floats = (read + write) / bandwidth
        return shared
    own = level.instances * level.write_bytes_per_s * level.stream_efficiency
    return np.maximum(read / bandwidth, write / float(own[index]))
