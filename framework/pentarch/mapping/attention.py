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

**Causal**: query position i of P sees the first kv_length - P + i + 1 keys. Row blocks keep the
query heads of a position together (Br rounded down to whole positions, or one position in several
passes), and a block stops at the last key that any of its rows sees: the key blocks wholly above
the diagonal are neither read nor computed. Those on it are computed whole (`executed_scores`).

**SRAM <-> registers** (estimate): the lesser of (a) the flash family again with the register file
as the buffer, inside each row block, reading K and V once per register block of r rows; (b) two
GEMMs, Q K^T with scores written in p, and P V, each with its one-boundary optimum at the register
capacity, and a softmax pass that reads p and writes the key word. Bytes of (a) for K and V and all
of (b) but Q and O shrink by executed over all scores.

References:
    Dao, Fu, Ermon, Rudra, Ré, "FlashAttention: fast and memory-efficient exact attention with
    IO-awareness", 2022 (row blocks, online softmax). The capacity terms are derived here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentarch.errors import InputError
from pentarch.mapping.gemm import GemmRows, GemmTraffic, map_gemms_one_level

Array = NDArray[np.float64]

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
    causal: NDArray[np.bool_]
    """(A,): a query sees no later key."""


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
    family: NDArray[np.int64]
    """Index into `FAMILIES`."""
    fits: NDArray[np.bool_]


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
        InputError: A size is not positive and finite, a shape does not match, or a causal row
            has more query positions than keys.
    """
    view = _View.of(rows)
    capacity = _capacity("buffer_bytes", buffer_bytes, view.kv_heads.shape[1], double=double)
    block, family, passes_k, passes_v, fits = _best_family(
        view, capacity, statistics=statistics, perfect=perfect
    )
    keys_read = _keys_read(view, block)
    kv = view.kv_bytes * (
        view.head_dim * np.where(passes_k, view.kv_length, keys_read)
        + view.value_dim * np.where(passes_v, view.kv_length, keys_read)
    )
    read = view.query_rows * view.head_dim * view.q_bytes + kv
    write = np.broadcast_to(view.query_rows * view.value_dim * view.out_bytes, read.shape)
    executed = executed_scores(
        view.positions, view.kv_length, view.group, block, causal=view.causal
    )
    sram_read = sram_write = None
    if register_bytes is not None:
        registers = _capacity("register_bytes", register_bytes, read.shape[1], double=double)
        inner_read, inner_write = _register_traffic(view, registers, block, executed)
        sram_read = view.kv_heads * (inner_read + write)
        sram_write = view.kv_heads * (inner_write + read)
    return AttentionTraffic(
        memory_read_bytes=view.kv_heads * read,
        memory_write_bytes=view.kv_heads * write,
        memory_kv_bytes=view.kv_heads * kv,
        sram_read_bytes=sram_read,
        sram_write_bytes=sram_write,
        row_block=block,
        executed_scores=view.kv_heads * executed,
        family=family,
        fits=fits,
    )


def unfused_attention_bytes(rows: AttentionRows, score_bytes: Array) -> tuple[Array, Array]:
    """Return bytes read and written when the scores are spilled to memory once.

    Q, K, V and O move once; the probabilities are written and read once. Where causal, only the
    scores at and below the diagonal are.

    Args:
        rows: The operators.
        score_bytes: (A,): a word of the spilled scores.
    """
    view = _View.of(rows)
    words = _column("score_bytes", score_bytes, view.group.shape[0])
    kv = view.kv_length * view.kv_bytes * (view.head_dim + view.value_dim)
    spilled = useful_scores(view.positions, view.kv_length, view.group, causal=view.causal) * words
    read = view.query_rows * view.head_dim * view.q_bytes + kv + spilled
    write = view.query_rows * view.value_dim * view.out_bytes + spilled
    return view.kv_heads * read, view.kv_heads * write


def useful_scores(positions: Array, kv_length: Array, group: Array, *, causal: Any) -> Array:
    """Return the scores of one KV head that enter the result."""
    earlier = kv_length - positions
    triangle = positions * earlier + positions * (positions + 1.0) / 2.0
    return group * np.where(causal, triangle, positions * kv_length)


def executed_scores(
    positions: Array,
    kv_length: Array,
    group: Array,
    row_block: Array,
    key_block: Array | float = 1.0,
    *,
    causal: Any,
) -> Array:
    """Return the scores of one KV head that blocks of rows and keys compute.

    Without a mask all of them. Causal: a row block of B = row_block / group positions (at least
    one) that ends at position e computes its rows against the first kv_length - P + e keys,
    rounded up to whole key blocks (at most kv_length); all further key blocks are skipped.

    Args:
        positions: Query positions P.
        kv_length: Keys.
        group: Query heads that share the keys.
        row_block: Query rows of a block.
        key_block: Keys of a block, an integer.
        causal: A query sees no later key; may be an array. All arguments broadcast.
    """
    block = np.maximum(1.0, np.floor(row_block / group))
    blocks = np.ceil(positions / block)
    earlier = kv_length - positions
    # Whole blocks end at earlier + b * block, b = 1 .. blocks - 1; the last one at kv_length.
    rounded = _rounded_sum(blocks - 1.0, key_block, block, earlier + block)
    last = positions - (blocks - 1.0) * block
    capped = np.minimum(kv_length, np.ceil(kv_length / key_block) * key_block)
    # A rounded end passes kv_length only in the last blocks; take off what lies beyond.
    over = np.maximum(0.0, np.ceil(kv_length / key_block) * key_block - kv_length)
    from_key = (np.ceil(kv_length / key_block) - 1.0) * key_block
    inside = np.minimum(blocks - 1.0, np.maximum(0.0, np.floor((from_key - earlier) / block)))
    triangle = block * (rounded - (blocks - 1.0 - inside) * over) + last * capped
    return group * np.where(causal, triangle, positions * kv_length)


def _rounded_sum(count: Array, modulus: Any, step: Array, first: Array) -> Array:
    """Return the sum over i < count of first + i * step, each rounded up to a multiple.

    Euclid-like summation of floors: whole multiples of the modulus leave step and offset, then
    the roles of step and modulus are exchanged.
    """
    n, m, a, b = (x.astype(np.float64) for x in np.broadcast_arrays(count, modulus, step, first))
    multiple = m.copy()
    b = b + m - 1.0
    total, sign_n = np.zeros_like(n), n.copy()
    active = sign_n > 0.0
    while active.any():
        whole_a, whole_b = np.floor(a / m), np.floor(b / m)
        total += np.where(active, whole_a * n * (n - 1.0) / 2.0 + whole_b * n, 0.0)
        a, b = a - whole_a * m, b - whole_b * m
        reach = a * n + b
        active = active & (reach >= m)
        n_next, b_next = np.floor(reach / m), reach - np.floor(reach / m) * m
        n, b = np.where(active, n_next, n), np.where(active, b_next, b)
        a, m = np.where(active, m, a), np.where(active, a, m)
    return total * multiple


@dataclass(frozen=True, slots=True)
class _View:
    """The rows as columns (A, 1) that broadcast against designs; heads are (A, N)."""

    kv_heads: Array
    group: Array
    positions: Array
    kv_length: Array
    head_dim: Array
    value_dim: Array
    q_bytes: Array
    kv_bytes: Array
    out_bytes: Array
    accumulator_bytes: Array
    causal: NDArray[np.bool_]
    query_rows: Array

    @classmethod
    def of(cls, rows: AttentionRows) -> "_View":
        """Return `rows` checked and shaped."""
        heads = np.asarray(rows.kv_heads, dtype=np.float64)
        if heads.ndim != 2 or not heads.size:
            raise InputError(
                f"AttentionRows.kv_heads has the shape {heads.shape}. Expected (rows, designs)."
            )
        if not (np.isfinite(heads) & (heads > 0.0)).all():
            raise InputError("AttentionRows.kv_heads is not positive and finite everywhere.")
        names = (
            "group", "positions", "kv_length", "head_dim", "value_dim", "q_bytes", "kv_bytes",
            "out_bytes", "accumulator_bytes",
        )  # fmt: skip
        columns = {
            name: _column(f"AttentionRows.{name}", getattr(rows, name), heads.shape[0])
            for name in names
        }
        causal = np.asarray(rows.causal, dtype=np.bool_).reshape(-1, 1)
        if (causal & (columns["positions"] > columns["kv_length"])).any():
            raise InputError(
                "A causal attention has more query positions than keys. Expected kv_length to "
                "count the query positions too."
            )
        query_rows = columns["group"] * columns["positions"]
        return cls(kv_heads=heads, causal=causal, query_rows=query_rows, **columns)


def _best_family(
    view: _View, capacity: Array, *, statistics: bool, perfect: bool
) -> tuple[Array, NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """Return row block, family, whether K and V are read once, and whether anything fits."""
    shape = np.broadcast_shapes(view.kv_heads.shape, capacity.shape)
    p = view.accumulator_bytes
    scores = p * (3.0 if statistics else 1.0)
    flash = view.head_dim * view.q_bytes + view.value_dim * p + scores
    panel = view.kv_length * p + scores
    block, family = np.ones(shape), np.zeros(shape, dtype=np.int64)
    held_k, held_v = np.zeros(shape, dtype=np.bool_), np.zeros(shape, dtype=np.bool_)
    least = np.full(shape, np.inf)
    for index, name in enumerate(FAMILIES):
        k_stays, v_stays = "Kres" in name, "Vres" in name
        held = view.head_dim * k_stays + view.value_dim * v_stays
        room = capacity - view.kv_bytes * (1.0 + view.kv_length * held)
        row = flash if name.startswith("flash") else panel
        rows = np.broadcast_to(np.minimum(view.query_rows, np.floor(room / row)), shape)
        rows = _largest_divisor(view.query_rows, rows) if perfect else _balanced(view, rows)
        keys = _keys_read(view, np.maximum(1.0, rows))
        moved = view.head_dim * np.where(k_stays, view.kv_length, keys)
        moved = moved + view.value_dim * np.where(v_stays, view.kv_length, keys)
        better = (rows >= 1.0) & (moved < least)
        least = np.where(better, moved, least)
        block, family = np.where(better, rows, block), np.where(better, index, family)
        held_k, held_v = np.where(better, k_stays, held_k), np.where(better, v_stays, held_v)
    return block, family, held_k, held_v, np.isfinite(least)


def _balanced(view: _View, rows: Array) -> Array:
    """Return the smallest row block with the passes of `rows`; below one row stays below one."""
    rows = np.maximum(rows, 0.0)
    held = np.maximum(rows, 1.0)
    even = np.ceil(view.query_rows / np.ceil(view.query_rows / held))
    if view.causal.any():
        wide = np.maximum(1.0, np.floor(held / view.group))
        wide = np.ceil(view.positions / np.ceil(view.positions / wide))
        part = np.ceil(view.group / np.ceil(view.group / np.minimum(held, view.group)))
        whole = np.where(held >= view.group, wide * view.group, part)
        even = np.where(view.causal, whole, even)
    return np.minimum(rows, even)


def _keys_read(view: _View, block: Array) -> Array:
    """Return the rows of K that all passes of one KV head read."""
    all_keys = np.ceil(view.query_rows / block) * view.kv_length
    if not view.causal.any():
        return all_keys
    wide = np.maximum(1.0, np.floor(block / view.group))
    blocks = np.ceil(view.positions / wide)
    ends = wide * blocks * (blocks - 1.0) / 2.0 + view.positions
    passes = np.ceil(view.group / np.minimum(block, view.group))
    triangle = passes * (blocks * (view.kv_length - view.positions) + ends)
    return np.where(view.causal, triangle, all_keys)


def _register_traffic(
    view: _View, registers: Array, block: Array, executed: Array
) -> tuple[Array, Array]:
    """Return bytes read from and written to SRAM by the registers for one KV head."""
    p, kv = view.accumulator_bytes, view.kv_bytes
    every = view.query_rows * view.kv_length
    share = executed / every
    q = view.query_rows * view.head_dim * view.q_bytes
    out = view.query_rows * view.value_dim * view.out_bytes
    row = view.head_dim * view.q_bytes + view.value_dim * p + 3.0 * p
    held = np.floor((registers - kv) / row)
    blocks = np.floor(view.query_rows / block)
    inner = np.maximum(1.0, np.minimum(held, block))
    passes = blocks * np.ceil(block / inner)
    passes = passes + np.ceil((view.query_rows - blocks * block) / inner)
    streamed = passes * view.kv_length * (view.head_dim + view.value_dim) * kv * share
    first = _head_gemm(view, registers, scores=True)
    second = _head_gemm(view, registers, scores=False)
    reads = first.memory_read_bytes + second.memory_read_bytes + every * p - q
    writes = first.memory_write_bytes + second.memory_write_bytes + every * kv - out
    gemm_read, gemm_write = q + reads * share, out + writes * share
    flash = (held >= 1.0) & (q + streamed + out <= gemm_read + gemm_write)
    return np.where(flash, q + streamed, gemm_read), np.where(flash, out, gemm_write)


def _head_gemm(view: _View, registers: Array, *, scores: bool) -> GemmTraffic:
    """Return the register traffic of Q K^T, or of P V, of one KV head without a mask."""
    p, kv = view.accumulator_bytes[:, 0], view.kv_bytes[:, 0]
    length = view.kv_length[:, 0]
    m = np.repeat(view.query_rows, registers.shape[1], axis=1)
    if scores:
        rows = GemmRows(m, view.head_dim[:, 0], length, view.q_bytes[:, 0], kv, p, p, p)
    else:
        rows = GemmRows(m, length, view.value_dim[:, 0], kv, kv, view.out_bytes[:, 0], p, p)
    return map_gemms_one_level(rows, registers[0], False)


def _largest_divisor(size: Array, limit: Array) -> Array:
    """Return the largest divisor of `size` (A, 1) that is at most `limit` (A, N); 0 if none."""
    found = np.zeros(limit.shape)
    for row, value in enumerate(size[:, 0]):
        candidates = np.arange(1.0, value + 1.0)
        divisors = np.concatenate(([0.0], candidates[value % candidates == 0.0]))
        at = np.searchsorted(divisors, np.maximum(limit[row], 0.0), side="right") - 1
        found[row] = divisors[at]
    return found


def _capacity(name: str, values: Array, count: int, *, double: bool) -> Array:
    capacity = np.asarray(values, dtype=np.float64)
    if capacity.shape != (count,):
        raise InputError(f"{name} has the shape {capacity.shape}. Expected ({count},).")
    if not (np.isfinite(capacity) & (capacity >= 0.0)).all():
        raise InputError(f"{name} is negative or not finite somewhere. Expected bytes.")
    return (np.floor(capacity / 2.0) if double else capacity)[None, :]


def _column(name: str, values: Array, count: int) -> Array:
    column = np.asarray(values, dtype=np.float64)
    if column.shape != (count,):
        raise InputError(f"{name} has the shape {column.shape}. Expected ({count},).")
    if not (np.isfinite(column) & (column > 0.0)).all():
        raise InputError(f"{name} is not positive and finite everywhere.")
    return column[:, None]
