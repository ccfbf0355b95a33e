"""Times of attention tiles on units: against schedules walked part by part; compiled or not."""

import heapq
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.unit.mapping.attention_reference import Walk

from pentarch.mapping.attention import CheckedRows
from pentarch.mapping.attention_kernels import cut_rows, make_row
from pentarch.mapping.attention_times import Design, Levels, Rates, Unit, matrix_cycles

SAMPLE = """
import hashlib
import numpy as np
from pentarch.mapping.attention import map_attention
from pentarch.mapping.attention_plan import time_kernels
from pentarch.mapping.cost_attention import cost_attention
from tests.unit.mapping.machines import attentions, request
from tests.unit.mapping.test_attention import random_walk
from tests.unit.mapping.test_cost_attention import random_case, random_machine

digest = hashlib.sha256()
generator = np.random.default_rng(13)
for _ in range(40):
    capacity = np.floor(np.exp(generator.uniform(3.0, 8.0, 1)))
    found = map_attention(random_walk(generator, 12).rows(), capacity)
    digest.update(found.memory_read_bytes.tobytes() + found.executed_scores.tobytes())
for cached in (False, True):
    table = attentions(*(random_case(generator) for _ in range(3)))
    costs = cost_attention(request(random_machine(generator, 3, cached), table, sequences=2.0))
    for group in (costs.compute_s, costs.level_s, costs.detail):
        for name in sorted(group):
            digest.update(group[name].tobytes())
print(hasattr(time_kernels().time_rows, "py_func"), digest.hexdigest())
"""


def run(**environment: str) -> list[str]:
    """Return what the sample prints in a fresh process, in words."""
    root = Path(__file__).parents[3]
    path = os.pathsep.join([str(root), *sys.path])
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SAMPLE], capture_output=True, text=True, check=True,
        cwd=root, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    return found.stdout.split()


def test_compiled_and_plain_kernels_give_the_same_bytes() -> None:
    compiled, plain = run(), run(NUMBA_DISABLE_JIT="1")
    assert (compiled[0], plain[0]) == ("True", "False")
    assert compiled[1] == plain[1]


def unit(units: float, height: float = 1.0) -> Unit:
    """Return units of one MAC a cycle, without start and fill."""
    free = dict.fromkeys(Unit._fields, 0.0)
    return Unit(
        **{**free, "units": units, "rate": 1.0, "clock_hz": 1.0, "height": height, "width": 1.0}
    )


def longest_first(parts: list[float], units: int) -> float:
    """Return when the last unit ends if the longest part that waits goes to the first free unit."""
    free = [0.0] * units
    for part in sorted(parts, reverse=True):
        heapq.heappush(free, heapq.heappop(free) + part)
    return max(free)


@pytest.mark.parametrize("units", [1, 2, 3, 7])
def test_unmasked_tiles_take_whole_waves(units: int) -> None:
    generator = np.random.default_rng(units)
    for _ in range(60):
        walk = Walk(
            group=int(generator.integers(1, 4)), positions=int(generator.integers(1, 12)),
            keys=int(generator.integers(1, 30)), head_dim=3, value_dim=2, partial=4, causal=False,
        )  # fmt: skip
        heads, height = int(generator.integers(1, 5)), int(generator.integers(1, 5))
        row = make_row(CheckedRows.of(walk.rows()).table[0])
        block = float(min(height, walk.group * walk.positions))
        work = cut_rows(row, block, 1.0)
        found = matrix_cycles(row, unit(units, height), work, 1.0, heads, 1.0)
        # A part pads its rows to the unit's; a last one with fewer rows takes as long.
        parts = [height * keys * (3 + 2) for _, keys in walk.passes(int(block))] * heads
        assert found == longest_first(parts, units)


@pytest.mark.parametrize("units", [1, 2, 5])
def test_masked_tiles_take_what_a_schedule_of_longest_parts_first_takes(units: int) -> None:
    generator = np.random.default_rng(units + 10)
    ratios = []
    for _ in range(80):
        positions = int(generator.integers(1, 25))
        keys = positions + int(generator.integers(0, 20))
        window = float(generator.integers(1, keys + 1)) if generator.random() < 0.5 else np.inf
        walk = Walk(
            group=int(generator.integers(1, 4)), positions=positions, keys=keys, head_dim=3,
            value_dim=2, partial=4, causal=True, window=window,
        )  # fmt: skip
        row = make_row(CheckedRows.of(walk.rows()).table[0])
        block = float(generator.integers(1, walk.group * positions + 1))
        heads = int(generator.integers(1, 4))
        work = cut_rows(row, block, 1.0)
        found = matrix_cycles(row, unit(units), work, 1.0, heads, 1.0)
        parts = [work.rows * keys * (3 + 2) for _, keys in walk.passes(int(block))] * heads
        assert work.tiles * heads == len(parts)
        scheduled = longest_first(parts, units)
        assert found <= scheduled * (1 + 1e-12)
        ratios.append(scheduled / found)
    # Graham (1969): the longest first take at most 4/3 - 1/(3 units) of the least time.
    assert max(ratios) <= 4 / 3
    assert np.mean(ratios) < 1.05


def test_splitting_keys_divides_the_longest_part() -> None:
    walk = Walk(group=2, positions=1, keys=101, head_dim=3, value_dim=2, partial=4, causal=False)
    row = make_row(CheckedRows.of(walk.rows()).table[0])
    work = cut_rows(row, 2.0, 1.0)
    for split in (1, 2, 5, 8):
        found = matrix_cycles(row, unit(8), work, 1.0, 1.0, split)
        assert found == 2 * -(-101 // split) * (3 + 2)


def test_a_design_is_read_field_by_field() -> None:
    from pentarch.mapping.attention_times import ENGINE_FIELDS, make_design

    names = ("memory", "buffer", "inner")
    levels = [
        f"{name}_{field}"
        for name in names
        for field in ("bytes_per_s", "unit", "write", "latency_s")
    ]
    assert list(ENGINE_FIELDS[-12:]) == levels
    values = np.arange(float(len(ENGINE_FIELDS)))
    found = make_design(np.stack([values * 0.0, values]), 1)
    rates = [Rates(*range(at, at + 4)) for at in (20, 24, 28)]
    assert found == Design(Unit(*range(20)), Levels(*rates))
