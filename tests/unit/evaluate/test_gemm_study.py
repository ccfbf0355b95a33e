from typing import ClassVar

import numpy as np
import pytest

from pentarch.contracts.backend import Backend
from pentarch.errors import InputError
from pentarch.evaluate.gemm_study import (
    GemmStudy,
    loop_nest,
    study_behind_buffer,
    study_on_device,
)
from pentarch.hardware.columns import columns
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import (
    Cost,
    Engine,
    EngineKind,
    Level,
    Management,
    Overhead,
    Power,
    Scope,
)
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.view import View
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.engine import cost_rows
from pentarch.mapping.gemm import GemmRows, map_gemms_one_level
from pentarch.mapping.single import GemmShape, map_gemm
from pentarch.results import Infeasible

SHAPE = GemmShape(2048, 12288, 12288)
"""One byte a word."""


def study(shape: GemmShape, buffer_bytes: float, *, perfect: bool = False) -> GemmStudy:
    found = study_behind_buffer(shape, buffer_bytes, perfect=perfect)
    assert isinstance(found, GemmStudy)
    return found


def test_prefill_gemm_behind_two_mebibytes() -> None:
    # Figures of `mapper_oracle.csv`, row g00, found by exhaustive search.
    assert study(SHAPE, 2**21).traffic_bytes == 503_316_480
    assert study(SHAPE, 2**21, perfect=True).traffic_bytes == 528_482_304


def test_operands_sum_to_the_traffic() -> None:
    found = study(GemmShape(100, 77, 131), 1000)
    assert sum(value or 0.0 for value in found.traffic.values()) == found.traffic_bytes == 81861
    assert found.gap == pytest.approx(81861 / found.bound_bytes - 1)


def test_the_next_step_moves_less_and_one_byte_less_of_buffer_does_not() -> None:
    found = study(GemmShape(100, 77, 131), 1000)
    assert found.next_capacity_bytes is not None
    assert found.next_traffic_bytes is not None
    at_step = map_gemm(GemmShape(100, 77, 131), found.next_capacity_bytes)
    before = map_gemm(GemmShape(100, 77, 131), found.next_capacity_bytes - 1)
    assert at_step is not None
    assert before is not None
    assert at_step.traffic_bytes == found.next_traffic_bytes < found.traffic_bytes
    assert before.traffic_bytes == found.traffic_bytes


def test_a_buffer_that_holds_everything_has_no_next_step() -> None:
    found = study(GemmShape(8, 8, 8), 1000)
    assert found.gap == 0.0
    assert found.next_capacity_bytes is None


def test_a_buffer_too_small_is_an_answer() -> None:
    found = study_behind_buffer(GemmShape(8, 8, 8), 2)
    assert isinstance(found, Infeasible)
    assert "1 + 1 + 1 bytes = 3" in found.reason
    assert found.short_bytes == 1.0
    twice = study_behind_buffer(GemmShape(8, 8, 8), 4, convention="even_db")
    assert isinstance(twice, Infeasible)
    assert twice.short_bytes == 2.0  # 2 x 3 - 4


def test_the_loop_nest_shows_order_and_tiles() -> None:
    text = loop_nest(study(GemmShape(100, 77, 131), 1000))
    assert [line.split()[1] for line in text.splitlines() if "for" in line] == list("mnk")
    assert "C[34, 27]" in text


class LadderDevice(Device):
    """A chip with buffers of these sizes."""

    sizes: tuple[float, ...] = ()
    """Outermost first."""
    byte_j: float | None = 1.0
    """Energy of a byte in memory; a tenth of it per level inwards."""
    cache: bool = False
    """Whether hardware manages the outermost buffer."""


class LadderBackend(Backend[LadderDevice]):
    """Memory at 1 GB/s and buffers that are five times as fast per level."""

    name: ClassVar[str] = "ladder"
    about = "Buffers of any number"
    device_model: ClassVar[type[LadderDevice]] = LadderDevice

    def machine(self, device: View[LadderDevice]) -> MachineTable:
        given = device.template
        levels = [
            columns(
                Level, 1, name="memory" if at == 0 else f"L{at}", scope=Scope.DEVICE,
                size_bytes=size, read_bytes_per_s=1e9 * 5.0**at,
                read_j_per_byte=None if given.byte_j is None else given.byte_j / 10.0**at,
                management=Management.CACHE if given.cache and at == 1 else Management.SOFTWARE,
            )
            for at, size in enumerate((1e9, *given.sizes))
        ]  # fmt: skip
        array = columns(
            Engine, 1, name="array", kind=EngineKind.MATRIX, feeds_from=levels[-1].name, units=4.0,
            clock_hz=1e9, macs_per_cycle={"fp8": 256.0}, mac_j={"fp8": 1e-3},
            tile_menu=((64, 32, 16), (128, 64, 16)) if given.cache else None,
        )  # fmt: skip
        return MachineTable(
            name=given.name, backend=self.name, length=1, levels=tuple(levels), engines=(array,),
            links=(), overhead=columns(Overhead, 1), power=columns(Power, 1, static_w=1.0),
            area=None, cost=columns(Cost, 1), program=None, budget=None, provenance={},
        )  # fmt: skip


