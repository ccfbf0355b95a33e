"""Chunks of a prompt in the steps of other queries' decode (definitions.md, Serving, closed form).

A step that processes a chunk and decodes reads each weight once for both: the chunk's arithmetic
hides behind the time that decode spends on memory.
"""

import numpy as np

from pentarch.evaluate.stage_costs import KindCosts
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.hardware.columns import Floats, sum_rows
from pentarch.hardware.runtime import Scheduler
from pentarch.mapping.traffic import level_bandwidth


def saved_by_mixing(stages: tuple[StageResult, ...], own: Floats) -> Floats:
    """Return the time that mixed steps save one query, shape (N,).

    Of the (C - 1) n chunks of other queries each falls into a decode step of its own, as far as
    there are such steps. Nothing is mixed in a pipeline, whose stages work on different queries, nor
    where a back-end costs a phase as a whole.

    Args:
        stages: Of one replica.
        own: Queries in flight in the replica, C, shape (N,).
    """
    first = stages[0]
    table = first.costs.given.table
    nothing = np.zeros(own.shape)
    is_whole = table.chunk_tokens is None or not table.passes(Phase.DECODE)
    is_whole |= table.chunks <= 1.0
    is_whole |= first.costs.given.runtime.scheduler in (Scheduler.STATIC, Scheduler.PREFILL_FIRST)
    if is_whole or len(stages) > 1 or first.copies > 1 or first.costs.segments:
        return nothing
    mixed = np.minimum((own - 1.0) * table.chunks, table.passes(Phase.DECODE))
    saved = nothing
    for entry in first.costs.kinds:
        if entry.kind is OperatorKind.GEMM:
            saved = saved + _saved_by_step(entry)
    alone = [
        phase.seconds / table.passes(name)
        for name, phase in ((Phase.PREFILL, first.prefill), (Phase.DECODE, first.decode))
    ]
    result: Floats = mixed * np.minimum(saved, np.minimum(*alone))
    return result


def _saved_by_step(entry: KindCosts) -> Floats:
    """Return what the GEMMs of a chunk and of a decode step save together, shape (N,).

    Together they take as long as the busiest resource is busy with both, the memory less the weights
    that it need not deliver again; never less than the longer of the two alone.
    """
    table, memory = entry.given.table, entry.given.machine.levels[0]
    alone: list[Floats] = []
    busy: list[dict[str, Floats]] = []
    for phase in (Phase.PREFILL, Phase.DECODE):
        rows, passes = np.flatnonzero(entry.in_phase(phase)), table.passes(phase)
        weights = np.broadcast_to(entry.weights, entry.times.total_s.shape)[rows] / passes
        alone.append(sum_rows(entry.times.total_s[rows] * weights))
        busy.append(
            {
                name: sum_rows(entry.times.terms_s[position][rows] * weights)
                for position, name in enumerate(entry.times.resources)
            }
        )
    decode = np.flatnonzero(entry.in_phase(Phase.DECODE))
    weights = np.broadcast_to(entry.weights, entry.times.total_s.shape)[decode]
    needed = sum_rows(entry.compulsory_bytes[decode] * weights) / table.passes(Phase.DECODE)
    again = needed / level_bandwidth(memory)
    together = np.maximum(*alone)
    for name in busy[0]:
        both = busy[0][name] + busy[1][name]
        if name == memory.name:
            both = both - np.minimum(again, np.minimum(busy[0][name], busy[1][name]))
        together = np.maximum(together, both)
    saved: Floats = np.maximum(alone[0] + alone[1] - together, 0.0)
    return saved
