from typing import Any

import pytest

from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.workload import (
    ExpertFeedForward,
    GroupedQueryAttention,
    Workload,
    head_dim_of,
)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"heads": 6, "kv_heads": 4, "head_dim": 8}, "6 heads are no multiple of 4 kv_heads"),
        ({"heads": 0, "kv_heads": 1, "head_dim": 8}, "heads: found 0. Expected greater than 0"),
        ({"heads": 4, "kv_heads": 4, "head_dim": 8, "rotary_dim": 9}, "at most head_dim = 8"),
        ({"heads": 4, "kv_heads": 4, "head_dim": 8, "window": 0}, "window: found 0"),
        ({"heads": 4, "kv_heads": 4}, "head_dim: is missing"),
    ],
)
def test_wrong_attention_is_refused_with_the_field(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(FieldError, match=said):
        load(GroupedQueryAttention, fields, where="hand")


def test_more_experts_per_token_than_experts_are_refused() -> None:
    expert = {"width": 8, "activation": "relu"}
    fields = {"experts": 2, "experts_per_token": 3, "expert": expert}
    with pytest.raises(FieldError, match="at most the 2 experts"):
        load(ExpertFeedForward, fields, where="hand")


def test_workload_survives_json(make_llama: Any) -> None:
    workload = make_llama(experts=(8, 2, 64), windows=(16,))
    assert Workload.model_validate_json(workload.model_dump_json()) == workload


def test_layer_groups_need_different_names(make_llama: Any) -> None:
    workload = make_llama()
    with pytest.raises(FieldError, match="group0, group0"):
        workload.replace(layers=workload.layers * 2)


def test_source_and_assumption_exclude_each_other(make_llama: Any) -> None:
    with pytest.raises(FieldError, match="either a source or an assumption"):
        make_llama().replace(source="paper", assumption="guess")


def test_depth_and_windows_cover_all_groups(make_llama: Any) -> None:
    workload = make_llama(counts=(3, 1, 2), windows=(64, None, 16))
    assert workload.depth == 6
    assert workload.windows == (16, 64)
    assert workload.group("group2").count == 2


def test_head_width_follows_from_hidden_only_if_it_divides() -> None:
    assert head_dim_of(hidden=4096, heads=32, where="x", path="heads") == 128
    with pytest.raises(FieldError, match=r"config.json: n_head: 12 heads do not divide .* 100"):
        head_dim_of(hidden=100, heads=12, where="config.json", path="n_head")
