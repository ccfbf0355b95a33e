"""Exact work and KV-cache size of a query, in closed form (definitions.md, Useful FLOPs).

FLOPs are Python integers: 2 per MAC of GEMM and attention, causal attention as the lower triangle,
experts as routed, the LM head once for each generated token. Nothing here loops over tokens.
"""

from pentarch.errors import FieldError
from pentarch.graph.graph import visible_keys
from pentarch.graph.lengths import Lengths, lengths_of
from pentarch.workload.formats import number_format
from pentarch.workload.layers import LayerGroup
from pentarch.workload.parameters import active_layer_weights
from pentarch.workload.query import Query
from pentarch.workload.workload import HeadKind, Stack, Workload

KV_BLOCK_TOKENS = 16
"""Tokens of a KV-cache block; half a block of each sequence stays empty on average."""


def layer_macs_per_token(workload: Workload) -> int:
    """Return the GEMM MACs of all layers for one token, without attention and LM head.

    Those of a projected embedding count; keys and values of cross attention and the encoder do not:
    they are made once for each token that the encoder reads.
    """
    return _stack_macs(workload, workload.hidden) + _projection_macs(workload, workload)


def lm_head_macs(workload: Workload) -> int:
    """Return the MACs of the LM head, and of the layer in front of it, for one token."""
    transform = workload.head_transform
    before = 0 if transform is None else workload.hidden * transform.width
    return before + workload.head_width * workload.head_columns


def head_rows(workload: Workload, tokens: int, *, every_score: bool) -> int:
    """Return the rows that the head sees of `tokens` tokens.

    Args:
        workload: The transformer.
        tokens: Tokens of the layers in front of the head.
        every_score: Whether a language model scores all of them, not just the last.
    """
    if workload.head is HeadKind.MASKED:
        return tokens
    if workload.head is HeadKind.LANGUAGE:
        return tokens if every_score else 1
    is_pooled = workload.head is HeadKind.CLASSES or not workload.is_causal
    return 1 if is_pooled else tokens


def _stack_macs(stack: Stack, hidden: int) -> int:
    return sum(group.count * active_layer_weights(group.layer, hidden) for group in stack.layers)


def _projection_macs(workload: Workload, stack: Stack) -> int:
    """Return the MACs per token of the embedding's projection to the residual stream."""
    if workload.embedding_projection is None or stack.frontend is not None:
        return 0
    return workload.table_width * workload.hidden


def attention_macs(workload: Workload, *, first: int, last: int) -> int:
    """Return the attention MACs of the tokens at contexts `first` to `last`, summed.

    Args:
        workload: The transformer.
        first: Keys that the first token sees, its own included.
        last: Keys that the last token sees.

    Returns:
        MACs of scores and of weighted values; 0 if there are no tokens. Latent attention counts in
        its plain form, whichever form runs. Cross attention is left out.
    """
    return sum(
        group.count * group.layer.attention.pair_macs * _seen_keys(group, first=first, last=last)
        for group in workload.layers
    )


def _seen_keys(group: LayerGroup, *, first: int, last: int) -> int:
    attention = group.layer.attention
    return visible_keys(first=first, last=last, window=attention.window, chunk=attention.chunk)


def _full_attention_macs(stack: Stack, tokens: int) -> int:
    """Return the attention MACs of an encoder, where every token sees all, or a window of them."""
    total = 0
    for group in stack.layers:
        attention = group.layer.attention
        seen = tokens if attention.window is None else min(tokens, attention.window)
        total += group.count * attention.pair_macs * tokens * seen
    return total


def encoder_flops(workload: Workload, query: Query) -> int:
    """Return the FLOPs of the encoder and of the keys and values made from it; 0 without one."""
    encoder, lengths = workload.encoder, lengths_of(workload, query)
    if encoder is None:
        return 0
    tokens = lengths.encoder_tokens
    per_token = _stack_macs(encoder, workload.hidden) + _projection_macs(workload, encoder)
    per_token += sum(
        group.count * group.layer.cross.attention.kv_weights(workload.hidden)
        for group in workload.layers
        if group.layer.cross is not None
    )
    macs = tokens * per_token + _full_attention_macs(encoder, tokens)
    return 2 * (macs + (0 if encoder.frontend is None else encoder.frontend.macs))


