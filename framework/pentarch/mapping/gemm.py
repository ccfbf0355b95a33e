"""Batches of GEMMs on batches of designs, behind one or two buffer boundaries.

C[M, N] = A[M, K] B[K, N]. Tiles are rectangular and any integer size, edge tiles move only real
words, a tile is kept while the loops that move it do not advance and dropped otherwise. A word of
C that is visited V times costs V - 1 spill writes and V - 1 spill reads beside its final write.
Every tile of the three operands is live at once: a * Tm * Tk + b * Tk * Tn + accumulator * Tm * Tn
bytes fit the buffer, or its half when tiles are double buffered.

Numbers are integers in float64: byte counts and products of dimensions stay below 2**52.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pentarch.errors import InputError
from pentarch.mapping.compilation import load_kernels
from pentarch.mapping.front_route import FrontRoute

Array = NDArray[np.float64]
Objective = Literal["time", "energy", "edp"]

OBJECTIVES: tuple[Objective, ...] = ("time", "energy", "edp")


@dataclass(frozen=True, slots=True)
class GemmRows:
    """R GEMMs on N designs; sizes are counts, word sizes bytes and may be fractions."""

    m: Array
    """(R, N); differs between designs when their batch size does."""
    k: Array
    """(R,)."""
    n: Array
    """(R,)."""
    a_bytes: Array
    """(R,): a word of A."""
    b_bytes: Array
    """(R,): a word of B."""
    out_bytes: Array
    """(R,): a finished word of C."""
    accumulator_bytes: Array
    """(R,): a word of C while it is in a buffer."""
    spill_bytes: Array
    """(R,): an unfinished word of C on its way out of a buffer or back."""
    b_resident: Array | NDArray[np.bool_] | None = None
    """(R, N): share of B that already lies in the outer buffer: it costs no memory traffic and,
    where that is all of B, no room there beyond what the caller has taken off the capacity. `None`
    means nowhere."""
    others_resident: NDArray[np.bool_] | None = None
    """(R, N): A and C lie there, too, and cost no memory traffic. `None` means nowhere."""


@dataclass(frozen=True, slots=True)
class TrafficEnergy:
    """What traffic costs, for the objectives energy and energy-delay product."""

    memory_j_per_byte: Array
    """(N,)."""
    sram_j_per_byte: Array
    """(N,): every byte read or written at the SRAM."""
    other_j: Array
    """(R, N): energy of the GEMM that no mapping changes."""


@dataclass(frozen=True, slots=True)
class RegisterPort:
    """Ports of the registers that traffic between SRAM and registers shares with other traffic."""

    bytes_per_s: Array
    """(N,)."""
    other_bytes: Array
    """(R, N): bytes that cross it beside the traffic of the mapping, which may take some off."""


@dataclass(frozen=True, slots=True)
class Waits:
    """Latency of a level that comes on top of its transfers, (R, N) each."""

    memory_s: Array
    sram_s: Array
    register_s: Array
    """Not counted without a `RegisterPort`."""


@dataclass(frozen=True, slots=True)
class TwoLevelBuffers:
    """N designs with an SRAM between memory and registers."""

    sram_bytes: Array
    """(N,)."""
    register_bytes: Array
    """(N,)."""
    memory_bytes_per_s: Array
    """(N,)."""
    sram_bytes_per_s: Array
    """(N,): shared by reads and writes on both sides."""
    sram_double: bool = False
    """Tiles in SRAM are double buffered, which halves the capacity."""
    register_double: bool = False
    """Tiles in registers are double buffered."""
    energy: TrafficEnergy | None = None
    """Needed for the objectives `"energy"` and `"edp"`."""
    port: RegisterPort | None = None
    """`None` where it never limits."""
    waits: Waits | None = None
    """`None` means none."""


@dataclass(frozen=True, slots=True)
class MappingDetail:
    """Tiles and loop orders; a stationarity 0, 1, 2 keeps B, C, A and streams along M, K, N."""

    outer: Array
    """(R, N): stationarity at the outer buffer."""
    tile: Array
    """(3, R, N): tile along M, K, N; zero where nothing fits."""
    inner: Array | None
    """(R, N): stationarity at the registers."""
    register_tile: Array | None
    """(3, R, N)."""


@dataclass(frozen=True, slots=True)
class GemmTraffic:
    """Bytes moved by R GEMMs on N designs, each array (R, N).

    Where `fits` is false the buffers cannot hold a tile of one, and the traffic is that of a tile
    of one: finite, and far above any mapping that fits.
    """

    memory_read_bytes: Array
    memory_write_bytes: Array
    memory_b_bytes: Array
    """Share of B in `memory_read_bytes`."""
    sram_read_bytes: Array | None
    """Towards registers and towards memory; `None` behind one boundary."""
    sram_write_bytes: Array | None
    """From registers and from memory; `None` behind one boundary."""
    fits: NDArray[np.bool_]
    detail: MappingDetail | None = None


class FrontStore:
    """Non-dominated traffic pairs by GEMM shape and buffer sizes, least recently used dropped.

    A front holds every useful trade of memory traffic against SRAM traffic. It depends on no
    bandwidth, clock or array, so it serves all designs, trials and sweeps that share its key. The
    caller owns the store and may share it between threads.

    Args:
        max_bytes: Memory kept for fronts; a typical front takes some 5 kB.
        shared_designs: Designs of one call that must share a key for a new front to pay off;
            below that each is searched directly. It changes speed only, never a result.
    """

    def __init__(self, *, max_bytes: int = 256 << 20, shared_designs: int = 50) -> None:
        self.max_bytes = max_bytes
        self.shared_designs = shared_designs
        self._fronts: OrderedDict[tuple[float, ...], Array] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._fronts)

    def find(self, key: tuple[float, ...]) -> Array | None:
        """Return the front of `key`, or `None`."""
        with self._lock:
            front = self._fronts.get(key)
            if front is not None:
                self._fronts.move_to_end(key)
            return front

    def keep(self, key: tuple[float, ...], front: Array) -> None:
        """Keep `front` under `key`, dropping the least recently used ones if need be."""
        with self._lock:
            if key in self._fronts:
                return
            self._fronts[key] = front
            self._bytes += front.nbytes
            while self._bytes > self.max_bytes and len(self._fronts) > 1:
                self._bytes -= self._fronts.popitem(last=False)[1].nbytes


def map_gemms(
    rows: GemmRows,
    buffers: TwoLevelBuffers,
    compute_s: Array,
    *,
    store: FrontStore | None = None,
    objective: Objective = "time",
    detail: bool = False,
) -> GemmTraffic:
    """Map every GEMM on every design behind memory -> SRAM -> registers.

    With D bytes at memory and Q between SRAM and registers, a mapping takes
    max(compute, D / memory rate, (Q + D) / SRAM rate, (Q + others) / register rate), each transfer
    with its latency; the mapping kept has the least
    (time, D, Q), or (energy, D, Q), or (energy * time, D, Q). It is exact in the class that
    `pentarch.mapping.scan` describes. Results do not depend on which designs are in the batch.

    Args:
        rows: The GEMMs.
        buffers: The designs.
        compute_s: (R, N): seconds that no mapping changes.
        store: Keeps fronts between calls; without one they live for this call.
        objective: What the mapping minimizes.
        detail: Also return tiles and stationarities.

    Raises:
        InputError: A size or rate is not positive and finite, a shape does not match, or an
            energy objective comes without energies.
    """
    m, table, on_chip = operator_arrays(rows)
    designs = _design_arrays(buffers, m.shape[1])
    loads = _load_arrays(buffers, compute_s, m, on_chip)
    rates = _rates(buffers, designs, m.shape, objective)
    kernels = load_kernels()
    fields = len(kernels.TRAFFIC_FIELDS) + (len(kernels.TILE_FIELDS) if detail else 0)
    out = np.empty((m.shape[0], fields, m.shape[1]))
    modes = np.ones(m.shape, dtype=np.int64)
    fronts = FrontRoute(table, designs, FrontStore() if store is None else store, objective)
    pair = fronts.number_buffers()
    for row in range(m.shape[0]):
        if pair is not None:
            rates[0], rates[4:8] = loads[3, row], loads[4:, row]
            if buffers.energy is not None:
                rates[10] = buffers.energy.other_j[row]
            key = fronts.keys(row, loads[:3, row], pair)
            if key is not None:
                kernels.select_from_fronts(
                    *fronts.gathered(), key, rates, OBJECTIVES.index(objective), out[row]
                )
                modes[row, key >= 0] = 0
    if modes.any():
        kernels.map_two_boundaries(table, loads, designs, modes, out)
    return _two_level_result(out, detail=detail)


def map_gemms_one_level(
    rows: GemmRows,
    buffer_bytes: Array,
    double: bool,
    *,
    uneven: bool = False,
    detail: bool = False,
) -> GemmTraffic:
    """Return the least memory traffic of every GEMM behind one buffer, exactly.

    Args:
        rows: The GEMMs.
        buffer_bytes: (N,).
        double: Tiles are double buffered, which halves the capacity.
        uneven: Let each operand sit at its own loop depth: the kept tile, one line of another
            operand, one word of the third. Not defined for a resident B.
        detail: Also return tiles and stationarities.

    Raises:
        InputError: A size is not positive and finite, or a shape does not match.
    """
    m, table, on_chip = operator_arrays(rows)
    if uneven and on_chip is not None:
        raise InputError(
            "Uneven tiles are not defined where operands are resident. Use even tiles "
            "(uneven=False), or leave b_resident and others_resident out."
        )
    capacity = _capacity(checked_array("buffer_bytes", buffer_bytes, (m.shape[1],)), double=double)
    kernels = load_kernels()
    out = np.empty((m.shape[0], len(kernels.ONE_LEVEL_FIELDS) if detail else 5, m.shape[1]))
    everything_crosses = np.empty((2, 0, 0))
    kernels.map_one_boundary(
        table, m, capacity, everything_crosses if on_chip is None else on_chip,
        1.0 if uneven else 0.0, out,
    )  # fmt: skip
    found = None
    if detail:
        found = MappingDetail(out[:, 5].copy(), _stacked(out, 6), None, None)
    return GemmTraffic(
        memory_read_bytes=out[:, 0] + out[:, 1] + out[:, 3],
        memory_write_bytes=out[:, 2].copy(),
        memory_b_bytes=out[:, 1].copy(),
        sram_read_bytes=None,
        sram_write_bytes=None,
        fits=out[:, 4] > 0.0,
        detail=found,
    )


def least_time_s(rows: GemmRows, buffers: TwoLevelBuffers, compute_s: Array) -> Array:
    """Return seconds (R, N) that no mapping of loop nests with even tiles can go below.

    Each boundary has its own one-boundary optimum, as if the other did not exist. The time of
    `map_gemms` over this, less one, is the gap that the mapping may still have.

    Raises:
        InputError: As `map_gemms`.
    """
    m, _, on_chip = operator_arrays(rows)
    designs = _design_arrays(buffers, m.shape[1])
    loads = _load_arrays(buffers, compute_s, m, on_chip)
    outer = map_gemms_one_level(rows, designs[0], False)
    plain = replace(rows, b_resident=None, others_resident=None)
    inner = map_gemms_one_level(plain, designs[1], False)
    d = outer.memory_read_bytes + outer.memory_write_bytes
    q = inner.memory_read_bytes + inner.memory_write_bytes
    memory_s = np.where(d > 0.0, d / designs[2] + loads[5], 0.0)
    ports_s = np.maximum((q + d) / designs[3] + loads[6], (q + loads[4]) / designs[4] + loads[7])
    return np.asarray(np.maximum(np.maximum(loads[3], memory_s), ports_s))


def _two_level_result(out: Array, *, detail: bool) -> GemmTraffic:
    found = None
    if detail:
        found = MappingDetail(
            out[:, 6].copy(), _stacked(out, 7), out[:, 10].copy(), _stacked(out, 11)
        )
    return GemmTraffic(
        memory_read_bytes=out[:, 0].copy(),
        memory_write_bytes=out[:, 1].copy(),
        memory_b_bytes=out[:, 2].copy(),
        sram_read_bytes=out[:, 3].copy(),
        sram_write_bytes=out[:, 4].copy(),
        fits=out[:, 5] > 0.0,
        detail=found,
    )


def _stacked(out: Array, first: int) -> Array:
    return np.ascontiguousarray(out[:, first : first + 3].swapaxes(0, 1))


def operator_arrays(rows: GemmRows) -> tuple[Array, Array, Array | None]:
    """Return m (R, N), the other row figures (R, 7) and what stays on chip, checked.

    The last is (2, R, N): the share of B, and 1 where A and C stay; `None` where nothing does.
    """
    m = np.asarray(rows.m, dtype=np.float64)
    if m.ndim != 2 or not m.size:
        raise InputError(
            f"GemmRows.m has the shape {m.shape}. Expected (rows, designs), at least one of each."
        )
    m = checked_array("GemmRows.m", m, m.shape, least=1.0)
    count = m.shape[0]
    table = np.empty((count, 7))
    names = ("k", "n", "a_bytes", "b_bytes", "out_bytes", "accumulator_bytes", "spill_bytes")
    for column, name in enumerate(names):
        least = 1.0 if column < 2 else None
        table[:, column] = checked_array(
            f"GemmRows.{name}", getattr(rows, name), (count,), least=least
        )
    if rows.b_resident is None and rows.others_resident is None:
        return m, table, None
    on_chip = np.zeros((2, *m.shape))
    if rows.b_resident is not None:
        on_chip[0] = rows.b_resident
        if not ((on_chip[0] >= 0.0) & (on_chip[0] <= 1.0)).all():
            raise InputError("GemmRows.b_resident leaves 0 to 1. Expected shares.")
    if rows.others_resident is not None:
        on_chip[1] = rows.others_resident
    return m, table, on_chip


def _load_arrays(
    buffers: TwoLevelBuffers, compute_s: Array, m: Array, on_chip: Array | None
) -> Array:
    """Return `kernels.LOAD_FIELDS`, shape (8, R, N)."""
    loads = np.zeros((8, *m.shape))
    loads[0] = m
    if on_chip is not None:
        loads[1:3] = on_chip
    loads[3] = checked_array("compute_s", compute_s, m.shape, least=0.0)
    if buffers.port is not None:
        loads[4] = buffers.port.other_bytes
    if buffers.waits is not None:
        loads[5], loads[6] = buffers.waits.memory_s, buffers.waits.sram_s
        if buffers.port is not None:
            loads[7] = buffers.waits.register_s
    return loads


def _design_arrays(buffers: TwoLevelBuffers, count: int) -> Array:
    """Return (5, N): capacities in use; memory, SRAM and register bytes per second."""
    designs = np.empty((5, count))
    names = ("sram_bytes", "register_bytes", "memory_bytes_per_s", "sram_bytes_per_s")
    for index, name in enumerate(names):
        least = 0.0 if index < 2 else None
        designs[index] = checked_array(
            f"TwoLevelBuffers.{name}", getattr(buffers, name), (count,), least=least
        )
    designs[0] = _capacity(designs[0], double=buffers.sram_double)
    designs[1] = _capacity(designs[1], double=buffers.register_double)
    designs[4] = np.inf
    if buffers.port is not None:
        designs[4] = checked_array("RegisterPort.bytes_per_s", buffers.port.bytes_per_s, (count,))
    return designs


def _rates(
    buffers: TwoLevelBuffers, designs: Array, shape: tuple[int, ...], objective: Objective
) -> Array:
    """Return (11, N) for the selection from fronts, what differs between rows still zero."""
    rates = np.zeros((11, shape[1]))
    rates[1:4] = designs[2:5]
    energy = buffers.energy
    if objective not in OBJECTIVES:
        raise InputError(
            f"{objective!r} is no objective of a mapping. Expected one of {OBJECTIVES}."
        )
    if energy is None:
        if objective != "time":
            raise InputError(
                f"The objective {objective!r} needs energies. Give TwoLevelBuffers.energy."
            )
        return rates
    rates[8] = checked_array("memory_j_per_byte", energy.memory_j_per_byte, shape[1:], least=0.0)
    rates[9] = checked_array("sram_j_per_byte", energy.sram_j_per_byte, shape[1:], least=0.0)
    checked_array("other_j", energy.other_j, shape, least=0.0)
    return rates


def _capacity(buffer_bytes: Array, *, double: bool) -> Array:
    return np.floor(buffer_bytes / 2.0) if double else buffer_bytes


def checked_array(
    name: str, values: Any, shape: tuple[int, ...], *, least: float | None = None
) -> Array:
    """Return `values` as the kernels take them: at least `least`, or positive when it is `None`."""
    array = np.require(values, dtype=np.float64, requirements=["C", "W", "A"])
    if array.shape != shape:
        raise InputError(f"{name} has the shape {array.shape}. Expected {shape}.")
    right = array > 0.0 if least is None else array >= least
    if not (right & np.isfinite(array)).all():
        wrong = array[~(right & np.isfinite(array))].flat[0]
        bound = "positive" if least is None else f"at least {least:g}"
        raise InputError(f"{name} contains {wrong}. Expected finite numbers, {bound}.")
    return array
