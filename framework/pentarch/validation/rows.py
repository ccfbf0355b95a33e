"""What a validation file turns into: scored rows, and groups of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from pentarch.model import Model


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """One prediction beside what the file says."""

    label: str
    """Name of the row in its file."""
    file: str
    """Base name of the file."""
    device: str
    """Device, or empty for files that concern none."""
    operator: str
    """gemm, attention_prefill, moe, all_reduce, layer, query, ..."""
    metric: str
    """latency, traffic, ttft, tpot, throughput, power, energy, ..."""
    precision: str
    """Number format, or empty."""
    subset: str
    """main, L2fit, flagged, or the column that was predicted."""
    predicted: float
    """Pentarch's figure."""
    measured: float
    """The file's figure."""

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured

    @property
    def is_equal(self) -> bool:
        """Whether both are the same number."""
        return self.predicted == self.measured


class Group(Model):
    """Errors over rows that belong together (docs/reference/commands.md, pentarch validate)."""

    file: str
    """Base name of the file."""
    device: str
    """Device, or empty."""
    operator: str
    """Operator."""
    metric: str
    """What was predicted."""
    precision: str
    """Number format, or empty."""
    subset: str
    """Which rows."""
    n: int
    """How many rows."""
    equal: int
    """Rows on which prediction and file are the same number."""
    mape: float
    """Mean of |predicted / measured - 1|."""
    median_ape: float
    """Median of |predicted / measured - 1|."""
    bias: float
    """exp(mean(log(predicted / measured))); above 1 = predicted too high."""


def group_rows(rows: Iterable[ScoredRow]) -> tuple[Group, ...]:
    """Return the errors by file, device, operator, metric, precision and subset."""
    by_key: dict[tuple[str, ...], list[ScoredRow]] = {}
    for row in rows:
        key = (row.file, row.device, row.operator, row.metric, row.precision, row.subset)
        by_key.setdefault(key, []).append(row)
    return tuple(_group(key, members) for key, members in sorted(by_key.items()))


def _group(key: tuple[str, ...], rows: Sequence[ScoredRow]) -> Group:
    ratios = np.array([row.ratio for row in rows])
    errors = np.abs(ratios - 1.0)
    file, device, operator, metric, precision, subset = key
    return Group(
        file=file,
        device=device,
        operator=operator,
        metric=metric,
        precision=precision,
        subset=subset,
        n=len(rows),
        equal=sum(row.is_equal for row in rows),
        mape=float(errors.mean()),
        median_ape=float(np.median(errors)),
        bias=float(np.exp(np.log(ratios).mean())),
    )
