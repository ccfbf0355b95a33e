"""Attention behind one buffer (fused or unfused), with an estimate of the traffic to registers.

One KV head at a time: its group of query heads gives R = group * positions query rows, which share
K (kv_length, head_dim) and V (kv_length, value_dim). Fused attention keeps the scores on chip.
Row blocks of Br rows pass over the keys; each pass reads K and V once; Q is read and O is written
once. Per block the buffer holds, with p the accumulator word,

    flash   Br * (head_dim * q + value_dim * p)    running output, online softmax
    panel   Br * kv_length * p                     all scores of the rows, softmax in one go

and in both one column of scores Br * p, the softmax statistics 2 * Br * p, and one streamed word
of K or V. Either family may hold all of K, all of V or both on top, which are then read once. The
passes are the fewest that fit, Br the smallest with these passes; the family with the least
traffic wins, the first one on a tie.

**Shared values** (latent attention in its absorbed form): the first value_dim features of a key
are its value. They are read with the key; V adds no bytes and cannot be held alone.

**Masks.** Causal: query position i of P sees the first kv_length - P + i + 1 keys. Window: at most
the last `window` of them. Row blocks keep the query heads of a position together (Br rounded down
to whole positions, or one position in several passes). A block touches the keys from the first
that any of its rows sees to the last one: what lies outside is neither read nor computed, what
lies between is computed whole. A panel holds `window` scores a row. Attention in chunks is that of
each chunk by itself: KV heads times chunks.

**SRAM <-> registers** (estimate): the lesser of (a) the flash family again with the register file
as the buffer, reading K and V once per register block of r rows, and no less often than memory is
read: registers keep the accumulators of their rows, whatever the row block; (b) two GEMMs, Q K^T with scores
written in p, and P V, each with its one-boundary optimum at the register capacity, and a softmax
pass that reads p and writes the key word. Bytes of (a) for K and V and all of (b) but Q and O
shrink by the scores that register blocks compute over all scores.

References:
    Dao, Fu, Ermon, Rudra, Ré, "FlashAttention: fast and memory-efficient exact attention with
    IO-awareness", 2022 (row blocks, online softmax). DeepSeek-AI, "DeepSeek-V2", 2024 (absorbed
    latent attention). The capacity terms are derived here.
"""

from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentarch.errors import InputError
from pentarch.mapping.gemm import GemmRows, GemmTraffic, map_gemms_one_level

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

FAMILIES = (
    "flash",
    "flash+Kres",
    "flash+Vres",
    "flash+Kres+Vres",
    "panel",
    "panel+Kres",
    "panel+Vres",
    "panel+Kres+Vres",
)

_COUNTS = (
    "group", "positions", "kv_length", "head_dim", "value_dim", "q_bytes", "kv_bytes", "out_bytes",
    "accumulator_bytes",
)  # fmt: skip
"""Columns of `AttentionRows` that are positive numbers."""

_ORDER = (
    "group", "positions", "kv_length", "window", "head_dim", "value_dim", "q_bytes", "kv_bytes",
    "out_bytes", "accumulator_bytes", "causal", "value_in_key",
)  # fmt: skip
"""Numbers of a row as the kernels want them."""

SOFTMAX_COLUMNS = 3.0
"""Words a row keeps beside output or panel: a column of scores, running maximum and sum."""


@dataclass(frozen=True, slots=True)
class AttentionRows:
    """A attention operators on N designs; sizes are counts, words bytes and may be fractions."""

    kv_heads: Array
    """(A, N): KV heads times sequences; differs between designs when their batch size does."""
    group: Array
    """(A,): query heads per KV head."""
    positions: Array
    """(A,): query positions; 1 in decode."""
    kv_length: Array
    """(A,): keys; at least `positions` where causal."""
    head_dim: Array
    """(A,): of Q and K."""
    value_dim: Array
    """(A,): of V and O."""
    q_bytes: Array
    """(A,): a word of Q."""
    kv_bytes: Array
    """(A,): a word of K or V."""
    out_bytes: Array
    """(A,): a word of O."""
    accumulator_bytes: Array
    """(A,): a word of scores, statistics or unfinished O on chip."""
    causal: Flags
    """(A,): a query sees no later key."""
    window: Array | None = None
    """(A,): keys that a query sees at most, its own included, infinite for all; `None` for all."""
    value_in_key: Flags | None = None
    """(A,): the first `value_dim` features of a key are its value; `None` for none."""


