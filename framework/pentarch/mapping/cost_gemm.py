"""Cost of GEMM rows on any machine: compute, traffic at every level, energy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.errors import InputError
from pentarch.graph.table import GemmTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, EngineKind, Level, Management, Stationary
from pentarch.mapping.arithmetic import Product, bits_to_bytes, resolve
from pentarch.mapping.arrays import array_seconds
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.gemm import GemmRows, TwoLevelBuffers, map_gemms, map_gemms_one_level
from pentarch.mapping.menu import MenuShape, choose_tiles
from pentarch.mapping.traffic import level_bandwidth, vector_engine, vector_work
from pentarch.workload.formats import number_format


@dataclass(frozen=True, slots=True, eq=False)
class GemmShape:
    """R GEMM rows of one product on N designs."""

    rows: GemmTable
    """The table the rows are part of."""
    picked: npt.NDArray[np.intp]
    """Positions of the rows in the table, R of them."""
    m: Floats
    """Rows of A of one instance, (R, N)."""
    instances: Floats
    """Equal GEMMs: experts that some token visits, (R, N)."""

    def column(self, name: str) -> Floats:
        """Return a column of the table for the picked rows, shape (R, 1)."""
        values: Floats = getattr(self.rows, name)[self.picked][:, None]
        return values

    def word_bytes(self, name: str) -> Floats:
        """Return the bytes per word of one of the format columns, shape (R,)."""
        names: tuple[str, ...] = getattr(self.rows, name)
        return bits_to_bytes(tuple(names[index] for index in self.picked))

    @property
    def macs(self) -> Floats:
        """Multiply-accumulates without padding, (R, N)."""
        product: Floats = self.m * self.instances * self.column("k") * self.column("n")
        return product


def cost_gemm(request: RowRequest) -> RowCosts:
    """Return the cost of GEMM rows.

    Software-managed buffers get the optimal tiles (`mapping.gemm`), a cache gets the engine's tile
    menu and wave reuse (`mapping.menu`).

    Raises:
        InputError: The machine's levels form a hierarchy that has no mapper.
    """
    table = request.rows
    if not isinstance(table, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(table).__name__}")
    ledger = RowLedger(request, count=len(table.names))
    by_format: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(zip(table.a_formats, table.b_formats, strict=True)):
        by_format.setdefault(pair, []).append(index)
    for (a_format, b_format), rows in by_format.items():
        picked = np.array(rows, dtype=np.intp)
        product = resolve(request.machine, a_format, b_format)
        if product is None:
            ledger.cannot_run(
                picked, f"no engine of {request.machine.name} multiplies {a_format} by {b_format}"
            )
            continue
        if product.note:
            ledger.note(product.note)
        shape = _shape(table, picked, request.sequences[picked])
        ledger.add_macs(picked, shape.macs, product)
        if (
            product.dequantized
            and number_format(b_format).bits < number_format(product.format).bits
        ):
            _add_dequantization(ledger, request.machine, shape)
        _add_mapping(ledger, request, product, shape)
    return ledger.costs()


def _shape(table: GemmTable, picked: npt.NDArray[np.intp], sequences: Floats) -> GemmShape:
    tokens = table.rows[picked][:, None] * sequences
    experts = table.experts[picked][:, None]
    is_dense = experts == 0
    work = tokens * np.where(is_dense, 1.0, table.experts_per_token[picked][:, None])
    # Expected distinct experts under uniform routing (definitions.md, MoE).
    share = np.minimum(work / (tokens * np.maximum(experts, 1.0)), 1.0)
    visited = np.where(is_dense, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
    m = np.maximum(work / visited, 1.0)
    return GemmShape(rows=table, picked=picked, m=m, instances=work / m)


def _add_dequantization(ledger: RowLedger, machine: MachineTable, shape: GemmShape) -> None:
    values = shape.column("k") * shape.column("n") * shape.instances
    engine = vector_engine(machine)
    if engine is None:
        ledger.cannot_run(shape.picked, f"{machine.name} has no vector engine to convert weights")
        return
    seconds, joules, missing = vector_work(engine, {"convert": values})
    if missing:
        ledger.cannot_run(shape.picked, f"{engine.name} of {machine.name} cannot convert weights")
        return
    ledger.add_compute(shape.picked, engine.name, seconds, joules)


def _add_mapping(
    ledger: RowLedger, request: RowRequest, product: Product, shape: GemmShape
) -> None:
    machine = request.machine
    inner = machine.level_index(product.engine.feeds_from)
    buffers = machine.levels[1 : inner + 1]
    kinds = tuple(level.management for level in buffers)
    if product.engine.kind is EngineKind.IN_MEMORY:
        _add_in_memory(ledger, request, product, shape)
    elif product.engine.tile_menu is not None and kinds[:1] == (Management.CACHE,):
        _add_menu(ledger, request, product, shape, buffers)
    elif kinds and all(kind is Management.SOFTWARE for kind in kinds) and len(kinds) <= 2:
        _add_optimum(ledger, request, product, shape, buffers)
    else:
        order = " -> ".join(
            f"{level.name} ({level.management})" for level in machine.levels[: inner + 1]
        )
        raise InputError(
            f"Machine {machine.name} ({machine.backend}): no mapper for the levels {order}. Expected one "
            "or two software-managed buffers, or a cache before an engine with a tile menu. A back-end "
            "can cost GEMM rows itself with `cost_rows`."
        )


def _add_in_memory(
    ledger: RowLedger, request: RowRequest, product: Product, shape: GemmShape
) -> None:
    """Weights stay where they are multiplied: activations come from memory once, results return.

    Reading the weights is part of the energy of a multiply-accumulate of such an engine.
    """
    engine, memory = product.engine, request.machine.levels[0]
    k, n = shape.column("k"), shape.column("n")
    nothing = np.zeros_like(shape.m)
    seconds, _ = array_seconds(
        product, m=shape.m, k=k, n=n, instances=shape.instances, spill_s=nothing
    )
    ledger.add_compute(shape.picked, engine.name, seconds, None, energy_known=True)
    inputs = shape.m * shape.instances * k * shape.word_bytes("a_formats")[:, None]
    outputs = shape.m * shape.instances * n * shape.word_bytes("out_formats")[:, None]
    ledger.add_traffic(shape.picked, memory, inputs, outputs)
    if engine.feeds_from != memory.name:
        held = nothing.astype(np.bool_)
        if request.resident_weights is not None:
            held = np.broadcast_to(request.resident_weights, shape.m.shape)
        ledger.restrict(shape.picked, held, f"{engine.feeds_from} cannot hold all weights")


def _add_optimum(
    ledger: RowLedger, request: RowRequest, product: Product, shape: GemmShape,
    buffers: tuple[Columns[Level], ...],
) -> None:  # fmt: skip
    memory, outer = request.machine.levels[0], buffers[0]
    k, n = shape.column("k"), shape.column("n")
    part_bytes = shape.m * n * number_format(shape.rows.spill_format).bytes * shape.instances
    seconds, split = array_seconds(
        product, m=shape.m, k=k, n=n, instances=shape.instances,
        spill_s=2.0 * part_bytes / level_bandwidth(outer),
    )  # fmt: skip
    ledger.add_compute(shape.picked, product.engine.name, seconds, None, energy_known=True)
    rows = _mapper_rows(request, shape)
    outer_bytes = outer.instances * outer.size_bytes * outer.usable
    if request.reserved_bytes is not None:
        outer_bytes = np.maximum(outer_bytes - request.reserved_bytes, 0.0)
    spilled = (split - 1.0) * part_bytes
    read, write = _streamed(shape, product)
    if len(buffers) == 1:
        traffic = map_gemms_one_level(rows, outer_bytes, outer.buffering is Buffering.DOUBLE)
        # What memory delivers is written here, and what it takes is read here.
        ledger.add_traffic(
            shape.picked, outer, read + traffic.memory_write_bytes * shape.instances,
            write + traffic.memory_read_bytes * shape.instances,
        )  # fmt: skip
    else:
        inner = buffers[1]
        traffic = map_gemms(
            rows,
            TwoLevelBuffers(
                sram_bytes=outer_bytes,
                register_bytes=inner.size_bytes * inner.usable,
                memory_bytes_per_s=level_bandwidth(memory),
                sram_bytes_per_s=level_bandwidth(outer),
                sram_double=outer.buffering is Buffering.DOUBLE,
                register_double=inner.buffering is Buffering.DOUBLE,
            ),
            seconds / shape.instances,
            store=request.store,
        )
        if traffic.sram_read_bytes is None or traffic.sram_write_bytes is None:
            raise TypeError("a two-boundary mapping came without SRAM traffic")
        ledger.add_traffic(
            shape.picked, outer, traffic.sram_read_bytes * shape.instances,
            traffic.sram_write_bytes * shape.instances,
        )  # fmt: skip
        filled = (traffic.sram_read_bytes - traffic.memory_write_bytes) * shape.instances
        drained = (traffic.sram_write_bytes - traffic.memory_read_bytes) * shape.instances
        ledger.add_traffic(shape.picked, inner, read + drained, write + filled)
    for level in buffers:  # the arrays wait for partial sums: their time is the arrays'
        ledger.add_traffic(shape.picked, level, spilled, spilled, timed=False)
    ledger.restrict(shape.picked, traffic.fits, f"{outer.name} cannot hold the smallest tile")
    ledger.add_traffic(
        shape.picked, memory, traffic.memory_read_bytes * shape.instances,
        traffic.memory_write_bytes * shape.instances,
    )  # fmt: skip


def _mapper_rows(request: RowRequest, shape: GemmShape) -> GemmRows:
    count, resident = len(shape.picked), request.resident_weights
    return GemmRows(
        m=np.ceil(shape.m), k=shape.column("k")[:, 0], n=shape.column("n")[:, 0],
        a_bytes=shape.word_bytes("a_formats"), b_bytes=shape.word_bytes("b_formats"),
        out_bytes=shape.word_bytes("out_formats"),
        accumulator_bytes=np.full(count, number_format(shape.rows.accumulator_format).bytes),
        spill_bytes=np.full(count, number_format(shape.rows.spill_format).bytes),
        b_resident=None if resident is None else np.broadcast_to(resident, shape.m.shape),
    )  # fmt: skip


def _streamed(shape: GemmShape, product: Product) -> tuple[Floats, Floats]:
    """Return the bytes that the arrays read from and write to the buffer that feeds them.

    A word of A is read once for every `columns` columns of B. An output-stationary array reads a
    word of B once for every `rows` rows of A and writes each sum once; a weight-stationary one
    reads B once, and its sums come back for every further `rows` rows of B.
    """
    engine = product.engine
    k, n = shape.column("k"), shape.column("n")
    a_words = shape.m * k * np.ceil(n / engine.columns)
    sums = shape.m * n
    b_words, returned = k * n * np.ceil(shape.m / engine.rows), np.zeros_like(sums)
    if engine.stationary is Stationary.WEIGHT:
        held_bytes = number_format(shape.rows.accumulator_format).bytes
        b_words, returned = k * n, (np.ceil(k / engine.rows) - 1.0) * sums * held_bytes
    read = (
        a_words * shape.word_bytes("a_formats")[:, None]
        + b_words * shape.word_bytes("b_formats")[:, None]
        + returned
    )
    write = sums * shape.word_bytes("out_formats")[:, None] + returned
    return read * shape.instances, write * shape.instances


def _add_menu(
    ledger: RowLedger, request: RowRequest, product: Product, shape: GemmShape,
    buffers: tuple[Columns[Level], ...],
) -> None:  # fmt: skip
    memory, cache = request.machine.levels[0], buffers[0]
    choice = choose_tiles(
        MenuShape(
            m=shape.m, k=shape.column("k"), n=shape.column("n"), instances=shape.instances,
            a_bytes=shape.word_bytes("a_formats")[:, None], b_bytes=shape.word_bytes("b_formats")[:, None],
            out_bytes=shape.word_bytes("out_formats")[:, None],
            spill_bytes=np.full((len(shape.picked), 1), number_format(shape.rows.spill_format).bytes),
        ),
        product, memory, cache,
    )  # fmt: skip
    ledger.add_compute(shape.picked, product.engine.name, choice.compute_s, None, energy_known=True)
    ledger.add_padding(shape.picked, np.maximum(choice.executed_macs - shape.macs, 0.0))
    units = choice.active_units
    ledger.add_traffic(
        shape.picked, memory, choice.memory_read_bytes, choice.memory_write_bytes, requesters=units
    )
    ledger.add_traffic(
        shape.picked, cache, choice.cache_read_bytes, choice.cache_write_bytes, requesters=units
    )
    # What memory delivers is written into the cache, and what it takes is read from it; that costs
    # energy, and its time is the memory's.
    ledger.add_traffic(
        shape.picked, cache, choice.memory_write_bytes, choice.memory_read_bytes, timed=False
    )
    if len(buffers) > 1:
        fill = choice.cache_read_bytes
        ledger.add_traffic(shape.picked, buffers[-1], choice.unit_read_bytes, fill, timed=False)
    for name in ("tile", "split", "waves"):
        ledger.add_detail(shape.picked, name, getattr(choice, name))
