"""From a workload to its dataflow graph, one phase at a time.

The graph is what a serving stack runs: query, key and value projections are one GEMM, gate and up
projections another; final norm and LM head see only the last token of each sequence; where a GEMM
takes another format than the residual stream has, a quantization stands in front of it.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pentarch.errors import FieldError
from pentarch.graph.attention import add_attention, add_cross_attention
from pentarch.graph.draft import Draft, Scope, Signal
from pentarch.graph.ends import add_embedding, add_head, add_relative_positions
from pentarch.graph.feed_forward import add_feed_forward
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.lengths import Lengths, check_generates, lengths_of
from pentarch.graph.operators import Phase
from pentarch.workload.layers import Layer, LayerGroup
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Stack, Workload


def build_graph(
    workload: Workload,
    *,
    phase: Phase,
    query: Query,
    precisions: Precisions,
    context: int | None = None,
    fold: bool = True,
) -> WorkloadGraph:
    """Return the dataflow graph of one phase of `workload`, counts per sequence.

    Args:
        workload: The transformer.
        phase: Prefill processes the prompt less its cached prefix; decode one token. Prefill of a
            decoder behind an encoder is the encoder and the decoder's first token.
        query: Its lengths; the load is no part of a graph.
        precisions: Number formats by role.
        context: Keys that the last processed token sees, its own included. By default the prompt
            in prefill, and in decode that of the query's last step.
        fold: Whether equal layers are one set of operators with `repeat`. Otherwise every layer
            has its own, with the layer's index in its group at the end of the name.

    Raises:
        FieldError: The context or the prefix leaves no room for the tokens processed, or an encoder
            is to decode.

    Notes:
        A tied LM head and embedding are one stored table, counted at the LM head in its format.
    """
    if phase is Phase.DECODE:
        check_generates(workload)
    lengths = lengths_of(workload, query)
    if phase is Phase.DECODE:
        step = PassShape(phase, 1, max(lengths.first, lengths.last))
    else:
        step = PassShape(phase, lengths.tokens, lengths.context, cached=query.kv_cache)
    if context is not None:
        step = replace(step, context=context)
    return build_pass(workload, step, query=query, precisions=precisions, fold=fold)


@dataclass(frozen=True, slots=True)
class PassShape:
    """What one forward pass processes, per sequence."""

    phase: Phase
    """Which form operators take: that of prefill, or that of decode with a cache."""
    tokens: int
    """Tokens of the layers, those of the decoder behind an encoder."""
    context: int
    """Keys that the last of them sees."""
    cached: bool = True
    """Whether keys and values are kept for later passes."""
    every_score: bool = False
    """Whether the head scores all tokens, as when drafts are verified."""


def build_pass(
    workload: Workload, step: PassShape, *, query: Query, precisions: Precisions, fold: bool = True
) -> WorkloadGraph:
    """Return the dataflow graph of one forward pass, counts per sequence.

    Args:
        workload: The transformer.
        step: What the pass processes.
        query: Its prompt is what an encoder reads.
        precisions: Number formats by role.
        fold: Whether equal layers are one set of operators with `repeat`.

    Raises:
        FieldError: The context leaves no room for the tokens processed.
    """
    tokens, context = step.tokens, step.context
    if context < tokens:
        raise FieldError(
            where="build_graph",
            path="context",
            problem=f"found {context}",
            expected=f"at least the {tokens} tokens processed",
        )
    lengths = lengths_of(workload, query)
    draft = Draft(tokens=tokens, context=context, precisions=precisions, cached=step.cached)
    encoded = None
    if workload.encoder is not None and step.phase is Phase.PREFILL:
        encoded = _encoder(draft, workload, workload.encoder, lengths, fold=fold)
    signal = add_embedding(draft, workload, workload)
    around = _Around(
        phase=step.phase, distances=add_relative_positions(draft, workload), encoded=encoded,
        encoder_tokens=lengths.encoder_tokens,
    )  # fmt: skip
    for scope, layer in _scopes(workload, fold=fold):
        signal = _layer(draft, scope, signal, layer, around)
    add_head(draft, workload, signal, every_score=step.every_score)
    processed = lengths.encoder_tokens if encoded is not None else tokens
    return WorkloadGraph.from_operators(
        draft.operators,
        draft.edges,
        workload=workload.name,
        phase=step.phase,
        tokens=processed,
        context=max(context, processed),
    )


@dataclass(frozen=True, slots=True)
class _Around:
    """What layers of a stack see besides the residual stream."""

    phase: Phase
    distances: Signal | None
    """Biases of the scores, from the stack's table of relative positions."""
    encoded: Signal | None = None
    """Output of the encoder, in prefill."""
    encoder_tokens: int = 0


