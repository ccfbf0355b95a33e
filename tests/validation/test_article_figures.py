"""Figures of the article that started the project, against pentarch's own models.

Rizzatti, "System Challenges of Generative AI Inference Acceleration", 2023. Claims are numbered in
the order of the article; what a claim leaves open (batch, formats, lengths) is stated where it is
filled in. Every figure is printed, so that `pytest -s` shows the comparison.
"""

import sys

import numpy as np
import pytest

import pentarch as pa
from pentarch.catalog import Library, default_library
from pentarch.cli.partition import plan_document
from pentarch.evaluate.evaluator import ScenarioEvaluator
from pentarch.evaluate.scenario import build_evaluator
from pentarch.graph.build import build_graph
from pentarch.graph.flops import query_flops_without_cache
from pentarch.graph.operators import Phase
from pentarch.targets import Economics, Targets
from pentarch.workload.parameters import parameters


def say(text: str) -> None:
    """Show a figure beside the article's."""
    sys.stdout.write(text + "\n")


FP8 = pa.Precisions(weights="fp8", activations="fp8", kv="fp8")
QUERY = pa.Query(prompt_tokens=1024, output_tokens=256)


@pytest.fixture(scope="module")
def library() -> Library:
    return default_library()


def evaluator(
    library: Library, workload: str, system: str, *, partitioner: str = "tensor"
) -> ScenarioEvaluator:
    """Return the evaluator of a fp8 query of 1024 + 256 tokens on an ideal software stack."""
    return build_evaluator(
        library=library, workload=workload, system=system, query=QUERY, precisions=FP8,
        runtime="ideal", partitioner=partitioner, degree=None, targets=Targets(),
        economics=Economics(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("workload", "published", "tolerance"),
    [("gpt2-xl", 1.5e9, 0.05), ("gpt3-175b", 175e9, 0.01), ("gpt4-dense", 1.7e12, 0.01)],
)
def test_a7_parameter_counts_follow_from_the_dimensions(
    workload: str, published: float, tolerance: float
) -> None:
    graph = build_graph(pa.workload(workload), phase=Phase.PREFILL, query=QUERY, precisions=FP8)
    say(f"A7 {workload}: {graph.parameters:,} parameters, the article has {published:.3g}")
    assert graph.parameters == parameters(pa.workload(workload)).total
    assert graph.parameters == pytest.approx(published, rel=tolerance)


def test_a8_models_need_terabytes_and_terabytes_per_second() -> None:
    # Capacity: all weights of GPT-4 and the keys and values of 64 queries of 1024 + 256 tokens.
    gpt4 = build_graph(pa.workload("gpt4-moe"), phase=Phase.DECODE, query=QUERY, precisions=FP8)
    # fp8 stores a byte a parameter; MHA keeps 2 x 10752 values per layer and token
    state = 64 * 120 * 2 * 10752 * gpt4.context
    assert 64 * gpt4.kv_bytes == pytest.approx(state)
    capacity = gpt4.gemm_weight_bytes + 64 * gpt4.kv_bytes
    say(f"A8 capacity of gpt4-moe in fp8, 64 queries: {capacity / 1e12:.2f} TB")
    assert 1.8e12 < capacity < 2.5e12

    # Bandwidth: GPT-3 for one reader, 10 tokens/s (faster than reading) up to a query in 2 s. Each
    # token reads every weight once: 96 x 12 x 12288^2 of the blocks and the LM head of 50257 rows.
    gpt3 = build_graph(pa.workload("gpt3-175b"), phase=Phase.DECODE, query=QUERY, precisions=FP8)
    weights = 96 * 12 * 12288**2 + 50257 * 12288
    assert gpt3.gemm_weight_bytes == weights
    keys = 96 * 2 * 12288 * gpt3.context
    slow, fast = ((weights + keys) * rate for rate in (10, 256 / 2.0))
    own = gpt3.gemm_weight_bytes + gpt3.kv_bytes
    say(f"A8 bandwidth of gpt3-175b, 10 and 128 token/s: {own * 10 / 1e12:.2f} and "
          f"{own * 128 / 1e12:.1f} TB/s")  # fmt: skip
    assert own * 10 == pytest.approx(slow)
    assert own * 128 == pytest.approx(fast)
    assert 1e12 < slow < 2e12 < fast < 30e12


def test_a9_three_percent_of_an_h100_is_batch_nine_by_weight_traffic_alone(
    library: Library,
) -> None:
    device = library.device("h100_sxm")
    # 2 FLOPs a weight and query, 1 byte a weight: MFU = 2 batch x bandwidth / peak
    ridge = device.peak_flops_per_s["fp8"] / device.memory_bytes_per_s  # type: ignore[attr-defined]  # fields of a GPU
    batch = 0.03 * ridge / 2
    say(f"A9 roofline: {ridge:.0f} FLOP/B, 3 % at batch {batch:.1f}")
    assert round(ridge) == 591
    assert round(batch) == 9


def test_a9_decode_reaches_three_percent_only_at_batches_above_the_roofline(
    library: Library,
) -> None:
    # GPT-3 on one board of eight H100: caches, keys, values and all-reduces come on top of weights.
    gpt3 = evaluator(library, "gpt3-175b", "8xh100")
    batches = list(range(1, 65))
    found = gpt3.evaluate([{"query.concurrency": batch} for batch in batches])
    mfu = found.figures["mfu.decode"]
    assert found.feasible.all()
    assert (np.diff(mfu) > 0).all()
    at_nine, crossing = float(mfu[8]), batches[int(np.argmax(mfu >= 0.03))]
    say(f"A9 gpt3-175b on 8 H100: decode MFU {at_nine:.2%} at batch 9, 3 % at batch {crossing}")
    assert 0.005 < at_nine < 0.03
    assert 10 <= crossing <= 40


def test_a9_gpt4_on_four_boards_of_h100_stays_below_three_percent_in_decode(
    library: Library,
) -> None:
    # 1.83 TB of fp8 weights need 24 H100 at least; four boards of eight leave room for state.
    gpt4 = evaluator(library, "gpt4-moe", "32xh100_sxm")
    batches = [1, 2, 4, 8, 9, 16, 32, 64, 128]
    found = gpt4.evaluate([{"query.concurrency": batch} for batch in batches])
    assert found.feasible.all()
    for batch, decode, query in zip(
        batches, found.figures["mfu.decode"], found.figures["mfu.query"], strict=True
    ):
        say(f"A9 gpt4-moe on 32 H100, batch {batch}: decode {decode:.2%}, query {query:.2%}")
    # The article: about 3 %; other texts of the family: 1 to 9 % for generative AI on GPUs. No
    # decode MFU here may exceed what the weights that a step visits allow at full bandwidth: at
    # batch b at most 2 b FLOPs per visited byte.
    decode = found.figures["mfu.decode"]
    ceiling = np.array(batches) * 2 / 590.7
    assert (decode < ceiling).all()
    assert (decode < 0.03).all()
    assert 0.01 < float(found.figures["mfu.query"][-1]) < 0.09


def test_a10_devices_needed_for_a_petaflops_at_5_and_at_50_percent() -> None:
    assert pa.devices_needed(1e15, 1e15, efficiency=0.05) == 20
    assert pa.devices_needed(1e15, 1e15, efficiency=0.50) == 2


def test_a12_22000_h100_in_groups_of_eight_are_2750_systems(library: Library) -> None:
    board = library.system("8xh100")
    systems, rest = divmod(22_000, board.devices)
    assert (systems, rest) == (2_750, 0)


def test_a13_one_decoder_per_chip_takes_96_chips_12_systems_and_95_hops(
    library: Library,
) -> None:
    planned = pa.partition(
        "gpt4-dense", "12x8xh100", QUERY, partitioner="decoder-per-chip", precisions=FP8
    )
    system = library.system("12x8xh100")
    document = plan_document(planned)
    assert document["devices"] == 96 == pa.workload("gpt4-dense").depth
    assert system.devices_per_board == 8
    assert document["devices"] // system.devices_per_board == 12

    hops = {(one["link"], one["phase"]): one for one in document["hops"]}
    for (link, phase), one in hops.items():
        say(f"A13 {phase}: {one['hops']} hops over {link}, {one['pass_s'] * 1e6:.0f} us")
    inside, between = (hops[link, "decode"] for link in ("nvlink4", "ethernet_ib_400g_path"))
    # 95 hops between 96 chips; every eighth leaves a board: 11 of them
    assert (inside["hops"], between["hops"]) == (84, 11)
    assert between["time_s"] > inside["time_s"] > 0
    # one token's residual stream of 38400 values in bf16
    assert inside["bytes"] == 2 * 38400
    assert inside["pass_s"] == pytest.approx(84 * inside["time_s"])


def test_a15_efficiency_falls_from_one_board_to_twelve_systems(library: Library) -> None:
    # The same dense GPT-4 and batch 9: cut by tensor over the 12 systems, and one decoder per chip,
    # where a token keeps a single chip busy at a time.
    point = {"query.concurrency": 9}
    tensor = evaluator(library, "gpt4-dense", "12x8xh100").evaluate([point])
    chain = evaluator(library, "gpt4-dense", "12x8xh100", partitioner="decoder-per-chip").evaluate(
        [point]
    )
    wide, deep = (float(one.figures["mfu.decode"][0]) for one in (tensor, chain))
    say(f"A15 gpt4-dense at batch 9: decode MFU {wide:.2%} tensor, {deep:.3%} decoder per chip")
    assert deep < wide < 0.03
    # at most 9 of 96 chips work at once, each on a batch of one
    assert deep < 9 / 96 * 2 / 590.7


def test_a14_cached_keys_and_values_cut_the_computation_and_add_data(library: Library) -> None:
    # "Incremental" transformers cut the computation a lot but must process and store state. The
    # article gives no number; here GPT-3 on 8 H100, one query of 1024 + 256 tokens.
    kept = pa.evaluate(pa.partition("gpt3-175b", "8xh100_sxm", QUERY, precisions=FP8))
    query = QUERY.replace(kv_cache=False)
    anew = pa.evaluate(pa.partition("gpt3-175b", "8xh100_sxm", query, precisions=FP8))
    model = pa.workload("gpt3-175b")
    executed = query_flops_without_cache(model, QUERY)
    say(f"A14 FLOPs: {kept.useful_flops:.3g} with a cache, {executed:.3g} without")
    # 256 passes over 1024 to 1279 tokens against one over 1024 and 255 over one: by tokens alone
    # 294,784 / 1,279 = 230 times; attention's share grows with the square.
    assert executed / kept.useful_flops == pytest.approx(256 * 1151.5 / 1279, rel=0.05)
    assert anew.useful_flops == kept.useful_flops
    assert anew.mfu.query is not None
    assert anew.hfu is not None
    assert anew.hfu / anew.mfu.query == pytest.approx(executed / kept.useful_flops, rel=0.05)
    # State: 2 x 96 layers x 12,288 values a token in fp8, over 8 devices, half a block on top.
    state = 2 * 96 * 12288 * (1280 + 8) / 8
    say(f"A14 state: {state * 8 / 1e9:.2f} GB with a cache, none without")
    assert kept.memory_bytes["kv"] == pytest.approx(state)
    assert anew.memory_bytes["kv"] == 0
    # Data: each step reads the state, that of contexts 1025 to 1279 over all steps.
    reads = sum(
        operator.executions * operator.read_bytes["hbm3"] * 8
        for operator in kept.operators
        if operator.name == "decoder.attention" and operator.phase == "decode"
    )
    say(f"A14 state read: {reads / 1e12:.3g} TB, beside 255 times the weights")
    assert reads == pytest.approx(2 * 96 * 12288 * 293_760, rel=0.02)
    assert kept.query_s is not None
    assert anew.query_s is not None
    say(f"A14 latency: {kept.query_s:.3g} s with a cache, {anew.query_s:.3g} s without")
    # At best the peak without, and the bandwidth with a cache: 6.5 s against 1.7 s.
    assert anew.query_s > executed / (8 * 1978.9e12) > 3 * reads / (8 * 3.35e12)
    assert anew.query_s > 3 * kept.query_s > 3 * 255 * 174.0e9 / (8 * 3.35e12)
    assert anew.query_j is not None
    assert kept.query_j is not None
    assert anew.query_j > 3 * kept.query_j
