"""Points: grouped by structure, vectorized over the rest, and always the same figures."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluate.paper import (
    FP8,
    PaperBackend,
    PaperDevice,
    PaperPlugin,
    paper_scenario,
    paper_workload,
)

from pentarch import Backend, Catalog, MachineTable, View, hookimpl
from pentarch.catalog import Library
from pentarch.errors import FieldError, InputError, MissingFigureError, UnknownNameError
from pentarch.evaluate import evaluator as evaluator_module
from pentarch.evaluate.evaluator import CHUNK, ScenarioEvaluator
from pentarch.evaluate.points import Point, PointResults
from pentarch.evaluate.scenario import build_evaluator, change_scenario, resolve_scenario
from pentarch.hardware.system import System
from pentarch.results import VerdictKind
from pentarch.targets import Economics, Targets, judge
from pentarch.testing import registry_of
from pentarch.workload.query import Query

MakePackage = Callable[[Mapping[str, str]], str]

DEVICE = """
kind: device
backend: paper
about: {about}
macs_per_s: {rate}
price_usd: 100
host_usd: 5
host_w: 2
vector_rate: 1000000
update_s: 60
"""
RUNTIME = "kind: runtime\nabout: Slow.\nstep_s: 0.5\n"


class PricedBackend(PaperBackend):
    """Cannot describe a device whose price is unknown."""

    def machine(self, device: View[PaperDevice]) -> MachineTable:
        device.known("price_usd")
        return super().machine(device)


@pytest.fixture
def library(catalog_package: MakePackage) -> Library:
    devices = catalog_package(
        {
            "paper.yaml": DEVICE.format(about="One.", rate=1000),
            "quick.yaml": DEVICE.format(about="Two.", rate=4000),
            "unpriced.yaml": DEVICE.format(about="Three.", rate=10).replace("price_usd: 100\n", ""),
        }
    )
    runtimes = catalog_package({"slow.yaml": RUNTIME})
    plugin = PaperPlugin(
        Catalog(kind="device", package=devices), Catalog(kind="runtime", package=runtimes),
        backend=PricedBackend,
    )  # fmt: skip
    return Library(registry_of(paper=plugin))


@pytest.fixture
def points(library: Library) -> ScenarioEvaluator:
    return build_evaluator(
        library=library, workload=paper_workload(layers=2), system="4xpaper",
        query=Query(prompt_tokens=4, output_tokens=3, concurrency=2), precisions=FP8,
        runtime="ideal", partitioner="alone", degree=None, targets=Targets(), economics=Economics(),
    )  # fmt: skip


def sample_points(count: int, seed: int = 0) -> list[Point]:
    """Return points that differ in numbers, structure, and in what they name at all."""
    rng = np.random.default_rng(seed)
    found: list[dict[str, Any]] = []
    for _ in range(count):
        point: dict[str, Any] = {
            "bytes_per_s": float(rng.uniform(100, 2000)),
            "query.concurrency": int(rng.integers(1, 20)),
        }
        if rng.random() < 0.5:
            point["macs_per_s"] = float(rng.uniform(100, 2000))
        if rng.random() < 0.5:
            point["device"] = str(rng.choice(["paper", "quick"]))
        if rng.random() < 0.5:
            point["system.devices"] = int(rng.choice([1, 2, 4]))
        if rng.random() < 0.3:
            point["runtime"] = "slow"
        if rng.random() < 0.3:
            point["precisions.weights"] = "bf16"
        if rng.random() < 0.3:
            point["query.output_tokens"] = int(rng.choice([1, 5]))
        if rng.random() < 0.2:
            point["cap_w"] = float(rng.uniform(5, 500))
        found.append(point)
    return found


def row(results: PointResults, index: int) -> tuple[Any, ...]:
    figures = {name: column[index].tobytes() for name, column in sorted(results.figures.items())
               if not np.isnan(column[index])}  # fmt: skip
    verdicts = [(column.met[index], column.known[index]) for column in results.targets]
    return figures, bool(results.feasible[index]), results.reasons[index], verdicts


def test_points_together_equal_points_alone_bit_for_bit(
    points: ScenarioEvaluator, library: Library
) -> None:
    sampled = sample_points(60)
    together = points.evaluate(sampled)
    for index, point in enumerate(sampled):
        alone = ScenarioEvaluator(points.scenario, library).evaluate([point])
        assert row(together, index) == row(alone, 0), point


def test_the_order_of_points_does_not_matter(points: ScenarioEvaluator, library: Library) -> None:
    sampled = sample_points(50, seed=1)
    order = np.random.default_rng(2).permutation(len(sampled))
    together = points.evaluate(sampled)
    shuffled = ScenarioEvaluator(points.scenario, library).evaluate([sampled[i] for i in order])

    for place, index in enumerate(order):
        assert row(shuffled, place) == row(together, int(index))


def test_a_full_evaluation_has_the_same_figures_and_verdicts(points: ScenarioEvaluator) -> None:
    sampled = sample_points(25, seed=3)
    together = points.evaluate(sampled)
    for index, point in enumerate(sampled):
        found = points.evaluation(point)
        assert found.feasible == together.feasible[index]
        assert found.query_s == together.figures["query_s"][index]
        assert found.mfu.query == together.figures["mfu.query"][index]
        assert found.system_usd == together.figures["system_usd"][index]
        for verdict, column in zip(found.targets, together.targets, strict=True):
            if verdict.verdict is VerdictKind.INFEASIBLE:
                assert not found.feasible
                continue
            assert (verdict.verdict is VerdictKind.MET) == column.met[index]
            if verdict.margin is None:
                assert np.isnan(column.margin[index])
            else:
                assert verdict.margin == column.margin[index]
        assert judge(found, points.targets) == found.targets


def test_a_point_equals_the_scenario_it_describes(
    points: ScenarioEvaluator, library: Library
) -> None:
    changed = points.evaluation(
        {"device": "quick", "system.devices": 2, "query.concurrency": 6, "bytes_per_s": 700.0}
    )
    written = ScenarioEvaluator(
        replace(
            points.scenario, device=library.device("quick").replace(bytes_per_s=700.0),
            system=System(name="2xquick", device="quick", devices=2),
            query=points.scenario.query.replace(concurrency=6),
        ),
        library,
    ).evaluation({})  # fmt: skip

    assert changed == written
    assert changed.system == "2xquick"
    assert changed.devices == 2
    assert changed.operating_point.query.concurrency == 6


def test_more_points_than_a_chunk(points: ScenarioEvaluator) -> None:
    rates = np.linspace(100, 2000, 2 * CHUNK + 3)
    together = points.evaluate([{"macs_per_s": float(rate)} for rate in rates])
    some = [0, CHUNK - 1, CHUNK, 2 * CHUNK, 2 * CHUNK + 2]
    alone = points.evaluate([{"macs_per_s": float(rates[index])} for index in some])

    np.testing.assert_array_equal(together.figures["query_s"][some], alone.figures["query_s"])
    assert together.feasible.all()
    assert len(together.reasons) == len(rates)


def test_no_points_give_no_results(points: ScenarioEvaluator) -> None:
    found = points.evaluate([])
    assert found.feasible.shape == (0,)
    assert found.reasons == ()


def test_points_of_one_structure_are_evaluated_at_once(
    points: ScenarioEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    original = evaluator_module.run_designs

    def counted(*args: Any, **kwargs: Any) -> Any:
        lengths.append(kwargs["length"])
        return original(*args, **kwargs)

    monkeypatch.setattr(evaluator_module, "run_designs", counted)
    points.evaluate(
        [{"macs_per_s": 100.0 + i, "runtime": ("ideal", "slow")[i % 2]} for i in range(30)]
    )
    assert sorted(lengths) == [15, 15]


def test_a_field_can_be_named_with_its_owner(points: ScenarioEvaluator) -> None:
    short, long = (
        points.evaluate([{"macs_per_s": 300.0}]),
        points.evaluate([{"device.macs_per_s": 300.0}]),
    )
    assert row(short, 0) == row(long, 0)
    points.check({"device.macs_per_s": (100.0, 300.0)})


def test_system_sizes_and_degrees_are_swept(points: ScenarioEvaluator) -> None:
    sizes = points.evaluate([{"system.devices": n, "query.concurrency": 4 * n} for n in (1, 2, 4)])
    rate = sizes.figures["queries_per_s"]
    np.testing.assert_allclose(rate, rate[0] * np.array([1, 2, 4]))

    # all four devices share each operator: one replica of degree 4
    assert points.evaluation({"degree": 4}).operating_point.degrees["tensor"] == 4
    assert points.evaluation({"degree": 4}).operating_point.degrees["data"] == 1


def test_a_degree_that_does_not_divide_is_infeasible_with_its_reason(
    points: ScenarioEvaluator,
) -> None:
    found = points.evaluate([{"degree": 3}, {"degree": 2}])

    assert found.feasible.tolist() == [False, True]
    assert found.reasons == ("3 does not divide 4 devices.", None)
    assert not found.targets[0].known[0]


def test_a_device_that_cannot_be_described_is_infeasible_and_names_the_figure(
    points: ScenarioEvaluator,
) -> None:
    found = points.evaluate([{"device": "unpriced"}, {}])

    assert found.feasible.tolist() == [False, True]
    assert found.reasons[0] == (
        "price_usd of device unpriced is unknown. It can be supplied by its YAML or the vendor."
    )
    assert np.isnan(found.figures["query_s"][0])
    assert not any(column.met[0] or column.known[0] for column in found.targets)
    with pytest.raises(MissingFigureError):
        points.evaluation({"device": "unpriced"})


def test_when_no_point_can_be_described_all_have_reasons(points: ScenarioEvaluator) -> None:
    found = points.evaluate([{"device": "unpriced"}] * 3)

    assert not found.feasible.any()
    assert all(found.reasons)
    assert [column.known.tolist() for column in found.targets] == [[False] * 3] * 5


def test_an_unknown_figure_of_a_verdict_is_named_with_its_supplier(library: Library) -> None:
    plain = Library(registry_of(paper=PaperPlugin()))
    found = ScenarioEvaluator(paper_scenario(), plain).evaluate([{}])

    assert found.feasible.tolist() == [True]
    assert found.reasons == (
        "system_usd is unknown; it can be supplied by the device's price_usd or the system's host_usd, "
        "in their YAML (back-end paper)",
    )


class OtherDevice(PaperDevice):
    """A device of another back-end."""


class OtherBackend(PaperBackend):
    """Describes it."""

    name = "other"
    device_model = OtherDevice


class OtherPlugin:
    """Provides it."""

    @hookimpl
    def register_backends(self) -> list[type[Backend[Any]]]:
        return [OtherBackend]


def test_an_unknown_figure_names_the_back_end_of_its_own_point(
    catalog_package: MakePackage,
) -> None:
    unpriced = DEVICE.format(about="No price.", rate=1000).replace("price_usd: 100\n", "")
    devices = catalog_package(
        {"paper.yaml": unpriced, "rival.yaml": unpriced.replace("paper", "other")}
    )
    plugin = PaperPlugin(Catalog(kind="device", package=devices))
    library = Library(registry_of(paper=plugin, other=OtherPlugin()))
    start = paper_scenario()

    found = ScenarioEvaluator(start, library).evaluate([{"device": "paper"}, {"device": "rival"}])
    ends = [(reason or "").rpartition("(")[2] for reason in found.reasons]
    assert ends == ["back-end paper)", "back-end other)"]


@pytest.mark.parametrize(
    ("point", "error", "message"),
    [
        ({"lanes": 3.0}, FieldError, "lanes"),
        ({"board.width": 3.0}, InputError, "There is no parameter board.width"),
        ({"query.speed": 3.0}, FieldError, "speed"),
        ({"device": "papier"}, UnknownNameError, "paper"),
        ({"runtime": "quick"}, UnknownNameError, "runtime"),
        ({"partitioner": "x"}, UnknownNameError, "alone"),
        ({"precisions.weights": "fp9"}, FieldError, "fp9"),
        ({"system.devices": 0}, FieldError, "devices"),
        ({"degree": 0}, FieldError, "degree"),
        ({"degree": 1.5}, FieldError, "degree"),
        ({"degree": "two"}, FieldError, "degree"),
        ({"macs_per_s": "fast"}, FieldError, "macs_per_s"),
        ({"query.concurrency": 0}, FieldError, "concurrency"),
        ({"query.concurrency": 2.5}, FieldError, "concurrency"),
    ],
)
def test_a_bad_path_or_value_is_an_error(
    points: ScenarioEvaluator, point: Point, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        points.evaluate([point])
    with pytest.raises(error, match=message):
        points.check({path: [value] for path, value in point.items()})


def test_a_swept_value_out_of_bounds_is_an_error(library: Library) -> None:
    scenario = paper_scenario(system=System(name="paper", device="paper"))
    with pytest.raises(FieldError, match="year"):
        ScenarioEvaluator(scenario, library).evaluate([{"year": 2020.0}, {"year": 1066.0}])


def test_check_passes_what_can_be_evaluated(points: ScenarioEvaluator) -> None:
    points.check(
        {
            "macs_per_s": (100.0, 200.0), "query.concurrency": (1, 64), "system.devices": (1, 2),
            "device": ("paper", "quick"), "runtime": ("ideal", "slow"), "degree": (1, 2),
            "precisions.kv": ("fp8", "bf16"), "workload": (),
        }
    )  # fmt: skip


def test_formats_that_a_point_leaves_out_are_the_devices_default(library: Library) -> None:
    class OnlyBf16(PaperBackend):
        def machine(self, device: View[PaperDevice]) -> MachineTable:
            machine = super().machine(device)
            engine = machine.engines[0]
            rates = {"bf16": engine.macs_per_cycle["bf16"]}
            groups = {"macs_per_cycle": rates, "mac_j": {"bf16": engine.mac_j["bf16"]}}
            own = type(engine)(engine.model, 1, engine.numbers, groups, engine.structure)
            return replace(machine, engines=(own,))

    scenario = paper_scenario(backend=OnlyBf16(), precisions=None)
    changed = change_scenario(scenario, {"precisions.weights": "int4"}, library)

    assert changed.precisions is not None
    assert changed.precisions.weights == "int4"
    assert changed.precisions.activations == changed.precisions.kv == "bf16"


def test_names_are_resolved_once(library: Library) -> None:
    scenario = resolve_scenario(
        workload=paper_workload(), system="2xquick", query=Query(), precisions=None,
        runtime="slow", partitioner="alone", degree=None, targets=Targets(), economics=Economics(),
        library=library,
    )  # fmt: skip

    assert scenario.device.name == "quick"
    assert scenario.backend.name == "paper"
    assert scenario.runtime.step_s == 0.5
    assert scenario.with_system_costs().host_w == 2 * 2.0


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"device": "quick"}, "4xquick"),
        ({"device": "quick", "system.devices": 1}, "quick"),
        ({"system.devices": 2}, "2xpaper"),
        ({"system.devices": 1}, "paper"),
        ({"system.host_w": 3.0}, "4xpaper"),
    ],
)
def test_a_changed_system_is_named_after_what_is_in_it(
    points: ScenarioEvaluator, library: Library, changes: Point, name: str
) -> None:
    assert change_scenario(points.scenario, changes, library).system.name == name


def test_a_system_with_a_name_of_its_own_keeps_it(
    points: ScenarioEvaluator, library: Library
) -> None:
    box = replace(points.scenario, system=System(name="edge-box", device="paper", devices=2))
    assert change_scenario(box, {"system.devices": 3}, library).system.name == "edge-box"
