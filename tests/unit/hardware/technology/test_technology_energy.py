"""Energy of arithmetic against published tables and hand arithmetic."""

import numpy as np
import pytest

from pentarch.errors import FieldError, MissingFigureError, UnknownNameError
from pentarch.hardware.technology import (
    AllInOverhead,
    DynamicOverhead,
    FigureLog,
    MacFormats,
    OperationKind,
    all_in_mac,
    bare_mac_j,
    dot_product_mac_j,
    mac_j,
    node_energy_ratio,
    operation_energies,
    technology,
)

INT8 = MacFormats(a="int8", b="int8", accumulator="int32")
FP8_ACC16 = MacFormats(a="fp8", b="fp8", accumulator="fp16")
BF16 = MacFormats(a="bf16", b="bf16", accumulator="fp32")


@pytest.mark.parametrize(
    ("formats", "node", "w_per_pflops"),
    [
        (INT8, "n7", 80), (INT8, "n5", 56), (INT8, "n3e", 38), (INT8, "n2", 27),
        (FP8_ACC16, "n5", 78), (FP8_ACC16, "n3e", 53), (FP8_ACC16, "n2", 38),
        (BF16, "n3e", 222),
    ],
)  # fmt: skip
def test_hardwired_datapath_power(formats: MacFormats, node: str, w_per_pflops: int) -> None:
    energy = all_in_mac(formats, node, overhead=AllInOverhead.HARDWIRED)
    assert round(float(energy.w_per_pflops)) == w_per_pflops


@pytest.mark.parametrize(
    ("formats", "node", "device", "rating", "memory", "expected_w"),
    [
        # 1.16 pJ/MAC-class GPU datapath + DRAM, watts per dense PFLOPS at that device
        (FP8_ACC16, "n4", "h100_sxm", "fp8", "hbm3", 178),
        (MacFormats(a="fp8", b="fp8", accumulator="fp32"), "n4", "h100_sxm", "fp8", "hbm3", 259),
        (FP8_ACC16, "n4", "b200", "fp8", "hbm3e", 177),
        (MacFormats(a="fp8", b="fp8", accumulator="fp32"), "n4", "b200", "fp8", "hbm3e", 258),
        (BF16, "n5", "mi300x", "bf16", "hbm3", 668),
    ],
)
def test_gpu_datapath_and_dram_power_of_products(
    formats: MacFormats, node: str, device: str, rating: str, memory: str, expected_w: float
) -> None:
    library = technology()
    dram_pj_per_bit = {"hbm3": 3.7 + 1.0, "hbm3e": 3.44 + 1.0}[memory]
    dram_w = library.si(f"devices.{device}.bw") * 8e-12 * dram_pj_per_bit
    pflops = library.si(f"devices.{device}.{rating}") / 1e15
    energy = all_in_mac(formats, node, overhead=AllInOverhead.GPU)
    assert energy.w_per_pflops + dram_w / pflops == pytest.approx(expected_w, abs=1.0)


def test_gpu_overhead_reproduces_h100_power_at_full_load() -> None:
    # (700 W - 126 W of HBM) at 989.4 TFLOPS with 2 FLOPs a MAC: the derivation of the factor 2.5
    from_power_j = (700 - 126) / 989.4e12 * 2
    fp16 = MacFormats(a="fp16", b="fp16", accumulator="fp32")
    energy = all_in_mac(fp16, "n4", overhead=AllInOverhead.GPU)
    assert energy.j_per_mac == pytest.approx(from_power_j, rel=0.02)


def test_static_power_cannot_be_added_to_an_all_in_energy() -> None:
    energy = all_in_mac(INT8, "n7", overhead=AllInOverhead.GPU)
    with pytest.raises(TypeError):
        energy + 1e-12  # type: ignore[operator]  # that it is a type error is the point
    with pytest.raises(FieldError, match="all_in_mac"):
        mac_j(INT8, "n7", overhead=AllInOverhead.GPU)  # type: ignore[arg-type]  # likewise
    with pytest.raises(FieldError, match="mac_j"):
        all_in_mac(INT8, "n7", overhead=DynamicOverhead.GPU)  # type: ignore[arg-type]  # likewise


@pytest.mark.parametrize(
    ("overhead", "factor"),
    [
        (DynamicOverhead.SYSTOLIC, 1.4),
        (DynamicOverhead.HARDWIRED, 1.3),
    ],
)
def test_dynamic_overhead_multiplies_the_bare_mac(overhead: DynamicOverhead, factor: float) -> None:
    assert mac_j(INT8, "n7", overhead=overhead) == pytest.approx(0.1e-12 * factor)


