"""A scenario: everything but the numbers of a design, resolved from names to objects once."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pentarch.contracts.backend import AnyBackend
from pentarch.contracts.partitioner import Partitioner
from pentarch.errors import FieldError, InputError
from pentarch.evaluate.batches import describe
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import EngineKind
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.system import System, on_boards
from pentarch.model import load
from pentarch.results import Scalar
from pentarch.targets import Economics, Targets
from pentarch.workload.formats import Arithmetic, number_format
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.evaluate.evaluator import ScenarioEvaluator

LEAST_BITS = 8
"""Narrowest default format when a device lacks fp8 (definitions.md, Quantized formats)."""


@dataclass(frozen=True, slots=True, eq=False)
class Scenario:
    """One operating point on one kind of system, all names resolved."""

    workload: Workload
    """The model."""
    query: Query
    """Lengths and load."""
    precisions: Precisions | None
    """Number formats; `None` takes fp8, or what the device has instead."""
    device: Device
    """The device, as its back-end's own model."""
    backend: AnyBackend
    """Its back-end."""
    system: System
    """What the devices are part of."""
    runtime: Runtime
    """Software stack."""
    partitioner: Partitioner
    """What cuts the graph."""
    degree: int | None
    """Degree asked for."""
    targets: Targets
    """Thresholds."""
    economics: Economics
    """What turns prices into USD per query."""
    draft: Workload | None = None
    """Model that makes drafts, where the query names one."""

    def with_system_costs(self) -> System:
        """Return the system with the device's host figures where it states none of its own."""
        system, device = self.system, self.device
        host_w, host_usd = system.host_w, system.host_usd
        if host_w is None and device.host_w is not None:
            host_w = device.host_w * system.devices
        if host_usd is None and device.host_usd is not None:
            host_usd = device.host_usd * system.devices
        return system.replace(host_w=host_w, host_usd=host_usd)


def resolve_scenario(
    *, workload: str | Workload, system: str | System, query: Query, precisions: Precisions | None,
    runtime: str, partitioner: str, degree: int | None, targets: Targets, economics: Economics,
    library: "Library",
) -> Scenario:  # fmt: skip
    """Return a scenario from names.

    Raises:
        UnknownNameError: A name is unknown.
        FieldError: A file behind a name is wrong.
    """
    found_system = library.system(system) if isinstance(system, str) else system
    device = library.device(found_system.device)
    return Scenario(
        workload=library.workload(workload) if isinstance(workload, str) else workload,
        query=query, precisions=precisions, device=device, backend=library.backend_of(device),
        system=found_system, runtime=library.runtime(runtime),
        partitioner=_partitioner(library, partitioner), degree=degree, targets=targets,
        economics=economics, draft=_draft(query, library),
    )  # fmt: skip


def _draft(query: Query, library: "Library") -> Workload | None:
    """Return the workload that makes drafts, if the query has drafts and names one."""
    if query.draft is None or not query.draft_tokens:
        return None
    return library.workload(query.draft)


def build_evaluator(*, library: "Library", **names: Any) -> "ScenarioEvaluator":
    """Return the evaluator of a scenario; arguments as those of `resolve_scenario`."""
    from pentarch.evaluate.evaluator import ScenarioEvaluator

    return ScenarioEvaluator(resolve_scenario(library=library, **names), library)


def default_precisions(machine: MachineTable) -> tuple[Precisions, tuple[str, ...]]:
    """Return the default formats of a machine: fp8, else its narrowest float of at least 8 bits.

    Returns:
        The formats, and notes that say what was replaced.

    Raises:
        InputError: The machine multiplies no float of at least 8 bits.
    """
    offered = {
        name
        for engine in machine.engines
        if engine.kind is not EngineKind.VECTOR
        for name in engine.macs_per_cycle
    }
    wanted = Precisions()
    if wanted.weights in offered:
        return wanted, ()
    floats = [
        found
        for found in map(number_format, offered)
        if found.arithmetic is Arithmetic.FLOAT and found.bits >= LEAST_BITS
    ]
    if not floats:
        raise InputError(
            f"Device {machine.name} multiplies no float of at least {LEAST_BITS} bits. Name the formats "
            "to use: weights, activations and kv."
        )
    chosen = min(floats, key=lambda found: (found.bits, found.name)).name
    note = f"{machine.name} has no {wanted.weights}: weights, activations and KV cache are {chosen}"
    return wanted.replace(weights=chosen, activations=chosen, kv=chosen), (note,)


