"""Exact parameter counts of a workload, by component.

GEMM weights and biases are counted apart, because FLOPs follow from the weights alone.
"""

from pydantic import NonNegativeInt, PositiveInt

from pentarch.model import Model
from pentarch.workload.workload import (
    DenseFeedForward,
    ExpertFeedForward,
    FeedForward,
    GroupedQueryAttention,
    Layer,
    Norm,
    PositionEmbedding,
    Workload,
)


class ParameterCounts(Model):
    """Parameters of a workload; the components add up to the total."""

    total: PositiveInt
    """All parameters, a tied table once."""
    active: PositiveInt
    """Those that one token can meet: the total less the routed experts that it does not visit."""
    embedding: PositiveInt
    """Token and position tables."""
    attention: NonNegativeInt
    """Query, key, value and output projections."""
    feed_forward: NonNegativeInt
    """Feed-forward blocks, all routed and shared experts included."""
    router: NonNegativeInt
    """Routers in front of experts."""
    norm: NonNegativeInt
    """Gains and biases of all norms."""
    lm_head: NonNegativeInt
    """LM head; 0 weights of it if tied to the token embedding."""


def attention_weights(attention: GroupedQueryAttention, hidden: int) -> int:
    """Return the GEMM weights of an attention block on `hidden` features."""
    qkv = hidden * (attention.query_width + attention.kv_width)
    return qkv + attention.query_width * hidden


def feed_forward_weights(block: DenseFeedForward, hidden: int) -> int:
    """Return the GEMM weights of one dense feed-forward block on `hidden` features."""
    return hidden * block.up_width + block.width * hidden


def router_weights(block: FeedForward, hidden: int) -> int:
    """Return the weights of the router in front of `block`; 0 for a dense block."""
    return hidden * block.experts if isinstance(block, ExpertFeedForward) else 0


def active_layer_weights(layer: Layer, hidden: int) -> int:
    """Return the GEMM weights of a layer that each token is multiplied with.

    Args:
        layer: Any layer; of experts, those per token and the shared ones count.
        hidden: Features of the residual stream.

    Returns:
        Weights, which are also the MACs per token.
    """
    weights = attention_weights(layer.attention, hidden)
    block = layer.feed_forward
    if isinstance(block, DenseFeedForward):
        return weights + feed_forward_weights(block, hidden)
    weights += router_weights(block, hidden)
    weights += block.experts_per_token * feed_forward_weights(block.expert, hidden)
    if block.shared is not None:
        weights += feed_forward_weights(block.shared, hidden)
    return weights


def parameters(workload: Workload) -> ParameterCounts:
    """Return the exact parameter counts of `workload`."""
    hidden = workload.hidden
    embedding = workload.vocab * hidden
    if workload.position_embedding is PositionEmbedding.LEARNED:
        embedding += workload.positions * hidden
    lm_head = 0 if workload.tied else hidden * workload.vocab
    lm_head += workload.vocab if workload.lm_head_bias else 0
    attention = feed_forward = router = idle = 0
    norm = _norm_parameters(workload.final_norm, hidden)
    for group in workload.layers:
        layer = group.layer
        attention += group.count * _attention_parameters(layer.attention, hidden)
        feed_forward += group.count * _feed_forward_parameters(layer.feed_forward, hidden)
        router += group.count * router_weights(layer.feed_forward, hidden)
        idle += group.count * _idle_expert_parameters(layer.feed_forward, hidden)
        norm += group.count * _norm_parameters(layer.attention_norm, hidden)
        norm += group.count * _norm_parameters(layer.feed_forward_norm, hidden)
    total = embedding + attention + feed_forward + router + norm + lm_head
    return ParameterCounts(
        total=total,
        active=total - idle,
        embedding=embedding,
        attention=attention,
        feed_forward=feed_forward,
        router=router,
        norm=norm,
        lm_head=lm_head,
    )


def _norm_parameters(norm: Norm | None, hidden: int) -> int:
    if norm is None:
        return 0
    return hidden * (2 if norm.bias else 1)


def _attention_parameters(attention: GroupedQueryAttention, hidden: int) -> int:
    count = attention_weights(attention, hidden)
    if attention.qkv_bias:
        count += attention.query_width + attention.kv_width
    if attention.output_bias:
        count += hidden
    return count


def _dense_parameters(block: DenseFeedForward, hidden: int) -> int:
    biases = block.up_width + hidden if block.bias else 0
    return feed_forward_weights(block, hidden) + biases


def _feed_forward_parameters(block: FeedForward, hidden: int) -> int:
    if isinstance(block, DenseFeedForward):
        return _dense_parameters(block, hidden)
    count = block.experts * _dense_parameters(block.expert, hidden)
    return count + (_dense_parameters(block.shared, hidden) if block.shared is not None else 0)


def _idle_expert_parameters(block: FeedForward, hidden: int) -> int:
    if isinstance(block, DenseFeedForward):
        return 0
    return (block.experts - block.experts_per_token) * _dense_parameters(block.expert, hidden)
