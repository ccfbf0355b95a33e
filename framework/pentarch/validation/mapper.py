"""The mapper's oracles: least traffic behind one buffer, and the traffic of given tilings."""

from collections.abc import Callable, Iterator, Sequence
from types import MappingProxyType

import numpy as np

from pentarch.errors import FieldError
from pentarch.mapping.attention import AttentionRows, map_attention
from pentarch.mapping.single import Convention, GemmShape, Tile, evaluate_tiling, map_gemm
from pentarch.validation.lines import Line
from pentarch.validation.rows import ScoredRow

GEMM_SUBSETS: MappingProxyType[str, tuple[Convention, bool]] = MappingProxyType(
    {
        "even_imperfect": ("even", False),
        "even_perfect": ("even", True),
        "even_db": ("even_db", False),
        "uneven_imperfect": ("uneven", False),
        "uneven_perfect": ("uneven", True),
    }
)
"""Column -> (convention, whether tiles must divide the dimensions)."""

ATTENTION_SUBSETS = MappingProxyType({"uneven_imperfect": False, "uneven_perfect": True})
"""Column -> whether row blocks must divide the query rows."""


def score_mapper_oracle(records: Sequence[Line], *, file: str) -> Iterator[ScoredRow]:
    """Yield a row per least traffic that the file states.

    Raises:
        FieldError: A line has a kind that is neither gemm nor attn, or a number is missing.
    """
    for record in records:
        kind, where = record.get("kind", ""), record.where
        if kind not in ("gemm", "attn"):
            raise FieldError(
                where=where, path="kind", problem=f"found {kind!r}", expected="gemm or attn"
            )
        operator = "gemm" if kind == "gemm" else "attention"
        predict = (
            _gemm_traffic(record, where) if kind == "gemm" else _attention_traffic(record, where)
        )
        subsets = GEMM_SUBSETS if kind == "gemm" else ATTENTION_SUBSETS
        for subset in subsets:
            if record.get(subset):
                yield _row(
                    record, file=file, operator=operator, subset=subset,
                    predicted=predict(subset), measured=_number(record, subset, where),
                )  # fmt: skip


def _gemm_traffic(record: Line, where: str) -> Callable[[str], float]:
    word, partial = _number(record, "w", where), _number(record, "p", where)
    shape = _shape(record, where, word=word, partial=partial)

    def predict(subset: str) -> float:
        convention, perfect = GEMM_SUBSETS[subset]
        buffer = _number(record, "buffer_bytes", where)
        found = map_gemm(shape, buffer, convention=convention, perfect=perfect)
        return float("nan") if found is None else found.traffic_bytes

    return predict


def _attention_traffic(record: Line, where: str) -> Callable[[str], float]:
    def value(name: str) -> float:
        return _number(record, name, where)

    heads, group = value("H"), value("group")
    columns = {
        "group": group, "positions": value("Sq"), "kv_length": value("Skv"), "head_dim": value("d"),
        "value_dim": value("d"), "q_bytes": value("w"), "kv_bytes": value("w"),
        "out_bytes": value("w"), "accumulator_bytes": value("p"),
    }  # fmt: skip
    rows = AttentionRows(
        kv_heads=np.full((1, 1), heads / group),
        **{name: np.array([number]) for name, number in columns.items()},
        causal=np.zeros(1, dtype=np.bool_),
    )

    def predict(subset: str) -> float:
        found = map_attention(
            rows, np.array([value("buffer_bytes")]), statistics=value("stats") > 0,
            perfect=ATTENTION_SUBSETS[subset],
        )  # fmt: skip
        if not found.fits[0, 0]:
            return float("nan")
        return float(found.memory_read_bytes[0, 0] + found.memory_write_bytes[0, 0])

    return predict


def score_evaluator_oracle(records: Sequence[Line], *, file: str) -> Iterator[ScoredRow]:
    """Yield a row per given tiling: all bytes that it moves."""
    for record in records:
        where = record.where
        word, partial = _number(record, "w", where), _number(record, "p", where)
        shape = _shape(record, where, word=word, partial=partial)
        tile = Tile(*(_number(record, name, where) for name in ("Tm", "Tk", "Tn")))
        found = evaluate_tiling(shape, tile, order=record["order"])
        yield _row(
            record, file=file, operator="gemm", subset="given_tiling",
            predicted=found.traffic_bytes, measured=_number(record, "total", where),
        )  # fmt: skip


def _shape(record: Line, where: str, *, word: float, partial: float) -> GemmShape:
    m, k, n = (_number(record, name, where) for name in ("M", "K", "N"))
    return GemmShape(m, k, n, word, word, word, partial, partial)


def _row(
    record: Line, *, file: str, operator: str, subset: str, predicted: float, measured: float
) -> ScoredRow:
    return ScoredRow(
        label=record.get("id", ""), file=file, device="", operator=operator, metric="traffic",
        precision="", subset=subset, predicted=predicted, measured=measured,
    )  # fmt: skip


def _number(record: Line, name: str, where: str) -> float:
    text = record.get(name, "")
    try:
        return float(text)
    except ValueError:
        raise FieldError(
            where=where, path=name, problem=f"found {text!r}", expected="a number"
        ) from None
