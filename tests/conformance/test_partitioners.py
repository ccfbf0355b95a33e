"""Every installed partitioner keeps its contract."""

import pytest

from pentarch import Partitioner
from pentarch.registry import load_registry
from pentarch.testing import PartitionerConformance

NAMES = sorted(load_registry().partitioners)


class TestPartitioners(PartitionerConformance):
    @pytest.fixture(params=NAMES)
    def partitioner(self, request: pytest.FixtureRequest) -> Partitioner:
        return load_registry().partitioners[request.param]


def test_there_are_partitioners() -> None:
    assert {"single", "tensor"} <= set(NAMES)
