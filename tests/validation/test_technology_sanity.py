"""The technology library against published figures and arithmetic done by hand.

Every expected figure is worked out from the cited one, not from the library. What is compared is
printed, so that `pytest -s` shows the tables of `docs/explanation/technology.md`.
"""

import math
import sys

import pytest

from pentarch.hardware.technology import (
    AllInOverhead,
    DramBoundary,
    FigureLog,
    MacFormats,
    Package,
    Supplied,
    UnitCost,
    all_in_mac,
    bonding_yield,
    chip_test_usd,
    cluster_alpha,
    cowos_package_usd,
    defects_per_mm2,
    die_usd,
    dies_per_wafer,
    dram_background_w,
    dram_j_per_byte,
    harvested_yield,
    leakage_w,
    memory_usd,
    murphy_yield,
    negative_binomial_yield,
    operation_energies,
    poisson_yield,
    raw_die_usd,
    register_file_mm2,
    sram_read_j_per_byte,
    stillmaker_energy_ratio,
    technology,
)


def say(text: str) -> None:
    """Show a line of a table."""
    sys.stdout.write(text + "\n")


H100_MM2, H100_SMS, H100_ENABLED = 814.0, 144, 132
H100_PUBLISHED_USD = 3320.0
"""Raymond James, 2023: die 300, HBM 1350, CoWoS 750, test and assembly 920."""


def h100_sellable(repairable: float, used: FigureLog) -> float:
    """Return the yield of H100 with `repairable` of its die in multiprocessors."""
    defects = H100_MM2 * defects_per_mm2("n4", used=used)
    fixed, repeated = defects * (1 - repairable), defects * repairable / H100_SMS
    alpha = cluster_alpha(used=used)
    return float(harvested_yield(fixed, repeated, units=H100_SMS, needed=H100_ENABLED, alpha=alpha))


def test_unit_cost_of_h100() -> None:
    used = FigureLog()
    sellable = h100_sellable(0.6, used)
    raw = float(raw_die_usd(H100_MM2, "n4", used=used))
    die = float(die_usd(H100_MM2, "n4", sellable=sellable, used=used))
    parts = {
        "die": raw,
        "yield loss": die - raw,
        "HBM, 80 GB": float(memory_usd("hbm3", 80e9, used=used)),
        "CoWoS package": float(cowos_package_usd(H100_MM2, 6, used=used)),
        "test and assembly": float(chip_test_usd(die, Package.COWOS, used=used)),
    }
    total = sum(parts.values())
    say(f"\nH100, {sellable:.0%} of dies sold (132 of 144 SMs, 60 % of the die repairable)")
    for name, usd in parts.items():
        say(f"  {name:20s} {usd:7.0f} USD")
    say(f"  {'sum':20s} {total:7.0f} USD, published {H100_PUBLISHED_USD:.0f}")

    assert raw == pytest.approx(17_000 / 57.6, rel=1e-3)
    assert parts["HBM, 80 GB"] == pytest.approx(1350, rel=0.05)
    assert parts["CoWoS package"] == pytest.approx(735, rel=0.05)
    assert total == pytest.approx(H100_PUBLISHED_USD, rel=0.2)
    # A package that fails takes die and stacks along: still within the band.
    unit = UnitCost(
        dies_usd=die, package_usd=parts["CoWoS package"], memory_usd=parts["HBM, 80 GB"],
        test_usd=parts["test and assembly"], memory_in_package=True,
        assembly_yield=bonding_yield(6, Package.COWOS, used=used),
    )  # fmt: skip
    say(f"  with assembly loss   {unit.total_usd:7.0f} USD")
    assert unit.total_usd == pytest.approx(H100_PUBLISHED_USD, rel=0.2)


def test_the_yield_laws_bracket_a_large_die() -> None:
    # 814 mm2 at 0.10 defects/cm2: 295 USD raw; 607-666 USD by four laws without harvesting,
    # 440-376 USD where 50-70 % of the die can be repaired.
    raw = float(raw_die_usd(H100_MM2, "n4"))
    laws = {
        "Poisson": math.exp(-0.814),
        "Murphy": ((1 - math.exp(-0.814)) / 0.814) ** 2,
        "negative binomial, alpha 10": (1 + 0.0814) ** -10,
        "negative binomial, alpha 3": (1 + 0.814 / 3) ** -3,
    }
    found = (
        poisson_yield(0.814), murphy_yield(0.814),
        negative_binomial_yield(0.814, alpha=10), negative_binomial_yield(0.814, alpha=3),
    )  # fmt: skip
    assert found == pytest.approx(tuple(laws.values()), rel=1e-12)
    costs = {name: raw / law for name, law in laws.items()}
    for repairable in (0.5, 0.7):
        sellable = h100_sellable(repairable, FigureLog())
        costs[f"harvested, {repairable:.0%} repairable"] = float(
            die_usd(H100_MM2, "n4", sellable=sellable)
        )
    say("")
    for name, usd in costs.items():
        say(f"  {name:30s} {usd:5.0f} USD")
    whole = list(costs.values())[:4]
    assert min(whole) == pytest.approx(607, abs=1)
    assert max(whole) == pytest.approx(666, abs=1)
    assert list(costs.values())[4:] == [pytest.approx(440, abs=1), pytest.approx(376, abs=1)]


