"""The capacity with which an operator would fetch fewer bytes again, found by asking the engine."""

from dataclasses import fields, replace
from typing import Any

import numpy as np

from pentarch.evaluate.batches import overrides
from pentarch.evaluate.decisions import gemm_shape, room_in, scratchpad
from pentarch.evaluate.design_rows import DesignRows
from pentarch.evaluate.stage_costs import StageInput, cost_stage
from pentarch.evaluate.table_rows import select_rows
from pentarch.graph.table import GemmTable, OperatorTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Buffering, Level, Management
from pentarch.mapping.costs import RowMemo
from pentarch.mapping.single import GemmShape, traffic_staircase
from pentarch.results import Refetch

LARGEST = 1e5
"""Capacities up to so many times the present one are looked at."""

STEPS = 16
"""Steps of the staircase that are tried: where two buffers share the work, the mapping that is
fastest may keep its traffic at the first ones."""

_SAME = 1e-9
"""Relative difference of byte counts that is rounding."""


def refetch_of(view: DesignRows, row: int) -> Refetch | None:
    """Return a capacity with which a GEMM row would fetch fewer bytes again.

    Candidates behind a scratchpad are the steps at which the least traffic of one buffer falls; of a
    cache those at which it holds an operand, twice as much, or all. The engine maps the row with
    each of them. Of a scratchpad the least with less memory traffic is returned; of a cache, where
    every byte helps a little, the least that saves as much as any.

    Args:
        view: Rows of one kind, for one design.
        row: Which row.

    Returns:
        `None` where no candidate helps, or where the back-end costs its rows itself.
    """
    table, machine = view.entry.rows, view.given.machine
    if not isinstance(table, GemmTable) or overrides(view.given.backend, "cost_rows"):
        return None
    if len(machine.levels) < 2:
        return None
    buffer = machine.levels[1]
    room, candidates = _candidates(view, table, row, buffer)
    if not len(candidates):
        return None
    memory = machine.levels[0].name
    now = float(view.read(memory)[row] + view.write(memory)[row])
    then = _moved(view, select_rows(table, np.array([row], dtype=np.intp)), candidates - room)
    less = then < now * (1.0 - _SAME)
    if buffer.management is Management.CACHE:  # every byte helps a little: all that can be saved
        less &= then <= then.min() * (1.0 + _SAME)
    better = np.flatnonzero(less)
    if not len(better):
        return None
    first = int(better[0])
    return Refetch(
        level=buffer.name, capacity_bytes=float(candidates[first]), now_bytes=room,
        saved_bytes=now - float(then[first]),
    )  # fmt: skip


def _candidates(
    view: DesignRows, table: GemmTable, row: int, buffer: Columns[Level]
) -> tuple[float, Floats]:
    """Return the room that the row has in a buffer, and capacities to try, ascending."""
    shape, _ = gemm_shape(view, table, row)
    if scratchpad(view, row) is not None:
        room = room_in(view, buffer)
        halves = 2.0 if buffer.buffering is Buffering.DOUBLE else 1.0
        steps, _ = traffic_staircase(shape, room / halves, room / halves * LARGEST)
        return room, steps[1 : 1 + STEPS] * halves
    if buffer.management is not Management.CACHE:
        return 0.0, np.zeros(0)
    index = view.index
    room = float(buffer.instances[index] * buffer.size_bytes[index] * buffer.usable[index])
    wholes = 2.0 * np.sort(_operand_bytes(shape))
    return room, wholes[wholes > room]


def _operand_bytes(shape: GemmShape) -> Floats:
    found: Floats = np.array([shape.m * shape.k * shape.a_bytes, shape.k * shape.n * shape.b_bytes])
    return found


def _moved(view: DesignRows, rows: GemmTable, more_bytes: Floats) -> Floats:
    """Return the memory traffic of one row with more room in the outermost buffer.

    Args:
        view: Where the row is from.
        rows: The row alone.
        more_bytes: Bytes beside the room that it has, shape (N,).
    """
    given, index, count = view.given, view.index, len(more_bytes)
    machine = _taken(given.machine, index, count)
    first, buffer, *inner = machine.levels
    sizes = buffer.size_bytes + more_bytes / (buffer.instances * buffer.usable)
    larger = replace(buffer, numbers={**buffer.numbers, "size_bytes": sizes})
    wide = replace(
        _widened(given, index, count), table=_alone(given.table, rows), store=None, memo=RowMemo(),
        machine=replace(machine, levels=(first, larger, *inner)),
    )  # fmt: skip
    (entry,) = cost_stage(wide).kinds
    moved = np.zeros(count)
    for group in (entry.costs.read_bytes, entry.costs.write_bytes):
        if first.name in group:
            moved = moved + group[first.name][0]
    return moved


def _taken(machine: MachineTable, index: int, count: int) -> MachineTable:
    """Return `count` copies of one design of a machine."""
    where = np.full(count, index, dtype=np.intp)

    def take(part: Any) -> Any:
        return None if part is None else part.take(where)

    return replace(
        machine, length=count, levels=tuple(take(part) for part in machine.levels),
        engines=tuple(take(part) for part in machine.engines),
        links=tuple(take(part) for part in machine.links), overhead=take(machine.overhead),
        power=take(machine.power), area=take(machine.area), cost=take(machine.cost),
        program=take(machine.program), budget=take(machine.budget), extra=take(machine.extra),
    )  # fmt: skip


def _widened(given: StageInput, index: int, count: int) -> StageInput:
    """Return a stage's input with `count` copies of one design's load and residency."""

    def copies(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return np.full(count, value[index])
        if isinstance(value, dict):
            return {key: copies(entry) for key, entry in value.items()}
        return value

    residency = given.residency
    changes = {one.name: copies(getattr(residency, one.name)) for one in fields(residency)}
    return replace(
        given, concurrency=copies(given.concurrency), residency=replace(residency, **changes)
    )


def _alone(table: OperatorTable, rows: GemmTable) -> OperatorTable:
    """Return an operator table with nothing but some GEMM rows."""
    none = np.zeros(0, dtype=np.intp)
    return replace(
        table, gemm=rows, attention=select_rows(table.attention, none),
        vector=select_rows(table.vector, none), collective=select_rows(table.collective, none),
    )  # fmt: skip
