from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pentarch as pa
from pentarch.errors import FieldError
from pentarch.hardware import technology as tech
from pentarch.hardware.machine import MachineRecord, MachineTable
from pentarch.hardware.view import View
from pentarch.testing import BackendConformance
from pentarch_soc.backend import SocBackend
from pentarch_soc.device import Memory, Node, SocDevice


class TestSocConformance(BackendConformance):
    @pytest.fixture
    def backend(self) -> pa.AnyBackend:
        return SocBackend()


def soc(**changes: Any) -> SocDevice:
    values: dict[str, Any] = {
        "name": "hand", "volume": 1e5, "macs_per_pe": {"bf16": 1.0}, "arrays": 16, "array_rows": 64,
        "array_columns": 32, "register_bytes": 2**15, "sram_bytes": 2**25, "vector_lanes": 1024,
        "memory_interfaces": 8, "link": "ucie_standard", "link_ports": 2,
    }  # fmt: skip
    return SocDevice(**{**values, **changes})


def machine_of(device: SocDevice, **swept: Any) -> MachineTable:
    length = len(next(iter(swept.values()))) if swept else 1
    found = SocBackend().machine(
        View(
            device,
            length,
            {name: np.asarray(values, dtype=float) for name, values in swept.items()},
        )
    )
    found.check()
    return found


def total(parts: Any) -> Any:
    return np.sum(list(parts.values()), axis=0)


def area_mm2() -> dict[str, float]:
    """Return the area of `soc()` worked out by hand from the library's figures at N5."""
    logic = 91.2 / 138.2  # transistor density N7 / N5
    mac = 298e-6 * 1.8 * logic  # bf16 into fp32, registers and muxing
    arrays, lanes = mac * 64 * 32 * 16, 2 * mac * 1024
    return {
        "arrays": arrays, "vector unit": lanes, "control": 0.15 * (arrays + lanes),
        "scratchpad": 0.50 * 32, "array buffers": 0.50 * 16 * 32 / 1024,
        "memory interfaces": 2.4 / 2 * 8, "infrastructure": 18.3, "links": 0.754 * 2,
    }  # fmt: skip


def test_the_die_is_the_sum_of_its_parts_worked_out_by_hand() -> None:
    area = machine_of(soc()).area
    assert area is not None
    found = {name: values.item() for name, values in area.parts_mm2.items()}
    assert found == pytest.approx(area_mm2(), rel=1e-9)


def test_the_price_is_unit_cost_times_channel_plus_design_cost_by_volume() -> None:
    cost = machine_of(soc()).cost
    die_mm2 = sum(area_mm2().values())
    site = die_mm2 + 2 * 0.2 * die_mm2**0.5 + 0.2**2
    dies = np.pi * 145**2 / site - np.pi * 290 / (2 * site) ** 0.5
    works = (1 + die_mm2 / 100 * 0.11 / 10) ** -10
    die = 16988 / dies / works
    package = max(8.0, die_mm2 * (4 * 0.005 + 0.005))
    expected = {
        "die": 16988 / dies, "yield loss": die - 16988 / dies, "package": package,
        "memory": 8 * 8 * 5.0, "test": 0.05 * die,
        "assembly loss": (die + package) * (1 / 0.99 - 1),
    }  # fmt: skip
    assert cost.parts_usd is not None
    found = {name: values.item() for name, values in cost.parts_usd.items()}
    assert found == pytest.approx(expected, rel=1e-9)
    assert cost.price_usd.item() == pytest.approx(2.5 * sum(expected.values()) + 1.03e8 / 1e5)
    assert cost.nre_usd.item() == 1.03e8 / 1e5


def test_the_design_cost_follows_node_and_program() -> None:
    # IBS: 106, 298, 542 and 725 million USD at N16, N7, N5 and N2; N4 as N5, N3E between N5 and N2.
    share = {"n16": 106 / 542, "n7": 298 / 542, "n5": 1.0, "n4": 1.0, "n3e": (725 / 542) ** 0.5}
    assert set(share) == set(get_args(Node))
    for node, ratio in share.items():
        found = machine_of(soc(node=node)).cost
        assert found.nre_usd.item() == pytest.approx(1.03e8 * ratio / 1e5), node
    for program, usd in (("incumbent", 3e8), ("ibs", 5.42e8)):
        assert machine_of(soc(design_program=program)).cost.nre_usd.item() == usd / 1e5
    assert machine_of(soc(node="n7", nre_usd=5e7)).cost.nre_usd.item() == 500


