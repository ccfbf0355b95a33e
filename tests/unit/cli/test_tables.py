"""The terminal's tables at 80 columns: nothing cut, verdicts by word and symbol."""

import io
import re
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.report.studies import TOO_BIG, evaluation, infeasible, operator, study

from pentarch.cli.tables import print_evaluation, print_study
from pentarch.results import Evaluation, StudyResult, WattsPerPflops


class AsciiStream(io.StringIO):
    encoding = "ascii"


def shown(
    what: StudyResult | Evaluation, *, stream: io.StringIO | None = None, **options: object
) -> str:
    stream = stream or io.StringIO()
    console = Console(file=stream, width=80, color_system=None)
    if isinstance(what, StudyResult):
        print_study(what, console, **options)  # type: ignore[arg-type]  # options of the test
    else:
        print_evaluation(what, console)
    text = stream.getvalue()
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    return text


def words(text: str) -> str:
    return " ".join(text.split())


def test_evaluation_shows_every_verdict_with_its_numbers() -> None:
    text = words(shown(evaluation()))
    # Margins by hand as in DEFINITIONS.md: (50 - 62.5) / 50 = -25 %, (5000 - 4000) / 5000 = 20 %.
    assert "processing ✓ met 1.25 PFLOPS >= 1.00 PFLOPS +25.0 % delivered" in text
    assert "latency ✓ met 1.50 s <= 2.00 s +25.0 % query latency" in text
    assert "energy (binding) ✗ missed 62.5 W/PFLOPS <= 50.0 W/PFLOPS -25.0 %" in text
    assert "cost ✓ met 4,000 USD <= 5,000 USD +20.0 % system price" in text
    assert "programmability ✓ met 95.0 % >= 90.0 % +5.56 %" in text
    assert "cost: assumption: 5,000 USD" in text


def test_evaluation_shows_key_figures_operators_and_notes() -> None:
    text = words(shown(evaluation()))
    for part in (
        "TTFT 62.5 ms",
        "TPOT 5.50 ms",
        "query MFU 62.5 %",
        "mean power 78.1 W",
        "energy per query 1.83 J",
        "throughput 10,922 token/s",
        "bill of material unknown",
        "mlp decode 900 ms 60.0 % DRAM compute",
        "note: the router stays at bf16",
    ):
        assert part in text


def test_infeasible_evaluation_says_its_arithmetic_once() -> None:
    text = words(shown(infeasible()))
    assert text.count(TOO_BIG) == 1
    assert text.count("⊘ infeasible unknown") == 3


def test_long_names_fold_and_keep_every_character() -> None:
    name = "decoder.layers.attention.with_a_very_long_operator_name.that_never_seems_to_end"
    text = shown(evaluation(operators=(operator(name, 1.0, "shared_last_level_cache_bandwidth"),)))
    column = "".join(
        line.split("  ")[0].strip() for line in text.split("operator", 1)[1].splitlines()[1:]
    )
    assert name in column


def test_names_are_never_read_as_markup() -> None:
    text = shown(evaluation(operators=(operator("[red]x[/red]", 1.0),), notes=("[bold]n",)))
    assert "[red]x[/red]" in text
    assert "[bold]n" in text


def test_study_shows_best_front_log_and_report() -> None:
    cool = evaluation(w_per_pflops=WattsPerPflops(delivered=40.0, peak=50.0))
    text = shown(study(passing=cool), report=Path("runs/edge.html"))
    assert "Best: trial 3" in text
    assert "Nearest" not in text
    assert "log: runs/edge-test.sqlite" in text
    assert "report: runs/edge.html" in text


def test_study_without_a_passing_design_shows_why_and_the_nearest() -> None:
    text = words(shown(study()))
    assert "None of 3 designs meets all five targets. The nearest is trial 0" in text
    assert "Nearest: trial 0" in text
    assert "sram_bytes = 33,554,432 (33.6 MB)" in text


def test_front_shows_verdicts_margin_and_binding_target_and_counts_the_rest() -> None:
    text = words(shown(study(), designs=1))
    assert "0 -25.0 % ✓ processing ✓ latency ✗ energy ✓ cost ✓ programmability" in text
    assert re.search(r"programmability energy energy per query = 1\.83 J", text)
    assert "and 1 more designs on the front" in text


@pytest.mark.parametrize("length", [60, 200])
def test_paths_are_printed_whole(length: int) -> None:
    stream = io.StringIO()
    path = "runs/" + "x" * length + ".sqlite"
    print_study(study(log=path), Console(file=stream, width=80, color_system=None))
    assert f"log: {path}\n" in stream.getvalue()


def test_password_of_a_log_is_not_printed() -> None:
    assert "secret" not in shown(study(log="postgresql://ann:secret@db/runs"))


def test_terminal_without_unicode_gets_plain_symbols() -> None:
    stream = AsciiStream()
    text = shown(evaluation(), stream=stream)
    assert "x missed" in text
    assert "+ met" in text
    assert "✓" not in text
