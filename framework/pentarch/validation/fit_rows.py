"""Rows of a fit: which measured kernels count, how much, and what the engine says of them.

A `RowPredictor` holds rows of any devices and stacks as tables that are made once; it predicts them
for N designs of one device, or for one stack after another.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from pentarch.contracts.backend import AnyBackend
from pentarch.errors import InputError
from pentarch.evaluate.batches import describe
from pentarch.hardware.columns import Floats
from pentarch.hardware.device import Device
from pentarch.hardware.machine import MachineTable
from pentarch.hardware.runtime import Runtime
from pentarch.hardware.system import System, on_boards
from pentarch.validation.fit import Observations
from pentarch.validation.kernels import KernelRow
from pentarch.validation.predict import KernelBatch

if TYPE_CHECKING:
    from pentarch.catalog import Library

NOISE: Mapping[str, float] = {"main": 0.10, "L2fit": 0.25}
"""Expected error by subset: rows whose data fit the cache depend on what the timing loop left there.
Rows of other subsets are never used."""


@dataclass(frozen=True, slots=True)
class RowFilter:
    """Which rows of files a fit uses."""

    operators: frozenset[str] = frozenset()
    """Operators as groups name them; empty for all."""
    precisions: frozenset[str] = frozenset()
    """Precisions as the files name them; empty for all."""
    devices: frozenset[str] = frozenset()
    """Devices as the catalog names them; empty for all."""
    left_out: frozenset[str] = frozenset()
    """Devices whose rows are not used."""

    def takes(self, row: KernelRow) -> bool:
        """Return whether a row is used: unreliable ones never are."""
        return (
            row.subset in NOISE
            and row.device not in self.left_out
            and (not self.devices or row.device in self.devices)
            and (not self.operators or row.operator in self.operators)
            and (not self.precisions or row.precision in self.precisions)
        )

    @property
    def shown(self) -> str:
        """The filter in words."""
        parts = [*sorted(self.operators), *sorted(self.precisions)]
        return f" ({', '.join(parts)})" if parts else ""


def read_rows(paths: Iterable[Path], library: "Library", chosen: RowFilter) -> list[KernelRow]:
    """Return the measured kernels of files that a fit may use.

    Raises:
        InputError: A file holds no measured kernels, or a line cannot be read.
    """
    from pentarch.validation.files import kernel_rows

    return [row for path in paths for row in kernel_rows(path, library)[0] if chosen.takes(row)]


def rows_of_device(rows: Iterable[KernelRow], device: str) -> list[KernelRow]:
    """Return the rows of a device, each measurement once.

    Where a file has a column for each stack and one that is the median of several, the median is
    used; where its reference is that of one stack, all columns are.
    """
    own = [row for row in rows if row.device == device]
    medians = {id(row.parts) for row in own if not row.framework and len(row.runtimes) > 1}
    columns = {id(row.parts) for row in own if row.framework} - medians
    return [row for row in own if bool(row.framework) == (id(row.parts) in columns)]


def rows_of_runtime(rows: Iterable[KernelRow], runtime: str) -> list[KernelRow]:
    """Return the rows that a stack alone ran, each measurement once."""
    own = [row for row in rows if row.runtimes == (runtime,)]
    columns = {id(row.parts) for row in own if row.framework}
    return [row for row in own if row.framework or id(row.parts) not in columns]


def observations(rows: Sequence[KernelRow]) -> Observations:
    """Return the times of rows and how far a prediction may be from them."""
    return Observations(
        seconds=np.array([row.measured_s for row in rows]),
        noise=np.array([NOISE[row.subset] for row in rows]),
    )


def sources_of(rows: Sequence[KernelRow], chosen: RowFilter) -> str:
    """Return the files that rows are from, in words for provenance."""
    return " and ".join(sorted({row.file for row in rows})) + chosen.shown


def errors_of(predicted: Floats, rows: Sequence[KernelRow]) -> dict[str, float]:
    """Return the errors over the main rows, or over all where none is main; `rows` counts them."""
    main = np.array([row.subset == "main" for row in rows])
    picked = main if main.any() else ~main
    ratios = (predicted / np.array([row.measured_s for row in rows]))[picked]
    distance = np.abs(ratios - 1.0)
    return {
        "mape": float(distance.mean()), "median_ape": float(np.median(distance)),
        "bias": float(np.exp(np.log(ratios).mean())), "rows": float(picked.sum()),
    }  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class _Share:
    """The rows of one device that one stack ran on one kind of board."""

    per_board: int | None
    runtime: str
    picked: npt.NDArray[np.intp]
    slots: npt.NDArray[np.intp]
    batch: KernelBatch


class RowPredictor:
    """Predicts rows of one device, on many designs of it and under any variant of their stacks.

    Args:
        rows: The rows, R of them.
        device: Their device.
        backend: Its back-end.
    """

    def __init__(self, rows: Sequence[KernelRow], device: Device, backend: AnyBackend) -> None:
        self.device, self._backend, self._count = device, backend, len(rows)
        family = backend.family_field
        self.family: str | None = None if family is None else getattr(device, family)
        self._stacks = np.array([len(row.runtimes) for row in rows])
        if not self._stacks.all():
            row = rows[int(np.argmin(self._stacks))]
            raise InputError(f"{row.file}: {row.label} names no runtime.")
        members: dict[tuple[int | None, str], list[tuple[int, int]]] = {}
        for index, row in enumerate(rows):
            for slot, runtime in enumerate(row.runtimes):
                key = (row.devices_per_board, runtime)
                members.setdefault(key, []).append((index, slot))
        plain = describe(backend, device, 1)
        self._shares = tuple(
            _Share(
                per_board=per_board,
                runtime=runtime,
                picked=np.array([index for index, _ in found], dtype=np.intp),
                slots=np.array([slot for _, slot in found], dtype=np.intp),
                batch=KernelBatch.of(
                    [rows[index] for index, _ in found], self._on_board(plain, per_board)
                ),
            )
            for (per_board, runtime), found in members.items()
        )

    @property
    def runtimes(self) -> frozenset[str]:
        """Names of the stacks that ran the rows."""
        return frozenset(share.runtime for share in self._shares)

    def seconds(
        self, runtimes: Mapping[str, Runtime], columns: Mapping[str, Floats] | None = None
    ) -> Floats:
        """Return predicted times, (R, N); NaN where a row cannot run. Of several stacks, the median.

        Args:
            runtimes: The stacks by name.
            columns: Swept fields of the device, (N,) each; one design without.
        """
        length = len(next(iter(columns.values()))) if columns else 1
        found = np.full((self._count, int(self._stacks.max(initial=1)), length), np.nan)
        machine = describe(self._backend, self.device, length, columns)
        for share in self._shares:
            found[share.picked, share.slots] = share.batch.seconds(
                self._on_board(machine, share.per_board), self._backend,
                runtimes[share.runtime].for_family(self.family),
            )  # fmt: skip
        total = np.empty((self._count, length))
        for count in np.unique(self._stacks).tolist():
            picked = np.flatnonzero(self._stacks == count)
            total[picked] = np.median(found[picked, :count], axis=1)
        return total

    def _on_board(self, machine: MachineTable, per_board: int | None) -> MachineTable:
        name = self.device.name
        return on_boards(machine, System(name=name, device=name, devices_per_board=per_board))


def runnable(
    rows: Sequence[KernelRow], predictor: RowPredictor, library: "Library"
) -> list[KernelRow]:
    """Return the rows that their device can run."""
    stacks = {name: library.runtime(name) for name in predictor.runtimes}
    able = np.isfinite(predictor.seconds(stacks)[:, 0])
    return [row for row, can in zip(rows, able.tolist(), strict=True) if can]
