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

Array = NDArray[np.float64]
Objective = Literal["time", "energy", "edp"]

OBJECTIVES: tuple[Objective, ...] = ("time", "energy", "edp")
FIRST_POINTS = 512
"""Points a front has room for before its first growth."""


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
    b_resident: NDArray[np.bool_] | None = None
    """(R, N): B already lies in the outer buffer: it costs no memory traffic and no room there
    beyond what the caller has taken off the capacity. `None` means nowhere."""


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
    max(compute, D / memory rate, (Q + D) / SRAM rate); the mapping kept has the least
    (time, D, Q), or (energy, D, Q), or (energy * time, D, Q). It is exact in the class that
    `pentarch.mapping.scan` describes. Results do not depend on which designs are in the batch.

    Args:
        rows: The GEMMs.
        buffers: The designs.
        compute_s: (R, N): seconds of pure compute.
        store: Keeps fronts between calls; without one they live for this call.
        objective: What the mapping minimizes.
        detail: Also return tiles and stationarities.

    Raises:
        InputError: A size or rate is not positive and finite, a shape does not match, or an
            energy objective comes without energies.
    """
    m, table, resident = operator_arrays(rows)
    designs = _design_arrays(buffers, m.shape[1])
    compute = checked_array("compute_s", compute_s, m.shape, least=0.0)
    rates = _rates(buffers, designs, m.shape, objective)
    kernels = load_kernels()
    fields = len(kernels.TRAFFIC_FIELDS) + (len(kernels.TILE_FIELDS) if detail else 0)
    out = np.empty((m.shape[0], fields, m.shape[1]))
    modes = np.where(resident, 2, 1).astype(np.int64)
    fronts = _FrontRoute(table, designs, FrontStore() if store is None else store, objective)
    pair = fronts.number_buffers()
    for row in range(m.shape[0]):
        if pair is not None:
            rates[0] = compute[row]
            if buffers.energy is not None:
                rates[5] = buffers.energy.other_j[row]
            key = fronts.keys(row, m[row], resident[row], pair)
            if key is not None:
                kernels.select_from_fronts(
                    *fronts.gathered(), key, rates, OBJECTIVES.index(objective), out[row]
                )
                modes[row, key >= 0] = 0
    if modes.any():
        kernels.map_two_boundaries(table, m, designs, compute, modes, out)
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
    m, table, resident = operator_arrays(rows)
    if uneven and resident.any():
        raise InputError(
            "Uneven tiles are not defined where B is resident. Use even tiles (uneven=False), "
            "or leave b_resident out."
        )
    capacity = _capacity(checked_array("buffer_bytes", buffer_bytes, (m.shape[1],)), double=double)
    kernels = load_kernels()
    out = np.empty((m.shape[0], len(kernels.ONE_LEVEL_FIELDS) if detail else 5, m.shape[1]))
    kernels.map_one_boundary(
        table, m, capacity, resident.astype(np.float64), 1.0 if uneven else 0.0, out
    )
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
    m, _, _ = operator_arrays(rows)
    designs = _design_arrays(buffers, m.shape[1])
    compute = checked_array("compute_s", compute_s, m.shape, least=0.0)
    outer = map_gemms_one_level(rows, designs[0], False)
    inner = map_gemms_one_level(replace(rows, b_resident=None), designs[1], False)
    d = outer.memory_read_bytes + outer.memory_write_bytes
    q = inner.memory_read_bytes + inner.memory_write_bytes
    memory_s: Array = np.maximum(compute, d / designs[2])
    return np.asarray(np.maximum(memory_s, (q + d) / designs[3]))


class _FrontRoute:
    """Finds or builds the fronts that the designs of one call share."""

    def __init__(
        self, table: Array, designs: Array, store: FrontStore, objective: Objective
    ) -> None:
        self.table = table
        self.designs = designs
        self.store = store
        # Only the time objective has a direct route.
        self.least = store.shared_designs if objective == "time" else 1
        self.found: list[Array] = []

    def number_buffers(self) -> NDArray[np.int64] | None:
        """Return a number per design for its buffer sizes, or `None` if no front can pay off."""
        if self.designs.shape[1] < self.least and not len(self.store):
            return None
        _, sram = np.unique(self.designs[0], return_inverse=True)
        sizes, registers = np.unique(self.designs[1], return_inverse=True)
        _, pair = np.unique(sram * len(sizes) + registers, return_inverse=True)
        return np.asarray(pair, dtype=np.int64)

    def keys(
        self, row: int, m: Array, resident: NDArray[np.bool_], pair: NDArray[np.int64]
    ) -> NDArray[np.int64] | None:
        """Return the number of each design's front (-1 for none), or `None` if there are none."""
        group = pair
        if (m != m[0]).any():
            sizes, number = np.unique(m, return_inverse=True)
            group = group * len(sizes) + number
        if resident.any():
            group = group * 2 + resident
        _, first, member, count = np.unique(
            group, return_index=True, return_inverse=True, return_counts=True
        )
        self.found = []
        numbers = np.full(len(first), -1, dtype=np.int64)
        for index, design in enumerate(first):
            if count[index] < self.least and not len(self.store):
                continue
            key = (
                float(m[design]),
                *self.table[row].tolist(),
                float(resident[design]),
                *self.designs[:2, design].tolist(),
            )
            front = self.store.find(key)
            if front is None and count[index] >= self.least:
                front = _build_front(key)
                self.store.keep(key, front)
            if front is not None:
                numbers[index] = len(self.found)
                self.found.append(front)
        return np.asarray(numbers[member]) if self.found else None

    def gathered(self) -> tuple[Array, NDArray[np.int64]]:
        """Return the fronts of the last row side by side, and where each begins and ends."""
        ends = np.cumsum([0, *(front.shape[1] for front in self.found)])
        return np.concatenate(self.found, axis=1), ends.astype(np.int64)