STRUCTURAL_NAMES = ("workload", "device", "runtime", "partitioner", "degree")
"""Parameter paths without a dot that are not fields of the device."""


def split_path(path: str) -> tuple[str, str]:
    """Return (what a parameter path belongs to, field): `query.concurrency` -> (`query`, ...)."""
    if path in STRUCTURAL_NAMES:
        return "scenario", path
    owner, dot, field = path.partition(".")
    return (owner, field) if dot else ("device", path)


def change_scenario(
    scenario: Scenario, changes: Mapping[str, Scalar], library: "Library"
) -> Scenario:
    """Return the scenario with changes by parameter path.

    Raises:
        InputError: A path names nothing, or a value is not allowed there.
    """
    grouped: dict[str, dict[str, Any]] = {}
    for path, value in changes.items():
        owner, field = split_path(path)
        grouped.setdefault(owner, {})[field] = value
    before = scenario.system
    scenario = _change_names(scenario, grouped.pop("scenario", {}), library)
    models: dict[str, Any] = {
        "query": scenario.query,
        "precisions": _base_precisions(scenario, grouped),
        "system": scenario.system,
        "device": scenario.device,
    }
    for owner, fields in grouped.items():
        if owner not in models:
            raise InputError(
                f"There is no parameter {owner}.{next(iter(fields))}. A path begins with "
                f"{', '.join(key + '.' for key in models)}, is one of {', '.join(STRUCTURAL_NAMES)}, or "
                "is a field of the device."
            )
        models[owner] = load(
            type(models[owner]),
            {
                **{name: getattr(models[owner], name) for name in type(models[owner]).model_fields},
                **fields,
            },
            where=f"parameter {owner}",
        )
        scenario = replace(scenario, **{owner: models[owner]})
    if "query" in grouped:
        scenario = replace(scenario, draft=_draft(scenario.query, library))
    return _rename_system(scenario, before)


def _change_names(scenario: Scenario, names: dict[str, Any], library: "Library") -> Scenario:
    if "device" in names:
        device = library.device(str(names["device"]))
        system = scenario.system.replace(device=device.name)
        scenario = replace(
            scenario, device=device, backend=library.backend_of(device), system=system
        )
    if "workload" in names:
        scenario = replace(scenario, workload=library.workload(str(names["workload"])))
    if "runtime" in names:
        scenario = replace(scenario, runtime=library.runtime(str(names["runtime"])))
    if "partitioner" in names:
        scenario = replace(scenario, partitioner=_partitioner(library, str(names["partitioner"])))
    if "degree" in names:
        scenario = replace(scenario, degree=_degree(names["degree"]))
    return scenario


def _base_precisions(scenario: Scenario, grouped: Mapping[str, Any]) -> Precisions:
    """Return what roles keep that a change does not name: the scenario's, else the device's default."""
    if scenario.precisions is not None or "precisions" not in grouped:
        return scenario.precisions or Precisions()
    return default_precisions(describe_template(scenario))[0]


def _degree(value: Scalar) -> int:
    is_whole = not isinstance(value, str | bool) and float(value).is_integer()
    if not is_whole or float(value) < 1:
        raise FieldError(
            where="parameter degree", path="degree", problem=f"found {value!r}",
            expected="a whole number of at least 1",
        )  # fmt: skip
    return int(value)


def _rename_system(scenario: Scenario, before: System) -> Scenario:
    """Name a system after what is in it, when the device changed or the name said how many."""
    now = scenario.system
    is_counted = before.name in (before.device, f"{before.devices}x{before.device}")
    if now.device == before.device and (now.devices == before.devices or not is_counted):
        return scenario
    name = now.device if now.devices == 1 else f"{now.devices}x{now.device}"
    return replace(scenario, system=now.replace(name=name, about=scenario.device.about))


def describe_template(scenario: Scenario) -> MachineTable:
    """Return the scenario's device as a checked machine of one design."""
    return on_boards(describe(scenario.backend, scenario.device, 1), scenario.system)


def _partitioner(library: "Library", name: str) -> Partitioner:
    registry = library.registry
    found: Partitioner = registry.find(registry.partitioners, kind="partitioner", name=name)
    return found
