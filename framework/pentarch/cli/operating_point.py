"""An operating point in words, as the head of an evaluation shows it."""

from collections.abc import Iterator

from pentarch.results import Evaluation
from pentarch.workload.query import Precisions, Query


def describe_point(evaluation: Evaluation) -> str:
    """Return what was asked of which design: names, lengths, load, formats, unusual options.

    Options of the query are named where they differ from their defaults.
    """
    point = evaluation.operating_point
    query = point.query
    head = (
        f"{evaluation.workload} on {evaluation.system} ({evaluation.partitioner}, "
        f"{point.runtime}): {query.prompt_tokens:,} prompt and {query.output_tokens:,} output "
        f"tokens, {query.concurrency:,} in flight"
    )
    return ", ".join((head, *_formats(point.precisions), *_options(query)))


def _formats(precisions: Precisions) -> Iterator[str]:
    yield f"{precisions.weights} weights"
    if precisions.experts not in (None, precisions.weights):
        yield f"{precisions.experts} experts"
    yield f"{precisions.activations} activations"
    yield f"{precisions.kv} KV"


def _options(query: Query) -> Iterator[str]:
    if query.prefix_tokens:
        yield f"{query.prefix_tokens:,} prompt tokens cached"
    if query.chunk_tokens is not None:
        yield f"prefill in chunks of {query.chunk_tokens:,}"
    if query.draft_tokens:
        drafted = "" if query.draft is None else f" by {query.draft}"
        yield f"{query.draft_tokens} drafts a step{drafted}, {query.acceptance:.0%} accepted"
    if not query.kv_cache:
        yield "no KV cache"
    if query.routing != Query().routing:
        yield f"{query.routing} routing"
