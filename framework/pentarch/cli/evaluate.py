"""`pentarch evaluate` and `pentarch compare`: designs at one operating point."""

from typing import TYPE_CHECKING, Annotated

import typer

from pentarch.cli import options
from pentarch.cli.output import JsonFlag, library, print_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pentarch.results import Evaluation

_FIGURES = (
    "ttft_s", "tpot_s", "query_s", "throughput_tokens_per_s", "delivered_flops_per_s",
    "peak_flops_per_s", "mfu.prefill", "mfu.decode", "mfu.query", "mbu", "mean_w", "peak_w",
    "j_per_token", "query_j", "system_usd", "bom_usd", "query_usd",
)  # fmt: skip


def evaluate(
    workload: options.WorkloadName,
    system: Annotated[
        str, typer.Argument(metavar="SYSTEM", help="Device, `8x` device, or path of a YAML system.")
    ],
    partitioner: options.Partitioner = None,
    degree: options.Degree = None,
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
    targets: options.TargetsFile = None,
    economics: options.EconomicsFile = None,
    operators: Annotated[
        int, typer.Option(min=1, help="Operators listed, those that take most time.")
    ] = 10,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Explain operators, energy, price, and which assumptions move the verdicts.",
        ),
    ] = False,
    check: options.Check = False,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate one design at one operating point."""
    phases = options.phases(
        chunk=chunk_tokens, prefix=prefix_tokens, no_cache=no_kv_cache, routing=routing,
        drafts=(draft_tokens, acceptance, draft, draft_share),
    )  # fmt: skip
    point = options.Point(
        partitioner=partitioner, degree=degree, lengths=(prompt, output, concurrency),
        formats=(weights, activations, kv), runtime=runtime, targets=targets,
        economics=economics, experts=experts, phases=phases,
    )  # fmt: skip
    where = {"workload": workload, "system": system}
    found = options.evaluate_at(point, **where, library=library(), explain=explain)
    if as_json:
        print_json(found)
    else:
        from rich.console import Console

        from pentarch.cli.tables import print_evaluation

        print_evaluation(found, Console(), operators=operators, explain=explain)
    if check and not found.meets_all:
        raise typer.Exit(1)


def compare(
    workload: options.WorkloadName,
    systems: Annotated[list[str], typer.Argument(metavar="SYSTEM...", help="As for `evaluate`.")],
    partitioner: options.Partitioner = None,
    degree: options.Degree = None,
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
    targets: options.TargetsFile = None,
    economics: options.EconomicsFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate several systems side by side."""
    phases = options.phases(
        chunk=chunk_tokens, prefix=prefix_tokens, no_cache=no_kv_cache, routing=routing,
        drafts=(draft_tokens, acceptance, draft, draft_share),
    )  # fmt: skip
    point = options.Point(
        partitioner=partitioner, degree=degree, lengths=(prompt, output, concurrency),
        formats=(weights, activations, kv), runtime=runtime, targets=targets,
        economics=economics, experts=experts, phases=phases,
    )  # fmt: skip
    session = library()
    found = [
        options.evaluate_at(point, workload=workload, system=system, library=session)
        for system in systems
    ]
    if as_json:
        print_json(found)
    else:
        _print_side_by_side(found)


def _print_side_by_side(evaluations: "Sequence[Evaluation]") -> None:
    from rich.console import Console
    from rich.table import Table

    from pentarch.contracts.figures import label_of, show_figure, show_margin
    from pentarch.targets import figure_of

    table = Table("", *(evaluation.system for evaluation in evaluations))
    for position, first in enumerate(evaluations[0].targets):
        cells = [evaluation.targets[position] for evaluation in evaluations]
        table.add_row(first.id, *(f"{one.verdict} {show_margin(one.margin)}" for one in cells))
    for name in _FIGURES:
        values = (figure_of(evaluation, name) for evaluation in evaluations)
        table.add_row(label_of(name), *(show_figure(name, value) for value in values))
    table.add_row("bottleneck", *(evaluation.bottleneck or "" for evaluation in evaluations))
    console = Console()
    console.print(table)
    for evaluation in evaluations:
        if not evaluation.feasible:
            console.print(f"{evaluation.system} cannot run: {evaluation.reason}", markup=False)
