"""Cost of GEMM rows behind any number of software-managed buffers, for any objective."""

from typing import TYPE_CHECKING

import numpy as np

from pentarch.errors import InputError
from pentarch.graph.table import GemmTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Level, Management, Scope
from pentarch.mapping.arithmetic import Product, resolve
from pentarch.mapping.arrays import array_seconds
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.deep import DeepBuffers, DeepLevel, DeepTraffic, map_gemms_deep
from pentarch.mapping.gemm import Objective
from pentarch.mapping.resident import fully_resident, memory_bytes
from pentarch.mapping.traffic import level_bandwidth
from pentarch.workload.formats import number_format

if TYPE_CHECKING:
    from pentarch.mapping.cost_gemm import GemmShape

POOLED = (Scope.SYSTEM, Scope.BOARD, Scope.DEVICE)
"""Scopes of levels whose instances hold the tiles together; elsewhere each holds its own."""


def add_deep(
    ledger: RowLedger, request: RowRequest, product: Product, shape: "GemmShape",
    buffers: tuple[Columns[Level], ...], objective: Objective = "time",
) -> None:  # fmt: skip
    """Map GEMM rows on a hierarchy of software-managed buffers and add what that costs.

    Args:
        ledger: Takes the costs.
        request: What is costed.
        product: Engine and format.
        shape: The GEMMs.
        buffers: From the outermost to the one that feeds the engine.
        objective: What the mapping minimizes.

    Raises:
        InputError: An energy objective on a machine that does not state its energies.
    """
    picked, outer = shape.picked, buffers[0]
    seconds, spilled = busy(product, shape, outer)
    ledger.add_compute(picked, product.engine.name, seconds, None, energy_known=True)
    streamed = _stream(shape, product)
    found = map_on(request, product, shape, buffers, objective)
    taken, given = _at_memory(request, shape, found)
    for at, level in enumerate(buffers, start=1):
        read, write = shape.of_all(found.read_bytes[at]), shape.of_all(found.write_bytes[at])
        if level is outer:  # what stays on chip is neither filled nor drained
            read = read - shape.of_all(found.write_bytes[0]) + given
            write = write - shape.of_all(found.read_bytes[0]) + taken
        if level is buffers[-1]:
            read, write = read + streamed[0], write + streamed[1]
        ledger.add_traffic(picked, level, read, write)
        # The arrays wait for partial sums: their time is the arrays'.
        ledger.add_traffic(picked, level, spilled, spilled, timed=False)
    names = ", ".join(level.name for level in buffers)
    ledger.restrict(picked, found.fits, f"one of {names} cannot hold the smallest tile")
    ledger.add_traffic(picked, request.machine.levels[0], taken, given)
    ledger.add_detail(picked, "mapping_gap", found.gap)


def _at_memory(
    request: RowRequest, shape: "GemmShape", found: DeepTraffic
) -> tuple[Floats, Floats]:
    """Return the bytes of all instances that memory delivers and takes; weights are moved once.

    Refetches of weights are not told apart from those of other operands: of a part that lives on
    chip only the first fetch is saved.
    """
    once = shape.column("k") * shape.column("n") * shape.word_bytes("b_formats")[:, None]
    whole = fully_resident(request, shape.picked, shape.m.shape)
    streamed = np.broadcast_to(once, shape.m.shape) if whole is None else np.where(whole, 0.0, once)
    taken, given = memory_bytes(
        request, shape.picked, (found.read_bytes[0], found.write_bytes[0]), (streamed, once)
    )
    return shape.of_all(taken), shape.of_all(given)


def cost_gemm_for(request: RowRequest, objective: Objective) -> RowCosts:
    """Return the cost of GEMM rows with mappings that minimize an objective.

    Raises:
        InputError: A product runs behind a cache or in memory, where no mapping is chosen by
            objective, or the machine does not state its energies.
    """
    from pentarch.mapping.cost_gemm import _add_dequantization, gemm_groups, gemm_shape

    table = request.rows
    if not isinstance(table, GemmTable):
        raise TypeError(f"GEMM rows expected, got {type(table).__name__}")
    ledger = RowLedger(request, count=len(table.names))
    for group in gemm_groups(table):
        product = resolve(request.machine, group.a_format, group.b_format)
        if product is None:
            ledger.cannot_run(
                group.picked,
                f"no engine of {request.machine.name} multiplies {group.a_format} by "
                f"{group.b_format}",
            )
            continue
        if product.note:
            ledger.note(product.note)
        shape = gemm_shape(table, group, request.sequences)
        ledger.add_macs(group.picked, shape.macs, product)
        narrow = number_format(group.b_format).bits < number_format(product.format).bits
        if product.dequantized and narrow:
            _add_dequantization(ledger, request.machine, shape)
        buffers = software_buffers(request.machine, product)
        if buffers is None:
            raise InputError(
                f"Machine {request.machine.name} ({request.machine.backend}) has a cache or no "
                f"buffer before {product.engine.name}: its tiles are not chosen by {objective}. "
                "Leave the objective at time."
            )
        add_deep(ledger, request, product, shape, buffers, objective)
    return ledger.costs()