@dataclass(frozen=True, slots=True)
class AttentionTraffic:
    """Bytes moved by A attention operators on N designs, each array (A, N).

    Where `fits` is false the buffer cannot hold one row, and the traffic is that of one row a
    pass: finite, and above any mapping that fits.
    """

    memory_read_bytes: Array
    memory_write_bytes: Array
    memory_kv_bytes: Array
    """Share of K and V in `memory_read_bytes`."""
    sram_read_bytes: Array | None
    """Towards registers and towards memory; `None` without register sizes."""
    sram_write_bytes: Array | None
    """From registers and from memory; `None` without register sizes."""
    row_block: Array
    """Query rows of a block."""
    executed_scores: Array
    """Scores computed when keys come one at a time; each costs head_dim + value_dim MACs."""
    spare_bytes: Array
    """Bytes of the buffer that a head leaves free."""
    family: NDArray[np.int64]
    """Index into `FAMILIES`."""
    fits: Flags


@cache
def attention_kernels() -> ModuleType:
    """Return the compiled kernels of attention, importing numba on the first call."""
    return import_module("pentarch.mapping.attention_kernels")


def scratch(fields: int, shape: tuple[int, ...]) -> Array:
    """Return room for fields of (A, N), some columns wider.

    Powers of two as distance between fields would put all of a design into one set of the
    processor's cache.
    """
    return np.empty((fields, shape[0], shape[1] + 8))


@dataclass(frozen=True, slots=True)
class CheckedRows:
    """Rows whose sizes were checked, in the layout of the kernels."""

    kv_heads: Array
    """(A, N)."""
    table: Array
    """(A, fields), C-contiguous."""

    @classmethod
    def of(cls, rows: AttentionRows) -> "CheckedRows":
        """Return `rows` checked and in one table.

        Raises:
            InputError: As `map_attention`.
        """
        heads = np.asarray(rows.kv_heads, dtype=np.float64)
        if heads.ndim != 2 or not heads.size:
            raise InputError(
                f"AttentionRows.kv_heads has the shape {heads.shape}. Expected (rows, designs)."
            )
        if not (heads.min() > 0.0 and heads.max() < np.inf):
            raise InputError("AttentionRows.kv_heads is not positive and finite everywhere.")
        table = np.empty((len(heads), len(_ORDER)))
        for name in _COUNTS:
            table[:, _ORDER.index(name)] = _column(rows, name, len(heads))
        table[:, 3] = np.inf if rows.window is None else _column(rows, "window", len(heads))
        table[:, 10] = np.asarray(rows.causal, dtype=np.bool_)
        table[:, 11] = 0.0 if rows.value_in_key is None else rows.value_in_key
        _check(table)
        # Keys that even the first query does not see are none of this operator's.
        seen = table[:, 1] - 1.0 + table[:, 3]
        table[:, 2] = np.where(table[:, 10] > 0.0, np.minimum(table[:, 2], seen), table[:, 2])
        return cls(kv_heads=np.ascontiguousarray(heads), table=table)

    def column(self, name: str) -> Array:
        """Return a number of each row as (A, 1), which broadcasts against designs."""
        return self.table[:, _ORDER.index(name), None]

    @property
    def query_rows(self) -> Array:
        """Rows of Q that share the keys of a KV head, (A, 1)."""
        return self.column("group") * self.column("positions")

    @property
    def streamed_value_dim(self) -> Array:
        """Width of V that is read beside K, (A, 1): none where keys hold it."""
        return self.column("value_dim") * (1.0 - self.column("value_in_key"))


def map_attention(
    rows: AttentionRows,
    buffer_bytes: Array,
    *,
    register_bytes: Array | None = None,
    double: bool = False,
    statistics: bool = True,
    perfect: bool = False,
) -> AttentionTraffic:
    """Map fused attention with the least memory traffic of all families.

    Args:
        rows: The operators.
        buffer_bytes: (N,).
        register_bytes: (N,), for the estimate of traffic between SRAM and registers.
        double: Blocks are double buffered, which halves both capacities.
        statistics: Count the two softmax statistics of a row against the capacity.
        perfect: Only row blocks that divide the query rows.

    Raises:
        InputError: A size is not positive and finite, a shape does not match, a causal row has
            more query positions than keys, or values wider than the keys that hold them.
    """
    return map_checked_rows(
        CheckedRows.of(rows), buffer_bytes, register_bytes=register_bytes, double=double,
        statistics=statistics, perfect=perfect,
    )  # fmt: skip


