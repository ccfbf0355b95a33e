"""From measured kernels to tables of the engine: all rows of a kind in one."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import (
    AttentionTable,
    CollectiveTable,
    GemmTable,
    RowCommon,
    VectorTable,
)
from pentarch.hardware.columns import Floats
from pentarch.mapping.costs import AnyRows
from pentarch.validation.kernels import (
    AttentionPart,
    CollectivePart,
    GemmPart,
    Part,
    VectorPart,
)
from pentarch.workload.formats import number_format

T = TypeVar("T", bound=RowCommon)


@dataclass(frozen=True, slots=True, eq=False)
class KindRows:
    """All operators of one kind of a batch of measured kernels."""

    kind: OperatorKind
    """Which kind."""
    rows: AnyRows
    """The operators, P of them."""
    sequences: Floats
    """Sequences that each works on, (P,)."""
    owner: npt.NDArray[np.intp]
    """Measured kernel that each belongs to, (P,)."""
    parts: tuple[Part, ...]
    """What they were made from."""
    weight_bytes: Floats
    """Bytes of weights or of keys and values, (P,)."""
    other_bytes: Floats
    """Bytes of everything else that is read or written, (P,)."""


def tables_of(
    kernels: Sequence[tuple[Part, ...]], *, offered: frozenset[str]
) -> tuple[KindRows, ...]:
    """Return the operators of kernels by kind.

    Args:
        kernels: Operators of each kernel.
        offered: Formats that the device multiplies. A format that it lacks is for storage only:
            the activations stay as they are, and the pass that would convert them is not run.
    """
    by_kind: dict[type[Part], list[tuple[int, Part]]] = {}
    for index, parts in enumerate(kernels):
        for part in parts:
            local = _on_device(part, offered)
            if local is not None:
                by_kind.setdefault(type(local), []).append((index, local))
    # Always in the same order, so that the times of a kernel add up alike in every batch.
    return tuple(build(by_kind[kind]) for kind, build in _BUILDERS.items() if kind in by_kind)


def _on_device(part: Part, offered: frozenset[str]) -> Part | None:
    if isinstance(part, VectorPart) and part.needs_format is not None:
        return part if number_format(part.needs_format).compute in offered else None
    if isinstance(part, GemmPart) and number_format(part.a_format).compute not in offered:
        from dataclasses import replace

        narrower = number_format(part.a_format).bits < number_format(part.out_format).bits
        return replace(part, a_format=part.out_format) if narrower else part
    return part


def _table(table: type[T], count: int, columns: Mapping[str, Any]) -> T:
    """Return a table; columns that are not given are zeros, their defaults, or 1 execution."""
    values: dict[str, Any] = {
        "phases": (Phase.PREFILL,) * count,
        "executions": np.ones(count),
        "stage": np.zeros(count, dtype=np.int64),
        **columns,
    }
    for entry in fields(table):
        if entry.name not in values and entry.default is MISSING:
            values[entry.name] = np.zeros(count)
    return table(**values)


def _floats(members: Iterable[Any], name: str) -> Floats:
    return np.array([getattr(part, name) for _, part in members], dtype=np.float64)


def _bytes(names: Iterable[str]) -> Floats:
    return np.array([number_format(name).bytes for name in names], dtype=np.float64)


def _owners(members: Sequence[tuple[int, Part]]) -> npt.NDArray[np.intp]:
    return np.array([index for index, _ in members], dtype=np.intp)


def _gemms(members: Sequence[tuple[int, Any]]) -> KindRows:
    count = len(members)
    parts: tuple[GemmPart, ...] = tuple(part for _, part in members)
    m, k, n, instances = (_floats(members, name) for name in ("m", "k", "n", "instances"))
    routed = np.array([part.routed for part in parts], dtype=np.bool_)
    experts = np.where((instances > 1) | routed, instances, 0.0)
    formats = {
        name: tuple(getattr(part, name) for part in parts) for name in ("a_format", "b_format", "out_format")
    }  # fmt: skip
    # Every row visits all experts: as many GEMMs of m rows each.
    rows = _table(GemmTable, count, {
        "names": tuple(part.name for part in parts), "rows": m, "k": k, "n": n, "experts": experts,
        "experts_per_token": experts,
        # Tokens that choose leave some experts of their layer out; a batch of GEMMs leaves none.
        "experts_total": np.where(routed, np.inf, experts), "a_formats": formats["a_format"],
        "b_formats": formats["b_format"], "out_formats": formats["out_format"],
        "activations": tuple(part.activation for part in parts),
        "layers": np.ones(count), "streams_weights": np.ones(count, dtype=np.bool_),
    })  # fmt: skip
    weights = instances * k * n * _bytes(formats["b_format"])
    others = instances * m * (k * _bytes(formats["a_format"]) + n * _bytes(formats["out_format"]))
    return KindRows(
        OperatorKind.GEMM, rows, np.ones(count), _owners(members), parts, weights, others
    )


def _attentions(members: Sequence[tuple[int, Any]]) -> KindRows:
    count = len(members)
    parts: tuple[AttentionPart, ...] = tuple(part for _, part in members)
    batch, queries, keys, heads, kv_heads, head_dim = (
        _floats(members, name)
        for name in ("batch", "queries", "keys", "heads", "kv_heads", "head_dim")
    )
    causal = (queries > 1) & (queries == keys)
    query_formats = tuple(part.query_format for part in parts)
    kv_formats = tuple(part.kv_format for part in parts)
    pairs = np.where(causal, queries * (queries + 1.0) / 2.0, queries * keys)
    rows = _table(AttentionTable, count, {
        "names": ("attention",) * count, "heads": heads, "kv_heads": kv_heads, "head_dim": head_dim,
        "value_dim": head_dim, "query_tokens": queries, "keys": keys, "pairs": pairs,
        "dense_pairs": queries * keys, "causal": causal, "query_formats": query_formats,
        "kv_formats": kv_formats, "out_formats": query_formats,
        "phases": tuple(Phase.PREFILL if part.queries > 1 else Phase.DECODE for part in parts),
    })  # fmt: skip
    cached = 2.0 * batch * kv_heads * keys * head_dim * _bytes(kv_formats)
    others = 2.0 * batch * heads * queries * head_dim * _bytes(query_formats)
    return KindRows(OperatorKind.ATTENTION, rows, batch, _owners(members), parts, cached, others)


def _vectors(members: Sequence[tuple[int, Any]]) -> KindRows:
    count = len(members)
    parts: tuple[VectorPart, ...] = tuple(part for _, part in members)
    names = (
        "bytes_in",
        "bytes_out",
        "weight_bytes",
        "elementwise",
        "reduce",
        "transcendental",
        "convert",
        "lines",
    )
    columns = {name: _floats(members, name) for name in names}
    functions = tuple(part.function for part in parts)
    rows = _table(VectorTable, count, {
        "names": functions, "functions": functions, "fusable": np.zeros(count, dtype=np.bool_),
        "kinds": (OperatorKind.VECTOR,) * count, **columns,
    })  # fmt: skip
    moved = columns["bytes_in"] + columns["bytes_out"]
    return KindRows(
        OperatorKind.VECTOR, rows, np.ones(count), _owners(members), parts,
        columns["weight_bytes"], moved,
    )  # fmt: skip


def _collectives(members: Sequence[tuple[int, Any]]) -> KindRows:
    count = len(members)
    parts: tuple[CollectivePart, ...] = tuple(part for _, part in members)
    functions = tuple(part.function for part in parts)
    size = _floats(members, "message_bytes")
    rows = _table(CollectiveTable, count, {
        "names": functions, "functions": functions, "bytes": size, "degree": _floats(members, "degree"),
    })  # fmt: skip
    return KindRows(
        OperatorKind.COLLECTIVE,
        rows,
        np.ones(count),
        _owners(members),
        parts,
        np.zeros(count),
        size,
    )


_BUILDERS: Mapping[type[Part], Callable[[Sequence[tuple[int, Any]]], KindRows]] = {
    GemmPart: _gemms,
    AttentionPart: _attentions,
    VectorPart: _vectors,
    CollectivePart: _collectives,
}
