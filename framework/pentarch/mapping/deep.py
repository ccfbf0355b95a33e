"""GEMMs behind any number of software-managed buffers: memory -> L1 -> L2 -> ... -> engine.

Conventions are those of `pentarch.mapping.gemm`: nested rectangular tiles of any integer size, the
three operands of a tile live at once, edge tiles move only real words, three formats of partial
sums, single or double buffering per level.

The class of mappings: at each boundary a tile inside the tile above it, with one operand stationary
(the loop over the dimension it lacks is innermost). An operand that fills its place in the tile
above stays there while that one keeps it, too. Every operand passes every level, and each level has
one tile for all three operands; tiles at their own loop depth (`uneven`) are not part of the class
behind more than one boundary, and the bounds do not cover them.

What is exact: the innermost level takes the best tile of each stationarity given the tile above; the
levels above it always include the tile of least traffic of their own boundary, given the tile above,
and otherwise sizes a factor of 1.6 of the trips apart or multiples of the next level's own optimal
tiles, with the third size as large as fits. Dimensions up to 10 are tried in full. Memory
traffic alone is therefore at its optimum when it is the objective. `least_s`, `least_j` and
`least_memory_bytes` bound every mapping of even loop nests, whether in the class or not: each
boundary has its own optimum as if the others did not exist.

Ties: least objective, then least memory bytes, then least bytes of all boundaries, then the
candidate that comes first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pentarch.errors import InputError
from pentarch.mapping.compilation import load_deep_kernels
from pentarch.mapping.gemm import OBJECTIVES, GemmRows, Objective, checked_array, operator_arrays

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DeepLevel:
    """A storage level on N designs; the first of a hierarchy is memory, whose size does not count."""

    size_bytes: Array | None
    """(N,): capacity for one set of tiles, not yet halved; `None` for memory."""
    read_bytes_per_s: Array
    """(N,): sustained rate of reads, or of reads and writes where they share a port."""
    write_bytes_per_s: Array | None = None
    """(N,): rate of writes; `None` where they share the port with reads."""
    read_j_per_byte: Array | None = None
    """(N,); `None` when unknown."""
    write_j_per_byte: Array | None = None
    """(N,); `None` as for reads."""
    double: bool = False
    """Tiles are double buffered, which halves the capacity."""


@dataclass(frozen=True, slots=True)
class DeepBuffers:
    """N designs: memory, then the software-managed buffers from outermost to innermost."""

    levels: tuple[DeepLevel, ...]
    """Memory first; at least one buffer."""
    compute_s: Array
    """(R, N): seconds of pure compute."""
    stream_read_bytes: Array | None = None
    """(R, N): what the engine reads from the innermost buffer; `None` counts nothing."""
    stream_write_bytes: Array | None = None
    """(R, N): what it writes there."""
    other_j: Array | None = None
    """(R, N): energy of the GEMM that no mapping changes; `None` counts nothing."""


@dataclass(frozen=True, slots=True)
class DeepDetail:
    """Tiles and loop orders, by buffer from the outermost."""

    kept: Array
    """(levels, R, N): stationarity 0, 1, 2 keeps B, C, A and streams along M, K, N."""
    tile: Array
    """(levels, 3, R, N): tile along M, K, N; one along the streamed dimension of the innermost
    level, zero where nothing fits."""
    moved: Array
    """(levels, 4, R, N): bytes of A, of B, of unfinished C inwards, of C outwards at the boundary
    outside each buffer."""


@dataclass(frozen=True, slots=True)
class DeepTraffic:
    """Mappings of R GEMMs on N designs and their certificate.

    Where `fits` is false some buffer cannot hold a tile of one, and the traffic is that of a tile of
    one.
    """

    read_bytes: Array
    """(levels + 1, R, N): read from memory and from each buffer; not what the engine reads."""
    write_bytes: Array
    """(levels + 1, R, N): written likewise."""
    memory_b_bytes: Array
    """(R, N): share of B in what memory delivers."""
    fits: NDArray[np.bool_]
    """(R, N)."""
    time_s: Array
    """(R, N): the slowest of compute and all levels, by the rates given."""
    energy_j: Array | None
    """(R, N): `None` where a figure is unknown."""
    least_s: Array
    """(R, N): no even loop nest takes less time; 0 where nothing fits."""
    least_j: Array | None
    """(R, N): no even loop nest takes less energy."""
    least_memory_bytes: Array
    """(R, N): no even loop nest moves less between memory and the outermost buffer."""
    gap: Array
    """(R, N): objective over its lower bound, less one; 0 is proven optimal."""
    detail: DeepDetail | None = None


def map_gemms_deep(
    rows: GemmRows, buffers: DeepBuffers, *, objective: Objective = "time", detail: bool = False
) -> DeepTraffic:
    """Map every GEMM on every design behind any number of buffers.

    Args:
        rows: The GEMMs.
        buffers: The designs.
        objective: What the mapping minimizes.
        detail: Also return tiles and stationarities.

    Returns:
        Traffic and certificate. A design's result does not depend on the others.

    Raises:
        InputError: There is no buffer, a size or rate is not positive and finite, a shape does not
            match, or an energy objective comes without energies.
    """
    m, table, on_chip = operator_arrays(rows)
    if len(buffers.levels) < 2:
        raise InputError(
            f"DeepBuffers has {len(buffers.levels)} levels. Expected memory and at least one buffer."
        )
    if objective not in OBJECTIVES:
        raise InputError(
            f"{objective!r} is no objective of a mapping. Expected one of {OBJECTIVES}."
        )
    ports, known = _ports(buffers.levels, m.shape[1])
    if objective != "time" and not known:
        raise InputError(
            f"The objective {objective!r} needs the energy of a byte at every level. State "
            "read_j_per_byte and write_j_per_byte, or minimize time."
        )
    kernels = load_deep_kernels()
    levels = len(buffers.levels) - 1
    fields = levels * len(kernels.LEVEL_FIELDS) + len(kernels.SUMMARY_FIELDS)
    out = np.zeros((m.shape[0], fields, m.shape[1]))
    designs = kernels.Designs(
        _capacities(buffers.levels[1:], m.shape[1]), ports, _given(buffers, m.shape),
        # Of a part that lives on chip the caller takes off what it saves.
        np.zeros(m.shape) if on_chip is None else np.floor(on_chip[0]),
    )  # fmt: skip
    kernels.map_any_boundaries(table, m, designs, OBJECTIVES.index(objective), out)
    by_field = np.ascontiguousarray(out.swapaxes(0, 1))
    return _result(by_field, levels, energy_known=known, detail=detail)


def _result(out: Array, levels: int, *, energy_known: bool, detail: bool) -> DeepTraffic:
    """Return the kernel's fields (fields, R, N) under their names."""
    by_level = out[: levels * 8].reshape(levels, 8, *out.shape[1:])
    fits, time_s, energy_j, least_s, least_j, least_value, value, memory = out[levels * 8 :]
    down = by_level[:, 0] + by_level[:, 1] + by_level[:, 2]
    up = by_level[:, 3]
    read, write = np.zeros((2, levels + 1, *out.shape[1:]))
    read[:-1], write[:-1] = down, up
    read[1:] += up
    write[1:] += down
    fitting = fits > 0.0
    return DeepTraffic(
        read_bytes=read, write_bytes=write, memory_b_bytes=by_level[0, 1].copy(), fits=fitting,
        time_s=time_s.copy(), energy_j=energy_j.copy() if energy_known else None,
        least_s=least_s.copy(), least_j=least_j.copy() if energy_known else None,
        least_memory_bytes=memory.copy(),
        gap=np.where(fitting & (least_value > 0.0), value / np.maximum(least_value, 1e-300) - 1, 0),
        detail=DeepDetail(
            kept=by_level[:, 4].copy(), tile=by_level[:, 5:8].copy(), moved=by_level[:, :4].copy()
        ) if detail else None,
    )  # fmt: skip


