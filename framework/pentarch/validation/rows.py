"""What a validation file turns into: scored rows, groups of them, and what could not be scored."""

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
    framework: str = ""
    """Software stack, where a file has a column for each; empty for its reference column."""
    kernel: str = ""
    """Kernel that was measured, or empty."""
    roofline: float | None = None
    """What a plain roofline says: the larger of work / peak and bytes / bandwidth; `None` without one."""

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted / self.measured

    @property
    def is_equal(self) -> bool:
        """Whether both are the same number."""
        return self.predicted == self.measured


@dataclass(frozen=True, slots=True)
class Unscored:
    """Rows of a file that have no prediction, and why."""

    file: str
    """Base name of the file."""
    reason: str
    """For example `"unknown device"`."""
    name: str
    """What is unknown or left out."""
    n: int = 1
    """How many rows."""


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
    framework: str = ""
    """Software stack, where a file has a column for each; empty for its reference column."""
    kernel: str = ""
    """Kernel that was measured, or empty."""
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
    roofline_mape: float | None = None
    """The mean error of the plain roofline on the same rows; `None` without one."""


def group_rows(rows: Iterable[ScoredRow]) -> tuple[Group, ...]:
    """Return the errors by file, device, operator, metric, precision, subset, framework and kernel.

    Groups of the reference column and of all kernels together come before those of one.
    """
    by_key: dict[tuple[str, ...], list[ScoredRow]] = {}
    for row in rows:
        key = (row.file, row.device, row.operator, row.metric, row.precision, row.subset)
        by_key.setdefault((*key, row.framework, ""), []).append(row)
        if row.kernel:
            by_key.setdefault((*key, row.framework, row.kernel), []).append(row)
    return tuple(_group(key, members) for key, members in sorted(by_key.items()))


def count_unscored(found: Iterable[Unscored]) -> tuple[Unscored, ...]:
    """Return what could not be scored, counted by file, reason and name; the most rows first."""
    counts: dict[tuple[str, str, str], int] = {}
    for entry in found:
        key = (entry.file, entry.reason, entry.name)
        counts[key] = counts.get(key, 0) + entry.n
    ranked = sorted(counts.items(), key=lambda item: (item[0][0], -item[1], item[0]))
    return tuple(Unscored(file, reason, name, n) for (file, reason, name), n in ranked)


def _group(key: tuple[str, ...], rows: Sequence[ScoredRow]) -> Group:
    ratios = np.array([row.ratio for row in rows])
    errors = np.abs(ratios - 1.0)
    file, device, operator, metric, precision, subset, framework, kernel = key
    plain = [row.roofline / row.measured for row in rows if row.roofline is not None]
    return Group(
        file=file,
        device=device,
        operator=operator,
        metric=metric,
        precision=precision,
        subset=subset,
        framework=framework,
        kernel=kernel,
        n=len(rows),
        equal=sum(row.is_equal for row in rows),
        mape=float(errors.mean()),
        median_ape=float(np.median(errors)),
        bias=float(np.exp(np.log(ratios).mean())),
        roofline_mape=float(np.abs(np.array(plain) - 1.0).mean()) if plain else None,
    )


def worst_rows(rows: Iterable[ScoredRow], count: int) -> tuple[ScoredRow, ...]:
    """Return the rows of reference columns with the largest |log(predicted / measured)|.

    Rows that their file flags are not among them: nobody should learn from those.
    """
    usable = [
        row
        for row in rows
        if row.subset != "flagged" and not (row.framework and row.operator != "query")
    ]

    def distance(row: ScoredRow) -> float:
        return -abs(float(np.log(row.ratio))) if row.ratio > 0 else -np.inf

    return tuple(sorted(usable, key=distance)[:count])
