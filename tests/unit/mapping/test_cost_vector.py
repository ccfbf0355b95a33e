from typing import Any

import numpy as np
import pytest
from tests.unit.mapping.machines import IDEAL, PJ, array, gemms, machine, request, vector, vectors

from pentarch.hardware.runtime import Runtime
from pentarch.mapping.cost_vector import cost_vector, is_fused

UNFUSED = Runtime(name="plain", fused_functions=frozenset())


def test_a_row_of_its_own_moves_its_activations_per_sequence_and_its_gains_once() -> None:
    costs = cost_vector(request(machine(), vectors({}), sequences=3.0, runtime=UNFUSED))
    assert costs.read_bytes["memory"].item() == 3 * 64 + 16
    assert costs.write_bytes["memory"].item() == 3 * 32
    assert costs.level_s["memory"].item() == pytest.approx((3 * 96 + 16) / 4e9 + 20e-9)
    assert costs.compute_s["vector"].item() == pytest.approx(3 * 8 / 8 * 1e-9)
    assert costs.energy_j["vector"].item() == pytest.approx(24 * 5 * PJ)
    assert costs.executed_macs.item() == 0


def test_a_fused_row_keeps_its_arithmetic_and_reads_its_gains_only() -> None:
    costs = cost_vector(request(machine(), vectors({}), sequences=3.0))
    assert costs.read_bytes["memory"].item() == 16
    assert costs.write_bytes["memory"].item() == 0
    assert costs.compute_s["vector"].item() == pytest.approx(3e-9)
    assert costs.detail["fused"].item() == 1


def test_primitives_follow_one_another_at_their_own_rates() -> None:
    work = {"elementwise": 8.0, "reduce": 16.0, "transcendental": 4.0, "convert": 24.0}
    costs = cost_vector(request(machine(), vectors(work)))
    # 8 lanes; an exp takes four cycles
    assert costs.compute_s["vector"].item() == pytest.approx((1 + 2 + 4 * 4 / 8 + 3) * 1e-9)
    assert costs.energy_j["vector"].item() == pytest.approx((8 + 16 + 4 + 24) * 5 * PJ)


def test_the_runtime_decides_what_is_fused() -> None:
    rows = vectors(
        {"functions": "rms_norm"},
        {"functions": "quantize"},
        {"functions": "sampling", "fusable": False},
    )

    def fused(runtime: Runtime) -> list[bool]:
        return is_fused(runtime, rows).tolist()

    assert fused(IDEAL) == [True, True, False]
    assert fused(Runtime(name="r", fused_functions=frozenset({"quantize", "sampling"}))) == [
        False, True, False,
    ]  # fmt: skip
    assert fused(Runtime(name="r", quantize_fused=False)) == [True, False, False]


APPEND: dict[str, Any] = {
    "functions": "kv_append", "kinds": "gather", "weight_bytes": 0.0, "elementwise": 0.0,
}  # fmt: skip


def test_a_fused_append_still_writes_new_keys_and_values() -> None:
    costs = cost_vector(request(machine(), vectors(APPEND), sequences=5.0))
    assert costs.read_bytes["memory"].item() == 0
    assert costs.write_bytes["memory"].item() == 5 * 32


def test_an_append_to_a_resident_cache_stays_on_chip() -> None:
    resident = np.array([False, True])
    costs = cost_vector(
        request(machine(2), vectors(APPEND, {}), runtime=UNFUSED, resident_kv=resident)
    )
    assert costs.write_bytes["memory"].tolist() == [[32, 0], [32, 32]]
    assert costs.write_bytes["buffer"].tolist() == [[0, 32], [0, 0]]
    assert costs.read_bytes["memory"].tolist() == [[64, 64], [80, 80]]


def test_a_gather_needs_no_vector_engine() -> None:
    costs = cost_vector(request(machine(engines=(array(),)), vectors(APPEND)))
    assert costs.fits.all()


def test_a_missing_primitive_stops_the_rows_that_need_it_and_is_named() -> None:
    lacking = vector(values_per_cycle={"elementwise": 1.0})
    rows = vectors({}, {"transcendental": 4.0})
    costs = cost_vector(request(machine(engines=(array(), lacking)), rows))
    assert costs.fits[:, 0].tolist() == [True, False]
    assert costs.notes == ("vector of made-up has no rate for transcendental",)


def test_a_machine_without_a_vector_engine_says_so() -> None:
    costs = cost_vector(request(machine(engines=(array(),)), vectors({})))
    assert not costs.fits.any()
    assert costs.notes == ("made-up has no vector engine",)


def test_unknown_energies_stay_unknown() -> None:
    silent = vector(value_j=None)
    costs = cost_vector(request(machine(engines=(array(), silent)), vectors({})))
    assert costs.energy_j["vector"] is None


def test_rows_of_another_kind_are_refused() -> None:
    with pytest.raises(TypeError, match="vector rows expected"):
        cost_vector(request(machine(), gemms({})))
