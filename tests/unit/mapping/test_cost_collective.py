import numpy as np
import pytest
from tests.unit.mapping.machines import PJ, collectives, gemms, link, machine, request

from pentarch.hardware.parts import Topology
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.cost_collective import cost_collective

RING = link(topology=Topology.RING)


def test_a_ring_all_reduce_of_all_sequences_as_worked_out_on_paper() -> None:
    costs = cost_collective(request(machine(links=(RING,)), collectives({}), sequences=4.0))
    # 4000 bytes among 8: 14 steps of 500 bytes at 1 GB/s and 1 us; 7 pJ a byte
    assert costs.compute_s["link"].item() == pytest.approx(14 * (500e-9 + 1e-6))
    assert costs.detail["sent_bytes"].item() == 14 * 500
    assert costs.energy_j["link"].item() == pytest.approx(14 * 500 * 7 * PJ)
    assert costs.fixed_s.item() == 0


def test_the_stack_starts_only_what_moves_something() -> None:
    slow = Runtime(name="slow", collective_start_s=3e-6)
    rows = collectives({}, {"degree": 1.0}, {"bytes": 0.0})
    costs = cost_collective(request(machine(links=(RING,)), rows, runtime=slow))
    assert costs.fixed_s[:, 0].tolist() == [3e-6, 0, 0]
    assert costs.compute_s["link"][1:, 0].tolist() == [0, 0]
    assert costs.fits.all()


def test_one_device_needs_no_link() -> None:
    costs = cost_collective(request(machine(), collectives({"degree": 1.0})))
    assert costs.fits.all()
    assert costs.compute_s == {}


def test_a_group_beyond_every_link_cannot_run() -> None:
    rows = collectives({"degree": 9.0}, {"degree": 8.0})
    costs = cost_collective(request(machine(links=(RING,)), rows))
    assert costs.fits[:, 0].tolist() == [False, True]
    assert costs.notes == ("no link of made-up joins 9 devices",)


def test_each_design_takes_its_own_link() -> None:
    board = link("board", 3, degree=np.array([2.0, 4.0, 8.0]), topology=Topology.RING)
    rack = link("rack", 3, degree=2.0, bytes_per_s=1e8, topology=Topology.RING)
    costs = cost_collective(request(machine(3, links=(board, rack)), collectives({})))
    assert costs.fits.tolist() == [[False, True, True]]
    assert costs.compute_s["board"][0].tolist() == pytest.approx([0, 0, 14 * (125e-9 + 1e-6)])
    assert costs.compute_s["rack"][0].tolist() == pytest.approx([0, 14 * (1250e-9 + 1e-6), 0])


def test_an_unknown_link_energy_stays_unknown() -> None:
    silent = link(j_per_byte=None)
    costs = cost_collective(request(machine(links=(silent,)), collectives({})))
    assert costs.energy_j["link"] is None


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="collective rows expected"):
        cost_collective(request(machine(), gemms({})))
