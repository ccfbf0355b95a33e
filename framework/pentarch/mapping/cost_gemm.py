"""Cost of GEMM rows on any machine: compute, traffic at every level, energy."""

from collections.abc import Mapping
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
from pentarch.mapping.cached_gemm import add_cached_gemm
from pentarch.mapping.compilation import load_sums
from pentarch.mapping.cost_deep import add_deep
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.gemm import (
    GemmRows,
    GemmTraffic,
    RegisterPort,
    TwoLevelBuffers,
    Waits,
    map_gemms,
    map_gemms_one_level,
)
from pentarch.mapping.routed import reroute
from pentarch.mapping.traffic import level_bandwidth, level_costs, vector_engine, vector_work
from pentarch.workload.formats import number_format


@dataclass(frozen=True, slots=True, eq=False)
class GemmGroup:
    """The GEMM rows of one pair of formats."""

    a_format: str
    """Number format of A."""
    b_format: str
    """Number format of B."""
    picked: npt.NDArray[np.intp]
    """Positions of the rows in their table, R of them."""
    columns: Mapping[str, Floats]
    """Columns of the table for these rows, shape (R, 1)."""
    words: Mapping[str, Floats]
    """Bytes per word by format column, shape (R,)."""
    has_experts: bool
    """Whether some row has experts."""


def gemm_groups(table: GemmTable) -> tuple[GemmGroup, ...]:
    """Return the rows of a table by the formats that they multiply."""
    members: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(zip(table.a_formats, table.b_formats, strict=True)):
        members.setdefault(pair, []).append(index)
    return tuple(
        GemmGroup(
            a_format=pair[0], b_format=pair[1], picked=np.array(rows, dtype=np.intp),
            columns={
                name: getattr(table, name)[rows][:, None]
                for name in ("rows", "k", "n", "experts", "experts_per_token")
            },
            words={
                name: bits_to_bytes(tuple(getattr(table, name)[row] for row in rows))
                for name in ("a_formats", "b_formats", "out_formats")
            },
            has_experts=bool((table.experts[rows] != 0).any()),
        )
        for pair, rows in members.items()
    )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class GemmShape:
    """R GEMM rows of one product on N designs."""

    rows: GemmTable
    """The table the rows are part of."""
    group: GemmGroup
    """The rows."""
    m: Floats
    """Rows of A of one instance, (R, N)."""
    instances: Floats
    """Equal GEMMs: experts that some token visits, (R, N)."""
    is_single: bool
    """Whether every row is one GEMM."""

    @property
    def picked(self) -> npt.NDArray[np.intp]:
        """Positions of the rows in the table, R of them."""
        return self.group.picked

    def column(self, name: str) -> Floats:
        """Return a column of the table for the picked rows, shape (R, 1)."""
        return self.group.columns[name]

    def word_bytes(self, name: str) -> Floats:
        """Return the bytes per word of one of the format columns, shape (R,)."""
        return self.group.words[name]

    def of_all(self, values: Floats) -> Floats:
        """Return a figure of one instance times the instances, (R, N)."""
        return values if self.is_single else values * self.instances

    @property
    def macs(self) -> Floats:
        """Multiply-accumulates without padding, (R, N)."""
        product: Floats = self.of_all(self.m) * self.column("k") * self.column("n")
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
    for group in request.memo.of(table, "gemm groups", lambda: gemm_groups(table)):
        picked, a_format, b_format = group.picked, group.a_format, group.b_format
        product = resolve(request.machine, a_format, b_format)
        if product is None:
            ledger.cannot_run(
                picked, f"no engine of {request.machine.name} multiplies {a_format} by {b_format}"
            )
            continue
        if product.note:
            ledger.note(product.note)
        shape = gemm_shape(table, group, request.sequences)
        ledger.add_macs(picked, shape.macs, product)
        # Units behind a cache convert inside their tiles (`mapping.cached_gemm`).
        if (
            product.dequantized
            and not is_cached(request.machine, product)
            and number_format(b_format).bits < number_format(product.format).bits
        ):
            _add_dequantization(ledger, request.machine, shape)
        _add_mapping(ledger, request, product, shape)
    return ledger.costs()


def gemm_shape(table: GemmTable, group: GemmGroup, sequences: Floats) -> GemmShape:
    """Return the GEMMs that rows stand for.

    Args:
        table: The table the rows are part of.
        group: The rows.
        sequences: Sequences at once of every row of the table, (rows, N).
    """
    own = sequences if len(group.picked) == len(table.names) else sequences[group.picked]
    tokens = group.columns["rows"] * own
    if not group.has_experts:
        m = np.maximum(tokens, 1.0)
        is_single = bool((tokens >= 1.0).all())
        instances = np.ones(m.shape) if is_single else tokens / m
        return GemmShape(rows=table, group=group, m=m, instances=instances, is_single=is_single)
    experts = group.columns["experts"]
    is_dense = experts == 0
    work = tokens * np.where(is_dense, 1.0, group.columns["experts_per_token"])
    # Expected distinct experts under uniform routing (definitions.md, MoE).
    share = np.minimum(work / (tokens * np.maximum(experts, 1.0)), 1.0)
    visited = np.where(is_dense, 1.0, experts * (1.0 - (1.0 - share) ** tokens))
    reroute(table, tokens, visited, work, picked=group.picked)
    m = np.maximum(work / visited, 1.0)
    return GemmShape(rows=table, group=group, m=m, instances=work / m, is_single=False)


