"""Chunked prefill, drafts, no cache and routing in whole evaluations."""

from typing import Any

import numpy as np
import pytest

import pentarch as pa
from pentarch.catalog import default_library
from pentarch.errors import FieldError, InputError
from pentarch.evaluate.designs import run_designs
from pentarch.evaluate.scenario import change_scenario
from pentarch.graph import flops

QUERY = pa.Query(prompt_tokens=200, output_tokens=20, concurrency=3)
OPTIONS: tuple[dict[str, Any], ...] = (
    {"chunk_tokens": 64},
    {"draft_tokens": 3, "acceptance": 0.7, "draft_share": 0.1},
    {"draft_tokens": 3, "acceptance": 0.7, "draft": "gpt2-xl"},
    {"kv_cache": False},
    {"prefix_tokens": 100, "chunk_tokens": 30, "draft_tokens": 1, "acceptance": 0.5},
)


def evaluated(
    workload: str = "llama-3-8b", system: str = "h100_sxm", *, query: pa.Query = QUERY, **names: Any
) -> pa.Evaluation:
    return pa.evaluate(pa.partition(workload, system, query, **names))


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_ledgers_close_whatever_the_phases(options: dict[str, Any]) -> None:
    found = evaluated(query=QUERY.replace(**options))
    assert found.mfu.query is not None
    assert found.query_s is not None
    assert sum(entry.share for entry in found.ledger) == pytest.approx(1)
    assert found.ledger[0].share == pytest.approx(found.mfu.query)
    assert all(entry.share >= 0 for entry in found.ledger)
    assert sum(part or 0.0 for part in found.energy_j.values()) == pytest.approx(found.query_j)
    assert found.queries_per_s is not None
    assert found.delivered_flops_per_s == pytest.approx(found.useful_flops * found.queries_per_s)
    assert found.useful_flops == flops.query_flops(
        pa.workload("llama-3-8b"), QUERY.replace(**options)
    )


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "+".join(options))
def test_a_batch_and_its_designs_one_by_one_agree_to_the_last_bit(options: dict[str, Any]) -> None:
    prepared = pa.partition("llama-3-8b", "edge_soc", QUERY.replace(**options)).prepared
    columns = {"clock_hz": np.array([5e8, 1e9, 2e9]), "sram_bytes": np.array([4.0, 16, 32]) * 2**20}
    every = run_designs(prepared, length=3, columns=columns).values
    for index in range(3):
        own = {name: values[index : index + 1] for name, values in columns.items()}
        one = run_designs(prepared, length=1, columns=own).values
        for name, values in every.items():
            alone = one[name]
            assert (values is None) == (alone is None)
            if values is not None and alone is not None:
                assert values[index : index + 1].tobytes() == alone.tobytes(), name


def test_chunks_cost_a_pass_over_the_weights_each() -> None:
    whole = evaluated(query=QUERY.replace(concurrency=1))
    parts = evaluated(query=QUERY.replace(concurrency=1, chunk_tokens=10))
    # 20 passes of at least the time of reading 7.5 GB at 3.35 TB/s
    assert whole.ttft_s is not None
    assert parts.ttft_s is not None
    assert parts.ttft_s > 20 * 7_504_658_432 / 3.35e12 > whole.ttft_s
    assert parts.tpot_s == whole.tpot_s
    assert parts.memory_bytes["activations"] < whole.memory_bytes["activations"]


def test_mixed_steps_save_the_weights_and_no_more_than_the_shorter_pass() -> None:
    many = pa.Query(prompt_tokens=1024, output_tokens=256, concurrency=64, chunk_tokens=256)
    found, alone = evaluated(query=many), evaluated(query=many.replace(concurrency=1))
    plan = pa.partition("llama-3-8b", "h100_sxm", many)
    stage = run_designs(plan.prepared, length=1).stages[0]
    apart = 64 * stage.prefill.seconds[0] + stage.decode.seconds[0]
    shorter = min(stage.prefill.seconds[0] / 4, stage.decode.seconds[0] / 255)
    assert found.query_s is not None
    assert alone.query_s is not None
    each = (apart - found.query_s) / min(63 * 4, 255)
    assert 7_504_658_432 / 3.35e12 < each <= shorter
    one = run_designs(
        pa.partition("llama-3-8b", "h100_sxm", many.replace(concurrency=1)).prepared, length=1
    ).stages[0]  # nobody else's chunks: nothing is saved
    assert alone.query_s == one.prefill.seconds[0] + one.decode.seconds[0]


def test_accepted_drafts_make_decode_faster_and_rejected_ones_slower() -> None:
    plain = evaluated(query=QUERY.replace(concurrency=1))
    good = evaluated(query=QUERY.replace(concurrency=1, draft_tokens=4, acceptance=0.9))
    bad = evaluated(
        query=QUERY.replace(concurrency=1, draft_tokens=4, acceptance=0.0, draft_share=0.2)
    )
    assert plain.tpot_s is not None
    assert good.tpot_s is not None
    assert bad.tpot_s is not None
    assert good.tpot_s < plain.tpot_s / 3
    assert bad.tpot_s > 1.7 * plain.tpot_s
    assert good.useful_flops == bad.useful_flops == plain.useful_flops
    assert any("drafts cost nothing" in note for note in good.notes)
    assert not any("drafts cost nothing" in note for note in bad.notes)


