import datetime
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pentarch.catalog import Library, default_library
from pentarch.documents import read_document
from pentarch.errors import InputError, UnknownNameError
from pentarch.hardware.calibration import Calibration, CalibrationStore
from pentarch.hardware.columns import Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet
from pentarch.hardware.priors import Prior
from pentarch.hardware.reading import read_model
from pentarch.hardware.runtime import Runtime
from pentarch.validation.calibrate import FitRequest, calibrate_device
from pentarch.validation.calibrate_runtime import calibrate_runtime, changed_runtime
from pentarch.validation.calibration_file import calibration_text
from pentarch.validation.fit import Observations, fit_parameters
from pentarch.validation.fit_rows import RowFilter, read_rows, rows_of_device, rows_of_runtime
from pentarch.validation.kernel_priors import runtime_priors
from pentarch.validation.kernels import GemmPart, KernelRow, quantize_part
from pentarch.validation.predict import predict

DAY = datetime.date(2026, 1, 31)
MEASURED = Path(__file__).parents[2] / "validation" / "data" / "measured"
SHAPES = [
    (m, k, n)
    for m in (1, 8, 64, 512, 4096)
    for k, n in ((256, 256), (1024, 1024), (4096, 4096), (8192, 28672), (14336, 4096))
]


def prior(value: float, spread: float = 0.5) -> Prior:
    return Prior(value, spread, value / 100, value * 100, "test")


def line(columns: Mapping[str, Floats], x: Floats) -> Floats:
    return columns["offset"][None, :] + columns["slope"][None, :] * x[:, None]


@pytest.fixture(scope="module")
def library() -> Library:
    return default_library()


