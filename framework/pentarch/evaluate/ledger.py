"""The loss ledger: where the reserved device time goes, from peak to delivered; exact in sum."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from pentarch.evaluate.array_losses import array_losses
from pentarch.evaluate.design_rows import DesignRows, weight_column
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.mixing import saved_by_mixing
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.runtime import Scheduler
from pentarch.results import LedgerEntry

USEFUL = "useful work at peak"
REPLICATED = "replicated work"
START = "operator starts"
LAUNCH = "launches by the host"
VECTOR = "vector operators"
HOPS = "hops and overhead of collectives"
HOST = "host and step overhead"
THROTTLE = "power cap"
OVERLAP = "imperfect overlap"
IDLE_REPLICAS = "idle replicas"
IDLE_STAGES = "idle stages"
WAITING = "passes that a query waits for"

DUST = 1e-15
"""Share of the time below which an entry is a difference of rounding errors, and is left out."""

ROUNDING = 1e-9
"""Share of the time below which a difference is rounding."""


def loss_ledger(figures: Figures, index: int) -> tuple[LedgerEntry, ...]:
    """Return the shares of one design's reserved device time by cause, the useful part first.

    Every row's time is its useful work at peak, plus work that devices repeat, plus what its slowest
    resource takes beyond that, plus what imperfect overlap adds, plus its start; what the cap and
    the host add to a phase comes on top. Where an engine is the slowest resource its time is split
    into padding, waves, fill and issue; where a level is, its wait is split in proportion to what
    crosses it. While one query of C is answered, the devices run C prefills and, for each
    micro-batch, all decode steps; that prefills delay other queries' tokens is latency, and no loss
    of device time. A stage that waits for another, and a replica without a query, are idle. Of a
    phase that a back-end costs as a whole, all that is not useful waits for its bottleneck.

    Args:
        figures: Figures of a batch.
        index: Which design.

    Returns:
        Shares that sum to 1; the useful one is the MFU of the query. Empty without a latency.
    """
    query = figures.values["query_s"]
    if query is None:
        return ()
    seconds: dict[str, float] = defaultdict(float)
    deployment = figures.deployment
    own = float(deployment.own[index])
    for stage in figures.stages:
        micro_batches = own / float(stage.costs.given.concurrency[index])
        for phase, times in ((Phase.PREFILL, own), (Phase.DECODE, micro_batches)):
            _add_phase(seconds, stage, phase, index=index, times=times * stage.devices)
    saved = float(saved_by_mixing(figures.stages, deployment.own)[index])
    if saved > 0.0:
        _take(seconds, saved * figures.stages[0].devices, figures.stages[0])
    working = float(deployment.active[index]) / deployment.replicas
    reserved = float(query[index]) * deployment.devices / deployment.replicas
    if reserved - sum(seconds.values()) > ROUNDING * reserved:
        is_one = len(figures.stages) == 1 and figures.stages[0].copies == 1
        scheduler = figures.stages[0].costs.given.runtime.scheduler
        is_shared = scheduler not in (Scheduler.SERIAL, Scheduler.STATIC)
        seconds[WAITING if is_one and is_shared else IDLE_STAGES] = reserved - sum(seconds.values())
    if working < 1.0:
        seconds[IDLE_REPLICAS] = reserved / working - reserved
    total = sum(seconds.values())
    names = [USEFUL, *sorted((n for n in seconds if n != USEFUL), key=lambda n: -seconds[n])]
    return tuple(
        LedgerEntry(name=name, share=seconds[name] / total, ideal=name == USEFUL)
        for name in names
        if abs(seconds[name]) > DUST * total
    )


def _take(seconds: dict[str, float], saved: float, stage: StageResult) -> None:
    """Take the time that mixed steps save from the weights they need not wait for, then the rest."""
    memory = stage.costs.given.machine.levels[0].name
    first = f"waiting for {memory}: weights"
    for name in sorted(seconds, key=lambda cause: (cause != first, -seconds[cause])):
        if name != USEFUL:
            part = min(saved, seconds[name])
            seconds[name] -= part
            saved -= part


def _add_phase(
    seconds: dict[str, float], stage: StageResult, phase: Phase, *, index: int, times: float
) -> None:
    nominal = 0.0
    if phase in stage.costs.segments:
        nominal = _add_segment(seconds, stage, phase, index=index, times=times)
    for entry in () if phase in stage.costs.segments else stage.costs.kinds:
        rows = np.flatnonzero(entry.in_phase(phase))
        if len(rows):
            view = DesignRows(entry, stage.costs.given, index)
            nominal += _add_rows(seconds, view, rows, times)
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
        float((entry.ideal_s[:, index] * weight_column(entry, index))[entry.in_phase(phase)].sum())
        for entry in stage.costs.kinds
    )
    useful = min(useful * times, total)
    seconds[USEFUL] += useful
    seconds[f"waiting for {stage.costs.segments[phase].bottleneck[index]}"] += total - useful
    return total


def _add_rows(
    seconds: dict[str, float], view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]],
    times: float,
) -> float:  # fmt: skip
    """Add the time of some rows by cause; return all of it."""
    weights = view.weights[rows] * times
    fixed = view.fixed_s[rows]
    total = view.total_s[rows] - fixed
    launch = np.minimum(fixed, view.given.runtime.launch_s)
    seconds[LAUNCH] += float(launch @ weights)
    seconds[START] += float((fixed - launch) @ weights)
    whole = float((fixed + total) @ weights)
    if view.entry.kind is OperatorKind.VECTOR:
        seconds[VECTOR] += float(total @ weights)
        return whole
    if view.entry.kind is OperatorKind.COLLECTIVE:
        for name, part in _transfers(view, rows):
            taken = np.clip(part, 0.0, total)
            total = total - taken
            seconds[f"bytes of collectives on {name}"] += float(taken @ weights)
        seconds[HOPS] += float(total @ weights)
        return whole
    useful = np.minimum(view.ideal_s[rows], total)
    replicated = np.minimum(view.replicated_s[rows], total - useful)
    seconds[USEFUL] += float(useful @ weights)
    seconds[REPLICATED] += float(replicated @ weights)
    left = total - useful - replicated
    if not view.entry.times.resources:
        seconds[OVERLAP] += float(left @ weights)
        return whole
    terms = view.terms_s[:, rows]
    lost = np.maximum(terms.max(axis=0) - useful - replicated, 0.0)
    seconds[OVERLAP] += float((left - lost) @ weights)
    slowest = terms.argmax(axis=0)
    for position, name in enumerate(view.entry.times.resources):
        members = np.flatnonzero(slowest == position)
        if not len(members) or not lost[members].any():
            continue
        remaining = lost[members]
        causes = _causes(view, rows[members], name, remaining)
        for cause, part in causes:
            taken = np.clip(part, 0.0, remaining)
            remaining = remaining - taken
            seconds[cause] += float(taken @ weights[members])
    return whole


def _transfers(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> Iterable[tuple[str, Floats]]:
    """Yield the time in which the bytes of collectives cross each link, as far as known."""
    costs, index = view.entry.costs, view.index
    sent = costs.detail.get("sent_bytes")
    for link in view.given.machine.links:
        busy = costs.compute_s.get(link.name)
        if sent is None or busy is None:
            continue
        rate = float(link.bytes_per_s[index] * link.efficiency[index])
        yield link.name, np.where(view.of(busy)[rows] > 0, view.of(sent)[rows] / rate, 0.0)


def _causes(
    view: DesignRows, rows: np.ndarray[tuple[int], np.dtype[np.intp]], resource: str, lost: Floats
) -> Iterable[tuple[str, Floats]]:
    """Yield what the time beyond the useful goes to, where a resource is the slowest.

    Causes are taken in order, each as far as there is time left; the last takes what others leave.

    Args:
        view: The rows' kind.
        rows: Those whose slowest resource it is.
        resource: Its name.
        lost: Time of one execution beyond the useful, by row.
    """
    if resource in view.entry.costs.compute_s:
        engines = view.engine_names()
        if all(engines[row] == resource for row in rows):
            yield from array_losses(view, rows)
            return
        is_attention = isinstance(view.entry.rows, AttentionTable)
        work = "softmax" if is_attention else "conversion of weights"
        yield f"{work} on {resource}", lost
        return
    waiting = f"waiting for {resource}"
    moved = view.read(resource)[rows] + view.write(resource)[rows]
    if resource != view.given.machine.levels[0].name or not moved.all():
        yield waiting, lost
        return
    needs, per_byte = view.operands, lost / moved
    stored = "weights" if isinstance(view.entry.rows, GemmTable) else "keys and values"
    yield f"{waiting}: {stored}", view.compulsory_bytes[rows] * per_byte
    yield f"{waiting}: activations", (needs.inputs + needs.outputs)[rows] * per_byte
    yield f"{waiting}: rereads", lost
