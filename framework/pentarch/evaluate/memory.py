"""Does it fit: weights, KV cache and activations against the memory of every stage's devices."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.graph.flops import KV_BLOCK_TOKENS
from pentarch.graph.table import OperatorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime, Scheduler
from pentarch.units import show


@dataclass(frozen=True, slots=True, eq=False)
class MemoryUse:
    """Memory of one device of a stage, for N designs; shapes (N,)."""

    weights: Floats
    kv: Floats
    activations: Floats
    capacity: Floats
    queries: Floats
    """Queries whose KV cache is held."""
    on_chip: Floats
    """The part of them that lives in an on-chip buffer for good, and needs no room in memory."""

    @property
    def total(self) -> Floats:
        """Everything that has to fit into memory."""
        return self.weights + self.kv + self.activations - self.on_chip

    @property
    def fits(self) -> npt.NDArray[np.bool_]:
        """Whether it does."""
        return self.total <= self.capacity

    def reason(self, index: int, *, device: str) -> str:
        """Return the arithmetic of a design that does not fit."""
        kept = float(self.on_chip[index])
        less = f" - {show(kept, 'B')} kept on chip" if kept else ""
        held = "1 query" if self.queries[index] == 1 else f"{self.queries[index]:g} queries"
        return (
            f"{device} needs {show(float(self.weights[index]), 'B')} of weights + "
            f"{show(float(self.kv[index]), 'B')} of KV cache for {held} + "
            f"{show(float(self.activations[index]), 'B')} of activations"
            f"{less} = "
            f"{show(float(self.total[index]), 'B')}, its memory has "
            f"{show(float(self.capacity[index]), 'B')}: "
            f"{show(float(self.total[index] - self.capacity[index]), 'B')} short"
        )


def memory_use(
    table: OperatorTable,
    machine: MachineTable,
    runtime: Runtime,
    concurrency: Floats,
    *,
    stage: int = 0,
    batch: Floats | None = None,
) -> MemoryUse:
    """Return what one device of a stage has to hold, and what its memory has room for.

    The table counts half a block of the default size per sequence; the runtime's may be another.

    Args:
        table: The lowered plan.
        machine: N designs.
        runtime: Software stack.
        concurrency: Queries whose KV cache is held, shape (N,).
        stage: Which stage of the table.
        batch: Queries that a pass works on, a micro-batch, shape (N,); by default all.
    """
    memory = machine.levels[0]
    capacity = memory.instances * memory.size_bytes * memory.usable * (1.0 - runtime.memory_reserve)
    # The fullest replica decides: queries do not come in fractions.
    queries = np.ceil(concurrency)
    sharing = queries if batch is None else np.ceil(batch)
    is_static = runtime.scheduler is Scheduler.STATIC
    tokens = table.live_tokens(sharing, prompts=sharing if is_static else 1.0)
    lost = (runtime.kv_block_tokens - KV_BLOCK_TOKENS) / 2.0
    per_query = table.kv_bytes_per_query[stage] + table.kv_bytes_per_token[stage] * lost
    ones = np.ones(machine.length)
    return MemoryUse(
        weights=ones * table.weight_bytes[stage],
        kv=queries * per_query,
        activations=tokens * table.activation_bytes_per_token[stage],
        capacity=capacity,
        queries=queries,
        on_chip=np.zeros(machine.length),
    )
