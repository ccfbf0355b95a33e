"""Reasons why a design cannot run."""

from dataclasses import replace

import numpy as np
from tests.unit.evaluate.paper import PaperBackend, evaluate, paper_costs, paper_scenario, run

from pentarch.graph.operators import OperatorKind
from pentarch.mapping.costs import RowCosts, RowRequest


class NoAttention(PaperBackend):
    """Cannot run attention on designs of less than 500 MAC/s."""

    def cost_rows(self, request: RowRequest) -> RowCosts:
        costs = paper_costs(request)
        if request.kind is not OperatorKind.ATTENTION:
            return replace(costs, notes=("a note on something else",))
        fits = np.broadcast_to(
            request.machine.engines[0].macs_per_cycle["fp8"] >= 500, costs.fits.shape
        )
        return replace(costs, fits=fits.copy(), notes=("attention needs 500 MAC/s",))


def test_an_operator_that_cannot_run_is_named_with_what_was_noted() -> None:
    figures = run(paper_scenario(backend=NoAttention()), macs_per_s=[499.0, 500.0])

    assert figures.feasibility.fits.tolist() == [False, True]
    assert figures.feasibility.reason(0) == (
        "paper cannot run layer.attention: attention needs 500 MAC/s"
    )
    assert figures.feasibility.reason(1) is None


def test_a_die_beyond_the_reticle() -> None:
    figures = run(paper_scenario(die_mm2=1.0), die_mm2=[858.0, 900.0])

    assert figures.feasibility.fits.tolist() == [True, False]
    assert figures.feasibility.reason(1) == (
        "the die of paper would be 900 mm2, the reticle exposes 858 mm2"
    )


def test_a_countable_resource_that_is_used_up() -> None:
    figures = run(paper_scenario(luts=1.0), luts=[100.0, 101.0])

    assert figures.feasibility.fits.tolist() == [True, False]
    assert figures.feasibility.reason(1) == "paper needs 101 LUT, it has 100"


def test_the_first_reason_is_given() -> None:
    # memory is checked before the die
    found = evaluate(paper_scenario(memory_bytes=10.0, die_mm2=2000.0))

    assert found.reason is not None
    assert found.reason.startswith("paper needs 1.05 kB of weights")