@pytest.mark.parametrize(
    ("name", "accumulator", "pj"),
    [
        # 1.75 x (0.21 + 0.38) in bf16 less the dot-product unit's 0.35 is 0.6825 pJ for 16 bits
        ("bf16", "fp32", 1.75 * 0.59),
        ("fp16", "fp32", 0.57 + 0.6825),
        ("tf32", "fp32", 0.57 + 2 * 0.6825),
        ("fp32", "fp32", 1.69 + 2 * 0.6825),
        ("fp8", "fp32", 0.14 + 0.6825 / 2),
        ("int8", "int32", 0.10 + 0.6825 / 2),
        ("fp4", "fp32", 0.074 + 0.6825 / 4),
    ],
)
def test_operand_delivery_of_gpus_goes_with_bits(name: str, accumulator: str, pj: float) -> None:
    formats = MacFormats(a=name, b=name, accumulator=accumulator)
    energy = mac_j(formats, "n7", overhead=DynamicOverhead.GPU)
    assert energy == pytest.approx(pj * 1e-12, rel=1e-12)
    # node and supply act on the unit and on what is around it alike
    low = mac_j(formats, "n5", overhead=DynamicOverhead.GPU, voltage_ratio=0.8)
    assert low == pytest.approx(pj * 1e-12 * 0.70 * 0.64, rel=1e-12)


def test_half_the_bits_cost_about_half_the_energy_in_a_shared_datapath() -> None:
    # What a tensor core gains in rate by halving the width it does not gain again in power.
    pairs = (("tf32", "bf16"), ("bf16", "fp8"), ("bf16", "int8"), ("fp8", "fp4"))
    for wide, narrow in pairs:
        energies = [
            mac_j(
                MacFormats(a=name, b=name, accumulator="int32" if name == "int8" else "fp32"),
                "n4p", overhead=DynamicOverhead.GPU,
            )
            for name in (wide, narrow)
        ]  # fmt: skip
        assert energies[1] / energies[0] == pytest.approx(0.5, rel=0.15), (wide, narrow)


def test_units_without_a_shared_addition_are_bare() -> None:
    for formats in (
        INT8, FP8_ACC16, MacFormats(a="fp32", b="fp32", accumulator="fp32"),
        MacFormats(a="bf16", b="bf16", accumulator="fp32", fused_products=4),
        MacFormats(a="fp8", b="bf16", accumulator="fp32"),
    ):  # fmt: skip
        assert dot_product_mac_j(formats, "n5") == bare_mac_j(formats, "n5")
    assert dot_product_mac_j(BF16, "n5") == pytest.approx(0.35e-12 * 0.7)


@pytest.mark.parametrize(
    ("formats", "pj"),
    [
        # published multiplier + adder, by hand
        (MacFormats(a="fp16", b="fp16", accumulator="fp32", fused_products=1), 0.34 + 0.38),
        (MacFormats(a="fp32", b="fp32", accumulator="fp32", fused_products=1), 1.31 + 0.38),
        (MacFormats(a="bf16", b="bf16", accumulator="fp32", fused_products=4), 0.21 + 0.38 / 4),
        # significand products: fp8 e4m3 has 4 bits with the hidden one, bf16 8, fp4 2
        (MacFormats(a="fp8", b="bf16", accumulator="fp32"), 0.21 * 4 * 8 / 64 + 0.38),
        (MacFormats(a="fp4", b="fp8", accumulator="fp16"), 0.21 * 2 * 4 / 64 + 0.16),
        (MacFormats(a="int4", b="int8", accumulator="int32"), 0.07 * 4 * 8 / 64 + 0.03),
        (MacFormats(a="int4", b="int4", accumulator="int24", fused_products=1), 0.0175 + 0.0225),
        (MacFormats(a="bf16", b="bf16", accumulator="bf16"), 0.21 + 0.11),
    ],
)
def test_formats_outside_the_table_follow_the_product_rule(formats: MacFormats, pj: float) -> None:
    assert bare_mac_j(formats, "n7") == pytest.approx(pj * 1e-12, rel=1e-12)


@pytest.mark.parametrize("name", ["mxfp8", "fp8_e5m2", "e4m3"])
def test_storage_variants_cost_what_their_engine_costs(name: str) -> None:
    variant = MacFormats(a=name, b=name, accumulator="fp32")
    assert bare_mac_j(variant, "n7") == pytest.approx(0.24e-12)


def test_integer_times_float_is_refused() -> None:
    with pytest.raises(FieldError, match="dequantization"):
        bare_mac_j(MacFormats(a="int4", b="bf16", accumulator="fp32"), "n7")


def test_accumulator_of_the_other_kind_is_refused() -> None:
    with pytest.raises(FieldError, match="integer one for integers"):
        bare_mac_j(MacFormats(a="int8", b="int8", accumulator="fp32"), "n7")
    with pytest.raises(UnknownNameError, match="accumulator"):
        bare_mac_j(MacFormats(a="int8", b="int8", accumulator="int33"), "n7")


