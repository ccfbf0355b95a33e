"""The checks of the conformance kit find what they are there to find."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from pentarch import Backend, Device, MachineTable, Partitioner, Plan, View, Workload
from pentarch.contracts.partitioner import PartitionRequest
from pentarch.hardware.columns import columns
from pentarch.hardware.machine import Provenance
from pentarch.hardware.parts import Power
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.engine import cost_rows
from pentarch.testing import (
    BackendCase,
    BackendConformance,
    PartitionerCase,
    WorkloadFamilyCase,
    backend,
    partitioner,
    workload_family,
)
from pentarch.testing.checks import Conformance, NonConformanceError
from pentarch.testing.samples import sample_machine, sample_plan, sample_request

Check = Callable[[Any], None]


class ChipDevice(Device):
    """A device of two numbers."""

    size_bytes: float = 1e9
    """Capacity of its memory."""
    idle_w: float | None = 5.0
    """Power when nothing runs."""


class Chip(Backend[ChipDevice]):
    """A back-end that keeps its contract."""

    name = "chip"
    about = "A back-end for tests"
    device_model: ClassVar[type[Any]] = ChipDevice

    def machine(self, device: View[ChipDevice]) -> MachineTable:
        table = sample_machine(name=device.template.name, backend=self.name, length=device.length)
        memory = replace(
            table.levels[0], numbers={**table.levels[0].numbers, "size_bytes": device.size_bytes}
        )
        power = columns(Power, device.length, static_w=device.idle_w)
        return replace(table, levels=(memory, table.levels[1]), power=power)


SOURCES = {"*": Provenance(source="made up", grade="asm")}
DEVICE = ChipDevice(name="c1", size_bytes=2e9, idle_w=4.0, sources=SOURCES)


class Undocumented(ChipDevice):
    lanes: float = 1.0


class WithoutDocs(Chip):
    device_model = Undocumented


class OtherName(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        return replace(super().machine(device), name="another")


class Scalar(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        table = super().machine(device)
        power = replace(table.power, numbers={"static_w": device.idle_w.astype(np.float32)})
        return replace(table, power=power)


class OneForAll(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        first = np.full(device.length, device.size_bytes[0])
        return super().machine(View(device.template, device.length, {"size_bytes": first}))


class Idle(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        return sample_machine(name=device.template.name, backend=self.name, length=device.length)


class Counting(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        self.calls = getattr(self, "calls", 0) + 1
        return super().machine(device)


class Flattering(Chip):
    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        costs = cost_rows(request)
        return replace(
            costs,
            compute_s={name: values * 1e-6 for name, values in costs.compute_s.items()},
            level_s={name: values * 1e-6 for name, values in costs.level_s.items()},
            fixed_s=costs.fixed_s * 0,
        )


class Inventing(Chip):
    def cost_rows(self, request: RowRequest) -> RowCosts | None:
        costs = cost_rows(request)
        return replace(costs, level_s={"warp drive": costs.fixed_s})


class Crashing(Chip):
    def machine(self, device: View[ChipDevice]) -> MachineTable:
        if device.idle_w is None:
            raise AssertionError("no idle power")
        return super().machine(device)


def test_a_back_end_that_keeps_its_contract_passes_every_check() -> None:
    for check in backend.BACKEND_CHECKS:
        check(BackendCase(Chip(), DEVICE))


@pytest.mark.parametrize(
    ("kind", "check", "message"),
    [
        (WithoutDocs, backend.check_class_describes_itself, "no string under lanes"),
        (OtherName, backend.check_machine_is_valid, "called 'another'"),
        (Scalar, backend.check_arrays_are_contiguous, "power.static_w is float32"),
        (OneForAll, backend.check_batch_equals_singles, "size_bytes differs between the batch"),
        (Idle, backend.check_every_number_matters, "idle_w, size_bytes changes no device"),
        (Counting, backend.check_holds_no_state, "holds calls"),
        (Flattering, backend.check_no_gemm_beats_the_peak, "at the machine's own peak"),
        (Inventing, backend.check_costs_are_physical, "no part 'warp drive'"),
        (Crashing, backend.check_unknown_numbers_are_handled, "idle power"),
    ],
)
def test_a_broken_back_end_is_found(kind: type[Chip], check: Check, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check(BackendCase(kind(), DEVICE))


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({}, "no source for size_bytes, idle_w"),
        ({"lanes": SOURCES["*"], "*": SOURCES["*"]}, "sources.lanes names no field"),
        ({"*": Provenance(source="made up", grade="sure")}, "grade is 'sure'"),
    ],
)
def test_numbers_without_provenance_are_found(
    sources: Mapping[str, Provenance], message: str
) -> None:
    device = ChipDevice(name="c1", size_bytes=2e9, idle_w=4.0, sources=dict(sources))

    with pytest.raises(NonConformanceError, match=message):
        backend.check_numbers_have_provenance(BackendCase(Chip(), device))


class Alone(Partitioner):
    """A partitioner that keeps its contract."""

    name = "alone"
    about = "A partitioner for tests"

    def partition(self, request: PartitionRequest) -> Plan:
        plan = sample_plan(request.workload, system=request.system.name, backend=request.backend)
        return plan.replace(partitioner=self.name, notes=("runs on one device",))


class Forgetful(Alone):
    def partition(self, request: PartitionRequest) -> Plan:
        plan = super().partition(request)
        stage = plan.stages[0]
        return plan.replace(stages=(stage.replace(placements=stage.placements[1:]),))


class Greedy(Alone):
    def partition(self, request: PartitionRequest) -> Plan:
        plan = super().partition(request)
        return plan.replace(stages=(plan.stages[0].replace(devices=64),))


class Fickle(Alone):
    calls: ClassVar[list[int]] = []

    def partition(self, request: PartitionRequest) -> Plan:
        self.calls.append(1)
        return super().partition(request).replace(notes=(f"call {len(self.calls)}",))


class Silent(Alone):
    def partition(self, request: PartitionRequest) -> Plan:
        return super().partition(request).replace(notes=())


class Repeating(Alone):
    def candidates(self, request: PartitionRequest) -> Iterator[Plan]:
        yield from (self.partition(request), self.partition(request))


class Misnamed(Alone):
    def partition(self, request: PartitionRequest) -> Plan:
        return super().partition(request).replace(system="elsewhere")


def test_a_partitioner_that_keeps_its_contract_passes_every_check() -> None:
    for check in partitioner.PARTITIONER_CHECKS:
        check(PartitionerCase(Alone(), sample_request(devices=2)))


@pytest.mark.parametrize(
    ("kind", "check", "message"),
    [
        (Forgetful, partitioner.check_every_operator_is_placed_once, "runs 0 times"),
        (Forgetful, partitioner.check_plan_can_be_lowered, "runs 0 times"),
        (Greedy, partitioner.check_plan_fits_the_system, "reserves 64 of 2 devices"),
        (Fickle, partitioner.check_equal_requests_give_equal_plans, "another plan"),
        (Silent, partitioner.check_too_large_a_degree_is_an_error, "without a word"),
        (Repeating, partitioner.check_candidates_are_valid_plans, "1 candidates are repeated"),
        (Misnamed, partitioner.check_plan_names_its_origin, "elsewhere"),
    ],
)
def test_a_broken_partitioner_is_found(kind: type[Alone], check: Check, message: str) -> None:
    with pytest.raises(Exception, match=message):
        check(PartitionerCase(kind(), sample_request(devices=2)))


def test_a_workload_family_that_keeps_its_contract_passes_every_check(fakes: Any) -> None:
    for check in workload_family.WORKLOAD_FAMILY_CHECKS:
        check(WorkloadFamilyCase(fakes.family(), {"model_type": "fake", "layers": 3}))


def test_a_broken_workload_family_is_found(fakes: Any) -> None:
    config = {"model_type": "fake", "layers": 3}

    class Crashing(fakes.family):  # type: ignore[misc]  # the base is a fixture
        def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
            config["layers"] + 0
            return super().import_workload(config, name=name, where=where)  # type: ignore[no-any-return]  # as above

    class Greedy(fakes.family):  # type: ignore[misc]  # the base is a fixture
        def import_workload(self, config: Any, *, name: str, where: str) -> Workload:
            found = super().import_workload(config, name=name, where=where)
            config.pop("model_type", None)
            return found  # type: ignore[no-any-return]  # as above

    class Anonymous(fakes.family):  # type: ignore[misc]  # the base is a fixture
        def import_workload(self, config: Any, *, name: str, where: str) -> Workload:
            return super().import_workload(config, name="x", where=where)  # type: ignore[no-any-return]  # as above

    with pytest.raises(KeyError):
        workload_family.check_a_missing_field_is_named(WorkloadFamilyCase(Crashing(), config))
    with pytest.raises(TypeError):
        workload_family.check_a_wrong_value_is_refused(WorkloadFamilyCase(Crashing(), config))
    with pytest.raises(NonConformanceError, match="was changed"):
        workload_family.check_configuration_is_left_alone(WorkloadFamilyCase(Greedy(), config))
    with pytest.raises(NonConformanceError, match="The workload says"):
        workload_family.check_workload_names_its_origin(WorkloadFamilyCase(Anonymous(), config))


def _passes(case: object) -> None:
    """Pass."""


def _fails(case: object) -> None:
    """Fail."""
    raise NonConformanceError("broken")


def _class(expected: Mapping[str, str]) -> Conformance:
    return type(
        "Kit", (Conformance,), {"checks": (_passes, _fails), "expected_failures": expected}
    )()  # type: ignore[no-any-return]  # a class made here


def test_an_expected_failure_is_an_xfail_and_strict() -> None:
    kit = _class({"_passes": "was broken once", "_fails": "lumped"})

    with pytest.raises(pytest.xfail.Exception, match=r"lumped \(NonConformanceError: broken\)"):
        kit.run(_fails, [1])
    with pytest.raises(NonConformanceError, match="_passes passes"):
        kit.run(_passes, [1])


def test_an_unexpected_failure_is_raised_and_no_case_is_a_failure() -> None:
    kit = _class({})

    with pytest.raises(NonConformanceError, match="broken"):
        kit.run(_fails, [1])
    with pytest.raises(NonConformanceError, match="nothing to run _passes on"):
        kit.run(_passes, [])
    kit.run(_passes, [1])


def test_expected_failures_name_checks_and_give_reasons() -> None:
    with pytest.raises(NonConformanceError, match="No check is called 'check_of_yesterday'"):
        _class({"check_of_yesterday": "gone"}).test_expected_failures_are_checks()
    with pytest.raises(NonConformanceError, match="no reason"):
        _class({"_fails": " "}).test_expected_failures_are_checks()


def test_a_back_end_without_devices_is_not_conforming() -> None:
    with pytest.raises(NonConformanceError, match="nothing to run"):
        BackendConformance().test_conforms(_passes, Chip(), [])
