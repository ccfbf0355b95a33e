import datetime
from collections.abc import Mapping
from typing import Any

import pytest

from pentarch.errors import InputError
from pentarch.hardware.calibration import Calibration, CalibrationStore, Fitted, with_figures
from pentarch.hardware.kernel_figures import kernel_key, split_parameter, with_kernel_figures
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.machine import provenance
from pentarch.hardware.priors import Prior

DAY = datetime.date(2026, 1, 31)
SETS = [
    {"operator": "gemm", "b_formats": ["fp8"], "architectures": ["Alpha"], "step": 1.0},
    {"operator": "gemm", "b_formats": ["fp8"], "architectures": ["Beta"], "step": 1.0},
    {"operator": "gemm", "b_formats": ["fp8"], "step": 1.0},
    {"operator": "collective", "protocols": [{"protocol": "ring", "hop_s": 1e-6}]},
]


def entry(name: str, devices: tuple[str, ...], **parameters: float) -> Calibration:
    return Calibration.model_validate({
        "name": name, "runtime": "stack", "devices": devices, "source": "s", "date": DAY,
        "parameters": {
            key.replace("__", "."): {"value": value, "facts": 1.0} for key, value in parameters.items()
        },
    })  # fmt: skip


def fitted(family: str, step: float, *devices: str, name: str = "") -> Calibration:
    made = entry(name or family.casefold(), devices)
    key = f"kernels.gemm/*/fp8/{family}.step"
    return made.replace(parameters={key: {"value": step, "facts": 1.0}})


def kernels(entries: tuple[Calibration, ...], *left_out: str) -> list[Mapping[str, Any]]:
    store = CalibrationStore(entries, frozenset(left_out))
    changed = with_figures(
        {"kernels": SETS, "sources": {"*": {"source": "x", "grade": "asm"}}},
        store.runtime_figures("stack"),
    )
    found: list[Mapping[str, Any]] = changed["kernels"]
    return found


def test_a_set_is_known_by_what_it_is_for() -> None:
    assert kernel_key(SETS[0]) == "gemm/*/fp8/Alpha"
    assert kernel_key(SETS[2]) == "gemm/*/fp8/*"
    assert kernel_key(SETS[3]) == "collective/*/*/*"
    both = {"operator": "vector", "functions": ["norm", "add"], "a_formats": {"fp8", "bf16"}}
    assert kernel_key(both) == "vector/bf16+fp8/*/*/add+norm"
    wide = KernelSet(operator=KernelOperator.ATTENTION_DECODE, least_head_dim=129, most_group=1)
    assert kernel_key(wide.model_dump()) == "attention_decode/*/*/*/group<=1/head_dim>=129"


def test_sets_for_other_shapes_have_figures_of_their_own() -> None:
    sets = [{"operator": "attention_decode", "most_group": 1}, {"operator": "attention_decode"}]
    figures = {
        f"kernels.{kernel_key(values)}.start_s": Fitted(start, provenance("s", "meas"))
        for values, start in zip(sets, (1e-6, 2e-6), strict=True)
    }
    assert [one["start_s"] for one in with_kernel_figures(sets, figures)] == [1e-6, 2e-6]


def test_a_parameter_splits_into_set_and_field() -> None:
    found = split_parameter("kernels.collective/*/*/*.protocols.ring.hop_s")
    assert found == ("collective/*/*/*", "protocols.ring.hop_s")
    assert split_parameter("kernels") is None


def test_a_fit_changes_its_set_and_says_half_of_it_about_others() -> None:
    steps = [one.get("step") for one in kernels((fitted("Alpha", 4.0, "a1"),))]
    # One family that found 4 times its prior: others expect 4^(1/2) times theirs.
    assert steps == [4.0, pytest.approx(2.0), pytest.approx(2.0), None]


def test_leaving_out_the_device_of_a_fit_takes_its_figures_away() -> None:
    entries = (fitted("Alpha", 4.0, "a1"), fitted("Beta", 9.0, "b1"))
    steps = [one.get("step") for one in kernels(entries, "a1")]
    assert steps == [pytest.approx(3.0), 9.0, pytest.approx(3.0), None]
    assert [one.get("step") for one in kernels(entries, "a1", "b1")] == [1.0, 1.0, 1.0, None]


def test_the_fit_that_rests_on_the_most_devices_counts() -> None:
    entries = (fitted("Alpha", 2.0, "a1", name="one"), fitted("Alpha", 4.0, "a1", "a2", name="two"))
    assert kernels(entries)[0]["step"] == 4.0
    assert kernels(entries, "a2")[0]["step"] == 2.0


def test_a_figure_of_a_protocol_changes_that_protocol_only() -> None:
    made = entry("c", ("a1",)).replace(
        parameters={"kernels.collective/*/*/*.protocols.ring.hop_s": {"value": 3e-6}}
    )
    assert kernels((made,))[3]["protocols"] == [{"protocol": "ring", "hop_s": 3e-6}]


def test_kernels_that_are_stated_on_good_grounds_stay() -> None:
    store = CalibrationStore((fitted("Alpha", 4.0, "a1"),))
    values = {"kernels": SETS, "sources": {"kernels": {"source": "measured", "grade": "meas"}}}
    assert with_figures(values, store.runtime_figures("stack"))["kernels"] == SETS


@pytest.mark.parametrize(
    ("value", "spread", "low", "high"), [(0.0, 1, 0.0, 1), (2.0, 1, 0.1, 1.0), (1.0, 0.0, 0.1, 2.0)]
)
def test_a_prior_lies_between_its_bounds(
    value: float, spread: float, low: float, high: float
) -> None:
    with pytest.raises(InputError, match="A prior of"):
        Prior(value, spread, low, high, "test")


def test_a_moved_prior_keeps_to_its_bounds() -> None:
    assert Prior(1.0, 0.1, 0.5, 1.5, "test").moved(10.0).value == 1.5


def test_times_of_parts_that_a_set_lacks_are_not_expected_of_it() -> None:
    sets = [
        {"operator": "attention_decode", "architectures": ["Alpha"], "key_tile_s": 1e-6},
        {"operator": "attention_decode", "architectures": ["Beta"], "start_s": 1e-6},
    ]
    head = "kernels.attention_decode/*/*"
    found = {"key_tile_s": 4e-6, "start_s": 2e-6, "wide": 1.5}
    figures = {
        f"{head}.{name}": Fitted(value, provenance("s", "der")) for name, value in found.items()
    }
    alpha, beta = with_kernel_figures(sets, figures)
    assert (alpha["key_tile_s"], alpha.get("start_s"), alpha["wide"]) == (4e-6, None, 1.5)
    assert (beta.get("key_tile_s"), beta["start_s"], beta["wide"]) == (None, 2e-6, 1.5)
