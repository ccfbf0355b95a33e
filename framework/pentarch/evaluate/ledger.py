"""The loss ledger: where the reserved device time goes, from peak to delivered; exact in sum."""

from collections import defaultdict

import numpy as np

from pentarch.evaluate.figures import Figures
from pentarch.evaluate.stage_costs import KindCosts
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.results import LedgerEntry

USEFUL = "useful work at peak"
REPLICATED = "replicated work"
ARRAY = "padding, fill and waves"
START = "operator starts"
VECTOR = "vector operators"
COLLECTIVE = "collectives"
HOST = "host and step overhead"
THROTTLE = "power cap"
OVERLAP = "imperfect overlap"
IDLE = "idle stages and replicas"

DUST = 1e-15
"""Share of the time below which an entry is a difference of rounding errors, and is left out."""

ROUNDING = 1e-9
"""Share of the time below which a difference is rounding."""


def loss_ledger(figures: Figures, index: int) -> tuple[LedgerEntry, ...]:
    """Return the shares of one design's reserved device time by cause, the useful part first.

    Every row's time is its useful work at peak, plus work that devices repeat, plus what its slowest
    resource takes beyond that, plus what imperfect overlap adds, plus its start; what the cap and
    the host add to a phase comes on top. Padding and waves are named where an engine is the slowest
    resource. While one query of C is answered, the devices run C prefills and, for each micro-batch,
    all decode steps; a stage that waits for another, and a replica without a query, are idle. Of a
    phase that a back-end costs as a whole, all that is not useful waits for its bottleneck.

    Args:
        figures: Figures of a batch.
        index: Which design.
    """
    seconds: dict[str, float] = defaultdict(float)
    deployment = figures.deployment
    own = float(deployment.own[index])
    for stage in figures.stages:
        micro_batches = own / float(stage.costs.given.concurrency[index])
        for phase, times in ((Phase.PREFILL, own), (Phase.DECODE, micro_batches)):
            _add_phase(seconds, stage, phase, index=index, times=times * stage.devices)
    query = figures.values["query_s"]
    if query is None:
        return ()
    active = float(deployment.active[index]) / deployment.replicas
    reserved = float(query[index]) * deployment.devices / deployment.replicas / active
    idle = reserved - sum(seconds.values())
    if idle > ROUNDING * reserved:
        seconds[IDLE] = idle
    total = sum(seconds.values())
    names = [USEFUL, *sorted((n for n in seconds if n != USEFUL), key=lambda n: -seconds[n])]
    return tuple(
        LedgerEntry(name=name, share=seconds[name] / total)
        for name in names
        if abs(seconds[name]) > DUST * total
    )


def _add_phase(
    seconds: dict[str, float], stage: StageResult, phase: Phase, *, index: int, times: float
) -> None:
    nominal = 0.0
    if phase in stage.costs.segments:
        nominal = _add_segment(seconds, stage, phase, index=index, times=times)
    for entry in () if phase in stage.costs.segments else stage.costs.kinds:
        for row in np.flatnonzero(entry.in_phase(phase)):
            weight = float(entry.weights[row, 0]) * times
            parts = _row_parts(entry, int(row), index)
            nominal += sum(parts.values()) * weight
            for name, value in parts.items():
                seconds[name] += value * weight
    power = stage.prefill if phase is Phase.PREFILL else stage.decode
    free = float(power.free_seconds[index]) * times
    if free > nominal:
        seconds[HOST] += free - nominal
    capped = float(power.seconds[index]) * times
    if capped > free:
        seconds[THROTTLE] += capped - free


def _add_segment(
    seconds: dict[str, float], stage: StageResult, phase: Phase, *, index: int, times: float
) -> float:
    """Add a phase that the back-end costs as a whole; return its time before host and cap."""
    stack = stage.costs.stack(phase)
    total = float(stack.time()[index]) * times
    useful = sum(
        float((entry.ideal_s[:, index] * entry.weights[:, 0])[entry.in_phase(phase)].sum())
        for entry in stage.costs.kinds
    )
    useful = min(useful * times, total)
    seconds[USEFUL] += useful
    seconds[f"waiting for {stage.costs.segments[phase].bottleneck[index]}"] += total - useful
    return total


def _row_parts(entry: KindCosts, row: int, index: int) -> dict[str, float]:
    """Return the time of one execution of a row by cause; the parts sum to the row's time."""
    times, fixed = entry.times, float(entry.costs.fixed_s[row, index])
    total = float(times.total_s[row, index]) - fixed
    parts = {START: fixed}
    if entry.kind is OperatorKind.VECTOR:
        return {**parts, VECTOR: total}
    if entry.kind is OperatorKind.COLLECTIVE:
        return {**parts, COLLECTIVE: total}
    useful = min(float(entry.ideal_s[row, index]), total)
    replicated = min(float(entry.replicated_s[row, index]), total - useful)
    parts |= {USEFUL: useful, REPLICATED: replicated}
    left = total - useful - replicated
    terms = {name: float(times.terms_s[k, row, index]) for k, name in enumerate(times.resources)}
    if not terms:
        return {**parts, OVERLAP: left}
    slowest = max(terms, key=lambda name: terms[name])
    cause = ARRAY if slowest in entry.costs.compute_s else f"waiting for {slowest}"
    parts[cause] = max(terms[slowest] - useful - replicated, 0.0)
    parts[OVERLAP] = left - parts[cause]
    return parts
