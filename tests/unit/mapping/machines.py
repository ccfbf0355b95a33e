"""Made-up machines with round numbers, and operator rows, for tests of the cost functions."""

from typing import Any

import numpy as np

from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import AttentionTable, CollectiveTable, GemmTable, RowCommon, VectorTable
from pentarch.hardware.columns import Columns, columns
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import (
    Cost,
    Engine,
    EngineKind,
    Level,
    Link,
    Management,
    Overhead,
    Power,
    Scope,
    Stationary,
)
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.costs import RowRequest

IDEAL = Runtime(name="ideal")
GHZ = 1e9
PJ = 1e-12


def level(name: str, length: int = 1, **changes: Any) -> Columns[Level]:
    """Return a level of 4 KiB with 32 GB/s; a read takes 2 pJ a byte, a write 3 pJ."""
    values: dict[str, Any] = {
        "scope": Scope.DEVICE, "size_bytes": 4096.0, "read_bytes_per_s": 32e9,
        "read_j_per_byte": 2 * PJ, "write_j_per_byte": 3 * PJ,
    }  # fmt: skip
    return columns(Level, length, name=name, **{**values, **changes})


def memory(length: int = 1, **changes: Any) -> Columns[Level]:
    """Return a memory with 4 GB/s and 20 ns; a read takes 10 pJ a byte, a write 20 pJ."""
    values: dict[str, Any] = {
        "size_bytes": 1e12, "read_bytes_per_s": 4e9, "latency_s": 20e-9,
        "read_j_per_byte": 10 * PJ, "write_j_per_byte": 20 * PJ,
    }  # fmt: skip
    return level("memory", length, **{**values, **changes})


def array(length: int = 1, **changes: Any) -> Columns[Engine]:
    """Return one 4 x 4 array at 1 GHz: fill 8 cycles, start 2, load 10, 1 pJ per bf16 or fp8 MAC."""
    values: dict[str, Any] = {
        "name": "array", "kind": EngineKind.MATRIX, "feeds_from": "buffer", "units": 1.0,
        "stationary": Stationary.OUTPUT, "clock_hz": GHZ, "rows": 4.0, "columns": 4.0,
        "macs_per_cycle": {"fp8": 16.0, "bf16": 16.0}, "mac_j": {"fp8": PJ, "bf16": PJ},
        "fill_cycles": 8.0, "load_cycles": 10.0, "tile_start_cycles": 2.0,
    }  # fmt: skip
    return columns(Engine, length, **{**values, **changes})


def vector(length: int = 1, **changes: Any) -> Columns[Engine]:
    """Return a vector engine of 8 lanes at 1 GHz; exp takes four cycles, every value 5 pJ."""
    rates = {"elementwise": 1.0, "reduce": 1.0, "convert": 1.0, "transcendental": 0.25}
    values: dict[str, Any] = {
        "name": "vector", "kind": EngineKind.VECTOR, "feeds_from": "buffer", "units": 8.0,
        "clock_hz": GHZ, "values_per_cycle": rates, "value_j": dict.fromkeys(rates, 5 * PJ),
    }  # fmt: skip
    return columns(Engine, length, **{**values, **changes})


def link(name: str = "link", length: int = 1, **changes: Any) -> Columns[Link]:
    """Return a link among 8 devices: 1 GB/s, 1 us a hop, 7 pJ a byte."""
    values: dict[str, Any] = {
        "scope": Scope.DEVICE, "degree": 8.0, "bytes_per_s": 1e9, "latency_s": 1e-6,
        "j_per_byte": 7 * PJ,
    }  # fmt: skip
    return columns(Link, length, name=name, **{**values, **changes})


def machine(length: int = 1, **changes: Any) -> MachineTable:
    """Return memory -> buffer -> one array, with a vector engine beside it."""
    values: dict[str, Any] = {
        "name": "made-up", "backend": "hand", "length": length,
        "levels": (memory(length), level("buffer", length)),
        "engines": (array(length), vector(length)), "links": (),
        "overhead": columns(Overhead, length), "power": columns(Power, length, static_w=1.0),
        "area": None, "cost": columns(Cost, length), "program": None, "budget": None,
        "provenance": {},
    }  # fmt: skip
    return MachineTable(**{**values, **changes})


MENU = ((128, 128, 32), (64, 128, 32), (16, 64, 32))
"""A short tile menu."""


