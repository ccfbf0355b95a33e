"""Energy of moving data."""

import numpy as np
import pytest

from pentarch.errors import MissingFigureError, UnknownNameError
from pentarch.hardware.technology import (
    DramBoundary,
    FigureLog,
    dram_background_w,
    dram_j_per_byte,
    interfaces_for,
    link_bandwidth_bytes_per_s,
    link_j_per_byte,
    link_types,
    memory_bandwidth_fraction,
    memory_interface_bytes,
    memory_interface_bytes_per_s,
    memory_types,
    mesh_distance_mm,
    noc_j_per_byte,
    register_j_per_byte,
    sram_read_j_per_byte,
    sram_write_j_per_byte,
    wire_j_per_byte,
)

PJ_PER_BIT = 8e-12
MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("mib", "published_pj_per_bit"),
    [
        (1, 0.219),  # Jouppi 2021, 1 MiB
        (4, 0.249),  # TPUv4i vector memory as carried by accelforge
        (128, 1.88),  # TPUv4i CMEM, wires across the die included
        (0.125, 0.13),  # GPU L1, board-level increment
        (6, 1.0),  # GPU L2 with its crossbar
    ],
)
def test_sram_energy_is_within_its_stated_factor_of_published_points(
    mib: float, published_pj_per_bit: float
) -> None:
    ratio = sram_read_j_per_byte(mib * MIB, "n7") / (published_pj_per_bit * PJ_PER_BIT)
    assert 1 / 2.5 < ratio < 2.0


def test_sram_energy_formula() -> None:
    # 16 MiB at N5: 0.22 * 16^0.35 = 0.22 * 2^1.4 pJ/bit, times 0.7
    expected = 0.22 * 2.6390158215 * 0.7 * PJ_PER_BIT
    assert sram_read_j_per_byte(16.0 * MIB, "n5") == pytest.approx(expected)
    assert sram_write_j_per_byte(16.0 * MIB, "n5") == pytest.approx(1.1 * expected)


def test_sram_energy_takes_columns_of_designs() -> None:
    capacities = np.array([1.0, 4.0, 64.0]) * MIB
    voltages = np.array([1.0, 0.9, 0.8])
    column = sram_read_j_per_byte(capacities, "n7", voltage_ratio=voltages)
    single = [
        sram_read_j_per_byte(float(c), "n7", voltage_ratio=float(v))
        for c, v in zip(capacities, voltages, strict=True)
    ]
    np.testing.assert_allclose(np.asarray(column), np.asarray(single), rtol=1e-14)


def test_hbm3e_at_one_terabyte_per_second_draws_36_w() -> None:
    assert 1e12 * dram_j_per_byte("hbm3e") == pytest.approx(36, abs=0.5)


@pytest.mark.parametrize(
    ("memory", "device_pj", "with_controller_pj"),
    [
        ("hbm2", 3.9, 4.9), ("hbm3", 3.7, 4.7), ("hbm4", 3.0, 4.0), ("gddr6", 7.5, 8.5),
        ("lpddr5x", 4.5, 6.75), ("ddr5", 10, 11),
    ],
)  # fmt: skip
def test_dram_energy_by_boundary(memory: str, device_pj: float, with_controller_pj: float) -> None:
    device = dram_j_per_byte(memory, boundary=DramBoundary.DEVICE)
    assert device == pytest.approx(device_pj * PJ_PER_BIT)
    assert dram_j_per_byte(memory) == pytest.approx(with_controller_pj * PJ_PER_BIT)


def test_lpddr_with_controller_stays_between_device_and_full_system_figures() -> None:
    # full-system figures of Ha 2018 and its extrapolation: 9 and 7.5 pJ/bit
    assert 5 * PJ_PER_BIT < dram_j_per_byte("lpddr5") < 9 * PJ_PER_BIT
    assert 4.5 * PJ_PER_BIT < dram_j_per_byte("lpddr5x") < 7.5 * PJ_PER_BIT


def test_memory_types_are_those_with_an_energy() -> None:
    known = memory_types()
    assert {"hbm3e", "lpddr5x", "gddr7", "ddr5"} <= set(known)
    assert "controller_phy_energy" not in known
    with pytest.raises(UnknownNameError, match="hbm3e"):
        dram_j_per_byte("hbm3f")


def test_hbm_background() -> None:
    np.testing.assert_allclose(dram_background_w(np.array([0.0, 6.0])), [0.0, 18.0])


def test_memory_interfaces() -> None:
    assert memory_interface_bytes_per_s("lpddr5x") == pytest.approx(17.07e9)
    assert memory_interface_bytes("lpddr5x") == pytest.approx(8e9)  # a quarter of an x64 package
    assert memory_interface_bytes("hbm3") == pytest.approx(16e9)
    # 8.533 Gbit/s on 16 pins
    assert memory_interface_bytes_per_s("lpddr5x") == pytest.approx(8.533e9 * 16 / 8, rel=1e-3)
    assert memory_bandwidth_fraction("gddr6x") == 0.95
    assert interfaces_for("gddr6", 256e9) == 4  # exactly four devices of 64 GB/s
    np.testing.assert_array_equal(interfaces_for("gddr6", np.array([1e9, 257e9])), [1, 5])


def test_register_wire_and_network() -> None:
    assert register_j_per_byte("n5") == pytest.approx(0.010 * 0.7 * PJ_PER_BIT)
    assert wire_j_per_byte(5.0) == pytest.approx(0.5 * PJ_PER_BIT)
    assert wire_j_per_byte(5.0, on_interposer=True) == pytest.approx(0.75 * PJ_PER_BIT)
    assert mesh_distance_mm(24.0) == pytest.approx(16.0)
    expected = (4 * 0.06 * 0.47 + 16 * 0.10) * 0.64 * PJ_PER_BIT
    found = noc_j_per_byte(4.0, 16.0, node="n3e", voltage_ratio=0.8)
    assert found == pytest.approx(expected)


def test_mesh_distance_is_the_mean_over_random_points() -> None:
    points = np.random.default_rng(1).random((2, 2, 200_000))
    mean = np.abs(points[0] - points[1]).sum(axis=0).mean()
    assert mesh_distance_mm(1.0) == pytest.approx(mean, rel=5e-3)


def test_links() -> None:
    assert {"ucie_advanced", "nvlink4", "pcie5", "ethernet_ib_400g_path"} <= set(link_types())
    assert link_j_per_byte("ucie_advanced") == pytest.approx(0.25 * PJ_PER_BIT)
    assert link_j_per_byte("pcie5") == pytest.approx(6.5 * PJ_PER_BIT)
    assert link_bandwidth_bytes_per_s("ucie_advanced") == pytest.approx(512e9)
    assert link_bandwidth_bytes_per_s("nvlink4") == pytest.approx(900e9)
    with pytest.raises(UnknownNameError, match="nvlink4"):
        link_j_per_byte("nvlink44")
    with pytest.raises(MissingFigureError, match="optics_cpo"):
        link_bandwidth_bytes_per_s("optics_cpo")


def test_node_without_ratio_is_a_missing_figure() -> None:
    with pytest.raises(MissingFigureError, match="n10"):
        sram_read_j_per_byte(MIB, "n10", used=FigureLog())