def test_stacked_memory_is_lost_with_a_package_that_fails() -> None:
    cost = machine_of(soc(memory="hbm3", memory_interfaces=4)).cost
    parts = {name: values.item() for name, values in cost.parts_usd.items()}
    inside = parts["die"] + parts["yield loss"] + parts["package"] + parts["memory"]
    # one die and four stacks at 0.985 each
    assert parts["assembly loss"] == pytest.approx(inside * (0.985**-5 - 1))
    assert parts["test"] == 500


def test_a_die_beyond_the_reticle_is_priced_as_the_largest_die() -> None:
    found = machine_of(soc(), arrays=[16, 4000, 8000])
    assert found.area is not None
    die = total(found.area.parts_mm2)
    assert die[1] > found.area.reticle_mm2[1]
    assert np.isfinite(found.cost.price_usd).all()
    assert found.cost.parts_usd["die"][1] == found.cost.parts_usd["die"][2]


def test_peak_clock_and_ports_follow_the_design_by_hand() -> None:
    # At N5's nominal 0.75 V the clock is the one stated.
    found = machine_of(soc(voltage_v=0.75, clock_hz=2e9))
    arrays, lanes = found.engines
    peak = arrays.macs_per_cycle["bf16"] * arrays.units * arrays.clock_hz
    assert peak.item() == 64 * 32 * 16 * 2e9
    assert (lanes.units * lanes.clock_hz).item() == 1024 * 2e9
    memory, scratchpad, own = found.levels
    assert memory.read_bytes_per_s.item() == pytest.approx(8 * 17.07e9)
    assert memory.size_bytes.item() == pytest.approx(8 * 8e9)
    assert scratchpad.read_bytes_per_s.item() == 64 * 16 * 2e9
    assert own.read_bytes_per_s.item() == (64 + 32) * 2 * 2e9
    # a UCIe module of 128 GB/s counts both directions
    assert found.links[0].bytes_per_s.item() == 2 * 64e9


def test_a_pcie_link_takes_the_area_of_its_sixteen_lanes() -> None:
    area = machine_of(soc(link="pcie5", link_ports=1)).area
    assert area is not None
    # a lane: 0.64 mm2 and 5.37 million transistors at 138.2 million a mm2; 64 GB/s need 16 of them
    assert area.parts_mm2["links"].item() == pytest.approx(16 * (0.64 + 5.37 / 138.2))
    assert machine_of(soc(link="pcie5")).links[0].bytes_per_s.item() == 2 * 64e9


def test_active_and_idle_energy_of_a_busy_array_make_one_mac() -> None:
    found = machine_of(soc(voltage_v=0.75))
    formats = tech.MacFormats(a="bf16", b="bf16", accumulator="fp32")
    one = tech.mac_j(formats, "n5", overhead=tech.DynamicOverhead.SYSTOLIC)
    rate = 64 * 32 * 16 * 1e9
    leakage = tech.leakage_w(
        "n5", sram_bytes=2**25 + 16 * 2**15, voltage_v=0.75,
        logic_mm2=sum(area_mm2()[n] for n in ("arrays", "vector unit", "control", "infrastructure")),
    )  # fmt: skip
    clocked = found.power.static_w.item() - leakage
    busy = found.engines[0].mac_j["bf16"].item() * rate
    assert busy + clocked == pytest.approx(one * rate)
    assert 0 < clocked < busy


def test_supply_sets_clock_by_the_alpha_power_law_and_energy_by_its_square() -> None:
    volts = np.linspace(0.6, 0.95, 8)
    found = machine_of(soc(), voltage_v=volts)
    clock = 1e9 * ((volts - 0.3) ** 1.3 / volts) / ((0.75 - 0.3) ** 1.3 / 0.75)
    assert found.engines[0].clock_hz == pytest.approx(clock)
    energy = found.engines[0].mac_j["bf16"]
    assert energy / energy[0] == pytest.approx((volts / volts[0]) ** 2)
    assert (np.diff(found.power.static_w) > 0).all()
    assert found.levels[0].read_j_per_byte[0] == found.levels[0].read_j_per_byte[-1]


