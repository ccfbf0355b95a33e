"""Compiled loops of the cost model: array cycles, vector rows, and sums over rows.

Each loop replaces a chain of NumPy calls over (rows, designs) blocks by one pass. Designs never
mix, terms are added in the order of the rows, and the arithmetic is that of the NumPy code beside
it, so results do not depend on the batch. Arrays at the door are C-contiguous, writable float64
(int64 for phases); `door` sees to that, nothing else is checked here.
"""

import numpy as np
import numpy.typing as npt

from pentarch.mapping.compilation import compiled, inlined

WORK_FIELDS = 4
"""Kinds of work a vector row can have."""

VECTOR_FIELDS = (
    "read", "read_once", "write", "append", "waits", "launched", "executions", "is_decode", "working",
)  # fmt: skip
"""What follows the work of a vector row: bytes per sequence (`read_once`: whatever the load),
whether latency and start count, how often it runs, in which phase, and the bytes of all its
activations per sequence."""

DESIGN_FIELDS = ("prefill", "decode", "start", "kept", "prefill_room", "decode_room")
"""Rows of a design's load: sequences at once in each phase, the start of an operator, the share of
the KV cache that lives in a buffer, and the bytes kept there for the activations of each phase."""

LEVEL_FIELDS = ("read_rate", "write_rate", "latency", "read_j", "write_j")
"""Rows of a storage level; a write rate of 0 means that reads and writes share the read rate."""

ARRAY_FIELDS = ("rows", "columns", "units", "cycles_per_k", "tile_start", "fill")
"""Rows of an array's figures."""


@compiled
def weigh(values: np.ndarray, weights: np.ndarray, phases: np.ndarray, out: np.ndarray) -> None:
    """Add rows, times their weights, to the sums of their phases.

    Args:
        values: (R, N).
        weights: (R, N) or (R, 1).
        phases: (R,): row of `out` that a row belongs to.
        out: (P, N).
    """
    for r in range(values.shape[0]):
        total = out[phases[r]]
        if weights.shape[1] == 1:
            weight = weights[r, 0]
            for n in range(values.shape[1]):
                total[n] += values[r, n] * weight
        else:
            for n in range(values.shape[1]):
                total[n] += values[r, n] * weights[r, n]


@compiled
def is_sound(values: np.ndarray) -> bool:
    """Return whether every value of (R, N) is finite and not negative."""
    for r in range(values.shape[0]):
        wrong = 0
        for n in range(values.shape[1]):
            value = values[r, n]
            wrong |= not (value >= 0.0 and value < np.inf)
        if wrong:
            return False
    return True


@compiled
def slowed(
    scaled: np.ndarray, still: np.ndarray, fixed: np.ndarray, weights: np.ndarray,
    ratio: np.ndarray, out: np.ndarray,
) -> None:  # fmt: skip
    """Fill `out` with the time of a phase at another clock.

    Args:
        scaled: (R, N): the longest busy time of what follows the clock.
        still: (R, N): the same of what does not.
        fixed: (R, N): time that overlaps with nothing.
        weights: (R, N).
        ratio: (N,): clock / nominal clock.
        out: (N,).
    """
    out[:] = 0.0
    for r in range(scaled.shape[0]):
        for n in range(scaled.shape[1]):
            term = scaled[r, n] / ratio[n]
            term = term if term > still[r, n] else still[r, n]
            out[n] += (fixed[r, n] + term) * weights[r, n]


