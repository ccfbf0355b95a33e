"""Plans: how many devices they reserve, and what cannot be a plan."""

import pytest

from pentarch.errors import FieldError
from pentarch.graph.operators import Split
from pentarch.model import load
from pentarch.plan.plan import Degrees, Placement, Plan, Stage


def stage(devices: int, copies: int = 1) -> Stage:
    placement = Placement(operator="lm_head", repeat=1, cut=Split.COLUMNS, ways=devices)
    return Stage(backend="b", device="d", devices=devices, copies=copies, placements=(placement,))


def plan(*stages: Stage, **degrees: int) -> Plan:
    return Plan(
        workload="w", system="s", partitioner="p", degrees=Degrees(**degrees), stages=stages
    )


def test_devices_of_degrees_share_experts_with_the_tensor_group() -> None:
    assert Degrees().devices == 1
    assert Degrees(tensor=4, pipeline=3, expert=4, data=2).devices == 4 * 3 * 2


def test_a_plan_reserves_all_copies_of_all_stages_for_each_replica() -> None:
    # Two replicas of three stages of four devices and one of two
    assert plan(stage(4, copies=3), stage(2), data=2).devices == 2 * (3 * 4 + 2)
    assert plan(stage(1)).devices == 1


def test_a_plan_survives_json() -> None:
    found = plan(stage(4, copies=3), data=2)
    assert Plan.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"stages": ()}, "stages"),
        ({"degrees": {"tensor": 0}}, "degrees.tensor"),
        ({"kind": 1}, "kind"),
    ],
)
def test_impossible_plans_are_refused(changes: dict[str, object], path: str) -> None:
    with pytest.raises(FieldError, match=path):
        load(Plan, {**dict(plan(stage(1))), **changes}, where="plan")
