"""The terminal's tables at 80 columns: nothing cut, verdicts by word and symbol."""

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console
from tests.unit.report.studies import TOO_BIG, evaluation, infeasible, operator, study, trial

from pentarch.cli.tables import print_evaluation, print_study
from pentarch.results import (
    AmountEntry,
    Evaluation,
    LedgerEntry,
    StudyResult,
    WattsPerPflops,
)


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
        print_evaluation(what, console, **options)  # type: ignore[arg-type]  # options of the test
    text = stream.getvalue()
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    return text


def words(text: str) -> str:
    return " ".join(text.split())


def test_evaluation_shows_every_verdict_with_its_numbers() -> None:
    text = words(shown(evaluation()))
    # Margins by hand as in definitions.md, Verdict and margin: (50 - 62.5) / 50 = -25 %, (5000 - 4000) / 5000 = 20 %.
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
    assert "SRAM = 32 MiB" in text


def test_front_shows_verdicts_margin_and_binding_target_and_counts_the_rest() -> None:
    text = words(shown(study(), designs=1))
    assert "verdicts: processing, latency, energy, cost, programmability ✓ met ✗ missed" in text
    assert "its parameters: memory = hbm3e, lanes = 0, SRAM = 32 MiB" in text
    assert "0 ✓ ✓ ✗ ✓ ✓ -25.0 % energy 1.83 4,000" in text
    assert "and 1 more designs on the front" in text


def test_front_has_one_line_per_design_and_only_the_parameters_that_differ() -> None:
    text = shown(study())
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "their common parameters: memory = hbm3e, SRAM = 32 MiB" in lines
    assert "0 ✓ ✓ ✗ ✓ ✓ -25.0 % energy 1.83 4,000 0" in lines
    assert "1 ✓ ✓ ✗ ✓ ✓ -25.0 % energy 2.50 3,000 64" in lines


def test_front_with_many_parameters_goes_on_in_further_tables() -> None:
    many = {f"knob_{index}_bytes": 2**20 for index in range(16)}
    found = evaluation()
    front = tuple(
        trial(number, found, **{name: size * (number + 1) for name, size in many.items()})
        for number in range(3)
    )
    text = shown(study(front=front))
    table = text.split("Pareto front")[1]
    heads = [line.split() for line in table.splitlines() if line.split()[:1] == ["trial"]]
    assert len(heads) > 1
    # Each of 16 parameters has its column once, with the unit in its head: 1, 2 and 3 MiB.
    assert table.count("(MiB)") == 16
    for number in range(3):
        rows = [line.split() for line in table.splitlines() if line.split()[:1] == [str(number)]]
        assert len(rows) == len(heads)
        assert sum(row.count(str(number + 1)) for row in rows) == 16


def test_evaluation_says_where_its_time_goes() -> None:
    shares = (0.4, 0.2, 0.15, 0.1, 0.06, 0.05, 0.03, 0.01)
    ledger = tuple(
        LedgerEntry(name=f"cause {index}", share=share) for index, share in enumerate(shares)
    )
    text = words(shown(evaluation(ledger=ledger)))
    # A bar has 24 cells: 0.4 x 24 = 9.6, 0.2 x 24 = 4.8, 0.05 x 24 = 1.2.
    assert f"cause 0 40.0 % {'█' * 10} cause 1 20.0 % {'█' * 5}" in text
    # 0.03 + 0.01 are the two that are left.
    assert "cause 5 5.00 % █ 2 smaller parts 4.00 % █" in text


def amounts(*entries: tuple[str, float, bool]) -> tuple[AmountEntry, ...]:
    return tuple(
        AmountEntry(name=name, share=share, ideal=ideal, amount=share * 200.0)
        for name, share, ideal in entries
    )


ENERGY = amounts(
    ("useful products in fp8", 0.25, True), ("static power while waiting", 0.75, False)
)
COST = amounts(("die", 0.5, True), ("margin", 0.55, False), ("below cost", -0.05, False))


def test_energy_and_price_are_a_sentence_each() -> None:
    text = words(shown(evaluation(energy_ledger=ENERGY, cost_ledger=COST)))
    assert "energy: 25.0 % useful products in fp8, 75.0 % static power while waiting" in text
    assert "price: 50.0 % die, 55.0 % margin, -5.00 % below cost" in text


def test_an_explanation_shows_amounts_and_every_entry() -> None:
    text = words(shown(evaluation(energy_ledger=ENERGY, cost_ledger=COST), explain=True))
    assert f"useful products in fp8 50.0 J 25.0 % {'█' * 6}" in text
    assert "below cost -10.0 USD -5.00 %" in text
    assert "energy: " not in text


def test_bars_of_a_terminal_without_unicode_are_plain() -> None:
    text = shown(evaluation(energy_ledger=ENERGY), stream=AsciiStream(), explain=True)
    assert "#" * 18 in text
    assert "█" not in text


def test_as_many_operators_as_asked_for_are_listed() -> None:
    text = words(shown(evaluation(), operators=1))
    assert "mlp decode" in text
    assert "and 1 more operators, 40.0 % together" in text


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
