"""Conformance of back-ends.

The checks run on every device that the catalog has for the back-end; override the fixture
`devices` to run them on others.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from pentarch.catalog import default_library
from pentarch.contracts.backend import AnyBackend
from pentarch.documents import read_document
from pentarch.errors import FieldError, MissingFigureError
from pentarch.graph.lowering import lower
from pentarch.graph.operators import OperatorKind
from pentarch.hardware.columns import Columns, FieldRole, field_specs
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineRecord, MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.view import View
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.engine import check_costs, cost_rows, row_times
from pentarch.testing.checks import (
    Conformance,
    check_describes_itself,
    check_is_stateless,
    require,
)
from pentarch.testing.samples import QUERY, sample_plan, sample_workload
from pentarch.workload.query import Precisions

GRADES = frozenset({"pub", "est", "meas", "tool", "der", "asm"})
"""Grades of a figure, as in the technology library."""
FACTORS = (1.25, 0.8, 2.0, 0.5)
"""Factors by which a check varies one number."""
_RELATIVE = 1e-12  # vectorized arithmetic may round the last bit otherwise than scalar arithmetic
_OUTSIDE = frozenset({"year", "price_year", "host_w", "host_usd"})
"""Fields of `Device` that date a figure, or that the system and no machine has."""


@dataclass(frozen=True, slots=True)
class BackendCase:
    """A back-end and one of its devices."""

    backend: AnyBackend
    """The back-end under test."""
    device: Device
    """A device of its model."""
    peers: tuple[Device, ...] = ()
    """All devices that the checks run on, this one included; empty means this one alone."""

    def machine(self, device: Device | None = None) -> MachineTable:
        """Return the machine of one device, checked."""
        table = self.backend.machine(View(self.device if device is None else device))
        table.check()
        return table

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Yield name and value of every number of the device that is known."""
        for name, spec in field_specs(type(self.device)).items():
            value = getattr(self.device, name)
            if spec.role is FieldRole.NUMBER and value is not None:
                yield name, float(value)

    def variants(self, name: str, value: float) -> Iterator[tuple[Device, MachineTable]]:
        """Yield devices with another value of one number, and their machines.

        Values that the model or the machine's bounds do not allow are left out.
        """
        for factor in FACTORS:
            changed: float | int = value * factor
            if isinstance(getattr(self.device, name), int):
                changed = round(changed)
            if changed == value:
                continue
            try:
                device = self.device.replace(**{name: changed})
                yield device, self.machine(device)
            except FieldError:
                continue


def check_class_describes_itself(case: BackendCase) -> None:
    """The class says what it is, what it runs, and what each field of its device model means."""
    backend = case.backend
    check_describes_itself(backend, ("name", "about"))
    require(bool(backend.operators), f"{backend.name}.operators is empty. Name what it can run.")
    for kind in backend.operators:
        require(isinstance(kind, OperatorKind), f"{kind!r} in operators is no OperatorKind.")
    model = backend.device_model
    require(
        issubclass(model, Device),
        f"device_model is {model!r}. Expected a subclass of `pentarch.Device`.",
    )
    bare = [name for name, info in model.model_fields.items() if not info.description]
    require(not bare, f"{model.__name__}: no string under {', '.join(bare)} says what it means.")


def check_machine_is_valid(case: BackendCase) -> None:
    """The machine of a device passes its checks and carries the names of device and back-end."""
    table = case.machine()
    require(table.length == 1, f"One design gave a machine of {table.length}.")
    require(
        table.backend == case.backend.name,
        f"The machine says back-end {table.backend!r}. Expected {case.backend.name!r}.",
    )
    require(
        table.name == case.device.name,
        f"The machine is called {table.name!r}. Expected {case.device.name!r}.",
    )


def check_arrays_are_contiguous(case: BackendCase) -> None:
    """Every number of a machine is a contiguous float64 array, one value per design."""
    count = 3
    table = case.backend.machine(View(case.device, count))
    for path, part in table.parts():
        for name, values in _arrays(part):
            require(
                values.dtype == np.float64
                and values.shape == (count,)
                and values.flags.c_contiguous,
                f"{path}.{name} is {values.dtype} of shape {values.shape}. Expected contiguous "
                f"float64 of shape ({count},); `pentarch.columns` makes it so.",
            )