def test_no_wafer_holds_the_86_dies_of_one_source() -> None:
    assert 57 <= float(dies_per_wafer(H100_MM2)) <= 64


def test_energy_of_operations_at_45_nm_and_its_scaling() -> None:
    # Horowitz 2014 beside Jouppi 2021: arithmetic shrinks 2.1 to 4.3 times, with memories 2.6 times
    # in the geometric mean, where voltage scaling alone would claim 15.
    old = {row.operation: row.energy_j for row in operation_energies("n45")}
    new = {row.operation: row.energy_j for row in operation_energies("n7")}
    cited = {
        "int_add_8": (0.03, 0.007), "int_add_32": (0.1, 0.03), "int_mult_8": (0.2, 0.07),
        "int_mult_32": (3.1, 1.48), "fp_add_16": (0.4, 0.16), "fp_add_32": (0.9, 0.38),
        "fp_mult_16": (1.1, 0.34), "fp_mult_32": (3.7, 1.31),
    }  # fmt: skip
    ratios = []
    say("\noperation            45 nm      7 nm")
    for name, (at_n45, at_n7) in cited.items():
        say(f"  {name:16s} {at_n45:6.3f} pJ {at_n7:6.3f} pJ")
        assert old[name] == pytest.approx(at_n45 * 1e-12)
        assert new[name] == pytest.approx(at_n7 * 1e-12)
        ratios.append(at_n45 / at_n7)
    assert min(ratios) == pytest.approx(2.1, abs=0.05)
    assert max(ratios) == pytest.approx(4.3, abs=0.05)
    for name, at_n45, at_n7 in (
        ("sram_8KiB_64b", 10, 7.5), ("sram_32KiB_64b", 20, 8.5), ("sram_1MiB_64b", 100, 14),
        ("dram_64b", 1950, 1300),
    ):  # fmt: skip
        say(f"  {name:16s} {at_n45:6.0f} pJ {at_n7:6.1f} pJ")
        assert old[name] == pytest.approx(at_n45 * 1e-12)
        assert new[name] == pytest.approx(at_n7 * 1e-12)
        ratios.append(at_n45 / at_n7)
    assert 1300e-12 <= (old["dram_64b"] or 0) <= 2600e-12
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    assert mean == pytest.approx(2.6, rel=0.05)


def test_the_fit_by_voltage_and_why_it_does_not_scale_nodes() -> None:
    # 45 nm at 0.9 V: 1.103*0.81 - 0.362*0.9 + 0.2767 = 0.84433; 7 nm at 0.75 V: 0.0561425
    shrink = stillmaker_energy_ratio(Supplied("n45", 0.9), Supplied("n7", 0.75))
    assert shrink == pytest.approx(0.0561425 / 0.84433, rel=1e-6)
    assert 1 / shrink == pytest.approx(15, rel=0.01)
    lowered = stillmaker_energy_ratio(Supplied("n7", 0.75), Supplied("n7", 0.60))
    assert lowered == pytest.approx(0.60, abs=0.01)  # CV^2 gives 0.64


def test_areas_of_a_mac_bracket_the_transistor_count_of_llmcompass() -> None:
    library = technology()
    transistors = library.si("area.mac_published.llmcompass_fp16_transistors")
    fit_mm2 = transistors / 96.3e6
    assert fit_mm2 == pytest.approx(263e-6, rel=0.01)
    assert library.si("area.mac_n7.fp16_acc16") < fit_mm2 < library.si("area.mac_n7.fp16_acc32")


def test_area_of_a_register_file_by_hand() -> None:
    # 256 entries of 1024 bits and 2 ports at 90 nm: 13.29 mm2, a 57th of that at 91.2 MTr/mm2
    at_n90 = (
        32900 - 1090 * 256 - 883 * 1024 - 5550 * 2 + 53.5 * 256 * 1024 + 0.015 * 256**2
        + 0.0108 * 1024**2 + 0.586 * 4 + 142 * 256 * 2 + 368 * 1024 * 2
    )  # fmt: skip
    assert at_n90 == pytest.approx(13.69e6, rel=0.01)
    found = register_file_mm2(256.0, 1024.0, 2.0, "n7")
    assert found == pytest.approx(at_n90 * 1e-6 * 1.6 / 91.2)


