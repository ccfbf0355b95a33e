import json
from pathlib import Path

import pytest

from pentarch.cli.main import main

GEMMS = str(Path(__file__).parents[2] / "validation" / "data" / "measured" / "aic_gemm.csv")
FIT = ("calibrate", GEMMS, "--device", "h100_sxm", "--precision", "bf16", "--date", "2026-01-31")


def test_json_has_value_prior_interval_and_whether_it_is_identified(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([*FIT, "--out", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() >= {"device", "parameters", "before", "after"}
    assert found["device"] == "h100_sxm"
    assert found["parameters"]
    for one in found["parameters"].values():
        assert one.keys() >= {"value", "prior", "interval", "identified"}
        assert one["interval"][0] <= one["value"] <= one["interval"][1]
        assert one["identified"] or one["value"] == one["prior"]
    assert found["before"].keys() == found["after"].keys() == {"mape", "median_ape", "bias", "rows"}


def test_the_file_it_writes_is_the_same_each_time_and_changes_predictions(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    texts = []
    for name in ("one", "two"):
        assert main([*FIT, "--out", str(tmp_path / f"{name}.yaml")]) == 0
        texts.append((tmp_path / f"{name}.yaml").read_text("utf-8"))
    assert texts[0] == texts[1]
    slow = tmp_path / "slow.yaml"
    head, _ = texts[0].split("parameters:\n")
    slow.write_text(head + "parameters:\n  kernel_start_s: {value: 0.001}\n", "utf-8")
    capsys.readouterr()

    def predicted(*options: str) -> float:
        assert main(["validate", GEMMS, "--worst", "9999", "--json", *options]) == 0
        rows = json.loads(capsys.readouterr().out)["worst"]
        return min(row["predicted"] for row in rows if row["device"] == "h100_sxm")

    assert predicted() < 1e-3 < predicted("--calibration", str(slow))


def test_what_is_not_identified_is_said_to_stay(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    options = ("--parameter", "kernel_start_s", "--parameter", "transcendental_per_cycle")
    assert main([*FIT, *options, "--out", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(line for line in lines if "transcendental_per_cycle" in line)
    assert line.endswith("not identified")
    assert "  What the rows do not identify stays at its prior." in lines


def test_a_file_that_is_there_is_not_written_over(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "h100_sxm.yaml").write_text("mine", "utf-8")
    assert main([*FIT, "--out", str(tmp_path)]) == 2
    assert "--force" in capsys.readouterr().err
    assert (tmp_path / "h100_sxm.yaml").read_text("utf-8") == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GEMMS,), "Give exactly one"),
        ((GEMMS, "--device", "h100_sxm", "--runtime", "vllm"), "--device and --runtime"),
        (("--device", "h100_sxm"), "No file of measured kernels"),
        ((GEMMS, "--device", "h100_smx"), "h100_sxm"),
        ((GEMMS, "--device", "edge_soc"), "No usable row"),
        ((GEMMS, "--device", "h100_sxm", "--date", "May"), "2026-01-31"),
        ((GEMMS, "--this-machine"), "Leave the files out"),
    ],
)
def test_wrong_input_says_what_would_be_right(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["calibrate", *arguments, "--out", str(tmp_path / "x.yaml")]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