def _build_front(key: tuple[float, ...]) -> Array:
    """Return FRONT_FIELDS of all non-dominated mappings of `key`: M, row, resident, buffers."""
    kernels = load_kernels()
    table = np.array([key[1:8]])
    designs = np.array([[key[9]], [key[10]], [1.0], [1.0]])
    modes = np.array([[4 if key[8] else 3]], dtype=np.int64)
    room = FIRST_POINTS
    while True:
        front = np.empty((1, len(kernels.FRONT_FIELDS), room))
        points: int = kernels.map_two_boundaries(
            table, np.array([[key[0]]]), designs, np.zeros((1, 1)), modes, front
        )
        if points >= 0:
            return front[0, :, :points].copy()
        room *= 4


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


def operator_arrays(rows: GemmRows) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Return m (R, N), the other row figures (R, 7) and residency (R, N), checked."""
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
    resident = np.zeros(m.shape, dtype=np.bool_)
    if rows.b_resident is not None:
        resident[:] = rows.b_resident
    return m, table, resident


def _design_arrays(buffers: TwoLevelBuffers, count: int) -> Array:
    """Return (4, N): capacities in use, memory and SRAM bytes per second."""
    designs = np.empty((4, count))
    names = ("sram_bytes", "register_bytes", "memory_bytes_per_s", "sram_bytes_per_s")
    for index, name in enumerate(names):
        least = 0.0 if index < 2 else None
        designs[index] = checked_array(
            f"TwoLevelBuffers.{name}", getattr(buffers, name), (count,), least=least
        )
    designs[0] = _capacity(designs[0], double=buffers.sram_double)
    designs[1] = _capacity(designs[1], double=buffers.register_double)
    return designs


def _rates(
    buffers: TwoLevelBuffers, designs: Array, shape: tuple[int, ...], objective: Objective
) -> Array:
    """Return (6, N) for the selection from fronts, compute and other joules still zero."""
    rates = np.zeros((6, shape[1]))
    rates[1:3] = designs[2:4]
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
    rates[3] = checked_array("memory_j_per_byte", energy.memory_j_per_byte, shape[1:], least=0.0)
    rates[4] = checked_array("sram_j_per_byte", energy.sram_j_per_byte, shape[1:], least=0.0)
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
