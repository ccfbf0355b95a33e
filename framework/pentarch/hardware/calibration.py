"""Calibrations: figures of a device model that were fitted to measurements, kept with their origin.

A field of a device that its back-end lets a fit set (`Backend.calibrated`) takes its value from the
first of these that has one:

1. the device's own file, unless it states the value as an assumption,
2. the calibration of the device, or of the device it is a variant of, if it identified the value,
3. a file of the family's own,
4. the back-end's prior of the device, moved by what was identified on other devices against their
   own priors (`hardware.priors`),
5. where the back-end has no prior: the geometric mean of what was identified on other devices of
   the family, else on all devices of the back-end,
6. what an own calibration did not identify: the prior that it started from,
7. the assumption in the device's file, the back-end's prior, or the default of the model.

Leaving out a device or family hides its calibrations, and everything that was derived from them, so
that what remains predicts it without its own measurements.
"""

import datetime
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from pydantic import model_validator

from pentarch.hardware.kernel_figures import (
    KERNELS,
    expected_kernels,
    split_parameter,
    with_kernel_figures,
)
from pentarch.hardware.machine import Provenance, provenance
from pentarch.hardware.priors import Prior, expected_log_ratio
from pentarch.model import Model


class CalibratedParameter(Model):
    """One fitted figure."""

    value: float
    """What the fit found; the prior where the measurements say nothing."""
    prior: float | None = None
    """Where the fit started from and was drawn to; `None` without a prior."""
    facts: float | None = None
    """What the back-end's prior alone says of the device, before other devices moved it: other
    devices learn from value / facts. `None` when there is no such prior."""
    interval: tuple[float, float] | None = None
    """Range that holds the value with a probability of 90 %; `None` when not computed."""
    identified: bool = True
    """Whether the measurements determine the value; if not, it is the prior."""


class Calibration(Model):
    """The result of one fit: of a device, of a whole family, or of a software stack."""

    name: str
    """Unique in the catalog: the stem of its file."""
    about: str = ""
    """One line for lists."""
    backend: str | None = None
    """Back-end of the device or family; `None` for a runtime."""
    device: str | None = None
    """Device that was fitted."""
    family: str | None = None
    """Family of that device or, without a device, the family that this is a prior of."""
    runtime: str | None = None
    """Software stack that was fitted."""
    devices: tuple[str, ...] = ()
    """Devices whose measurements went into a runtime, a family or the priors of the fit."""
    source: str
    """Files of measurements, and which of their rows."""
    date: datetime.date
    """Day of the fit, as in 2026-01-31."""
    error: dict[str, float] = {}
    """What remained: `mape`, `median_ape`, `bias`, `rows`, ..."""
    parameters: dict[str, CalibratedParameter]
    """By field of the device or runtime; `field.key` for an entry of a field that maps names."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        owners = [self.device is not None, self.runtime is not None]
        if sum(owners) > 1 or (not any(owners) and self.family is None):
            raise ValueError("exactly one of `device` (with its `family`), `family` and `runtime`")
        if (self.backend is None) == (self.runtime is None):
            raise ValueError("`backend` for a device or family, and none for a runtime")
        return self

    @property
    def origin(self) -> str:
        """Data, date and error in one line, for provenance."""
        error = self.error.get("mape")
        return f"{self.source}, {self.date}" + (f", MAPE {error:.1%}" if error is not None else "")


@dataclass(frozen=True, slots=True)
class Fitted:
    """A figure that a calibration supplies."""

    value: float
    """The figure."""
    provenance: Provenance
    """`meas` for a device's own measurements, `der` for what follows from others."""


