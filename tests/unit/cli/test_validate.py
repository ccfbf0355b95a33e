import json
from pathlib import Path

import pytest

from pentarch.cli.main import main

DATA = Path(__file__).parents[2] / "validation" / "data"
KEYS = {
    "file",
    "device",
    "operator",
    "metric",
    "precision",
    "subset",
    "n",
    "mape",
    "median_ape",
    "bias",
}
GEMMS = DATA / "measured" / "aic_gemm.csv"


def document(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[str, list[dict[str, object]]]:
    assert main(["validate", *arguments, "--json"]) == 0
    found: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return found


def test_json_has_groups_and_what_was_not_scored(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(DATA / "measured" / "mlperf_llm.csv"), "--worst", "2")
    assert found["groups"]
    assert all(group.keys() >= KEYS for group in found["groups"])
    assert all(entry.keys() == {"file", "reason", "name", "n"} for entry in found["unscored"])
    assert len(found["worst"]) == 2


def test_tables_are_80_columns_wide_and_name_the_worst(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(DATA / "measured")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines) <= 80
    assert "aic_moe.csv" in lines
    assert any("unknown workload" in line for line in lines)


def test_what_is_left_out_is_what_is_scored(capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, str(GEMMS), "--leave-out", "Blackwell")
    devices = {group["device"] for group in found["groups"]}
    assert devices == {"b200_sxm", "gb200"}


def test_an_unknown_device_to_leave_out_is_an_input_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["validate", str(GEMMS), "--leave-out", "h1000"]) == 2
    assert "h100" in capsys.readouterr().err


def test_check_fails_when_an_oracle_differs(tmp_path: Path) -> None:
    text = (DATA / "mapper_oracle.csv").read_text()
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(text)
    bad.write_text(text.replace("503316480", "503316481", 1))
    assert main(["validate", str(good), "--check"]) == 0
    assert main(["validate", str(bad), "--check"]) == 1
    assert main(["validate", str(bad)]) == 0


def test_plots_are_written_and_a_folder_that_cannot_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(GEMMS), "--plot", str(tmp_path / "plots")]) == 0
    assert [path.name for path in (tmp_path / "plots").iterdir()] == ["aic_gemm-gemm-latency.svg"]
    file = tmp_path / "file"
    file.write_text("")
    assert main(["validate", str(GEMMS), "--plot", str(file / "plots")]) == 2
    assert "cannot be written" in capsys.readouterr().err
