"""Small evaluations and studies, spelled out by hand, with values that are easy to recognize."""

from typing import Any

from pentarch.results import (
    Design,
    Evaluation,
    Inputs,
    LedgerEntry,
    MfuFigures,
    OperatingPoint,
    OperatorCost,
    Roofs,
    StudyResult,
    Trial,
    WattsPerPflops,
)
from pentarch.targets import figure_of, judge
from pentarch.workload.query import Precisions, Query

FIGURES = (
    "query_s",
    "query_j",
    "system_usd",
    "delivered_flops_per_s",
    "mfu.query",
    "w_per_pflops.delivered",
)
TOO_BIG = "weights need 16.1 GB, the board has 8.0 GB: 8.1 GB short"


def operator(name: str, total_s: float, bottleneck: str = "DRAM") -> OperatorCost:
    """Return an operator that runs ten times in a query."""
    return OperatorCost(
        name=name, phase="decode", executions=10, time_s=total_s / 10, total_s=total_s,
        bottleneck=bottleneck, next_bottleneck="compute", terms_s={bottleneck: total_s / 10},
        read_bytes={"DRAM": 1e6}, write_bytes={"DRAM": 1e3}, energy_j=0.25, executed_macs=1e9,
        fidelity="analytical",
    )  # fmt: skip


def evaluation(**changes: Any) -> Evaluation:
    """Return an evaluation that misses energy (62.5 W/PFLOPS for 50) and meets the other four."""
    values: dict[str, Any] = {
        "workload": "tiny-llama", "system": "4xnpu", "backend": "soc", "partitioner": "tensor",
        "devices": 4,
        "operating_point": OperatingPoint(
            query=Query(concurrency=64), precisions=Precisions(), runtime="ideal",
            degrees={"tensor": 4},
        ),
        "feasible": True, "reason": None, "ttft_s": 0.0625, "tpot_s": 0.0055, "query_s": 1.5,
        "throughput_tokens_per_s": 10922.0, "queries_per_s": 42.7, "useful_flops": 1.9e13,
        "delivered_flops_per_s": 1.25e15, "peak_flops_per_s": 2e15,
        "mfu": MfuFigures(prefill=0.7, decode=0.5, query=0.625), "mbu": 0.4, "hfu": 0.7,
        "mean_w": 78.125, "peak_w": 90.0, "full_load_w": 100.0,
        "w_per_pflops": WattsPerPflops(delivered=62.5, peak=50.0),
        "j_per_token": 0.00715, "query_j": 1.83,
        "energy_j": {"MACs": 0.5, "DRAM": 1.0, "static": 0.33, "NIC": None},
        "system_usd": 4000.0, "bom_usd": None, "query_usd": 1.2e-5,
        "price_parts_usd": {"die": 900.0, "memory": 600.0}, "area_mm2": {"lanes": 120.0},
        "programmability": 0.95, "update_s": 600.0,
        "memory_bytes": {"weights": 2e9, "kv": 1e9, "capacity": 8e9},
        "bottleneck": "DRAM bandwidth",
        "operators": (operator("mlp", 0.9), operator("attention", 0.6, "exp")),
        "ledger": (LedgerEntry(name="useful", share=0.625), LedgerEntry(name="KV", share=0.375)),
        "roofs": (
            Roofs(
                device="npu", memory="DRAM", memory_bytes_per_s=1e11, main_format="fp8",
                peak_flops_per_s={"fp8": 5e14, "bf16": 2.5e14},
            ),
        ),
        "notes": ("the router stays at bf16",),
        "inputs": Inputs(hash="abc123", version="0.1.0", grades={"A": 3}, figures=("dram.x",)),
    }  # fmt: skip
    made = Evaluation(**{**values, **changes})
    return made if made.targets else made.replace(targets=judge(made))


def trial(number: int, found: Evaluation, **parameters: Any) -> Trial:
    """Return the trial of an evaluation."""
    reasons = (verdict.reason for verdict in found.targets if verdict.reason)
    return Trial(
        number=number,
        parameters=parameters or {"memory": "hbm3e", "lanes": 64 * number, "sram_bytes": 33554432},
        feasible=found.feasible,
        reason=found.reason or next(reasons, None),
        figures={name: figure_of(found, name) for name in FIGURES},
        verdicts={verdict.id.value: verdict.verdict for verdict in found.targets},
        margins={verdict.id.value: verdict.margin for verdict in found.targets},
    )


def infeasible() -> Evaluation:
    """Return an evaluation of a design whose weights do not fit."""
    unknown = dict.fromkeys(
        ("query_s", "query_j", "delivered_flops_per_s", "ttft_s", "tpot_s", "mean_w", "peak_w")
    )
    return evaluation(
        **unknown, feasible=False, reason=TOO_BIG, operators=(), ledger=(), energy_j={},
        mfu=MfuFigures(prefill=None, decode=None, query=None),
        w_per_pflops=WattsPerPflops(delivered=None, peak=50.0),
    )  # fmt: skip


def study(
    *evaluations: Evaluation, passing: Evaluation | None = None, **changes: Any
) -> StudyResult:
    """Return a study of the evaluations; the first is the nearest design, `passing` the best."""
    found = evaluations or (evaluation(), evaluation(query_j=2.5, system_usd=3000.0), infeasible())
    trials = [trial(number, entry) for number, entry in enumerate(found)]
    best = None
    if passing is not None:
        best = Design(trial=trial(len(trials), passing), evaluation=passing)
        trials.append(best.trial)
    values: dict[str, Any] = {
        "space": "edge-test", "about": "A space for tests.", "log": "runs/edge-test.sqlite",
        "run": 1, "objectives": ("query_j", "system_usd"), "directions": ("minimize", "minimize"),
        "n_trials": len(trials), "n_feasible": int(best is not None), "best": best,
        "nearest": Design(trial=trials[0], evaluation=found[0]),
        "front": tuple(entry for entry in trials if entry.feasible),
        "trials": tuple(trials), "stopped_by": "trials", "seconds": 3.0,
        "settings": {"seed": 1, "versions": [{"optuna": "5.0"}]},
    }  # fmt: skip
    return StudyResult(**{**values, **changes})