@dataclass(frozen=True, slots=True)
class CalibrationStore:
    """All calibrations that may be used."""

    entries: tuple[Calibration, ...] = ()
    """Every calibration of the catalog."""
    left_out: frozenset[str] = field(default_factory=frozenset)
    """Devices and families whose own measurements must not be used, in lower case."""
    first: int = 0
    """How many of the entries, from the first, count before all others whatever they rest on."""

    def figures(
        self, backend: str, *, lineage: Sequence[str], family: str | None,
        priors: Mapping[str, Prior] | None = None,
    ) -> Mapping[str, Fitted]:  # fmt: skip
        """Return the fitted figures of a device by parameter.

        Args:
            backend: Back-end of the device.
            lineage: The device, then the devices it is a variant of.
            family: Its family; `None` when it has none.
            priors: What the back-end expects of the device from its datasheet.
        """
        found: dict[str, Fitted] = {}
        for level in self._levels(backend, lineage=lineage, family=family, priors=priors or {}):
            for parameter, fitted in level.items():
                found.setdefault(parameter, fitted)
        return found

    def runtime_figures(self, runtime: str) -> Mapping[str, Fitted]:
        """Return the fitted figures of a software stack by parameter.

        Of several calibrations of one parameter the one that rests on the most devices counts, after
        those that count first. A
        kernel set that was fitted on devices of one family also says what to expect on others
        (`hardware.kernel_figures`).
        """
        named, others = (
            [one for one in entries if one.runtime == runtime and self.may_use(one)]
            for entries in (self.entries[: self.first], self.entries[self.first :])
        )
        usable = [*named, *sorted(others, key=lambda one: (-len(one.devices), one.name))]
        found: dict[str, Fitted] = {}
        for entry in usable:
            for parameter, fitted in _measured(entry).items():
                found.setdefault(parameter, fitted)
        for parameter, fitted in expected_kernels(usable).items():
            found.setdefault(parameter, fitted)
        return found

    @property
    def families(self) -> frozenset[str]:
        """Families that some calibration names."""
        return frozenset(entry.family for entry in self.entries if entry.family is not None)

    def _levels(
        self, backend: str, *, lineage: Sequence[str], family: str | None,
        priors: Mapping[str, Prior],
    ) -> Iterator[Mapping[str, Fitted]]:  # fmt: skip
        usable = [
            entry for entry in self.entries if entry.backend == backend and self.may_use(entry)
        ]
        fitted = [entry for entry in usable if entry.device is not None]
        hidden = any(self._hides(name) for name in lineage)
        named = () if hidden else tuple(lineage)
        own = [entry for name in named for entry in fitted if entry.device == name]
        yield from (_measured(entry, identified=True) for entry in own)
        if family is not None and not self._hides(family):
            files = [entry for entry in usable if entry.device is None and entry.family == family]
            yield from (_prior(entry) for entry in files)
        yield _expected([entry for entry in fitted if entry.device not in lineage], family, priors)
        if family is not None and not self._hides(family):
            yield _mean([entry for entry in fitted if entry.family == family], family)
        yield _mean(fitted, "all families")
        yield from (_measured(entry, identified=False) for entry in own)
        yield {
            name: Fitted(prior.value, provenance(prior.reason, "asm"))
            for name, prior in priors.items()
        }

    def _hides(self, name: str) -> bool:
        return name.casefold() in self.left_out

    def may_use(self, entry: Calibration) -> bool:
        """Return whether an entry rests on nothing that is left out."""
        names = (entry.device, entry.family, *entry.devices)
        return not any(name is not None and self._hides(name) for name in names)


def _measured(entry: Calibration, *, identified: bool | None = None) -> Mapping[str, Fitted]:
    """Return what an entry says; only what was identified, or only what was not, when that is asked."""
    return {
        name: Fitted(
            value=parameter.value,
            provenance=provenance(
                f"fitted: {entry.origin}"
                if parameter.identified
                else f"prior, not identified by {entry.origin}",
                "meas" if parameter.identified else "der",
            ),
        )
        for name, parameter in entry.parameters.items()
        if identified is None or parameter.identified == identified
    }


def _expected(
    entries: Sequence[Calibration], family: str | None, priors: Mapping[str, Prior]
) -> Mapping[str, Fitted]:
    """Return priors moved by what other devices turned out to be against theirs."""
    found: dict[str, Fitted] = {}
    for name, prior in priors.items():
        ratios, devices = log_ratios(entries, name)
        if ratios:
            moved = prior.moved(expected_log_ratio(ratios, family))
            source = f"{prior.reason}, moved by what was fitted to {', '.join(devices)}"
            found[name] = Fitted(moved.value, provenance(source, "der"))
    return found