def _cross_macs(workload: Workload, lengths: Lengths) -> int:
    """Return the MACs of one decoder token's attention over the encoder's tokens."""
    return sum(
        group.count * group.layer.cross.attention.pair_macs * lengths.encoder_tokens
        for group in workload.layers
        if group.layer.cross is not None
    )


def prefill_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of prefill: prompt less prefix, and one token's logits.

    An encoder's are those of its whole input, and of the decoder's first token if there is one.

    Raises:
        FieldError: The query has a prefix that the workload cannot keep.
    """
    lengths = lengths_of(workload, query)
    macs = lengths.tokens * (layer_macs_per_token(workload) + _cross_macs(workload, lengths))
    if workload.is_causal:
        macs += attention_macs(workload, first=lengths.earlier + 1, last=lengths.context)
    else:
        macs += _full_attention_macs(workload, lengths.tokens)
    macs += 0 if workload.frontend is None else workload.frontend.macs
    rows = head_rows(workload, lengths.tokens, every_score=False)
    return 2 * (macs + rows * lm_head_macs(workload)) + encoder_flops(workload, query)


def decode_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of all decode steps: T - 1 tokens at contexts P + 1 to P + T - 1."""
    lengths = lengths_of(workload, query)
    per_step = layer_macs_per_token(workload) + lm_head_macs(workload)
    per_step += _cross_macs(workload, lengths)
    attention = attention_macs(workload, first=lengths.first, last=lengths.last)
    return 2 * (lengths.steps * per_step + attention)