class TestFit:
    X = np.linspace(1.0, 50.0, 40)

    def observed(self, offset: float = 3.0, slope: float = 0.7) -> Observations:
        return Observations(seconds=offset + slope * self.X, noise=np.full(40, 0.1))

    def test_known_parameters_are_found(self) -> None:
        priors = {"offset": prior(1.0), "slope": prior(1.0)}
        found = fit_parameters(lambda columns: line(columns, self.X), self.observed(), priors)
        assert found.estimates["offset"].value == pytest.approx(3.0, rel=0.05)
        assert found.estimates["slope"].value == pytest.approx(0.7, rel=0.02)
        assert all(one.identified for one in found.estimates.values())
        assert np.abs(found.after / self.observed().seconds - 1).max() < 0.03
        low, high = found.estimates["slope"].interval
        assert low < 0.7 < high

    def test_the_interval_is_that_of_a_normal_posterior(self) -> None:
        # t = p on 25 rows of noise 0.1: the posterior's precision is 25 / 0.1^2 + 1 / 0.5^2 = 2504.
        found = fit_parameters(
            lambda columns: np.repeat(columns["p"][None, :], 25, axis=0),
            Observations(seconds=np.full(25, 2.0), noise=np.full(25, 0.1)), {"p": prior(2.0)},
        ).estimates["p"]  # fmt: skip
        assert found.log_spread == pytest.approx(2504**-0.5, rel=0.01)
        assert found.interval[1] / found.value == pytest.approx(
            np.exp(1.6449 * 2504**-0.5), rel=1e-3
        )

    def test_what_no_row_depends_on_stays_at_its_prior_and_says_so(self) -> None:
        priors = {"offset": prior(1.0), "slope": prior(1.0), "idle": prior(5.0, 0.3)}
        found = fit_parameters(lambda columns: line(columns, self.X), self.observed(), priors)
        idle = found.estimates["idle"]
        assert (idle.value, idle.identified) == (5.0, False)
        assert idle.log_spread == pytest.approx(0.3)

    def test_an_outlier_moves_the_fit_by_less_than_its_share(self) -> None:
        seconds = np.full(21, 1.0)
        seconds[0] = 100.0
        found = fit_parameters(
            lambda columns: np.repeat(columns["p"][None, :], 21, axis=0),
            Observations(seconds=seconds, noise=np.full(21, 0.1)), {"p": prior(1.0, 3.0)},
        )  # fmt: skip
        assert found.estimates["p"].value < 1.02  # the geometric mean is 100^(1/21) = 1.25

    def test_a_parameter_that_matters_only_far_from_its_prior_is_found(self) -> None:
        # t = max(1, 0.8 p): at the prior of 1 nothing depends on p, the rows say p = 1.5.
        found = fit_parameters(
            lambda columns: np.repeat(np.maximum(1.0, 0.8 * columns["p"])[None, :], 30, axis=0),
            Observations(seconds=np.full(30, 1.2), noise=np.full(30, 0.1)), {"p": prior(1.0, 0.3)},
        ).estimates["p"]  # fmt: skip
        assert found.identified
        assert found.value == pytest.approx(1.5, rel=0.02)

    def test_all_derivatives_come_from_one_batch(self) -> None:
        lengths: list[int] = []

        def counted(columns: Mapping[str, Floats]) -> Floats:
            lengths.append(len(columns["slope"]))
            return line(columns, self.X)

        fit_parameters(counted, self.observed(), {"offset": prior(1.0), "slope": prior(1.0)})
        # Parameters + 1 at every step; then both sides of each for the spread, and before and after.
        assert set(lengths[:-2]) == {3}
        assert lengths[-2:] == [4, 2]

    def test_two_fits_are_equal(self) -> None:
        priors = {"offset": prior(1.0), "slope": prior(1.0)}
        one, two = (
            fit_parameters(lambda columns: line(columns, self.X), self.observed(), priors)
            for _ in range(2)
        )
        assert one.estimates == two.estimates

    def test_without_scipy_the_error_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "scipy.optimize", None)
        with pytest.raises(InputError, match=r"pip install 'pentarch\[calibrate\]'"):
            fit_parameters(
                lambda columns: line(columns, self.X), self.observed(),
                {"offset": prior(1.0), "slope": prior(1.0)},
            )  # fmt: skip

    @pytest.mark.parametrize("rows", [0, 1])
    def test_nothing_to_fit_is_an_error(self, rows: int) -> None:
        observed = Observations(seconds=np.ones(rows), noise=np.ones(rows))
        with pytest.raises(InputError, match="A fit needs parameters and rows"):
            fit_parameters(
                lambda columns: np.ones((rows, 1)), observed, {} if rows else {"p": prior(1.0)}
            )


def synthetic(
    library: Library, changes: Mapping[str, float], word: str = "bf16"
) -> list[KernelRow]:
    """Return GEMMs with the times of an H100 that is changed."""
    rows = [
        KernelRow(
            file="made.csv", label="made", device="h100_sxm", operator="gemm", precision=word,
            subset="main", runtimes=("vllm",), measured_s=1.0, copies=6.0,
            parts=(
                *((quantize_part(m * k, word),) if word != "bf16" else ()),
                GemmPart(m=m, k=k, n=n, a_format=word, b_format=word, out_format="bf16"),
            ),
        )
        for m, k, n in SHAPES
    ]  # fmt: skip
    device = library.device("h100_sxm").replace(**changes)
    times = predict(rows, device, library.runtime("vllm").for_family("Hopper"), library)
    return [replace(row, measured_s=time) for row, time in zip(rows, times.tolist(), strict=True)]


