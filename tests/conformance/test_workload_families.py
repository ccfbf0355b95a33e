"""Every installed workload family keeps its contract on the workloads of the catalog."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from pentarch import WorkloadFamily
from pentarch.catalog import default_library
from pentarch.documents import read_document
from pentarch.registry import load_registry
from pentarch.testing import WorkloadFamilyConformance

NAMES = sorted(load_registry().families)


class TestWorkloadFamilies(WorkloadFamilyConformance):
    @pytest.fixture(params=NAMES)
    def family(self, request: pytest.FixtureRequest) -> WorkloadFamily:
        return load_registry().families[request.param]

    @pytest.fixture
    def configs(self, family: WorkloadFamily) -> Sequence[Mapping[str, Any]]:
        documents = [
            read_document(entry.file, where=entry.where).values
            for entry in default_library().names("workload")
            if entry.file is not None
        ]
        named = [
            entry["config"]
            for entry in documents
            if entry.get("family") == family.name
            or entry["config"].get("model_type") in family.model_types
        ]
        return [*named, *({"model_type": kind} for kind in sorted(family.model_types))]


def test_there_are_families() -> None:
    assert {"gpt", "llama"} <= set(NAMES)
