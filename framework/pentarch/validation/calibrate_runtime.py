"""Calibration of a software stack: its kernels' figures from measured kernels, hardware held fixed.

Kernel sets that no row has in common are fitted apart, each to the rows that it moves, jointly over
all devices that run it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pentarch.errors import InputError, UnknownNameError
from pentarch.hardware.calibration import CalibratedParameter, Calibration
from pentarch.hardware.columns import Floats
from pentarch.hardware.kernel_figures import (
    KERNELS,
    families_of,
    kernel_key,
    split_parameter,
    with_kernel_value,
)
from pentarch.hardware.priors import Prior
from pentarch.hardware.runtime import Runtime
from pentarch.model import load
from pentarch.validation.calibrate import SHIFT, FitRequest, Result, calibrated, rounded_errors
from pentarch.validation.fit import fit_parameters
from pentarch.validation.fit_rows import (
    RowPredictor,
    errors_of,
    observations,
    rows_of_runtime,
    runnable,
    sources_of,
)
from pentarch.validation.kernel_priors import runtime_priors
from pentarch.validation.kernels import KernelRow

if TYPE_CHECKING:
    from pentarch.catalog import Library

LEAST = 2e-3
"""Change of the logarithm of a prediction, when a parameter grows by 10 %, from which on the row has a
say about it."""


def calibrate_runtime(
    rows: Sequence[KernelRow], runtime: str, library: "Library", request: FitRequest
) -> Result:
    """Fit the figures of a stack to measured kernels.

    Args:
        rows: Measured kernels; those of other stacks are not looked at.
        runtime: Name of the stack.
        library: Where stack and devices are looked up.
        request: What is fitted.

    Raises:
        InputError: No row was run by the stack, scipy is missing, or nothing can be fitted.
        UnknownNameError: There is no such stack, or it has no such parameter.
    """
    stack = library.runtime(runtime)
    own = _usable(rows_of_runtime(rows, runtime), library)
    if not own:
        raise InputError(
            f"No usable row of the files was run by {runtime!r} alone. Name a file with rows of this "
            "stack; rows flagged as unreliable are not used."
        )
    priors = runtime_priors(stack)
    wanted = _wanted(priors, request.parameters)
    rig = _Rig(own, stack, library)
    found: dict[str, CalibratedParameter] = {}
    used: set[int] = set()
    at_priors = rig.changed({name: priors[name].value for name in wanted})
    for names, picked in _components(rig, at_priors, {name: priors[name] for name in wanted}):
        part = _Rig([own[index] for index in picked], at_priors, library)
        fit = fit_parameters(
            part.predict, observations(part.rows), {name: priors[name] for name in names}
        )
        found |= calibrated(fit, priors)
        used |= set(picked)
    if not found:
        raise InputError(
            f"No figure of {runtime!r} moves a prediction of these rows. Give the runtime kernel sets "
            "for what the rows run (`kernels` in its file)."
        )
    kept = sorted(used)
    chosen = [own[index] for index in kept]
    before = rig.predict_all(at_priors)[kept]
    after = rig.predict_all(rig.changed({name: one.value for name, one in found.items()}))[kept]
    calibration = Calibration(
        name=request.name, about=f"{runtime}, fitted to {sources_of(chosen, request.chosen)}.",
        runtime=runtime, devices=tuple(sorted({row.device for row in chosen})),
        source=f"{sources_of(chosen, request.chosen)}: {len(chosen)} rows of {runtime}",
        date=request.date, error=rounded_errors(errors_of(after, chosen)),
        parameters=dict(sorted(found.items())),
    )  # fmt: skip
    return Result(calibration, errors_of(before, chosen), errors_of(after, chosen))


def _wanted(priors: Mapping[str, Prior], asked: Sequence[str]) -> tuple[str, ...]:
    """Return the figures that are asked for, each by its name or by the beginning of several.

    Where nothing is asked for: those of kernel sets, or all where a stack has none. Figures that
    every operator shares would have to make up for kernels that are not fitted yet.

    Raises:
        UnknownNameError: The stack has no such figure.
    """
    if not asked:
        return tuple(name for name in priors if split_parameter(name)) or tuple(priors)
    found: dict[str, None] = {}
    for text in asked:
        named = [name for name in priors if name == text] or [
            name for name in priors if name.startswith(text)
        ]
        if not named:
            raise UnknownNameError(kind="parameter", name=text, known=sorted(priors))
        found |= dict.fromkeys(named)
    return tuple(found)


def changed_runtime(stack: Runtime, values: Mapping[str, float]) -> Runtime:
    """Return a stack with some of its figures changed.

    Args:
        stack: The stack.
        values: By parameter, as calibrations name them.

    Raises:
        FieldError: A figure is out of its bounds.
    """
    fields: dict[str, Any] = stack.model_dump()
    by_set: dict[str, dict[str, float]] = {}
    for parameter, value in values.items():
        split = split_parameter(parameter)
        if split is None:
            fields[parameter] = value
        else:
            by_set.setdefault(split[0], {})[split[1]] = value
    kernels = []
    for entry in fields[KERNELS]:
        for name, value in by_set.get(kernel_key(entry), {}).items():
            entry = with_kernel_value(entry, name, value)
        kernels.append(entry)
    return load(Runtime, {**fields, KERNELS: kernels}, where=f"runtime {stack.name}")


@dataclass(frozen=True, slots=True, eq=False)
class _OfDevice:
    """Rows of one device."""

    picked: tuple[int, ...]
    predictor: RowPredictor


class _Rig:
    """Predicts rows of one stack on any devices under variants of the stack."""

    def __init__(self, rows: Sequence[KernelRow], stack: Runtime, library: "Library") -> None:
        self.rows, self._stack = tuple(rows), stack
        members: dict[str, list[int]] = {}
        for index, row in enumerate(rows):
            members.setdefault(row.device, []).append(index)
        self._devices = []
        for name, picked in members.items():
            device = library.device(name)
            predictor = RowPredictor([rows[i] for i in picked], device, library.backend_of(device))
            self._devices.append(_OfDevice(tuple(picked), predictor))

    def changed(self, values: Mapping[str, float]) -> Runtime:
        """Return the stack with figures changed."""
        return changed_runtime(self._stack, values)

    def predict(self, columns: Mapping[str, Floats]) -> Floats:
        """Return predicted times under N variants of the stack, (R, N)."""
        length = len(next(iter(columns.values())))
        variants = [
            self.changed({name: float(column[index]) for name, column in columns.items()})
            for index in range(length)
        ]
        return np.stack([self.predict_all(variant) for variant in variants], axis=1)

    def predict_all(self, stack: Runtime, families: frozenset[str] | None = None) -> Floats:
        """Return predicted times under one variant, (R,); NaN on devices of other families."""
        seconds = np.full(len(self.rows), np.nan)
        for one in self._devices:
            if families is None or one.predictor.family in families:
                seconds[list(one.picked)] = one.predictor.seconds({stack.name: stack})[:, 0]
        return seconds


def _usable(rows: Sequence[KernelRow], library: "Library") -> list[KernelRow]:
    found: list[KernelRow] = []
    for name in sorted({row.device for row in rows}):
        device = library.device(name)
        own = [row for row in rows if row.device == name]
        found += runnable(own, RowPredictor(own, device, library.backend_of(device)), library)
    return found


def _components(
    rig: _Rig, stack: Runtime, priors: Mapping[str, Prior]
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Yield groups of parameters with the rows that they move; figures of all operators come first.

    Two kernel sets are in one group where a row depends on both.
    """
    plain = rig.predict_all(stack)
    moved: dict[str, frozenset[int]] = {}
    for name, prior in priors.items():
        up = prior.value * SHIFT
        shifted = changed_runtime(stack, {name: up if up <= prior.high else prior.value / SHIFT})
        change = np.nan_to_num(np.abs(np.log(rig.predict_all(shifted, families_of(name)) / plain)))
        rows = frozenset(np.flatnonzero(change > LEAST).tolist())
        if rows:
            moved[name] = rows
    for name in [name for name in moved if split_parameter(name) is None]:
        yield (name,), tuple(sorted(moved.pop(name)))
    while moved:
        names, rows = _take_group(moved)
        yield names, tuple(sorted(rows))


def _take_group(moved: dict[str, frozenset[int]]) -> tuple[tuple[str, ...], frozenset[int]]:
    """Take a parameter and all that share a kernel set or a row with it, directly or not."""
    first = next(iter(moved))
    names, rows = [first], moved.pop(first)
    grown = True
    while grown:
        grown = False
        sets = {split[0] for name in names if (split := split_parameter(name))}
        for name in list(moved):
            split = split_parameter(name)
            if (split and split[0] in sets) or moved[name] & rows:
                rows |= moved.pop(name)
                names.append(name)
                grown = True
    return tuple(names), rows
