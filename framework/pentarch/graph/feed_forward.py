"""The feed-forward half of a layer as operators: dense blocks and mixtures of experts."""

from pentarch.graph.draft import Draft, Scope, Signal
from pentarch.graph.operators import Gather, Gemm, Split, Vector
from pentarch.workload.layers import (
    Activation,
    DenseFeedForward,
    ExpertFeedForward,
    FeedForward,
)

ACTIVATION_WORK = {
    Activation.RELU: (1, 0),  # a compare
    Activation.GELU: (8, 1),  # x (1 + tanh(a (x + b x^3))) / 2: 8 adds and multiplies, one tanh
    Activation.SILU: (2, 1),  # x / (1 + exp(-x)): one add, one division, one exp
    Activation.CLAMPED_SILU: (7, 1),  # as SILU; multiple of x, three compares, one add
    Activation.RELU_SQUARED: (2, 0),  # a compare, a product
    Activation.SIGMOID: (2, 1),  # 1 / (1 + exp(-x))
    Activation.TANH: (0, 1),
}
"""Elementwise and transcendental operations per value."""


def add_feed_forward(draft: Draft, scope: Scope, source: Signal, block: FeedForward) -> Signal:
    """Append a feed-forward block that reads `source` and return its output.

    Args:
        draft: The graph so far.
        scope: The layer that the block belongs to.
        source: Output of the norm in front of it, in the format of the residual stream.
        block: Dense or experts.
    """
    if isinstance(block, DenseFeedForward):
        taken = draft.converted(scope, "up_quantize", source, to=draft.precisions.activations)
        return _dense(draft, scope, taken, block, prefix="")
    return _experts(draft, scope, source, block)


def _dense(
    draft: Draft, scope: Scope, source: Signal, block: DenseFeedForward, *, prefix: str
) -> Signal:
    up = "gate_up" if block.gated else "up"
    wide = draft.gemm(
        scope, prefix + up, source, n=block.up_width, split=Split.COLUMNS, bias=block.bias
    )
    active = _activation(draft, scope, wide, block, name=f"{prefix}activation")
    taken = draft.converted(
        scope, f"{prefix}down_quantize", active, to=draft.precisions.activations,
        split=Split.VALUES,
    )  # fmt: skip
    hidden = source.features
    return draft.gemm(scope, f"{prefix}down", taken, n=hidden, split=Split.ROWS, bias=block.bias)


def _activation(
    draft: Draft, scope: Scope, source: Signal, block: DenseFeedForward, *, name: str
) -> Signal:
    elementwise, transcendental = ACTIVATION_WORK[block.activation]
    values = source.rows * block.width
    operator = Vector(
        name=scope.name(name), layer=scope.layer, repeat=scope.repeat, split=Split.VALUES,
        function=f"{block.activation.value}_multiply" if block.gated else block.activation.value,
        values_in=source.values, values_out=values,
        elementwise=(elementwise + block.gated) * values, transcendental=transcendental * values,
        format=source.format, out_format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator, source)
    return Signal(operator.name, source.rows, block.width, draft.precisions.hidden)


def _experts(draft: Draft, scope: Scope, source: Signal, block: ExpertFeedForward) -> Signal:
    routes = _routing(draft, scope, source, block)
    taken = draft.converted(scope, "up_quantize", source, to=draft.precisions.activations)
    visits = block.experts_per_token
    dispatch = Gather(
        name=scope.name("expert_dispatch"), layer=scope.layer, repeat=scope.repeat,
        function="expert_dispatch", values_in=taken.values, values_out=visits * taken.values,
        format=taken.format, fusable=True,
    )  # fmt: skip
    draft.add(dispatch, taken, routes)
    dispatched = Signal(dispatch.name, visits * taken.rows, taken.features, taken.format)

    expert = block.expert
    up = "expert_gate_up" if expert.gated else "expert_up"
    wide = _grouped_gemm(draft, scope, up, dispatched, block, n=expert.up_width)
    active = _activation(draft, scope, wide, expert, name="expert_activation")
    narrow = draft.converted(
        scope, "expert_down_quantize", active, to=draft.precisions.activations, split=Split.VALUES
    )
    out = _grouped_gemm(draft, scope, "expert_down", narrow, block, n=source.features)

    sources = [out, routes]
    if block.shared is not None:
        sources.append(_dense(draft, scope, taken, block.shared, prefix="shared_"))
    if block.shared_gate:
        sources.append(_shared_gate(draft, scope, source))
    return _combine(draft, scope, sources, tokens=source.rows)


