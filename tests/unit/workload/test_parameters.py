from typing import Any

from pentarch.workload.parameters import parameters
from pentarch.workload.workload import Workload


def test_llama_3_8b_has_its_published_count(llama_3_8b: Workload) -> None:
    # Per layer: q and o 4096 x 4096, k and v 4096 x 1024, three 4096 x 14336, two norms.
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    counts = parameters(llama_3_8b)
    assert counts.attention == 32 * attention
    assert counts.feed_forward == 32 * 3 * 4096 * 14336
    assert counts.norm == 65 * 4096
    assert counts.embedding == counts.lm_head == 128256 * 4096
    assert counts.total == counts.active == 8_030_261_248


def test_llama_2_70b_has_its_published_count(llama_2_70b: Workload) -> None:
    assert parameters(llama_2_70b).total == 68_976_648_192


def test_gpt2_xl_has_its_published_count(make_gpt: Any) -> None:
    workload = make_gpt(hidden=1600, vocab=50257, count=48, heads=25, positions=1024)
    assert parameters(workload).total == 1_557_611_200


def test_gpt3_follows_the_closed_form_of_its_architecture(gpt3_175b: Workload) -> None:
    # 12 h^2 weights, 9 h biases and 4 h norm parameters a layer; two tables; the final norm.
    h = 12288
    expected = 96 * (12 * h * h + 13 * h) + 50257 * h + 2048 * h + 2 * h
    counts = parameters(gpt3_175b)
    assert counts.total == expected == 174_604_259_328
    assert counts.lm_head == 0


def test_components_add_up_and_idle_experts_are_not_active(make_llama: Any) -> None:
    counts = parameters(make_llama(experts=(8, 2, 32)))
    parts = (counts.embedding, counts.attention, counts.feed_forward, counts.router, counts.norm,
             counts.lm_head)  # fmt: skip
    assert counts.total == sum(parts)
    # Two layers of eight experts of three 64 x 256 matrices, a shared block of three 64 x 32.
    assert counts.feed_forward == 2 * (8 * 3 * 64 * 256 + 3 * 64 * 32)
    assert counts.router == 2 * 64 * 8
    assert counts.total - counts.active == 2 * 6 * 3 * 64 * 256


def test_tying_saves_one_table(make_llama: Any) -> None:
    untied, tied = parameters(make_llama()), parameters(make_llama(tied=True))
    assert untied.total - tied.total == 1000 * 64
    assert tied.lm_head == 0
