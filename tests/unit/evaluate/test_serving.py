"""Times in closed form: what C queries in flight, replicas and stages do to latency and rate."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.evaluate.paper import (
    Given,
    one_stage,
    paper_scenario,
    paper_workload,
    run,
    value,
)

from pentarch.contracts.partitioner import PartitionRequest
from pentarch.plan.plan import Degrees, Placement, Plan, Stage


def test_prefill_and_decode_of_one_query_on_paper() -> None:
    # Bandwidth 500 B/s, 1000 MAC/s, P = 4, T = 3.
    # Prefill: layer GEMMs 4 x 512 MACs / 1000 = 2.048 s (bytes 512 / 500 hide behind each);
    #   attention 10 pairs x 16 / 1000 = 0.160 s (4 keys x 16 B / 500 = 0.128 hide);
    #   LM head on one token: 256 B / 500 = 0.512 s (0.256 s of MACs hide).
    # Decode: (512 + 256) B / 500 x 2 steps = 3.072 s; keys (5 + 6) x 16 B / 500 = 0.352 s.
    figures = run(paper_scenario(bytes_per_s=500.0))

    assert value(figures, "prefill_s") == pytest.approx(2.048 + 0.160 + 0.512)
    assert value(figures, "decode_s") == pytest.approx(3.072 + 0.352)
    assert value(figures, "query_s") == pytest.approx(2.720 + 3.424)
    assert value(figures, "ttft_s") == pytest.approx(2.720)
    assert value(figures, "tpot_s") == pytest.approx(3.424 / 2)


def test_two_queries_in_flight_share_the_weights_of_a_step() -> None:
    # Two sequences: GEMM MACs 2 x 768 / 1000 x 2 steps = 3.072 s as long as their bytes; KV twice:
    # 2 x 176 / 500 = 0.704 s. Prefills do not share: 2 x 2.72 s.
    figures = run(paper_scenario(bytes_per_s=500.0, concurrency=2))

    assert value(figures, "decode_s") == pytest.approx(3.072 + 0.704)
    assert value(figures, "query_s") == pytest.approx(2 * 2.72 + 3.776)
    assert value(figures, "queries_per_s") == pytest.approx(2 / (2 * 2.72 + 3.776))
    # the other's prefill waits ahead by 2.72 / 3 on average, and falls into each of T - 1 steps so
    assert value(figures, "ttft_s") == pytest.approx(2.72 * (1 + 1 / 3))
    assert value(figures, "tpot_s") == pytest.approx(3.776 / 2 + 2.72 / 3)


@given(
    load=st.integers(1, 64), tokens=st.integers(1, 40), prompt=st.integers(1, 50),
    bandwidth=st.floats(10, 1e5), replicas=st.integers(1, 4),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_closed_form_identities(
    load: int, tokens: int, prompt: int, bandwidth: float, replicas: int
) -> None:
    figures = run(
        paper_scenario(
            concurrency=load, output_tokens=tokens, prompt_tokens=prompt, bytes_per_s=bandwidth,
            devices=replicas,
        )
    )  # fmt: skip
    own = max(load / replicas, 1.0)
    query, prefill = value(figures, "query_s"), value(figures, "prefill_s")
    decode = value(figures, "decode_s")
    tpot = value(figures, "tpot_s") if tokens > 1 else 0.0

    # query = C t_p + (T - 1) t_d = TTFT + (T - 1) TPOT
    assert query == pytest.approx(own * prefill + decode)
    assert query == pytest.approx(value(figures, "ttft_s") + (tokens - 1) * tpot)
    # Little: rate x latency is what is in flight
    assert value(figures, "queries_per_s") * query == pytest.approx(load)
    assert value(figures, "throughput_tokens_per_s") * query == pytest.approx(load * tokens)


def test_a_query_of_one_token_has_no_decode() -> None:
    figures = run(paper_scenario(output_tokens=1, concurrency=3))

    assert figures.values["tpot_s"] is None
    assert figures.values["mfu.decode"] is None
    assert figures.values["mbu"] is None
    assert value(figures, "decode_s") == 0
    # three prompts, one after the other
    assert value(figures, "ttft_s") == pytest.approx(3 * value(figures, "prefill_s"))
    assert value(figures, "query_s") == pytest.approx(value(figures, "ttft_s"))


def test_replicas_serve_their_share_of_the_load() -> None:
    # Eight queries on four replicas are two on each: latency of C = 2, four times its rate.
    one = run(paper_scenario(concurrency=2))
    four = run(paper_scenario(concurrency=8, devices=4))

    assert value(four, "query_s") == pytest.approx(value(one, "query_s"))
    assert value(four, "queries_per_s") == pytest.approx(4 * value(one, "queries_per_s"))
    assert value(four, "mfu.query") == pytest.approx(value(one, "mfu.query"))


def test_replicas_without_a_query_are_idle() -> None:
    # One query on four replicas: one works. Same latency and rate as one device, a quarter of its MFU.
    one = run(paper_scenario())
    four = run(paper_scenario(devices=4))

    for figure in ("query_s", "queries_per_s", "delivered_flops_per_s"):
        assert value(four, figure) == pytest.approx(value(one, figure))
    for figure in ("mfu.query", "mfu.prefill", "mfu.decode", "hfu", "mbu"):
        assert value(four, figure) == pytest.approx(value(one, figure) / 4)


def pipeline(request: PartitionRequest, *, copies: int) -> Plan:
    """Return equal stages of the layers; the LM head and what has no layer on the last one."""
    layers, ends = [], []
    for operator in request.graphs[0].operators:
        inside = bool(operator.layer)
        (layers if inside else ends).append(
            Placement(
                operator=operator.name,
                repeat=operator.repeat // copies if inside else operator.repeat,
            )
        )
    stages = (
        Stage(backend="paper", device="paper", devices=1, copies=copies, placements=tuple(layers)),
        Stage(backend="paper", device="paper", devices=1, placements=tuple(ends)),
    )
    return Plan(
        workload=request.workload.name, system=request.system.name, partitioner="given",
        degrees=Degrees(pipeline=copies + 1), stages=stages,
    )  # fmt: skip


def test_a_pipeline_takes_as_long_as_one_device_for_one_query() -> None:
    # One query passes stage after stage; three devices do the work of one, each a third of the time.
    workload = paper_workload(layers=2)
    alone = run(paper_scenario(workload=workload))
    staged = run(
        paper_scenario(workload=workload, partitioner=Given(partial(pipeline, copies=2)), devices=3)
    )

    assert value(staged, "query_s") == pytest.approx(value(alone, "query_s"))
    assert value(staged, "mfu.query") == pytest.approx(value(alone, "mfu.query") / 3)
    assert value(staged, "mfu.query") <= 1 / 3
    assert value(staged, "mbu") == pytest.approx(value(alone, "mbu") / 3)


def test_the_slowest_stage_sets_the_pace_of_a_full_pipeline() -> None:
    # Three stages (layer, layer, head), three queries in flight in three micro-batches of one.
    # All ideal at 1000 MAC/s and 1000 B/s. Decode: a layer step takes 0.512 s + 16 B x context / 1000,
    # the head 0.256 s; two steps at contexts 5 and 6: layer 1.024 + 0.176 = 1.2 s, head 0.512 s.
    # Three micro-batches through the slowest stage: 3.6 s, more than one through all: 2.912 s.
    # Prefill: a layer 2.048 + 0.160 = 2.208 s, head 0.256 s: a query takes 4.672 s, each further 2.208.
    staged = run(
        paper_scenario(
            workload=paper_workload(layers=2), partitioner=Given(partial(pipeline, copies=2)),
            devices=3, concurrency=3,
        )
    )  # fmt: skip

    assert value(staged, "prefill_s") == pytest.approx(2 * 2.208 + 0.256)
    assert value(staged, "decode_s") == pytest.approx(3 * 1.2)
    assert value(staged, "query_s") == pytest.approx(4.672 + 2 * 2.208 + 3.6)
    assert value(staged, "queries_per_s") == pytest.approx(3 / (4.672 + 4.416 + 3.6))
    # Work of three queries (each 4.672 + 2.912 s of one device) over three devices and that time
    assert value(staged, "mfu.query") == pytest.approx((4.672 + 2.912) / (4.672 + 4.416 + 3.6))


def test_the_time_of_a_pass_is_counted_once_however_many_stages() -> None:
    scenario = paper_scenario(workload=paper_workload(layers=2), step_s=10.0)
    alone = run(scenario)
    staged = run(
        paper_scenario(
            workload=paper_workload(layers=2), step_s=10.0, devices=3,
            partitioner=Given(partial(pipeline, copies=2)),
        )
    )  # fmt: skip

    # one prefill and two decode steps: 30 s beside the work
    bare = run(paper_scenario(workload=paper_workload(layers=2)))
    assert value(alone, "query_s") == pytest.approx(value(bare, "query_s") + 30)
    assert value(staged, "query_s") == pytest.approx(value(alone, "query_s"))


def test_work_is_conserved_when_devices_share_operators() -> None:
    # Two devices halve every weight and have half of the heads: half the time, the same FLOPs.
    workload = paper_workload(heads=2, kv_heads=2)
    alone = run(paper_scenario(workload=workload))
    halves = run(
        paper_scenario(
            workload=workload, devices=2, partitioner=Given(partial(one_stage, devices=2))
        )
    )

    assert value(halves, "query_s") == pytest.approx(value(alone, "query_s") / 2)
    assert value(halves, "mfu.query") == pytest.approx(1.0)
    assert value(halves, "hfu") == pytest.approx(1.0)
    assert value(halves, "peak_flops_per_s") == 2 * value(alone, "peak_flops_per_s")


def test_every_design_of_a_batch_has_its_own_load() -> None:
    loads = [1.0, 2.0, 5.0, 64.0]
    batch = run(paper_scenario(), concurrency=loads)
    singles = [run(paper_scenario(concurrency=int(load))) for load in loads]

    for name, column in batch.values.items():
        if column is not None:
            expected = [value(single, name) for single in singles]
            np.testing.assert_array_equal(column, expected, err_msg=name)
