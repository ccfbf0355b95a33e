"""Measured runs of whole models: what was served on what, and predictions for all of them.

A run is evaluated like any scenario; runs that differ in their load only share one evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pentarch.errors import InputError
from pentarch.evaluate.queueing import Load, burst_s, in_step_s
from pentarch.evaluate.scenario import build_evaluator
from pentarch.hardware.runtime import Runtime, Scheduler
from pentarch.hardware.system import System
from pentarch.targets import Economics, Targets
from pentarch.validation.labels import workload_name
from pentarch.workload.query import Precisions, Query

if TYPE_CHECKING:
    from pentarch.catalog import Library

Values = Mapping[str, float]
"""Figures of one run by name."""

LOADS = tuple(sorted({2**power for power in range(13)} | {3 * 2**power for power in range(12)}))
"""Concurrencies that a serving engine is taken to choose from."""

SIXTEENTHS = range(15, 1, -1)
"""Shares of a stated load that are tried where the whole does not fit."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """A workload on devices, all but the load."""

    workload: str
    device: str
    devices: int
    tensor: int
    pipeline: int
    runtime: str
    precisions: Precisions
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What a benchmark asks of every query; `None` where it asks nothing."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    query_s: float | None = None


@dataclass(frozen=True, slots=True)
class Protocol:
    """How a benchmark sends its queries: all clients begin at once, each query replaced when it ends.

    A property of the measurement, not of a machine or a stack.
    """

    rounds: float | None = None
    """Queries of a run per client: the burst at its beginning is one of them; `None` for a run so
    long that it does not count."""
    in_step: bool = False
    """Whether queries of equal length keep in step what began together."""
    step_prompts: float | None = None
    """Prompts that a pass of the run holds where its token budget was set by the length of a prompt;
    `None` for the budget that the stack has by default. For stacks with mixed passes."""
    polls: tuple[tuple[int, float], ...] = ()
    """(clients, decode steps between two looks for new queries from so many clients on), where prompts
    go first and the run set them; the last that applies counts."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One measured figure of one run."""

    file: str
    """Base name of the file."""
    label: str
    """Name of the row."""
    device: str
    """Device as the file calls it."""
    subset: str
    """main or flagged."""
    precision: str
    """Format of the weights as the file calls it."""
    metric: str
    """ttft, tpot, throughput, power, ..., as groups are named."""
    figure: str
    """Which of the predicted figures it is: a key of what `figures` returns."""
    measured: float
    """The figure."""
    deployments: tuple[Deployment, ...]
    """What ran; of several, the one with the largest throughput."""
    concurrency: int | None
    """Queries in flight; `None` when the engine chooses what serves most."""
    framework: str = ""
    """Software stack."""
    limits: Limits = field(default_factory=Limits)
    """What a load that the engine chooses must keep to."""
    may_queue: bool = False
    """Whether queries that do not fit wait: then the largest load that fits stands for all of them,
    and the time to the first token includes the wait for a place."""
    protocol: Protocol = field(default_factory=Protocol)
    """How the queries were sent."""