def is_cached(machine: MachineTable, product: Product) -> bool:
    """Return whether an engine takes tiles from a menu through a cache."""
    outer = machine.levels[1:2]
    cached = bool(outer) and outer[0].management is Management.CACHE
    return cached and product.engine.tile_menu is not None


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
        add_cached_gemm(ledger, product, shape, buffers)
    elif kinds and all(kind is Management.SOFTWARE for kind in kinds):
        objective = request.runtime.objective
        if len(kinds) <= 2 and objective == "time":
            _add_optimum(ledger, request, product, shape, buffers)
        else:
            add_deep(ledger, request, product, shape, buffers, objective)
    else:
        order = " -> ".join(
            f"{level.name} ({level.management})" for level in machine.levels[: inner + 1]
        )
        raise InputError(
            f"Machine {machine.name} ({machine.backend}): no mapper for the levels {order}. Expected "
            "software-managed buffers, or a cache before an engine with a tile menu. A back-end can cost "
            "GEMM rows itself with `cost_rows`."
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
            held = request.resident_weights[shape.picked] >= 1.0
        ledger.restrict(shape.picked, held, f"{engine.feeds_from} cannot hold all weights")


def _add_optimum(
    ledger: RowLedger, request: RowRequest, product: Product, shape: GemmShape,
    buffers: tuple[Columns[Level], ...],
) -> None:  # fmt: skip
    memory, outer = request.machine.levels[0], buffers[0]
    k, n = shape.column("k"), shape.column("n")
    part_bytes = shape.of_all(shape.m * (n * number_format(shape.rows.spill_format).bytes))
    seconds, split = array_seconds(
        product, m=shape.m, k=k, n=n, instances=shape.instances,
        spill_s=2.0 * part_bytes / level_bandwidth(outer),
    )  # fmt: skip
    ledger.add_compute(shape.picked, product.engine.name, seconds, None, energy_known=True)
    rows = mapper_rows(request, shape)
    spilled = (split - 1.0) * part_bytes
    streamed = streamed_bytes(shape, product)
    if len(buffers) == 1:
        traffic = map_gemms_one_level(
            rows, _room(request, outer), outer.buffering is Buffering.DOUBLE
        )
        # What memory delivers is written here, and what it takes is read here.
        ledger.add_traffic(
            shape.picked, outer, streamed[0] + shape.of_all(traffic.memory_write_bytes),
            streamed[1] + shape.of_all(traffic.memory_read_bytes),
        )  # fmt: skip
    else:
        two, floor_s = two_buffers(request, shape, buffers, streamed, seconds)
        traffic = map_gemms(rows, two, floor_s, store=request.store)
        _add_inside(ledger, shape, buffers, streamed, traffic)
    for level in buffers:  # the arrays wait for partial sums: their time is the arrays'
        ledger.add_traffic(shape.picked, level, spilled, spilled, timed=False)
    ledger.restrict(shape.picked, traffic.fits, f"{outer.name} cannot hold the smallest tile")
    ledger.add_traffic(
        shape.picked, memory, shape.of_all(traffic.memory_read_bytes),
        shape.of_all(traffic.memory_write_bytes),
    )  # fmt: skip


def _room(request: RowRequest, outer: Columns[Level]) -> Floats:
    """Return the bytes of the outermost buffer that tiles can have, shape (N,)."""
    room: Floats = outer.instances * outer.size_bytes * outer.usable
    if request.reserved_bytes is not None:
        room = np.maximum(room - request.reserved_bytes, 0.0)
    return room


def two_buffers(
    request: RowRequest, shape: GemmShape, buffers: tuple[Columns[Level], ...],
    streamed: tuple[Floats, Floats], seconds: Floats,
) -> tuple[TwoLevelBuffers, Floats]:  # fmt: skip
    """Return what the mapping of one instance depends on, and the time that it does not change.

    Buffers of a unit whose reads and writes have a port each: the port that reads gives the arrays
    their operands and drains every finished word once; the one that writes takes the arrays' sums,
    what fills the buffer, and partial sums that go out and come back.

    Args:
        request: What is costed.
        shape: The GEMMs.
        buffers: Two of them.
        streamed: Bytes that the arrays read and write, (R, N) each.
        seconds: Time of the arithmetic, (R, N).
    """
    memory, (outer, inner) = request.machine.levels[0], buffers
    read, write = streamed
    finished = shape.of_all(final_bytes(shape))
    rate, floor_s, others = level_bandwidth(inner), seconds, read + write
    if inner.write_bytes_per_s is not None:
        floor_s = np.maximum(seconds, (read + finished) / rate + inner.latency_s)
        rate = inner.instances * inner.write_bytes_per_s * inner.stream_efficiency
        others = write - finished
    instances = shape.instances
    waits = None
    if any((level.latency_s > 0.0).any() for level in (memory, outer, inner)):
        waits = Waits(*(level.latency_s / instances for level in (memory, outer, inner)))
    return (
        TwoLevelBuffers(
            sram_bytes=_room(request, outer),
            register_bytes=inner.size_bytes * inner.usable,
            memory_bytes_per_s=level_bandwidth(memory),
            sram_bytes_per_s=level_bandwidth(outer),
            sram_double=outer.buffering is Buffering.DOUBLE,
            register_double=inner.buffering is Buffering.DOUBLE,
            port=RegisterPort(rate, others if shape.is_single else others / instances),
            waits=waits,
        ),
        floor_s if shape.is_single else floor_s / instances,
    )


def final_bytes(shape: GemmShape) -> Floats:
    """Return the bytes of C of one instance, as the mapper counts them, (R, N)."""
    final: Floats = np.ceil(shape.m) * shape.column("n") * shape.word_bytes("out_formats")[:, None]
    return final


def _add_inside(
    ledger: RowLedger, shape: GemmShape, buffers: tuple[Columns[Level], ...],
    streamed: tuple[Floats, Floats], traffic: GemmTraffic,
) -> None:  # fmt: skip
    """Add the traffic of both buffers; see `two_buffers` for the time of the inner one."""
    if traffic.sram_read_bytes is None or traffic.sram_write_bytes is None:
        raise TypeError("a two-boundary mapping came without SRAM traffic")
    (outer, inner), (read, write) = buffers, streamed
    to_sram, from_sram = (
        shape.of_all(traffic.sram_write_bytes),
        shape.of_all(traffic.sram_read_bytes),
    )
    ledger.add_traffic(shape.picked, outer, from_sram, to_sram)
    filled = from_sram - shape.of_all(traffic.memory_write_bytes)
    drained = to_sram - shape.of_all(traffic.memory_read_bytes)
    reads, writes = read + drained, write + filled
    if inner.write_bytes_per_s is None:
        ledger.add_traffic(shape.picked, inner, reads, writes)
        return
    ledger.add_traffic(shape.picked, inner, reads, writes, timed=False)
    again = drained - shape.of_all(final_bytes(shape))
    seconds, _ = level_costs(inner, reads - again, writes + again)
    ledger.add_level_time(shape.picked, inner.name, seconds)


def mapper_rows(request: RowRequest, shape: GemmShape) -> GemmRows:
    """Return the rows as the mapper takes them, with what lives on chip."""
    count, share, stays = len(shape.picked), request.resident_weights, request.resident_activations
    return GemmRows(
        m=np.ceil(shape.m), k=shape.column("k")[:, 0], n=shape.column("n")[:, 0],
        a_bytes=shape.word_bytes("a_formats"), b_bytes=shape.word_bytes("b_formats"),
        out_bytes=shape.word_bytes("out_formats"),
        accumulator_bytes=np.full(count, number_format(shape.rows.accumulator_format).bytes),
        spill_bytes=np.full(count, number_format(shape.rows.spill_format).bytes),
        b_resident=None if share is None else share[shape.picked],
        others_resident=None if stays is None else stays[shape.picked],
    )  # fmt: skip


def streamed_bytes(shape: GemmShape, product: Product) -> tuple[Floats, Floats]:
    """Return the bytes that the arrays read from and write to the buffer that feeds them.

    A word of A is read once for every `columns` columns of B. An output-stationary array reads a
    word of B once for every `rows` rows of A and writes each sum once; a weight-stationary one
    reads B once, and its sums come back for every further `rows` rows of B.
    """
    engine, sums = product.engine, load_sums()
    held = np.full(len(shape.picked), number_format(shape.rows.accumulator_format).bytes)
    words = [shape.word_bytes(name) for name in ("a_formats", "b_formats", "out_formats")]
    rows = np.column_stack([shape.column("k"), shape.column("n"), *words, held])
    out = np.empty((2, *shape.m.shape))
    sums.stream(
        sums.door(shape.m), rows, np.stack([engine.rows, engine.columns]),
        engine.stationary is Stationary.WEIGHT, out,
    )  # fmt: skip
    return shape.of_all(out[0]), shape.of_all(out[1])
