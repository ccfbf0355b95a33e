import numpy as np
import pytest
from pentarch_example.backend import NpuBackend

import pentarch as pa
from pentarch.testing import BackendConformance


class TestNpu(BackendConformance):
    @pytest.fixture
    def backend(self) -> pa.AnyBackend:
        return NpuBackend()


def test_peak_is_rows_times_columns_times_clock() -> None:
    device = pa.device("example_npu")

    machine = NpuBackend().machine(pa.View(device, 2, {"rows": np.array([64.0, 128.0])}))

    array = machine.engines[0]
    # 128 columns x 1 GHz x 64 or 128 rows
    np.testing.assert_array_equal(
        array.macs_per_cycle["int8"] * array.clock_hz, [64 * 128e9, 128 * 128e9]
    )


def test_alias_finds_the_device() -> None:
    assert pa.device("example npu").name == "example_npu"
