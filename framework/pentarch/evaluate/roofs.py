"""The roofline of a design: what its devices could do at most, for the formats in use."""

from collections.abc import Iterator

from pentarch.evaluate.figures import main_product
from pentarch.evaluate.stage_result import StageResult
from pentarch.graph.table import AttentionTable, GemmTable
from pentarch.mapping.arithmetic import Product, resolve
from pentarch.mapping.traffic import level_bandwidth
from pentarch.results import Roofs


def device_roofs(stages: tuple[StageResult, ...], index: int) -> tuple[Roofs, ...]:
    """Return the roofs of each kind of device of one design.

    Args:
        stages: Costed stages of a batch.
        index: Which design of the batch.

    Returns:
        One entry per device name, in the order of the stages; none for a device that multiplies
        nothing.
    """
    found: dict[str, Roofs] = {}
    for stage in stages:
        machine = stage.costs.given.machine
        main = main_product((stage,))
        if main is None:
            continue
        known = found.get(machine.name)
        peaks = dict(known.peak_flops_per_s) if known else {}
        for product in (main, *_products(stage)):
            peaks[product.format] = 2.0 * float(product.peak_macs_per_s[index])
        memory = machine.levels[0]
        found[machine.name] = Roofs(
            device=machine.name, memory=memory.name,
            memory_bytes_per_s=float(level_bandwidth(memory)[index]),
            main_format=known.main_format if known else main.format, peak_flops_per_s=peaks,
        )  # fmt: skip
    return tuple(found.values())


def _products(stage: StageResult) -> Iterator[Product]:
    """Yield how each pair of formats of a stage's GEMMs and attention really runs."""
    pairs: dict[tuple[str, str], None] = {}
    for entry in stage.costs.kinds:
        rows = entry.rows
        if isinstance(rows, GemmTable):
            pairs |= dict.fromkeys(zip(rows.a_formats, rows.b_formats, strict=True))
        elif isinstance(rows, AttentionTable):
            pairs |= dict.fromkeys(zip(rows.query_formats, rows.kv_formats, strict=True))
    for pair in pairs:
        product = resolve(stage.costs.given.machine, *pair)
        if product is not None:
            yield product
