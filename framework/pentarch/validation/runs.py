"""Measured runs of whole models: what was served on what, and predictions for all of them.

A run is evaluated like any scenario; runs that differ in their load only share one evaluation.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pentarch.errors import InputError
from pentarch.evaluate.scenario import build_evaluator
from pentarch.hardware.system import System
from pentarch.targets import Economics, Targets
from pentarch.validation.labels import workload_name
from pentarch.workload.query import Precisions, Query

if TYPE_CHECKING:
    from pentarch.catalog import Library

Values = Mapping[str, float]
"""Figures of one run by name."""

LOADS = tuple(2**power for power in range(13))
"""Concurrencies that a serving engine is taken to choose from."""


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
    """Whether queries that do not fit wait: then the largest load that fits stands for all of them."""


class RunPredictor:
    """Predicts runs; every deployment is evaluated once for all loads that are asked of it.

    Args:
        library: Resolves names.
    """

    def __init__(self, library: "Library") -> None:
        self._library = library
        self._found: dict[tuple[Deployment, int], Values | str] = {}

    def predict(self, rows: Sequence[RunRow]) -> list[float | str]:
        """Return the predicted figure of each row or, where there is none, why."""
        wanted: dict[Deployment, set[int]] = {}
        for row in rows:
            loads = (1, *_loads(row))
            for deployment in row.deployments:
                wanted.setdefault(deployment, set()).update(loads)
        for deployment, every in wanted.items():
            self._evaluate(deployment, sorted(every))
        return [self._figure(row) for row in rows]

    def _figure(self, row: RunRow) -> float | str:
        reasons: list[str] = []
        runs = False
        best: Values | None = None
        for deployment in row.deployments:
            for load in _loads(row):
                found = self._found[deployment, load]
                if isinstance(found, str):
                    reasons.append(found)
                    continue
                runs = True
                if row.concurrency is not None or _keeps(found, row.limits):
                    more = best is None or found["throughput"] > best["throughput"]
                    best = found if more else best
                if row.concurrency is not None:
                    break
        if best is None:
            return "no load keeps to the limits of the benchmark" if runs else reasons[0]
        value = best.get(row.figure)
        return value if value is not None and value > 0 else f"no figure {row.figure}"

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
            )
            if name in results.figures
        }
        alone = columns["ttft_s"][0]
        for load in loads:
            at = asked.index(load)
            if not results.feasible[at]:
                yield f"infeasible: {results.reasons[at]}"
                continue
            yield figures(
                {name: column[at] for name, column in columns.items()}, deployment,
                load=load, prefill_s=alone,
            )  # fmt: skip


def figures(found: Values, deployment: Deployment, *, load: int, prefill_s: float) -> Values:
    """Return every figure that a benchmark may report, from those of an evaluation.

    A continuous batch has the queries' prefills between its decode steps. A static batch has all
    prefills first: with t_p of one prefill and C queries the decode steps take
    (query - C t_p) / (T - 1) each, and the first tokens come after C t_p.

    Args:
        found: ttft_s, tpot_s, query_s, ... at this load.
        deployment: What ran.
        load: Queries in flight, C.
        prefill_s: Time of one prefill alone, t_p.
    """
    prompt, output = deployment.prompt_tokens, deployment.output_tokens
    query_s, rate = found["query_s"], found["throughput_tokens_per_s"]
    decode_s = (query_s - load * prefill_s) / (output - 1) if output > 1 else 0.0
    return {
        "ttft": found["ttft_s"], "tpot": found.get("tpot_s", float("nan")), "query": query_s,
        "throughput": rate, "throughput_in_out": rate * (prompt + output) / output,
        "queries": rate / output, "ttft_static": load * prefill_s, "tpot_static": decode_s,
        "decode_rate": load / decode_s if decode_s > 0 else 0.0, "prefill_rate": prompt / prefill_s,
        "power": found.get("mean_w", float("nan")), "energy": found.get("j_per_token", float("nan")),
    }  # fmt: skip


def _loads(row: RunRow) -> tuple[int, ...]:
    """Return the loads to try: those that the engine chooses from, or the one that is stated.

    Where queries may queue, smaller loads follow the stated one.
    """
    if row.concurrency is None:
        return LOADS
    stated = (row.concurrency,)
    return stated + tuple(
        load for load in reversed(LOADS) if row.may_queue and load < row.concurrency
    )


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