class RunPredictor:
    """Predicts runs; every deployment is evaluated once for all loads that are asked of it.

    Args:
        library: Resolves names.
    """

    def __init__(self, library: "Library") -> None:
        self._library = library
        self._found: dict[tuple[Deployment, int], Values | str] = {}
        self._runtimes: dict[str, Runtime] = {}

    def predict(self, rows: Sequence[RunRow]) -> list[float | str]:
        """Return the predicted figure of each row or, where there is none, why."""
        for tried in (_first_loads, _loads):  # smaller loads only where the stated one does not fit
            wanted: dict[Deployment, set[int]] = {}
            for row in rows:
                for deployment in row.deployments:
                    if not self._runs(deployment, row):
                        wanted.setdefault(deployment, set()).update((1, *tried(row)))
            for deployment, every in wanted.items():
                self._evaluate(deployment, sorted(every))
        return [self._figure(row) for row in rows]

    def _runs(self, deployment: Deployment, row: RunRow) -> bool:
        """Return whether the stated load is known to run."""
        if row.concurrency is None:
            return False
        return isinstance(self._found.get((deployment, row.concurrency), ""), Mapping)

    def _figure(self, row: RunRow) -> float | str:
        reasons: list[str] = []
        runs = False
        best: tuple[Values, int, Deployment] | None = None
        for deployment in row.deployments:
            for load in _loads(row):
                found = self._found.get((deployment, load))
                if found is None:
                    continue
                if isinstance(found, str):
                    reasons.append(found)
                    continue
                runs = True
                if row.concurrency is not None or _keeps(found, row.limits):
                    more = best is None or found["throughput"] > best[0]["throughput"]
                    best = (found, load, deployment) if more else best
                if row.concurrency is not None:
                    break
        if best is None:
            return "no load keeps to the limits of the benchmark" if runs else reasons[0]
        value = self._measured(row, *best)
        return value if value is not None and value > 0 else f"no figure {row.figure}"

    def _measured(
        self, row: RunRow, found: Values, load: int, deployment: Deployment
    ) -> float | None:
        """Return the figure of a row; queries that do not fit wait for the places of others."""
        if row.figure not in ("ttft", "tpot") or row.protocol == Protocol():
            return found.get(row.figure)
        name = deployment.runtime
        runtime = self._runtimes.get(name) or self._library.runtime(name)
        self._runtimes[name] = runtime
        first, pace = measured_as(row.protocol, deployment, runtime, found, load=load)
        if row.figure == "tpot":
            return pace
        return first + ((row.concurrency or load) / load - 1.0) * found["query"]

    def _evaluate(self, deployment: Deployment, loads: Sequence[int]) -> None:
        missing = [load for load in loads if (deployment, load) not in self._found]
        try:
            found: Sequence[Values | str] = list(self._values(deployment, missing))
        except InputError as error:
            found = [str(error).splitlines()[0]] * len(missing)
        self._found |= {(deployment, load): one for load, one in zip(missing, found, strict=True)}

    def _values(self, deployment: Deployment, loads: Sequence[int]) -> Iterator[Values | str]:
        if not loads:
            return
        library = self._library
        if deployment.pipeline > 1 and "pipeline" not in library.registry.partitioners:
            raise InputError("pipeline parallelism: no partitioner of that name")
        partitioner = "tensor" if deployment.devices > 1 else "single"
        if deployment.pipeline > 1:
            partitioner = "pipeline"
        evaluator = build_evaluator(
            library=library, workload=deployment.workload, runtime=deployment.runtime,
            system=System(
                name=f"{deployment.devices}x{deployment.device}", device=deployment.device,
                devices=deployment.devices, host_w=0.0, host_usd=0.0,
            ),
            query=Query(
                prompt_tokens=deployment.prompt_tokens, output_tokens=deployment.output_tokens
            ),
            precisions=deployment.precisions, partitioner=partitioner,
            degree=deployment.tensor if partitioner == "tensor" else None,
            targets=Targets(), economics=Economics(),
        )  # fmt: skip
        asked = list(dict.fromkeys((1, *loads)))
        results = evaluator.evaluate([{"query.concurrency": load} for load in asked])
        columns = {
            name: results.figures[name].tolist()
            for name in (
                "ttft_s",
                "tpot_s",
                "query_s",
                "throughput_tokens_per_s",
                "mean_w",
                "j_per_token",
                "decode_s",
                "prefill_s",
            )
            if name in results.figures
        }
        alone = columns["prefill_s"][0]
        for load in loads:
            at = asked.index(load)
            if not results.feasible[at]:
                yield f"infeasible: {results.reasons[at]}"
                continue
            yield figures(
                {name: column[at] for name, column in columns.items()}, deployment,
                load=load, prefill_s=alone,
            )  # fmt: skip


def _queue(deployment: Deployment, runtime: Runtime, found: Values, load: int) -> Load:
    """Return what the devices of a run have to do, host time included.

    Args:
        deployment: What ran.
        runtime: Its stack.
        found: Its figures at this load.
        load: Queries in flight.
    """
    alone = np.array([found["prefill"]])
    steps = max(deployment.output_tokens - 1, 1)
    return Load(
        own=np.array([float(load)]), prompt_s=alone, slot_s=alone,
        step_s=np.array([found["decode"] / steps]),
        prompt_tokens=float(deployment.prompt_tokens),
        output_tokens=float(deployment.output_tokens), runtime=runtime,
    )  # fmt: skip