def map_checked_rows(
    view: CheckedRows, buffer_bytes: Array, *, register_bytes: Array | None = None,
    double: bool = False, statistics: bool = True, perfect: bool = False,
) -> AttentionTraffic:  # fmt: skip
    """As `map_attention`, for rows that were checked."""
    heads = view.kv_heads
    capacity = _capacity("buffer_bytes", buffer_bytes, heads.shape[1], double=double)
    kernels = attention_kernels()
    out = scratch(len(kernels.TRAFFIC_FIELDS), heads.shape)
    columns = SOFTMAX_COLUMNS if statistics else 1.0
    kernels.map_rows(view.table, capacity, columns, float(perfect), out)
    block, family, of_k, of_v, executed, spare, fits = out[:, :, : heads.shape[1]]
    kv = view.column("head_dim") * of_k + view.streamed_value_dim * of_v
    kv = view.column("kv_bytes") * kv
    queries = view.query_rows * view.column("head_dim") * view.column("q_bytes")
    read = queries + kv
    write = view.query_rows * view.column("value_dim") * view.column("out_bytes")
    sram_read = sram_write = None
    if register_bytes is not None:
        registers = _capacity("register_bytes", register_bytes, heads.shape[1], double=double)
        inner_read, inner_write = _register_traffic(view, registers, kv)
        sram_read = heads * (inner_read + write)
        sram_write = heads * (inner_write + read)
    return AttentionTraffic(
        memory_read_bytes=heads * read,
        memory_write_bytes=heads * write,
        memory_kv_bytes=heads * kv,
        sram_read_bytes=sram_read,
        sram_write_bytes=sram_write,
        row_block=block,
        executed_scores=heads * executed,
        spare_bytes=spare,
        family=family.astype(np.int64),
        fits=fits > 0.0,
    )


def unfused_attention_bytes(rows: AttentionRows, score_bytes: Array) -> tuple[Array, Array]:
    """Return bytes read and written when the scores are spilled to memory once.

    Q, K, V and O move once; the probabilities are written and read once. Under a mask only the
    scores that queries see are.

    Args:
        rows: The operators.
        score_bytes: (A,): a word of the spilled scores.
    """
    view = CheckedRows.of(rows)
    words = _positive("score_bytes", score_bytes, len(view.table))[:, None]
    return unfused_bytes(view, words)


def unfused_bytes(view: CheckedRows, score_bytes: Array) -> tuple[Array, Array]:
    """As `unfused_attention_bytes`, for rows that were checked; `score_bytes` is (A, 1)."""
    width = view.column("head_dim") + view.streamed_value_dim
    kv = view.column("kv_length") * view.column("kv_bytes") * width
    spilled = visible_scores(view) * score_bytes
    read = view.query_rows * view.column("head_dim") * view.column("q_bytes") + kv + spilled
    write = view.query_rows * view.column("value_dim") * view.column("out_bytes") + spilled
    return view.kv_heads * read, view.kv_heads * write


def visible_scores(view: CheckedRows) -> Array:
    """Return the scores of one KV head that enter the result, (A, 1)."""
    seen = useful_scores(
        view.column("positions"), view.column("kv_length"), view.column("group"),
        causal=view.column("causal") > 0.0, window=view.column("window"),
    )  # fmt: skip
    return seen


def useful_scores(
    positions: Array, kv_length: Array, group: Array, *, causal: Any, window: Any = np.inf
) -> Array:
    """Return the scores of one KV head that enter the result; all arguments broadcast.

    Args:
        positions: Query positions P.
        kv_length: Keys.
        group: Query heads that share the keys.
        causal: A query sees no later key.
        window: Keys that a query sees at most.
    """
    earlier = kv_length - positions
    triangle = positions * earlier + positions * (positions + 1.0) / 2.0
    # Positions whose keys pass the window lose 1, 2, 3 ... of them.
    late = np.clip(kv_length - window, 0.0, positions)
    first = np.maximum(0.0, earlier - np.minimum(window, kv_length))
    lost = late * first + late * (late + 1.0) / 2.0
    every = positions * np.minimum(kv_length, window)
    seen: Array = group * np.where(causal, triangle - lost, every)
    return seen


