import pytest

from pentarch.errors import UnknownNameError
from pentarch.workload.formats import Arithmetic, formats, number_format


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("bf16", 16),
        ("fp8", 8),
        ("mxfp8", 8.25),  # one 8-bit scale per 32 values
        ("mxfp4", 4.25),
        ("nvfp4", 4.5),  # one 8-bit scale per 16 values
        ("int4_g128", 4.125),  # one 16-bit scale per 128 values
        ("int4_g64", 4.25),
        ("int4_g32", 4.5),
        ("int8_g128", 8.125),
        ("q4_0", 4.5),  # one 16-bit scale per 32 values
        ("q4_k_m", 4.85),
    ],
)
def test_width_counts_the_share_of_group_scales(name: str, bits: float) -> None:
    assert number_format(name).bits == pytest.approx(bits, rel=1e-12)
    assert number_format(name).bytes == pytest.approx(bits / 8, rel=1e-12)


def test_every_format_runs_on_a_known_engine() -> None:
    for entry in formats().values():
        engine = number_format(entry.compute)
        assert engine.compute == engine.name
        assert engine.arithmetic is entry.arithmetic


def test_storage_formats_are_integers_with_scales() -> None:
    storage = {name for name, entry in formats().items() if entry.native_only_as_weights}
    assert storage == {"int4_g128", "int4_g64", "q4_0", "q4_k_m"}
    assert all(number_format(name).arithmetic is Arithmetic.INTEGER for name in storage)


@pytest.mark.parametrize(("alias", "name"), [("E4M3", "fp8"), ("half", "fp16"), ("BF16", "bf16")])
def test_aliases_and_case_are_accepted(alias: str, name: str) -> None:
    assert number_format(alias).name == name


def test_unknown_format_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'mxfp4'"):
        number_format("mxfp44")
    for wrong in ("int4_g0", "int4_g", "int3_g32", "int4_g-1"):
        with pytest.raises(UnknownNameError, match="groups such as int4_g32"):
            number_format(wrong)
