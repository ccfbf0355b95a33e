"""Every installed back-end keeps its contract on every device of the catalog."""

import pytest

from pentarch import AnyBackend
from pentarch.registry import load_registry
from pentarch.testing import BackendConformance

NAMES = sorted(load_registry().backends)


class TestBackends(BackendConformance):
    @pytest.fixture(params=NAMES)
    def backend(self, request: pytest.FixtureRequest) -> AnyBackend:
        return load_registry().backends[request.param]


def test_there_are_back_ends() -> None:
    assert {"cpu", "gpu", "npu", "soc"} <= set(NAMES)