def _ports(levels: Sequence[DeepLevel], count: int) -> tuple[Array, bool]:
    """Return (levels, 5, N) as the kernel takes them, and whether all energies are known."""
    ports = np.zeros((len(levels), 5, count))
    known = True
    for at, level in enumerate(levels):
        where = f"DeepBuffers.levels[{at}]"
        ports[at, 0] = 1.0 / checked_array(
            f"{where}.read_bytes_per_s", level.read_bytes_per_s, (count,)
        )
        if level.write_bytes_per_s is not None:
            rate = checked_array(f"{where}.write_bytes_per_s", level.write_bytes_per_s, (count,))
            ports[at, 1], ports[at, 2] = 1.0 / rate, 1.0
        if level.read_j_per_byte is None:
            known = False
            continue
        written = level.write_j_per_byte
        for field, values in ((3, level.read_j_per_byte), (4, written)):
            used = level.read_j_per_byte if values is None else values
            ports[at, field] = checked_array(f"{where}.j_per_byte", used, (count,), least=0.0)
    if not known:
        ports[:, 3:] = 0.0
    return ports, known


def _capacities(levels: Sequence[DeepLevel], count: int) -> Array:
    """Return (buffers, N), halved where tiles are double buffered."""
    capacity = np.empty((len(levels), count))
    for at, level in enumerate(levels):
        if level.size_bytes is None:
            raise InputError(f"DeepBuffers.levels[{at + 1}] has no size. Every buffer needs one.")
        name = f"DeepBuffers.levels[{at + 1}].size_bytes"
        capacity[at] = checked_array(name, level.size_bytes, (count,), least=0.0)
        if level.double:
            capacity[at] = np.floor(capacity[at] / 2.0)
    return capacity


def _given(buffers: DeepBuffers, shape: tuple[int, ...]) -> Array:
    """Return (R, 4, N): compute seconds, other joules, bytes of the engine's reads and writes."""
    given = np.zeros((shape[0], 4, shape[1]))
    for field, name in enumerate(
        ("compute_s", "other_j", "stream_read_bytes", "stream_write_bytes")
    ):
        values = getattr(buffers, name)
        if values is not None:
            given[:, field] = checked_array(f"DeepBuffers.{name}", values, shape, least=0.0)
    return given