def _scopes(stack: Stack, *, fold: bool) -> Iterator[tuple[Scope, Layer]]:
    """Yield where operators go and the layer that they are, in the order of the residual stream."""
    if fold:
        for group in stack.layers:
            yield Scope(layer=group.name, repeat=group.count), group.layer
        return
    groups: dict[str, LayerGroup] = {group.name: group for group in stack.layers}
    order = stack.order or [group.name for group in stack.layers for _ in range(group.count)]
    seen: Counter[str] = Counter()
    for name in order:
        yield Scope(layer=name, index=seen[name]), groups[name].layer
        seen[name] += 1


def _encoder(
    draft: Draft, workload: Workload, encoder: Stack, lengths: Lengths, *, fold: bool
) -> Signal:
    """Append the encoder and return its output."""
    own = draft.at(lengths.encoder_tokens, lengths.encoder_tokens)
    signal = add_embedding(own, workload, encoder, prefix="encoder_")
    distances = add_relative_positions(own, encoder, prefix="encoder_")
    around = _Around(phase=Phase.PREFILL, distances=distances)
    for scope, layer in _scopes(encoder, fold=fold):
        signal = _layer(own, scope, signal, layer, around)
    return own.norm(Scope(), "encoder_final_norm", signal, encoder.final_norm)


def _layer(draft: Draft, scope: Scope, source: Signal, layer: Layer, around: _Around) -> Signal:
    """Append one layer that reads the residual stream and return the residual stream after it."""
    normed = draft.norm(scope, "attention_norm", source, layer.attention_norm)
    attended = add_attention(draft, scope, normed, layer.attention, phase=around.phase)
    if around.distances is not None:
        draft.connect(scope.name("attention"), around.distances)
    attended = draft.norm(scope, "attention_output_norm", attended, layer.attention_output_norm)
    if layer.parallel:
        taken = normed
        if layer.feed_forward_norm is not None:
            taken = draft.norm(scope, "feed_forward_norm", source, layer.feed_forward_norm)
        fed = _feed_forward(draft, scope, taken, layer)
        return draft.residual(scope, "layer_add", source, attended, fed)
    middle = draft.residual(scope, "attention_add", source, attended)
    middle = draft.norm(scope, "attention_sum_norm", middle, layer.attention_sum_norm)
    if layer.cross is not None:
        crossed = add_cross_attention(
            draft, scope, middle, layer.cross, encoded=around.encoded,
            encoder_tokens=around.encoder_tokens,
        )  # fmt: skip
        middle = draft.residual(scope, "cross_add", middle, crossed)
        middle = draft.norm(scope, "cross_sum_norm", middle, layer.cross.sum_norm)
    taken = draft.norm(scope, "feed_forward_norm", middle, layer.feed_forward_norm)
    fed = _feed_forward(draft, scope, taken, layer)
    total = draft.residual(scope, "feed_forward_add", middle, fed)
    return draft.norm(scope, "feed_forward_sum_norm", total, layer.feed_forward_sum_norm)


def _feed_forward(draft: Draft, scope: Scope, source: Signal, layer: Layer) -> Signal:
    fed = add_feed_forward(draft, scope, source, layer.feed_forward)
    return draft.norm(scope, "feed_forward_output_norm", fed, layer.feed_forward_output_norm)
