"""A device from measurements of the machine that this runs on.

The operating system says what the processor is (`this_machine_facts`), operators are timed through
the numerical libraries that are installed (`this_machine_timing`), and the few figures that neither
a datasheet nor the operating system states are fitted to the times (`fit`): rates as libraries reach
them, bandwidth of one core and of all, start of an operator, barrier. What could not be read or
measured is said in the notes, and stays an assumption in the device.
"""

import datetime
import importlib.util
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pentarch.errors import InputError
from pentarch.hardware.calibration import CalibratedParameter
from pentarch.hardware.columns import Floats
from pentarch.hardware.priors import Prior
from pentarch.model import Model
from pentarch.validation.this_machine_draft import CORE_BYTES_PER_S, Draft
from pentarch.validation.this_machine_facts import MachineFacts, read_facts
from pentarch.validation.this_machine_timing import (
    Probe,
    Sampled,
    probes_for,
    time_probes,
)

if TYPE_CHECKING:
    from pentarch.catalog import Library
    from pentarch.hardware.device import Device
    from pentarch.validation.fit import Fit

BACKEND = "cpu"
"""Back-end of the device that is made."""
LEAST_SECONDS, MOST_SECONDS = 2.0, 45.0
"""Bounds of the time for measuring."""
MODEL_NOISE = 0.10
"""Error of the model's own that a fit allows for, as a standard deviation of the logarithm."""
QUIET = 0.1
"""Quantile of the repetitions that counts: what else runs on the machine only adds time."""
REACHED = 0.95
"""Share of the peak that a product of large matrices is taken to reach where no clock says more."""

HELD_UP = 1.5
"""Time of a product on all cores / on one from which on the threads must have waited for other work."""
HELD_UP_NOTE = (
    "a product took longer on all cores than on one, as other work held its threads up: products of all "
    "cores do not count, and the barrier is not known"
)
"""What is said then."""
IGNORED = 1e6
"""Noise of an operator that does not count."""
BUSY = 1.0
"""Runnable threads per hardware thread, beside one, above which other work disturbs the measurement."""
BUSY_NOTE = "other work ran beside the measurement (load {load:.1f}): repeat it on a quiet machine"
"""What is said then."""

MeasureProbes = Callable[[Sequence[Probe], float], Sequence[Sampled]]
"""Probes and seconds for all of them -> their times."""


class Errors(Model):
    """Errors of predictions against what was measured."""

    n: int
    """How many operators."""
    mape: float
    """Mean of |predicted / measured - 1|."""
    median_ape: float
    """Median of |predicted / measured - 1|."""
    bias: float
    """exp(mean(log(predicted / measured))); above 1 = predicted too high."""


class MeasuredOperator(Model):
    """One operator that was timed, beside its predictions."""

    label: str
    """What was run, through what, on how many cores."""
    operator: str
    """stream, gemm, attention or start."""
    measured_s: float
    """Fastest tenth of the repetitions."""
    repetitions: int
    """How often it was run."""
    used: bool
    """Whether it counts: products of all cores do not where other work held their threads up."""
    before_s: float
    """Predicted from what the operating system says, before the fit."""
    after_s: float
    """Predicted by the fitted device."""


class ThisMachine(Model):
    """The machine that this runs on, as a device."""

    device: dict[str, Any]
    """Fields of the device's YAML file."""
    parameters: dict[str, CalibratedParameter]
    """What was fitted."""
    before: dict[str, Errors]
    """Errors before the fit, by operator and over `all`."""
    after: dict[str, Errors]
    """Errors of the fitted device, by operator and over `all`."""
    operators: tuple[MeasuredOperator, ...]
    """What was timed."""
    notes: tuple[str, ...]
    """What could not be read or measured."""


