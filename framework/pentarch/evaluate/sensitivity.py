"""Which assumption moved a verdict most: every weakly graded input at both ends of its interval.

Inputs of a machine (fields of the device, figures of the technology library) are changed one at a
time and evaluated together, as one batch of designs; those that are no numbers of a machine (host,
system, software stack) take an evaluation each. Plan, formats and load stay as they are.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pentarch.errors import PentarchError
from pentarch.evaluate.batches import join_machines
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.explain import evaluation_of
from pentarch.evaluate.prepare import Prepared
from pentarch.hardware.columns import FieldRole, FieldSpec, Floats, field_specs
from pentarch.hardware.machine import MachineTable, Provenance
from pentarch.hardware.technology import assuming, technology
from pentarch.model import Model
from pentarch.results import Evaluation, InputEffect, Sensitivity, VerdictKind
from pentarch.targets import figure_of

WEAK = ("est", "asm")
"""Grades that are put to the test: estimates of analysts and press, and assumptions."""

FACTOR = 2.0
"""What an input is multiplied and divided by where nobody states an interval."""

NINETY = 1.645
"""Standard deviations on either side that hold 90 % of a normal distribution."""

SHARES = frozenset({"fraction", "per die"})
"""Units of the technology library whose figures are shares and stay at or below 1."""

HOST_FIELDS = ("host_w", "host_usd")
"""Fields of a device that count for the system and are no numbers of its machine."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One weakly graded input with its interval, and how to change it."""

    path: str
    """As in the inputs of an evaluation."""
    entry: Provenance
    """Source and grade."""
    value: float
    """What the evaluation rests on."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    is_stated: bool
    """Whether a source or prior states the interval; if not, it is a factor of two either way."""
    machine: Callable[[float], MachineTable] | None = None
    """The machine with another value, for inputs of a machine."""
    prepared: Callable[[float], Prepared] | None = None
    """The scenario with another value, for other inputs."""


@dataclass(frozen=True, eq=False)
class _Batch(Prepared):
    """A prepared scenario whose designs are given machines."""

    machines: MachineTable | None = None
    """N designs."""

    def describe(self, length: int, columns: Mapping[str, Floats] | None = None) -> MachineTable:
        if self.machines is None:
            raise ValueError("a batch without machines")
        return self.machines


def sensitivity(prepared: Prepared, *, count: int = 5) -> tuple[Sensitivity, ...]:
    """Return, for each verdict, the weakly graded inputs that move its figure most.

    Args:
        prepared: What was evaluated.
        count: Inputs listed for a verdict at most; all that change it are.

    Returns:
        One entry per target, in order. An input that cannot be changed (a remark, a choice, a number
        that is 0) or whose ends are no possible machine or stack is among `untested`.
    """
    scenario = prepared.scenario
    base = evaluation_of(prepared, run_designs(prepared, length=1), 0, scenario=scenario)
    trials, untested = _trials(prepared)
    found: dict[str, tuple[Evaluation, Evaluation]] = {}
    of_machine = [trial for trial in trials if trial.machine is not None]
    try:
        found |= _together(prepared, of_machine)
    except PentarchError:  # some end is no possible machine: find out which
        for trial in of_machine:
            try:
                found |= _together(prepared, [trial])
            except PentarchError:
                untested.append(trial.path)
    for trial in trials:
        if trial.prepared is None:
            continue
        try:
            found[trial.path] = (
                _alone(trial.prepared(trial.low)), _alone(trial.prepared(trial.high))
            )  # fmt: skip
        except PentarchError:
            untested.append(trial.path)
    tested = [trial for trial in trials if trial.path in found]
    return tuple(
        _of_target(base, position, [(trial, found[trial.path]) for trial in tested], count).replace(
            tested=len(tested), untested=tuple(sorted(untested))
        )
        for position in range(len(base.targets))
    )


def _together(
    prepared: Prepared, trials: Sequence[Trial]
) -> dict[str, tuple[Evaluation, Evaluation]]:
    """Return the evaluations at both ends of each trial's interval, all designs in one batch."""
    if not trials:
        return {}
    machines = [
        trial.machine(value)
        for trial in trials
        if trial.machine is not None
        for value in (trial.low, trial.high)
    ]
    own = {entry.name: getattr(prepared, entry.name) for entry in fields(Prepared) if entry.init}
    joined = join_machines(prepared.scenario.backend.name, machines)
    batch = _Batch(**own, machines=joined)
    figures = run_designs(batch, length=len(machines))
    ends = [
        evaluation_of(batch, figures, index, scenario=prepared.scenario)
        for index in range(len(machines))
    ]
    return {trial.path: (ends[2 * at], ends[2 * at + 1]) for at, trial in enumerate(trials)}


