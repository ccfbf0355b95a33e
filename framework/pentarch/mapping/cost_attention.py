"""Cost of attention rows: fused, unfused or the better of both, behind scratchpads or a cache."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pentarch.errors import InputError
from pentarch.graph.operators import OperatorKind
from pentarch.graph.table import AttentionTable
from pentarch.hardware.columns import Columns, Floats
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.parts import Engine, Level, Management
from pentarch.hardware.runtime import AttentionKernel
from pentarch.mapping.arithmetic import Product, bits_to_bytes, resolve
from pentarch.mapping.assemble import RowLedger
from pentarch.mapping.attention import AttentionRows, CheckedRows
from pentarch.mapping.attention_plan import Case, Variant, Vectors, choose, is_timed
from pentarch.mapping.cached_attention import add_cached_attention
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import vector_work
from pentarch.workload.formats import number_format

Picked = npt.NDArray[np.intp]


def cost_attention(request: RowRequest) -> RowCosts:
    """Return the cost of attention rows.

    The runtime fixes the kernel or leaves the choice: then each row and design takes the one with
    the lesser time of matrix units, vector engine, memory and outermost buffer. The details
    `fused`, `split`, `row_block`, `tile_rows` and `tile_keys` show what was taken.
    """
    table = request.rows
    if not isinstance(table, AttentionTable):
        raise TypeError(f"attention rows expected, got {type(table).__name__}")
    machine = request.machine
    ledger = RowLedger(request, count=len(table.names))
    for group in request.memo.of(table, "attention groups", lambda: _groups(table)):
        picked = group.picked
        product = resolve(machine, group.query_format, group.kv_format, OperatorKind.ATTENTION)
        if product is None:
            text = (
                f"no engine of {machine.name} multiplies {group.query_format} by {group.kv_format}"
            )
            ledger.cannot_run(picked, text)
            continue
        if product.note:
            ledger.note(product.note)
        view = CheckedRows(
            kv_heads=table.kv_heads[picked][:, None] * request.sequences[picked],
            table=group.table,
        )
        case = Case(
            request=request, product=product, buffers=_buffers(machine, product), view=view,
            vectors=Vectors.of(machine), converted=_converted(product, view, group.kv_format),
        )  # fmt: skip
        if case.is_cached and product.engine.tile_menu is not None and fuses(request):
            add_cached_attention(ledger, case, picked, (group.query_format, group.kv_format))
        else:
            _add_rows(ledger, case, picked)
    return ledger.costs()


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """Rows of one pair of formats."""

    query_format: str
    kv_format: str
    picked: Picked
    table: Floats
    """As in `CheckedRows`."""


def _groups(table: AttentionTable) -> tuple[_Group, ...]:
    """Return the rows by the formats of queries and keys, in order of appearance."""
    by_format: dict[tuple[str, str], list[int]] = {}
    for index, pair in enumerate(zip(table.query_formats, table.kv_formats, strict=True)):
        by_format.setdefault(pair, []).append(index)
    found = []
    for (query_format, kv_format), members in by_format.items():
        picked = np.array(members, dtype=np.intp)
        view = CheckedRows.of(attention_rows(table, picked, np.ones((len(picked), 1))))
        found.append(_Group(query_format, kv_format, picked, view.table))
    return tuple(found)


def fuses(request: RowRequest) -> bool:
    """Return whether the stack keeps scores on chip; it does where it has the choice."""
    return request.runtime.attention is not AttentionKernel.UNFUSED


def attention_rows(table: AttentionTable, picked: Picked, sequences: Floats) -> AttentionRows:
    """Return rows of a table as operators; `sequences` has the shape (rows, N)."""
    formats = {
        name: bits_to_bytes(tuple(getattr(table, name)[index] for index in picked))
        for name in ("query_formats", "kv_formats", "out_formats")
    }
    shared = table.values_in_keys
    return AttentionRows(
        kv_heads=table.kv_heads[picked][:, None] * sequences,
        group=table.heads[picked] / table.kv_heads[picked],
        positions=table.query_tokens[picked],
        kv_length=np.maximum(table.keys[picked], table.query_tokens[picked]),
        head_dim=table.head_dim[picked], value_dim=table.value_dim[picked],
        q_bytes=formats["query_formats"], kv_bytes=formats["kv_formats"], out_bytes=formats["out_formats"],
        accumulator_bytes=np.full(len(picked), number_format(table.accumulator_format).bytes),
        causal=table.causal[picked] & (table.query_tokens[picked] > 1),
        window=_windows(table, picked), value_in_key=None if shared is None else shared[picked],
    )  # fmt: skip


def _windows(table: AttentionTable, picked: Picked) -> Floats:
    """Return the window with as many pairs as a table's row has, infinite where all are seen.

    Causal: of P positions with E earlier keys, the last t = E + P - window lose 1, 2 ... t keys.
    If even the first one loses keys, all P do. A window in tokens comes out exact; chunks of a
    sequence come out as the window with as many pairs.
    """
    positions = table.query_tokens[picked]
    keys, pairs = np.maximum(table.keys[picked], positions), table.pairs[picked]
    causal = table.causal[picked] & (positions > 1)
    earlier = keys - positions
    triangle = positions * (positions + 1.0) / 2.0
    lost = np.where(causal, positions * earlier + triangle, positions * keys) - pairs
    late = (np.sqrt(8.0 * np.maximum(lost, 0.0) + 1.0) - 1.0) / 2.0
    every = earlier + (positions + 1.0) / 2.0 - lost / positions
    banded = np.where(late <= positions, np.rint(keys - late), np.ceil(every))
    found: Floats = np.where(causal, banded, np.ceil(pairs / positions))
    return np.where(lost > 0.0, np.maximum(found, 1.0), np.inf)


def _converted(product: Product, view: CheckedRows, kv_format: str) -> Floats | None:
    """Return the words of K and V that are converted because they are stored narrower."""
    stored = number_format(kv_format).bits
    if not product.dequantized or stored >= number_format(product.format).bits:
        return None
    words = view.column("kv_length") * (view.column("head_dim") + view.streamed_value_dim)
    converted: Floats = view.kv_heads * words
    return converted


def _add_rows(ledger: RowLedger, case: Case, picked: Picked) -> None:
    variant = choose(case)
    view, product = case.view, case.product
    macs = variant.scores * (view.column("head_dim") + view.column("value_dim"))
    ledger.add_macs(picked, macs, product)
    ledger.add_compute(picked, product.engine.name, variant.matrix_s, None, energy_known=True)
    _add_vector_work(ledger, case, variant, picked)
    _add_traffic(ledger, case, variant, picked, macs * _streamed_bytes_per_mac(product, view))
    if (variant.exchanged > 0.0).any():
        meets = np.where(variant.exchanged > 0.0, case.request.machine.overhead.barrier_s, 0.0)
        ledger.add_fixed(picked, meets)
    ledger.restrict(picked, variant.fits, "no on-chip buffer holds one row of attention")
    for name in ("fused", "split", "tile_rows", "tile_keys"):
        ledger.add_detail(picked, name, variant.plan[name])
    ledger.add_detail(picked, "row_block", variant.row_block)


def _add_traffic(
    ledger: RowLedger, case: Case, variant: Variant, picked: Picked, streamed: Floats
) -> None:
    """Add the traffic of all levels; `streamed` bytes go from the innermost one to the engine."""
    request, active = case.request, variant.plan["active"]
    share, stays = request.resident_kv, request.resident_activations
    nothing = np.zeros(variant.memory_kv.shape)
    kept = nothing if share is None else share * variant.memory_kv
    undrained = nothing
    if stays is not None:  # queries and outputs stay on chip
        view = case.view
        rows = view.kv_heads * view.query_rows
        queries = rows * view.column("head_dim") * view.column("q_bytes")
        outputs = rows * view.column("value_dim") * view.column("out_bytes")
        others = variant.memory_read - variant.memory_kv
        kept = kept + np.where(stays[picked], np.minimum(others, queries), 0.0)
        undrained = np.where(stays[picked], np.minimum(variant.memory_write, outputs), 0.0)
    memory, first, behind = request.machine.levels[0], case.buffers[0], case.buffers[1:]
    from_memory, to_memory = variant.memory_read - kept, variant.memory_write - undrained
    ledger.add_traffic(
        picked, memory, from_memory + variant.spilled, to_memory + variant.spilled,
        requesters=active,
    )  # fmt: skip
    filled, drained, parts = variant.buffer_read, variant.buffer_write, variant.exchanged
    if case.is_cached:
        ledger.add_traffic(picked, first, filled + parts, drained + parts, requesters=active)
        # Fills and write-backs cost the cache energy; their time is the memory's.
        ledger.add_traffic(picked, first, to_memory, from_memory, timed=False)
    else:
        own_read, own_write = (0.0, 0.0) if behind else (streamed, variant.memory_write)
        ledger.add_traffic(
            picked, first, filled + own_read + parts - undrained,
            drained + own_write + parts - kept, requesters=active,
        )  # fmt: skip
        filled, drained = filled - variant.memory_write, drained - variant.memory_read
    for level in behind:
        ledger.add_traffic(
            picked, level, streamed + drained, variant.memory_write + filled,
            timed=is_timed(case.product, level),
        )  # fmt: skip


def _buffers(machine: MachineTable, product: Product) -> tuple[Columns[Level], ...]:
    """Return the levels between memory and engine, or raise where there is no mapper for them."""
    inner = machine.level_index(product.engine.feeds_from)
    buffers = machine.levels[1 : inner + 1]
    kinds = tuple(level.management for level in buffers)
    is_scratchpad = kinds in ((Management.SOFTWARE,), (Management.SOFTWARE,) * 2)
    if not is_scratchpad and kinds[:1] != (Management.CACHE,):
        order = " -> ".join(
            f"{level.name} ({level.management})" for level in machine.levels[: inner + 1]
        )
        raise InputError(
            f"Machine {machine.name} ({machine.backend}): no attention mapper for the levels {order}. "
            "Expected one or two software-managed buffers, or a cache. A back-end can cost attention "
            "rows itself with `cost_rows`."
        )
    return buffers


def _streamed_bytes_per_mac(product: Product, view: CheckedRows) -> Floats:
    """Return bytes that the arrays read per MAC: keys and values serve a block of query rows."""
    height = np.minimum(product.engine.rows, view.query_rows)
    bytes_per_mac: Floats = (
        view.column("kv_bytes") / height + view.column("q_bytes") / product.engine.columns
    )
    return bytes_per_mac


def _add_vector_work(ledger: RowLedger, case: Case, variant: Variant, picked: Picked) -> None:
    """Add the softmax; exponentials are a term of their own where they have an engine."""
    machine, vectors = case.request.machine, case.vectors
    if vectors is None:
        ledger.cannot_run(picked, f"{machine.name} has no vector engine for the softmax")
        return
    counts = dict(variant.vector)
    shares: list[tuple[Columns[Engine], dict[str, Floats]]] = [(vectors.main, counts)]
    if vectors.special is not None:
        exponentials = {"transcendental": counts.pop("transcendental")}
        shares.append((vectors.special, exponentials))
    for engine, work in shares:
        seconds, joules, missing = vector_work(engine, work)
        ledger.add_compute(picked, engine.name, seconds, joules)
        if missing:
            text = f"{engine.name} of {machine.name} has no rate for {', '.join(missing)}"
            ledger.cannot_run(picked, text)