def measured_as(
    protocol: Protocol, deployment: Deployment, runtime: Runtime, found: Values, *, load: int
) -> tuple[float, float | None]:
    """Return TTFT and TPOT as a benchmark measures them: means over the queries of a run.

    What the first round waits longer than the others is waited instead of between later tokens: the
    devices do the same work.

    Args:
        protocol: How the queries were sent.
        deployment: What ran.
        runtime: Its stack.
        found: Its figures at this load.
        load: Queries in flight.
    """
    if protocol.step_prompts is not None and runtime.scheduler is Scheduler.MIXED:
        tokens = round(protocol.step_prompts * deployment.prompt_tokens) + load
        runtime = runtime.model_copy(update={"step_tokens": tokens})
    queue = _queue(deployment, runtime, found, load)
    first = float(in_step_s(queue)[0]) if protocol.in_step else found["ttft"]
    if runtime.scheduler is Scheduler.PREFILL_FIRST and not protocol.in_step:
        steps_between = [steps for clients, steps in protocol.polls if load >= clients]
        first += (steps_between[-1] if steps_between else 0.0) * float(queue.step_s[0])
    if protocol.rounds is not None:
        first += (float(burst_s(queue)[0]) - first) / protocol.rounds
    steps = deployment.output_tokens - 1
    return first, (found["query"] - first) / steps if steps > 0 else None


def figures(found: Values, deployment: Deployment, *, load: int, prefill_s: float) -> Values:
    """Return every figure that a benchmark may report, from those of an evaluation.

    A continuous batch has the queries' prefills between its decode steps. A static batch has all
    prefills first: with t_p of one prefill and C queries the first tokens come after C t_p and only
    decode steps follow, (query - C t_p) / (T - 1) each where their time is not given.

    Args:
        found: ttft_s, tpot_s, query_s, ... at this load.
        deployment: What ran.
        load: Queries in flight, C.
        prefill_s: Time of one prefill alone, t_p.
    """
    prompt, output = deployment.prompt_tokens, deployment.output_tokens
    query_s, rate = found["query_s"], found["throughput_tokens_per_s"]
    decoding_s = found.get("decode_s", query_s - load * prefill_s)
    decode_s = decoding_s / (output - 1) if output > 1 else 0.0
    return {
        "ttft": found["ttft_s"], "tpot": found.get("tpot_s", float("nan")), "query": query_s,
        "throughput": rate, "throughput_in_out": rate * (prompt + output) / output,
        "queries": rate / output, "ttft_static": load * found.get("prefill_s", prefill_s), "tpot_static": decode_s,
        "decode_rate": load / decode_s if decode_s > 0 else 0.0, "prefill_rate": prompt / prefill_s,
        "prefill": prefill_s, "decode": found.get("decode_s", float("nan")),
        "power": found.get("mean_w", float("nan")), "energy": found.get("j_per_token", float("nan")),
    }  # fmt: skip


def _loads(row: RunRow) -> tuple[int, ...]:
    """Return the loads to try: those that the engine chooses from, or the one that is stated.

    Where queries may queue, smaller loads follow the stated one.
    """
    if row.concurrency is None:
        return LOADS
    if not row.may_queue:
        return (row.concurrency,)
    parts = (row.concurrency * part // 16 for part in SIXTEENTHS)
    below = (load for load in reversed(LOADS) if load < row.concurrency / 8)
    return tuple(dict.fromkeys((row.concurrency, *(load for load in parts if load), *below, 1)))


def _first_loads(row: RunRow) -> tuple[int, ...]:
    """Return the loads to try first."""
    return LOADS if row.concurrency is None else (row.concurrency,)


def _keeps(found: Values, limits: Limits) -> bool:
    asked = ((limits.ttft_s, "ttft"), (limits.tpot_s, "tpot"), (limits.query_s, "query"))
    return all(limit is None or found[name] <= limit for limit, name in asked)


def known_workload(library: "Library", label: str) -> str:
    """Return the catalog's name of a workload that a file names.

    Raises:
        LookupError: The catalog has none.
    """
    name = workload_name(library, label)
    if name is None:
        raise LookupError("unknown workload", label)
    return name
