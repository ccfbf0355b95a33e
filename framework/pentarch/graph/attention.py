"""The attention half of a layer as operators: grouped, latent and cross attention.

Latent attention runs in two forms (DeepSeek-AI, DeepSeek-V2, 2024, section 2.1). Prefill makes keys
and values of every head from the latent vectors. Decode attends over the cached vectors themselves;
the same two weights, cut into one piece per head, then multiply query and output instead.
"""

from dataclasses import dataclass
from typing import Any

from pentarch.graph.draft import Draft, Scope, Signal
from pentarch.graph.operators import Attention, Gather, Gemm, Phase, Split, Vector
from pentarch.workload.attention import (
    AttentionBlock,
    GroupedQueryAttention,
    LatentAttention,
    QueryKeyNorm,
)
from pentarch.workload.layers import CrossAttention

_LATENT_CACHE_HEADS = 1
"""Key-value heads of a latent cache: tensor parallelism cannot share it out."""


def add_attention(
    draft: Draft, scope: Scope, source: Signal, attention: AttentionBlock, *, phase: Phase
) -> Signal:
    """Append an attention block that reads `source` and return its output.

    Args:
        draft: The graph so far.
        scope: The layer that the block belongs to.
        source: Output of the norm in front of it, in the format of the residual stream.
        attention: Grouped or latent.
        phase: Which form latent attention takes.
    """
    if isinstance(attention, LatentAttention):
        return _latent(draft, scope, source, attention, phase=phase)
    return _grouped(draft, scope, source, attention)


def add_cross_attention(
    draft: Draft, scope: Scope, source: Signal, block: CrossAttention, *, encoded: Signal | None,
    encoder_tokens: int,
) -> Signal:  # fmt: skip
    """Append attention over an encoder's output and return what is added to the residual stream.

    Args:
        draft: The graph so far.
        scope: The layer that the block belongs to.
        source: The residual stream.
        block: Cross attention with its norm.
        encoded: Output of the encoder, from which keys and values are made and stored; `None` in
            decode, where they are read.
        encoder_tokens: Tokens of the encoder.
    """
    attention, formats = block.attention, draft.precisions
    normed = draft.norm(scope, "cross_norm", source, block.norm)
    taken = draft.converted(scope, "cross_query_in_quantize", normed, to=formats.activations)
    query = draft.gemm(
        scope, "cross_query", taken, n=attention.query_width, split=Split.COLUMNS,
        bias=attention.qkv_bias,
    )  # fmt: skip
    inputs = [_as_query(draft, scope, query, name="cross_query_quantize")]
    if encoded is not None:
        side = draft.at(encoder_tokens, encoder_tokens)
        taken = side.converted(scope, "cross_kv_in_quantize", encoded, to=formats.activations)
        projection = Gemm(
            name=scope.name("cross_kv"), layer=scope.layer, repeat=scope.repeat,
            split=Split.COLUMNS, rows=taken.rows, k=taken.features, n=attention.kv_width,
            bias=attention.qkv_bias, unbiased=_unbiased(attention), kv_heads=attention.kv_heads,
            kv_share=1.0, a_format=taken.format, b_format=formats.weights,
            out_format=formats.hidden,
        )  # fmt: skip
        side.add(projection, taken)
        made = Signal(projection.name, taken.rows, attention.kv_width, formats.hidden)
        inputs.append(_stored(side, scope, (made,), heads=attention.kv_heads, prefix="cross_"))
    core = _core(
        draft, scope, attention, name="cross_attention", context=encoder_tokens, cross=True
    )
    draft.add(core, *inputs)
    mixed = Signal(core.name, source.rows, attention.output_width, formats.hidden)
    return _output(draft, scope, mixed, source, prefix="cross_", bias=attention.output_bias)


