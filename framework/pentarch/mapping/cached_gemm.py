"""Cost of GEMM rows that a cache feeds: tiles from a menu, a kernel library, and what the cache holds."""

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.kernel_set import KernelOperator, KernelSet, KernelUse
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Level
from pentarch.hardware.runtime import Runtime
from pentarch.mapping.arithmetic import Product
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.cached_rates import CacheRates
from pentarch.mapping.costs import CacheState
from pentarch.mapping.menu import MenuChoice, MenuRules, MenuShape, choose_tiles, kept_share
from pentarch.mapping.routed import by_activation
from pentarch.mapping.traffic import vector_engine, vector_work
from pentarch.workload.formats import number_format

if TYPE_CHECKING:
    from pentarch.mapping.cost_gemm import GemmShape


def add_cached_gemm(
    ledger: RowLedger, product: Product, shape: "GemmShape", buffers: tuple[Columns[Level], ...]
) -> None:
    """Add GEMM rows of one pair of formats; routed experts are grouped GEMMs.

    Args:
        ledger: Where costs are collected.
        product: Engine and format.
        shape: The rows.
        buffers: The cache, then the units' own buffers.
    """
    routed = is_routed(shape)
    batched = (shape.rows.experts[shape.picked] > 1.0) & ~routed
    for operator, chosen in (
        (KernelOperator.GEMM, np.flatnonzero(~(routed | batched))),
        (KernelOperator.BATCHED, np.flatnonzero(batched)),
        (KernelOperator.MOE, np.flatnonzero(routed)),
    ):
        formats = shape.group.a_format, shape.group.b_format
        request = ledger.request
        for use, part in by_activation(shape.rows, shape.picked, chosen):
            kernel = request.memo.of(
                request.rows, ("kernel", operator, formats, use),
                partial(_kernel, request.runtime, operator, formats, use), request.runtime,
            )  # fmt: skip
            _add(ledger, product, _some(shape, part), buffers, kernel)


def _kernel(
    runtime: Runtime, operator: KernelOperator, formats: tuple[str, str], use: KernelUse
) -> KernelSet:
    """Return the kernels of a stack; those for one product where it has none for a batch."""
    if operator is KernelOperator.BATCHED and not any(
        entry.suits(operator, *formats, use) for entry in runtime.kernels
    ):
        return runtime.kernel(KernelOperator.GEMM, *formats, use)
    return runtime.kernel(operator, *formats, use)


def is_routed(shape: "GemmShape") -> npt.NDArray[np.bool_]:
    """Return which rows choose among experts, shape (R,): others are dense or visit all of them."""
    table, picked = shape.rows, shape.picked
    routed: npt.NDArray[np.bool_] = (table.experts[picked] > 0.0) & (
        table.experts_total[picked] > table.experts_per_token[picked]
    )
    return routed


def _some(shape: "GemmShape", chosen: npt.NDArray[np.intp]) -> "GemmShape":
    if len(chosen) == len(shape.picked):
        return shape
    group = shape.group
    part = replace(
        group, picked=group.picked[chosen],
        columns={name: column[chosen] for name, column in group.columns.items()},
        words={name: words[chosen] for name, words in group.words.items()},
    )  # fmt: skip
    return replace(shape, group=part, m=shape.m[chosen], instances=shape.instances[chosen])


def _add(
    ledger: RowLedger, product: Product, shape: "GemmShape", buffers: tuple[Columns[Level], ...],
    kernel: KernelSet,
) -> None:  # fmt: skip
    request, picked = ledger.request, shape.picked
    memory, cache = request.machine.levels[0], buffers[0]
    rules = MenuRules(
        kernel=kernel, rates=CacheRates.of(request.machine, product.engine, cache, kernel),
        converted_per_s=_converted(ledger, product, shape, kernel),
    )  # fmt: skip
    choice = choose_tiles(_menu_shape(ledger, shape, cache, kernel), product, cache, rules)
    ledger.set_kernel(picked, kernel)
    ledger.add_compute(picked, product.engine.name, choice.compute_s, None, energy_known=True)
    ledger.add_padding(picked, np.maximum(choice.executed_macs - shape.macs, 0.0))
    _add_traffic(ledger, shape, choice, buffers)
    ledger.add_level_time(picked, memory.name, choice.memory_s)
    ledger.add_level_time(picked, cache.name, choice.feed_s)
    serial = kernel.token_s * shape.instances if kernel.operator is KernelOperator.MOE else 0.0
    ledger.add_fixed(picked, choice.spill_s + kernel.start_s + serial)
    for name in ("tile", "split", "waves"):
        ledger.add_detail(picked, name, getattr(choice, name))


