"""The exhaustive-search oracle, to the byte."""

from typing import Any

import numpy as np
import pytest

from pentarch.mapping.attention import AttentionRows, map_attention, unfused_attention_bytes
from pentarch.mapping.gemm import GemmRows, map_gemms_one_level
from pentarch.mapping.reference import least_traffic
from pentarch.mapping.single import (
    GemmShape,
    Tile,
    evaluate_tiling,
    map_gemm,
    traffic_lower_bound,
)

from .sampling import oracle

GEMMS = [row for row in oracle("mapper_oracle.csv") if row["kind"] == "gemm"]
ATTENTIONS = [row for row in oracle("mapper_oracle.csv") if row["kind"] == "attn"]
GIVEN = oracle("mapper_eval_oracle.csv")


def shape_of(row: dict[str, Any]) -> GemmShape:
    """Return the GEMM of an oracle row."""
    word, partial = row["w"], row["p"]
    return GemmShape(row["M"], row["K"], row["N"], word, word, word, partial, partial)


def test_the_files_hold_the_public_cases() -> None:
    assert (len(GEMMS), len(ATTENTIONS), len(GIVEN)) == (17, 3, 14)


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row["id"])
@pytest.mark.parametrize(
    ("column", "convention", "perfect"),
    [
        ("even_imperfect", "even", False),
        ("even_perfect", "even", True),
        ("even_db", "even_db", False),
        ("uneven_imperfect", "uneven", False),
        ("uneven_perfect", "uneven", True),
    ],
)
def test_least_gemm_traffic_equals_the_oracle(
    row: dict[str, Any], column: str, convention: str, perfect: bool
) -> None:
    best = map_gemm(shape_of(row), row["buffer_bytes"], convention=convention, perfect=perfect)
    if row[column] is None:
        assert best is None
    else:
        assert best is not None
        assert best.traffic_bytes == row[column]


def test_a_batch_of_all_gemms_on_all_buffers_has_the_oracle_on_its_diagonal() -> None:
    columns = {name: np.array([row[name] for row in GEMMS]) for name in ("M", "K", "N", "w", "p")}
    buffers = np.array([row["buffer_bytes"] for row in GEMMS])
    word, partial = columns["w"], columns["p"]
    m = np.repeat(columns["M"][:, None], len(GEMMS), axis=1)
    rows = GemmRows(m, columns["K"], columns["N"], word, word, word, partial, partial)
    found = map_gemms_one_level(rows, buffers, False)
    total = np.diag(found.memory_read_bytes + found.memory_write_bytes)
    assert total.tolist() == [row["even_imperfect"] for row in GEMMS]


@pytest.mark.parametrize("row", GEMMS, ids=lambda row: row["id"])
def test_the_reference_and_the_bound_equal_the_oracle(row: dict[str, Any]) -> None:
    assert least_traffic(shape_of(row), row["buffer_bytes"]) == row["even_imperfect"]
    bound = traffic_lower_bound(shape_of(row), row["buffer_bytes"])
    assert abs(bound - row["lower_bound"]) < 1.0


@pytest.mark.parametrize("row", GIVEN, ids=lambda row: row["id"])
def test_a_given_tiling_costs_what_walking_it_costs(row: dict[str, Any]) -> None:
    tile = Tile(row["Tm"], row["Tk"], row["Tn"])
    found = evaluate_tiling(shape_of(row), tile, order=row["order"])
    assert found.a_bytes == row["A"]
    assert found.b_bytes == row["B"]
    assert found.c_write_bytes == row["C_final_write"] + row["C_spill_write"]
    assert found.c_read_bytes == row["C_spill_read"]
    assert found.traffic_bytes == row["total"]


@pytest.mark.parametrize("row", ATTENTIONS, ids=lambda row: row["id"])
@pytest.mark.parametrize(
    ("column", "perfect"), [("uneven_imperfect", False), ("uneven_perfect", True)]
)
def test_fused_and_unfused_attention_equal_the_oracle(
    row: dict[str, Any], column: str, perfect: bool
) -> None:
    rows = attention_rows(row)
    found = map_attention(
        rows,
        np.array([row["buffer_bytes"]]),
        statistics=bool(row["stats"]),
        perfect=perfect,
    )
    assert found.fits.all()
    assert found.memory_read_bytes + found.memory_write_bytes == row[column]
    if not perfect:
        assert found.row_block == row["Br"]
        assert found.memory_kv_bytes == row["Kt"] + row["V"]
        assert found.memory_write_bytes == row["O"]
    read, written = unfused_attention_bytes(rows, np.array([row["w"]]))
    assert read + written == row["unfused"]


def attention_rows(row: dict[str, Any]) -> AttentionRows:
    """Return the attention of an oracle row."""
    one = {key: np.array([row[key]]) for key in ("group", "Sq", "Skv", "d", "w", "p")}
    word, dim = one["w"], one["d"]
    heads = np.array([[row["H"] / row["group"]]])
    lengths = (one["group"], one["Sq"], one["Skv"])
    return AttentionRows(heads, *lengths, dim, dim, word, word, word, one["p"], np.array([False]))
