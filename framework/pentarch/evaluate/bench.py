"""Speed figures, measured where they are asked for: `pentarch bench`.

Single figures are medians of repetitions on one thread; rates divide designs by the wall time of
complete evaluations (prefill, integrated decode, energy, area, price, verdict figures).
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pentarch.contracts.backend import AnyBackend, Backend
from pentarch.evaluate.api import evaluate, partition
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.evaluator import CHUNK
from pentarch.evaluate.prepare import Prepared
from pentarch.graph.build import build_graph
from pentarch.graph.operators import Phase
from pentarch.hardware.columns import Floats, columns
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine
from pentarch.hardware.view import View
from pentarch.mapping.attention import AttentionRows, map_attention
from pentarch.mapping.gemm import FrontStore, GemmRows, TwoLevelBuffers, map_gemms
from pentarch.workload.query import Precisions, Query

if TYPE_CHECKING:
    from pentarch.catalog import Library

QUERY = Query(prompt_tokens=1024, output_tokens=256, concurrency=8)
"""The query of the batch benchmarks."""

DESIGNS = 1_000_000
"""Designs of a batch benchmark."""

SLOW = 20
"""One in so many designs is enough for the benchmark that searches mappings one by one."""

FIRST_CALL = """
import time
import pentarch
planned = pentarch.partition("gpt3-175b", "edge_soc")
start = time.perf_counter()
pentarch.evaluate(planned)
print(time.perf_counter() - start)
"""
"""What a new process does to measure its first evaluation."""

GRID_RUN = """
import json, sys
from pentarch.evaluate.bench import grid_run
print(json.dumps(grid_run(int(sys.argv[1]))))
"""
"""What a new process does to measure the grid of designs and its own memory."""

DESCRIPTIONS: Mapping[str, str] = {
    "evaluate_s": "one evaluation with all figures and verdicts, GPT-3 175B on 8xH100, tensor 8, graph "
    "and plan built; operators, ledgers, roofs and the digest of the inputs are computed on first access",
    "explain_s": "operators and all three ledgers of that evaluation, on first access",
    "designs_per_s": "complete evaluations of GPT-3 on an SoC (prefill, integrated decode, energy, area, "
    "price), two buffer boundaries, 64 (SRAM, register) sizes, fronts built within the time, exact",
    "designs_per_s_one_boundary": "same behind one buffer boundary, all sizes different, exact",
    "designs_per_s_continuous": "same behind two boundaries, all sizes different, searched one by one, exact",
    "designs": "designs of the grid and of one boundary; the continuous benchmark has a twentieth",
    "trials_per_s": "search of edge-soc with NSGA-II, 2,000 trials, run log included",
    "map_gemm_s": "mean time of an exact two-boundary mapping of a GEMM not seen before",
    "map_gemm_p99_s": "the time that 99 in 100 of these mappings do not exceed",
    "map_attention_s": "mean time of mapping an attention operator",
    "graph_s": "building the folded graph and lowering it, by workload",
    "peak_bytes": "largest resident memory of a process that evaluates the grid, chunk by chunk",
    "first_call_s": "first evaluation of a new process, plan built, numba imported within the time, "
    "compiled kernels on disk",
    "first_call_cold_s": "the same where no compiled kernels are kept yet: they are compiled",
}
"""What each figure is."""


def run_bench(
    library: "Library | None" = None, *, designs: int = DESIGNS, trials: int = 2000
) -> dict[str, Any]:
    """Measure every speed figure.

    Args:
        library: Where names are looked up; by default all installed plug-ins.
        designs: Designs of each batch benchmark.
        trials: Trials of the search benchmark.

    Returns:
        Figures by name, and `descriptions` of each.
    """
    if library is None:
        from pentarch.catalog import default_library

        library = default_library()
    soc = _soc(library)
    one = replace(soc, scenario=replace(soc.scenario, backend=OneBoundary(soc.scenario.backend)))
    warm = np.random.default_rng(0)
    for prepared in (soc, one):
        run_designs(prepared, length=4, columns=_grid(4, warm))
    rng = np.random.default_rng(1)
    mapping = _map_gemm_s(rng)
    cold, warm_start = _first_calls_s()
    return {
        **_evaluation_s(library),
        **json.loads(_new_process(GRID_RUN, str(designs))),
        "designs_per_s_one_boundary": _rate(one, _continuous(designs, rng)),
        "designs_per_s_continuous": _rate(soc, _continuous(max(designs // SLOW, 1), rng)),
        "designs": designs,
        "trials_per_s": _trials_per_s(library, trials),
        "map_gemm_s": float(mapping.mean()),
        "map_gemm_p99_s": float(np.quantile(mapping, 0.99)),
        "map_attention_s": _map_attention_s(rng),
        "graph_s": {
            name: _graph_s(library, name)
            for name in ("llama-3-8b", "llama-2-70b", "gpt3-175b", "deepseek-v3")
        },
        "first_call_s": warm_start,
        "first_call_cold_s": cold,
        "descriptions": dict(DESCRIPTIONS),
    }


def grid_run(designs: int) -> dict[str, float]:
    """Return the rate of the grid benchmark in this process, and its largest resident memory.

    Each of the 64 sizes comes back in every chunk: a front pays off from the first.
    """
    from pentarch.catalog import default_library

    soc = _soc(default_library())
    run_designs(soc, length=4, columns=_grid(4, np.random.default_rng(0)))
    grid = _grid(designs, np.random.default_rng(1))
    rate = _rate(soc, grid, store=FrontStore(shared_designs=1))
    return {"designs_per_s": rate, "peak_bytes": _resident_bytes()}


def _resident_bytes() -> float:
    """Return the largest resident memory of this process so far, in bytes."""
    import resource  # not on Windows

    # Linux counts KiB, macOS bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1.0 if sys.platform == "darwin" else 1024.0
    )


def _new_process(code: str, *arguments: str, cache: str | None = None) -> str:
    """Return what a new process prints that runs `code`; its kernels are kept in `cache`."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    if cache is not None:
        environment["NUMBA_CACHE_DIR"] = cache
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], env=environment, check=True, text=True,
        stdout=subprocess.PIPE,
    ).stdout  # fmt: skip


