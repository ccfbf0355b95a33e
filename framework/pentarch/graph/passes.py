"""The forward passes of a query: which there are, how often each runs, and at which contexts.

Prefill is one pass, or one for each chunk of the prompt. Decode is one pass for each token, one for
each step that verifies drafts, or without a cache one over the whole sequence for each token. No
token is looped over (definitions.md, Context integral): where costs are linear in the context
between kinks, rows on the kinks stand for all passes; where they are quadratic, rows on the ends
and in the middle of each segment do.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pentarch.errors import FieldError
from pentarch.graph.build import PassShape, build_pass
from pentarch.graph.graph import WorkloadGraph, attention_pairs, visible_keys
from pentarch.graph.lengths import Lengths, check_generates, lengths_of
from pentarch.graph.operators import Attention, Gemm, Phase
from pentarch.workload.query import Precisions, Query
from pentarch.workload.workload import Workload

MOST_KINKS = 64
"""Borders of attention chunks at which passes without a cache are evaluated at most. Beyond them
the borders are left out: attention's pairs are then off by less than 0.3 %."""

Nodes = tuple[tuple[int, float], ...]
"""Contexts and weights."""


def context_nodes(*, first: int, last: int, kinks: Iterable[int] = ()) -> Nodes:
    """Return contexts and weights that integrate over the decode steps.

    Args:
        first: Context of the first step.
        last: Context of the last step.
        kinks: Contexts at which a cost may change its slope; those outside are ignored.

    Returns:
        Pairs of context and weight, ascending. The weights add up to the number of steps, and the
        weighted sum of any function that is linear between the kinks is its sum over the steps.

    Examples:
        >>> context_nodes(first=11, last=20)
        ((11, 5.0), (20, 5.0))
        >>> context_nodes(first=11, last=10)
        ()
    """
    if last < first:
        return ()
    if last == first:
        return ((first, 1.0),)
    inner = sorted({kink for kink in kinks if first < kink < last})
    nodes = [first, *inner, last]
    # The sum over a segment's steps, its left end left out, of a line from f(left) to f(right) is
    # f(left) (m - 1) / 2 + f(right) (m + 1) / 2 for a segment of m steps.
    weights = dict.fromkeys(nodes, 0.0)
    weights[first] = 1.0
    for left, right in pairwise(nodes):
        steps = right - left
        weights[left] += (steps - 1) / 2
        weights[right] += (steps + 1) / 2
    return tuple((node, weight) for node, weight in weights.items() if weight)