@compiled
def output_stationary(
    loads: tuple[np.ndarray, np.ndarray, np.ndarray],
    sizes: np.ndarray,
    engine: np.ndarray,
    splits: np.ndarray,
    out: np.ndarray,
) -> None:
    """Fill `out` (2, R, N) with the cycles of the best split of k and that split.

    Args:
        loads: m, instances and the cycles per further part of k, (R, N) each.
        sizes: (R, 2): k and n.
        engine: (6, N); see `ARRAY_FIELDS`.
        splits: Ways in which k may be cut, ascending; the first of equals wins.
        out: Result.
    """
    m, instances, per_part = loads
    count = m.shape[1]
    tiles = np.empty(count)
    for r in range(m.shape[0]):
        k, width, best, chosen = sizes[r, 0], sizes[r, 1], out[0, r], out[1, r]
        for n in range(count):
            rows, columns = engine[0, n], engine[1, n]
            upright = np.ceil(m[r, n] / rows) * np.ceil(width / columns)
            turned = np.ceil(width / rows) * np.ceil(m[r, n] / columns)
            tiles[n] = (upright if upright < turned else turned) * instances[r, n]
            best[n] = np.inf
            chosen[n] = 1.0
        for split in splits:
            depth = np.ceil(k / split)
            for n in range(count):
                waves = np.ceil(tiles[n] * split / engine[2, n])
                cycles = waves * (depth * engine[3, n] + engine[4, n]) + engine[5, n]
                cycles = cycles + (split - 1.0) * per_part[r, n]
                chosen[n] = split if cycles < best[n] else chosen[n]
                best[n] = cycles if cycles < best[n] else best[n]


@compiled
def level_costs(
    read: np.ndarray, write: np.ndarray, level: np.ndarray, waits: np.ndarray, out: np.ndarray
) -> None:
    """Fill `out` (2, R, N) with the seconds and joules of a level's traffic.

    Args:
        read: (R, N): bytes.
        write: (R, N): bytes.
        level: (5, N); see `LEVEL_FIELDS`.
        waits: (R,): 1 where the level's latency counts, 0 where it is hidden.
        out: Result; no traffic takes no time.
    """
    for r in range(read.shape[0]):
        seconds, joules = out[0, r], out[1, r]
        seconds[:] = 0.0
        add_move(level, read[r], write[r], waits[r], seconds)
        for n in range(read.shape[1]):
            joules[n] = read[r, n] * level[3, n] + write[r, n] * level[4, n]


@compiled
def stream(
    m: np.ndarray, rows: np.ndarray, engine: np.ndarray, weight_stationary: bool, out: np.ndarray
) -> None:
    """Fill `out` (2, R, N) with the bytes that arrays read from and write to their buffer.

    Args:
        m: (R, N): rows of A.
        rows: (R, 6): k, n, bytes of a, b, out and of a sum that is held.
        engine: (2, N): rows and columns of an array.
        weight_stationary: Whether arrays hold B; otherwise they hold C.
        out: Result.
    """
    for r in range(m.shape[0]):
        k, width, held = rows[r, 0], rows[r, 1], rows[r, 5]
        a, b, c = rows[r, 2], rows[r, 3], rows[r, 4]
        for n in range(m.shape[1]):
            a_words = m[r, n] * k * np.ceil(width / engine[1, n])
            sums = m[r, n] * width
            if weight_stationary:
                b_words = k * width
                returned = (np.ceil(k / engine[0, n]) - 1.0) * sums * held
            else:
                b_words = k * width * np.ceil(m[r, n] / engine[0, n])
                returned = 0.0
            out[0, r, n] = a_words * a + b_words * b + returned
            out[1, r, n] = sums * c + returned


@inlined
def add_vector_work(
    work: np.ndarray, numbers: np.ndarray, engine: np.ndarray, busy: np.ndarray, joules: np.ndarray
) -> None:
    """Fill the seconds and joules of one row on a vector engine; its kinds of work follow another.

    Args:
        work: (4,): values per sequence.
        numbers: (N,): sequences.
        engine: (8, N): values per second, then joules per value.
        busy: (N,), overwritten.
        joules: (N,), overwritten.
    """
    busy[:] = 0.0
    joules[:] = 0.0
    for p in range(WORK_FIELDS):
        each, rate, energy = work[p], engine[p], engine[WORK_FIELDS + p]
        if each > 0.0:
            for n in range(numbers.shape[0]):
                values = each * numbers[n]
                busy[n] += values / rate[n]
                joules[n] += values * energy[n]