def query_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of a query: prefill and decode with a KV cache."""
    return prefill_flops(workload, query) + decode_flops(workload, query)


def dense_flops(workload: Workload, *, tokens: int, decoder_tokens: int = 1) -> int:
    """Return the FLOPs of one pass over a whole sequence as a plain implementation runs it.

    Every query is multiplied with every key whatever mask or window says, every token gets its
    scores from the head, and experts run for the tokens that choose them. What useful FLOPs leave
    out is thus in it: `prefill_flops` is the useful part.

    Args:
        workload: The transformer.
        tokens: Tokens of the sequence; those of the encoder if there is one. A front end sets its
            own.
        decoder_tokens: Tokens of the decoder behind an encoder.
    """
    own = tokens if workload.encoder is None else decoder_tokens
    own = own if workload.frontend is None else workload.frontend.tokens
    rows = head_rows(workload, own, every_score=True)
    macs = own * layer_macs_per_token(workload) + rows * lm_head_macs(workload)
    macs += own * own * _pair_macs(workload)
    macs += 0 if workload.frontend is None else workload.frontend.macs
    if workload.encoder is None:
        return 2 * macs
    query = Query(prompt_tokens=tokens, output_tokens=1)
    lengths = lengths_of(workload, query)
    read = lengths.encoder_tokens
    full = read * read * _pair_macs(workload.encoder) - _full_attention_macs(workload.encoder, read)
    macs += own * _cross_macs(workload, lengths) + full
    return 2 * macs + encoder_flops(workload, query)


def _pair_macs(stack: Stack) -> int:
    return sum(group.count * group.layer.attention.pair_macs for group in stack.layers)


def query_flops_without_cache(workload: Workload, query: Query) -> int:
    """Return the FLOPs executed for a query if no keys and values are kept.

    Every generated token then costs a pass over the whole sequence so far, P to P + T - 1 tokens,
    and one through the encoder if there is one. Only `query_flops` of it is useful work.
    """
    if not workload.generates:
        return prefill_flops(workload, query)
    lengths = lengths_of(workload, query)
    first, last = lengths.context, max(lengths.context, lengths.last)
    tokens = visible_keys(first=first, last=last)
    macs = tokens * (layer_macs_per_token(workload) + _cross_macs(workload, lengths))
    macs += (last - first + 1) * lm_head_macs(workload)
    for group in workload.layers:
        attention = group.layer.attention
        pairs = _summed_prefill_pairs(last, attention.window, attention.chunk)
        pairs -= _summed_prefill_pairs(first - 1, attention.window, attention.chunk)
        macs += group.count * attention.pair_macs * pairs
    return 2 * macs + (last - first + 1) * encoder_flops(workload, query)


def _summed_prefill_pairs(longest: int, window: int | None, chunk: int | None = None) -> int:
    """Return the query-key pairs of prefills of 1, 2, ... `longest` tokens, summed."""
    if chunk is not None:
        # Prefills that end in the chunk after `done` whole ones: those, and a triangle of their own.
        whole, rest = divmod(longest, chunk)
        triangle = chunk * (chunk + 1) // 2
        inside = chunk * (chunk + 1) * (chunk + 2) // 6
        pairs = triangle * chunk * (whole * (whole - 1) // 2) + whole * inside
        return pairs + rest * whole * triangle + rest * (rest + 1) * (rest + 2) // 6
    within = longest if window is None else min(longest, window)
    pairs = within * (within + 1) * (within + 2) // 6
    if window is None or longest <= window:
        return pairs
    beyond = longest - window
    return pairs + beyond * (window * (window + 1) // 2) + window * (beyond * (beyond + 1) // 2)


def dense_flops_per_token(workload: Workload) -> int:
    """Return the FLOPs of all GEMMs for one generated token: 2 per active weight.

    The LM head counts, attention over the context does not.
    """
    return 2 * (layer_macs_per_token(workload) + lm_head_macs(workload))


def useful_flops_per_token(workload: Workload, *, context: int) -> int:
    """Return the useful FLOPs of one decode step at `context` keys, its own token's included.

    Raises:
        FieldError: The context is less than one key.
    """
    _check_context(context)
    attention = attention_macs(workload, first=context, last=context)
    return dense_flops_per_token(workload) + 2 * attention


def kv_values_per_token(workload: Workload) -> int:
    """Return the keys and values that one token adds to the KV cache, as a count of numbers.

    An encoder keeps none; what a decoder keeps of its encoder does not grow.
    """
    if not workload.generates:
        return 0
    return sum(group.count * group.layer.attention.kv_width for group in workload.layers)


def kv_bytes_per_token(workload: Workload, kv_format: str) -> float:
    """Return the bytes that one token adds to the KV cache, group scales included."""
    return kv_values_per_token(workload) * number_format(kv_format).bytes


def kv_bytes_at(workload: Workload, *, context: int, kv_format: str) -> float:
    """Return the KV-cache bytes that a decode step reads per sequence at `context` keys.

    Layers with a window hold no more than its keys.

    Raises:
        FieldError: The context is less than one key.
    """
    _check_context(context)
    values = 0
    for group in workload.layers:
        attention = group.layer.attention
        seen = _seen_keys(group, first=context, last=context)
        values += group.count * attention.kv_width * seen
    return values * number_format(kv_format).bytes


def decode_mfu_ceiling(
    workload: Workload, *, context: int, kv_format: str, ridge_flops_per_byte: float
) -> float:
    """Return the decode MFU that no load can exceed while the KV cache is read from memory.

    As more sequences share the weights, arithmetic intensity tends to FLOPs per token over KV bytes
    per sequence (definitions.md, MBU).

    Args:
        workload: The transformer.
        context: Keys that the token sees, its own included.
        kv_format: Number format of stored keys and values.
        ridge_flops_per_byte: Peak FLOPS over bandwidth of the memory that holds the KV cache.

    Returns:
        At most 1.
    """
    flops = useful_flops_per_token(workload, context=context)
    read = kv_bytes_at(workload, context=context, kv_format=kv_format)
    return min(1.0, flops / read / ridge_flops_per_byte)


def _check_context(context: int) -> None:
    if context < 1:
        raise FieldError(
            where="decode step",
            path="context",
            problem=f"found {context}",
            expected="at least 1: a token sees its own key",
        )