def _first_calls_s() -> tuple[float, float]:
    """Return the time of the first evaluation of a process without and with kept kernels."""
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = (float(_new_process(FIRST_CALL, cache=folder)) for _ in range(2))
    return cold, warm


def _soc(library: "Library") -> Prepared:
    """Return GPT-3 planned on the reference SoC, with memory enough to hold it."""
    prepared = partition(
        "gpt3-175b", "edge_soc", QUERY, precisions=Precisions(), library=library
    ).prepared
    device = prepared.scenario.device.replace(memory_interfaces=32)
    return replace(prepared, scenario=replace(prepared.scenario, device=device))


class OneBoundary(Backend[Any]):
    """Another back-end's machine whose arrays feed from its outermost buffer.

    Args:
        inner: The back-end that describes the machine.
    """

    name = "one-boundary"
    about = "a machine without its inner buffer, for the benchmark"

    def __init__(self, inner: AnyBackend) -> None:
        self._inner = inner

    def machine(self, device: View[Any]) -> MachineTable:
        """Return the inner back-end's machine without its innermost level."""
        found = self._inner.machine(device)
        kept = found.levels[:2]
        engines = tuple(
            columns(
                Engine, found.length,
                **{**engine.structure, **engine.numbers, **engine.groups, "feeds_from": kept[-1].name},
            )
            for engine in found.engines
        )  # fmt: skip
        return replace(found, levels=kept, engines=engines)


