from typing import Any

import pytest
from tests.unit.mapping.machines import array, machine, vector

from pentarch.hardware.parts import EngineKind
from pentarch.mapping.arithmetic import bits_to_bytes, resolve, wanted_format
from pentarch.workload.formats import number_format


def with_rates(*rates: dict[str, float], **changes: Any) -> Any:
    engines = [
        array(name=f"engine{i}", macs_per_cycle=rate, **changes) for i, rate in enumerate(rates)
    ]
    return machine(engines=(*engines, vector()))


EVERYTHING = {"int4": 64.0, "int8": 32.0, "fp4": 64.0, "fp8": 32.0, "bf16": 16.0, "fp32": 2.0}


@pytest.mark.parametrize(
    ("activations", "weights", "compute", "dequantized"),
    [
        ("bf16", "bf16", "bf16", False),
        ("fp8", "fp8", "fp8", False),
        ("mxfp8", "fp8_e5m2", "fp8", False),  # both run on the fp8 engine
        ("fp8", "mxfp4", "fp8", True),  # the wider float decides
        ("fp8", "bf16", "bf16", False),  # the activation is what is converted
        ("bf16", "fp8", "bf16", True),
        ("bf16", "int4_g128", "bf16", True),  # stored only: rated at the activation's peak
        ("fp8", "int4_g128", "fp8", True),
        ("int8", "q4_0", "int8", True),
        ("int8", "int4", "int8", True),
        ("int8", "fp8", "bf16", True),  # 8 significant bits need bf16
        ("fp8", "int8", "bf16", True),
    ],
)
def test_products_run_in_the_narrowest_format_that_holds_both(
    activations: str, weights: str, compute: str, dequantized: bool
) -> None:
    product = resolve(with_rates(EVERYTHING), activations, weights)
    assert product is not None
    assert (product.format, product.dequantized) == (compute, dequantized)
    assert product.note is None


def test_fp8_without_an_fp8_engine_runs_as_bf16_and_says_so() -> None:
    product = resolve(with_rates({"bf16": 16.0}), "fp8", "fp8")
    assert product is not None
    assert (product.format, product.dequantized) == ("bf16", True)
    assert product.note == "fp8 has no engine on made-up: runs as bf16"


@pytest.mark.parametrize(
    ("rates", "wanted", "expected"),
    [
        ({"fp32": 1.0, "bf16": 1.0}, "fp8", "bf16"),  # the narrowest that holds it
        ({"int8": 9.0}, "int4", "int8"),
        ({"bf16": 1.0}, "int8", "bf16"),  # 8 significant bits
        ({"fp16": 1.0}, "bf16", "fp16"),
        ({"bf16": 1.0, "fp32": 1.0}, "fp16", "fp32"),  # bf16 drops 3 bits of fp16
        ({"fp8": 1.0}, "bf16", None),
        ({"int8": 1.0}, "fp8", None),  # an integer engine holds no float
        ({"bf16": 1.0}, "fp32", None),
        ({}, "fp8", None),
    ],
)
def test_a_format_may_only_be_replaced_by_one_that_holds_it(
    rates: dict[str, float], wanted: str, expected: str | None
) -> None:
    product = resolve(with_rates(rates), wanted, wanted)
    assert (product.format if product else None) == expected


def test_an_integer_too_wide_for_any_float_has_no_product_with_one() -> None:
    assert wanted_format(number_format("bf16"), number_format("int32")) == (None, True)
    assert resolve(with_rates(EVERYTHING), "bf16", "int32") is None


@pytest.mark.parametrize("pair", [("fp16", "int8"), ("int8", "fp16")])
def test_half_precision_times_an_integer_runs_in_half_precision(pair: tuple[str, str]) -> None:
    # 11 significant bits hold 8; tf32 would hold them too, at half the rate
    product = resolve(with_rates({"fp32": 2.0, "tf32": 8.0, "fp16": 16.0, "bf16": 16.0}), *pair)
    assert product is not None
    assert (product.format, product.dequantized, product.note) == ("fp16", True, None)


def test_the_first_engine_of_the_right_format_wins_over_a_faster_one_of_a_wider() -> None:
    product = resolve(with_rates({"bf16": 99.0}, {"fp8": 8.0}, {"fp8": 16.0}), "fp8", "fp8")
    assert product is not None
    assert product.engine.name == "engine1"
    # 8 MACs per cycle of one unit at 1 GHz
    assert product.peak_macs_per_s.item() == 8e9
    assert product.mac_j is not None
    assert product.mac_j.item() == 1e-12


def test_vector_engines_multiply_no_matrices() -> None:
    assert resolve(with_rates(EVERYTHING, kind=EngineKind.VECTOR), "fp8", "fp8") is None


def test_stored_bytes_count_group_scales() -> None:
    # definitions.md, Quantized formats: mxfp4 4.25, nvfp4 4.5, int4 g128 4.125 bits
    expected = [2.0, 1.0, 4.25 / 8, 4.5 / 8, 4.125 / 8]
    assert bits_to_bytes(("bf16", "fp8", "mxfp4", "nvfp4", "int4_g128")).tolist() == expected
