import math
from pathlib import Path

import pytest

from pentarch.catalog import default_library
from pentarch.errors import FieldError, InputError
from pentarch.validation.files import kernel_rows, recognize, score_files
from pentarch.validation.lines import read_lines
from pentarch.validation.rows import Group, ScoredRow, group_rows, worst_rows

DATA = Path(__file__).parents[2] / "validation" / "data"
MEASURED = DATA / "measured"
KINDS = {
    "aic_gemm": "GEMMs", "aic_context_attention": "prefill attention",
    "aic_generation_attention": "decode attention", "aic_moe": "mixtures of experts",
    "aic_collectives": "collectives", "aic_e2e_serving": "serving sweeps",
    "llmcompass_ops": "operators and a GPT-3 layer", "vidur_ops": "operators of served layers",
    "vidur_collectives": "collectives of systems", "neusight_fp32_ops": "operators of FP32 models",
    "neusight_fp32_e2e": "forward passes", "mlperf_llm": "MLPerf results",
    "e2e_published": "published runs", "e2e_claims": "published runs",
    "llama70b_8xa100": "a sweep over lengths and loads",
}  # fmt: skip
OPERATORS = {"gemm", "attention_prefill", "attention_decode", "moe", "all_reduce", "all_gather",
             "reduce_scatter", "all_to_all", "send", "vector", "layer", "query"}  # fmt: skip
METRICS = {"latency", "traffic", "ttft", "itl", "tpot", "throughput", "power", "energy"}


def row(predicted: float, measured: float, subset: str = "main", **more: str) -> ScoredRow:
    return ScoredRow(
        label="r", file="f.csv", device="d", operator="gemm", metric="latency", precision="bf16",
        subset=subset, predicted=predicted, measured=measured, **more,  # type: ignore[arg-type]  # texts only
    )  # fmt: skip


def test_errors_of_a_group_by_hand() -> None:
    # ratios 1.1, 0.8, 1.0: errors 0.1, 0.2, 0; bias = cube root of 0.88
    (group,) = group_rows([row(1.1, 1.0), row(0.8, 1.0), row(2.0, 2.0)])
    assert group.n == 3
    assert group.equal == 1
    assert group.mape == pytest.approx(0.1)
    assert group.median_ape == pytest.approx(0.1)
    assert group.bias == pytest.approx(0.88 ** (1 / 3))
    assert group.roofline_mape is None


def test_subsets_are_groups_of_their_own() -> None:
    groups = group_rows([row(1, 1), row(2, 1, "flagged")])
    assert [(group.subset, group.n) for group in groups] == [("flagged", 1), ("main", 1)]


def test_the_reference_column_comes_before_stacks_and_all_kernels_before_one() -> None:
    groups = group_rows([row(1, 1, framework="vllm"), row(1, 1, kernel="a"), row(1, 1, kernel="b")])
    found = [(group.framework, group.kernel, group.n) for group in groups]
    assert found == [("", "", 2), ("", "a", 1), ("", "b", 1), ("vllm", "", 1)]


def test_the_worst_rows_are_the_farthest_either_way_and_not_flagged() -> None:
    rows = [row(2, 1), row(1, 3), row(1, 1), row(99, 1, "flagged"), row(50, 1, framework="vllm")]
    assert [found.ratio for found in worst_rows(rows, 2)] == [pytest.approx(1 / 3), 2]


@pytest.mark.parametrize("name", ["mapper_oracle.csv", "mapper_eval_oracle.csv"])
def test_every_row_of_an_oracle_is_equal(name: str) -> None:
    groups = group_rows(score_files([DATA / name]).rows)
    assert groups
    assert all(group.equal == group.n for group in groups)


@pytest.mark.parametrize("name", KINDS)
def test_files_are_recognized_by_their_columns(name: str, tmp_path: Path) -> None:
    copy = tmp_path / "another-name.csv"
    copy.write_text((MEASURED / f"{name}.csv").read_text())
    kind = recognize(read_lines(copy))
    assert kind is not None
    assert kind.name == KINDS[name]


@pytest.fixture(scope="module")
def groups() -> tuple[Group, ...]:
    return group_rows(score_files([MEASURED]).rows)


def test_groups_have_the_names_of_the_interface(groups: tuple[Group, ...]) -> None:
    assert {group.operator for group in groups} <= OPERATORS
    assert {group.metric for group in groups} <= METRICS
    assert {group.subset for group in groups} <= {"main", "L2fit", "flagged"}
    assert {"gemm", "moe", "layer", "send", "query"} <= {group.operator for group in groups}
    assert all(group.mape >= 0 and group.bias > 0 for group in groups)


def test_kernels_have_a_plain_roofline_beside_them_that_is_not_slower(
    groups: tuple[Group, ...],
) -> None:
    kernels = [group for group in groups if group.operator not in ("query",)]
    assert all(group.roofline_mape is not None for group in kernels)


def test_stacks_are_scored_apart(groups: tuple[Group, ...]) -> None:
    gemms = [group for group in groups if group.file == "aic_gemm.csv"]
    assert {group.framework for group in gemms} == {"", "vllm", "sglang", "trtllm"}