def _register_traffic(view: CheckedRows, registers: Array, memory_kv: Array) -> tuple[Array, Array]:
    """Return bytes read from and written to SRAM by the registers for one KV head."""
    p, kv, length = (view.column(n) for n in ("accumulator_bytes", "kv_bytes", "kv_length"))
    every = view.query_rows * length
    q = view.query_rows * view.column("head_dim") * view.column("q_bytes")
    out = view.query_rows * view.column("value_dim") * view.column("out_bytes")
    row = view.column("head_dim") * view.column("q_bytes")
    row = row + (view.column("value_dim") + SOFTMAX_COLUMNS) * p
    held = np.floor((registers - kv) / row)
    inner = np.maximum(1.0, np.minimum(held, view.query_rows))
    cut = np.empty((2, *inner.shape))
    attention_kernels().count_keys(view.table, inner, cut)
    share = cut[1] / every
    width = view.column("head_dim") + view.streamed_value_dim
    streamed = np.maximum(cut[0] * width * kv, memory_kv)
    first = _head_gemm(view, registers, scores=True)
    second = _head_gemm(view, registers, scores=False)
    reads = first.memory_read_bytes + second.memory_read_bytes + every * p - q
    writes = first.memory_write_bytes + second.memory_write_bytes + every * kv - out
    gemm_read, gemm_write = q + reads * share, out + writes * share
    flash = (held >= 1.0) & (q + streamed + out <= gemm_read + gemm_write)
    return np.where(flash, q + streamed, gemm_read), np.where(flash, out, gemm_write)


def _head_gemm(view: CheckedRows, registers: Array, *, scores: bool) -> GemmTraffic:
    """Return the register traffic of Q K^T, or of P V, of one KV head without a mask."""
    p, kv, length, dim, value_dim = (
        view.column(name)[:, 0]
        for name in ("accumulator_bytes", "kv_bytes", "kv_length", "head_dim", "value_dim")
    )
    m = np.repeat(view.query_rows, len(registers), axis=1)
    if scores:
        rows = GemmRows(m, dim, length, view.column("q_bytes")[:, 0], kv, p, p, p)
    else:
        rows = GemmRows(m, length, value_dim, kv, kv, view.column("out_bytes")[:, 0], p, p)
    return map_gemms_one_level(rows, registers, False)


def _capacity(name: str, values: Array, count: int, *, double: bool) -> Array:
    capacity = np.asarray(values, dtype=np.float64)
    if capacity.shape != (count,):
        raise InputError(f"{name} has the shape {capacity.shape}. Expected ({count},).")
    if not (capacity.min() >= 0.0 and capacity.max() < np.inf):
        raise InputError(f"{name} is negative or not finite somewhere. Expected bytes.")
    return np.floor(capacity / 2.0) if double else np.ascontiguousarray(capacity)


def _column(rows: AttentionRows, name: str, count: int) -> Array:
    column = np.asarray(getattr(rows, name), dtype=np.float64)
    if column.shape != (count,):
        raise InputError(f"AttentionRows.{name} has the shape {column.shape}. Expected ({count},).")
    return column


def _positive(name: str, values: Array, count: int) -> Array:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (count,):
        raise InputError(f"{name} has the shape {column.shape}. Expected ({count},).")
    if not (np.isfinite(column) & (column > 0.0)).all():
        raise InputError(f"{name} is not positive and finite everywhere.")
    return column


def _check(table: Array) -> None:
    """Raise an `InputError` that names the first size that is out of bounds."""
    counts = table[:, [_ORDER.index(name) for name in _COUNTS]]
    good = (counts > 0.0) & (counts < np.inf)
    if not good.all():
        name = _COUNTS[int(np.argmin(good.all(axis=0)))]
        raise InputError(f"AttentionRows.{name} is not positive and finite everywhere.")
    if not (table[:, 3] >= 1.0).all():
        raise InputError("AttentionRows.window is below 1 somewhere. Expected keys, own included.")
    if (table[:, 10] * table[:, 1] > table[:, 2]).any():
        raise InputError(
            "A causal attention has more query positions than keys. Expected kv_length to "
            "count the query positions too."
        )
    if (table[:, 11] * table[:, 5] > table[:, 4]).any():
        raise InputError(
            "Values are part of keys that are narrower. Expected value_dim of at most head_dim "
            "where value_in_key is set."
        )
