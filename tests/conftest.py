"""Fakes of every kind of plug-in, so that the framework is tested without any real one."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pentarch import (
    Backend,
    Catalog,
    Device,
    MachineTable,
    Metric,
    Partitioner,
    View,
    Workload,
    WorkloadFamily,
    hookimpl,
)
from pentarch.contracts.partitioner import PartitionRequest
from pentarch.errors import FieldError
from pentarch.plan.plan import Plan
from pentarch.registry import Registry
from pentarch.results import Evaluation
from pentarch.testing import registry_of as make_registry
from pentarch.testing.samples import sample_machine, sample_plan, sample_workload


class FakeDevice(Device):
    """A device with one design parameter."""

    size_bytes: float = 16e9
    """Capacity of its memory."""


class FakeBackend(Backend[FakeDevice]):
    """Describes every device as the sample machine."""

    name = "fake"
    about = "A back-end for tests"
    device_model = FakeDevice

    def machine(self, device: View[FakeDevice]) -> MachineTable:
        return sample_machine(name=device.template.name, backend=self.name, length=device.length)


class FakePartitioner(Partitioner):
    """Runs everything on one device."""

    name = "alone"
    about = "A partitioner for tests"

    def partition(self, request: PartitionRequest) -> Plan:
        plan = sample_plan(
            request.workload,
            precisions=request.precisions,
            system=request.system.name,
            backend=request.backend,
        )
        return plan.replace(partitioner=self.name)


class FakeFamily(WorkloadFamily):
    """Reads `{model_type: fake, layers: N}`."""

    name = "fake-family"
    about = "A workload family for tests"
    model_types = frozenset({"fake"})

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        layers = config.get("layers")
        if not isinstance(layers, int) or isinstance(layers, bool) or layers < 1:
            raise FieldError(
                where=where, path="layers", problem=f"found {layers!r}", expected="a count"
            )
        return sample_workload(layers=layers).replace(name=name, family=self.name)


class FakeMetric(Metric):
    """Counts devices."""

    name = "device_count"
    about = "Devices reserved"

    def value(self, evaluation: Evaluation) -> float | None:
        return float(evaluation.devices)


class FakePlugin:
    """A plug-in that provides one of everything, and the catalogs it is given."""

    def __init__(self, catalogs: Iterable[Catalog] = ()) -> None:
        self.catalogs = tuple(catalogs)

    @hookimpl
    def register_backends(self) -> list[type[FakeBackend]]:
        return [FakeBackend]

    @hookimpl
    def register_partitioners(self) -> list[type[FakePartitioner]]:
        return [FakePartitioner]

    @hookimpl
    def register_workload_families(self) -> list[type[FakeFamily]]:
        return [FakeFamily]

    @hookimpl
    def register_metrics(self) -> list[type[FakeMetric]]:
        return [FakeMetric]

    @hookimpl
    def register_catalogs(self) -> tuple[Catalog, ...]:
        return self.catalogs


@pytest.fixture
def fakes() -> SimpleNamespace:
    """Return the fake classes: backend, device, partitioner, family, metric, plugin."""
    return SimpleNamespace(
        backend=FakeBackend,
        device=FakeDevice,
        partitioner=FakePartitioner,
        family=FakeFamily,
        metric=FakeMetric,
        plugin=FakePlugin,
    )


@pytest.fixture
def registry_of() -> Callable[..., Registry]:
    """Return the function that makes a registry of the plug-ins it is given, and no others."""
    return make_registry


@pytest.fixture
def fake_registry() -> Registry:
    """Return a registry with one plug-in that provides one of everything."""
    return make_registry(fake=FakePlugin())


@pytest.fixture
def catalog_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Mapping[str, str]], str]:
    """Return a function that writes YAML files into a new importable package and names it."""
    made: list[str] = []
    monkeypatch.syspath_prepend(tmp_path / "packages")

    def make(files: Mapping[str, str]) -> str:
        name = f"pentarch_test_catalog_{tmp_path.name.replace('-', '_')}_{len(made)}"
        folder = tmp_path / "packages" / name
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text('"""A catalog for tests."""\n', encoding="utf-8")
        for file, text in files.items():
            (folder / file).write_text(text, encoding="utf-8")
        made.append(name)
        return name

    return make
