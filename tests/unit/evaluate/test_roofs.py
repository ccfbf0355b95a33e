"""The roofline that an evaluation carries, and the operators under it."""

import pytest

import pentarch as pa
from pentarch.results import Evaluation


def evaluated(system: str) -> Evaluation:
    return pa.evaluate(pa.partition("llama-3-8b", system, pa.Query(concurrency=32)))


@pytest.fixture(scope="module", params=["h100_sxm", "edge_soc"])
def found(request: pytest.FixtureRequest) -> Evaluation:
    return evaluated(request.param)


def test_roofs_are_those_of_the_data_sheet() -> None:
    # NVIDIA H100 SXM data sheet: 1,979 TFLOPS dense in fp8 and 3.35 TB/s, which streams nearly reach.
    (roofs,) = evaluated("h100_sxm").roofs
    assert (roofs.device, roofs.memory, roofs.main_format) == ("h100_sxm", "hbm3", "fp8")
    assert roofs.peak_flops_per_s["fp8"] == pytest.approx(1.979e15, rel=0.01)
    assert 0.8 * 3.35e12 <= roofs.memory_bytes_per_s <= 3.36e12
    assert roofs.ridge == pytest.approx(roofs.peak_flops_per_s["fp8"] / roofs.memory_bytes_per_s)


def test_peak_of_the_system_is_that_of_its_roofs(found: Evaluation) -> None:
    (roofs,) = found.roofs
    peak = roofs.peak_flops_per_s[roofs.main_format] * found.devices
    assert found.peak_flops_per_s == pytest.approx(peak)


def test_no_operator_is_above_the_roofs(found: Evaluation) -> None:
    (roofs,) = found.roofs
    multiplying = [operator for operator in found.operators if operator.executed_macs > 0]
    assert {operator.phase for operator in multiplying} == {"prefill", "decode"}
    for operator in multiplying:
        done = 2.0 * operator.executed_macs
        slack = 1.0 + 1e-9
        assert done / operator.time_s <= max(roofs.peak_flops_per_s.values()) * slack
        read = operator.read_bytes.get(roofs.memory, 0.0)
        assert read / operator.time_s <= roofs.memory_bytes_per_s * slack, operator.name


def test_operators_fill_the_time_of_one_query_when_all_in_flight_are_counted(
    found: Evaluation,
) -> None:
    # C prefills and one run of decode steps take as long as one query of C (serving, closed form);
    # only a power cap, the steps' own overhead and overlap across operators are not theirs.
    busy = sum(operator.device_s for operator in found.operators)
    assert found.query_s is not None
    assert 0.8 * found.query_s <= busy <= found.query_s * (1 + 1e-9)
    prefill = next(o for o in found.operators if o.phase == "prefill")
    decode = next(o for o in found.operators if o.phase == "decode")
    assert prefill.busy_s == pytest.approx(32 * prefill.total_s)
    assert decode.busy_s == pytest.approx(decode.total_s)