def quadratic_nodes(*, first: int, last: int, kinks: Iterable[int] = ()) -> Nodes:
    """Return contexts and weights that sum a cost which is quadratic between kinks, exactly.

    Args:
        first: Context of the first pass.
        last: Context of the last pass.
        kinks: Last contexts of the segments; those outside are ignored.

    Returns:
        Pairs of context and weight, ascending: both ends and the middle of each segment, and one
        more where a segment has no middle.

    Examples:
        >>> quadratic_nodes(first=1, last=3)
        ((1, 1.0), (2, 1.0), (3, 1.0))
        >>> sum(weight * node**2 for node, weight in quadratic_nodes(first=1, last=101))
        348551.0
    """
    inner = sorted({kink for kink in kinks if first <= kink < last})
    found: list[tuple[int, float]] = []
    for left, right in pairwise([first - 1, *inner, last]):
        start, end = left + 1, right
        extra = []
        if (end - start) % 2:
            extra = [(end, 1.0)]
            end -= 1
        half = (end - start) // 2
        if start == end:
            found.append((start, 1.0))
        elif start < end:
            # Weights for which the sums of 1 and of squares over -half ... half are right.
            side = (half + 1) * (2 * half + 1) / (6 * half)
            middle = (2 * half + 1) * (2 * half - 1) / (3 * half)
            found += [(start, side), (start + half, middle), (end, side)]
        found += extra
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Passes:
    """Forward passes of one phase that are equal but for their contexts."""

    phase: Phase
    """Phase that they belong to."""
    graph: WorkloadGraph
    """The graph of one of them."""
    times: float
    """How often one query runs them, on average."""
    heads: float
    """How many of them run the head."""
    first: int
    """Context of the first pass: keys that its last token sees."""
    last: int
    """Context of the last pass."""
    stride: int = 1
    """Contexts from one pass to the next."""
    made: float = math.inf
    """Tokens of a pass that are useful work; the others are executed only."""
    ahead: int = 0
    """Tokens after the first useful one: drafts."""
    decoded: frozenset[str] | None = None
    """Operators that decode with a cache has too: no other is useful; `None` means all are."""
    prefix: str = ""
    """What the names of rows begin with."""
    windows: frozenset[int] = frozenset()
    """Sliding windows of the model's layers."""

    def contexts(self, attention: Attention) -> Nodes:
        """Return contexts and weights of one attention operator; the weights add up to `times`.

        Attention over an encoder, and inside one, sees the same keys in every pass.
        """
        if attention.cross or not attention.causal:
            return ((attention.context, self.times),)
        if self.first == self.last:
            return ((self.first, self.times),)
        if self.phase is Phase.PREFILL:
            nodes = _stride_nodes(self, attention)
        elif attention.chunk is not None:
            nodes = _chunk_nodes(
                first=self.first, last=self.last, chunk=attention.chunk, ahead=self.ahead
            )
        else:
            nodes = context_nodes(first=self.first, last=self.last, kinks=self._kinks())
        share = self.times / ((self.last - self.first) // self.stride + 1)
        return nodes if share == 1.0 else tuple((node, weight * share) for node, weight in nodes)

    def _kinks(self) -> set[int]:
        """Return the contexts at which windows fill up; drafts do so one after another."""
        after = self.ahead + 1 if self.ahead else 0
        return {window + near for window in self.windows for near in range(after + 1)}

    def useful_of_gemm(self, gemm: Gemm) -> float:
        """Return the share of a GEMM's work that is useful (definitions.md, Useful FLOPs)."""
        if self.decoded is not None and gemm.name not in self.decoded:
            return 0.0
        rows = gemm.rows if gemm.useful_rows is None else gemm.useful_rows
        return min(self.made, float(rows)) / gemm.rows

    def useful_of_attention(self, attention: Attention, context: int) -> float:
        """Return the share of attention's work that is useful where its last query sees `context`.

        Of drafts, what the accepted tokens need: as many times the first query's keys.
        """
        if self.decoded is not None and attention.name not in self.decoded:
            return 0.0
        width = attention.head_dim + attention.value_dim
        share = (attention.useful_width or width) / width
        if math.isinf(self.made):
            return share
        if attention.cross or not attention.causal:
            return share * self.made / attention.query_tokens
        at = context - self.ahead
        seen = visible_keys(first=at, last=at, window=attention.window, chunk=attention.chunk)
        return share * self.made * seen / attention_pairs(attention.replace(context=context))


def _stride_nodes(passes: Passes, attention: Attention) -> Nodes:
    """Return contexts and weights of passes over chunks of the prompt, one stride apart.

    Cost is linear from chunk to chunk but for those that a window or the border of an attention
    chunk falls into.
    """
    first, last, stride = passes.first, passes.last, passes.stride
    borders: Iterable[int] = ()
    if attention.chunk is not None:
        borders = range(attention.chunk, last + 1, attention.chunk)
    elif attention.window is not None:
        borders = (attention.window, attention.window + stride)
    kinks = {(border - first) // stride + near for border in borders for near in (-1, 0, 1, 2)}
    count = (last - first) // stride
    found = context_nodes(first=0, last=count, kinks=kinks)
    return tuple((first + index * stride, weight) for index, weight in found)


def _chunk_nodes(*, first: int, last: int, chunk: int, ahead: int = 0) -> Nodes:
    """Return contexts and weights of decode steps whose context starts anew in every chunk.

    Args:
        first: Context of the first step.
        last: Context of the last step.
        chunk: Tokens of a chunk.
        ahead: Drafts of a step, whose first token sees `ahead` keys fewer.
    """
    weights: dict[int, float] = {}
    start, end = (first - 1) // chunk, (last - 1) // chunk
    parts = [(first, min(last, (start + 1) * chunk), 1.0)]
    if end > start + 1:  # whole chunks, all alike: one stands for them
        parts.append(((start + 1) * chunk + 1, (start + 2) * chunk, float(end - start - 1)))
    if end > start:
        parts.append((end * chunk + 1, last, 1.0))
    for left, right, times in parts:
        begin = (left - 1) // chunk * chunk
        kinks = range(begin + 1, begin + ahead + 3) if ahead else ()
        for node, weight in context_nodes(first=left, last=right, kinks=kinks):
            weights[node] = weights.get(node, 0.0) + weight * times
    return tuple(sorted(weights.items()))


def prefill_passes(
    workload: Workload, *, query: Query, precisions: Precisions
) -> tuple[Passes, ...]:
    """Return the passes of prefill: one, or whole chunks of the prompt and what is left of it.

    The head runs once, in the last of them.
    """
    lengths, chunk = lengths_of(workload, query), query.chunk_tokens
    whole, rest = (0, lengths.tokens) if chunk is None else divmod(lengths.tokens, chunk)
    if chunk is None or whole == 0 or (whole == 1 and rest == 0):
        whole, rest = 0, lengths.tokens
    found = []
    parts = [(chunk or 0, whole, lengths.earlier), (rest, 1, lengths.context - rest)]
    for tokens, times, before in parts:
        if not tokens or not times:
            continue
        last = before + tokens * times
        shape = PassShape(Phase.PREFILL, tokens, last, cached=query.kv_cache)
        graph = build_pass(workload, shape, query=query, precisions=precisions)
        found.append(
            Passes(
                phase=Phase.PREFILL, graph=graph, times=float(times), stride=tokens,
                heads=1.0 if last == lengths.context else 0.0, first=before + tokens, last=last,
            )
        )  # fmt: skip
    return tuple(found)


def decode_passes(
    workload: Workload, *, query: Query, precisions: Precisions
) -> tuple[Passes, ...]:
    """Return the passes of decode; none for a query of one token.

    Steps that verify k drafts make `query.tokens_per_step` tokens on average and begin at every
    context with the same chance. Those of the draft model follow in `draft_passes`.

    Raises:
        FieldError: The workload does not generate.
    """
    if not query.decode_steps:
        return ()
    check_generates(workload)
    lengths = lengths_of(workload, query)
    if not query.kv_cache:
        return _uncached_passes(workload, lengths, query=query, precisions=precisions)
    ahead, made = query.draft_tokens, query.tokens_per_step
    shape = decode_shape(lengths, query)
    graph = build_pass(workload, shape, query=query, precisions=precisions)
    times = lengths.steps / made
    return (
        Passes(
            phase=Phase.DECODE, graph=graph, times=times, heads=times, first=lengths.first + ahead,
            last=lengths.last + ahead, made=made if ahead else math.inf, ahead=ahead,
            windows=frozenset(workload.windows),
        ),
    )  # fmt: skip


def decode_shape(lengths: Lengths, query: Query) -> PassShape:
    """Return what the last decode step processes: one token with its drafts, or without a cache all."""
    last = max(lengths.first, lengths.last)
    if not query.kv_cache:
        return PassShape(Phase.PREFILL, last, last, cached=False)
    ahead = query.draft_tokens
    return PassShape(Phase.DECODE, 1 + ahead, last + ahead, every_score=ahead > 0)


def _uncached_passes(
    workload: Workload, lengths: Lengths, *, query: Query, precisions: Precisions
) -> tuple[Passes, ...]:
    """Return passes over the whole sequence; the first is prefill's, and each makes one token."""
    shape = PassShape(Phase.DECODE, 1, lengths.last)
    cached = build_pass(workload, shape, query=query, precisions=precisions)
    decoded = frozenset(operator.name for operator in cached.operators)
    nodes = quadratic_nodes(
        first=lengths.first, last=lengths.last, kinks=_uncached_kinks(workload, lengths)
    )
    found = []
    for context, weight in nodes:
        shape = PassShape(Phase.PREFILL, context, context, cached=False)
        graph = build_pass(workload, shape, query=query, precisions=precisions)
        found.append(
            Passes(
                phase=Phase.DECODE, graph=graph, times=weight, heads=weight, first=context,
                last=context, made=1.0, decoded=decoded,
            )
        )  # fmt: skip
    return tuple(found)


def _uncached_kinks(workload: Workload, lengths: Lengths) -> set[int]:
    kinks: set[int] = set()
    for group in workload.layers:
        attention = group.layer.attention
        if attention.window is not None:
            kinks.add(attention.window)
        if attention.chunk is not None:
            first = -(-lengths.first // attention.chunk)
            borders = range(first * attention.chunk, lengths.last, attention.chunk)
            kinks |= set(borders) if len(borders) <= MOST_KINKS else set()
    return kinks


def draft_passes(
    workload: Workload, *, query: Query, precisions: Precisions, share: float = 1.0
) -> tuple[Passes, ...]:
    """Return the passes of whatever drafts: a step for each drafted token, none of them useful.

    Args:
        workload: The draft model, or the model itself where drafts cost a share of its step.
        query: Lengths and drafts.
        precisions: Number formats by role.
        share: Cost of a step as a share of the workload's.
    """
    plain = query.replace(draft_tokens=0, draft_share=0.0, draft=None)
    steps = query.draft_tokens * share / query.tokens_per_step
    return tuple(
        replace(
            passes, times=passes.times * steps, heads=passes.heads * steps, made=0.0,
            prefix="draft.",
        )
        for passes in decode_passes(workload, query=plain, precisions=precisions)
    )  # fmt: skip


def draft_prefill(
    workload: Workload, *, query: Query, precisions: Precisions
) -> tuple[Passes, ...]:
    """Return the passes in which a draft model reads the prompt.

    Raises:
        FieldError: The model cannot draft: it does not generate, or reads with an encoder.
    """
    if not workload.generates or workload.encoder is not None:
        raise FieldError(
            where="query", path="draft", problem=f"{workload.name} is no decoder",
            expected="a model that makes tokens one after another from the prompt",
        )  # fmt: skip
    found = prefill_passes(workload, query=query, precisions=precisions)
    return tuple(replace(passes, made=0.0, prefix="draft.") for passes in found)


def longest(passes: Sequence[Passes]) -> float:
    """Return the tokens per sequence of the longest pass."""
    return float(max((one.graph.tokens for one in passes), default=1))