def test_every_line_is_scored_or_counted() -> None:
    for name in ("aic_moe.csv", "vidur_ops.csv", "e2e_published.csv", "mlperf_llm.csv"):
        found = score_files([MEASURED / name])
        lines = len(read_lines(MEASURED / name))
        assert len(found.rows) + sum(one.n for one in found.unscored) == lines, name


def test_claims_and_datasheets_are_not_scored_and_say_so(tmp_path: Path) -> None:
    claims = score_files([MEASURED / "e2e_claims.csv"])
    assert not claims.rows
    assert {one.reason for one in claims.unscored} == {"not scored by its file"}
    sheet = tmp_path / "devices.csv"
    sheet.write_text("device,arch,sms,mem_bw_gbs,tdp_w\nx,y,1,2,3\n")
    (only,) = score_files([sheet]).unscored
    assert (only.reason, only.name, only.n) == ("not scored", "datasheet figures of devices", 1)


GEMM_HEAD = "device,dtype,m,n,k,latency_ms,vllm_ms,sglang_ms,trtllm_ms,spread,flags\n"


def test_other_devices_of_the_catalog_and_unknown_ones(tmp_path: Path) -> None:
    path = tmp_path / "gemms.csv"
    line = "{},bf16,4096,4096,4096,1,1,,,1,\n"
    names = ("NVIDIA L40S", "l40s", "mi300x", "mystery", "mystery", "Intel Core i9-13900K")
    path.write_text(GEMM_HEAD + "".join(line.format(name) for name in names))
    found = score_files([path])
    assert {one.device for one in found.rows} == {"l40s", "mi300x"}
    assert {(one.reason, one.name, one.n) for one in found.unscored} == {
        ("unknown device", "mystery", 4), ("no back-end yet (cpu)", "Intel Core i9-13900K", 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("l40s,bf16,0,8,8,1,1,,,1,", "g.csv, line 4: m: found '0'. Expected a number above 0"),
        ("l40s,bf16,x,8,8,1,1,,,1,", "g.csv, line 4: m: found 'x'"),
        ("l40s,bf16,8,8,8,nan,1,,,1,", "g.csv, line 4: latency_ms: found 'nan'"),
        ("l40s,fp9,8,8,8,1,1,,,1,", "g.csv, line 4: dtype: found 'fp9'"),
        (",bf16,8,8,8,1,1,,,1,", "g.csv, line 4: device: is empty"),
        ("l40s,bf16,8,8", "g.csv, line 4: has 4 columns. Expected the 11 of the header"),
    ],
)
def test_a_broken_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "g.csv"
    path.write_text("# notice\n\n" + GEMM_HEAD + line + "\n")
    with pytest.raises(FieldError) as error:
        score_files([path])
    assert message in str(error.value)


def test_a_folder_is_searched_for_files_that_can_be_scored(tmp_path: Path) -> None:
    text = (DATA / "mapper_oracle.csv").read_text()
    (tmp_path / "oracle.csv").write_text(text)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = score_files([tmp_path])
    assert {one.file for one in found.rows} == {"oracle.csv"}
    assert [(one.file, one.n) for one in found.unscored] == [("other.csv", 1)]


def test_a_changed_figure_is_seen(tmp_path: Path) -> None:
    text = (DATA / "mapper_oracle.csv").read_text().replace("503316480", "503316481", 1)
    (tmp_path / "oracle.csv").write_text(text)
    wrong = [found for found in score_files([tmp_path]).rows if not found.is_equal]
    assert [(found.label, found.subset) for found in wrong] == [("g00", "even_imperfect")]
    assert wrong[0].ratio == pytest.approx(1.0, abs=1e-8)
    assert not math.isnan(wrong[0].ratio)


def test_unknown_columns_name_the_kinds_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="least traffic behind one buffer"):
        score_files([path])


def test_a_missing_number_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("id,M,K,N,w,p,order,Tm,Tk,Tn,total\ne0,8,8,8,1,,mnk,2,2,2,1\n")
    with pytest.raises(FieldError, match="line 2: p: found ''"):
        score_files([path])


def test_an_empty_or_binary_file_is_an_input_error(tmp_path: Path) -> None:
    empty, binary = tmp_path / "e.csv", tmp_path / "b.csv"
    empty.write_text("# only a comment\n")
    binary.write_bytes(b"\xff\xfe\x00")
    for path in (empty, binary, tmp_path / "absent.csv"):
        with pytest.raises(InputError):
            score_files([path])


def test_kernel_rows_are_read_under_the_catalogs_names() -> None:
    rows, unscored = kernel_rows(MEASURED / "vidur_collectives.csv", default_library())
    assert not unscored
    assert {one.device for one in rows} <= {"a100_sxm", "h100_sxm", "a100_pcie_80", "h100_pcie"}
    assert any(one.devices_per_board == 1 for one in rows)
    with pytest.raises(InputError, match="no measured kernels"):
        kernel_rows(DATA / "mapper_oracle.csv", default_library())
