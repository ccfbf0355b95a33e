"""Die area."""

import numpy as np
import pytest

from pentarch.errors import MissingFigureError, UnknownNameError
from pentarch.hardware.technology import (
    Figure,
    FigureLog,
    Grade,
    MacFormats,
    bare_mac_mm2,
    chip_infrastructure_mm2,
    control_mm2,
    fits_hbm_shoreline,
    fits_reticle,
    link_mm2,
    logic_area_ratio,
    logic_mm2,
    mac_mm2,
    memory_interface_mm2,
    reticle_mm2,
    sram_bytes_in,
    sram_mm2,
    technology,
)

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("name", "accumulator", "um2"),
    [
        ("int4", "int24", 10), ("int8", "int32", 25), ("fp8", "fp16", 95), ("fp8", "fp32", 260),
        ("bf16", "fp32", 298), ("fp16", "fp16", 177), ("fp16", "fp32", 344), ("fp32", "fp32", 701),
    ],
)  # fmt: skip
def test_rule_reproduces_the_recommended_table(name: str, accumulator: str, um2: float) -> None:
    by_table = MacFormats(a=name, b=name, accumulator=accumulator)
    by_rule = by_table.replace(fused_products=1)
    assert bare_mac_mm2(by_table, "n7") == pytest.approx(um2 * 1e-6)
    assert bare_mac_mm2(by_rule, "n7") == pytest.approx(um2 * 1e-6, rel=0.03)


def test_fused_products_share_the_adder() -> None:
    # 45 nm: fp16 multiplier 1640 um2 by 4*4/11/11, fp16 adder 1360 um2 by 1/4; 0.059 to 7 nm
    fused = MacFormats(a="fp8", b="fp8", accumulator="fp16", fused_products=4)
    expected = (1640 * 16 / 121 + 1360 / 4) * 0.059e-6
    assert bare_mac_mm2(fused, "n7") == pytest.approx(expected)


def test_processing_element_and_node() -> None:
    int8 = MacFormats(a="int8", b="int8", accumulator="int32")
    assert mac_mm2(int8, "n5") == pytest.approx(25e-6 * 1.8 * 91.2 / 138.2)
    assert logic_area_ratio("n28") == pytest.approx(91.2 / 15.3)
    assert logic_mm2(91.2e6, "n7") == pytest.approx(1.0)


def test_bf16_element_is_near_the_one_of_a_product() -> None:
    # TPUv4i: 670-854 um2 per bf16 MAC at N7, read off its die photo
    bf16 = MacFormats(a="bf16", b="bf16", accumulator="fp32")
    assert 400e-6 < mac_mm2(bf16, "n7") < 854e-6


def test_logic_area_of_a_node_without_density_is_a_missing_figure() -> None:
    int8 = MacFormats(a="int8", b="int8", accumulator="int32")
    with pytest.raises(MissingFigureError, match=r"nodes\.n2\.logic_mtr_mm2"):
        mac_mm2(int8, "n2")
    added = Figure(
        path="nodes.n2.logic_mtr_mm2", value=228.0, unit="MTr/mm2", source="own", grade=Grade.ASM
    )
    supplied = FigureLog(technology().with_figures(added))
    assert mac_mm2(int8, "n2", used=supplied) == pytest.approx(25e-6 * 1.8 * 91.2 / 228)


def test_adder_without_published_area_is_a_missing_figure() -> None:
    with pytest.raises(MissingFigureError, match="bf16 adder"):
        bare_mac_mm2(MacFormats(a="bf16", b="bf16", accumulator="bf16"), "n7")


@pytest.mark.parametrize(
    ("node", "mm2_per_mib"), [("n7", 0.65), ("n5", 0.5), ("n4", 0.5), ("n3e", 0.5), ("n2", 0.42)]
)
def test_scratchpad_density(node: str, mm2_per_mib: float) -> None:
    assert sram_mm2(8.0 * MIB, node) == pytest.approx(8 * mm2_per_mib)
    assert sram_mm2(8.0 * MIB, node, as_cache=True) == pytest.approx(24 * mm2_per_mib)
    assert sram_bytes_in(8 * mm2_per_mib, node) == pytest.approx(8 * MIB)


