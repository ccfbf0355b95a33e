"""Attention mapped another way: closed forms in NumPy, and a walk over every block and key."""

from dataclasses import dataclass
from itertools import product
from math import inf

import numpy as np
from numpy.typing import NDArray

from pentarch.mapping.attention import FAMILIES, AttentionRows

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Reference:
    """Rows of K read by one KV head and what gave them, arrays (A, N), for rows without window."""

    row_block: Array
    family: NDArray[np.int64]
    kv_words: Array
    executed: Array


def closed_form(
    rows: AttentionRows, capacity: Array, *, statistics: bool = True, perfect: bool = False
) -> Reference:
    """Return the best of all families by vectorized closed forms; windows and sharing left out."""
    column = {
        name: getattr(rows, name)[:, None]
        for name in AttentionRows.__dataclass_fields__
        if name not in ("kv_heads", "window", "value_in_key")
    }
    every = column["group"] * column["positions"]
    p, length = column["accumulator_bytes"], column["kv_length"]
    scores = p * (3.0 if statistics else 1.0)
    flash = column["head_dim"] * column["q_bytes"] + column["value_dim"] * p + scores
    shape = np.broadcast_shapes(every.shape, capacity[None].shape)
    least, block = np.full(shape, np.inf), np.ones(shape)
    family = np.zeros(shape, dtype=np.int64)
    for index, name in enumerate(FAMILIES):
        widths = (column["head_dim"], column["value_dim"])
        stays = ("Kres" in name, "Vres" in name)
        held = sum(width * stay for width, stay in zip(widths, stays, strict=True))
        room = capacity - column["kv_bytes"] * (1.0 + length * held)
        row = flash if name.startswith("flash") else length * p + scores
        fitting = np.broadcast_to(np.minimum(every, np.floor(room / row)), shape)
        found = _divisor(every, fitting) if perfect else _balanced(column, every, fitting)
        keys = _keys_read(column, every, np.maximum(1.0, found))
        moved = sum(
            width * np.where(stay, length, keys) for width, stay in zip(widths, stays, strict=True)
        )
        better = (found >= 1.0) & (moved < least)
        least, block = np.where(better, moved, least), np.where(better, found, block)
        family = np.where(better, index, family)
    return Reference(block, family, least, executed_scores(column, block))


def executed_scores(column: dict[str, Array], block: Array) -> Array:
    """Return the scores of one KV head when row blocks stop at the last key that they see."""
    wide = np.maximum(1.0, np.floor(block / column["group"]))
    positions, length = column["positions"], column["kv_length"]
    blocks = np.ceil(positions / wide)
    last = positions - (blocks - 1.0) * wide
    ends = (blocks - 1.0) * (length - positions) + wide * (blocks - 1.0) * blocks / 2.0
    triangle = wide * ends + last * length
    return column["group"] * np.where(column["causal"], triangle, positions * length)


def _balanced(column: dict[str, Array], every: Array, rows: Array) -> Array:
    rows = np.maximum(rows, 0.0)
    held, group, positions = np.maximum(rows, 1.0), column["group"], column["positions"]
    even = np.ceil(every / np.ceil(every / held))
    wide = np.maximum(1.0, np.floor(held / group))
    wide = np.ceil(positions / np.ceil(positions / wide))
    part = np.ceil(group / np.ceil(group / np.minimum(held, group)))
    whole = np.where(held >= group, wide * group, part)
    return np.minimum(rows, np.where(column["causal"], whole, even))


def _keys_read(column: dict[str, Array], every: Array, block: Array) -> Array:
    group, positions, length = column["group"], column["positions"], column["kv_length"]
    wide = np.maximum(1.0, np.floor(block / group))
    blocks = np.ceil(positions / wide)
    ends = wide * blocks * (blocks - 1.0) / 2.0 + positions
    passes = np.ceil(group / np.minimum(block, group))
    triangle = passes * (blocks * (length - positions) + ends)
    return np.where(column["causal"], triangle, np.ceil(every / block) * length)


def _divisor(size: Array, limit: Array) -> Array:
    found = np.zeros(limit.shape)
    for row, value in enumerate(size[:, 0]):
        candidates = np.arange(1.0, value + 1.0)
        divisors = np.concatenate(([0.0], candidates[value % candidates == 0.0]))
        at = np.searchsorted(divisors, np.maximum(limit[row], 0.0), side="right") - 1
        found[row] = divisors[at]
    return found


@dataclass(frozen=True)
class Walk:
    """One KV head of integers; a word of Q, K, V and O is a byte."""

    group: int
    positions: int
    keys: int
    head_dim: int
    value_dim: int
    partial: int
    causal: bool
    window: float = inf
    shared: bool = False

    def sees(self, position: int, key: int) -> bool:
        """Return whether a query position sees a key."""
        own = self.keys - self.positions + position
        if self.causal and key > own:
            return False
        return not (self.window < inf and key <= own - self.window)

    def passes(self, block: int) -> list[tuple[float, int]]:
        """Return (query rows, keys touched) of each pass of row blocks over the keys."""
        if not self.causal and self.window == inf:
            every = self.group * self.positions
            return [(min(block, every - at), self.keys) for at in range(0, every, block)]
        wide, repeats = max(1, block // self.group), -(-self.group // min(block, self.group))
        found: list[tuple[float, int]] = []
        for start in range(0, self.positions, wide):
            positions = range(start, min(start + wide, self.positions))
            seen = [k for k in range(self.keys) if any(self.sees(i, k) for i in positions)]
            keys = seen[-1] - seen[0] + 1
            rows = self.group * len(positions)
            found += [(rows / repeats, keys)] * repeats
        return found

    def least_kv(self, capacity: float) -> float | None:
        """Return the least bytes of K and V over all row blocks and families; `None` if none fits."""
        best = None
        value = 0 if self.shared else self.value_dim
        panel = int(min(self.keys, self.window)) * self.partial
        visible = int(min(self.keys, self.positions - 1 + self.window))
        flash = self.head_dim + self.value_dim * self.partial
        for block in range(1, self.group * self.positions + 1):
            read = sum(keys for _, keys in self.passes(block))
            for row, k_stays, v_stays in product((flash, panel), (False, True), (False, True)):
                held = self.head_dim * k_stays + value * v_stays
                need = block * (row + 3 * self.partial) + 1 + visible * held
                if need <= capacity:
                    moved = self.head_dim * (visible if k_stays else read)
                    moved += value * (visible if v_stays else read)
                    best = moved if best is None else min(best, moved)
        return best

    def rows(self) -> AttentionRows:
        """Return the operator on one design."""
        one = np.ones(1)
        return AttentionRows(
            np.ones((1, 1)), self.group * one, self.positions * one, self.keys * one,
            self.head_dim * one, self.value_dim * one, one, one, one, self.partial * one,
            np.array([self.causal]), window=np.array([float(self.window)]),
            value_in_key=np.array([self.shared]),
        )  # fmt: skip
