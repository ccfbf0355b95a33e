"""One path for one design and for a million: equal bytes in batches of any size, on any thread."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from pentarch.catalog import default_library
from pentarch.evaluate.api import partition
from pentarch.evaluate.bench import OneBoundary
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.figures import Figures
from pentarch.evaluate.prepare import Prepared
from pentarch.evaluate.stage_costs import PHASES
from pentarch.graph.operators import OperatorKind, Phase
from pentarch.hardware.columns import Floats, sum_rows
from pentarch.mapping.gemm import FrontStore
from pentarch.workload.query import Query

COUNT = 9

OFF = """
from tests.unit.evaluate.test_designs import digest, designs, one_boundary
from pentarch.evaluate.designs import run_designs
columns = {name: values[:2] for name, values in designs(one_boundary()).items()}
print(digest(run_designs(one_boundary(), length=2, columns=columns)))
"""


def two_boundaries() -> Prepared:
    """Return a small model on an SoC behind two boundaries, several queries in flight."""
    query = Query(prompt_tokens=200, output_tokens=20, concurrency=3)
    return partition("llama-3-8b", "edge_soc", query, library=default_library()).prepared


def one_boundary() -> Prepared:
    """Return the same behind one boundary."""
    found = two_boundaries()
    scenario = replace(found.scenario, backend=OneBoundary(found.scenario.backend))
    return replace(found, scenario=scenario)


def capped() -> Prepared:
    """Return the same under a power cap that binds for some designs."""
    found = two_boundaries()
    device = found.scenario.device.replace(power_cap_w=30.0)
    return replace(found, scenario=replace(found.scenario, device=device))


def hosted() -> Prepared:
    """Return the same under a software stack that launches operators."""
    found = two_boundaries()
    runtime = default_library().runtime("vllm-graphs")
    return replace(found, scenario=replace(found.scenario, runtime=runtime))


PREPARED = {
    "two": two_boundaries, "one": one_boundary, "capped": capped, "hosted": hosted,
}  # fmt: skip


def designs(prepared: Prepared, count: int = COUNT) -> dict[str, Floats]:
    """Return designs that differ in everything; one of them holds the whole model on chip."""
    rng = np.random.default_rng(3)
    found = {
        "sram_bytes": np.floor(rng.uniform(2e6, 3e7, count)),
        "register_bytes": np.floor(rng.uniform(8e3, 7e4, count)),
        "clock_hz": rng.uniform(3e8, 2e9, count),
        "voltage_v": rng.uniform(0.6, 0.9, count),
    }
    if prepared.machine.power.cap_w is None:
        found["sram_bytes"][-1] = 8.5e9
    return found


def part(columns: Mapping[str, Floats], first: int, last: int) -> dict[str, Floats]:
    return {name: values[first:last] for name, values in columns.items()}


def joined(parts: list[Figures]) -> dict[str, bytes]:
    """Return the bytes of every figure of several batches, one after the other."""
    found = {}
    for name in parts[0].values:
        column = [one.values[name] for one in parts]
        known = [values for values in column if values is not None]
        found[name] = np.concatenate(known).tobytes() if known else b""
    for name in parts[0].energy_j:
        energies = [one.energy_j[name] for one in parts]
        found[f"energy {name}"] = b"".join(e.tobytes() for e in energies if e is not None)
    found["fits"] = np.concatenate([one.feasibility.fits for one in parts]).tobytes()
    return found


def digest(figures: Figures) -> str:
    """Return a hash over all figures."""
    found = joined([figures])
    return hashlib.sha256(b"".join(found[name] for name in sorted(found))).hexdigest()


@pytest.mark.parametrize("name", PREPARED)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_of_any_size_give_identical_bytes(name: str, size: int) -> None:
    prepared = PREPARED[name]()
    columns = designs(prepared)
    whole = run_designs(prepared, length=COUNT, columns=columns, store=FrontStore())
    parts = [
        run_designs(
            prepared, length=min(size, COUNT - first), columns=part(columns, first, first + size),
            store=FrontStore(),
        )
        for first in range(0, COUNT, size)
    ]  # fmt: skip

    assert joined(parts) == joined([whole])
    assert whole.feasibility.fits.any()


def test_a_cap_binds_for_some_designs_and_not_for_others() -> None:
    # The identity above would say nothing about the cap if it never slowed a design down.
    prepared = capped()
    found = run_designs(prepared, length=COUNT, columns=designs(prepared))
    slowed = np.array([found.stages[0].prefill.clock_ratio, found.stages[0].decode.clock_ratio]) < 1

    assert slowed.any()
    assert not slowed.all()


def test_threads_that_share_plan_and_fronts_give_identical_bytes() -> None:
    prepared, store = two_boundaries(), FrontStore()
    columns = designs(prepared)
    alone = [
        run_designs(two_boundaries(), length=3, columns=part(columns, first, first + 3))
        for first in range(0, COUNT, 3)
    ]

    def run(first: int) -> Figures:
        return run_designs(prepared, length=3, columns=part(columns, first, first + 3), store=store)

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(run, range(0, COUNT, 3)))

    assert joined(together) == joined(alone)


def test_the_compiler_changes_no_byte() -> None:
    prepared = one_boundary()
    columns = part(designs(prepared), 0, 2)
    path = os.pathsep.join([os.getcwd(), *(entry for entry in sys.path if entry)])
    interpreted = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", OFF], check=True, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": path},
    ).stdout.strip()  # fmt: skip

    assert interpreted == digest(run_designs(prepared, length=2, columns=columns))


@pytest.mark.parametrize("name", PREPARED)
def test_sums_over_vector_rows_are_those_of_the_rows(name: str) -> None:
    prepared = PREPARED[name]()
    found = run_designs(prepared, length=COUNT, columns=designs(prepared))
    entry = next(e for e in found.stages[0].costs.kinds if e.kind is OperatorKind.VECTOR)
    looks_at_rows = prepared.machine.power.cap_w is not None  # where a cap binds
    assert ("costs" in vars(entry)) is looks_at_rows

    for at, phase in enumerate(PHASES):
        rows = entry.in_phase(phase)
        expected = sum_rows(entry.times.total_s[rows] * entry.weights[rows])
        assert entry.sums.busy_s[at] == pytest.approx(expected, rel=1e-12)
        assert set(entry.sums.energy_j) == set(entry.costs.energy_j)
        for component, joules in entry.costs.energy_j.items():
            own = entry.sums.energy_j[component]
            assert joules is not None
            assert own is not None
            by_rows = sum_rows(joules[rows] * entry.weights[rows])
            assert own[at] == pytest.approx(by_rows, rel=1e-12)


def test_a_phase_takes_the_time_of_its_rows() -> None:
    prepared = two_boundaries()
    stage = run_designs(prepared, length=COUNT, columns=designs(prepared)).stages[0]

    for phase in (Phase.PREFILL, Phase.DECODE):
        expected = stage.costs.stack(phase).time()
        assert stage.costs.busy_s(phase) == pytest.approx(expected, rel=1e-12)
