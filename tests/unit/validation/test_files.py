import math
from pathlib import Path

import pytest

from pentarch.errors import FieldError, InputError
from pentarch.validation.files import score_files
from pentarch.validation.rows import ScoredRow, group_rows

DATA = Path(__file__).parents[2] / "validation" / "data"


def row(predicted: float, measured: float, subset: str = "main") -> ScoredRow:
    return ScoredRow(
        label="r", file="f.csv", device="d", operator="gemm", metric="latency", precision="bf16",
        subset=subset, predicted=predicted, measured=measured,
    )  # fmt: skip


def test_errors_of_a_group_by_hand() -> None:
    # ratios 1.1, 0.8, 1.0: errors 0.1, 0.2, 0; bias = cube root of 0.88
    (group,) = group_rows([row(1.1, 1.0), row(0.8, 1.0), row(2.0, 2.0)])
    assert group.n == 3
    assert group.equal == 1
    assert group.mape == pytest.approx(0.1)
    assert group.median_ape == pytest.approx(0.1)
    assert group.bias == pytest.approx(0.88 ** (1 / 3))


def test_subsets_are_groups_of_their_own() -> None:
    groups = group_rows([row(1, 1), row(2, 1, "flagged")])
    assert [(group.subset, group.n) for group in groups] == [("flagged", 1), ("main", 1)]


@pytest.mark.parametrize("name", ["mapper_oracle.csv", "mapper_eval_oracle.csv"])
def test_every_row_of_an_oracle_is_equal(name: str) -> None:
    groups = group_rows(score_files([DATA / name]))
    assert groups
    assert all(group.equal == group.n for group in groups)


def test_a_folder_is_searched_for_files_that_can_be_scored(tmp_path: Path) -> None:
    text = (DATA / "mapper_oracle.csv").read_text()
    (tmp_path / "oracle.csv").write_text(text)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    assert {found.file for found in score_files([tmp_path])} == {"oracle.csv"}


def test_a_changed_figure_is_seen(tmp_path: Path) -> None:
    text = (DATA / "mapper_oracle.csv").read_text().replace("503316480", "503316481", 1)
    (tmp_path / "oracle.csv").write_text(text)
    wrong = [found for found in score_files([tmp_path]) if not found.is_equal]
    assert [(found.label, found.subset) for found in wrong] == [("g00", "even_imperfect")]
    assert wrong[0].ratio == pytest.approx(1.0, abs=1e-8)
    assert not math.isnan(wrong[0].ratio)


def test_unknown_columns_name_the_kinds_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="least traffic behind one buffer"):
        score_files([path])


def test_a_missing_number_names_row_and_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,M,K,N,w,p,order,Tm,Tk,Tn,total\ne0,8,8,8,1,,mnk,2,2,2,1\n")
    with pytest.raises(FieldError, match="row 1: p: found ''"):
        score_files([path])


def test_an_empty_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    empty, binary = tmp_path / "e.csv", tmp_path / "b.csv"
    empty.write_text("# only a comment\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (empty, binary, tmp_path / "absent.csv"):
        with pytest.raises(InputError):
            score_files([path])