def _add_traffic(
    ledger: RowLedger, shape: "GemmShape", choice: MenuChoice, buffers: tuple[Columns[Level], ...]
) -> None:
    """Add bytes and energy; the times of the levels were found with the tile."""
    memory, cache, picked = ledger.request.machine.levels[0], buffers[0], shape.picked
    read, write = choice.memory_read_bytes, choice.memory_write_bytes
    ledger.add_traffic(picked, memory, read, write, timed=False)
    # What memory delivers is written into the cache, and what it takes is read from it.
    ledger.add_traffic(
        picked, cache, choice.cache_read_bytes + write, choice.cache_write_bytes + read, timed=False
    )
    if len(buffers) > 1:
        ledger.add_traffic(
            picked, buffers[-1], choice.unit_read_bytes, choice.cache_read_bytes, timed=False
        )


def _menu_shape(
    ledger: RowLedger, shape: "GemmShape", cache: Columns[Level], kernel: KernelSet
) -> MenuShape:
    words = {
        name: shape.word_bytes(name)[:, None] for name in ("a_formats", "b_formats", "out_formats")
    }
    sizes = (
        shape.m * shape.instances * shape.column("k") * words["a_formats"],
        shape.column("k") * shape.column("n") * shape.instances * words["b_formats"],
        shape.m * shape.instances * shape.column("n") * words["out_formats"],
    )
    state = ledger.request.cached
    room = cache.instances * cache.size_bytes * np.minimum(cache.usable * kernel.cache, 1.0)
    return MenuShape(
        m=shape.m, k=shape.column("k"), n=shape.column("n"), instances=shape.instances,
        a_bytes=words["a_formats"], b_bytes=words["b_formats"], out_bytes=words["out_formats"],
        spill_bytes=np.full((len(shape.picked), 1), number_format(shape.rows.spill_format).bytes),
        kept=None if state is None else kept_operands(state.take(shape.picked), sizes, room),
        grouped=kernel.operator is KernelOperator.MOE,
    )  # fmt: skip


def kept_operands(state: CacheState, sizes: tuple[Floats, Floats, Floats], room: Floats) -> Floats:
    """Return the share of A, B and C that the cache holds when a GEMM starts, shape (3, R, N).

    Args:
        state: What came before.
        sizes: Bytes of A, B and C, (R, N) each.
        room: Bytes of the cache in use, (N,).
    """
    a, b, c = sizes
    kept = np.zeros((3, *a.shape))
    kept[0] = np.where(a <= room / 2.0, 1.0, 0.0)
    if state.is_layer:
        kept[2] = np.where(c <= room / 2.0, 1.0, 0.0)
        return kept
    kept[1] = kept_share(state.between(b) + a + c, room)
    # A loop writes outputs after each set of weights, unless it is known what it touches.
    touched = state.between(b + c)
    if state.footprint is not None:
        touched = touched + np.where(np.isnan(state.footprint[:, None]), 0.0, c)
    kept[2] = kept_share(touched + a, room)
    return kept


def _converted(
    ledger: RowLedger, product: Product, shape: "GemmShape", kernel: KernelSet
) -> Floats | None:
    """Return the weights that one unit converts per second, (N,), where they are stored narrower.

    Units convert what they draw: the time is the tile's, the energy that of each weight once.
    """
    b_format, machine = shape.group.b_format, ledger.request.machine
    stored = number_format(b_format).bits
    if not product.dequantized or stored >= number_format(product.format).bits:
        return None
    engine = vector_engine(machine)
    if engine is None or "convert" not in engine.values_per_cycle:
        ledger.cannot_run(shape.picked, _no_converter(machine))
        return None
    values = shape.column("k") * shape.column("n") * shape.instances
    _, joules, _ = vector_work(engine, {"convert": values})
    ledger.add_compute(shape.picked, engine.name, np.zeros_like(values), joules)
    rate = engine.values_per_cycle["convert"] * engine.units * engine.clock_hz
    found: Floats = rate * engine.issue_efficiency * kernel.convert / product.engine.units
    return found


def _no_converter(machine: MachineTable) -> str:
    return f"{machine.name} has no vector engine to convert weights"