def _alone(prepared: Prepared) -> Evaluation:
    return evaluation_of(prepared, run_designs(prepared, length=1), 0, scenario=prepared.scenario)


def _of_target(
    base: Evaluation,
    position: int,
    ends: Sequence[tuple[Trial, tuple[Evaluation, Evaluation]]],
    count: int,
) -> Sensitivity:
    """Return what moved one verdict: inputs that flip it, that change it otherwise, then by size."""
    verdict = base.targets[position]
    name, value = verdict.figure, verdict.value
    is_met = verdict.verdict is VerdictKind.MET
    effects = []
    for trial, (low, high) in ends:
        values = (figure_of(low, name), figure_of(high, name))
        kinds = (low.targets[position].verdict, high.targets[position].verdict)
        effect = InputEffect(
            path=trial.path, grade=trial.entry.grade, source=trial.entry.source, value=trial.value,
            low=trial.low, high=trial.high, interval_stated=trial.is_stated,
            figure_low=values[0], figure_high=values[1], verdict_low=kinds[0], verdict_high=kinds[1],
            elasticity=_elasticity(trial, values),
            flips=any((kind is VerdictKind.MET) != is_met for kind in kinds),
        )  # fmt: skip
        swing, is_changed = _swing(value, values), any(kind != verdict.verdict for kind in kinds)
        if is_changed or swing > 0:
            effects.append((not effect.flips, not is_changed, -swing, effect))
    effects.sort(key=lambda entry: (*entry[:3], entry[3].path))
    changing = sum(not is_same for _, is_same, _, _ in effects)
    return Sensitivity(
        target=verdict.id, figure=name, value=value, verdict=verdict.verdict,
        inputs=tuple(entry[3] for entry in effects[: max(count, changing)]), tested=len(ends),
    )  # fmt: skip


def _elasticity(trial: Trial, values: tuple[float | None, float | None]) -> float | None:
    """Return d log figure / d log input over the interval; `None` where one is not positive."""
    low, high = values
    if low is None or high is None or min(low, high, trial.low) <= 0:
        return None
    return math.log(high / low) / math.log(trial.high / trial.low)


def _swing(value: float | None, values: tuple[float | None, float | None]) -> float:
    """Return the larger change of a figure, as a logarithm; infinite where it becomes unknown."""
    if value is None:
        return 0.0 if values == (None, None) else math.inf
    largest = 0.0
    for end in values:
        if end is None:
            return math.inf
        if end != value:
            apart = min(end, value) <= 0
            largest = max(largest, math.inf if apart else abs(math.log(end / value)))
    return largest


def _trials(prepared: Prepared) -> tuple[list[Trial], list[str]]:
    """Return the weakly graded inputs that are numbers, and the paths of those that are none."""
    scenario = prepared.scenario
    found = [*_of_device(prepared), *_of_library(prepared)]
    for owner, model in (("runtime", scenario.runtime), ("system", scenario.system)):
        found += _of_part(prepared, owner, model)
    usable = [trial for trial in found if trial.low < trial.high and trial.value != 0]
    covered = {trial.path for trial in usable} | {trial.path.rpartition(".")[0] for trial in usable}
    weak = {path for path, entry in prepared.machine.provenance.items() if entry.grade in WEAK}
    for owner, part in (("runtime", scenario.runtime), ("system", scenario.system)):
        weak |= {f"{owner}.{path}" for path, entry in part.sources.items() if entry.grade in WEAK}
    untested = {path for path in weak if not path.endswith("*")} - covered
    return usable, sorted(untested)