class TestDevice:
    NAMES = ("kernel_start_s", "k_step_s", "tile_stream_share")

    def request(self, *names: str) -> FitRequest:
        return FitRequest(name="made", date=DAY, parameters=names, independent=True)

    def test_the_engines_own_parameters_are_recovered(self, library: Library) -> None:
        truth = {"kernel_start_s": 3.1e-6, "k_step_s": 1.2e-7, "tile_stream_share": 0.83}
        result = calibrate_device(
            synthetic(library, truth), "h100_sxm", library, self.request(*self.NAMES)
        )
        found = result.calibration.parameters
        for name, value in truth.items():
            assert found[name].value == pytest.approx(value, rel=0.06), name
            assert found[name].identified
        assert result.after["mape"] < 0.02 < result.before["mape"]

    def test_what_gemms_do_not_show_stays_at_the_prior(self, library: Library) -> None:
        names = ("kernel_start_s", "transcendental_per_cycle")
        rows = synthetic(library, {"kernel_start_s": 3.1e-6})
        found = calibrate_device(rows, "h100_sxm", library, self.request(*names))
        idle = found.calibration.parameters["transcendental_per_cycle"]
        assert not idle.identified
        assert idle.value == library.priors("h100_sxm")["transcendental_per_cycle"].value

    def test_only_what_moves_a_prediction_is_fitted_unless_it_is_named(
        self, library: Library
    ) -> None:
        rows = synthetic(library, {})[:4]
        found = calibrate_device(rows, "h100_sxm", library, self.request()).calibration
        assert "kernel_start_s" in found.parameters
        assert "link_efficiency" not in found.parameters

    def test_unreliable_rows_and_other_devices_are_not_used(self, library: Library) -> None:
        rows = read_rows([MEASURED / "aic_gemm.csv"], library, RowFilter())
        assert {row.subset for row in rows} <= {"main", "L2fit"}
        assert {row.device for row in rows_of_device(rows, "a100_sxm")} == {"a100_sxm"}
        with pytest.raises(InputError, match="No usable row of the files is of t4"):
            calibrate_device(rows, "t4", library, self.request())

    def test_an_unknown_parameter_is_named(self, library: Library) -> None:
        with pytest.raises(UnknownNameError, match="kernel_start"):
            calibrate_device(
                synthetic(library, {}), "h100_sxm", library, self.request("kernel_start")
            )

    def test_a_measurement_with_several_columns_counts_once(self, library: Library) -> None:
        rows = read_rows([MEASURED / "aic_gemm.csv"], library, RowFilter())
        own = rows_of_device(rows, "h100_sxm")
        assert len({id(row.parts) for row in own}) == len(own)
        mine = rows_of_runtime(rows, "sglang")
        assert {row.framework for row in mine} == {"sglang"}

    def test_a_calibration_survives_its_file(self, library: Library, tmp_path: Path) -> None:
        made = calibrate_device(
            synthetic(library, {"kernel_start_s": 3e-6}),
            "h100_sxm",
            library,
            self.request(*self.NAMES),
        ).calibration
        path = tmp_path / "made.yaml"
        path.write_text(calibration_text(made), "utf-8")
        values = dict(read_document(path, where=str(path)).values)
        assert values.pop("kind") == "calibration"
        assert read_model(Calibration, {**values, "name": "made"}, where="made") == made