def cached_machine(
    length: int = 1, *, cache: dict[str, Any] | None = None, **engine: Any
) -> MachineTable:
    """Return memory -> cache -> 16 units with a tile menu and a buffer each."""
    unit: dict[str, Any] = {
        "feeds_from": "own", "units": 16.0, "stationary": Stationary.NONE, "tile_menu": MENU,
        "macs_per_cycle": {"bf16": 256.0}, "mac_j": {"bf16": PJ}, "rows": 16.0, "columns": 16.0,
        "min_rows": 16.0, "tile_start_cycles": 100.0, "fill_cycles": 20.0, "issue_efficiency": 0.8,
        **engine,
    }  # fmt: skip
    held: dict[str, Any] = {
        "management": Management.CACHE, "size_bytes": 1e6, "read_bytes_per_s": 4e11,
        "requester_bytes_per_s": 3e10, **(cache or {}),
    }  # fmt: skip
    own = level("own", length, scope=Scope.UNIT, instances=unit["units"], size_bytes=65536.0)
    outer = memory(length, read_bytes_per_s=1e11, requester_bytes_per_s=2e10)
    return machine(
        length, levels=(outer, level("cache", length, **held), own),
        engines=(array(length, **unit), vector(length, feeds_from="own")),
    )  # fmt: skip


def _table(kind: type[Any], rows: tuple[dict[str, Any], ...], defaults: dict[str, Any]) -> Any:
    count = len(rows)
    common: dict[str, Any] = {
        "names": tuple(f"row{index}" for index in range(count)),
        "phases": (Phase.DECODE,) * count,
        "executions": np.ones(count),
        "stage": np.zeros(count, dtype=np.int64),
    }
    filled = [{**defaults, **row} for row in rows]
    for name, default in defaults.items():
        values = [row[name] for row in filled]
        if isinstance(default, bool):
            common[name] = np.array(values, dtype=np.bool_)
        elif isinstance(default, str):
            common[name] = tuple(values)
        else:
            common[name] = np.array(values, dtype=np.float64)
    return kind(**common)


def gemms(*rows: dict[str, Any]) -> GemmTable:
    """Return GEMM rows; by default 8 x 16 by 16 x 12, fp8 in and bf16 out."""
    table: GemmTable = _table(
        GemmTable, rows,
        {"rows": 8.0, "k": 16.0, "n": 12.0, "experts": 0.0, "experts_per_token": 0.0,
         "experts_total": 0.0, "a_formats": "fp8", "b_formats": "fp8", "out_formats": "bf16",
         "layers": 1.0, "streams_weights": True},
    )  # fmt: skip
    return table


def attentions(*rows: dict[str, Any]) -> AttentionTable:
    """Return attention rows; by default decode at context 10, 8 heads of width 4 on 2, in bf16."""
    derived = []
    for row in rows:
        tokens, keys = row.get("query_tokens", 1.0), row.get("keys", 10.0)
        causal = row.get("causal", True)
        pairs = tokens * keys - (tokens * (tokens - 1) / 2 if causal else 0.0)
        derived.append({"pairs": pairs, "dense_pairs": tokens * keys, **row})
    table: AttentionTable = _table(
        AttentionTable, tuple(derived),
        {"heads": 8.0, "kv_heads": 2.0, "head_dim": 4.0, "value_dim": 4.0, "query_tokens": 1.0,
         "keys": 10.0, "pairs": 0.0, "dense_pairs": 0.0, "causal": True, "query_formats": "bf16",
         "kv_formats": "bf16", "out_formats": "bf16"},
    )  # fmt: skip
    return table


def vectors(*rows: dict[str, Any]) -> VectorTable:
    """Return vector rows; by default 64 bytes in, 32 out, 16 bytes of gains, 8 elementwise values."""
    table: VectorTable = _table(
        VectorTable, rows,
        {"bytes_in": 64.0, "bytes_out": 32.0, "weight_bytes": 16.0, "elementwise": 8.0,
         "reduce": 0.0, "transcendental": 0.0, "convert": 0.0, "fusable": True,
         "functions": "rms_norm", "kinds": "vector"},
    )  # fmt: skip
    return table


def collectives(*rows: dict[str, Any]) -> CollectiveTable:
    """Return collective rows; by default an all-reduce of 1000 bytes among 8 devices."""
    table: CollectiveTable = _table(
        CollectiveTable, rows, {"functions": "all_reduce", "bytes": 1000.0, "degree": 8.0}
    )
    return table


def request(
    on: MachineTable, rows: RowCommon, *, sequences: Any = 1.0, **changes: Any
) -> RowRequest:
    """Return the request for rows, all with the same number of sequences or one per design."""
    kind = {
        GemmTable: OperatorKind.GEMM, AttentionTable: OperatorKind.ATTENTION,
        VectorTable: OperatorKind.VECTOR, CollectiveTable: OperatorKind.COLLECTIVE,
    }[type(rows)]  # fmt: skip
    shape = (len(rows.names), on.length)
    given: dict[str, Any] = {"runtime": IDEAL, **changes}
    return RowRequest(
        kind=kind, rows=rows, machine=on,
        sequences=np.broadcast_to(np.asarray(sequences, dtype=np.float64), shape).copy(), **given,
    )  # fmt: skip
