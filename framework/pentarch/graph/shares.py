"""What one device of a group gets of a cut operator, as a row of the operator table."""

from dataclasses import dataclass
from typing import Any

from pentarch.errors import FieldError
from pentarch.graph.graph import keys_read, visible_keys
from pentarch.graph.operators import (
    Attention,
    Gather,
    Gemm,
    Operator,
    OperatorKind,
    Split,
    Vector,
)
from pentarch.workload.formats import number_format

_CUTS = {
    OperatorKind.GEMM: frozenset({Split.COLUMNS, Split.ROWS, Split.HEADS, Split.EXPERTS}),
    OperatorKind.ATTENTION: frozenset({Split.HEADS}),
    OperatorKind.VECTOR: frozenset({Split.VALUES, Split.HEADS, Split.COLUMNS, Split.EXPERTS}),
    OperatorKind.GATHER: frozenset({Split.VALUES, Split.HEADS, Split.COLUMNS, Split.EXPERTS}),
    OperatorKind.COLLECTIVE: frozenset(),
}
"""Dimensions that an operator of each kind has."""


@dataclass(frozen=True, slots=True)
class DeviceShare:
    """One device's part of an operator that a group has cut; the largest part if uneven."""

    cut: Split
    """Dimension that is cut."""
    ways: int
    """Parts it is cut into."""

    def check(self, operator: Operator) -> None:
        """Raise a `FieldError` if `operator` has no dimension that could be cut so."""
        if self.cut is Split.NONE or self.ways == 1:
            return
        allowed = _CUTS[operator.kind]
        if isinstance(operator, Gemm) and not operator.experts:
            allowed = allowed - {Split.EXPERTS}
        if self.cut not in allowed:
            raise FieldError(
                where=f"plan: placement of {operator.name!r}",
                path="cut",
                problem=f"found {self.cut.value!r}",
                expected=" or ".join(sorted(cut.value for cut in allowed | {Split.NONE})),
            )

    def part(self, count: int, *cuts: Split) -> int:
        """Return this device's part of `count`, which shrinks if the cut is one of `cuts`."""
        return -(-count // self.ways) if self.cut in cuts else count

    def inner(self, gemm: Gemm) -> int:
        """Return the inner dimension on the device."""
        return self.part(gemm.k, Split.ROWS)

    def columns(self, gemm: Gemm) -> int:
        """Return the output features on the device; key-value heads are never cut into parts.

        A batch of GEMMs is cut into whole ones.
        """
        if gemm.batch > 1:
            return gemm.n
        if not gemm.kv_heads:
            return self.part(gemm.n, Split.COLUMNS, Split.HEADS)
        cached = round(gemm.n * gemm.kv_share)
        query = self.part(gemm.n - cached, Split.COLUMNS, Split.HEADS)
        heads = self.part(gemm.kv_heads, Split.COLUMNS, Split.HEADS)
        return query + heads * (cached // gemm.kv_heads)

    def experts(self, gemm: Gemm) -> int:
        """Return the weights of one kind on the device: experts, or those of a batch."""
        if gemm.batch > 1:
            return self.part(gemm.batch, Split.COLUMNS, Split.HEADS)
        return self.part(gemm.experts, Split.EXPERTS)

    def visits(self, gemm: Gemm) -> float:
        """Return the experts on the device that a row visits on average, if routing is uniform."""
        if gemm.batch > 1:
            return float(self.experts(gemm))
        if not gemm.experts:
            return 0.0
        return gemm.experts_per_token * self.experts(gemm) / gemm.experts

    def values(self, operator: Vector | Gather) -> float:
        """Return the fraction of a vector or gather operator's values on the device."""
        if self.cut is Split.NONE:
            return 1.0
        if not operator.kv_heads:
            return 1 / self.ways
        heads = -(-operator.kv_heads // self.ways)
        cached = operator.kv_share * heads / operator.kv_heads
        return (1 - operator.kv_share) / self.ways + cached

    def weights(self, gemm: Gemm) -> int:
        """Return the GEMM weights on the device, all of its experts."""
        return max(1, self.experts(gemm)) * self.inner(gemm) * self.columns(gemm)

    def weight_bytes(self, operator: Operator, *, other_bytes: float) -> float:
        """Return the parameter bytes counted at one operator that the device stores.

        Args:
            operator: Any operator; a tied table is counted at the other one.
            other_bytes: Bytes of a bias, a norm gain or an embedding value.
        """
        if isinstance(operator, Gemm):
            biases = 0
            if operator.bias:
                biased = 1.0 - operator.unbiased / operator.n
                biases = round(max(1, self.experts(operator)) * self.columns(operator) * biased)
            kernel = 0 if operator.tied else self.weights(operator)
            return kernel * number_format(operator.b_format).bytes + biases * other_bytes
        if isinstance(operator, Vector):
            return operator.weights * other_bytes
        if isinstance(operator, Attention):
            return self.part(operator.heads, Split.HEADS) * other_bytes if operator.sinks else 0.0
        if isinstance(operator, Gather) and not operator.tied:
            return operator.table * self.values(operator) * other_bytes
        return 0.0

    def kv_bytes_per_token(self, attention: Attention, stored: str) -> float:
        """Return the bytes that one key of one layer leaves in the device's KV cache.

        A latent vector has no heads that could be shared out: every device holds all of it, in the
        format of the cache, although prefill reads keys and values that it makes from it.

        Args:
            attention: The attention of the layer.
            stored: Format of the cache.
        """
        if attention.cached_values is not None:
            return attention.cached_values * number_format(stored).bytes
        widths = attention.head_dim + (0 if attention.values_in_keys else attention.value_dim)
        values = self.part(attention.kv_heads, Split.HEADS) * widths
        return values * number_format(attention.kv_format).bytes

    def live_bytes(self, operator: Operator) -> float:
        """Return the activation bytes per sequence that the operator reads and writes."""
        if isinstance(operator, Gemm):
            rows = operator.rows * (self.visits(operator) or 1.0)
            read = self.inner(operator) * number_format(operator.a_format).bytes
            return rows * (read + self.columns(operator) * number_format(operator.out_format).bytes)
        if isinstance(operator, Attention):
            rows = operator.query_tokens * self.part(operator.heads, Split.HEADS)
            read = operator.head_dim * number_format(operator.query_format).bytes
            return rows * (read + operator.value_dim * number_format(operator.out_format).bytes)
        if isinstance(operator, Vector | Gather):
            read, written = _moved_bytes(operator)
            return (read + written) * self.values(operator)
        return 0.0


def gemm_row(gemm: Gemm, share: DeviceShare) -> dict[str, Any]:
    """Return the columns of a GEMM row that depend on operator and share."""
    share.check(gemm)
    return {
        "rows": gemm.rows,
        "k": share.inner(gemm),
        "n": share.columns(gemm),
        "experts": share.experts(gemm),
        "experts_per_token": share.visits(gemm),
        "experts_total": gemm.batch if gemm.batch > 1 else gemm.experts,
        "a_formats": gemm.a_format,
        "b_formats": gemm.b_format,
        "out_formats": gemm.out_format,
    }


def attention_row(attention: Attention, share: DeviceShare, *, context: int) -> dict[str, Any]:
    """Return the columns of an attention row whose last query sees `context` keys."""
    share.check(attention)
    tokens, window, chunk = attention.query_tokens, attention.window, attention.chunk
    if attention.causal:
        pairs = visible_keys(first=context - tokens + 1, last=context, window=window, chunk=chunk)
    else:
        pairs = tokens * (context if window is None else min(context, window))
    keys = keys_read(tokens=tokens, context=context, window=window, chunk=chunk)
    return {
        "heads": share.part(attention.heads, Split.HEADS),
        "kv_heads": share.part(attention.kv_heads, Split.HEADS),
        "head_dim": attention.head_dim,
        "value_dim": attention.value_dim,
        "query_tokens": tokens,
        "keys": keys,
        "pairs": pairs,
        "dense_pairs": tokens * context,
        "causal": attention.causal,
        "values_in_keys": attention.values_in_keys,
        "query_formats": attention.query_format,
        "kv_formats": attention.kv_format,
        "out_formats": attention.out_format,
    }


def vector_row(operator: Vector | Gather, share: DeviceShare) -> dict[str, Any]:
    """Return the columns of a vector or gather row; norm gains are in the format of the values."""
    share.check(operator)
    part = share.values(operator)
    read, written = _moved_bytes(operator)
    row = {
        "bytes_in": read * part,
        "bytes_out": written * part,
        "weight_bytes": 0.0,
        "elementwise": 0.0,
        "reduce": 0.0,
        "transcendental": 0.0,
        "convert": 0.0,
        "fusable": operator.fusable,
        "functions": operator.function,
        "kinds": operator.kind,
        "lines": 0.0,
    }
    if isinstance(operator, Vector):
        # A cut through the features leaves a piece of every line to each device; norms of queries
        # and keys have lines of their own for each head.
        row["lines"] = operator.lines * (part if operator.kv_heads and operator.weights else 1.0)
        row["weight_bytes"] = operator.weights * number_format(operator.format).bytes
        for work in ("elementwise", "reduce", "transcendental", "convert"):
            row[work] = getattr(operator, work) * part
    return row


def _moved_bytes(operator: Vector | Gather) -> tuple[float, float]:
    """Return bytes read and written per sequence, parameters left out."""
    in_bytes = number_format(operator.format).bytes
    out_format = operator.out_format if isinstance(operator, Vector) else operator.format
    return operator.values_in * in_bytes, operator.values_out * number_format(out_format).bytes
