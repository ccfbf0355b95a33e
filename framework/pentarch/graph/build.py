"""From a workload to its dataflow graph, one phase at a time.

The graph is what a serving stack runs: query, key and value projections are one GEMM, gate and up
projections another; final norm and LM head see only the last token of each sequence; where a GEMM
takes another format than the residual stream has, a quantization stands in front of it.
"""

from pentarch.errors import FieldError
from pentarch.graph.draft import Draft, Scope, Signal
from pentarch.graph.feed_forward import add_feed_forward
from pentarch.graph.graph import WorkloadGraph
from pentarch.graph.operators import Attention, Gather, Gemm, Phase, Split, Vector
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import (
    GroupedQueryAttention,
    Layer,
    PositionEmbedding,
    Workload,
)


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
        phase: Prefill processes the prompt less its cached prefix; decode one token.
        query: Its lengths; the load is no part of a graph.
        precisions: Number formats by role.
        context: Keys that the last processed token sees, its own included. By default the prompt
            in prefill, and in decode that of the query's last step.
        fold: Whether equal layers are one set of operators with `repeat`. Otherwise every layer
            has its own, with the layer's index at the end of the name.

    Raises:
        FieldError: The context or the prefix leaves no room for the tokens processed.

    Notes:
        A tied LM head and embedding are one stored table, counted at the LM head in its format.
    """
    tokens, context = _lengths(query, phase, context)
    draft = Draft(tokens=tokens, context=context, precisions=precisions)
    signal = _embedding(draft, workload)
    for group in workload.layers:
        if fold:
            scopes = [Scope(layer=group.name, repeat=group.count)]
        else:
            scopes = [Scope(layer=group.name, index=index) for index in range(group.count)]
        for scope in scopes:
            signal = _layer(draft, scope, signal, group.layer)
    _head(draft, workload, signal)
    return WorkloadGraph.from_operators(
        draft.operators,
        draft.edges,
        workload=workload.name,
        phase=phase,
        tokens=tokens,
        context=context,
    )


def _lengths(query: Query, phase: Phase, context: int | None) -> tuple[int, int]:
    if phase is Phase.DECODE:
        last = query.prompt_tokens + max(1, query.decode_steps)
        tokens, context = 1, last if context is None else context
    else:
        tokens = query.prefill_tokens
        context = query.prompt_tokens if context is None else context
    if tokens < 1:
        raise FieldError(
            where="query",
            path="prefix_tokens",
            problem=f"{query.prefix_tokens} cached tokens leave nothing of the prompt to process",
            expected=f"fewer than the {query.prompt_tokens} prompt tokens",
        )
    if context < tokens:
        raise FieldError(
            where="build_graph",
            path="context",
            problem=f"found {context}",
            expected=f"at least the {tokens} tokens processed",
        )
    return tokens, context


def _embedding(draft: Draft, workload: Workload) -> Signal:
    """Append the look-up of tokens, and of learned positions."""
    hidden, scope = draft.precisions.hidden, Scope()
    values = draft.tokens * workload.hidden
    tokens = Gather(
        name="embedding", split=Split.VALUES, function="embedding", values_in=values,
        values_out=values, table=workload.vocab * workload.hidden, tied=workload.tied,
        format=hidden,
    )  # fmt: skip
    draft.add(tokens)
    embedded = Signal(tokens.name, draft.tokens, workload.hidden, hidden)
    if workload.position_embedding is PositionEmbedding.NONE:
        return embedded
    positions = Gather(
        name="position_embedding", split=Split.VALUES, function="position_embedding",
        values_in=values, values_out=values, table=workload.positions * workload.hidden,
        format=hidden,
    )  # fmt: skip
    draft.add(positions)
    placed = Signal(positions.name, draft.tokens, workload.hidden, hidden)
    return draft.residual(scope, "embedding_add", embedded, placed)


def _layer(draft: Draft, scope: Scope, source: Signal, layer: Layer) -> Signal:
    """Append one layer that reads the residual stream and return the residual stream after it."""
    normed = draft.norm(scope, "attention_norm", source, layer.attention_norm)
    attended = _attention_block(draft, scope, normed, layer.attention)
    if layer.parallel:
        taken = normed
        if layer.feed_forward_norm is not None:
            taken = draft.norm(scope, "feed_forward_norm", source, layer.feed_forward_norm)
        fed = add_feed_forward(draft, scope, taken, layer.feed_forward)
        return draft.residual(scope, "layer_add", source, attended, fed)
    middle = draft.residual(scope, "attention_add", source, attended)
    taken = draft.norm(scope, "feed_forward_norm", middle, layer.feed_forward_norm)
    fed = add_feed_forward(draft, scope, taken, layer.feed_forward)
    return draft.residual(scope, "feed_forward_add", middle, fed)


def _attention_block(
    draft: Draft, scope: Scope, source: Signal, attention: GroupedQueryAttention
) -> Signal:
    formats = draft.precisions
    taken = draft.converted(scope, "qkv_quantize", source, to=formats.activations)
    width = attention.query_width + attention.kv_width
    projection = Gemm(
        name=scope.name("qkv"), layer=scope.layer, repeat=scope.repeat, split=Split.COLUMNS,
        rows=taken.rows, k=taken.features, n=width, bias=attention.qkv_bias,
        kv_heads=attention.kv_heads, kv_share=attention.kv_width / width,
        a_format=taken.format, b_format=formats.weights, out_format=formats.hidden,
    )  # fmt: skip
    draft.add(projection, taken)
    query = Signal(projection.name, taken.rows, attention.query_width, formats.hidden)
    cached = Signal(projection.name, taken.rows, attention.kv_width, formats.hidden)
    if attention.rotary_dim:
        query, rotated_keys = _rotary(draft, scope, projection.name, attention)
        values = Signal(projection.name, taken.rows, attention.kv_width // 2, formats.hidden)
        stored = _kv_append(draft, scope, (rotated_keys, values), attention)
    else:
        stored = _kv_append(draft, scope, (cached,), attention)
    query = draft.converted(
        scope, "query_quantize", query, to=formats.activations, split=Split.HEADS
    )
    core = Attention(
        name=scope.name("attention"), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        heads=attention.heads, kv_heads=attention.kv_heads, head_dim=attention.head_dim,
        value_dim=attention.head_dim, query_tokens=draft.tokens, context=draft.context,
        window=attention.window, query_format=query.format, kv_format=formats.kv,
        out_format=formats.hidden,
    )  # fmt: skip
    draft.add(core, query, stored)
    mixed = Signal(core.name, taken.rows, attention.query_width, formats.hidden)
    mixed = draft.converted(scope, "o_quantize", mixed, to=formats.activations, split=Split.VALUES)
    return draft.gemm(
        scope, "o", mixed, n=source.features, split=Split.ROWS, bias=attention.output_bias
    )


def _rotary(
    draft: Draft, scope: Scope, producer: str, attention: GroupedQueryAttention
) -> tuple[Signal, Signal]:
    """Append the rotation of queries and keys: two multiplies and an add per rotated value.

    Sines and cosines come from a table: `rotary_dim` values are read for each token.
    """
    hidden, tokens = draft.precisions.hidden, draft.tokens
    key_width = attention.kv_heads * attention.head_dim
    width = attention.query_width + key_width
    rotated = tokens * (attention.heads + attention.kv_heads) * attention.rotary_dim
    operator = Vector(
        name=scope.name("rotary"), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        function="rotary", values_in=tokens * (width + attention.rotary_dim),
        values_out=tokens * width, elementwise=3 * rotated, kv_heads=attention.kv_heads,
        kv_share=key_width / width, format=hidden, out_format=hidden,
    )  # fmt: skip
    draft.add(operator, Signal(producer, tokens, width, hidden))
    return (
        Signal(operator.name, tokens, attention.query_width, hidden),
        Signal(operator.name, tokens, key_width, hidden),
    )


def _kv_append(
    draft: Draft, scope: Scope, sources: tuple[Signal, ...], attention: GroupedQueryAttention
) -> Signal:
    """Append the conversion of new keys and values to their stored format, and their storing."""
    formats, values = draft.precisions, draft.tokens * attention.kv_width
    if formats.kv != formats.hidden:
        conversion = Vector(
            name=scope.name("kv_quantize"), layer=scope.layer, repeat=scope.repeat,
            split=Split.HEADS, function="quantize", values_in=values, values_out=values,
            elementwise=values, reduce=values, convert=values, kv_heads=attention.kv_heads,
            kv_share=1.0, format=formats.hidden, out_format=formats.kv,
        )  # fmt: skip
        draft.add(conversion, *sources)
        sources = (Signal(conversion.name, draft.tokens, attention.kv_width, formats.kv),)
    operator = Gather(
        name=scope.name("kv_append"), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        function="kv_append", values_in=values, values_out=values, kv_heads=attention.kv_heads,
        kv_share=1.0, format=formats.kv, fusable=True,
    )  # fmt: skip
    draft.add(operator, *sources)
    return Signal(operator.name, draft.tokens, attention.kv_width, formats.kv)


def _head(draft: Draft, workload: Workload, source: Signal) -> None:
    """Append final norm, LM head and sampling for the last token of the sequence."""
    formats, scope = draft.precisions, Scope()
    last = Signal(source.producer, 1, source.features, source.format)
    last = draft.norm(scope, "final_norm", last, workload.final_norm)
    weights = formats.of("lm_head")
    if weights.bits < formats.of("hidden").bits:
        last = draft.converted(scope, "lm_head_quantize", last, to=formats.activations)
    head = Gemm(
        name="lm_head", split=Split.COLUMNS, rows=1, k=last.features, n=workload.vocab,
        bias=workload.lm_head_bias, a_format=last.format, b_format=weights.name,
        out_format=formats.hidden,
    )  # fmt: skip
    draft.add(head, last)
    logits = Signal(head.name, 1, workload.vocab, formats.hidden)
    sampling = Vector(
        name="sampling", split=Split.NONE, function="sampling", values_in=logits.values,
        values_out=1, elementwise=2 * logits.values, reduce=3 * logits.values,
        transcendental=logits.values, format=formats.hidden, out_format="int32", fusable=False,
    )  # fmt: skip
    draft.add(sampling, logits)
