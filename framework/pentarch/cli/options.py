"""The options that say at which operating point a design is evaluated."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.model import Model
    from pentarch.results import Evaluation
    from pentarch.targets import Economics, Targets
    from pentarch.workload.query import Precisions, Query

M = TypeVar("M", bound="Model")

MOST = 10**9
"""Most tokens or queries that a query may have (`pentarch.workload.query.Count`)."""

WorkloadName = Annotated[
    str, typer.Argument(metavar="WORKLOAD", help="Catalog name, or path of a config.json.")
]
Partitioner = Annotated[
    str | None,
    typer.Option(help="What cuts the graph.  [default: single for one device, tensor for several]"),
]
Degree = Annotated[
    int | None,
    typer.Option(min=1, max=MOST, help="Degree of parallelism; by default the partitioner's."),
]
Prompt = Annotated[int, typer.Option(min=1, max=MOST, help="Prompt length in tokens.")]
Output = Annotated[int, typer.Option(min=1, max=MOST, help="Generated tokens.")]
Concurrency = Annotated[int, typer.Option(min=1, max=MOST, help="Queries in flight.")]
Weights = Annotated[str | None, typer.Option(help="Format of the weights.  [default: fp8]")]
Activations = Annotated[str | None, typer.Option(help="Format of the activations.  [default: fp8]")]
Kv = Annotated[str | None, typer.Option(help="Format of the KV cache.  [default: fp8]")]
Experts = Annotated[
    str | None, typer.Option(help="Format of routed experts' weights.  [default: as the weights]")
]
Chunk = Annotated[
    int | None,
    typer.Option(
        min=1, max=MOST, help="Prompt tokens per pass of prefill.  [default: the whole prompt]"
    ),
]
DraftTokens = Annotated[
    int, typer.Option(min=0, help="Tokens drafted ahead of each decode step, which verifies them.")
]
Acceptance = Annotated[
    float | None,
    typer.Option(min=0.0, max=1.0, help="Chance that a draft is accepted; needed with drafts."),
]
DraftModel = Annotated[str | None, typer.Option("--draft", help="Workload that makes the drafts.")]
DraftShare = Annotated[
    float,
    typer.Option(min=0.0, max=1.0, help="Cost of a draft as a share of the model's own step."),
]
NoCache = Annotated[
    bool,
    typer.Option("--no-kv-cache", help="Keep no keys and values: every token recomputes all."),
]
Prefix = Annotated[
    int, typer.Option(min=0, max=MOST, help="Prompt tokens that are cached already.")
]
RoutingName = Annotated[
    str, typer.Option("--routing", help="How tokens choose experts: uniform, zipf(ALPHA), worst.")
]
RuntimeName = Annotated[str, typer.Option(help="Software stack: a name or the path of a file.")]
TargetsFile = Annotated[
    Path | None, typer.Option(help="YAML file with the thresholds that differ from the defaults.")
]
EconomicsFile = Annotated[
    Path | None,
    typer.Option(help="YAML file with the terms of ownership that differ from the defaults."),
]
Check = Annotated[
    bool, typer.Option("--check", help="Exit with 1 unless all five targets are met.")
]


@dataclass(frozen=True, slots=True)
class Point:
    """An operating point as the command line states it."""

    partitioner: str | None
    """Name of the partitioner, or `None` for the default."""
    degree: int | None
    """Degree asked for, or `None`."""
    lengths: tuple[int, int, int]
    """Prompt tokens, output tokens, queries in flight."""
    formats: tuple[str | None, str | None, str | None]
    """Formats of weights, activations and KV cache; `None` where the user named none."""
    runtime: str
    """Name or path of the runtime."""
    targets: Path | None
    """File of thresholds."""
    economics: Path | None = None
    """File of what turns a price into USD per query."""
    experts: str | None = None
    """Format of the weights of routed experts; `None` where the user named none."""
    phases: Mapping[str, object] = field(default_factory=dict)
    """Fields of the query that say how its phases run."""

    def query(self) -> "Query":
        """Return lengths and load.

        Raises:
            FieldError: A value is not allowed, or options contradict each other.
        """
        from pentarch.model import load
        from pentarch.workload.query import Query

        prompt, output, concurrency = self.lengths
        lengths = {"prompt_tokens": prompt, "output_tokens": output, "concurrency": concurrency}
        query = load(Query, {**lengths, **self.phases}, where="command line")
        query.check()
        return query

    def precisions(self) -> "Precisions | None":
        """Return the formats, or `None` when the user leaves all of them to the default."""
        from pentarch.model import load
        from pentarch.workload.query import Precisions

        named = dict(zip(("weights", "activations", "kv"), self.formats, strict=True))
        named["experts"] = self.experts
        given = {role: name for role, name in named.items() if name is not None}
        return load(Precisions, given, where="command line") if given else None

    def thresholds(self) -> "Targets | None":
        """Return the thresholds of the file, or `None` without one."""
        from pentarch.targets import Targets

        return None if self.targets is None else _read(Targets, self.targets)

    def terms(self) -> "Economics | None":
        """Return the terms of ownership of the file, or `None` without one."""
        from pentarch.targets import Economics

        return None if self.economics is None else _read(Economics, self.economics)


def _read(model: "type[M]", path: Path) -> "M":
    """Return a model from a YAML file of its fields."""
    from pentarch.catalog import read_model
    from pentarch.documents import read_document

    document = read_document(path, where=str(path))
    with document.located():
        return read_model(model, document.values, where=document.where)


def phases(
    *, chunk: int | None, prefix: int, no_cache: bool, routing: str,
    drafts: tuple[int, float | None, str | None, float],
) -> dict[str, object]:  # fmt: skip
    """Return the fields of a query that say how its phases run.

    Args:
        chunk: Prompt tokens of a pass.
        prefix: Prompt tokens that are cached.
        no_cache: Whether no keys and values are kept.
        routing: How tokens choose experts.
        drafts: Draft tokens, their acceptance, the model that makes them, their share of a step.
    """
    names = ("draft_tokens", "acceptance", "draft", "draft_share")
    return {
        "chunk_tokens": chunk, "prefix_tokens": prefix, "kv_cache": not no_cache,
        "routing": routing, **dict(zip(names, drafts, strict=True)),
    }  # fmt: skip


def evaluate_at(
    point: Point, *, workload: str, system: str, library: "Library", explain: bool = False
) -> "Evaluation":
    """Return the evaluation of one system at `point`, judged by its thresholds.

    Args:
        point: Where to evaluate.
        workload: Name or path.
        system: Name or path.
        library: Where names are looked up.
        explain: Whether to find out which assumption moves each verdict most.
    """
    import numpy as np
    from pydantic import ValidationError

    from pentarch.evaluate import api
    from pentarch.model import field_error

    try:
        with np.errstate(all="ignore"):  # what overflows is an error below, not a warning
            planned = api.partition(
                workload,
                system,
                point.query(),
                partitioner=point.partitioner,
                degree=point.degree,
                precisions=point.precisions(),
                runtime=point.runtime,
                targets=point.thresholds(),
                economics=point.terms(),
                library=library,
            )
            found = api.evaluate(planned)
            if explain:
                from pentarch.evaluate.sensitivity import sensitivity

                found = found.replace(sensitivity=sensitivity(planned.prepared))
            return found
    except ValidationError as error:  # a figure that is not finite: figures of a file are absurd
        raise field_error(error, where=f"evaluation of {workload} on {system}") from None