def check_batch_equals_singles(case: BackendCase) -> None:
    """A batch of designs gives the machines that the designs give one by one."""
    for name, value in case.numbers():
        singles = list(case.variants(name, value))
        if not singles:
            continue
        values = np.array([float(getattr(device, name)) for device, _ in singles])
        batch = case.backend.machine(View(case.device, len(singles), {name: values}))
        batch.check()
        for index, (device, table) in enumerate(singles):
            difference = _difference(batch.record(index), table.record(0))
            require(
                difference is None,
                f"{name} = {getattr(device, name)!r}: {difference} differs between the batch and "
                "the single design. Use `np.where` instead of `if` on a swept number.",
            )


def check_every_number_matters(case: BackendCase) -> None:
    """Every number changes the machine of at least one device when it changes."""
    peers = case.peers or (case.device,)
    if case.device is not peers[0]:
        return  # the first case looks at all devices
    idle: set[str] = set()
    useful: set[str] = set()
    for device in peers:
        other = BackendCase(case.backend, device)
        reference = other.machine().record(0)
        for name, value in other.numbers():
            if name in useful or name in _OUTSIDE:
                continue
            tables = [table for _, table in other.variants(name, value)]
            if any(_difference(table.record(0), reference) is not None for table in tables):
                useful.add(name)
            elif tables:
                idle.add(name)
    in_vain = sorted(idle - useful)
    require(
        not in_vain,
        f"{', '.join(in_vain)} changes no device's machine, so a search would sweep it in vain. "
        "Use it in `machine`, take it out of the device model, or add a device that needs it.",
    )


def check_structure_is_hashable(case: BackendCase) -> None:
    """Machines of the same device have equal, hashable structures."""
    first, second = case.machine().structure, case.machine().structure
    same = hash(first) == hash(second) and first == second
    require(same, "Two equal designs differ in structure.")


def check_record_survives_json(case: BackendCase) -> None:
    """The record of a machine is the same after a round trip through JSON."""
    record = case.machine().record(0)
    again = MachineRecord.model_validate_json(record.model_dump_json())
    require(again == record, f"{_difference(again, record)} is not the same after JSON.")


def check_costs_are_physical(case: BackendCase) -> None:
    """Costs of sample rows are finite, at least zero, equal for equal designs, by machine part."""
    machine = case.backend.machine(View(case.device, 2))
    groups = (machine.levels, machine.engines, machine.links)
    names = {part.name for parts in groups for part in parts}
    for request, costs in _costs(case, machine):
        check_costs(request, costs)
        count = (len(request.rows.names), machine.length)
        require(
            costs.fixed_s.shape == count,
            f"fixed_s of {request.kind} has the shape {costs.fixed_s.shape}. Expected {count}.",
        )
        for group in (costs.compute_s, costs.level_s, costs.read_bytes, costs.write_bytes):
            for name, values in group.items():
                require(name in names, f"{request.kind}: the machine has no part {name!r}.")
                require(
                    values.shape == count and bool((values[:, 0] == values[:, 1]).all()),
                    f"{request.kind}: {name} differs between two equal designs, or has the shape "
                    f"{values.shape} instead of {count}.",
                )


def check_no_gemm_beats_the_peak(case: BackendCase) -> None:
    """No GEMM takes less time than its arithmetic at the peak rates of the machine."""
    machine = case.machine()
    peaks = [
        rate[0] * engine.units[0] * engine.clock_hz[0]
        for engine in machine.engines
        for rate in engine.macs_per_cycle.values()
    ]
    for request, costs in _costs(case, machine):
        if request.kind is not OperatorKind.GEMM or not costs.fits.all() or not peaks:
            continue
        busy_s = row_times(costs, overlap=machine.overhead.overlap).total_s
        least_s = costs.executed_macs / sum(peaks)
        require(
            bool((busy_s >= least_s * (1 - _RELATIVE)).all()),
            f"device {case.device.name}: a GEMM takes {busy_s.min():.3g} s, less than "
            f"{least_s.max():.3g} s at the machine's own peak.",
        )


def check_numbers_have_provenance(case: BackendCase) -> None:
    """Every number that a device states has a source or says that it is an assumption."""
    sources = case.device.sources
    fields = type(case.device).model_fields
    stated = [name for name, _ in case.numbers() if name in case.device.model_fields_set]
    missing = [name for name in stated if name not in sources and "*" not in sources]
    require(
        not missing,
        f"device {case.device.name}: no source for {', '.join(missing)}. Add them under `sources`, "
        "with grade `asm` and a reason where it is an assumption.",
    )
    for name, provenance in sources.items():
        require(
            name == "*" or name.split(".")[0] in fields,
            f"device {case.device.name}: sources.{name} names no field of the device.",
        )
        require(
            provenance.grade in GRADES,
            f"device {case.device.name}: sources.{name}.grade is {provenance.grade!r}. Expected "
            f"one of {', '.join(sorted(GRADES))}.",
        )