def calibrate_this_machine(
    library: "Library", *, name: str = "this_machine", seconds: float = 20.0,
    progress: Callable[[str], None] | None = None, measure: MeasureProbes = time_probes,
    facts: MachineFacts | None = None,
) -> ThisMachine:  # fmt: skip
    """Measure the processor that this runs on and fit a device to it.

    Args:
        library: Knows the back-end of CPUs.
        name: Name of the device.
        seconds: Time for measuring.
        progress: Told in one line what comes next; `None` tells nobody.
        measure: Times the operators.
        facts: What is known of the processor; `None` asks the operating system.

    Raises:
        InputError: The time is out of bounds, scipy is missing, or timing failed.
        UnknownNameError: No plug-in has the back-end of CPUs.
    """
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise InputError(
            f"Found {seconds:g} s for measuring. Give {LEAST_SECONDS:g} to {MOST_SECONDS:g} s."
        )
    if importlib.util.find_spec("scipy") is None:
        raise InputError("A fit needs scipy. Install it with `pip install 'pentarch[calibrate]'`.")
    tell = progress or _nobody
    facts = read_facts() if facts is None else facts
    draft = Draft.of(facts, name)
    model = _MachineModel(library, draft)
    probes = probes_for(facts, formats=model.formats)
    tell(
        f"{facts.model or 'unknown processor'}: {facts.cores} cores, {len(probes)} operators to time"
    )
    sampled = measure(probes, seconds)
    load = _load()
    tell("fitting")
    if load is not None and load > BUSY * facts.threads + 1.0:  # one for what is measured here
        draft = replace(draft, notes=(*draft.notes, BUSY_NOTE.format(load=load)))
    return _fitted(model, draft, sampled)


def _load() -> float | None:
    """Return the mean number of runnable threads over the last minute; `None` where nothing says it."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else None


def _nobody(_: str) -> None:
    """Tell nobody."""


class _MachineModel:
    """Predicts probes on a drafted device; those of one core on one core's share of it."""

    def __init__(self, library: "Library", draft: Draft) -> None:
        from pentarch.hardware.reading import read_model

        self._library = library
        self.backend = library.registry.find(
            library.registry.backends, kind="backend", name=BACKEND
        )
        self._runtime = library.runtime("ideal")
        values = {**draft.values, "sources": draft.sources}
        self.device: Device = read_model(self.backend.device_model, values, where="this machine")
        self._is_many = draft.values["cores"] > 1
        self._total = float(draft.values["channel_bytes_per_s"])

    @property
    def formats(self) -> frozenset[str]:
        """Formats that the device multiplies."""
        from pentarch.evaluate.batches import describe

        engines = describe(self.backend, self.device, 1).engines
        return frozenset(name for engine in engines for name in engine.macs_per_cycle)

    def seconds(self, probes: Sequence[Probe], columns: Mapping[str, Floats]) -> Floats:
        """Return the predicted time of each probe, shape (R, N).

        Args:
            probes: R operators.
            columns: Fields of N designs, (N,) each.
        """
        length = len(next(iter(columns.values())))
        found = np.empty((len(probes), length))
        for is_single in (False, True):
            rows = [index for index, probe in enumerate(probes) if probe.is_single is is_single]
            if rows:
                found[rows] = self._group([probes[row] for row in rows], columns, length, is_single)
        return found

    def _group(
        self, probes: Sequence[Probe], columns: Mapping[str, Floats], length: int, is_single: bool
    ) -> Floats:
        from pentarch.evaluate.batches import describe
        from pentarch.validation.kernels import KernelRow
        from pentarch.validation.predict import KernelBatch

        changes = dict(columns)
        if is_single and self._is_many:  # one core streams what it can draw
            every, own = (
                columns.get(name, np.full(length, float(getattr(self.device, name))))
                for name in ("channel_bytes_per_s", "core_bytes_per_s")
            )
            changes |= {"cores": np.ones(length), "channel_bytes_per_s": np.minimum(every, own)}
        elif not self._is_many:  # one core is all of them
            changes["core_bytes_per_s"] = columns.get(
                "channel_bytes_per_s", np.full(length, self._total)
            )
        machine = describe(self.backend, self.device, length, changes)
        rows = [
            KernelRow(
                file="", label=probe.label, device="", operator=probe.operator, precision=probe.format,
                subset="main", runtimes=("ideal",), measured_s=1.0, parts=probe.parts,
                copies=None if probe.span_bytes else 1.0,
            )
            for probe in probes
        ]  # fmt: skip
        return KernelBatch.of(rows, machine).seconds(machine, self.backend, self._runtime)