def software_buffers(machine: MachineTable, product: Product) -> tuple[Columns[Level], ...] | None:
    """Return the buffers between memory and an engine, `None` unless software manages them all."""
    inner = machine.level_index(product.engine.feeds_from)
    buffers = machine.levels[1 : inner + 1]
    managed = all(level.management is Management.SOFTWARE for level in buffers)
    return buffers if buffers and managed else None


def is_deep(request: RowRequest) -> bool:
    """Return whether the first row runs behind more than two software-managed buffers."""
    table = request.rows
    if not isinstance(table, GemmTable):
        return False
    product = resolve(request.machine, table.a_formats[0], table.b_formats[0])
    buffers = None if product is None else software_buffers(request.machine, product)
    return buffers is not None and len(buffers) > 2


def busy(product: Product, shape: "GemmShape", outer: Columns[Level]) -> tuple[Floats, Floats]:
    """Return the seconds of the arrays and the bytes of the partial sums of a split k, (R, N)."""
    k, n = shape.column("k"), shape.column("n")
    part_bytes = shape.of_all(shape.m * (n * number_format(shape.rows.spill_format).bytes))
    seconds, split = array_seconds(
        product, m=shape.m, k=k, n=n, instances=shape.instances,
        spill_s=2.0 * part_bytes / level_bandwidth(outer),
    )  # fmt: skip
    return seconds, (split - 1.0) * part_bytes


def map_on(
    request: RowRequest, product: Product, shape: "GemmShape",
    buffers: tuple[Columns[Level], ...], objective: Objective = "time", *, detail: bool = False,
) -> DeepTraffic:  # fmt: skip
    """Return the mappings of one instance of each GEMM on the machine of a request."""
    from pentarch.mapping.cost_gemm import mapper_rows

    seconds, _ = busy(product, shape, buffers[0])
    read, write = _stream(shape, product)
    capacities = tile_bytes(request, buffers)
    memory = request.machine.levels[0]
    return map_gemms_deep(
        mapper_rows(request, shape),
        DeepBuffers(
            (
                _deep_level(memory, None),
                *(_deep_level(*pair) for pair in zip(buffers, capacities, strict=True)),
            ),
            seconds / shape.instances, read / shape.instances, write / shape.instances,
        ),
        objective=objective, detail=detail,
    )  # fmt: skip


def tile_bytes(request: RowRequest, buffers: tuple[Columns[Level], ...]) -> list[Floats]:
    """Return the bytes that tiles have in each buffer, (N,) each, not yet halved.

    The outermost buffer holds tiles in all of its instances together, less what is reserved; of a
    buffer that belongs to a die, a cluster or a unit each instance holds tiles of its own.
    """
    found = []
    for at, level in enumerate(buffers):
        size = level.size_bytes * level.usable
        if at == 0 or level.scope in POOLED:
            size = level.instances * size
        if at == 0 and request.reserved_bytes is not None:
            size = np.maximum(size - request.reserved_bytes, 0.0)
        found.append(size)
    return found


def _deep_level(level: Columns[Level], size: Floats | None) -> DeepLevel:
    writes = level.write_bytes_per_s
    if writes is not None:
        writes = level.instances * writes * level.stream_efficiency
    return DeepLevel(
        size, level_bandwidth(level), writes, level.read_j_per_byte, level.write_j_per_byte,
        double=level.buffering is Buffering.DOUBLE,
    )  # fmt: skip


def _stream(shape: "GemmShape", product: Product) -> tuple[Floats, Floats]:
    from pentarch.mapping.cost_gemm import streamed_bytes

    return streamed_bytes(shape, product)
