"""`pentarch partition`: the plan of a workload on a system, and what its parts cost."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentarch.cli import options
from pentarch.cli.output import JsonFlag, library, print_json
from pentarch.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from pentarch.catalog import Library
    from pentarch.evaluate.api import Planned
    from pentarch.evaluate.figures import Figures
    from pentarch.evaluate.stage_result import StageResult
    from pentarch.plan.plan import Plan, Stage

OPERATORS = 4
"""Operators of a stage that the text names."""
_TIMES = ("ttft_s", "tpot_s", "query_s", "throughput_tokens_per_s")


def partition(
    workload: options.WorkloadName,
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="Device, `8x` device, or path of a YAML system.")
    ],
    partitioner: options.Partitioner = None,
    degree: options.Degree = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Every partitioner side by side.")
    ] = False,
    prompt: options.Prompt = 1024,
    output: options.Output = 256,
    concurrency: options.Concurrency = 1,
    weights: options.Weights = None,
    activations: options.Activations = None,
    kv: options.Kv = None,
    experts: options.Experts = None,
    prefix_tokens: options.Prefix = 0,
    chunk_tokens: options.Chunk = None,
    draft_tokens: options.DraftTokens = 0,
    acceptance: options.Acceptance = None,
    draft: options.DraftModel = None,
    draft_share: options.DraftShare = 0.0,
    no_kv_cache: options.NoCache = False,
    routing: options.RoutingName = "uniform",
    runtime: options.RuntimeName = "ideal",
    as_json: JsonFlag = False,
) -> None:
    """Plan a workload on the devices of a system."""
    point = options.Point(
        partitioner=partitioner, degree=degree, lengths=(prompt, output, concurrency),
        formats=(weights, activations, kv), runtime=runtime, targets=None, experts=experts,
        phases=options.phases(
            chunk=chunk_tokens, prefix=prefix_tokens, no_cache=no_kv_cache, routing=routing,
            drafts=(draft_tokens, acceptance, draft, draft_share),
        ),
    )  # fmt: skip
    found = library()
    if compare:
        if partitioner is not None:
            raise InputError("--compare takes every partitioner. Leave --partitioner out.")
        rows = compared(point, workload=workload, system=system, library=found)
        if as_json:
            print_json(rows)
        else:
            _print_compared(rows, workload=workload, system=system)
        return
    planned = _planned(point, workload=workload, system=system, library=found)
    document = plan_document(planned)
    if as_json:
        print_json(document)
    else:
        _print_plan(document)


def _planned(
    point: options.Point, *, workload: str, system: str, library: "Library",
    partitioner: str | None = None,
) -> "Planned":  # fmt: skip
    from pentarch.evaluate import api

    return api.partition(
        workload, system, point.query(), partitioner=partitioner or point.partitioner,
        degree=point.degree, precisions=point.precisions(), runtime=point.runtime, library=library,
    )  # fmt: skip


def plan_document(planned: "Planned") -> dict[str, Any]:
    """Return a plan as JSON data: stages, memory per device, collectives with times, and totals.

    Args:
        planned: What `partition` returned.

    Raises:
        MissingFigureError: The device lacks a figure without which it cannot be described.
    """
    from pentarch.evaluate.designs import run_designs

    found = run_designs(planned.prepared, length=1)
    plan = planned.plan
    collectives = [
        entry
        for index, (stage, result) in enumerate(zip(plan.stages, found.stages, strict=True))
        for entry in _collectives(index, stage, result)
    ]
    return {
        "workload": plan.workload, "system": plan.system, "partitioner": plan.partitioner,
        "devices": plan.devices, "degrees": plan.degrees.model_dump(),
        "stages": [stage.model_dump(mode="json") for stage in plan.stages],
        "memory": [_memory(index, stage, result) for index, (stage, result)
                   in enumerate(zip(plan.stages, found.stages, strict=True))],
        "collectives": collectives, "hops": _hops(plan, collectives),
        **_outcome(found), "notes": list(planned.prepared.notes),
    }  # fmt: skip


def _outcome(found: "Figures") -> dict[str, Any]:
    """Return whether the plan can run, why not, and its times; unknown without a run."""
    feasible = bool(found.feasibility.fits[0])
    return {
        "feasible": feasible, "reason": found.feasibility.reason(0),
        **{name: _one(found.values.get(name)) if feasible else None for name in _TIMES},
    }  # fmt: skip


def _one(values: Any) -> float | None:
    if values is None or values[0] != values[0]:
        return None
    return float(values[0])


def _memory(index: int, stage: "Stage", result: "StageResult") -> dict[str, Any]:
    use = result.memory
    return {
        "stage": index, "devices": stage.devices * stage.copies,
        "weights_bytes": float(use.weights[0]), "kv_bytes": float(use.kv[0]),
        "activations_bytes": float(use.activations[0]), "on_chip_bytes": float(use.on_chip[0]),
        "total_bytes": float(use.total[0]),
        "capacity_bytes": float(use.capacity[0]), "fits": bool(use.fits[0]),
    }  # fmt: skip


def _collectives(index: int, stage: "Stage", result: "StageResult") -> list[dict[str, Any]]:
    """Return the communication of a stage by phase: bytes and times of one execution and of all.

    `hops` counts the equal copies of the stage that each hand over once a step.
    """
    from pentarch.graph.table import CollectiveTable

    entries: list[dict[str, Any]] = []
    sends = {send.name for send in stage.sends}
    together = float(result.costs.given.concurrency[0])
    for kind in result.costs.kinds:
        if not isinstance(kind.rows, CollectiveTable):
            continue
        rows, times = kind.rows, kind.times
        for row, name in enumerate(rows.names):
            terms = {
                resource: float(times.terms_s[position][row, 0])
                for position, resource in enumerate(times.resources)
            }
            busiest = max(terms, key=lambda resource: terms[resource], default=None)
            entries.append(
                {
                    "stage": index, "name": name, "function": rows.functions[row],
                    "phase": str(rows.phases[row]), "degree": int(rows.degree[row]),
                    "bytes": float(rows.bytes[row] * (together if rows.is_decode[row] else 1.0)),
                    "executions": float(rows.executions[row]),
                    "link": busiest if busiest is not None and terms[busiest] > 0 else None,
                    "time_s": float(times.total_s[row, 0]),
                    "total_s": float(times.total_s[row, 0] * rows.executions[row]),
                    "hops": stage.copies if name in sends else None,
                }
            )  # fmt: skip
    return entries


def _hops(plan: "Plan", collectives: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the hand-overs between stages by link and phase, as one token passes them."""
    grouped: dict[tuple[str | None, str], list[Mapping[str, Any]]] = {}
    for entry in collectives:
        if entry["hops"] is not None:
            grouped.setdefault((entry["link"], entry["phase"]), []).append(entry)
    return [
        {
            "link": link, "phase": phase, "hops": sum(one["hops"] for one in entries),
            "time_s": entries[0]["time_s"],
            "pass_s": sum(one["hops"] * one["time_s"] for one in entries),
            "bytes": entries[0]["bytes"],
        }
        for (link, phase), entries in grouped.items()
    ]  # fmt: skip


