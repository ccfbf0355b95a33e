"""The public functions `partition` and `evaluate`."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.explain import evaluation_of
from pentarch.evaluate.prepare import Prepared, prepare
from pentarch.evaluate.scenario import Scenario, resolve_scenario
from pentarch.hardware.system import System
from pentarch.mapping.gemm import FrontStore
from pentarch.plan.plan import Plan
from pentarch.results import Evaluation
from pentarch.targets import Economics, Targets
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

if TYPE_CHECKING:
    from pentarch.catalog import Library


@dataclass(frozen=True, slots=True, eq=False)
class Planned:
    """A workload planned on a system: what `evaluate` takes."""

    prepared: Prepared
    """Scenario, plan and operator table."""

    @property
    def plan(self) -> Plan:
        """Stages, degrees, placement and collectives."""
        return self.prepared.plan

    @property
    def scenario(self) -> Scenario:
        """What was planned."""
        return self.prepared.scenario


def partition(
    workload: str | Workload, system: str | System, query: Query | None = None, *,
    partitioner: str | None = None, degree: int | None = None, precisions: Precisions | None = None,
    runtime: str = "ideal", targets: Targets | None = None, economics: Economics | None = None,
    library: "Library | None" = None,
) -> Planned:  # fmt: skip
    """Plan a workload on a system.

    Args:
        workload: A workload, its name, or the path of a `config.json`.
        system: A system, the name of a device, `Nx` a device, or the path of a YAML system.
        query: Lengths and load; by default 1024 + 256 tokens, one in flight.
        partitioner: Name; by default `single` for one device and `tensor` for several.
        degree: Degree of parallelism; by default the partitioner's choice.
        precisions: Number formats; by default fp8, or what the device has instead.
        runtime: Software stack.
        targets: Thresholds of the verdicts.
        economics: What turns prices into USD per query.
        library: Where names are looked up; by default all installed plug-ins.

    Raises:
        UnknownNameError: A name is unknown.
        FieldError: A file is wrong.
        InputError: The partitioner cannot cut the system as asked.

    Examples:
        >>> import pentarch as pa
        >>> planned = pa.partition("llama-3-8b", "8xh100_sxm", partitioner="tensor")
        >>> planned.plan.degrees.tensor
        8
    """
    if library is None:
        from pentarch.catalog import default_library

        library = default_library()
    found = library.system(system) if isinstance(system, str) else system
    chosen = partitioner or ("single" if found.devices == 1 else "tensor")
    scenario = resolve_scenario(
        workload=workload, system=found, query=query or Query(), precisions=precisions,
        runtime=runtime, partitioner=chosen, degree=degree, targets=targets or Targets(),
        economics=economics or Economics(), library=library,
    )  # fmt: skip
    return Planned(prepared=prepare(scenario))


def evaluate(planned: Planned, *, store: FrontStore | None = None) -> Evaluation:
    """Return every figure and the five verdicts of a planned workload.

    Args:
        planned: What `partition` returned.
        store: Mappings found before; keeps them between calls.

    Raises:
        MissingFigureError: The device lacks a figure without which it cannot be described.
        CostError: A cost is NaN or infinite.

    Examples:
        >>> import pentarch as pa
        >>> evaluation = pa.evaluate(pa.partition("llama-3-8b", "h100_sxm"))
        >>> evaluation.feasible
        True
    """
    found = run_designs(planned.prepared, length=1, store=store)
    return evaluation_of(planned.prepared, found, 0, scenario=planned.scenario)
