"""Exact work and KV-cache size of a query, in closed form (definitions.md, Useful FLOPs).

FLOPs are Python integers: 2 per MAC of GEMM and attention, causal attention as the lower triangle,
experts as routed, the LM head once for each generated token. Nothing here loops over tokens.
"""

from pentarch.errors import FieldError
from pentarch.graph.graph import visible_keys
from pentarch.workload.formats import number_format
from pentarch.workload.parameters import active_layer_weights
from pentarch.workload.query import Query
from pentarch.workload.workload import Workload

KV_BLOCK_TOKENS = 16
"""Tokens of a KV-cache block; half a block of each sequence stays empty on average."""


def layer_macs_per_token(workload: Workload) -> int:
    """Return the GEMM MACs of all layers for one token, without attention and LM head."""
    return sum(
        group.count * active_layer_weights(group.layer, workload.hidden)
        for group in workload.layers
    )


def lm_head_macs(workload: Workload) -> int:
    """Return the MACs of the LM head for one token."""
    return workload.hidden * workload.vocab


def attention_macs(workload: Workload, *, first: int, last: int) -> int:
    """Return the attention MACs of the tokens at contexts `first` to `last`, summed.

    Args:
        workload: The transformer.
        first: Keys that the first token sees, its own included.
        last: Keys that the last token sees.

    Returns:
        MACs of scores and of weighted values; 0 if there are no tokens.
    """
    total = 0
    for group in workload.layers:
        attention = group.layer.attention
        seen = visible_keys(first=first, last=last, window=attention.window)
        total += group.count * 2 * attention.query_width * seen
    return total


def prefill_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of prefill: prompt less prefix, and one token's logits."""
    gemm = query.prefill_tokens * layer_macs_per_token(workload)
    attention = attention_macs(workload, first=query.prefix_tokens + 1, last=query.prompt_tokens)
    return 2 * (gemm + attention + lm_head_macs(workload))


def decode_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of all decode steps: T - 1 tokens at contexts P + 1 to P + T - 1."""
    gemm = query.decode_steps * (layer_macs_per_token(workload) + lm_head_macs(workload))
    first, steps = query.prompt_tokens + 1, query.decode_steps
    return 2 * (gemm + attention_macs(workload, first=first, last=first + steps - 1))


def query_flops(workload: Workload, query: Query) -> int:
    """Return the useful FLOPs of a query: prefill and decode with a KV cache."""
    return prefill_flops(workload, query) + decode_flops(workload, query)


def query_flops_without_cache(workload: Workload, query: Query) -> int:
    """Return the FLOPs executed for a query if no keys and values are kept.

    Every generated token then costs a pass over the whole sequence so far, P to P + T - 1 tokens.
    Only `query_flops` of it is useful work.
    """
    first, last = query.prompt_tokens, query.prompt_tokens + query.output_tokens - 1
    tokens = visible_keys(first=first, last=last)
    macs = tokens * layer_macs_per_token(workload)
    macs += query.output_tokens * lm_head_macs(workload)
    for group in workload.layers:
        attention = group.layer.attention
        pairs = _summed_prefill_pairs(last, attention.window)
        pairs -= _summed_prefill_pairs(first - 1, attention.window)
        macs += group.count * 2 * attention.query_width * pairs
    return 2 * macs


def _summed_prefill_pairs(longest: int, window: int | None) -> int:
    """Return the query-key pairs of prefills of 1, 2, ... `longest` tokens, summed."""
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
    """Return the keys and values that one token adds to the KV cache, as a count of numbers."""
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
        seen = visible_keys(first=context, last=context, window=attention.window)
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
