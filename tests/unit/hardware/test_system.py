"""Systems: what their boards do to the links of a machine."""

import pytest
from tests.unit.mapping.machines import link, machine

from pentarch.hardware.system import System, on_boards

WIRED = machine(2, links=(link(length=2), link("network", 2, degree=64.0)))


@pytest.mark.parametrize(("per_board", "joined"), [(None, 8), (4, 4), (8, 8), (16, 8)])
def test_a_board_joins_its_devices_as_far_as_the_link_reaches(
    per_board: int | None, joined: int
) -> None:
    system = System(name="boxes", device="made-up", devices=64, devices_per_board=per_board)
    found = on_boards(WIRED, system)

    assert [part.degree.tolist() for part in found.links] == [[joined] * 2, [64] * 2]
    assert [part.degree.tolist() for part in WIRED.links] == [[8] * 2, [64] * 2]


def test_a_device_without_links_has_none_on_a_board() -> None:
    system = System(name="boxes", device="made-up", devices=2, devices_per_board=2)
    assert on_boards(machine(), system).links == ()