@dataclass(frozen=True, slots=True, eq=False)
class _Observed:
    """Timed operators as a fit takes them."""

    probes: tuple[Probe, ...]
    """What was run, R operators."""
    seconds: Floats
    """What counts of the repetitions, (R,)."""
    noise: Floats
    """Expected standard deviation of the logarithm, (R,); endless where an operator does not count."""

    @classmethod
    def of(cls, sampled: Sequence[Sampled]) -> "_Observed":
        probes = tuple(one.probe for one in sampled)
        seconds = np.array([np.quantile(one.seconds, QUIET) for one in sampled])
        # What other work disturbed says less: its repetitions differ more.
        spread = np.log([np.median(one.seconds) for one in sampled]) - np.log(seconds)
        noise = np.hypot(MODEL_NOISE, spread)
        if _is_held_up(dict(zip(probes, seconds.tolist(), strict=True))):
            threaded = [not probe.is_single and probe.operator != "stream" for probe in probes]
            noise = np.where(threaded, IGNORED, noise)
        return cls(probes, seconds, noise)

    @property
    def used(self) -> list[bool]:
        """Whether each operator counts."""
        return [noise < IGNORED for noise in self.noise.tolist()]


def _is_held_up(seconds: Mapping[Probe, float]) -> bool:
    """Return whether all cores took longer for a product than one of them alone."""
    return any(
        time > HELD_UP * seconds.get(replace(probe, is_single=True), math.inf)
        for probe, time in seconds.items()
        if probe.operator == "gemm"
    )


def _fitted(model: _MachineModel, draft: Draft, sampled: Sequence[Sampled]) -> ThisMachine:
    from pentarch.validation.fit import Observations, fit_parameters

    observed = _Observed.of(sampled)
    probes, measured = observed.probes, observed.seconds
    stated = {"clock_hz": np.array([float(draft.values["clock_hz"])])}
    at_facts = model.seconds(probes, stated)[:, 0]
    clock, note = _reached_clock(draft, probes, measured)

    def predict(columns: Mapping[str, Floats]) -> Floats:
        length = len(next(iter(columns.values())))
        return model.seconds(probes, {**columns, "clock_hz": np.full(length, clock)})

    fit = fit_parameters(predict, Observations(measured, observed.noise), _priors(draft, probes))
    operators = tuple(
        MeasuredOperator(
            label=one.probe.label, operator=one.probe.operator, measured_s=float(time),
            repetitions=len(one.seconds), used=used, before_s=float(first), after_s=float(last),
        )
        for one, time, used, first, last in zip(
            sampled, measured, observed.used, at_facts, fit.after, strict=True
        )
    )  # fmt: skip
    parameters = {
        name: CalibratedParameter(
            value=one.value, prior=one.prior.value, interval=one.interval, identified=one.identified
        )
        for name, one in fit.estimates.items()
    }
    held_up = () if all(observed.used) else (HELD_UP_NOTE,)
    return ThisMachine(
        device=_document(draft, fit, clock, sampled), parameters=parameters,
        before=_errors(operators, "before_s"), after=_errors(operators, "after_s"), operators=operators,
        notes=(*draft.notes, *held_up, *note, *_unidentified(fit)),
    )  # fmt: skip


def _reached_clock(
    draft: Draft, probes: Sequence[Probe], measured: Floats
) -> tuple[float, tuple[str, ...]]:
    """Return the clock that counts: the stated one, or what the fastest product shows to be more."""
    stated = float(draft.values["clock_hz"])
    lanes = float(draft.values["simd_bytes_per_cycle"]) / 4.0
    reached = stated
    for probe, time in zip(probes, measured.tolist(), strict=True):
        if probe.operator == "gemm" and probe.format == "fp32":
            cores = 1.0 if probe.is_single else float(draft.values["cores"])
            reached = max(reached, math.prod(probe.sizes) / time / (lanes * cores * REACHED))
    if reached == stated:
        return stated, ()
    return reached, (
        f"clock raised from {stated / 1e9:.2f} to {reached / 1e9:.2f} GHz: products run faster than the "
        "stated clock allows",
    )


