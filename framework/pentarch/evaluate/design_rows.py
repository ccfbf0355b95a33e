"""Rows of one kind for one design, as vectors: what explanations and ledgers are computed on."""

from dataclasses import dataclass, replace

import numpy as np

from pentarch.evaluate.peak_work import cached_width
from pentarch.evaluate.stage_costs import KindCosts, StageInput
from pentarch.graph.operators import OperatorKind
from pentarch.graph.table import AttentionTable, GemmTable, VectorTable
from pentarch.hardware.columns import Floats
from pentarch.hardware.machine import MachineTable
from pentarch.mapping.arithmetic import Product, bits_to_bytes, resolve
from pentarch.mapping.costs import AnyRows
from pentarch.mapping.routed import reroute


@dataclass(frozen=True, slots=True, eq=False)
class Operands:
    """Bytes that one execution of each row needs, every operand once; shapes (R,)."""

    stored: Floats
    """Weights (of experts, those visited) or keys and values, wherever they live."""
    inputs: Floats
    """Activations in."""
    outputs: Floats
    """Activations out."""


@dataclass(frozen=True, slots=True, eq=False)
class Dimensions:
    """GEMM rows as the mapper sees them; shapes (R,)."""

    m: Floats
    """Rows of A of one instance."""
    instances: Floats
    """Equal GEMMs: the experts that are visited, or 1."""


class DesignRows:
    """Rows of one kind for one design; every figure is for one execution and has the shape (R,).

    Args:
        entry: The rows, costed.
        given: What the stage was costed on.
        index: Which design of the batch.
    """

    def __init__(self, entry: KindCosts, given: StageInput, index: int) -> None:
        self.entry = entry
        self.given = given
        self.index = index
        rows = entry.rows
        self.sequences: Floats = np.where(entry.is_decode, float(given.concurrency[index]), 1.0)
        self.weights = weight_column(entry, index)
        self.total_s = self.of(entry.times.total_s)
        self.fixed_s = self.of(entry.costs.fixed_s)
        self.terms_s: Floats = entry.times.terms_s[:, :, index]
        self.ideal_s = self.of(entry.ideal_s)
        self.replicated_s = self.of(entry.replicated_s)
        self.executed_s = self.of(entry.executed_s)
        self.compulsory_bytes = self.of(entry.compulsory_bytes)
        self.operands = operands(rows, self.sequences)
        self.products = row_products(rows, given.machine)

    def of(self, values: Floats) -> Floats:
        """Return the column of this design."""
        column: Floats = values[:, self.index]
        return column

    def read(self, level: str) -> Floats:
        """Return the bytes read at a level."""
        return self._moved(self.entry.costs.read_bytes.get(level))

    def write(self, level: str) -> Floats:
        """Return the bytes written at a level."""
        return self._moved(self.entry.costs.write_bytes.get(level))

    def _moved(self, values: Floats | None) -> Floats:
        return np.zeros(self.sequences.shape) if values is None else self.of(values)

    @property
    def resident_bytes(self) -> Floats:
        """Weights or keys and values that live on chip."""
        found: Floats = np.maximum(self.operands.stored - self.compulsory_bytes, 0.0)
        return found

    def engine_names(self) -> tuple[str | None, ...]:
        """Return the engine that multiplies, by row; `None` for rows that multiply nothing."""
        return tuple(None if one is None else one.engine.name for one in self.products)


def weight_column(entry: KindCosts, index: int) -> Floats:
    """Return how often a query executes each row of one design, shape (R,)."""
    column: Floats = entry.weights[:, index if entry.weights.shape[1] > 1 else 0]
    return column


def operands(rows: AnyRows, sequences: Floats) -> Operands:
    """Return what one execution of each row needs.

    Args:
        rows: The rows.
        sequences: Sequences that each processes at once, shape (R,).
    """
    nothing = np.zeros(sequences.shape)
    if isinstance(rows, GemmTable):
        tokens = rows.rows * sequences
        found = dimensions(rows, sequences)
        visited = np.where(rows.experts == 0, 1.0, found.instances)
        return Operands(
            stored=rows.k * rows.n * bits_to_bytes(rows.b_formats) * visited,
            inputs=tokens * rows.k * bits_to_bytes(rows.a_formats),
            outputs=found.m * found.instances * rows.n * bits_to_bytes(rows.out_formats),
        )
    if isinstance(rows, AttentionTable):
        queries = rows.heads * rows.query_tokens * sequences
        words = rows.kv_heads * rows.keys * cached_width(rows) * sequences
        return Operands(
            stored=words * bits_to_bytes(rows.kv_formats),
            inputs=queries * rows.head_dim * bits_to_bytes(rows.query_formats),
            outputs=queries * rows.value_dim * bits_to_bytes(rows.out_formats),
        )
    if isinstance(rows, VectorTable):
        return Operands(
            stored=rows.weight_bytes, inputs=rows.bytes_in * sequences,
            outputs=rows.bytes_out * sequences,
        )  # fmt: skip
    return Operands(stored=nothing, inputs=nothing, outputs=nothing)


def dimensions(rows: GemmTable, sequences: Floats) -> Dimensions:
    """Return rows of A and count of the GEMMs that rows stand for (definitions.md, MoE)."""
    tokens = rows.rows * sequences
    is_dense = rows.experts == 0
    work = tokens * np.where(is_dense, 1.0, rows.experts_per_token)
    share = np.minimum(rows.experts_per_token / np.maximum(rows.experts, 1.0), 1.0)
    visited = np.where(is_dense, 1.0, rows.experts * (1.0 - (1.0 - share) ** tokens))
    reroute(rows, tokens, visited, work)
    m = np.maximum(work / np.where(visited > 0, visited, 1.0), 1.0)
    return Dimensions(m=m, instances=work / m)


def row_products(rows: AnyRows, machine: MachineTable) -> tuple[Product | None, ...]:
    """Return how each row's products run; `None` for rows that multiply nothing or cannot run."""
    kind = OperatorKind.GEMM
    if isinstance(rows, GemmTable):
        pairs = list(zip(rows.a_formats, rows.b_formats, strict=True))
    elif isinstance(rows, AttentionTable):
        pairs = list(zip(rows.query_formats, rows.kv_formats, strict=True))
        kind = OperatorKind.ATTENTION
    else:
        return (None,) * len(rows.names)
    found = {pair: resolve(machine, *pair, kind) for pair in dict.fromkeys(pairs)}
    return tuple(found[pair] for pair in pairs)


def one_design(product: Product, index: int, **changes: float) -> Product:
    """Return a product of one design of the batch, numbers of its engine changed.

    Args:
        product: How products run, for N designs.
        index: Which design.
        changes: New values of the engine's numbers.
    """
    engine = product.engine.take(np.array([index], dtype=np.intp))
    numbers = {**engine.numbers, **{name: np.array([value]) for name, value in changes.items()}}
    return replace(product, engine=replace(engine, numbers=numbers))