def test_node_ratios_are_the_compounded_claims() -> None:
    # N5 -30 %, N3E another -34 %, N2 another -27.5 %
    assert node_energy_ratio("n5") == 0.70
    assert node_energy_ratio("n4p") == pytest.approx(0.70 / 1.22, abs=0.001)  # 22 % more efficient
    assert node_energy_ratio("n3e") == pytest.approx(0.70 * 0.66, abs=0.01)
    assert node_energy_ratio("n2") == pytest.approx(0.47 * 0.725, abs=0.001)


def test_node_without_ratio_is_a_missing_figure() -> None:
    with pytest.raises(MissingFigureError, match=r"nodes\.n10\.energy_vs_n7"):
        bare_mac_j(INT8, "n10")
    with pytest.raises(UnknownNameError, match="'n7'"):
        bare_mac_j(INT8, "n77")


def test_energy_follows_voltage_squared_for_many_designs() -> None:
    ratios = np.array([1.0, 0.8, 0.5])
    energies = bare_mac_j(INT8, "n7", voltage_ratio=ratios)
    np.testing.assert_allclose(energies, [0.1e-12, 0.064e-12, 0.025e-12])


def test_45_nm_table_equals_the_cited_one() -> None:
    # M. Horowitz, ISSCC 2014, picojoules at 0.9 V
    cited_pj = {
        "int_add_8": 0.03, "int_add_16": 0.05, "int_add_32": 0.1, "int_mult_8": 0.2,
        "int_mult_32": 3.1, "fp_add_16": 0.4, "fp_add_32": 0.9, "fp_mult_16": 1.1,
        "fp_mult_32": 3.7, "sram_8KiB_64b": 10, "sram_32KiB_64b": 20, "sram_1MiB_64b": 100,
        "dram_64b": 1950,
    }  # fmt: skip
    found = {row.operation: row.energy_j for row in operation_energies("n45")}
    assert found == {name: pytest.approx(pj * 1e-12) for name, pj in cited_pj.items()}


def test_45_nm_classes_stand_in_the_order_of_the_article() -> None:
    rows = operation_energies("n45")
    by_kind = {
        kind: [row.energy_j for row in rows if row.kind is kind and row.energy_j is not None]
        for kind in OperationKind
    }
    assert sum(energy < 1e-12 for energy in by_kind[OperationKind.INTEGER]) == 4
    assert max(by_kind[OperationKind.INTEGER]) == pytest.approx(3.1e-12)  # 32-bit multiplication
    assert max(by_kind[OperationKind.FLOAT]) < 4e-12
    assert all(10e-12 <= energy <= 100e-12 for energy in by_kind[OperationKind.CACHE])
    assert min(by_kind[OperationKind.DRAM]) > 1000e-12


def test_newer_nodes_shrink_what_is_on_the_chip_only() -> None:
    n7 = {row.operation: row for row in operation_energies("n7")}
    n3e = {row.operation: row for row in operation_energies("n3e")}
    assert n3e["fp_mult_16"].energy_j == pytest.approx(0.34e-12 * 0.47)
    assert n3e["dram_64b"].energy_j == n7["dram_64b"].energy_j == pytest.approx(1300e-12)
    assert n7["int_add_16"].energy_j is None


def test_log_records_what_a_mac_rests_on() -> None:
    used = FigureLog()
    bare_mac_j(INT8, "n7", used=used)
    assert [figure.path for figure in used.figures] == [
        "operations.mac_energy_model.n7.int8_acc32",
        "nodes.n7.energy_vs_n7",
    ]


def test_dot_product_units_spend_on_their_tree_by_the_width_of_a_product() -> None:
    # multiplier + tree; the tree's share is a line in the bits of a product (two significands)
    multipliers = {"fp4": 0.21 * 4 / 64, "fp8": 0.21 * 16 / 64, "bf16": 0.21, "fp16": 0.34}
    bits = {"fp4": 4, "fp8": 8, "bf16": 16, "fp16": 22}
    near = {"fp4": 0.001, "fp8": 0.001, "bf16": 0.001, "fp16": 0.06}  # fp16 follows measurements
    shares = {}
    for name, multiplier in multipliers.items():
        formats = MacFormats(a=name, b=name, accumulator="fp32")
        shares[name] = float(dot_product_mac_j(formats, "n7")) * 1e12 - multiplier
    slope = (shares["bf16"] - shares["fp8"]) / 8
    for name, share in shares.items():
        assert share == pytest.approx(shares["fp8"] + slope * (bits[name] - 8), abs=near[name])
