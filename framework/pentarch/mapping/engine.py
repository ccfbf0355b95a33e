"""The engine's door: costs of rows of any kind, and what follows from them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from pentarch.errors import CostError
from pentarch.graph.operators import OperatorKind
from pentarch.hardware.columns import FEW_DESIGNS, Floats, found_once
from pentarch.mapping.assemble import stacked_names
from pentarch.mapping.compilation import load_sums
from pentarch.mapping.cost_attention import cost_attention
from pentarch.mapping.cost_collective import cost_collective
from pentarch.mapping.cost_gemm import cost_gemm
from pentarch.mapping.cost_vector import cost_vector
from pentarch.mapping.costs import RowCosts, RowRequest
from pentarch.mapping.traffic import combine

_COSTERS: MappingProxyType[OperatorKind, Callable[[RowRequest], RowCosts]] = MappingProxyType(
    {
        OperatorKind.GEMM: cost_gemm,
        OperatorKind.ATTENTION: cost_attention,
        OperatorKind.VECTOR: cost_vector,
        OperatorKind.COLLECTIVE: cost_collective,
    }
)


def cost_rows(request: RowRequest) -> RowCosts:
    """Return the engine's cost of rows of one kind."""
    return _COSTERS[request.kind](request)


def check_costs(request: RowRequest, costs: RowCosts) -> None:
    """Raise a `CostError` that names operator and machine when a cost is NaN, infinite or negative."""
    sums = load_sums()
    if request.machine.length <= FEW_DESIGNS:  # one look at all of them
        every = [costs.fixed_s, costs.executed_macs]
        for group in (costs.compute_s, costs.level_s, costs.read_bytes, costs.write_bytes):
            every += group.values()
        every += [joules for joules in costs.energy_j.values() if joules is not None]
        if sums.is_sound(np.concatenate(every)):
            return
    for figure, values in _named(costs):
        if sums.is_sound(sums.door(values)):
            continue
        good = np.isfinite(values) & (values >= 0)
        if not good.all():
            row, design = np.unravel_index(int(np.argmin(good)), good.shape)
            raise CostError(
                figure=figure, operator=request.rows.names[int(row)],
                machine=f"{request.machine.name}, design {design}", value=float(values[row, design]),
            )  # fmt: skip


def _named(costs: RowCosts) -> list[tuple[str, Floats]]:
    """Return every cost that has to be a finite, non-negative number, with its name."""
    named = [("fixed_s", costs.fixed_s), ("executed_macs", costs.executed_macs)]
    for group in ("compute_s", "level_s", "read_bytes", "write_bytes", "energy_j"):
        stores: Mapping[str, Floats | None] = getattr(costs, group)
        named += [
            (f"{group}[{key}]", values) for key, values in stores.items() if values is not None
        ]
    return named


@dataclass(frozen=True, eq=False)
class RowTimes:
    """Time of R rows on N designs for one execution of each, at one clock; shapes (R, N)."""

    total_s: Floats
    """Time of the row: fixed part + combined terms."""
    terms: tuple[Floats, ...]
    """Busy time of each resource."""
    resources: tuple[str, ...]
    """Engines, levels and links, in the order of `terms`."""

    @found_once
    def terms_s(self) -> Floats:
        """Busy time by resource, shape (resources, R, N)."""
        return np.stack(self.terms) if self.terms else np.zeros((0, *self.total_s.shape))

    @property
    def bottleneck(self) -> npt.NDArray[np.intp]:
        """Index of the resource with the largest term, (R, N)."""
        largest: npt.NDArray[np.intp] = np.argmax(self.terms_s, axis=0)
        return largest


def row_times(costs: RowCosts, *, overlap: Floats | None) -> RowTimes:
    """Combine the terms of rows into times at nominal clock.

    Args:
        costs: Busy times of the resources.
        overlap: Exponent q of the machine, shape (N,), `None` for perfect overlap.
    """
    names = stacked_names(costs.compute_s, costs.level_s)
    if not names:
        return RowTimes(total_s=costs.fixed_s, terms=(), resources=())
    terms = tuple(_busy(costs.compute_s.get(name), costs.level_s.get(name)) for name in names)
    total = costs.fixed_s + combine(terms, overlap if costs.overlap is None else costs.overlap)
    return RowTimes(total_s=total, terms=terms, resources=names)


def _busy(compute: Floats | None, moving: Floats | None) -> Floats:
    """Return the busy time of one resource, of which at least one part is there."""
    if compute is None or moving is None:
        found = moving if compute is None else compute
        if found is None:
            raise ValueError("a resource has no busy time")
        return found
    return compute + moving
