"""Calibration of a device: its physical parameters from measured kernels, its stacks held fixed.

Hardware parameters are fitted per device and runtime parameters per stack (`calibrate_runtime`);
neither fit changes the other's.
"""

import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pentarch.errors import InputError, UnknownNameError
from pentarch.hardware.calibration import CalibratedParameter, Calibration
from pentarch.hardware.columns import Floats
from pentarch.hardware.device import Device
from pentarch.hardware.priors import Prior
from pentarch.validation.fit import Fit, Predict, fit_parameters
from pentarch.validation.fit_rows import (
    RowFilter,
    RowPredictor,
    errors_of,
    observations,
    rows_of_device,
    runnable,
    sources_of,
)
from pentarch.validation.kernels import KernelRow

if TYPE_CHECKING:
    from pentarch.catalog import Library

DIGITS = 5
"""Significant digits that a calibration keeps."""
SHIFT = 1.1
"""Factor on a parameter that shows whether a prediction depends on it."""
LEAST = 1e-6
"""Change of the logarithm of a prediction that counts as one."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """How a fit is made."""

    name: str
    """Name of the calibration."""
    date: datetime.date
    """Day of the fit."""
    parameters: tuple[str, ...] = ()
    """What is fitted; empty for all that the rows depend on."""
    chosen: RowFilter = field(default_factory=RowFilter)
    """Which rows are used."""
    independent: bool = False
    """Whether the priors are the back-end's alone, so that the fit rests on no other device."""


@dataclass(frozen=True, slots=True)
class Result:
    """A calibration with the errors on the rows that it was fitted to."""

    calibration: Calibration
    """What was found."""
    before: dict[str, float]
    """Errors at the priors."""
    after: dict[str, float]
    """Errors at what was found."""


def calibrate_device(
    rows: Sequence[KernelRow], device: str, library: "Library", request: FitRequest
) -> Result:
    """Fit the parameters of a device to measured kernels.

    Args:
        rows: Measured kernels; those of other devices are not looked at.
        device: Name or path of the device.
        library: Where it is looked up; what it leaves out moves no prior.
        request: What is fitted.

    Raises:
        InputError: No row is of the device, scipy is missing, or nothing can be fitted.
        UnknownNameError: There is no such device, or it has no such parameter.
    """
    template = library.device(device)
    backend = library.backend_of(template)
    own = rows_of_device(rows, template.name)
    if own:
        own = runnable(own, RowPredictor(own, template, backend), library)
    if not own:
        raise InputError(
            f"No usable row of the files is of {template.name}. Name a file with rows of this device; "
            "rows flagged as unreliable are not used."
        )
    facts = library.priors(device)
    if not facts:
        raise InputError(
            f"Back-end {backend.name!r} names no parameters that a fit may set. Choose a device of "
            "another back-end, or add `priors` to this one."
        )
    predictor = RowPredictor(own, template, backend)
    stacks = {name: library.runtime(name) for name in predictor.runtimes}

    def predict(columns: Mapping[str, Floats]) -> Floats:
        return predictor.seconds(stacks, columns)

    expected, devices = facts, tuple[str, ...]()
    if not request.independent:
        expected, devices = expected_priors(device, library, facts)
    names = request.parameters or moving(predict, expected)
    unknown = next((name for name in names if name not in expected), None)
    if unknown is not None:
        raise UnknownNameError(kind="parameter", name=unknown, known=sorted(expected))
    found = fit_parameters(predict, observations(own), {name: expected[name] for name in names})
    family = predictor.family
    calibration = Calibration(
        name=request.name, about=f"{template.name}, fitted to {sources_of(own, request.chosen)}.",
        backend=backend.name, device=template.name, family=family, devices=devices,
        source=f"{sources_of(own, request.chosen)}: {len(own)} rows of {template.name}",
        date=request.date, error=rounded_errors(errors_of(found.after, own)),
        parameters=calibrated(found, facts),
    )  # fmt: skip
    return Result(calibration, errors_of(found.before, own), errors_of(found.after, own))


def expected_priors(
    device: str, library: "Library", facts: Mapping[str, Prior]
) -> tuple[Mapping[str, Prior], tuple[str, ...]]:
    """Return the priors of a device as other devices moved them, and those devices.

    Args:
        device: Name of the device: what was fitted to itself is not used.
        library: Knows the calibrations.
        facts: What the back-end expects from the datasheet.
    """
    name = library.device_name(device)
    others = library if name is None else library.leaving_out(name)
    zero_shot = others.device(device)
    expected = {
        parameter: _at(prior, _value_of(zero_shot, parameter)) for parameter, prior in facts.items()
    }
    backend = library.backend_of(zero_shot).name
    devices = {
        str(entry.device)
        for entry in others.calibrations.entries
        if entry.backend == backend
        and entry.device is not None
        and others.calibrations.may_use(entry)
    }
    return expected, tuple(sorted(devices))


def moving(predict: Predict, priors: Mapping[str, Prior]) -> tuple[str, ...]:
    """Return the parameters that some prediction depends on."""
    names = tuple(priors)
    columns = {name: np.full(len(names) + 1, prior.value) for name, prior in priors.items()}
    for index, name in enumerate(names):
        prior = priors[name]
        up = prior.value * SHIFT
        columns[name][index + 1] = up if up <= prior.high else prior.value / SHIFT
    seconds = predict(columns)
    moved = np.abs(np.log(seconds[:, 1:] / seconds[:, :1])).max(axis=0) > LEAST
    return tuple(name for name, does in zip(names, moved.tolist(), strict=True) if does)


def calibrated(found: Fit, facts: Mapping[str, Prior]) -> dict[str, CalibratedParameter]:
    """Return what a fit found as the parameters of a calibration."""
    return {
        name: CalibratedParameter(
            value=_digits(one.value), prior=_digits(one.prior.value),
            facts=_digits(facts[name].value) if name in facts else None,
            interval=(_digits(one.interval[0]), _digits(one.interval[1])), identified=one.identified,
        )
        for name, one in sorted(found.estimates.items())
    }  # fmt: skip


def _at(prior: Prior, value: float | None) -> Prior:
    if value is None:
        return prior
    return Prior(
        min(max(value, prior.low), prior.high), prior.spread, prior.low, prior.high, prior.reason
    )


def _value_of(device: Device, parameter: str) -> float | None:
    name, _, key = parameter.partition(".")
    value: Any = getattr(device, name)
    found: float | None = value.get(key) if key else value
    return found


def _digits(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def rounded_errors(errors: Mapping[str, float]) -> dict[str, float]:
    """Return errors with the digits that a calibration keeps."""
    return {name: _digits(value) for name, value in errors.items()}
