"""Machines with three buffers, and GEMMs mapped for other objectives than time."""

from typing import Any

import numpy as np
import pytest

from pentarch.errors import InputError
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Scope
from pentarch.mapping.arithmetic import resolve
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.cost_deep import add_deep, cost_gemm_for, software_buffers
from pentarch.mapping.cost_gemm import cost_gemm, gemm_groups, gemm_shape
from pentarch.mapping.costs import RowCosts

from .machines import PJ, array, cached_machine, gemms, level, machine, memory, request, vector


def three_buffers(length: int = 1, **inner: Any) -> MachineTable:
    """Return memory -> 4 KiB -> 1 KiB of a cluster -> 256 B of a unit -> one array."""
    own = {"scope": Scope.UNIT, "size_bytes": 256.0, "read_bytes_per_s": 1e11, **inner}
    return machine(
        length,
        levels=(
            memory(length), level("outer", length),
            level("middle", length, scope=Scope.CLUSTER, size_bytes=1024.0,
                  read_bytes_per_s=64e9, read_j_per_byte=PJ, write_j_per_byte=PJ),
            level("own", length, **own),
        ),
        engines=(array(length, feeds_from="own"), vector(length, feeds_from="own")),
    )  # fmt: skip


def deep_costs(on: MachineTable, objective: str = "time", **row: float) -> RowCosts:
    asked = request(on, gemms(row))
    (group,) = gemm_groups(asked.rows)
    product = resolve(on, group.a_format, group.b_format)
    assert product is not None
    ledger = RowLedger(asked, count=1)
    shape = gemm_shape(asked.rows, group, asked.sequences)
    ledger.add_macs(group.picked, shape.macs, product)
    buffers = software_buffers(on, product)
    assert buffers is not None
    add_deep(ledger, asked, product, shape, buffers, objective)
    return ledger.costs()


def test_what_fits_the_innermost_buffer_passes_every_level_once() -> None:
    # 4 x 8 by 8 x 4: A and B are 64 B, sums 64 B, C 32 B. The array reads each operand once.
    costs = deep_costs(three_buffers(), rows=4.0, k=8.0, n=4.0)
    for name in ("outer", "middle"):
        assert costs.read_bytes[name].item() == 64 + 32
        assert costs.write_bytes[name].item() == 64 + 32
    assert costs.read_bytes["memory"].item() == 64
    assert costs.write_bytes["memory"].item() == 32
    assert costs.read_bytes["own"].item() == 64 + 32
    assert costs.write_bytes["own"].item() == 32 + 64
    assert costs.energy_j["middle"].item() == pytest.approx((96 + 96) * PJ)
    assert costs.level_s["outer"].item() == pytest.approx(192 / 32e9)
    assert costs.detail["mapping_gap"].item() == 0.0


def test_each_level_passes_on_what_the_next_one_takes() -> None:
    costs = deep_costs(three_buffers(), rows=90.0, k=70.0, n=110.0)
    fetched = costs.read_bytes["memory"] + costs.read_bytes["own"] * 0
    assert (costs.write_bytes["outer"] >= fetched).all()
    assert (costs.read_bytes["outer"] > costs.read_bytes["memory"]).all()
    assert (costs.read_bytes["middle"] > costs.read_bytes["outer"]).all()
    assert costs.fits.all()


def test_two_buffers_are_no_slower_than_by_the_route_of_their_own() -> None:
    inner = level("own", scope=Scope.UNIT, size_bytes=300.0, read_bytes_per_s=1e12)
    on = machine(
        levels=(memory(), level("buffer", buffering=Buffering.DOUBLE), inner),
        engines=(array(feeds_from="own"), vector()),
    )
    for row in ({"rows": 60.0, "k": 80.0, "n": 50.0}, {"rows": 1.0, "k": 300.0, "n": 200.0}):
        deep, own = deep_costs(on, **row), cost_gemm(request(on, gemms(row)))
        slowest = [max(values.item() for values in costs.level_s.values()) for costs in (deep, own)]
        assert 0.9 * slowest[1] <= slowest[0] <= slowest[1] * (1 + 1e-12)
        assert deep.compute_s["array"].item() == own.compute_s["array"].item()


def test_an_energy_objective_never_costs_more_energy_than_time_does() -> None:
    # Bytes of the innermost buffer are dear here, so that time and energy want different tiles.
    on = three_buffers(read_j_per_byte=40 * PJ, write_j_per_byte=40 * PJ)
    for row in ({"rows": 60.0, "k": 80.0, "n": 50.0}, {"rows": 33.0, "k": 200.0, "n": 9.0}):
        joules = {}
        for objective in ("time", "energy", "edp"):
            costs = cost_gemm_for(request(on, gemms(row)), objective)
            joules[objective] = sum(values.item() for values in costs.energy_j.values())
        assert joules["energy"] <= joules["edp"] * (1 + 1e-12)
        assert joules["energy"] <= joules["time"] * (1 + 1e-12)


def test_rows_of_a_batch_cost_what_they_cost_alone() -> None:
    rows = gemms({"rows": 50.0, "k": 40.0, "n": 30.0}, {"a_formats": "bf16", "b_formats": "bf16"})
    both = cost_gemm_for(request(three_buffers(3), rows), "time")
    one = cost_gemm_for(request(three_buffers(), rows), "time")
    for name, values in one.read_bytes.items():
        assert (both.read_bytes[name] == values).all()


def test_what_cannot_be_mapped_for_an_objective_is_said() -> None:
    asked = request(cached_machine(), gemms({"a_formats": "bf16", "b_formats": "bf16"}))
    with pytest.raises(InputError, match="not chosen by energy"):
        cost_gemm_for(asked, "energy")
    silent = three_buffers(read_j_per_byte=None)
    with pytest.raises(InputError, match="needs the energy of a byte at every level"):
        cost_gemm_for(request(silent, gemms({})), "energy")
    tiny = cost_gemm_for(request(three_buffers(size_bytes=5.0), gemms({})), "time")
    assert not tiny.fits.any()
    assert "own cannot hold the smallest tile" in tiny.notes[0]
    assert np.isfinite(tiny.read_bytes["memory"]).all()


def test_reserved_bytes_leave_less_room_for_tiles() -> None:
    row = gemms({"rows": 90.0, "k": 70.0, "n": 110.0})
    free = cost_gemm_for(request(three_buffers(), row), "time")
    less = cost_gemm_for(request(three_buffers(), row, reserved_bytes=np.array([3000.0])), "time")
    assert less.read_bytes["memory"].item() > free.read_bytes["memory"].item()


def test_a_narrow_weight_is_converted_and_a_strange_format_cannot_run() -> None:
    narrow = {"a_formats": "bf16", "b_formats": "int4_g128"}
    costs = cost_gemm_for(request(three_buffers(), gemms(narrow)), "time")
    assert costs.compute_s["vector"].item() == pytest.approx(16 * 12 / 8 * 1e-9)
    only = machine(engines=(array(macs_per_cycle={"fp8": 16.0}), vector()))
    refused = cost_gemm_for(request(only, gemms({"a_formats": "fp32"})), "time")
    assert not refused.fits.any()