def test_a_token_of_llama_2_70b_bottom_up() -> None:
    # 138 GB over two H100 at 87 % of 3.35 TB/s each: 23.7 ms; 33.1 J at the power limit. DRAM 4.1
    # (device) to 7.8 J (upper bound of the sources), on chip 1.8 J, a third of the limit static.
    weights = 138e9
    seconds = weights / (2 * 0.87 * 3.35e12)
    at_limit = 2 * 700 * seconds
    device_j = dram_j_per_byte("hbm3", boundary=DramBoundary.DEVICE) * weights
    with_controller_j = dram_j_per_byte("hbm3") * weights
    on_chip = (sram_read_j_per_byte(50e6, "n4") + sram_read_j_per_byte(2**18, "n4")) * weights
    compute_j = float(
        all_in_mac(
            MacFormats(a="bf16", b="bf16", accumulator="fp32"), "n4", overhead=AllInOverhead.GPU
        ).j_per_mac
        * 69e9
    )  # fmt: skip
    static_j = 0.3 * at_limit
    total = with_controller_j + on_chip + compute_j + static_j
    say(
        f"\nLlama-2-70B token: DRAM {device_j:.1f}-{with_controller_j:.1f} J, on chip {on_chip:.1f},"
        f" compute {compute_j:.2f}, static {static_j:.1f}, sum {total:.1f} of {at_limit:.1f} J"
    )
    assert seconds == pytest.approx(23.8e-3, rel=0.01)
    assert at_limit == pytest.approx(33.3, rel=0.01)
    assert device_j == pytest.approx(4.1, rel=0.01)
    assert with_controller_j < 7.8
    assert compute_j < 0.12
    assert 0.45 < total / at_limit < 0.6
    assert device_j + on_chip + compute_j < total / 2  # dynamic energy of devices says too little


def test_a_stack_of_hbm3e_and_leakage() -> None:
    # 1 TB/s at 3.44 + 1.0 pJ/bit is 35.5 W: what a target of 50 W/PFLOPS leaves no room for.
    assert 1e12 * dram_j_per_byte("hbm3e") == pytest.approx(35.5, rel=0.01)
    assert dram_background_w(6.0) == 18.0
    # 800 mm2 of logic at 0.04 W/mm2 and 85 C, twice that 35 K hotter
    hot = leakage_w("n7", logic_mm2=800.0, temperature_c=120.0)
    assert hot == pytest.approx(32 * math.exp(0.7))


@pytest.mark.parametrize(
    ("device", "rating", "tdp_w", "expected"),
    [
        ("a100_sxm", "bf16", 400, 1282), ("a100_sxm", "int8", 400, 641),
        ("h100_sxm", "bf16", 700, 707), ("h100_sxm", "fp8", 700, 354),
        ("h200_sxm", "bf16", 700, 707), ("b200", "bf16", 1000, 444), ("b200", "fp8", 1000, 222),
        ("b200", "fp4", 1000, 111), ("mi300x", "bf16", 750, 574), ("mi300x", "fp8", 750, 287),
        ("gaudi3", "bf16", 900, 490), ("l4", "bf16", 72, 595), ("l4", "fp8", 72, 297),
        ("tpu_v4i", "bf16", 175, 1268), ("tpu_v4", "bf16", 192, 698),
        ("orin_agx_64", "int8", 60, 436), ("thor_t5000", "fp8", 130, 251),
        ("thor_t5000", "fp4", 130, 126), ("groq_lpu1", "fp16", 275, 1463),
        ("groq_lpu1", "int8", 275, 367), ("cloud_ai100_ultra", "int8", 150, 172),
        ("hailo_10h", "int4", 2.5, 62),
    ],
)  # fmt: skip
def test_watts_per_pflops_of_products(
    device: str, rating: str, tdp_w: float, expected: int
) -> None:
    library = technology()
    assert library.si(f"devices.{device}.tdp") == tdp_w
    found = tdp_w / (library.si(f"devices.{device}.{rating}") / 1e15)
    assert found == pytest.approx(expected, abs=1)


def test_a_test_chip_shows_what_low_voltage_and_four_bits_reach() -> None:
    library = technology()
    for path, w_per_pflops, fj in (("nominal", 26, 51.7), ("0v46", 10, 20.9)):
        per_w = library.si(f"devices.nvidia_5nm_testchip.int4_per_w_{path}")
        assert 1e15 / per_w == pytest.approx(w_per_pflops, abs=0.5)
        assert 2e15 / per_w == pytest.approx(fj, rel=0.01)


def test_search_and_fleet_figures_agree_with_each_other() -> None:
    library = technology()
    rate = library.si("tco.per_query.google_queries_2022")
    assert rate == pytest.approx(104.6e3, rel=1e-3)
    budget = rate * library.si("tco.per_query.google_search_2022")
    assert budget == pytest.approx(200, rel=0.05)  # USD/s
    assert budget * 365.25 * 86400 == pytest.approx(6.3e9, rel=0.05)
    # 3637 J a query at 0.11 USD/kWh: 0.011 cents
    cents = 3637 * library.si("tco.electricity_rizzatti") * 100
    assert cents == pytest.approx(0.011, abs=0.0005)