def _median(action: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _evaluation_s(library: "Library") -> dict[str, float]:
    """Return the time of one evaluation, and of what explains it on first access."""
    planned = partition("gpt3-175b", "8xh100_sxm", Query(), partitioner="tensor", library=library)
    fresh = [evaluate(planned) for _ in range(11)]

    def explain() -> None:
        found = fresh.pop()
        _ = (found.operators, found.ledger, found.energy_ledger, found.cost_ledger)

    explain()  # reads what is read once
    return {
        "evaluate_s": _median(lambda: evaluate(planned), 30), "explain_s": _median(explain, 10),
    }  # fmt: skip


def _grid(count: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Return designs on 8 x 8 buffer sizes; clock and supply differ in each."""
    return {
        "sram_bytes": rng.choice(np.arange(4, 36, 4), count) * 2.0**20,
        "register_bytes": rng.choice(np.arange(8, 72, 8), count) * 2.0**10,
        "clock_hz": rng.uniform(5e8, 2e9, count),
        "voltage_v": rng.uniform(0.6, 0.9, count),
    }


def _continuous(count: int, rng: np.random.Generator) -> dict[str, Floats]:
    """Return designs whose buffer sizes are all different."""
    return {
        "sram_bytes": np.floor(rng.uniform(4e6, 3.6e7, count)),
        "register_bytes": np.floor(rng.uniform(8e3, 7e4, count)),
        "clock_hz": rng.uniform(5e8, 2e9, count),
        "voltage_v": rng.uniform(0.6, 0.9, count),
    }


def _rate(
    prepared: Prepared, designs: dict[str, Floats], *, store: FrontStore | None = None
) -> float:
    count = len(designs["clock_hz"])
    store = FrontStore() if store is None else store
    start = time.perf_counter()
    for first in range(0, count, CHUNK):
        part = {name: values[first : first + CHUNK] for name, values in designs.items()}
        run_designs(prepared, length=len(part["clock_hz"]), columns=part, store=store)
    return count / (time.perf_counter() - start)


def _trials_per_s(library: "Library", trials: int) -> float:
    from pentarch.search.api import search

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        search("edge-soc", trials=trials, seed=1, strategy="nsga2", log=str(Path(folder) / "bench.sqlite"),
               library=library)  # fmt: skip
        return trials / (time.perf_counter() - start)


def _map_gemm_s(rng: np.random.Generator) -> Floats:
    """Return the times over shapes drawn anew, so that nothing is remembered."""
    count = 1000
    shapes = np.floor(2 ** rng.uniform(0, 14, (count, 3)))
    buffers = TwoLevelBuffers(
        sram_bytes=np.array([2.0**24]), register_bytes=np.array([2.0**15]),
        memory_bytes_per_s=np.array([1e11]), sram_bytes_per_s=np.array([2e12]),
    )  # fmt: skip
    word, wide = np.ones(1), np.full(1, 4.0)
    times = np.empty(count)
    for index, (m, k, n) in enumerate(shapes):
        rows = GemmRows(
            m=np.array([[m]]), k=np.array([k]), n=np.array([n]), a_bytes=word, b_bytes=word,
            out_bytes=word, accumulator_bytes=wide, spill_bytes=wide,
        )  # fmt: skip
        start = time.perf_counter()
        map_gemms(rows, buffers, np.array([[m * k * n / 1e14]]))
        times[index] = time.perf_counter() - start
    return times


def _map_attention_s(rng: np.random.Generator) -> float:
    one = np.ones(1)
    lengths = np.floor(rng.uniform(64, 8192, 200))
    start = time.perf_counter()
    for length in lengths:
        rows = AttentionRows(
            kv_heads=np.full((1, 1), 8.0), group=4 * one, positions=length * one, kv_length=length * one,
            head_dim=128 * one, value_dim=128 * one, q_bytes=one, kv_bytes=one, out_bytes=one,
            accumulator_bytes=4 * one, causal=np.ones(1, dtype=np.bool_),
        )  # fmt: skip
        map_attention(rows, np.array([2.0**24]), register_bytes=np.array([2.0**15]))
    return (time.perf_counter() - start) / len(lengths)


def _graph_s(library: "Library", name: str) -> float:
    """Return the time of building and lowering, without the partitioner."""
    from pentarch.evaluate.prepare import lower_stages

    planned = partition(name, "edge_soc", QUERY, precisions=Precisions(), library=library)

    def build() -> None:
        for phase in (Phase.PREFILL, Phase.DECODE):
            build_graph(
                planned.scenario.workload, phase=phase, query=QUERY, precisions=Precisions()
            )
        lower_stages(planned.scenario, planned.prepared.precisions, planned.plan)

    return _median(build, 5)
