"""Exact parameter counts of a workload, by component.

GEMM weights and biases are counted apart, because FLOPs follow from the weights alone.
"""

from pydantic import NonNegativeInt, PositiveInt

from pentarch.model import Model
from pentarch.workload.layers import DenseFeedForward, FeedForward, Layer
from pentarch.workload.workload import HeadTransform, Stack, Workload


class ParameterCounts(Model):
    """Parameters of a workload; the components up to `lm_head` add up to the total."""

    total: PositiveInt
    """All parameters, a tied table once."""
    active: PositiveInt
    """Those that one token can meet: the total less the routed experts that it does not visit."""
    embedding: PositiveInt
    """Tables of tokens, positions and segments, their projection, and the front end of an input that
    is no text."""
    attention: NonNegativeInt
    """Query, key, value and output projections, norms of queries and keys, cross attention."""
    feed_forward: NonNegativeInt
    """Feed-forward blocks, all routed and shared experts included."""
    router: NonNegativeInt
    """Routers in front of experts, gates of shared ones."""
    norm: NonNegativeInt
    """Gains and biases of all norms over the residual stream."""
    lm_head: NonNegativeInt
    """The head and the layer in front of it; no weights of it if tied to the token embedding."""
    encoder: NonNegativeInt = 0
    """The part of the total that the layers of an encoder hold; 0 without one."""


def router_weights(block: FeedForward, hidden: int) -> int:
    """Return the weights of router and shared gate of `block`; 0 for a dense block."""
    return 0 if isinstance(block, DenseFeedForward) else hidden * block.router_weights


def active_feed_forward_weights(block: FeedForward, hidden: int) -> int:
    """Return the GEMM weights of a feed-forward block that each token is multiplied with."""
    if isinstance(block, DenseFeedForward):
        return block.weights(hidden)
    weights = router_weights(block, hidden)
    weights += block.experts_per_token * block.expert.weights(hidden)
    return weights + (0 if block.shared is None else block.shared.weights(hidden))


def active_layer_weights(layer: Layer, hidden: int) -> int:
    """Return the GEMM weights of a layer that each of its tokens is multiplied with.

    Args:
        layer: Any layer; of experts, those per token and the shared ones count. Of cross attention
            the keys and values are left out: they are made once from the encoder's tokens.
        hidden: Features of the residual stream.

    Returns:
        Weights, which are also the MACs per token.
    """
    weights = layer.attention.weights(hidden)
    weights += active_feed_forward_weights(layer.feed_forward, hidden)
    if layer.cross is not None:
        weights += layer.cross.attention.query_weights(hidden)
    return weights


def parameters(workload: Workload) -> ParameterCounts:
    """Return the exact parameter counts of `workload`."""
    hidden = workload.hidden
    counts = _Counts()
    if workload.frontend is None:
        counts.embedding += workload.vocab * workload.table_width
    if workload.embedding_projection is not None:
        biases = hidden if workload.embedding_projection.bias else 0
        counts.embedding += workload.table_width * hidden + biases
    inner = hidden
    if workload.embedding_projection is not None and workload.embedding_projection.of_sum:
        inner = workload.table_width
    _add_stack(counts, workload, hidden, inner)
    counts.lm_head += _head_parameters(workload)
    before = counts.sum()
    if workload.encoder is not None:
        own = workload.vocab * workload.table_width if workload.encoder.own_table else 0
        counts.embedding += own
        _add_stack(counts, workload.encoder, hidden, hidden)
    total = counts.sum()
    return ParameterCounts(
        total=total,
        active=total - counts.idle,
        embedding=counts.embedding,
        attention=counts.attention,
        feed_forward=counts.feed_forward,
        router=counts.router,
        norm=counts.norm,
        lm_head=counts.lm_head,
        encoder=total - before,
    )


class _Counts:
    """Sums while they are made."""

    def __init__(self) -> None:
        self.embedding = self.attention = self.feed_forward = self.router = 0
        self.norm = self.lm_head = self.idle = 0

    def sum(self) -> int:
        return (
            self.embedding + self.attention + self.feed_forward + self.router + self.norm
            + self.lm_head
        )  # fmt: skip


def _add_stack(counts: _Counts, stack: Stack, hidden: int, inner: int) -> None:
    """Add embedding tables of `inner` features, layers and norms of one stack."""
    counts.embedding += (stack.table_rows + stack.token_types) * inner
    counts.embedding += stack.relative_buckets * stack.heads
    if stack.frontend is not None:
        counts.embedding += sum(stage.parameters for stage in stack.frontend.convolutions)
        counts.embedding += stack.frontend.learned_tokens * hidden
    if stack.embedding_norm is not None:
        counts.norm += stack.embedding_norm.parameters(inner)
    if stack.final_norm is not None:
        counts.norm += stack.final_norm.parameters(hidden)
    for group in stack.layers:
        layer, count = group.layer, group.count
        attention = layer.attention.weights(hidden) + layer.attention.other_parameters(hidden)
        if layer.cross is not None:
            cross = layer.cross.attention
            attention += cross.weights(hidden) + cross.other_parameters(hidden)
        feed_forward, router, idle = _feed_forward_parameters(layer.feed_forward, hidden)
        counts.attention += count * attention
        counts.feed_forward += count * feed_forward
        counts.router += count * router
        counts.idle += count * idle
        counts.norm += count * sum(norm.parameters(hidden) for norm in layer.norms)


def _head_parameters(workload: Workload) -> int:
    columns = workload.head_columns
    count = 0 if workload.tied else workload.head_width * columns
    count += columns if workload.lm_head_bias else 0
    count += workload.unused_parameters
    if workload.head_transform is not None:
        count += _transform_parameters(workload.head_transform, workload.hidden)
    return count


def _transform_parameters(transform: HeadTransform, hidden: int) -> int:
    count = hidden * transform.width + (transform.width if transform.bias else 0)
    return count + (0 if transform.norm is None else transform.norm.parameters(transform.width))


def _feed_forward_parameters(block: FeedForward, hidden: int) -> tuple[int, int, int]:
    """Return the parameters of feed-forward blocks, of routers, and of experts a token passes by."""
    if isinstance(block, DenseFeedForward):
        return block.parameters(hidden), 0, 0
    one = block.expert.parameters(hidden)
    count = block.experts * one
    count += 0 if block.shared is None else block.shared.parameters(hidden)
    router = router_weights(block, hidden) + (block.experts if block.router_bias else 0)
    return count, router, (block.experts - block.experts_per_token) * one