def _grouped(
    draft: Draft, scope: Scope, source: Signal, attention: GroupedQueryAttention
) -> Signal:
    formats = draft.precisions
    taken = draft.converted(scope, "qkv_quantize", source, to=formats.activations)
    width = attention.query_width + attention.kv_width
    projection = Gemm(
        name=scope.name("qkv"), layer=scope.layer, repeat=scope.repeat, split=Split.COLUMNS,
        rows=taken.rows, k=taken.features, n=width, bias=attention.qkv_bias,
        unbiased=_unbiased(attention), kv_heads=attention.kv_heads,
        kv_share=attention.kv_width / width, a_format=taken.format, b_format=formats.weights,
        out_format=formats.hidden,
    )  # fmt: skip
    draft.add(projection, taken)
    parts = _Parts(projection.name, projection.name, projection.name)
    if attention.query_key_norm is not None:
        parts = _query_key_norm(draft, scope, parts, attention, attention.query_key_norm)
    key_width = attention.kv_width // 2
    if attention.rotary_dim:
        shape = _Rotation(
            width=attention.query_width + key_width, key_width=key_width,
            heads=attention.heads + attention.kv_heads, dim=attention.rotary_dim,
            kv_heads=attention.kv_heads,
        )  # fmt: skip
        name = _rotary(draft, scope, shape, parts.query)
        parts = _Parts(name, name, parts.value)
    rows, hidden = taken.rows, formats.hidden
    query = Signal(parts.query, rows, attention.query_width, hidden)
    new: tuple[Signal, ...]
    if parts.key == parts.value:
        new = (Signal(parts.key, rows, attention.kv_width, hidden),)
    else:
        new = (
            Signal(parts.key, rows, key_width, hidden),
            Signal(parts.value, rows, key_width, hidden),
        )
    inputs = [_as_query(draft, scope, query)]
    if attention.causal and draft.cached:
        inputs.append(_stored(draft, scope, new, heads=attention.kv_heads))
    else:
        inputs += _converted_keys(draft, scope, new, heads=attention.kv_heads)
    core = _core(draft, scope, attention, name="attention", context=draft.context)
    draft.add(core, *inputs)
    mixed = Signal(core.name, rows, attention.output_width, hidden)
    return _output(draft, scope, mixed, source, bias=attention.output_bias)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Operators that make queries, keys and values."""

    query: str
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class _Rotation:
    """What a rotary embedding reads: queries of all heads, then keys."""

    width: int
    key_width: int
    heads: int
    dim: int
    kv_heads: int


def _unbiased(attention: GroupedQueryAttention) -> int:
    without = attention.qkv_bias and not attention.key_bias
    return attention.kv_width // 2 if without else 0


def _core(
    draft: Draft, scope: Scope, attention: GroupedQueryAttention, *, name: str, context: int,
    cross: bool = False,
) -> Attention:  # fmt: skip
    formats = draft.precisions
    return Attention(
        name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        heads=attention.heads, kv_heads=attention.kv_heads, head_dim=attention.head_dim,
        value_dim=attention.head_dim, query_tokens=draft.tokens, context=context,
        causal=attention.causal, window=attention.window, chunk=attention.chunk, cross=cross,
        cached_values=None if draft.cached and (cross or attention.causal) else 0,
        sinks=attention.sinks,
        score_bias=attention.score_bias or "none", score_cap=attention.score_cap,
        query_format=formats.activations, kv_format=formats.kv, out_format=formats.hidden,
    )  # fmt: skip


def _as_query(draft: Draft, scope: Scope, query: Signal, *, name: str = "query_quantize") -> Signal:
    return draft.converted(
        scope, name, query, to=draft.precisions.activations, split=Split.HEADS, function="cast"
    )  # fmt: skip


def _output(
    draft: Draft, scope: Scope, mixed: Signal, source: Signal, *, bias: bool, prefix: str = ""
) -> Signal:
    taken = draft.converted(
        scope, f"{prefix}o_quantize", mixed, to=draft.precisions.activations, split=Split.VALUES
    )
    return draft.gemm(
        scope, f"{prefix}o", taken, n=source.features, split=Split.ROWS, bias=bias
    )  # fmt: skip


def _query_key_norm(
    draft: Draft, scope: Scope, parts: _Parts, attention: GroupedQueryAttention,
    found: QueryKeyNorm,
) -> _Parts:  # fmt: skip
    """Append the norm of queries and keys as one operator; it cuts by heads as they do."""
    hidden, tokens = draft.precisions.hidden, draft.tokens
    key_width = attention.kv_width // 2
    width = attention.query_width + key_width
    steps, sums = draft.norm_work(found.norm)
    operator = Vector(
        name=scope.name("query_key_norm"), layer=scope.layer, repeat=scope.repeat,
        split=Split.HEADS, function=found.norm.kind.value, values_in=tokens * width,
        values_out=tokens * width, elementwise=steps * tokens * width, reduce=sums * tokens * width,
        transcendental=tokens * (attention.heads + attention.kv_heads),
        lines=tokens * (attention.heads + attention.kv_heads),
        weights=sum(attention.query_key_gains), kv_heads=attention.kv_heads,
        kv_share=key_width / width, format=hidden, out_format=hidden,
    )  # fmt: skip
    draft.add(operator, Signal(parts.query, tokens, width, hidden))
    return _Parts(operator.name, operator.name, parts.value)


def _rotary(draft: Draft, scope: Scope, shape: _Rotation, producer: str) -> str:
    """Append the rotation of queries and keys: two multiplies and an add per rotated value.

    Sines and cosines come from a table: `rotary_dim` values are read for each token.
    """
    hidden, tokens = draft.precisions.hidden, draft.tokens
    operator = Vector(
        name=scope.name("rotary"), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        function="rotary", values_in=tokens * (shape.width + shape.dim),
        values_out=tokens * shape.width, elementwise=3 * tokens * shape.heads * shape.dim,
        kv_heads=shape.kv_heads, kv_share=shape.key_width / shape.width, format=hidden,
        out_format=hidden,
    )  # fmt: skip
    draft.add(operator, Signal(producer, tokens, shape.width, hidden))
    return operator.name


def _converted_keys(
    draft: Draft, scope: Scope, sources: tuple[Signal, ...], *, heads: int, prefix: str = ""
) -> tuple[Signal, ...]:
    """Append the conversion of new keys and values to their stored format."""
    formats = draft.precisions
    if formats.kv == formats.hidden:
        return sources
    rows, features = sources[0].rows, sum(source.features for source in sources)
    values = rows * features
    conversion = Vector(
        name=scope.name(f"{prefix}kv_quantize"), layer=scope.layer, repeat=scope.repeat,
        split=Split.HEADS, function="cast", values_in=values, values_out=values,
        elementwise=values, reduce=values, convert=values, lines=rows, kv_heads=heads, kv_share=1.0,
        format=formats.hidden, out_format=formats.kv,
    )  # fmt: skip
    draft.add(conversion, *sources)
    return (Signal(conversion.name, rows, features, formats.kv),)


def _stored(
    draft: Draft, scope: Scope, sources: tuple[Signal, ...], *, heads: int, prefix: str = ""
) -> Signal:
    """Append the conversion of new keys and values to their stored format, and their storing.

    Without a cache nothing is stored; of a latent vector with its rotary key the vector is returned.
    """
    sources = _converted_keys(draft, scope, sources, heads=heads, prefix=prefix)
    if not draft.cached:
        return sources[0]
    rows, features = sources[0].rows, sum(source.features for source in sources)
    operator = Gather(
        name=scope.name(f"{prefix}kv_append"), layer=scope.layer, repeat=scope.repeat,
        split=Split.HEADS, function="kv_append", values_in=rows * features,
        values_out=rows * features, kv_heads=heads, kv_share=1.0, format=draft.precisions.kv,
        fusable=True,
    )  # fmt: skip
    draft.add(operator, *sources)
    return Signal(operator.name, rows, features, draft.precisions.kv)


def _latent(
    draft: Draft, scope: Scope, source: Signal, attention: LatentAttention, *, phase: Phase
) -> Signal:
    formats, rows = draft.precisions, source.rows
    query_from, latent_from = _latent_projections(draft, scope, source, attention)
    latent = draft.norm(
        scope, "latent_norm", Signal(latent_from, rows, attention.latent, formats.hidden),
        attention.norm,
    )  # fmt: skip
    shape = _Rotation(
        width=(attention.heads + 1) * attention.rotary_dim, key_width=attention.rotary_dim,
        heads=attention.heads + 1, dim=attention.rotary_dim, kv_heads=_LATENT_CACHE_HEADS,
    )  # fmt: skip
    rotated = _rotary(draft, scope, shape, query_from)
    if latent_from != query_from:
        key = Signal(latent_from, rows, attention.rotary_dim, formats.hidden)
        draft.connect(rotated, key)
    rotary_key = Signal(rotated, rows, attention.rotary_dim, formats.hidden)
    stored = _stored(draft, scope, (latent, rotary_key), heads=_LATENT_CACHE_HEADS)
    plain = Signal(query_from, rows, attention.heads * attention.plain_dim, formats.hidden)
    turned = Signal(rotated, rows, attention.heads * attention.rotary_dim, formats.hidden)
    if phase is Phase.PREFILL:
        mixed = _plain_form(draft, scope, attention, (plain, turned), (stored, rotary_key))
    else:
        mixed = _absorbed_form(draft, scope, attention, (plain, turned), stored)
    return _output(draft, scope, mixed, source, bias=attention.bias)


def _latent_projections(
    draft: Draft, scope: Scope, source: Signal, attention: LatentAttention
) -> tuple[str, str]:
    """Append the projections to queries and latent vector; return the operators that make them."""
    taken = draft.converted(scope, "qkv_quantize", source, to=draft.precisions.activations)
    if attention.query_latent is None:
        query = draft.gemm(scope, "query", taken, n=attention.query_width, split=Split.HEADS)
        made = draft.gemm(
            scope, "kv_down", taken, n=attention.kv_width, split=Split.NONE, bias=attention.bias
        )
        return query.producer, made.producer
    down = draft.gemm(
        scope, "qkv_down", taken, n=attention.query_latent + attention.kv_width,
        split=Split.NONE, bias=attention.bias,
    )  # fmt: skip
    part = Signal(down.producer, down.rows, attention.query_latent, down.format)
    normed = draft.norm(scope, "query_norm", part, attention.norm)
    normed = draft.converted(
        scope, "query_up_quantize", normed, to=draft.precisions.activations
    )  # fmt: skip
    query = draft.gemm(scope, "query_up", normed, n=attention.query_width, split=Split.HEADS)
    return query.producer, down.producer


def _plain_form(
    draft: Draft, scope: Scope, attention: LatentAttention, query: tuple[Signal, Signal],
    cached: tuple[Signal, Signal],
) -> Signal:  # fmt: skip
    """Append keys and values of every head, and attention over them in the hidden format.

    Those of a cached prefix are made again, which is executed but not useful.
    """
    formats, heads = draft.precisions, attention.heads
    stored, rotary_key = cached
    latents = Signal(stored.producer, draft.context, attention.latent, stored.format)
    taken = draft.converted(scope, "latent_quantize", latents, to=formats.activations)
    made = []
    for name, width in (("key_up", attention.plain_dim), ("value_up", attention.value_dim)):
        operator = Gemm(
            name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
            rows=draft.context, useful_rows=draft.tokens, k=attention.latent, n=heads * width,
            a_format=taken.format, b_format=formats.weights, out_format=formats.hidden,
        )  # fmt: skip
        draft.add(operator, taken)
        made.append(Signal(operator.name, draft.context, heads * width, formats.hidden))
    core = Attention(
        **_latent_common(draft, scope, attention), kv_heads=heads, head_dim=attention.head_dim,
        value_dim=attention.value_dim, query_format=formats.hidden, kv_format=formats.hidden,
    )  # fmt: skip
    draft.add(core, *query, *made, rotary_key)
    return Signal(core.name, draft.tokens, attention.output_width, formats.hidden)


def _absorbed_form(
    draft: Draft, scope: Scope, attention: LatentAttention, query: tuple[Signal, Signal],
    stored: Signal,
) -> Signal:  # fmt: skip
    """Append queries in terms of the latent vector, attention over the cache, values per head."""
    formats, heads, rows = draft.precisions, attention.heads, draft.tokens
    plain, turned = query
    taken = _as_query(draft, scope, plain, name="latent_quantize")
    absorbed = _per_head(draft, scope, "key_up", taken, heads=heads, n=attention.latent)
    width = heads * attention.kv_width
    whole = [absorbed, turned]
    if formats.hidden != formats.activations:
        operator = Vector(
            name=scope.name("query_quantize"), layer=scope.layer, repeat=scope.repeat,
            split=Split.HEADS, function="cast", values_in=rows * width,
            values_out=rows * width, elementwise=rows * width, reduce=rows * width,
            convert=rows * width, lines=rows, format=formats.hidden, out_format=formats.activations,
        )  # fmt: skip
        draft.add(operator, *whole)
        whole = [Signal(operator.name, rows, width, formats.activations)]
    core = Attention(
        **_latent_common(draft, scope, attention), kv_heads=_LATENT_CACHE_HEADS,
        head_dim=attention.kv_width, value_dim=attention.latent, values_in_keys=True,
        useful_width=attention.head_dim + attention.value_dim, query_format=formats.activations,
        kv_format=formats.kv,
    )  # fmt: skip
    draft.add(core, *whole, stored)
    mixed = Signal(core.name, rows, heads * attention.latent, formats.hidden)
    taken = draft.converted(
        scope, "value_quantize", mixed, to=formats.activations, split=Split.HEADS
    )
    return _per_head(draft, scope, "value_up", taken, heads=heads, n=attention.value_dim)


def _latent_common(draft: Draft, scope: Scope, attention: LatentAttention) -> dict[str, Any]:
    return {
        "name": scope.name("attention"), "layer": scope.layer, "repeat": scope.repeat,
        "split": Split.HEADS, "heads": attention.heads, "query_tokens": draft.tokens,
        "context": draft.context, "cached_values": attention.kv_width if draft.cached else 0,
        "out_format": draft.precisions.hidden,
    }  # fmt: skip


def _per_head(
    draft: Draft, scope: Scope, name: str, source: Signal, *, heads: int, n: int
) -> Signal:
    """Append one GEMM for the features of each head, as a batch."""
    operator = Gemm(
        name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.HEADS,
        rows=source.rows, batch=heads, k=source.features // heads, n=n, a_format=source.format,
        b_format=draft.precisions.weights, out_format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator, source)
    return Signal(operator.name, source.rows, heads * n, draft.precisions.hidden)
