import pytest

from pentarch.evaluate.gemm_study import GemmStudy, loop_nest, study_behind_buffer
from pentarch.mapping.single import GemmShape, map_gemm
from pentarch.results import Infeasible

SHAPE = GemmShape(2048, 12288, 12288)
"""One byte a word."""


def study(shape: GemmShape, buffer_bytes: float, *, perfect: bool = False) -> GemmStudy:
    found = study_behind_buffer(shape, buffer_bytes, perfect=perfect)
    assert isinstance(found, GemmStudy)
    return found


def test_prefill_gemm_of_the_article_behind_two_mebibytes() -> None:
    # Figures of `mapper_oracle.csv`, row g00, found by exhaustive search.
    assert study(SHAPE, 2**21).traffic_bytes == 503_316_480
    assert study(SHAPE, 2**21, perfect=True).traffic_bytes == 528_482_304


def test_operands_sum_to_the_traffic() -> None:
    found = study(GemmShape(100, 77, 131), 1000)
    assert sum(value or 0.0 for value in found.traffic.values()) == found.traffic_bytes == 81861
    assert found.gap == pytest.approx(81861 / found.bound_bytes - 1)


def test_the_next_step_moves_less_and_one_byte_less_of_buffer_does_not() -> None:
    found = study(GemmShape(100, 77, 131), 1000)
    assert found.next_capacity_bytes is not None
    assert found.next_traffic_bytes is not None
    at_step = map_gemm(GemmShape(100, 77, 131), found.next_capacity_bytes)
    before = map_gemm(GemmShape(100, 77, 131), found.next_capacity_bytes - 1)
    assert at_step is not None
    assert before is not None
    assert at_step.traffic_bytes == found.next_traffic_bytes < found.traffic_bytes
    assert before.traffic_bytes == found.traffic_bytes


def test_a_buffer_that_holds_everything_has_no_next_step() -> None:
    found = study(GemmShape(8, 8, 8), 1000)
    assert found.gap == 0.0
    assert found.next_capacity_bytes is None


def test_a_buffer_too_small_is_an_answer() -> None:
    found = study_behind_buffer(GemmShape(8, 8, 8), 2)
    assert isinstance(found, Infeasible)
    assert "2 bytes" in found.reason


def test_the_loop_nest_shows_order_and_tiles() -> None:
    text = loop_nest(study(GemmShape(100, 77, 131), 1000))
    assert [line.split()[1] for line in text.splitlines() if "for" in line] == list("mnk")
    assert "C[34, 27]" in text
