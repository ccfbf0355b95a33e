"""What was decided for one operator, and why: fusion, kernel, mapping."""

import numpy as np

from pentarch.evaluate.batches import overrides
from pentarch.evaluate.design_rows import DesignRows, dimensions
from pentarch.graph.table import AttentionTable, GemmTable, VectorTable
from pentarch.hardware.columns import Columns
from pentarch.hardware.parts import Buffering, EngineKind, Level, Management, Stationary
from pentarch.hardware.runtime import AttentionKernel
from pentarch.mapping.arithmetic import bits_to_bytes
from pentarch.mapping.single import GemmShape, map_gemm
from pentarch.workload.formats import number_format

_SAME = 1e-9
"""Relative difference of byte counts that is rounding."""


def fusion_of(view: DesignRows, row: int) -> tuple[bool, str] | None:
    """Return whether a row is fused, and what decides it; `None` for products with weights."""
    table, runtime = view.entry.rows, view.given.runtime
    if isinstance(table, AttentionTable):
        return _kernel(view, row)
    if not isinstance(table, VectorTable):
        return None
    function = table.functions[row]
    detail = view.entry.costs.detail.get("fused")
    wanted, reason = True, "rides on a neighbor and moves no activations of its own"
    if not table.fusable[row]:
        wanted, reason = False, f"{function} cannot ride on a neighbor"
    elif runtime.fused_functions is not None and function not in runtime.fused_functions:
        wanted, reason = False, f"runtime {runtime.name} does not fuse {function}"
    elif function == "quantize" and not runtime.quantize_fused:
        wanted, reason = False, f"runtime {runtime.name} quantizes in an operator of its own"
    is_fused = wanted if detail is None else bool(view.of(detail)[row] > 0.5)
    if wanted and not is_fused:
        machine = view.given.machine
        reason = f"{machine.name} cannot run {function} beside the neighbor's product"
    return is_fused, reason


def _kernel(view: DesignRows, row: int) -> tuple[bool, str] | None:
    """Return whether an attention keeps its scores on chip; `None` when its author does not say."""
    detail, runtime = view.entry.costs.detail.get("fused"), view.given.runtime
    if detail is None:
        return None
    fused = bool(view.of(detail)[row] > 0.5)
    if runtime.attention is not AttentionKernel.BEST:
        return fused, f"runtime {runtime.name} runs {runtime.attention} attention"
    if fused:
        return fused, "faster than writing the scores to memory and reading them back"
    return fused, "writing the scores to memory and reading them back is faster"


def mapping_of(view: DesignRows, row: int) -> dict[str, float | str]:
    """Return how a product runs, as far as its author says or the mapper can tell again."""
    product = view.products[row]
    if product is None:
        return {}
    engine = product.engine
    found: dict[str, float | str] = {"engine": engine.name, "format": product.format}
    if engine.kind is EngineKind.IN_MEMORY:
        found["dataflow"] = "weights in the array's own memory"
    elif engine.stationary is not Stationary.NONE:
        found["dataflow"] = f"{engine.stationary} stationary"
    keys_are_split = isinstance(view.entry.rows, AttentionTable)
    for name, values in view.entry.costs.detail.items():
        if name != "fused":
            shown = "kv_split" if keys_are_split and name == "split" else name
            found[shown] = float(view.of(values)[row])
    if engine.tile_menu is not None and "tile" in found:
        m, n, k = engine.tile_menu[int(found["tile"])]
        found["tile"] = f"m {m} k {k} n {n}"
    if isinstance(view.entry.rows, GemmTable) and "tile" not in found:
        found |= _loop_nest(view, view.entry.rows, row)
    return found


def _loop_nest(view: DesignRows, table: GemmTable, row: int) -> dict[str, float | str]:
    """Return tile and loop order behind the outermost buffer, where they explain the traffic.

    With two buffers a mapping with more memory traffic may be faster; then nothing is said.
    """
    buffer = scratchpad(view, row)
    if buffer is None or view.resident_bytes[row] > 0:
        return {}
    shape, instances = gemm_shape(view, table, row)
    is_double = buffer.buffering is Buffering.DOUBLE
    found = map_gemm(shape, room_in(view, buffer), convention="even_db" if is_double else "even")
    if found is None:
        return {}
    memory = view.given.machine.levels[0].name
    moved = float(view.read(memory)[row] + view.write(memory)[row])
    if abs(found.traffic_bytes * instances - moved) > _SAME * moved:
        return {}
    m, k, n = found.tile
    return {"tile": f"m {m:g} k {k:g} n {n:g}", "loops": found.order}


def gemm_shape(view: DesignRows, table: GemmTable, row: int) -> tuple[GemmShape, float]:
    """Return one instance of a GEMM row as the mapper of one buffer takes it, and how many run."""
    sizes = dimensions(table, view.sequences)
    words = {
        name: float(bits_to_bytes((getattr(table, f"{name}_formats")[row],))[0])
        for name in ("a", "b", "out")
    }
    shape = GemmShape(
        m=float(np.ceil(sizes.m[row])), k=float(table.k[row]), n=float(table.n[row]),
        a_bytes=words["a"], b_bytes=words["b"], out_bytes=words["out"],
        accumulator_bytes=number_format(table.accumulator_format).bytes,
        spill_bytes=number_format(table.spill_format).bytes,
    )  # fmt: skip
    return shape, float(sizes.instances[row])


def scratchpad(view: DesignRows, row: int) -> Columns[Level] | None:
    """Return the software-managed buffer next to memory that feeds a row's engine, or `None`."""
    product, machine = view.products[row], view.given.machine
    if product is None or len(machine.levels) < 2 or overrides(view.given.backend, "cost_rows"):
        return None
    fed_by_memory = product.engine.feeds_from == machine.levels[0].name
    if fed_by_memory or product.engine.kind is EngineKind.IN_MEMORY:
        return None
    buffer = machine.levels[1]
    return buffer if buffer.management is Management.SOFTWARE else None


def room_in(view: DesignRows, level: Columns[Level]) -> float:
    """Return the bytes that one operator can have in a level, beside what is resident."""
    index = view.index
    whole = float(level.instances[index] * level.size_bytes[index] * level.usable[index])
    return max(whole - float(view.given.residency.reserved[index]), 1.0)
