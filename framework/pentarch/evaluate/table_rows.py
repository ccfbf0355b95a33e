"""Rows of an operator table: all of a kind, some of them, those of a phase."""

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from pentarch.graph.operators import OperatorKind, Phase
from pentarch.graph.table import OperatorTable, RowCommon
from pentarch.mapping.costs import AnyRows, RowMemo

KINDS = (OperatorKind.GEMM, OperatorKind.ATTENTION, OperatorKind.VECTOR, OperatorKind.COLLECTIVE)

R = TypeVar("R", bound=RowCommon)


def select_rows(rows: R, kept: npt.NDArray[np.intp]) -> R:
    """Return some rows of a table; every column has one entry per row."""
    changes: dict[str, Any] = {}
    for column in fields(rows):
        values = getattr(rows, column.name)
        if isinstance(values, np.ndarray):
            changes[column.name] = values[kept]
        elif isinstance(values, tuple):
            changes[column.name] = tuple(values[index] for index in kept)
    return replace(rows, **changes)


def rows_by_kind(
    table: OperatorTable, phase: Phase | None = None
) -> Iterator[tuple[OperatorKind, AnyRows]]:
    """Yield the rows of all kinds that have some, of one phase or of both."""
    for kind in KINDS:
        rows: AnyRows = table.rows_of(kind)
        if phase is not None and rows.names:
            rows = select_rows(rows, np.flatnonzero(rows.is_decode == (phase is Phase.DECODE)))
        if rows.names:
            yield kind, rows


def decode_rows(rows: AnyRows, memo: RowMemo) -> npt.NDArray[np.bool_]:
    """Return which rows belong to the decode phase, shape (R,); found once per plan."""
    return memo.of(rows, "is decode", lambda: rows.is_decode)