def test_a_draft_is_looked_up_again_when_a_search_changes_it() -> None:
    library = default_library()
    scenario = pa.partition("llama-3-8b", "h100_sxm", QUERY).scenario
    changes: dict[str, Any] = {
        "query.draft_tokens": 2,
        "query.acceptance": 0.5,
        "query.draft": "gpt2-xl",
    }
    found = change_scenario(scenario, changes, library)
    assert found.draft is not None
    assert found.draft.name == "gpt2-xl"
    assert change_scenario(found, {"query.draft_tokens": 0}, library).draft is None


def test_a_draft_model_has_to_generate() -> None:
    query = QUERY.replace(draft_tokens=2, acceptance=0.5, draft="bert-base")
    with pytest.raises(FieldError, match="bert-base is no decoder"):
        evaluated(query=query)


@pytest.mark.parametrize("workload", ["bert-base", "vit-base-patch16", "t5-small", "whisper-tiny"])
def test_encoders_are_placed_whole_or_refused(workload: str) -> None:
    model = pa.workload(workload)
    query = pa.Query(prompt_tokens=64, output_tokens=8 if model.generates else 1)
    one = evaluated(workload, query=query)
    cut = evaluated(workload, "2xh100_sxm", query=query, partitioner="tensor")
    expected = flops.query_flops(model, query)
    assert one.useful_flops == cut.useful_flops == expected
    for found in (one, cut):
        assert found.mfu.query == pytest.approx(found.ledger[0].share)
        assert 0 < (found.mfu.query or 0.0) < 1
    system = f"{model.depth}xh100_sxm"
    if model.encoder is None:
        chained = evaluated(workload, system, query=query, partitioner="decoder-per-chip")
        assert chained.useful_flops == expected
    else:
        with pytest.raises(InputError, match="has an encoder in front of its decoder"):
            evaluated(workload, system, query=query, partitioner="decoder-per-chip")


@pytest.mark.parametrize("option", [{"prefix_tokens": 3}, {"chunk_tokens": 3}])
def test_an_encoder_reads_its_input_at_once(option: dict[str, Any]) -> None:
    query = pa.Query(prompt_tokens=64, output_tokens=1, **option)
    with pytest.raises(FieldError, match="bert-base reads its whole input at once"):
        evaluated("bert-base", query=query)


def test_an_encoders_collectives_do_not_run_in_decode() -> None:
    query = pa.Query(prompt_tokens=64, output_tokens=8)
    prepared = pa.partition("t5-small", "2xh100_sxm", query, partitioner="tensor").prepared
    rows = prepared.tables[0].collective
    encoder = [name.startswith("encoder") for name in rows.names]
    assert any(encoder)
    assert not (rows.is_decode & encoder).any()
    sizes = {
        name: size
        for name, size, late in zip(rows.names, rows.bytes, rows.is_decode, strict=True)
        if not late
    }
    # 64 tokens are read, and the decoder embeds one: 512 features at 16 bits
    assert sizes["encoder_embedding.all_gather"] == 64 * 512 * 2
    assert sizes["embedding.all_gather"] == 512 * 2


@pytest.mark.parametrize(
    ("workload", "prompt", "output", "noted"),
    [
        ("gpt2-xl", 1000, 25, "gpt2-xl was made for 1024 positions; the query has 1025"),
        ("gpt2-xl", 1000, 24, None),
        ("whisper-tiny", 5000, 400, None),  # the front end sets its own length
        ("whisper-tiny", 1, 449, "whisper-tiny was made for 448 positions; the query has 449"),
        ("bert-base", 513, 1, "bert-base was made for 512 positions; the query has 513"),
        ("bert-base", 512, 1, None),
        ("vit-base-patch16", 5000, 1, None),
    ],
)
def test_lengths_are_held_against_the_positions_they_use(
    workload: str, prompt: int, output: int, noted: str | None
) -> None:
    query = pa.Query(prompt_tokens=prompt, output_tokens=output)
    notes = pa.partition(workload, "h100_sxm", query).prepared.notes
    found = [note for note in notes if "positions" in note]
    assert found == ([] if noted is None else [noted])


def test_routing_decides_which_experts_a_step_reads() -> None:
    query = pa.Query(prompt_tokens=64, output_tokens=8, concurrency=4)
    found = {
        routing: evaluated("mixtral-8x7b", "2xh100_sxm", query=query.replace(routing=routing))
        for routing in ("zipf(2)", "uniform", "worst")
    }
    read = {
        routing: sum(
            operator.read_bytes["hbm3"]
            for operator in one.operators
            if operator.name == "decoder.expert_down" and operator.phase == "decode"
        )
        for routing, one in found.items()
    }
    # A device of two holds half of each expert's 4096 x 14336; 4 tokens choose 2 of 8 each: all 8
    # at worst, 8 (1 - 0.75^4) = 5.47 on average.
    half = 4096 * 14336 / 2
    assert read["worst"] == pytest.approx(8 * half, rel=0.02)
    assert read["uniform"] == pytest.approx(8 * (1 - 0.75**4) * half, rel=0.02)
    assert half * 2 < read["zipf(2)"] < 0.8 * read["uniform"]
    times = [found[routing].tpot_s or 0.0 for routing in ("zipf(2)", "uniform", "worst")]
    assert 0 < times[0] < times[1] < times[2]
    assert len({one.useful_flops for one in found.values()}) == 1
