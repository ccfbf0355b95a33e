"""Random and table GEMMs for the tests of the mapping engine."""

import csv
from pathlib import Path
from typing import Any

import numpy as np

from pentarch.mapping.gemm import Array, GemmRows, GemmTraffic, TwoLevelBuffers
from pentarch.mapping.single import GemmShape

DATA = Path(__file__).parents[2] / "validation" / "data"
WORDS = [(1, 1, 1, 1, 1), (1, 1, 1, 4, 4), (2, 2, 2, 4, 4), (2, 0.53125, 2, 4, 4), (2, 1, 1, 4, 2)]
"""Bytes of a, b, out, accumulator, spill."""


def oracle(name: str) -> list[dict[str, Any]]:
    """Return the rows of a validation file, numbers as floats, blanks as None."""
    with (DATA / name).open() as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [{key: _value(text) for key, text in row.items()} for row in rows]


def _value(text: str) -> float | str | None:
    try:
        return float(text) if text else None
    except ValueError:
        return text


def rows_of(shape: GemmShape, designs: int = 1) -> GemmRows:
    """Return one `GemmShape` as rows for `designs` designs."""
    one = [np.array([size], dtype=float) for size in _fields(shape)]
    return GemmRows(np.full((1, designs), float(shape.m)), *one[1:])


def _fields(shape: GemmShape) -> list[float]:
    return [getattr(shape, name) for name in shape.__dataclass_fields__]


def random_shape(generator: np.random.Generator, largest: int) -> GemmShape:
    """Return a GEMM with dimensions up to `largest`, log-uniform."""
    dims = np.floor(np.exp(generator.uniform(0, np.log(largest + 1), 3)))
    words = WORDS[generator.integers(len(WORDS))]
    return GemmShape(*(float(size) for size in dims), *(float(word) for word in words))


def gpt3_rows(designs: int, batch: int = 8) -> GemmRows:
    """Return GPT-3 175B: five prefill GEMMs of 2048 tokens and five decode GEMMs."""
    k = np.array([12288, 12288, 12288, 49152, 12288] * 2, dtype=float)
    n = np.array([36864, 12288, 49152, 12288, 50257] * 2, dtype=float)
    m = np.array([batch * 2048] * 5 + [batch] * 5, dtype=float)
    one = np.ones(10)
    return GemmRows(np.repeat(m[:, None], designs, axis=1), k, n, one, one, one, 4 * one, 4 * one)


def random_buffers(
    generator: np.random.Generator, designs: int, *, grid: bool = False
) -> tuple[TwoLevelBuffers, Array]:
    """Return designs with some ratio between the two bandwidths, and MACs per second."""
    sram = np.floor(np.exp(generator.uniform(np.log(2**18), np.log(2**26), designs)))
    if grid:
        sram = generator.choice(2.0 ** np.arange(18, 22), designs)
    registers = generator.choice(2.0 ** np.arange(11, 15), designs)
    memory = np.exp(generator.uniform(np.log(5e10), np.log(4e12), designs))
    onchip = memory * np.exp(generator.uniform(np.log(2), np.log(30), designs))
    macs = np.exp(generator.uniform(np.log(1e13), np.log(1e15), designs))
    return TwoLevelBuffers(sram, registers, memory, onchip), macs


def compute_seconds(rows: GemmRows, macs_per_s: Array) -> Array:
    """Return seconds of pure compute, (R, N)."""
    return rows.m * (rows.k * rows.n)[:, None] / macs_per_s


def pick(
    rows: GemmRows, buffers: TwoLevelBuffers, designs: Any
) -> tuple[GemmRows, TwoLevelBuffers]:
    """Return rows and buffers of some designs only."""
    words = (rows.a_bytes, rows.b_bytes, rows.out_bytes, rows.accumulator_bytes, rows.spill_bytes)
    resident = None if rows.b_resident is None else rows.b_resident[:, designs]
    few = GemmRows(rows.m[:, designs], rows.k, rows.n, *words, b_resident=resident)
    sizes = (buffers.sram_bytes, buffers.register_bytes)
    speeds = (buffers.memory_bytes_per_s, buffers.sram_bytes_per_s)
    return few, TwoLevelBuffers(*(values[designs] for values in (*sizes, *speeds)))


def as_bytes(traffic: GemmTraffic) -> bytes:
    """Return every figure of a result as bytes, for comparison to the last bit."""
    arrays = [
        traffic.memory_read_bytes,
        traffic.memory_write_bytes,
        traffic.memory_b_bytes,
        traffic.sram_read_bytes,
        traffic.sram_write_bytes,
        traffic.fits,
    ]
    detail = traffic.detail
    if detail is not None:
        arrays += [detail.outer, detail.tile, detail.inner, detail.register_tile]
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def memory_and_register_bytes(traffic: GemmTraffic) -> tuple[Array, Array]:
    """Return D, and Q without the share that D has in SRAM traffic."""
    memory = traffic.memory_read_bytes + traffic.memory_write_bytes
    return memory, traffic.sram_read_bytes + traffic.sram_write_bytes - memory