def _of_device(prepared: Prepared) -> Iterator[Trial]:
    """Yield the numbers of the device, an entry of a mapping each, with the interval of its prior."""
    device, scenario = prepared.scenario.device, prepared.scenario
    priors = scenario.backend.priors(device)
    for path, value, spec in _numbers(device):
        entry = _source(device.sources, path)
        if entry is None or entry.grade not in WEAK:
            continue
        interval = (value / FACTOR, value * FACTOR)
        if path in priors:
            spread = math.exp(NINETY * priors[path].spread)
            interval = (value / spread, value * spread)
        low, high = _within(interval, spec.bounds, is_whole=isinstance(value, int))
        trial = Trial(path, entry, float(value), low, high, path in priors)
        if path in HOST_FIELDS:
            yield replace(trial, prepared=_with_part(prepared, "device", device, path))
        else:
            yield replace(trial, machine=_with_column(prepared, path))


def _of_library(prepared: Prepared) -> Iterator[Trial]:
    """Yield the figures of the technology library that the machine rests on."""
    library = technology()
    for path, entry in prepared.machine.provenance.items():
        figure = library.figures.get(path)
        if figure is None or entry.grade not in WEAK or not isinstance(figure.value, float):
            continue
        low, high = figure.range or (figure.value / FACTOR, figure.value * FACTOR)
        if figure.unit in SHARES:
            high = min(high, 1.0)
        yield Trial(
            path, entry, figure.value, low, high, figure.range is not None,
            machine=_with_figure(prepared, path),
        )  # fmt: skip


def _of_part(prepared: Prepared, owner: str, part: Model) -> Iterator[Trial]:
    """Yield the numbers of a software stack or system."""
    sources: Mapping[str, Provenance] = getattr(part, "sources", {})
    for path, value, spec in _numbers(part):
        entry = _source(sources, path)
        if entry is None or entry.grade not in WEAK:
            continue
        interval = (value / FACTOR, value * FACTOR)
        low, high = _within(interval, spec.bounds, is_whole=isinstance(value, int))
        yield Trial(
            f"{owner}.{path}", entry, float(value), low, high, False,
            prepared=_with_part(prepared, owner, part, path),
        )  # fmt: skip


def _numbers(model: Model) -> Iterator[tuple[str, float, FieldSpec]]:
    """Yield path, value (an `int` where only whole numbers are allowed) and bounds of every number."""
    for name, spec in field_specs(type(model)).items():
        value = getattr(model, name)
        if value is None or isinstance(value, bool):
            continue
        if spec.role is FieldRole.NUMBER:
            yield name, value, spec
        elif spec.role is FieldRole.NUMBERS:
            for key, entry in value.items():
                yield f"{name}.{key}", entry, spec


def _source(sources: Mapping[str, Provenance], path: str) -> Provenance | None:
    field = path.partition(".")[0]
    return sources.get(path) or sources.get(field) or sources.get("*")


def _within(
    interval: tuple[float, float], bounds: Sequence[tuple[str, float]], *, is_whole: bool
) -> tuple[float, float]:
    """Return an interval kept within what a field allows, in whole numbers where it counts.

    An open bound is kept clear of.
    """
    low, high = (math.ceil(interval[0]), math.floor(interval[1])) if is_whole else interval
    limits = dict(bounds)
    low = max(
        low, limits.get("ge", -math.inf), math.nextafter(limits.get("gt", -math.inf), math.inf)
    )
    high = min(
        high, limits.get("le", math.inf), math.nextafter(limits.get("lt", math.inf), -math.inf)
    )
    return low, high


def _with_column(prepared: Prepared, path: str) -> Callable[[float], MachineTable]:
    return lambda value: prepared.describe(1, {path: np.array([value])})


def _with_figure(prepared: Prepared, path: str) -> Callable[[float], MachineTable]:
    def described(value: float) -> MachineTable:
        library = technology()
        changed = library.figure(path).replace(value=value)
        with assuming(library.with_figures(changed)):
            return prepared.describe(1)

    return described


def _with_part(
    prepared: Prepared, owner: str, part: Model, path: str
) -> Callable[[float], Prepared]:
    """Return what gives the scenario with another number of its device, system or stack."""
    name, _, key = path.partition(".")

    def changed(number: float) -> Prepared:
        new: object = {**getattr(part, name), key: number} if key else number
        replaced: dict[str, Any] = {owner: part.replace(**{name: new})}
        return replace(prepared, scenario=replace(prepared.scenario, **replaced))

    return changed
