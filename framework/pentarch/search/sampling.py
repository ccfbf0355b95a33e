"""Proposing designs with Optuna: ask and tell in batches, in memory, reproducibly.

Every batch has its own random numbers, derived from the seed and the number of the batch, and a
batch is asked as a whole before any of its trials is told. What batch k proposes thus depends on
space, seed, batch size and the trials of the batches before it, and on nothing else: a run that
is stopped and resumed proposes what an undisturbed one would have.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Self

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pentarch.results import Scalar
from pentarch.search.distributions import Choice, Distribution, FloatRange, IntRange
from pentarch.search.enumeration import active_part, dependency_order, is_active
from pentarch.search.objectives import Objective
from pentarch.search.records import Outcome, Proposal, Record
from pentarch.search.space import SamplerSettings, Space

CONSTRAINT_PREFIX = "constraints:"
"""Start of the system attributes that hold constraints; the run log keeps those in a column."""


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Let Optuna log warnings only, and restore its verbosity afterwards."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


class _SharedChoice(CategoricalDistribution):
    """Choices that every trial shares: never copied, and equal to itself without comparing values.

    Optuna copies and compares the distributions of a trial each time it is asked and told; with
    some fifteen parameters that would take most of the time of a search.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __eq__(self, other: object) -> bool:
        return self is other or super().__eq__(other)

    __hash__ = CategoricalDistribution.__hash__


