"""Speed figures, measured where they are asked for: `pentarch bench`.

Single figures are medians of repetitions on one thread; rates divide designs by the wall time of
complete evaluations (prefill, integrated decode, energy, area, price, verdict figures).
"""

import statistics
import tempfile
import time
import tracemalloc
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

DESIGNS = 100_000
"""Designs of a batch benchmark; rates settle well before."""

DESCRIPTIONS: Mapping[str, str] = {
    "evaluate_s": "one complete evaluation, GPT-3 175B on 8xH100, tensor 8, graph and plan built",
    "designs_per_s": "GPT-3 on an SoC, two buffer boundaries, 64 (SRAM, register) sizes, fronts built "
    "within the time, exact",
    "designs_per_s_one_boundary": "same behind one buffer boundary, all sizes different, exact",
    "designs_per_s_continuous": "same behind two boundaries, all sizes different, searched one by one, exact",
    "trials_per_s": "search of edge-soc with NSGA-II, 2,000 trials, run log included",
    "map_gemm_s": "mean time of an exact two-boundary mapping of a GEMM not seen before",
    "map_attention_s": "mean time of mapping an attention operator",
    "graph_s": "building the folded graph and lowering it, by workload",
    "peak_bytes": "largest Python memory during the grid benchmark",
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
    grid_rate, peak_bytes = _grid_rate(soc, designs, rng)
    return {
        "evaluate_s": _evaluate_s(library),
        "designs_per_s": grid_rate,
        "designs_per_s_one_boundary": _rate(one, _continuous(designs, rng)),
        "designs_per_s_continuous": _rate(soc, _continuous(max(designs // 20, 1), rng)),
        "trials_per_s": _trials_per_s(library, trials),
        "map_gemm_s": _map_gemm_s(rng),
        "map_attention_s": _map_attention_s(rng),
        "graph_s": {
            name: _graph_s(library, name) for name in ("llama-3-8b", "llama-2-70b", "gpt3-175b")
        },
        "peak_bytes": peak_bytes,
        "descriptions": dict(DESCRIPTIONS),
    }


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


def _evaluate_s(library: "Library") -> float:
    planned = partition("gpt3-175b", "8xh100_sxm", Query(), partitioner="tensor", library=library)
    evaluate(planned)
    return _median(lambda: evaluate(planned), 30)


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


def _grid_rate(prepared: Prepared, count: int, rng: np.random.Generator) -> tuple[float, int]:
    designs = _grid(count, rng)
    # Each of the 64 sizes comes back in every chunk: a front pays off from the first.
    rate = _rate(prepared, designs, store=FrontStore(shared_designs=1))
    tracemalloc.start()
    _rate(prepared, {name: values[: 4 * CHUNK] for name, values in designs.items()})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return rate, peak


def _trials_per_s(library: "Library", trials: int) -> float:
    from pentarch.search.api import search

    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        search("edge-soc", trials=trials, seed=1, strategy="nsga2", log=str(Path(folder) / "bench.sqlite"),
               library=library)  # fmt: skip
        return trials / (time.perf_counter() - start)


def _map_gemm_s(rng: np.random.Generator) -> float:
    """Return the mean over shapes drawn anew, so that nothing is remembered."""
    count = 200
    shapes = np.floor(2 ** rng.uniform(0, 14, (count, 3)))
    buffers = TwoLevelBuffers(
        sram_bytes=np.array([2.0**24]), register_bytes=np.array([2.0**15]),
        memory_bytes_per_s=np.array([1e11]), sram_bytes_per_s=np.array([2e12]),
    )  # fmt: skip
    word, wide = np.ones(1), np.full(1, 4.0)
    start = time.perf_counter()
    for m, k, n in shapes:
        rows = GemmRows(
            m=np.array([[m]]), k=np.array([k]), n=np.array([n]), a_bytes=word, b_bytes=word,
            out_bytes=word, accumulator_bytes=wide, spill_bytes=wide,
        )  # fmt: skip
        map_gemms(rows, buffers, np.array([[m * k * n / 1e14]]))
    return (time.perf_counter() - start) / count


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
