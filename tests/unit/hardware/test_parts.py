import pytest
from pydantic import ValidationError

from pentarch.hardware.parts import (
    Area,
    Budget,
    Cost,
    Engine,
    EngineKind,
    Level,
    Link,
    Overhead,
    Power,
    Program,
    Scope,
)

PARTS = (Level, Engine, Link, Overhead, Power, Area, Cost, Program, Budget)


@pytest.mark.parametrize("part", PARTS)
def test_every_field_says_what_it_means(part: type[Level]) -> None:
    undescribed = [name for name, info in part.model_fields.items() if not info.description]
    assert undescribed == []


def test_what_is_unknown_stays_unknown_by_default() -> None:
    level = Level(name="l", scope=Scope.DIE, size_bytes=1, read_bytes_per_s=1)
    engine = Engine(name="e", kind=EngineKind.MATRIX, feeds_from="l", units=1, clock_hz=1)
    unknown = (
        level.read_j_per_byte, level.write_j_per_byte, engine.mac_j, engine.value_j, Power().static_w,
        Power().cap_w, Cost().parts_usd, Cost().price_usd, Cost().nre_usd, Program(primitives={}).update_s,
    )  # fmt: skip
    assert unknown == (None,) * 10


@pytest.mark.parametrize(
    "build",
    [
        lambda: Overhead(overlap=0.5),
        lambda: Level(name="l", scope=Scope.DIE, size_bytes=0, read_bytes_per_s=1),
        lambda: Level(name="l", scope=Scope.DIE, size_bytes=1, read_bytes_per_s=1, usable=1.1),
        lambda: Engine(name="e", kind=EngineKind.VECTOR, feeds_from="l", units=1, clock_hz=1, issue_efficiency=0),
        lambda: Link(name="x", scope=Scope.DEVICE, degree=0, bytes_per_s=1, latency_s=0),
        lambda: Area(parts_mm2={"die": -1}),
        lambda: Level(name="l", scope=Scope.DIE, size_bytes=1, read_bytes_per_s=float("inf")),
    ],
    ids=["overlap", "size", "share", "efficiency", "degree", "area", "infinite"],
)  # fmt: skip
def test_values_without_a_meaning_are_refused(build: object) -> None:
    with pytest.raises(ValidationError):
        build()  # type: ignore[operator]