def _priors(draft: Draft, probes: Sequence[Probe]) -> dict[str, Prior]:
    reason = "assumption of this project for CPUs"
    found = {
        "simd_efficiency": Prior(0.85, 0.2, 0.02, 1.0, reason),
        "core_bytes_per_s": Prior(CORE_BYTES_PER_S, 0.7, 1e8, 1e12, reason),
        "channel_bytes_per_s": Prior(
            float(draft.values["channel_bytes_per_s"]), 1.0, 1e8, 1e13, reason
        ),
        "operator_start_s": Prior(1e-6, 1.0, 1e-8, 1e-3, reason),
        "l3_bytes_per_cycle": Prior(10.0, 0.5, 0.5, 256.0, reason),
        "transcendental_share": Prior(0.1, 0.7, 0.002, 1.0, reason),
    }
    if draft.values["cores"] == 1:
        del found["core_bytes_per_s"]  # one core is all of them
    else:
        found["line_transfer_s"] = Prior(5e-8, 1.0, 1e-9, 1e-4, reason)
    for kind in sorted({probe.format for probe in probes} - {"fp32"}):
        found[f"format_efficiency.{kind}"] = Prior(0.8, 0.7, 0.005, 1.0, reason)
    return found


def _unidentified(fit: "Fit") -> tuple[str, ...]:
    names = [name for name, one in fit.estimates.items() if not one.identified]
    return (
        (f"not determined by the measurements, left at the prior: {', '.join(names)}",)
        if names
        else ()
    )


def _errors(operators: Sequence[MeasuredOperator], field: str) -> dict[str, Errors]:
    groups: dict[str, list[float]] = {"all": []}
    for one in operators:
        if not one.used:
            continue
        ratio = getattr(one, field) / one.measured_s
        groups["all"].append(ratio)
        groups.setdefault(one.operator, []).append(ratio)
    return {
        name: Errors(
            n=len(ratios), mape=float(np.mean(np.abs(np.array(ratios) - 1.0))),
            median_ape=float(np.median(np.abs(np.array(ratios) - 1.0))),
            bias=float(np.exp(np.mean(np.log(ratios)))),
        )
        for name, ratios in groups.items()
    }  # fmt: skip


def _document(draft: Draft, fit: "Fit", clock: float, sampled: Sequence[Sampled]) -> dict[str, Any]:
    """Return the fields of the device's YAML file."""
    counts = [len(one.seconds) for one in sampled]
    day = datetime.date.today().isoformat()
    measured = f"measured on this machine, {day}, {min(counts)} to {max(counts)} repetitions"
    values, sources = dict(draft.values), {key: dict(one) for key, one in draft.sources.items()}
    del values["name"]
    values["year"] = None
    if clock != values["clock_hz"]:
        values["clock_hz"] = clock
        sources["clock_hz"] = {
            "source": f"{measured}: clock that the fastest product needs",
            "grade": "meas",
        }
    factors: dict[str, float] = {}
    for path, one in fit.estimates.items():
        name, _, key = path.partition(".")
        if key:
            factors[key] = one.value
        else:
            values[name] = one.value
        sources[path] = (
            {"source": measured, "grade": "meas"}
            if one.identified
            else {
                "source": f"{one.prior.reason}; not determined by what was {measured}",
                "grade": "asm",
            }
        )
    if factors:
        values["format_efficiency"] = factors
    if values["cores"] == 1:
        values["core_bytes_per_s"] = values["channel_bytes_per_s"]
        sources["core_bytes_per_s"] = sources["channel_bytes_per_s"]
    both = "memory_channels", "memory_efficiency"
    text = f"{measured}: the bandwidth that streams of all cores reach, as one channel"
    sources |= {name: {"source": text, "grade": "meas"} for name in both}
    kept = {key: value for key, value in values.items() if value is not None}
    return {"kind": "device", "backend": BACKEND, **kept, "sources": sources}


def write_device(found: ThisMachine, path: Path) -> None:
    """Write the device of a machine as a YAML file, over an earlier one.

    Args:
        found: The machine.
        path: The file; its stem is the device's name.

    Raises:
        InputError: The file cannot be written.
    """
    import yaml

    text = yaml.safe_dump(found.device, sort_keys=False, allow_unicode=True, width=120)
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