@inlined
def add_move(
    level: np.ndarray, read: np.ndarray, write: np.ndarray, waits: float, busy: np.ndarray
) -> None:
    """Raise the busy time of one row to that of a level with its traffic, where that is longer.

    Args:
        level: (5, N); see `LEVEL_FIELDS`.
        read: (N,): bytes.
        write: (N,): bytes.
        waits: 1 where the level's latency counts, 0 where it is hidden.
        busy: (N,).
    """
    read_rate, write_rate, latency = level[0], level[1], level[2]
    if write_rate[0] > 0.0:
        for n in range(busy.shape[0]):
            first, second = read[n] / read_rate[n], write[n] / write_rate[n]
            moved = (first if first > second else second) + latency[n] * waits
            moved = moved if read[n] + write[n] > 0.0 else 0.0
            busy[n] = moved if moved > busy[n] else busy[n]
    else:
        for n in range(busy.shape[0]):
            moved = (read[n] + write[n]) / read_rate[n] + latency[n] * waits
            moved = moved if read[n] + write[n] > 0.0 else 0.0
            busy[n] = moved if moved > busy[n] else busy[n]


@compiled
def sum_vector_rows(
    table: np.ndarray, designs: np.ndarray, engine: np.ndarray, levels: np.ndarray,
    buffered: bool, out: np.ndarray,
) -> None:  # fmt: skip
    """Add the times and energies of vector rows, weighted, to the sums of their phases.

    Args:
        table: (R, 13): work, then `VECTOR_FIELDS`.
        designs: (6, N); see `DESIGN_FIELDS`.
        engine: (8, N): values per second and joules per value of each primitive.
        levels: (2, 5, N): memory, and the buffer that resident data live in; see
            `LEVEL_FIELDS`.
        buffered: Whether anything of any design lives there.
        out: (2, 4, N): seconds, then joules of the engine, memory and buffer; added to.
    """
    count = designs.shape[1]
    busy, joules = np.empty(count), np.empty(count)
    read, write = np.empty(count), np.empty(count)
    taken, stored = np.empty(count), np.empty(count)
    start, kept = designs[2], designs[3]
    for r in range(table.shape[0]):
        row = table[r]
        at, weight = int(row[WORK_FIELDS + 7]), row[WORK_FIELDS + 6]
        numbers, seconds = designs[at], out[at, 0]
        add_vector_work(row[:WORK_FIELDS], numbers, engine, busy, joules)
        each, once, drained = row[WORK_FIELDS], row[WORK_FIELDS + 1], row[WORK_FIELDS + 2]
        append, waits, launched = row[WORK_FIELDS + 3], row[WORK_FIELDS + 4], row[WORK_FIELDS + 5]
        for n in range(count):
            read[n] = each * numbers[n] + once
            write[n] = drained * numbers[n] + append * numbers[n]
        if buffered:
            room, working = designs[4 + at], row[WORK_FIELDS + 8]
            for n in range(count):
                stays = room[n] > 0.0 and working * numbers[n] <= room[n]
                taken[n] = each * numbers[n] if stays else 0.0
                stored[n] = drained * numbers[n] if stays and append == 0.0 else 0.0
                stored[n] += append * numbers[n] * kept[n]
                read[n] -= taken[n]
                write[n] -= stored[n]
                moved_j = taken[n] * levels[1, 3, n] + stored[n] * levels[1, 4, n]
                out[at, 3, n] += moved_j * weight
            add_move(levels[1], taken, stored, waits, busy)
        add_move(levels[0], read, write, waits, busy)
        worked, moved = out[at, 1], out[at, 2]
        for n in range(count):
            seconds[n] += (start[n] * launched + busy[n]) * weight
        for n in range(count):
            worked[n] += joules[n] * weight
        read_j, write_j = levels[0, 3], levels[0, 4]
        for n in range(count):
            moved[n] += (read[n] * read_j[n] + write[n] * write_j[n]) * weight


def door(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Return `values`, copied unless they are C-contiguous, writable float64."""
    array = np.asarray(values, dtype=np.float64)
    flags = array.flags
    return array if flags.c_contiguous and flags.writeable else np.array(array, order="C")