class OwnCosts(LadderBackend):
    """Costs its rows itself."""

    def cost_rows(self, request: RowRequest) -> RowCosts:
        return cost_rows(request)


def on_ladder(
    shape: tuple[int, int, int], *sizes: float, objective: str = "time",
    backend: type[LadderBackend] = LadderBackend, **fields: object,
) -> GemmStudy | Infeasible:  # fmt: skip
    device = LadderDevice(name="ladder", sizes=sizes, **fields)
    return study_on_device(
        shape, device, backend(), formats=("fp8", "fp8"), runtime=Runtime(name="ideal"),
        objective=objective,
    )  # fmt: skip


LADDERS = [(4000.0,), (30000.0, 2000.0), (30000.0, 6000.0, 700.0), (9e4, 3e4, 6000.0, 700.0)]


@pytest.mark.parametrize("objective", ["time", "energy", "edp"])
@pytest.mark.parametrize("sizes", LADDERS, ids=len)
def test_any_number_of_buffers_has_tiles_bounds_and_a_next_step(
    sizes: tuple[float, ...], objective: str
) -> None:
    found = on_ladder((350, 410, 290), *sizes, objective=objective)
    assert isinstance(found, GemmStudy)
    assert sum(found.traffic.values()) == pytest.approx(found.traffic_bytes, rel=1e-12)
    assert [level.name for level in found.levels] == [f"L{at + 1}" for at in range(len(sizes))]
    for level, size in zip(found.levels, sizes, strict=True):
        m, k, n = (level.tiles[name] for name in "mkn")
        assert m * k + k * n + 4 * m * n <= size  # sums are 4 bytes wide
    for outer, inner in zip(found.levels, found.levels[1:], strict=False):
        assert all(inner.tiles[name] <= outer.tiles[name] for name in "mkn")
    assert found.bound_bytes <= found.traffic_bytes
    assert 0 < found.bound_s <= found.time_s * (1 + 1e-12)
    assert found.time_gap == pytest.approx(found.time_s / found.bound_s - 1.0, abs=1e-12)
    text = loop_nest(found)
    assert text.count("for ") == 3 * len(sizes)
    assert text.index("L1: A[") == min(text.index(f"L{at + 1}: A[") for at in range(len(sizes)))
    # The next step of the outermost buffer, held against the optimum of one boundary
    one = np.ones(1)
    rows = GemmRows(350 * np.ones((1, 2)), 410 * one, 290 * one, one, one, one, 4 * one, 4 * one)
    at_step = np.array([found.next_capacity_bytes, found.next_capacity_bytes - 1.0])
    least = map_gemms_one_level(rows, at_step, False)
    moved = (least.memory_read_bytes + least.memory_write_bytes)[0]
    assert moved[0] == found.next_traffic_bytes < moved[1]


def test_each_objective_is_served() -> None:
    for sizes in LADDERS[1:]:
        found = {
            name: on_ladder((150, 210, 90), *sizes, objective=name) for name in ("time", "energy")
        }
        assert found["energy"].energy_j <= found["time"].energy_j * (1 + 1e-12)
        if len(sizes) > 2:  # the route of two buffers does not time the innermost one
            assert found["time"].time_s <= found["energy"].time_s * (1 + 1e-12)


def test_a_cache_shows_the_tile_of_the_menu_its_waves_and_split() -> None:
    found = on_ladder((512, 256, 512), 50000.0, 8000.0, cache=True)
    assert isinstance(found, GemmStudy)
    assert (found.tiles["m"], found.tiles["n"]) in {(64.0, 32.0), (128.0, 64.0)}
    tiles = np.ceil(512 / found.tiles["m"]) * np.ceil(512 / found.tiles["n"]) * found.split
    assert found.waves == np.ceil(tiles / 4)
    assert f"for wave in {found.waves:g}" in loop_nest(found)
    assert found.bound_bytes <= found.traffic_bytes
    assert found.next_capacity_bytes is None


def test_what_an_objective_cannot_choose_is_said() -> None:
    with pytest.raises(InputError, match="not chosen by energy"):
        on_ladder((8, 8, 8), 5000.0, 800.0, cache=True, objective="energy")
    with pytest.raises(InputError, match="costs GEMM rows itself"):
        on_ladder((8, 8, 8), 5000.0, backend=OwnCosts, objective="edp")
    with pytest.raises(InputError, match="energy of a byte at every level"):
        on_ladder((8, 8, 8), 5000.0, 800.0, byte_j=None, objective="energy")
    own = on_ladder((8, 8, 8), 5000.0, backend=OwnCosts)
    assert own.tiles is None
    assert loop_nest(own) == ""


def test_a_buffer_too_small_for_a_tile_is_an_answer_on_a_device_too() -> None:
    for sizes in ((3.0,), (50.0, 3.0), (90.0, 50.0, 3.0)):
        assert isinstance(on_ladder((8, 8, 8), *sizes), Infeasible)