class _SharedInt(IntDistribution):
    """Whole numbers that every trial shares: never copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _SharedFloat(FloatDistribution):
    """Numbers that every trial shares: never copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class BatchNSGAIISampler(NSGAIISampler):
    """NSGA-II for one batch, all of whose trials have the same parents.

    What the base class would look up anew among all trials for each trial (generation, parents,
    the parameters that all trials share) is looked up once, so that asking takes the same time
    however long the study is.
    """

    def __init__(
        self,
        *,
        population_size: int,
        seed: int,
        shared: Mapping[str, BaseDistribution],
        parents: Mapping[int, Sequence[int]],
    ) -> None:
        """Prepare one batch.

        Args:
            population_size: Designs per generation.
            seed: Seed of the batch.
            shared: Distributions of all parameters; every trial has every parameter.
            parents: Trial numbers of the parents by generation, as far as known.
        """
        super().__init__(population_size=population_size, seed=seed)
        self._shared = {name: entry for name, entry in shared.items() if not entry.single()}
        self._known_parents = {generation: list(numbers) for generation, numbers in parents.items()}
        self._parent_trials: dict[int, list[FrozenTrial]] = {}
        self._generation: int | None = None

    @property
    def parents(self) -> dict[int, list[int]]:
        """Trial numbers of the parents by generation."""
        return self._known_parents

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters that are crossed: all with more than one value."""
        return self._shared

    def get_trial_generation(self, study: optuna.Study, trial: FrozenTrial) -> int:
        """Return the generation of a trial of this batch."""
        if self._generation is None:
            self._generation = super().get_trial_generation(study, trial)
        else:
            study._storage.set_trial_system_attr(
                trial._trial_id, self._get_generation_key(), self._generation
            )
        return self._generation

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        """Return the parents of a generation, in the order of their numbers."""
        found = self._parent_trials.get(generation)
        if found is None:
            numbers = self._known_parents.get(generation)
            if numbers is None:
                selected = super().get_parent_population(study, generation)
                numbers = sorted(trial.number for trial in selected)
                self._known_parents[generation] = numbers
            trials = study.get_trials(deepcopy=False)
            found = [trials[number] for number in numbers]
            self._parent_trials[generation] = found
        return found


class OptunaProposer:
    """Proposes designs with an Optuna sampler.

    NSGA-II draws every parameter of every design; one whose condition does not hold is *dormant*:
    inherited and mutated, but no part of the design. Left out instead, conditional parameters
    would never be crossed, because the sampler crosses only what all designs have. The other
    samplers draw a parameter only where it exists, parents first.

    Args:
        space: The design space.
        objectives: Figures to improve, directions resolved.
        settings: Strategy and population.
        seed: Seed of the run.
    """

    def __init__(
        self, space: Space, objectives: Sequence[Objective], *, settings: SamplerSettings, seed: int
    ) -> None:
        self._search: Mapping[str, Distribution] = space.search
        self._order = dependency_order(space.search)
        make = _shared if settings.strategy == "nsga2" else _own
        self._distributions = {path: make(space.search[path]) for path in self._order}
        self._settings = settings
        self._seed = seed
        self._parents: dict[int, list[int]] = {}
        self._asked: dict[int, Trial] = {}
        self._study = optuna.create_study(
            storage=InMemoryStorage(),
            directions=[objective.direction or "minimize" for objective in objectives],
            sampler=RandomSampler(seed=seed),
        )

    def propose(self, batch: int, count: int) -> list[Proposal]:
        """Return the first `count` designs of a batch.

        Args:
            batch: Number of the batch, from 0; seeds its random numbers.
            count: Designs wanted.
        """
        sampler = self._sampler(batch)
        self._study.sampler = sampler
        draw = self._draw_all if self._settings.strategy == "nsga2" else self._draw_active
        proposals = [draw() for _ in range(count)]
        if isinstance(sampler, BatchNSGAIISampler):
            latest = max(sampler.parents, default=0)
            self._parents = {latest: sampler.parents[latest]} if latest else {}
        return proposals

    def learn(self, proposal: Proposal, outcome: Outcome) -> dict[str, Any]:
        """Tell the sampler what a proposed design is worth and return what it remembers."""
        trial = self._asked.pop(proposal.number)
        for name, value in outcome.constraints.items():
            trial.set_constraint(name, value)
        frozen = self._study.tell(trial, list(outcome.values))
        return {
            name: value
            for name, value in frozen.system_attrs.items()
            if not name.startswith(CONSTRAINT_PREFIX)
        }

    def replay(self, records: Sequence[Record], state: Mapping[str, Any]) -> None:
        """Make the sampler remember the trials of a run log.

        Args:
            records: Finished trials in the order of their numbers, from 0.
            state: What `state` returned after the last of them.
        """
        for record in records:
            genes = {**record.proposal.point, **record.proposal.dormant}
            self._study.add_trial(
                create_trial(
                    state=TrialState.COMPLETE,
                    values=list(record.outcome.values),
                    params=genes,
                    distributions={path: self._distributions[path] for path in genes},
                    system_attrs=dict(record.system_attrs),
                    constraints=record.outcome.constraints,
                )
            )
        self._parents = {
            int(generation): [int(number) for number in numbers]
            for generation, numbers in state.get("parents", {}).items()
        }

    def state(self) -> dict[str, Any]:
        """Return what the sampler remembers beside its trials, as JSON data."""
        return {
            "parents": {str(generation): numbers for generation, numbers in self._parents.items()}
        }

    def _sampler(self, batch: int) -> BaseSampler:
        seed = int(np.random.SeedSequence([self._seed, batch]).generate_state(1)[0])
        if self._settings.strategy == "nsga2":
            return BatchNSGAIISampler(
                population_size=self._settings.population, seed=seed,
                shared=self._distributions, parents=self._parents,
            )  # fmt: skip
        if self._settings.strategy == "tpe":
            return TPESampler(seed=seed, constant_liar=True, multivariate=True)
        return RandomSampler(seed=seed)

    def _draw_all(self) -> Proposal:
        trial = self._study.ask(self._distributions)
        drawn = trial.params
        genes = {path: _plain(self._search[path], drawn[path]) for path in self._order}
        point = active_part(self._search, self._order, genes)
        self._asked[trial.number] = trial
        dormant = {path: value for path, value in genes.items() if path not in point}
        return Proposal(number=trial.number, point=point, dormant=dormant)

    def _draw_active(self) -> Proposal:
        trial = self._study.ask()
        point: dict[str, Scalar] = {}
        for path in self._order:
            distribution = self._search[path]
            if is_active(distribution, point):
                point[path] = _plain(distribution, _suggest(trial, path, distribution))
        self._asked[trial.number] = trial
        return Proposal(number=trial.number, point=point)


def _shared(distribution: Distribution) -> BaseDistribution:
    """Return the distribution for trials that are asked with it."""
    if isinstance(distribution, Choice):
        return _SharedChoice(distribution.choice)
    low, high = distribution.bounds
    if isinstance(distribution, IntRange):
        return _SharedInt(int(low), int(high), log=distribution.log, step=distribution.step)
    return _SharedFloat(low, high, log=distribution.log)


def _own(distribution: Distribution) -> BaseDistribution:
    """Return the distribution as `Trial.suggest_*` makes it, so that both can meet in a study."""
    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.choice)
    low, high = distribution.bounds
    if isinstance(distribution, IntRange):
        return IntDistribution(int(low), int(high), log=distribution.log, step=distribution.step)
    return FloatDistribution(low, high, log=distribution.log)


def _suggest(trial: Trial, path: str, distribution: Distribution) -> Any:
    if isinstance(distribution, Choice):
        return trial.suggest_categorical(path, distribution.choice)
    if isinstance(distribution, IntRange):
        low, high = distribution.bounds
        return trial.suggest_int(path, low, high, step=distribution.step, log=distribution.log)
    return trial.suggest_float(path, *distribution.bounds, log=distribution.log)


def _plain(distribution: Distribution, value: Any) -> Scalar:
    """Return a drawn value as a plain Python one, so that it survives JSON unchanged."""
    if isinstance(distribution, IntRange):
        return int(value)
    if isinstance(distribution, FloatRange):
        return float(value)
    plain: Scalar = value
    return plain
