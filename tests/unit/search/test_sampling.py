from collections import Counter
from collections.abc import Sequence
from typing import Any

import optuna
import pytest

from pentarch.search.enumeration import is_active
from pentarch.search.objectives import Objective, resolve
from pentarch.search.records import Proposal, outcomes
from pentarch.search.sampling import OptunaProposer, quiet_optuna
from pentarch.search.space import SamplerSettings, Space, Strategy

from .fakes import FakeEvaluator, make_space

STRATEGIES: tuple[Strategy, ...] = ("nsga2", "tpe", "random")
POPULATION = 10


def proposed(
    space: Space, strategy: Strategy, *, seed: int = 0, batches: int = 4
) -> list[Proposal]:
    """Return what a proposer proposes when it is told the outcomes."""
    objectives = resolve(space.objectives, {})
    settings = SamplerSettings(strategy=strategy, population=POPULATION)
    evaluator = FakeEvaluator()
    with quiet_optuna():
        proposer = OptunaProposer(space, objectives, settings=settings, seed=seed)
        found: list[Proposal] = []
        for batch in range(batches):
            proposals = proposer.propose(batch, POPULATION)
            tell(proposer, proposals, evaluator, objectives)
            found += proposals
    return found


def tell(
    proposer: OptunaProposer,
    proposals: Sequence[Proposal],
    evaluator: FakeEvaluator,
    objectives: Sequence[Objective],
) -> list[dict[str, Any]]:
    points = [proposal.point for proposal in proposals]
    results = evaluator.evaluate(points)
    return [
        proposer.learn(proposal, outcome)
        for proposal, outcome in zip(proposals, outcomes(points, results, objectives), strict=True)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_conditional_parameter_exists_exactly_where_its_condition_holds(
    strategy: Strategy,
) -> None:
    space = make_space()
    found = proposed(space, strategy)
    assert {("stacks" in proposal.point) for proposal in found} == {True, False}
    for proposal in found:
        for path, distribution in space.search.items():
            assert (path in proposal.point) == is_active(distribution, proposal.point)
            assert path not in proposal.point or distribution.allows(proposal.point[path])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_seed_determines_the_proposals(strategy: Strategy) -> None:
    first, second = (proposed(make_space(), strategy, seed=4) for _ in range(2))
    assert first == second
    assert first != proposed(make_space(), strategy, seed=5)


def test_numbers_count_from_zero_without_gaps() -> None:
    assert [proposal.number for proposal in proposed(make_space(), "nsga2")] == list(range(40))


def test_nsga2_carries_dormant_parameters_and_the_design_lacks_them() -> None:
    for proposal in proposed(make_space(), "nsga2"):
        assert ("stacks" in proposal.dormant) == (proposal.point["memory"] != "hbm3e")
        assert not proposal.point.keys() & proposal.dormant.keys()


def test_nsga2_counts_a_generation_per_population() -> None:
    space = make_space()
    objectives = resolve(space.objectives, {})
    settings = SamplerSettings(population=POPULATION)
    with quiet_optuna():
        proposer = OptunaProposer(space, objectives, settings=settings, seed=0)
        generations: Counter[int] = Counter()
        for batch in range(6):
            proposals = proposer.propose(batch, POPULATION // 2)
            for attrs in tell(proposer, proposals, FakeEvaluator(), objectives):
                (generation,) = attrs.values()
                generations[generation] += 1
    assert generations == {0: POPULATION, 1: POPULATION, 2: POPULATION}


def test_nsga2_moves_towards_the_targets() -> None:
    # by chance a design of the box meets all five in 114 of 288 cases, and 15 or more of 20 do so
    # with a probability of 0.0014 (binomial)
    evaluator = FakeEvaluator()
    found = proposed(make_space(), "nsga2", batches=12)[-2 * POPULATION :]
    points = [proposal.point for proposal in found]
    objectives = resolve(make_space().objectives, {})
    judged = outcomes(points, evaluator.evaluate(points), objectives)
    passing = sum(set(outcome.verdicts.values()) == {"met"} for outcome in judged)
    assert len(found) == 20
    assert passing >= 15


def test_a_space_of_single_values_can_be_sampled() -> None:
    space = make_space(
        search={
            "memory": {"choice": ["gddr7"]},
            "chips": {"int": [2, 2]},
            "sram_bytes": {"choice": [2**24]},
        }
    )
    for strategy in STRATEGIES:
        points = [proposal.point for proposal in proposed(space, strategy)]
        assert points == [{"memory": "gddr7", "chips": 2, "sram_bytes": 2**24}] * 40


def test_optuna_keeps_the_verbosity_that_it_had() -> None:
    before = optuna.logging.get_verbosity()
    with quiet_optuna():
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    assert optuna.logging.get_verbosity() == before
