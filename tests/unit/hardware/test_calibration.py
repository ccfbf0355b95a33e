import datetime

import pytest
from pydantic import ValidationError

from pentarch.hardware.calibration import (
    CalibratedParameter,
    Calibration,
    CalibrationStore,
    with_figures,
)

DAY = datetime.date(2026, 1, 31)


def fit(name: str, family: str, *, identified: bool = True, **values: float) -> Calibration:
    return Calibration(
        name=name, backend="gpu", device=name, family=family, source=f"{name}.csv",
        date=DAY, error={"mape": 0.08},
        parameters={
            key: CalibratedParameter(value=value, identified=identified)
            for key, value in values.items()
        },
    )  # fmt: skip


STORE = (fit("a1", "Alpha", rate=2.0), fit("a2", "Alpha", rate=8.0), fit("b1", "Beta", rate=27.0))


def rate(*left_out: str, device: str = "a1", family: str | None = "Alpha") -> tuple[float, str]:
    store = CalibrationStore(STORE, frozenset(name.casefold() for name in left_out))
    found = store.figures("gpu", lineage=(device,), family=family)["rate"]
    return found.value, found.provenance.grade


def test_a_device_has_what_was_fitted_to_it() -> None:
    assert rate() == (2.0, "meas")


def test_an_unmeasured_device_has_the_geometric_mean_of_its_family() -> None:
    assert rate(device="a3") == (pytest.approx(4.0), "der")  # sqrt(2 x 8)


def test_a_device_that_is_left_out_has_the_mean_of_the_others_of_its_family() -> None:
    assert rate("A1") == (pytest.approx(8.0), "der")


def test_a_family_that_is_left_out_has_the_mean_of_the_other_families() -> None:
    assert rate("alpha") == (pytest.approx(27.0), "der")


def test_a_device_without_a_family_has_the_mean_of_all() -> None:
    value, _ = rate(device="c1", family=None)
    assert value == pytest.approx((2.0 * 8.0 * 27.0) ** (1 / 3))


def test_a_prior_of_the_family_precedes_the_mean_unless_it_rests_on_what_is_left_out() -> None:
    prior = Calibration(
        name="alpha", backend="gpu", family="Alpha", devices=("a1", "a2"), source="both",
        date=DAY, parameters={"rate": CalibratedParameter(value=5.0)},
    )  # fmt: skip

    def value(*left_out: str) -> float:
        store = CalibrationStore((*STORE, prior), frozenset(left_out))
        return store.figures("gpu", lineage=("a3",), family="Alpha")["rate"].value

    assert value() == 5.0
    assert value("a1") == pytest.approx(8.0)


def test_what_was_not_identified_is_used_by_its_device_only() -> None:
    vague = fit("a4", "Alpha", identified=False, other=3.0)
    store = CalibrationStore((vague,))
    own = store.figures("gpu", lineage=("a4",), family="Alpha")["other"]
    assert (own.value, own.provenance.grade) == (3.0, "der")
    assert store.figures("gpu", lineage=("a5",), family="Alpha") == {}


def test_a_variant_has_the_figures_of_its_base() -> None:
    found = CalibrationStore(STORE).figures("gpu", lineage=("a1_capped", "a1"), family="Alpha")
    assert found["rate"].value == 2.0


def test_a_stated_figure_stays_and_an_assumption_gives_way() -> None:
    figures = CalibrationStore(STORE).figures("gpu", lineage=("a1",), family="Alpha")
    known = {"rate": 1.0, "sources": {"rate": {"source": "datasheet", "grade": "pub"}}}
    assumed = {"rate": 1.0, "sources": {"*": {"source": "a guess", "grade": "asm"}}}
    assert with_figures(known, figures)["rate"] == 1.0
    changed = with_figures(assumed, figures)
    assert changed["rate"] == 2.0
    assert changed["sources"]["rate"]["grade"] == "meas"
    assert "a1.csv, 2026-01-31, MAPE 8.0%" in changed["sources"]["rate"]["source"]
    assert with_figures({}, figures, allowed=()) == {}


def test_an_entry_of_a_mapping_is_set_beside_the_others() -> None:
    keyed = CalibrationStore((fit("a1", "Alpha", **{"share.fp8": 0.5}),))
    figures = keyed.figures("gpu", lineage=("a1",), family="Alpha")
    assert with_figures({"share": {"bf16": 0.9}}, figures)["share"] == {"bf16": 0.9, "fp8": 0.5}


@pytest.mark.parametrize(
    "changes",
    [{"runtime": "vllm"}, {"device": None, "family": None}, {"backend": None}, {"date": "May"}],
)
def test_a_calibration_belongs_to_exactly_one_owner_and_day(changes: dict[str, str | None]) -> None:
    values = STORE[0].model_dump() | changes
    with pytest.raises(ValidationError):
        Calibration.model_validate(values)


def test_a_runtime_has_its_own_figures() -> None:
    entry = Calibration(
        name="stack", runtime="stack", source="x", date=DAY,
        parameters={"launch_s": CalibratedParameter(value=1e-6)},
    )  # fmt: skip
    store = CalibrationStore((entry, *STORE))
    assert store.runtime_figures("stack")["launch_s"].value == 1e-6
    assert store.runtime_figures("other") == {}