def compared(
    point: options.Point, *, workload: str, system: str, library: "Library"
) -> list[dict[str, Any]]:
    """Return what each partitioner makes of a system: times, or the reason that it cannot.

    Args:
        point: Lengths, formats and runtime.
        workload: Name or path.
        system: Name or path.
        library: Where names are looked up.

    Raises:
        InputError: Workload, system or runtime is wrong, whoever cuts.
    """
    from pentarch.evaluate.designs import plan_cost, run_designs

    library.workload(workload)
    library.device(library.system(system).device)
    library.runtime(point.runtime)
    point.precisions()
    rows: list[dict[str, Any]] = []
    for name in sorted(library.registry.partitioners):
        row: dict[str, Any] = {"partitioner": name}
        try:
            planned = _planned(
                point, workload=workload, system=system, library=library, partitioner=name
            )
            found = run_designs(planned.prepared, length=1)
        except InputError as error:  # this one cannot cut the system: an answer here
            row |= {"devices": None, "degrees": None, "feasible": False, "reason": str(error),
                    **dict.fromkeys(_TIMES), "collective_s": None, "device_bytes": None}  # fmt: skip
            rows.append(row)
            continue
        outcome = _outcome(found)
        communication = plan_cost(planned.prepared).collective_s if outcome["feasible"] else None
        row |= {
            "devices": planned.plan.devices, "degrees": planned.plan.degrees.model_dump(),
            **outcome, "collective_s": communication,
            "device_bytes": max(float(stage.memory.total[0]) for stage in found.stages),
        }  # fmt: skip
        rows.append(row)
    return rows


def _print_plan(document: Mapping[str, Any]) -> None:
    from rich.console import Console

    console = Console()
    degrees = ", ".join(f"{name} {n}" for name, n in document["degrees"].items() if n > 1)
    _line(
        console,
        f"{document['workload']} on {document['system']} by {document['partitioner']}: "
        f"{document['devices']:,} device{'' if document['devices'] == 1 else 's'}"
        + (f" ({degrees})" if degrees else ""),
    )
    if not document["feasible"]:
        _line(console, f"Cannot run: {document['reason']}", "magenta")
    _line(console, "")
    _print_stages(document, console)
    _print_collectives(document, console)
    _print_hops(document, console)
    if document["feasible"]:
        from pentarch.contracts.figures import label_of, show_figure

        shown = (f"{label_of(name)} {show_figure(name, document[name])}" for name in _TIMES)
        _line(console, "\n" + ", ".join(shown))
    for note in document["notes"]:
        _line(console, f"note: {note}", "dim")