def check_holds_no_state(case: BackendCase) -> None:
    """Describing a machine leaves nothing behind, and another instance describes the same one."""
    before = case.machine().record(0)
    check_is_stateless(case.backend)
    fresh = type(case.backend)().machine(View(case.device)).record(0)
    require(fresh == before, f"{_difference(fresh, before)} differs between two instances.")


def check_unknown_numbers_are_handled(case: BackendCase) -> None:
    """Without an optional number there is a machine, or an error that names what is missing."""
    for name, _ in case.numbers():
        if not field_specs(type(case.device))[name].optional:
            continue
        try:
            device = case.device.replace(**{name: None})
        except FieldError:
            continue
        try:
            case.machine(device)
        except (FieldError, MissingFigureError):
            continue


def _costs(case: BackendCase, machine: MachineTable) -> Iterator[tuple[RowRequest, RowCosts]]:
    workload = sample_workload()
    table = lower(workload, query=QUERY, precisions=Precisions(), plan=sample_plan(workload))
    for kind in (OperatorKind.GEMM, OperatorKind.ATTENTION, OperatorKind.VECTOR):
        if kind in case.backend.operators:
            rows = table.rows_of(kind)
            request = RowRequest(
                kind=kind,
                rows=rows,
                sequences=np.ones((len(rows.names), machine.length)),
                machine=machine,
                runtime=Runtime(name="ideal"),
            )
            yield request, case.backend.cost_rows(request) or cost_rows(request)


def _arrays(part: Columns[Any]) -> Iterator[tuple[str, Any]]:
    yield from part.numbers.items()
    for name, group in part.groups.items():
        for key, values in group.items():
            yield f"{name}.{key}", values


def _difference(first: MachineRecord, second: MachineRecord) -> str | None:
    """Return the path of the first value that differs, or `None`."""
    return _compare(first.model_dump(), second.model_dump(), "")


def _compare(first: Any, second: Any, path: str) -> str | None:
    if isinstance(first, dict) and isinstance(second, dict):
        if first.keys() != second.keys():
            return path or "the set of fields"
        pairs = [(first[key], second[key], f"{path}.{key}".lstrip(".")) for key in first]
    elif isinstance(first, list | tuple) and isinstance(second, list | tuple):
        if len(first) != len(second):
            return path
        pairs = [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(first, second, strict=True))]
    elif isinstance(first, float) and isinstance(second, float):
        same = first == second or abs(first - second) <= _RELATIVE * max(abs(first), abs(second))
        return None if same else path
    else:
        return None if first == second else path
    return next((found for a, b, at in pairs if (found := _compare(a, b, at)) is not None), None)


BACKEND_CHECKS: tuple[Callable[[BackendCase], None], ...] = (
    check_class_describes_itself,
    check_machine_is_valid,
    check_arrays_are_contiguous,
    check_batch_equals_singles,
    check_every_number_matters,
    check_structure_is_hashable,
    check_record_survives_json,
    check_costs_are_physical,
    check_no_gemm_beats_the_peak,
    check_numbers_have_provenance,
    check_holds_no_state,
    check_unknown_numbers_are_handled,
)
"""All checks of a back-end."""


def catalog_devices(backend: AnyBackend) -> tuple[Device, ...]:
    """Return the devices that the installed plug-ins list for a back-end."""
    library = default_library()
    names = []
    for entry in library.names("device"):
        if entry.file is None:
            continue
        values = read_document(entry.file, where=entry.where).values
        if values.get("backend") == backend.name:
            names.append(entry.name)
    return tuple(library.device(name) for name in names)


class BackendConformance(Conformance):
    """Holds a back-end against its contract; the subclass gives a fixture `backend`."""

    checks = BACKEND_CHECKS

    @pytest.fixture
    def backend(self) -> AnyBackend:
        """Return the back-end under test."""
        pytest.fail(f"{type(self).__name__} needs a fixture `backend`.")

    @pytest.fixture
    def devices(self, backend: AnyBackend) -> Sequence[Device]:
        """Return the devices to run the checks on: by default those of the catalog."""
        return catalog_devices(backend)

    @pytest.mark.parametrize("check", BACKEND_CHECKS, ids=lambda check: check.__name__)
    def test_conforms(
        self,
        check: Callable[[BackendCase], None],
        backend: AnyBackend,
        devices: Sequence[Device],
    ) -> None:
        """The back-end keeps one part of its contract on all devices."""
        self.run(check, [BackendCase(backend, device, tuple(devices)) for device in devices])