@pytest.mark.parametrize("node", ["n5", "n2"])
def test_stated_scratchpads_follow_the_bitcell(node: str) -> None:
    bitcell = {"n5": 0.021, "n2": 0.0175}[node]
    assert sram_mm2(MIB, node) == pytest.approx(0.65 * bitcell / 0.027, rel=0.02)


def test_older_scratchpad_follows_the_bitcell_and_says_so() -> None:
    used = FigureLog()
    assert sram_mm2(MIB, "n16", used=used) == pytest.approx(0.65 * 0.074 / 0.027)
    assert "ratio of bitcells" in used.notes[0]
    with pytest.raises(MissingFigureError, match=r"nodes\.n28\.hd_bitcell"):
        sram_mm2(MIB, "n28")


def test_cache_density_is_near_a_product_cache() -> None:
    # LLMCompass fit to GPU L2 at N7: 2.0 to 2.6 mm2/MiB
    assert 1.9 < sram_mm2(MIB, "n7", as_cache=True) < 2.6


@pytest.mark.parametrize(
    ("memory", "node", "mm2"),
    [
        ("hbm2e", "n7", 10.45 + 552.7 / 91.2), ("hbm2e", "n5", 10.45 + 552.7 / 138.2),
        ("hbm3", "n7", 16), ("hbm3e", "n4", 16), ("lpddr5x", "n7", 1.2), ("gddr6", "n5", 4),
        ("ddr5", "n7", 2 * (1.45 + 90.4 / 91.2)),
    ],
)  # fmt: skip
def test_memory_interface_area(memory: str, node: str, mm2: float) -> None:
    assert memory_interface_mm2(memory, node) == pytest.approx(mm2)


def test_memory_type_without_own_interface_area_takes_its_family_and_says_so() -> None:
    used = FigureLog()
    memory_interface_mm2("hbm4", "n5", used=used)
    assert used.notes == ("interface area of hbm4: the figure of hbm3 is used",)
    with pytest.raises(MissingFigureError, match="stacked_3d_dram"):
        memory_interface_mm2("stacked_3d_dram", "n5")


def test_link_area() -> None:
    assert link_mm2("ucie_advanced", "n5") == pytest.approx(0.406)
    assert link_mm2("pcie5", "n7") == pytest.approx(0.64 + 5.37 / 91.2)
    assert link_mm2("nvlink4", "n5") == pytest.approx(0.965 + 86.6 / 138.2)
    with pytest.raises(MissingFigureError, match="optics_cpo"):
        link_mm2("optics_cpo", "n5")
    with pytest.raises(UnknownNameError, match="pcie5"):
        link_mm2("pcie55", "n5")


def test_control_and_infrastructure() -> None:
    np.testing.assert_allclose(control_mm2(np.array([10.0, 20.0])), [1.5, 3.0])
    used = FigureLog()
    assert chip_infrastructure_mm2("n5", used=used) == 18.3
    assert "N7 area" in used.notes[0]


def test_reticle() -> None:
    assert reticle_mm2() == 26 * 33
    np.testing.assert_array_equal(
        fits_reticle(np.array([814.0, 858.0, 900.0])), [True, True, False]
    )


@pytest.mark.parametrize(
    ("stacks", "die_mm2", "fits"),
    [
        (6, 814, True),  # H100: six sites
        (6, 826, True),  # A100: six sites
        (8, 814, False),
        (0, 50, True),
        (2, 60, True),  # one stack beside each edge of 8.7 mm
        (4, 60, False),
        (1, 30, False),  # 6.2 mm of edge are too short for one PHY
    ],
)
def test_hbm_shoreline(stacks: int, die_mm2: float, fits: bool) -> None:
    assert fits_hbm_shoreline(stacks, die_mm2) is fits


def test_hbm_shoreline_takes_columns_of_designs() -> None:
    column = fits_hbm_shoreline(np.array([2.0, 6.0]), np.array([400.0, 400.0]))
    np.testing.assert_array_equal(column, [True, False])
