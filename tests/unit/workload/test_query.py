from typing import Any

import pytest

from pentarch.errors import FieldError
from pentarch.model import load
from pentarch.workload.query import Precisions, Query


def test_first_token_comes_out_of_prefill() -> None:
    query = Query(prompt_tokens=100, output_tokens=1)
    assert (query.prefill_tokens, query.decode_steps) == (100, 0)
    query = Query(prompt_tokens=100, output_tokens=28, prefix_tokens=30)
    assert (query.prefill_tokens, query.decode_steps, query.last_context) == (70, 27, 128)


@pytest.mark.parametrize("fields", [{"prompt_tokens": 0}, {"output_tokens": 0}, {"concurrency": 0}])
def test_counts_below_one_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(FieldError, match="greater than 0"):
        load(Query, fields, where="query")


def test_formats_are_canonical_after_validation() -> None:
    assert Precisions(weights="E4M3").weights == "fp8"
    with pytest.raises(
        FieldError,
        match=r"weights: found 'fp9'\. Expected a number format\. No .*Did you mean 'fp8'",
    ):
        load(Precisions, {"weights": "fp9"}, where="query")


def test_lm_head_follows_the_weights_unless_stated() -> None:
    assert Precisions(weights="int8").of("lm_head").name == "int8"
    assert Precisions(weights="int8", lm_head="bf16").of("lm_head").name == "bf16"