class TestPriors:
    """What an unmeasured device is taken to be."""

    def entry(self, device: str, family: str, value: float, facts: float) -> Calibration:
        return Calibration.model_validate({
            "name": device, "backend": "gpu", "device": device, "family": family, "source": "s",
            "date": DAY, "parameters": {"p": {"value": value, "facts": facts}},
        })  # fmt: skip

    def value(self, *left_out: str, family: str = "Alpha") -> float:
        entries = (
            self.entry("a1", "Alpha", 2.0, 1.0), self.entry("a2", "Alpha", 8.0, 2.0),
            self.entry("b1", "Beta", 3.0, 6.0),
        )  # fmt: skip
        store = CalibrationStore(entries, frozenset(left_out))
        found = store.figures("gpu", lineage=("a3",), family=family, priors={"p": prior(10.0)})
        return found["p"].value

    def test_its_prior_is_moved_by_ratios_of_its_family_and_less_by_others(self) -> None:
        # ln ratios: Alpha ln 2, ln 4; Beta -ln 2. general = -ln 2 / 2 over one other family;
        # r = general + 2/3 (1.5 ln 2 - general) = (1 - 1/6) ln 2
        assert self.value() == pytest.approx(10 * 2 ** (5 / 6))

    def test_a_family_without_measurements_takes_the_mean_of_the_families(self) -> None:
        # (1.5 ln 2 - ln 2) / 3
        assert self.value(family="Gamma") == pytest.approx(10 * 2 ** (1 / 6))

    def test_leaving_out_rebuilds_it(self) -> None:
        # a2 gone: general -ln2/2, own ln 2 of one device: -1/2 + 1/2 (1 + 1/2) = 1/4
        assert self.value("a2") == pytest.approx(10 * 2 ** (1 / 4))
        # Alpha gone: Beta alone says half of -ln 2
        assert self.value("alpha") == pytest.approx(10 * 2 ** (-1 / 2))

    def test_a_left_out_device_has_none_of_its_own_figures(self, library: Library) -> None:
        own, without = (
            library.device("h100_sxm"),
            library.leaving_out("h100_sxm").device("h100_sxm"),
        )
        assert own.k_step_s != without.k_step_s
        assert without.sources["k_step_s"].grade == "der"
        assert "h100_sxm" not in without.sources["k_step_s"].source


class TestRuntime:
    def test_figures_of_a_kernel_set_are_recovered(self, library: Library) -> None:
        key = "kernels.gemm/fp8/fp8/Hopper"
        truth = {
            f"{key}.efficiency": 0.88,
            f"{key}.step": 2.5,
            "kernels.quantize/fp8/*/Hopper.start_s": 4e-6,
        }
        rows = synthetic(library, {}, "fp8")
        stack = changed_runtime(library.runtime("vllm"), truth).for_family("Hopper")
        times = predict(rows, library.device("h100_sxm"), stack, library)
        rows = [replace(row, measured_s=t) for row, t in zip(rows, times.tolist(), strict=True)]
        result = calibrate_runtime(
            rows, "vllm", library, FitRequest(name="made", date=DAY, parameters=tuple(truth))
        )
        for name, value in truth.items():
            assert result.calibration.parameters[name].value == pytest.approx(value, rel=0.1), name
        assert result.calibration.devices == ("h100_sxm",)
        assert result.after["mape"] < 0.02

    def test_a_stack_that_ran_no_row_is_an_error(self, library: Library) -> None:
        with pytest.raises(
            InputError, match="No usable row of the files was run by 'oneccl' alone"
        ):
            calibrate_runtime(
                synthetic(library, {}), "oneccl", library, FitRequest(name="made", date=DAY)
            )

    @pytest.mark.parametrize("name", ["vllm", "framework-eager"])
    def test_every_prior_names_a_figure_that_can_be_changed(
        self, library: Library, name: str
    ) -> None:
        stack = library.runtime(name)
        for parameter, one in runtime_priors(stack).items():
            assert changed_runtime(stack, {parameter: one.value}) is not None

    def test_how_fast_a_tile_is_fed_is_expected_to_be_what_the_stack_states(self) -> None:
        stack = Runtime(
            name="made",
            kernels=(
                KernelSet(operator=KernelOperator.BATCHED, feed_per_mac=0.2, scattered=0.5),
                KernelSet(operator=KernelOperator.GEMM, feed_per_mac=0.1),
                KernelSet(operator=KernelOperator.MOE),
            ),
        )
        priors = runtime_priors(stack)
        head = "kernels.batched/*/*/*"
        assert priors[f"{head}.feed_per_mac"].value == 0.2
        assert priors["kernels.gemm/*/*/*.feed_per_mac"].value == 0.1
        # That of reading again is the one of all stacks, and nothing that none states is fitted.
        assert priors[f"{head}.scattered"].value == 0.2
        assert "kernels.gemm/*/*/*.scattered" not in priors
        assert not any("moe" in name and "feed" in name for name in priors)
