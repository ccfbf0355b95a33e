"""Conformance of partitioners, on a small transformer and systems of one to eight devices."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import pytest

from pentarch.contracts.partitioner import Partitioner, PartitionRequest
from pentarch.errors import InputError
from pentarch.graph.lowering import lower
from pentarch.plan.plan import Plan
from pentarch.testing.checks import (
    Conformance,
    check_describes_itself,
    check_is_stateless,
    require,
)
from pentarch.testing.samples import sample_request

CANDIDATES = 20
"""Candidates that the checks look at."""


@dataclass(frozen=True, slots=True)
class PartitionerCase:
    """A partitioner and a request for it."""

    partitioner: Partitioner
    """The partitioner under test."""
    request: PartitionRequest
    """What it is to partition."""

    def plan(self) -> Plan:
        """Return the preferred plan."""
        return self.partitioner.partition(self.request)


def check_class_describes_itself(case: PartitionerCase) -> None:
    """The class has a name and a line about itself."""
    check_describes_itself(case.partitioner, ("name", "about"))


def check_plan_names_its_origin(case: PartitionerCase) -> None:
    """A plan carries the names of workload, system, partitioner and back-end."""
    plan = case.plan()
    expected = (case.request.workload.name, case.request.system.name, case.partitioner.name)
    found = (plan.workload, plan.system, plan.partitioner)
    require(found == expected, f"The plan says {found}. Expected {expected}.")
    for stage in plan.stages:
        require(
            stage.backend == case.request.backend,
            f"A stage says back-end {stage.backend!r}. Expected {case.request.backend!r}.",
        )


def check_every_operator_is_placed_once(case: PartitionerCase) -> None:
    """All stages together run every operator as often as the graph has it."""
    for plan in _plans(case):
        placed = dict.fromkeys((operator.name for operator in case.request.graphs[0].operators), 0)
        for stage in plan.stages:
            for placement in stage.placements:
                require(
                    placement.operator in placed, f"There is no operator {placement.operator!r}."
                )
                placed[placement.operator] += stage.copies * placement.repeat
        for operator in case.request.graphs[0].operators:
            require(
                placed[operator.name] == operator.repeat,
                f"{operator.name!r} runs {placed[operator.name]} times, not {operator.repeat}.",
            )


def check_plan_fits_the_system(case: PartitionerCase) -> None:
    """A plan reserves no more devices than the system has, and as many as its degrees say."""
    for plan in _plans(case):
        require(
            plan.devices <= case.request.system.devices,
            f"The plan reserves {plan.devices} of {case.request.system.devices} devices.",
        )
        require(
            plan.degrees.devices == plan.devices,
            f"The degrees ask for {plan.degrees.devices} devices, the stages for {plan.devices}.",
        )


def check_plan_can_be_lowered(case: PartitionerCase) -> None:
    """A plan lowers to an operator table whose work is that of the whole model."""
    request = case.request
    for plan in _plans(case):
        table = lower(
            request.workload, query=request.query, precisions=request.precisions, plan=plan
        )
        require(table.devices == plan.devices, f"{table.devices} devices after lowering.")
        macs = float((table.gemm.rows * table.gemm.k * table.gemm.n * table.gemm.executions).sum())
        require(macs > 0, "No GEMM is left after lowering.")


def check_equal_requests_give_equal_plans(case: PartitionerCase) -> None:
    """The same request gives the same plan, from this and from another instance."""
    plan = case.plan()
    require(case.plan() == plan, "The second call gave another plan.")
    fresh = type(case.partitioner)().partition(case.request)
    require(fresh == plan, "Another instance gave another plan.")
    check_is_stateless(case.partitioner)


def check_plan_survives_json(case: PartitionerCase) -> None:
    """A plan is the same after a round trip through JSON."""
    plan = case.plan()
    require(Plan.model_validate_json(plan.model_dump_json()) == plan, "The plan changed in JSON.")


def check_too_large_a_degree_is_an_error(case: PartitionerCase) -> None:
    """A degree beyond the system's devices is an input error, or a note says what was done."""
    devices = case.request.system.devices
    request = sample_request(devices=devices, degree=devices * 2)
    try:
        plan = case.partitioner.partition(request)
    except InputError:
        return
    require(
        plan.devices <= devices and bool(plan.notes),
        f"A degree of {devices * 2} on {devices} devices gave a plan without a word. Raise an "
        "InputError, or say in `notes` what was done instead.",
    )


def check_candidates_are_valid_plans(case: PartitionerCase) -> None:
    """There is at least one candidate, and no two are equal."""
    found = list(islice(case.partitioner.candidates(case.request), CANDIDATES))
    require(bool(found), "candidates() yields nothing.")
    unique = {plan.model_dump_json() for plan in found}
    require(len(unique) == len(found), f"{len(found) - len(unique)} candidates are repeated.")


def _accepts(case: PartitionerCase) -> bool:
    """Return whether the system suits the partitioner; an input error says that it does not."""
    try:
        case.plan()
    except InputError:
        return False
    return True


def _plans(case: PartitionerCase) -> list[Plan]:
    return [case.plan(), *islice(case.partitioner.candidates(case.request), CANDIDATES)]


PARTITIONER_CHECKS: tuple[Callable[[PartitionerCase], None], ...] = (
    check_class_describes_itself,
    check_plan_names_its_origin,
    check_every_operator_is_placed_once,
    check_plan_fits_the_system,
    check_plan_can_be_lowered,
    check_equal_requests_give_equal_plans,
    check_plan_survives_json,
    check_too_large_a_degree_is_an_error,
    check_candidates_are_valid_plans,
)
"""All checks of a partitioner."""


class PartitionerConformance(Conformance):
    """Holds a partitioner against its contract; the subclass gives a fixture `partitioner`."""

    checks = PARTITIONER_CHECKS

    @pytest.fixture
    def partitioner(self) -> Partitioner:
        """Return the partitioner under test."""
        pytest.fail(f"{type(self).__name__} needs a fixture `partitioner`.")

    @pytest.fixture
    def requests(self) -> Sequence[PartitionRequest]:
        """Return the requests to run the checks on: one to eight devices, dense and experts."""
        return [
            *(sample_request(devices=devices) for devices in (1, 2, 4, 8)),
            sample_request(devices=4, experts=4),
        ]

    @pytest.mark.parametrize("check", PARTITIONER_CHECKS, ids=lambda check: check.__name__)
    def test_conforms(
        self,
        check: Callable[[PartitionerCase], None],
        partitioner: Partitioner,
        requests: Sequence[PartitionRequest],
    ) -> None:
        """The partitioner keeps one part of its contract on all requests that it accepts."""
        cases = [PartitionerCase(partitioner, request) for request in requests]
        self.run(check, [case for case in cases if _accepts(case)])
