"""The explanation of operators in a terminal: every sentence with its numbers, nothing cut."""

import io

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.report.studies import evaluation, operator

from pentarch.cli.explained import explanation, print_explained
from pentarch.cli.main import main
from pentarch.results import Bounds, Fusion, OperatorCost, Refetch

BOUNDS = Bounds(
    time_s=0.06, level="DRAM", time_gap=0.5, compulsory_bytes=2e6, moved_bytes=3e6, bytes_gap=0.5
)


def explained(**changes: object) -> OperatorCost:
    """Return an operator of 90 ms, with all that can be said of it."""
    return operator("mlp", 0.9).replace(
        **{
            "terms_s": {"compute": 0.03, "DRAM": 0.09}, "headroom": 3.0, "bounds": BOUNDS,
            "fusion": Fusion(fused=False, reason="runtime plain does not fuse mlp"),
            "mapping": {"tile": "m 128 k 64 n 256", "split": 4.0, "row_block": 8.0},
            "next_refetch": Refetch(
                level="SRAM", capacity_bytes=2e6, now_bytes=1e6, saved_bytes=5e5
            ),
            **changes,
        }
    )  # fmt: skip


def test_every_sentence_has_its_numbers() -> None:
    assert list(explanation(explained())) == [
        "90.0 ms each, 10 times: DRAM 90.0 ms, compute 30.0 ms",
        "bound by DRAM; compute binds once that is 3 times as fast",
        "at least 60.0 ms by DRAM (+50.0 %); moves 3.00 MB of at least 2.00 MB (+50.0 %)",
        "runs with tile m 128 k 64 n 256, split 4, row block 8",
        "not fused: runtime plain does not fuse mlp",
        "would fetch 500 kB less with 2.00 MB of SRAM instead of 1.00 MB",
        "cost is analytical",
    ]


def test_what_is_unknown_is_left_out() -> None:
    bare = explained(
        headroom=None, bounds=None, fusion=None, mapping={}, next_refetch=None, terms_s={}
    )
    assert list(explanation(bare)) == [
        "90.0 ms each, 10 times: nothing takes time", "cost is analytical",
    ]  # fmt: skip


def test_large_gaps_are_factors_and_work_at_peak_is_a_bound() -> None:
    far = BOUNDS.replace(level=None, time_gap=19.0, moved_bytes=0.0)
    lines = list(explanation(explained(bounds=far)))
    assert (
        "at least 60.0 ms by its work at peak (20 times that); moves nothing through memory"
        in lines
    )


def test_lines_are_wrapped_and_what_is_not_fused_is_listed_once() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=80, color_system=None)
    norm = explained(fusion=Fusion(fused=False, reason="no")).replace(name="norm")
    again = norm.replace(name="rotary", phase="prefill")
    fused = norm.replace(name="silu", fusion=Fusion(fused=True, reason="rides on a neighbor"))
    print_explained(console, evaluation(operators=(explained(), norm, again, fused)), 1)
    text = stream.getvalue()

    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert text.count("mlp, decode") == 1
    assert "norm, decode" not in text
    assert "not fused\n  mlp: runtime plain does not fuse mlp\n  norm, rotary: no\n" in text
    assert "\nfused\n  silu: rides on a neighbor\n" in text


def test_the_command_explains(fake_library: object, capsys: pytest.CaptureFixture[str]) -> None:
    point = ["--prompt", "64", "--output", "4", "--partitioner", "alone"]
    assert main(["evaluate", "tiny", "chip", *point, "--operators", "2", "--explain"]) == 0
    text = capsys.readouterr().out

    assert "cost is analytical" in text
    assert text.count(" each, ") == 2
