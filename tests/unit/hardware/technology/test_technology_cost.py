"""Cost of devices and of owning them."""

import numpy as np
import pytest

from pentarch.errors import FieldError, MissingFigureError, UnknownNameError
from pentarch.hardware.technology import (
    DesignProgram,
    FigureLog,
    Package,
    UnitCost,
    accelerator_board_usd,
    bonding_yield,
    chip_test_usd,
    cowos_package_usd,
    die_usd,
    harvested_yield,
    mask_set_usd,
    memory_usd,
    nre_usd,
    organic_package_usd,
    price_multiplier,
    price_usd,
    raw_die_usd,
)


def h100_die_usd(repairable: float) -> float:
    """Cost with 132 of 144 SMs needed, `repairable` of the die being SMs."""
    defects = 814 * 0.10 / 100
    sellable = harvested_yield(
        defects * (1 - repairable), defects * repairable / 144, units=144, needed=132, alpha=10.0
    )
    return float(die_usd(814.0, "n4", sellable=sellable))


def test_h100_die() -> None:
    assert raw_die_usd(814.0, "n4") == pytest.approx(295, abs=0.5)
    assert 607 <= die_usd(814.0, "n4") <= 666
    assert h100_die_usd(0.5) == pytest.approx(440, abs=0.5)
    assert h100_die_usd(0.7) == pytest.approx(376, abs=0.5)


def test_h100_bill_of_materials() -> None:
    # die 407 (60 % repairable) + HBM 1352 + CoWoS 735 + test 500 = 3.0 kUSD; published 3.32 kUSD
    die = h100_die_usd(0.6)
    assert die == pytest.approx(407, abs=1)
    hbm = memory_usd("hbm3", 80e9)
    assert hbm == pytest.approx(1352)
    package = cowos_package_usd(814.0, 6)
    assert package == pytest.approx(735, rel=0.02)
    unit = UnitCost(
        dies_usd=die,
        package_usd=package,
        memory_usd=hbm,
        test_usd=chip_test_usd(die, Package.COWOS),
    )
    assert unit.total_usd == pytest.approx(3.0e3, rel=0.01)
    assert unit.total_usd == pytest.approx(3.32e3, rel=0.12)


def test_b200_package_is_near_the_published_one() -> None:
    assert cowos_package_usd(1600.0, 8) == pytest.approx(1100, rel=0.15)


def test_default_yield_is_negative_binomial() -> None:
    # 100 mm2 at N5: 0.11 defects expected, clustering 10
    expected = float(raw_die_usd(100.0, "n5")) * (1 + 0.11 / 10) ** 10
    assert die_usd(100.0, "n5") == pytest.approx(expected)


def test_die_cost_of_many_designs() -> None:
    areas = np.array([50.0, 200.0, 800.0])
    costs = die_usd(areas, "n7")
    singles = [float(die_usd(float(area), "n7")) for area in areas]
    np.testing.assert_allclose(np.asarray(costs), singles)
    assert np.all(np.diff(costs / areas) > 0)  # larger dies cost more per mm2


def test_die_cost_without_defect_density_needs_a_yield() -> None:
    with pytest.raises(MissingFigureError, match=r"nodes\.n2\.d0"):
        die_usd(100.0, "n2")
    assert die_usd(100.0, "n2", sellable=0.8) == pytest.approx(
        float(raw_die_usd(100.0, "n2")) / 0.8
    )
    with pytest.raises(FieldError, match="sellable"):
        die_usd(100.0, "n5", sellable=np.array([0.5, 0.0]))


def test_organic_package() -> None:
    # substrate 4 x 800 mm2 x 0.005 + bumps 800 x 0.005; small dies pay a small package
    assert organic_package_usd(800.0) == pytest.approx(20.0)
    assert organic_package_usd(800.0, dies=2) == pytest.approx(28.0)
    np.testing.assert_allclose(organic_package_usd(np.array([50.0, 800.0])), [8.0, 20.0])


def test_bonding_yield() -> None:
    assert bonding_yield(1, Package.ORGANIC) == pytest.approx(0.99)
    assert bonding_yield(8, Package.COWOS) == pytest.approx(0.985**8)


def test_failed_packages_take_their_contents_along() -> None:
    def total(memory_in_package: bool) -> float:
        return float(
            UnitCost(
                dies_usd=100.0, package_usd=50.0, memory_usd=200.0, test_usd=10.0, board_usd=5.0,
                assembly_yield=0.5, memory_in_package=memory_in_package,
            ).total_usd
        )  # fmt: skip

    assert total(False) == pytest.approx(150 / 0.5 + 200 + 15)
    assert total(True) == pytest.approx(350 / 0.5 + 15)
    with pytest.raises(FieldError, match="assembly_yield"):
        _ = UnitCost(
            dies_usd=1.0, package_usd=1.0, memory_usd=1.0, test_usd=1.0, assembly_yield=0.0
        ).total_usd


def test_test_board_and_memory() -> None:
    assert chip_test_usd(200.0, Package.ORGANIC) == pytest.approx(10.0)
    np.testing.assert_allclose(chip_test_usd(np.array([1.0, 2.0]), Package.COWOS), [500.0, 500.0])
    assert accelerator_board_usd() == 400
    assert memory_usd("lpddr5x", 32e9) == pytest.approx(160)
    with pytest.raises(MissingFigureError, match="hbm_co_candidate"):
        memory_usd("hbm_co_candidate", 1e9)


def test_design_cost() -> None:
    assert nre_usd("n7") == 298e6
    assert nre_usd("n5") == 542e6
    assert nre_usd("n5", program=DesignProgram.INCUMBENT) == 300e6
    assert nre_usd("n5", program=DesignProgram.START_UP) == 103e6
    assert mask_set_usd("n3e") == 35e6
    assert nre_usd("n7", program=DesignProgram.START_UP) == pytest.approx(103e6 * 298 / 542)
    with pytest.raises(MissingFigureError, match="mask_set_n4"):
        mask_set_usd("n4")


def test_design_cost_of_a_node_without_a_figure_is_noted() -> None:
    used = FigureLog()
    assert nre_usd("n4", used=used) == 542e6
    assert nre_usd("n3e", used=used) == pytest.approx((542e6 * 725e6) ** 0.5)
    assert [note[:21] for note in used.notes] == ["design cost at n4: th", "design cost at n3e: t"]


def test_price_multiplier_of_h100() -> None:
    assert price_multiplier("h100") == pytest.approx(28000 / 3320, rel=0.01)
    assert price_multiplier("typical_fabless") == 2.5
    with pytest.raises(UnknownNameError, match="in_house"):
        price_multiplier("inhouse")


def test_price_spreads_design_cost_over_the_volume() -> None:
    price = price_usd(400.0, 2.5, nre_usd=100e6, volume=np.array([1e5, 1e6]))
    np.testing.assert_allclose(price, [1000 + 1000, 1000 + 100])
    with pytest.raises(FieldError, match="volume"):
        price_usd(400.0, 2.5, nre_usd=100e6, volume=0)


def test_log_shows_the_assumptions_behind_a_price() -> None:
    used = FigureLog()
    die_usd(100.0, "n4", used=used)
    by_grade = used.paths_by_grade()
    assert "nodes.n4.d0" in by_grade[next(g for g in by_grade if g == "asm")]
