"""Evaluators for search tests: closed-form figures of a few parameters, no plug-in involved."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pentarch.evaluate.points import Point, PointResults
from pentarch.results import (
    Evaluation,
    Inputs,
    MfuFigures,
    OperatingPoint,
    Scalar,
    WattsPerPflops,
)
from pentarch.search.space import Space, space_from
from pentarch.targets import Targets, judge, judge_columns
from pentarch.workload.query import Precisions, Query

MEMORY_J = {"lpddr5x": 1.0, "gddr7": 2.0, "hbm3e": 1.5}

SPACE: dict[str, Any] = {
    "kind": "space",
    "about": "A made-up box.",
    "name": "box",
    "workload": "none",
    "system": "none",
    "search": {
        "memory": {"choice": ["lpddr5x", "gddr7", "hbm3e"]},
        "chips": {"int": [1, 16], "log": True},
        "stacks": {"int": [1, 4], "when": {"memory": "hbm3e"}},
        "sram_bytes": {"choice": ["8 MiB", "16 MiB", "32 MiB"]},
    },
    "objectives": ["query_j", "system_usd"],
}
"""3 memories, of which one has 4 stack counts, x 16 chips x 3 buffers: 288 designs."""


def make_space(**changes: Any) -> Space:
    """Return the made-up space with changes."""
    return space_from({**SPACE, **changes}, where="space")


def figures_of(point: Mapping[str, Scalar]) -> dict[str, float | None]:
    """Return the figures of a design: more chips are faster and dearer, HBM costs most."""
    memory = str(point["memory"])
    chips = float(point["chips"])
    stacks = float(point.get("stacks", 0))
    sram = float(point["sram_bytes"]) / 2**20
    query_s = 8.0 / (chips * (1.0 + 0.5 * stacks) * (1.0 + sram / 64))
    query_j = 20.0 * MEMORY_J[memory] + chips + 4.0 * stacks - sram / 8
    usd = 300.0 * chips + 700.0 * stacks + 10.0 * sram + (200.0 if memory == "gddr7" else 0.0)
    return {
        "query_s": query_s,
        "query_j": query_j,
        "system_usd": usd,
        "bom_usd": usd / 2,
        "delivered_flops_per_s": 2e15 / query_s,
        "mfu.query": min(0.9, 0.3 + 0.1 * stacks + sram / 100),
        "w_per_pflops.delivered": query_j,
        "w_per_pflops.peak": query_j / 2,
        "programmability": 0.95,
        "update_s": 60.0,
    }


def reason_of(point: Mapping[str, Scalar]) -> str | None:
    """Return why a design cannot run: one chip lacks memory for the model."""
    return "weights need 16 GB, the board has 8 GB" if point["chips"] == 1 else None


class FakeEvaluator:
    """Evaluates the made-up box.

    Args:
        unknown: Figures that nobody can give.
        before: Called with the number of designs evaluated so far before each call.
    """

    def __init__(
        self, unknown: Sequence[str] = (), before: Callable[[int], None] | None = None
    ) -> None:
        self.targets = Targets()
        self.evaluated: list[dict[str, Scalar]] = []
        self.checked: dict[str, tuple[Scalar, ...]] = {}
        self._unknown = frozenset(unknown)
        self._before = before

    def check(self, parameters: Mapping[str, Sequence[Scalar]]) -> None:
        """Remember what was checked."""
        self.checked = {path: tuple(values) for path, values in parameters.items()}

    def evaluate(self, points: Sequence[Point]) -> PointResults:
        """Return figures and verdicts."""
        if self._before is not None:
            self._before(len(self.evaluated))
        self.evaluated.extend(dict(point) for point in points)
        rows = [self._figures(point) for point in points]
        reasons = tuple(reason_of(point) for point in points)
        figures = {
            name: np.array([np.nan if row[name] is None else row[name] for row in rows])
            for name in rows[0]
        }
        return PointResults(
            figures=figures,
            feasible=np.array([reason is None for reason in reasons]),
            reasons=reasons,
            targets=judge_columns(figures, len(points), self.targets),
        )

    def evaluation(self, point: Point) -> Evaluation:
        """Return one design in full."""
        figures = self._figures(point)
        reason = reason_of(point)
        values: dict[str, Any] = dict.fromkeys(Evaluation.model_fields)
        plain = {name: value for name, value in figures.items() if "." not in name}
        values |= plain | {
            "workload": "none", "system": "none", "backend": "fake", "partitioner": "single",
            "devices": 1, "feasible": reason is None, "reason": reason, "useful_flops": 1e13,
            "operating_point": OperatingPoint(
                query=Query(), precisions=Precisions(), runtime="ideal", degrees={}
            ),
            "mfu": MfuFigures(prefill=None, decode=None, query=figures["mfu.query"]),
            "w_per_pflops": WattsPerPflops(
                delivered=figures["w_per_pflops.delivered"], peak=figures["w_per_pflops.peak"]
            ),
            "energy_j": {}, "tco": {}, "price_parts_usd": {}, "area_mm2": {}, "memory_bytes": {},
            "targets": (), "operators": (), "ledger": (), "energy_ledger": (), "cost_ledger": (),
            "roofs": (), "notes": (), "sensitivity": (),
            "inputs": Inputs(hash="0", version="0", grades={}),
        }  # fmt: skip
        evaluation = Evaluation(**values)
        return evaluation.replace(targets=judge(evaluation, self.targets))

    def _figures(self, point: Point) -> dict[str, float | None]:
        return {
            name: None if name in self._unknown else value
            for name, value in figures_of(point).items()
        }


def print_line(done: int) -> None:
    """Print a progress line at once."""
    sys.stdout.write(json.dumps({"done": done}) + "\n")
    sys.stdout.flush()


def killed_search(log: Path, *, strategy: str, trials: int, kill_after: int) -> None:
    """Search in this process, print each commit, and die by SIGKILL in the middle.

    Args:
        log: The run log.
        strategy: How designs are proposed.
        trials: Trials wanted.
        kill_after: Designs after which the evaluator kills the process.
    """
    from pentarch.search.api import search

    def die(evaluated: int) -> None:
        time.sleep(0.001)
        if evaluated >= kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    search(
        make_space(sampler={"strategy": strategy, "population": 20}),
        trials=trials, seed=3, batch=20, log=log, evaluator=FakeEvaluator(before=die),
        progress=lambda progress: print_line(progress.done),
    )  # fmt: skip
