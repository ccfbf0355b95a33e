"""Power at full load on a made-up machine, against arithmetic by hand."""

from typing import Any, ClassVar

import pytest
from tests.unit.mapping.machines import IDEAL, array, cached_machine, machine

from pentarch.contracts.backend import Backend
from pentarch.errors import FieldError, MissingFigureError
from pentarch.evaluate.full_load import SIDE, full_load
from pentarch.hardware.columns import columns
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Power
from pentarch.hardware.view import View

CAP = {
    "cap_w": 50.0,
    "static_w": 10.0,
    "nominal_v": 0.75,
    "min_v": 0.6,
    "threshold_v": 0.3,
    "alpha": 1.3,
}


class Hand(Backend[Device]):
    """Machines written by hand, costed by the engine."""

    name: ClassVar[str] = "hand"
    about = "Machines written by hand"
    device_model: ClassVar[type[Device]] = Device

    def machine(self, device: View[Device]) -> MachineTable:
        raise NotImplementedError


def gpu(power: dict[str, Any] | None = None, **engine: Any) -> MachineTable:
    """Return 16 units of 256 MACs a cycle: 4.096e12 MACs a second, 1 pJ each."""
    made = cached_machine(**engine)
    return MachineTable(
        **{name: getattr(made, name) for name in MachineTable.__dataclass_fields__ if name != "power"
           and MachineTable.__dataclass_fields__[name].init},
        power=columns(Power, 1, **{**CAP, **(power or {})}),
    )  # fmt: skip


def test_without_a_binding_cap_power_is_static_plus_energy_over_time() -> None:
    load = full_load(gpu(), Hand(), IDEAL, "bf16")
    seconds = 2.0 * SIDE**3 / load.flops_per_s
    scale = load.peak_flops_per_s / (2.0 * SIDE**3)  # of the joules of the product at peak
    joules = sum(watts for name, watts in load.free_w.items() if name != "static") / scale
    assert load.power_w == pytest.approx(10.0 + joules / seconds)
    assert load.power_w < load.cap_w
    assert load.peak_flops_per_s == 2 * 16 * 256 * 1e9
    assert load.free_w["array"] == pytest.approx(16 * 256 * 1e9 * 1e-12)  # 1 pJ per MAC at peak
    assert load.datasheet_w_per_pflops == pytest.approx(50.0 / 8.192e12 * 1e15)
    assert load.w_per_pflops == pytest.approx(load.power_w / load.flops_per_s * 1e15)


def test_a_binding_cap_is_drawn_in_full_at_a_lower_clock() -> None:
    free = full_load(gpu(), Hand(), IDEAL, "bf16")
    hot = full_load(gpu(mac_j={"bf16": 20e-12}), Hand(), IDEAL, "bf16")
    assert sum(hot.free_w.values()) > hot.cap_w
    assert hot.power_w == hot.cap_w
    assert hot.flops_per_s < free.flops_per_s
    # At a lower supply each operation costs less than at peak: V squared.
    assert hot.w_per_pflops < hot.free_w_per_pflops * free.peak_flops_per_s / free.flops_per_s


@pytest.mark.parametrize("power", [{"cap_w": None}, {"static_w": None}])
def test_an_unknown_limit_is_named(power: dict[str, Any]) -> None:
    with pytest.raises(MissingFigureError, match="power limit or static power of made-up"):
        full_load(gpu(power), Hand(), IDEAL, "bf16")


def test_an_unknown_energy_is_named() -> None:
    with pytest.raises(MissingFigureError, match="energy of array of made-up"):
        full_load(gpu(mac_j=None), Hand(), IDEAL, "bf16")


def test_a_format_without_an_engine_is_refused_with_those_there_are() -> None:
    with pytest.raises(FieldError, match="one of bf16, fp8"):
        full_load(machine(engines=(array(),)), Hand(), IDEAL, "int4")
