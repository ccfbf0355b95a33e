import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pentarch.errors import InputError
from pentarch.model import Model
from pentarch.units import Bytes, parse, percent, show, unit_of


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("3.35 TB/s", "B/s", 3.35e12),
        ("32 MiB", "B", 32 * 1024 * 1024),
        ("80GB", "B", 80e9),
        ("1,024 B", "B", 1024),
        ("1_000", "B", 1000),
        ("-5 C", "C", -5),
        ("1e15 FLOPS", "FLOPS", 1e15),
        ("1 PFLOPS", "FLOPS", 1e15),
        (".5 us", "s", 5e-7),
        ("200 pJ", "J", 2e-10),
        ("25,000 USD", "USD", 25000),
        ("1.98 GHz", "Hz", 1.98e9),
        ("2.5", "W", 2.5),
    ],
)
def test_text_becomes_si(text: str, unit: str, value: float) -> None:
    assert parse(text, unit) == pytest.approx(value, rel=1e-15)


@pytest.mark.parametrize(
    ("text", "unit"),
    [("fast", "B/s"), ("3 TB", "B/s"), ("3 QB/s", "B/s"), ("", "B"), ("3 XiB", "B"), ("1 2", "B")],
)
def test_other_units_are_refused_with_the_right_one(text: str, unit: str) -> None:
    with pytest.raises(InputError, match=unit):
        parse(text, unit)


@pytest.mark.parametrize(
    ("field", "unit"),
    [
        ("read_bytes_per_s", "B/s"),
        ("read_j_per_byte", "J/B"),
        ("size_bytes", "B"),
        ("word_bits", "bit"),
        ("clock_hz", "Hz"),
        ("peak_flops_per_s", "FLOPS"),
        ("useful_flops", "FLOP"),
        ("tokens_per_s", "token/s"),
        ("j_per_token", "J/token"),
        ("die_mm2", "mm2"),
        ("ttft_s", "s"),
        ("price_usd", "USD"),
        ("mfu", None),
        ("lanes", None),
        ("class", None),
    ],
)
def test_the_longest_suffix_states_the_unit(field: str, unit: str | None) -> None:
    assert unit_of(field) == unit


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (3.35e12, "B/s", "3.35 TB/s"),
        (0.0, "W", "0 W"),
        (None, "W", "unknown"),
        (math.inf, "s", "inf s"),
        (5000.0, "USD", "5,000 USD"),
        (1.5e-5, "s", "15.0 us"),
        (814.0, "mm2", "814 mm2"),
        (0.25, "", "0.250"),
        (-2e9, "Hz", "-2.00 GHz"),
    ],
)
def test_values_are_shown_with_a_prefix(value: float | None, unit: str, shown: str) -> None:
    assert show(value, unit) == shown


@given(st.floats(min_value=1e-14, max_value=1e20))
def test_what_is_shown_parses_back_within_its_digits(value: float) -> None:
    assert parse(show(value, "B/s", digits=6), "B/s") == pytest.approx(value, rel=1e-5)


def test_ratios_are_shown_in_percent() -> None:
    assert percent(0.512) == "51.2 %"
    assert percent(None) == "unknown"


def test_a_quantity_field_takes_text_and_numbers() -> None:
    class Part(Model):
        size_bytes: Bytes

    assert Part(size_bytes="2 KiB").size_bytes == 2048  # type: ignore[arg-type]  # text is the point
    assert Part(size_bytes=5).size_bytes == 5
    with pytest.raises(ValueError, match="'big' is not a quantity"):
        Part(size_bytes="big")  # type: ignore[arg-type]  # text is the point
