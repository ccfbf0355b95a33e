import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import array, level, link, machine, memory, vector

from pentarch.errors import FieldError
from pentarch.hardware.columns import columns
from pentarch.hardware.machine import MachineRecord, MachineTable, peak_macs_per_s
from pentarch.hardware.parts import (
    Area,
    Engine,
    EngineKind,
    Extra,
    Level,
    Link,
    Power,
    Program,
    Scope,
)


def full(length: int = 2) -> MachineTable:
    """Return a machine with every part."""
    on = machine(length, links=(link(length=length),))
    return replace(
        on,
        area=columns(Area, length, parts_mm2={"die": np.arange(1.0, length + 1)}),
        program=columns(Program, length, primitives={"gemm": 1e9}),
        power=columns(Power, length, static_w=2.0, cap_w=np.arange(10.0, 10 + length)),
    )


def test_a_sound_machine_passes() -> None:
    full().check()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": (memory(2), level("memory", 2))}, "names repeat: memory"),
        ({"engines": (array(2, name="buffer"),)}, "names repeat: buffer"),
        ({"links": (link("vector", 2),)}, "names repeat: vector"),
        ({"engines": (array(2, feeds_from="bufer"),)}, r"engines\.array\.feeds_from: there is no level 'bufer'"),
        ({"links": (link(length=3),)}, r"links\.link: has 3 designs. Expected 2"),
        ({"levels": (memory(2), level("buffer", 2, size_bytes=np.array([1.0, -1.0])))},
         r"machine made-up \(hand\), levels\.buffer: size_bytes: design 1"),
        ({"levels": (memory(2, scope=Scope.DIE), level("buffer", 2, scope=Scope.BOARD))},
         r"levels\.buffer\.scope: board is wider than die of memory. Expected the widest scope first"),
        ({"links": (link("network", 2, scope=Scope.SYSTEM), link("board", 2))},
         r"links\.network\.scope: system is wider than device of board. Expected the narrowest"),
        ({"power": columns(Power, 2, static_w=float("nan"))}, r"power: static_w: design 0 has .*nan"),
    ],
)  # fmt: skip
def test_check_names_what_is_wrong_and_where(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FieldError, match=message):
        replace(full(), **changes).check()


def test_a_record_survives_json() -> None:
    record = full().record(1)
    assert record.area is not None
    assert record.area.parts_mm2 == {"die": 2.0}
    assert record.power.cap_w == 11
    assert MachineRecord.model_validate_json(record.model_dump_json()) == record
    assert json.loads(record.model_dump_json())["budget"] is None


def test_equal_structures_are_equal_and_hash_alike_whatever_the_numbers() -> None:
    first, second = full(2).structure, full(3).structure
    assert first == second
    assert len({first, second}) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"engines": (array(2, feeds_from="memory"), vector(2))},
        {"engines": (array(2, macs_per_cycle={"fp8": 1.0}), vector(2))},
        {"power": columns(Power, 2, static_w=None, cap_w=1.0)},
        {"links": ()},
        {"area": None},
    ],
    ids=["another field", "other formats", "an unknown number", "no link", "no area"],
)
def test_structures_differ_where_designs_cannot_share_a_batch(changes: dict[str, Any]) -> None:
    assert replace(full(), **changes).structure != full().structure


def test_peak_sums_the_matrix_engines_of_a_format() -> None:
    second = array(name="second", macs_per_cycle={"fp8": 4.0}, units=3.0)
    on = machine(engines=(array(), second, vector(macs_per_cycle={"fp8": 99.0})))
    peak = peak_macs_per_s(on, "fp8")
    assert peak is not None
    assert peak.item() == (16 + 3 * 4) * 1e9
    assert peak_macs_per_s(on, "fp32") is None


def test_extra_figures_travel_with_the_machine_and_are_checked() -> None:
    adc_j = np.array([1e-12, 2e-12])
    on = replace(full(), extra=columns(Extra, 2, figures={"adc_j": adc_j}))
    on.check()
    assert on.extra is not None
    assert on.extra.figures["adc_j"].tolist() == adc_j.tolist()
    assert on.record(1).extra == Extra(figures={"adc_j": 2e-12})
    assert on.structure != full().structure
    wrong = replace(full(), extra=columns(Extra, 2, figures={"adc_j": [1.0, float("nan")]}))
    with pytest.raises(FieldError, match=r"extra: figures\.adc_j: design 1"):
        wrong.check()


def test_levels_and_engines_are_found_by_name_and_kind() -> None:
    on = full()
    assert on.level_index("buffer") == 1
    assert [engine.name for engine in on.engines_of(EngineKind.VECTOR)] == ["vector"]


def test_records_need_a_level_and_an_engine() -> None:
    one = Level(name="l", scope=Scope.DIE, size_bytes=1, read_bytes_per_s=1)
    other = Engine(name="e", kind=EngineKind.MATRIX, feeds_from="l", units=1, clock_hz=1)
    assert MachineRecord(name="m", backend="b", levels=(one,), engines=(other,)).links == ()
    with pytest.raises(ValueError, match="levels"):
        MachineRecord(name="m", backend="b", levels=(), engines=(other,))
    assert Link.model_fields["degree"].is_required()


def test_a_changed_machine_forgets_what_followed_from_the_old_one() -> None:
    first = full()
    assert first.derived.once("static", lambda: 1.0) == 1.0
    assert replace(first, name="other").derived.once("static", lambda: 2.0) == 2.0
    assert first.derived.once("static", lambda: 3.0) == 1.0