def log_ratios(
    entries: Sequence[Calibration], parameter: str
) -> tuple[Mapping[str, Sequence[float]], tuple[str, ...]]:
    """Return log(value / facts) by family where a parameter was identified, and the devices.

    Of several calibrations of one device the first counts.
    """
    first: dict[str, tuple[str, float]] = {}
    for entry in entries:
        one = entry.parameters.get(parameter)
        if (
            one is not None
            and one.identified
            and one.facts is not None
            and min(one.value, one.facts) > 0
        ):
            ratio = math.log(one.value / one.facts)
            first.setdefault(str(entry.device), (entry.family or str(entry.device), ratio))
    ratios: dict[str, list[float]] = {}
    for owner, ratio in first.values():
        ratios.setdefault(owner, []).append(ratio)
    return ratios, tuple(sorted(first))


def _prior(entry: Calibration) -> Mapping[str, Fitted]:
    source = provenance(f"prior of {entry.family}: {entry.origin}", "der")
    return {
        name: Fitted(value=parameter.value, provenance=source)
        for name, parameter in entry.parameters.items()
    }


def _mean(entries: Sequence[Calibration], owner: str) -> Mapping[str, Fitted]:
    """Return the geometric means of what was identified; the plain mean where a value is not positive."""
    values: dict[str, list[tuple[str, float]]] = {}
    for entry in entries:
        for name, parameter in entry.parameters.items():
            if parameter.identified:
                values.setdefault(name, []).append((str(entry.device), parameter.value))
    return {
        name: Fitted(
            value=_middle([value for _, value in found]),
            provenance=provenance(
                f"mean over {owner}: " + ", ".join(sorted(device for device, _ in found)), "der"
            ),
        )
        for name, found in values.items()
    }


def _middle(values: Sequence[float]) -> float:
    if min(values) > 0:
        return math.exp(math.fsum(math.log(value) for value in values) / len(values))
    return math.fsum(values) / len(values)


def with_figures(
    values: Mapping[str, Any],
    figures: Mapping[str, Fitted],
    *,
    allowed: Iterable[str] | None = None,
) -> dict[str, Any]:
    """Return the fields of a device or runtime with fitted figures where nothing better is stated.

    A stated figure stays unless its grade is `asm`: an assumption gives way to a measurement, but
    not to another assumption.

    Args:
        values: Fields as their file has them, `sources` among them.
        figures: Fitted figures by parameter.
        allowed: Fields that a fit may set; `None` means all.
    """
    changed, sources = dict(values), dict(values.get("sources") or {})
    may = None if allowed is None else frozenset(allowed)
    if values.get(KERNELS) and not is_stated(values, KERNELS):
        changed[KERNELS] = with_kernel_figures(values[KERNELS], figures)
    for parameter, fitted in figures.items():
        name, _, key = parameter.partition(".")
        if split_parameter(parameter) is not None:
            continue
        if (may is not None and name not in may) or is_stated(values, parameter):
            continue
        if fitted.provenance.grade == "asm" and _has(values, name, key):
            continue
        changed[name] = {**(changed.get(name) or {}), key: fitted.value} if key else fitted.value
        sources[parameter] = fitted.provenance.model_dump()
    if sources:
        changed["sources"] = sources
    return changed


def _has(values: Mapping[str, Any], name: str, key: str) -> bool:
    stated = values.get(name)
    return stated is not None and (not key or key in stated)


def is_stated(values: Mapping[str, Any], parameter: str) -> bool:
    """Return whether a file states a parameter on better grounds than an assumption.

    Args:
        values: Fields of the file, `sources` among them.
        parameter: Field, or `field.key`.
    """
    name, _, key = parameter.partition(".")
    if not _has(values, name, key):
        return False
    sources = values.get("sources") or {}
    source = next((sources[at] for at in (f"{name}.{key}", name, "*") if at in sources), None)
    grade = source.get("grade") if isinstance(source, Mapping) else None
    return grade != "asm"
