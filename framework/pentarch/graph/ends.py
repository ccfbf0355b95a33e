"""Both ends of a stack as operators: embeddings or a front end, and the head."""

from pentarch.graph.draft import Draft, Scope, Signal
from pentarch.graph.feed_forward import ACTIVATION_WORK
from pentarch.graph.flops import head_rows
from pentarch.graph.operators import Gather, Gemm, Split, Vector
from pentarch.workload.layers import Activation
from pentarch.workload.workload import (
    EmbeddingProjection,
    Encoder,
    FrontEnd,
    HeadKind,
    HeadTransform,
    Stack,
    Workload,
)


def add_embedding(draft: Draft, workload: Workload, stack: Stack, *, prefix: str = "") -> Signal:
    """Append what makes the residual stream of a stack, and return it.

    Args:
        draft: The graph so far, at the lengths of the stack.
        workload: The transformer, for its width and its token table.
        stack: The workload itself or its encoder.
        prefix: What names of operators begin with.
    """
    projection = workload.embedding_projection
    if stack.frontend is not None:
        signal = _front_end(draft, workload, stack.frontend, prefix)
        projection = None
    else:
        # The table of an encoder-decoder is counted at the decoder's embedding, or at the head.
        tied = not stack.own_table if isinstance(stack, Encoder) else workload.tied
        signal = _table(
            draft, prefix + "embedding", rows=workload.vocab, width=workload.table_width,
            tied=tied,
        )  # fmt: skip
    if projection is not None and not projection.of_sum:
        signal = _projected(draft, workload, projection, signal)
    tables = (("position", stack.table_rows), ("segment", stack.token_types))
    for name, rows in tables:
        if rows:
            found = _table(
                draft, f"{prefix}{name}_embedding", rows=rows, width=signal.features,
                function=f"{name}_embedding",
            )  # fmt: skip
            # The sum with positions keeps its first name: plans of decoders know it.
            add = "embedding_add" if name == "position" else f"{name}_add"
            signal = draft.residual(Scope(), prefix + add, signal, found)
    signal = draft.norm(Scope(), prefix + "embedding_norm", signal, stack.embedding_norm)
    if projection is not None and projection.of_sum:
        signal = _projected(draft, workload, projection, signal)
    return signal


def add_head(
    draft: Draft, workload: Workload, source: Signal, *, every_score: bool = False
) -> None:
    """Append final norm, head and sampling.

    A language model's head sees the last token of the sequence, or all where drafts are verified; a
    classifier's one token, that of a masked language model all.
    """
    formats, scope = draft.precisions, Scope()
    rows = head_rows(workload, source.rows, every_score=every_score)
    last = Signal(source.producer, rows, source.features, source.format)
    last = draft.norm(scope, "final_norm", last, workload.final_norm)
    if workload.head_transform is not None:
        last = _transformed(draft, last, workload.head_transform)
    if workload.head is HeadKind.STATES:
        return
    weights = formats.of("lm_head")
    if weights.bits < formats.of("hidden").bits:
        last = draft.converted(scope, "lm_head_quantize", last, to=formats.activations)
    head = Gemm(
        name="lm_head", split=Split.COLUMNS, rows=rows, k=last.features, n=workload.head_columns,
        bias=workload.lm_head_bias, a_format=last.format, b_format=weights.name,
        out_format=formats.hidden,
    )  # fmt: skip
    draft.add(head, last)
    logits = Signal(head.name, rows, workload.head_columns, formats.hidden)
    sampling = Vector(
        name="sampling", split=Split.NONE, function="sampling", values_in=logits.values,
        values_out=rows, elementwise=2 * logits.values, reduce=3 * logits.values,
        transcendental=logits.values, lines=rows, format=formats.hidden, out_format="int32", fusable=False,
    )  # fmt: skip
    draft.add(sampling, logits)