@pytest.mark.parametrize(
    "field", ["arrays", "array_rows", "array_columns", "sram_bytes", "register_bytes", "vector_lanes",
              "memory_interfaces", "link_ports"],
)  # fmt: skip
def test_more_of_anything_takes_more_area_and_costs_more(field: str) -> None:
    values = getattr(soc(), field) * np.array([1.0, 1.5, 2.0])
    found = machine_of(soc(), **{field: values})
    assert found.area is not None
    assert (np.diff(total(found.area.parts_mm2)) > 0).all()
    assert (np.diff(found.cost.price_usd) > 0).all()


def test_volume_spreads_the_design_cost() -> None:
    price = machine_of(soc(), volume=[1e4, 1e5, 1e6]).cost.price_usd
    assert price[0] - price[1] == pytest.approx(1.03e8 * (1e-4 - 1e-5))
    assert price[1] - price[2] == pytest.approx(1.03e8 * (1e-5 - 1e-6))


@pytest.mark.parametrize("node", get_args(Node))
@pytest.mark.parametrize("memory", get_args(Memory))
def test_every_node_and_memory_on_offer_gives_a_whole_machine(node: str, memory: str) -> None:
    found = machine_of(soc(node=node, memory=memory))
    assert found.cost.price_usd.item() > 0
    assert found.levels[0].read_j_per_byte.item() > 0
    assert MachineRecord.model_validate_json(found.record(0).model_dump_json()) == found.record(0)


def test_a_narrow_node_is_smaller_and_takes_less_energy() -> None:
    area, energy = [], []
    for node in ("n16", "n7", "n5", "n3e"):
        found = machine_of(soc(node=node))
        assert found.area is not None
        area.append(found.area.parts_mm2["arrays"].item())
        # supplies differ: the energy at each node's own nominal supply is what falls
        energy.append(found.engines[0].mac_j["bf16"].item() / found.power.nominal_v.item() ** 2)
    assert area == sorted(area, reverse=True)
    assert energy == sorted(energy, reverse=True)


@pytest.mark.parametrize("name", ["edge_soc"])
def test_every_number_of_a_catalog_design_has_a_source(name: str) -> None:
    device = pa.device(name)
    assert "*" in device.sources
    found = SocBackend().machine(View(device))
    assert "power.vr_efficiency" in found.provenance
    for path, provenance in found.provenance.items():
        # a citation, not the key of one
        assert len(provenance.source) > 10, path
        assert provenance.grade in {"pub", "est", "meas", "tool", "der", "asm"}, path


def test_the_volume_has_no_default() -> None:
    with pytest.raises(ValueError, match="volume"):
        SocDevice(name="x")


def test_a_supply_outside_its_range_is_refused() -> None:
    with pytest.raises(FieldError, match="voltage_v: design 1"):
        machine_of(soc(), voltage_v=[0.7, 0.5])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_batch_gives_the_same_bytes_as_its_designs_one_by_one(seed: int) -> None:
    draws = np.random.default_rng(seed)
    swept = {
        "arrays": draws.integers(1, 500, 4), "sram_bytes": draws.uniform(1e4, 1e9, 4),
        "voltage_v": draws.uniform(0.6, 0.95, 4), "volume": draws.uniform(1e3, 1e7, 4),
        "memory_interfaces": draws.integers(1, 32, 4),
    }  # fmt: skip
    batch = machine_of(soc(), **swept)
    for index in range(4):
        alone = machine_of(soc(), **{name: values[[index]] for name, values in swept.items()})
        for (_, whole), (path, part) in zip(batch.parts(), alone.parts(), strict=True):
            for name, column in part.numbers.items():
                assert column.tobytes() == whole.numbers[name][[index]].tobytes(), (path, name)
            for name, group in part.groups.items():
                for key, column in group.items():
                    assert column.tobytes() == whole.groups[name][key][[index]].tobytes(), (
                        path,
                        key,
                    )