def _print_stages(document: Mapping[str, Any], console: "Console") -> None:
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.units import percent, show

    table = plain_table()
    table.add_column("stage", justify="right", no_wrap=True)
    table.add_column("devices", justify="right", no_wrap=True)
    table.add_column("operators", overflow="fold", ratio=1)
    for name in ("weights", "KV cache", "of capacity"):
        table.add_column(name, justify="right", no_wrap=True)
    for index, (stage, memory) in enumerate(
        zip(document["stages"], document["memory"], strict=True)
    ):
        copies = stage["copies"]
        devices = f"{copies:,} x {stage['devices']}" if copies > 1 else f"{stage['devices']:,}"
        share = memory["total_bytes"] / memory["capacity_bytes"]
        table.add_row(
            str(index), devices, Text(_operators(stage["placements"])),
            show(memory["weights_bytes"], "B"), show(memory["kv_bytes"], "B"),
            f"{percent(share)}\n{show(memory['capacity_bytes'], 'B')}",
        )  # fmt: skip
    console.print(table, highlight=False)


def _operators(placements: Sequence[Mapping[str, Any]]) -> str:
    heavy = [entry for entry in placements if entry["cut"] != "none" and entry["ways"] > 1]
    cut = f"\n{len(heavy)} of them cut {heavy[0]['ways']} ways" if heavy else ""
    names = [entry["operator"] for entry in placements]
    if len(names) <= OPERATORS:
        return ", ".join(names) + cut
    return f"{names[0]}, ... {names[-1]}: {len(names)} operators{cut}"


def _print_collectives(document: Mapping[str, Any], console: "Console") -> None:
    entries = [entry for entry in document["collectives"] if entry["hops"] is None]
    if not entries:
        return
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.contracts.figures import show_figure
    from pentarch.units import show

    _line(console, "\nCommunication inside stages", "bold")
    table = plain_table()
    table.add_column("collective", overflow="fold", ratio=1)
    table.add_column("phase", no_wrap=True)
    table.add_column("link", overflow="fold")
    for name in ("bytes", "each", "times", "per query"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in sorted(entries, key=lambda one: -one["total_s"]):
        table.add_row(
            Text(entry["name"]), entry["phase"], Text(entry["link"] or ""),
            show(entry["bytes"], "B"), show_figure("time_s", entry["time_s"]),
            f"{entry['executions']:,.0f}", show_figure("time_s", entry["total_s"]),
        )  # fmt: skip
    console.print(table, highlight=False)


def _print_hops(document: Mapping[str, Any], console: "Console") -> None:
    if not document["hops"]:
        return
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.contracts.figures import show_figure
    from pentarch.units import show

    _line(console, "\nHops from stage to stage", "bold")
    table = plain_table()
    table.add_column("link", overflow="fold", ratio=1)
    table.add_column("phase", no_wrap=True)
    for name in ("hops", "bytes", "each", "per pass"):
        table.add_column(name, justify="right", no_wrap=True)
    for entry in document["hops"]:
        table.add_row(
            Text(entry["link"] or "no link"), entry["phase"], f"{entry['hops']:,}",
            show(entry["bytes"], "B"), show_figure("time_s", entry["time_s"]),
            show_figure("time_s", entry["pass_s"]),
        )  # fmt: skip
    console.print(table, highlight=False)


def _print_compared(rows: Sequence[Mapping[str, Any]], *, workload: str, system: str) -> None:
    from rich.console import Console
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.contracts.figures import show_figure
    from pentarch.units import show

    console = Console()
    _line(console, f"{workload} on {system}\n")
    table = plain_table()
    table.add_column("partitioner", overflow="fold", ratio=1)
    for name in ("devices", "TTFT", "TPOT", "in collectives", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    able = [row for row in rows if row["feasible"]]
    for row in sorted(able, key=lambda one: one["query_s"]):
        table.add_row(
            Text(row["partitioner"]), f"{row['devices']:,}",
            show_figure("ttft_s", row["ttft_s"]), show_figure("tpot_s", row["tpot_s"]),
            show_figure("time_s", row["collective_s"]), show(row["device_bytes"], "B"),
        )  # fmt: skip
    if able:
        console.print(table, highlight=False)
        _line(
            console, "The fastest query comes first; time in collectives is per decode step.", "dim"
        )
    for row in rows:
        if not row["feasible"]:
            _line(console, f"\n{row['partitioner']} cannot: {row['reason']}")


def _line(console: "Console", text: str, style: str = "") -> None:
    from rich.text import Text

    console.print(Text(text, style=style, overflow="fold"), highlight=False)