def _table(
    draft: Draft, name: str, *, rows: int, width: int, function: str = "embedding",
    tied: bool = False,
) -> Signal:  # fmt: skip
    """Append the look-up of one entry for each token, in the format of the residual stream."""
    values, format = draft.tokens * width, draft.precisions.hidden
    operator = Gather(
        name=name, split=Split.VALUES, function=function, values_in=values, values_out=values,
        table=rows * width, tied=tied, format=format,
    )  # fmt: skip
    draft.add(operator)
    return Signal(name, draft.tokens, width, format)


def _projected(
    draft: Draft, workload: Workload, projection: EmbeddingProjection, source: Signal
) -> Signal:
    taken = draft.converted(
        Scope(), "embedding_projection_quantize", source, to=draft.precisions.activations
    )
    return draft.gemm(
        Scope(), "embedding_projection", taken, n=workload.hidden, split=Split.NONE,
        bias=projection.bias,
    )  # fmt: skip


def add_relative_positions(draft: Draft, stack: Stack, *, prefix: str = "") -> Signal | None:
    """Append the look-up of the biases that attention of every layer adds to its scores."""
    if not stack.relative_buckets:
        return None
    values = draft.tokens * stack.heads
    operator = Gather(
        name=prefix + "relative_positions", split=Split.NONE, function="relative_positions",
        values_in=values, values_out=values, table=stack.relative_buckets * stack.heads,
        format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator)
    return Signal(operator.name, draft.tokens, stack.heads, draft.precisions.hidden)


def _front_end(draft: Draft, workload: Workload, frontend: FrontEnd, prefix: str) -> Signal:
    """Append convolutions, each as one GEMM over patches, and learned tokens in front."""
    formats, scope = draft.precisions, Scope()
    signal: Signal | None = None
    for index, stage in enumerate(frontend.convolutions):
        name = f"{prefix}convolution{index}"
        inputs: tuple[Signal, ...] = ()
        format = formats.activations
        if signal is not None:
            taken = draft.converted(scope, f"{name}_quantize", signal, to=formats.activations)
            inputs, format = (taken,), taken.format
        operator = Gemm(
            name=name, split=Split.NONE, rows=stage.positions, k=stage.taps * stage.inputs,
            n=stage.outputs, bias=stage.bias, a_format=format, b_format=formats.weights,
            out_format=formats.hidden,
        )  # fmt: skip
        draft.add(operator, *inputs)
        signal = Signal(name, stage.positions, stage.outputs, formats.hidden)
        if stage.activation is not None:
            signal = _activated(draft, signal, stage.activation, name=f"{name}_activation")
    if signal is None:  # a front end has at least one convolution
        raise ValueError(f"{workload.name} has a front end without convolutions")
    if not frontend.learned_tokens:
        return signal
    width = workload.hidden
    put = Gather(
        name=prefix + "learned_tokens", function="learned_tokens",
        values_in=frontend.learned_tokens * width, values_out=frontend.learned_tokens * width,
        table=frontend.learned_tokens * width, format=formats.hidden, fusable=True,
    )  # fmt: skip
    draft.add(put, signal)
    return Signal(put.name, frontend.tokens, width, formats.hidden)


def _activated(draft: Draft, source: Signal, activation: Activation, *, name: str) -> Signal:
    elementwise, transcendental = ACTIVATION_WORK[activation]
    operator = Vector(
        name=name, split=Split.NONE, function=activation.value, values_in=source.values,
        values_out=source.values, elementwise=elementwise * source.values,
        transcendental=transcendental * source.values, format=source.format,
        out_format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator, source)
    return Signal(name, source.rows, source.features, draft.precisions.hidden)


def _transformed(draft: Draft, source: Signal, transform: HeadTransform) -> Signal:
    taken = draft.converted(
        Scope(), "head_transform_quantize", source, to=draft.precisions.activations
    )
    signal = draft.gemm(
        Scope(), "head_transform", taken, n=transform.width, split=Split.NONE, bias=transform.bias
    )
    if transform.activation is not None:
        signal = _activated(draft, signal, transform.activation, name="head_transform_activation")
    return draft.norm(Scope(), "head_transform_norm", signal, transform.norm)