def _routing(draft: Draft, scope: Scope, source: Signal, block: ExpertFeedForward) -> Signal:
    """Append router and top-k selection; the router keeps the format of the residual stream."""
    hidden = draft.precisions.hidden
    router = Gemm(
        name=scope.name("router"), layer=scope.layer, repeat=scope.repeat, split=Split.NONE,
        rows=source.rows, k=source.features, n=block.experts, bias=block.router_bias,
        a_format=source.format, b_format=hidden, out_format=hidden,
    )  # fmt: skip
    draft.add(router, source)
    scores = Signal(router.name, source.rows, block.experts, hidden)
    features = 2 * block.experts_per_token
    routing = Vector(
        name=scope.name("routing"), layer=scope.layer, repeat=scope.repeat, split=Split.NONE,
        function="top_k", values_in=scores.values, values_out=source.rows * features,
        elementwise=(2 + block.correction_bias) * scores.values, transcendental=scores.values,
        reduce=(2 + block.experts_per_token) * scores.values, lines=source.rows, format=hidden, out_format=hidden,
    )  # fmt: skip
    draft.add(routing, scores)
    return Signal(routing.name, source.rows, features, hidden)


def _shared_gate(draft: Draft, scope: Scope, source: Signal) -> Signal:
    """Append the gate of the shared block: one number per token, and its logistic function."""
    hidden = draft.precisions.hidden
    gate = Gemm(
        name=scope.name("shared_gate"), layer=scope.layer, repeat=scope.repeat, split=Split.NONE,
        rows=source.rows, k=source.features, n=1, a_format=source.format, b_format=hidden,
        out_format=hidden,
    )  # fmt: skip
    draft.add(gate, source)
    elementwise, transcendental = ACTIVATION_WORK[Activation.SIGMOID]
    operator = Vector(
        name=scope.name("shared_gate_sigmoid"), layer=scope.layer, repeat=scope.repeat,
        split=Split.NONE, function="sigmoid", values_in=source.rows, values_out=source.rows,
        elementwise=elementwise * source.rows, transcendental=transcendental * source.rows,
        format=hidden, out_format=hidden,
    )  # fmt: skip
    draft.add(operator, Signal(gate.name, source.rows, 1, hidden))
    return Signal(operator.name, source.rows, 1, hidden)


def _grouped_gemm(
    draft: Draft, scope: Scope, name: str, source: Signal, block: ExpertFeedForward, *, n: int
) -> Signal:
    """Append the GEMMs of all experts; tensor parallelism cuts each expert, as in a dense block."""
    rows = source.rows // block.experts_per_token
    operator = Gemm(
        name=scope.name(name), layer=scope.layer, repeat=scope.repeat,
        split=Split.ROWS if name == "expert_down" else Split.COLUMNS,
        rows=rows, k=source.features, n=n, bias=block.expert.bias, experts=block.experts,
        experts_per_token=block.experts_per_token, a_format=source.format,
        b_format=draft.precisions.of("experts").name, out_format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator, source)
    return Signal(operator.name, source.rows, n, draft.precisions.hidden)


def _combine(draft: Draft, scope: Scope, sources: list[Signal], *, tokens: int) -> Signal:
    """Append the weighted sum of what the experts return; a shared block is added, gated or not."""
    routed = sources[0]
    hidden = routed.features
    shared = sum(source.features == hidden for source in sources[2:])
    gated = len(sources) - 2 - shared
    operator = Vector(
        name=scope.name("expert_combine"), layer=scope.layer, repeat=scope.repeat,
        split=Split.NONE, function="expert_combine",
        values_in=sum(source.values for source in sources), values_out=tokens * hidden,
        elementwise=2 * routed.values + (shared + gated - 1) * tokens * hidden,
        format=routed.format, out_format=draft.precisions.hidden,
    )  # fmt: skip
    draft.add(operator, *sources)
    return Signal(operator.name, tokens, hidden, draft.precisions.hidden)
