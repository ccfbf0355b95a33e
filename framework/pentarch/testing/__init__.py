"""The conformance kit: pytest classes that hold a plug-in against its contract.

    class TestNpu(BackendConformance):
        @pytest.fixture
        def backend(self) -> AnyBackend:
            return NpuBackend()

Each check is a function `check_*`. One that is known to fail is named in `expected_failures` with
its reason; when it passes after all, the test fails, so that the entry cannot be forgotten.
"""

from pentarch.testing.backend import BackendCase, BackendConformance
from pentarch.testing.partitioner import PartitionerCase, PartitionerConformance
from pentarch.testing.registries import registry_of
from pentarch.testing.workload_family import WorkloadFamilyCase, WorkloadFamilyConformance

__all__ = [
    "BackendCase",
    "BackendConformance",
    "PartitionerCase",
    "PartitionerConformance",
    "WorkloadFamilyCase",
    "WorkloadFamilyConformance",
    "registry_of",
]
