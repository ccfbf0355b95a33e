"""A static batch: the prompts of all queries in one pass, then decode steps of all."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.unit.evaluate.paper import evaluate, paper_scenario, run, value

import pentarch as pa
from pentarch.evaluate.designs import run_designs
from pentarch.hardware.runtime import Runtime, Scheduler

STATIC = Runtime(name="static", scheduler=Scheduler.STATIC)


def batch(**changes: Any) -> Any:
    return paper_scenario(runtime=STATIC, bytes_per_s=500.0, **changes)


def test_two_prompts_share_a_pass_on_paper() -> None:
    # Bandwidth 500 B/s, 1000 MAC/s, P = 4, T = 3, C = 2.
    # One pass: layer GEMMs 2 x 4 x 512 MACs / 1000 = 4.096 s, attention 2 x 0.160 s, and the LM head
    # on two tokens 0.512 s, MACs and bytes alike; alone it is 0.512 s of bytes for each prompt.
    # Decode as with any scheduler: 3.072 s of GEMMs and 0.704 s of keys and values.
    figures = run(batch(concurrency=2))

    whole = 4.096 + 2 * 0.160 + 0.512
    assert value(figures, "ttft_s") == pytest.approx(whole)
    assert value(figures, "prefill_s") == pytest.approx(whole / 2)
    assert value(figures, "tpot_s") == pytest.approx(3.776 / 2)
    assert value(figures, "query_s") == pytest.approx(whole + 3.776)
    assert value(figures, "queries_per_s") == pytest.approx(2 / (whole + 3.776))


def test_a_batch_of_one_is_a_query_alone() -> None:
    alone, single = run(paper_scenario(bytes_per_s=500.0)), run(batch())
    for name, expected in alone.values.items():
        found = single.values[name]
        assert (found is None) == (expected is None)
        if expected is not None and found is not None:
            assert found == pytest.approx(expected), name


def test_designs_of_one_batch_have_batches_of_their_own() -> None:
    together = run(batch(), concurrency=[1, 3, 8])
    for index, load in enumerate((1, 3, 8)):
        alone = run(batch(concurrency=load))
        for name, column in together.values.items():
            if column is not None:
                assert float(column[index]) == value(alone, name), name


def test_the_pass_is_set_up_once() -> None:
    # Host time of a pass is 0.5 s: once before the first tokens, once in each of two decode steps.
    slow = STATIC.replace(step_s=0.5)
    quick, late = run(batch(concurrency=4)), run(replace(batch(concurrency=4), runtime=slow))
    assert value(late, "ttft_s") - value(quick, "ttft_s") == pytest.approx(0.5)
    assert value(late, "query_s") - value(quick, "query_s") == pytest.approx(1.5)


def test_time_and_energy_are_accounted_for() -> None:
    found = evaluate(batch(concurrency=4))
    assert sum(entry.share for entry in found.ledger) == pytest.approx(1.0)
    assert found.ledger[0].share == pytest.approx(found.mfu.query)
    serial = evaluate(paper_scenario(bytes_per_s=500.0, concurrency=4))
    assert found.useful_flops == serial.useful_flops
    # weights are read once a pass instead of once a prompt
    assert found.query_j is not None
    assert serial.query_j is not None
    assert found.query_j < serial.query_j


def test_all_prompts_need_room_for_their_activations() -> None:
    one, four = run(batch()), run(batch(concurrency=4))
    alone, together = one.stages[0].memory, four.stages[0].memory
    assert np.all(together.activations == 4 * alone.activations)


def test_a_stage_holds_the_activations_of_its_micro_batch() -> None:
    # A pipeline of 32 works on 256 queries in 32 micro-batches: 8 prompts at a time in each stage.
    wide, deep = (
        pa.partition(
            "llama-3-8b", "32xh100_sxm", pa.Query(concurrency=load), partitioner="decoder-per-chip",
            runtime="framework-eager",
        ).prepared
        for load in (32, 256)
    )  # fmt: skip
    one, eight = (run_designs(prepared, length=1) for prepared in (wide, deep))
    for small, large in zip(one.stages, eight.stages, strict=True):
        assert large.memory.activations[0] == 8 * small.memory.activations[0]
        assert large.memory.kv[0] == 8 * small.memory.kv[0]
