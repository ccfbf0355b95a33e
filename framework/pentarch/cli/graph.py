"""`pentarch graph`: the dataflow graph of one phase of a query, as a file or a table."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pentarch.cli import options
from pentarch.cli.files import Force, known_suffix, write_whole
from pentarch.cli.output import JsonFlag, library, print_json

if TYPE_CHECKING:
    from pentarch.graph.graph import WorkloadGraph
    from pentarch.workload.query import Precisions

SUFFIXES = (".graphml", ".json", ".dot", ".svg")
"""Formats that a graph can be written in."""
MOST_LAYERS = 2048
"""Layers that `--unfold` writes one by one at most."""
SHOWN = 60
"""Operators that the table shows at most."""


class PhaseName(StrEnum):
    """Part of a query."""

    PREFILL = "prefill"
    DECODE = "decode"


def graph(
    workload: options.WorkloadName,
    out: Annotated[
        Path | None,
        typer.Option(help=f"File to write, by its suffix: {', '.join(SUFFIXES)}."),
    ] = None,
    phase: Annotated[PhaseName, typer.Option(help="Part of the query.")] = PhaseName.PREFILL,
    prompt: options.Prompt = 1024,
    output: options.Output = 256,
    context: Annotated[
        int | None,
        typer.Option(min=1, help="Keys that the last token sees.  [default: the phase's last]"),
    ] = None,
    unfold: Annotated[
        bool, typer.Option("--unfold", help="Every layer on its own instead of one with a count.")
    ] = False,
    weights: options.Weights = None,
    activations: options.Activations = None,
    kv: options.Kv = None,
    experts: options.Experts = None,
    force: Force = False,
    as_json: JsonFlag = False,
) -> None:
    """Show or write the dataflow graph of a workload."""
    suffix = None if out is None else known_suffix(out, SUFFIXES)
    made = build(
        workload, phase=phase, lengths=(prompt, output, context), unfold=unfold,
        formats=(weights, activations, kv, experts),
    )  # fmt: skip
    written = None
    if out is not None and suffix is not None:
        written = write_whole(out, text_of(made, suffix), force=force)
    if as_json:
        print_json(document_of(made, written))
    elif written is not None:
        print(f"{written}: {len(made.operators):,} operators, {len(made.networkx.edges):,} tensors")
    else:
        _print_table(made)


def build(
    workload: str, *, phase: PhaseName, lengths: tuple[int, int, int | None], unfold: bool,
    formats: tuple[str | None, ...],
) -> "WorkloadGraph":  # fmt: skip
    """Return the graph that the options describe.

    Args:
        workload: Name or path.
        phase: Part of the query.
        lengths: Prompt tokens, output tokens and context; the context may be `None`.
        unfold: Whether every layer stands on its own.
        formats: Formats of weights, activations, KV cache and experts; `None` takes the default.

    Raises:
        InputError: A name is unknown, or the context is shorter than the tokens processed.
    """
    from pentarch.errors import FieldError, InputError
    from pentarch.graph.build import build_graph
    from pentarch.graph.operators import Phase
    from pentarch.workload.query import Query

    prompt, output, context = lengths
    if phase is PhaseName.PREFILL and context is not None and context < prompt:
        raise FieldError(
            where="command line", path="--context", problem=f"found {context}",
            expected=f"at least the {prompt} prompt tokens that prefill processes",
        )  # fmt: skip
    found = library().workload(workload)
    if unfold and found.depth > MOST_LAYERS:
        raise InputError(
            f"{found.name} has {found.depth:,} layers; a graph of more than {MOST_LAYERS:,} is not "
            "drawn layer by layer. Leave --unfold out."
        )
    return build_graph(
        found, phase=Phase(phase.value), fold=not unfold, context=context,
        query=Query(prompt_tokens=prompt, output_tokens=output), precisions=_precisions(formats),
    )  # fmt: skip


def _precisions(formats: tuple[str | None, ...]) -> "Precisions":
    from pentarch.model import load
    from pentarch.workload.query import Precisions

    named = dict(zip(("weights", "activations", "kv", "experts"), formats, strict=True))
    given = {role: name for role, name in named.items() if name is not None}
    return load(Precisions, given, where="command line")


def text_of(graph: "WorkloadGraph", suffix: str) -> str:
    """Return a graph as the text of a file with this suffix, one of `SUFFIXES`."""
    from pentarch.graph import drawing, export

    writers = {
        ".graphml": export.to_graphml, ".json": export.to_json, ".dot": export.to_dot,
        ".svg": drawing.to_svg,
    }  # fmt: skip
    return writers[suffix](graph)


def document_of(graph: "WorkloadGraph", written: Path | None) -> dict[str, Any]:
    """Return the JSON document of a graph: nodes, edges, totals, and the file if one was written."""
    from pentarch.graph.export import as_document

    document = as_document(graph)
    return {
        "workload": graph.workload, "phase": graph.phase.value, "tokens": graph.tokens,
        "context": graph.context, "flops": graph.flops, "parameters": graph.parameters,
        "gemm_weight_bytes": graph.gemm_weight_bytes, "kv_bytes": graph.kv_bytes,
        "nodes": document["nodes"], "edges": document["edges"],
        "out": None if written is None else str(written),
    }  # fmt: skip


def _print_table(graph: "WorkloadGraph") -> None:
    from rich.console import Console
    from rich.text import Text

    from pentarch.cli.tables import plain_table
    from pentarch.graph.drawing import shape_of
    from pentarch.graph.graph import operator_flops, operator_parameters
    from pentarch.units import show

    console = Console()
    console.print(
        f"{graph.workload}, {graph.phase}: {graph.tokens:,} "
        f"token{'' if graph.tokens == 1 else 's'} per sequence, context "
        f"{graph.context:,}\n{len(graph.operators):,} operators, "
        f"{show(float(graph.flops), 'FLOP')}, {graph.parameters:,} parameters\n",
        highlight=False, markup=False,
    )  # fmt: skip
    table = plain_table()
    table.add_column("operator", overflow="fold", min_width=26)
    table.add_column("times", justify="right", no_wrap=True)
    table.add_column("shape, per sequence", overflow="fold", ratio=1)
    table.add_column("work", justify="right", no_wrap=True)
    table.add_column("parameters\n(million)", justify="right", no_wrap=True)
    for operator in graph.operators[:SHOWN]:
        work, held = operator_flops(operator), operator_parameters(operator)
        table.add_row(
            Text(operator.name), f"{operator.repeat:,}", Text(shape_of(operator)),
            show(float(work * operator.repeat), "FLOP") if work else "",
            f"{held * operator.repeat / 1e6:,.1f}" if held else "",
        )  # fmt: skip
    console.print(table, highlight=False)
    rest = len(graph.operators) - SHOWN
    if rest > 0:
        console.print(f"and {rest:,} more operators; write all with --out", style="dim")
