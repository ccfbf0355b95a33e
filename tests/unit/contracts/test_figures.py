"""Shown names, units and sentences of figures."""

import pytest
from tests.unit.report.studies import evaluation, infeasible, study

from pentarch.contracts.figures import (
    binding_verdict,
    comparison_of,
    count_verdicts,
    figure_unit,
    parameter_names,
    show_figure,
    show_margin,
    show_parameter,
    shown_ledger,
    why_not,
    without_password,
)
from pentarch.results import LedgerEntry, TargetId, VerdictKind, WattsPerPflops


@pytest.mark.parametrize(
    ("figure", "value", "shown"),
    [
        ("query_s", 0.0015, "1.50 ms"),
        ("throughput_tokens_per_s", 12345.0, "12,345 token/s"),
        ("queries_per_s", 42.7, "42.7 query/s"),
        ("mfu.query", 0.625, "62.5 %"),
        ("w_per_pflops.peak", 50.0, "50.0 W/PFLOPS"),
        ("energy_j.static", 0.25, "250 mJ"),
        ("query.concurrency", 64.0, "64"),
        ("bom_usd", None, "unknown"),
        ("query_usd", 5.85e-7, "5.85e-7 USD"),
        ("update_s", 3600.0, "3,600 s"),
    ],
)
def test_figure_is_shown_with_its_unit(figure: str, value: float | None, shown: str) -> None:
    assert show_figure(figure, value) == shown


def test_count_has_no_unit() -> None:
    assert figure_unit("system.devices") == ""


@pytest.mark.parametrize(
    ("margin", "shown"), [(0.2, "+20.0 %"), (-2.79, "-279 %"), (0.0, "0 %"), (None, "unknown")]
)
def test_margin_is_signed(margin: float | None, shown: str) -> None:
    assert show_margin(margin) == shown


@pytest.mark.parametrize(
    ("path", "value", "shown"),
    [
        ("lanes", 4096, "4,096"),
        ("clock_hz", 1_000_000_000, "1.00 GHz"),
        ("sram_bytes", 33554432, "32 MiB"),
        ("sram_bytes", 1536 * 1024, "1,536 KiB"),
        ("sram_bytes", 1234567, "1,234,567 (1.23 MB)"),
        ("fused", True, "True"),
        ("memory", "hbm3e", "hbm3e"),
        ("voltage_v", 0.75, "750 mV"),
    ],
)
def test_parameter_is_shown_exactly(path: str, value: object, shown: str) -> None:
    assert show_parameter(path, value) == shown


def test_every_condition_has_its_words() -> None:
    assert comparison_of("mfu.query") == "more than"
    assert comparison_of("delivered_flops_per_s") == "at least"
    assert comparison_of("w_per_pflops.peak") == "at most"
    assert comparison_of("bom_usd") == "at most"


def test_unknown_verdict_binds_before_a_missed_one() -> None:
    binding = binding_verdict(evaluation(system_usd=None).targets)
    assert binding is not None
    assert binding.id is TargetId.COST


def test_why_not_names_failing_targets_the_binding_one_first() -> None:
    # Energy misses by (50 - 62.5) / 50 = -25 %, latency by (2 - 3) / 2 = -50 %.
    sentence = why_not(study(evaluation(query_s=3.0)))
    assert sentence == (
        "The one design does not meet all five targets. The nearest is trial 0: "
        "latency is missed: query latency is 3.00 s, at most 2.00 s is asked (margin -50.0 %), "
        "set by DRAM bandwidth; energy is missed: power per PFLOPS delivered is 62.5 W/PFLOPS, "
        "at most 50.0 W/PFLOPS is asked (margin -25.0 %). "
        # The ledger says 0.625 and 0.375; of 1.83 J DRAM takes 1.0 J and the MACs 0.5 J.
        "Of its time 62.5 % is useful; 37.5 % goes to KV. "
        "Of its energy 54.6 % goes to DRAM and 27.3 % to MACs."
    )


def test_why_not_says_what_a_missed_price_is_made_of() -> None:
    # Of 900 + 600 USD the die takes 60 %.
    cool = WattsPerPflops(delivered=40.0, peak=50.0)
    sentence = why_not(study(evaluation(system_usd=6000.0, w_per_pflops=cool)))
    assert sentence is not None
    assert sentence.endswith("Of its bill of material 60.0 % goes to die and 40.0 % to memory.")
    assert "energy" not in sentence


def test_why_not_names_targets_that_no_design_meets() -> None:
    # Energy: (50 - 62.5) / 50 = -25 % and (50 - 60) / 50 = -20 %; each other target is met by one.
    better = evaluation(w_per_pflops=WattsPerPflops(delivered=60.0, peak=50.0))
    sentence = why_not(study(evaluation(), better))
    assert sentence is not None
    assert sentence.endswith(
        "No design meets energy at all: trial 1 comes nearest to it (margin -20.0 %)."
    )
    assert sentence.count("No design meets") == 1


def test_rounding_of_the_ledger_is_not_shown() -> None:
    dust = LedgerEntry(name="host", share=-1e-17)
    found = evaluation()
    assert shown_ledger(found.replace(ledger=(*found.ledger, dust))) == found.ledger


def test_parameters_have_short_names_that_stay_unique() -> None:
    assert parameter_names(
        ["clock_hz", "sram_bytes", "query.concurrency", "precisions.weights", "memory_bytes_per_s"]
    ) == {
        "clock_hz": "clock", "sram_bytes": "SRAM", "query.concurrency": "in flight",
        "precisions.weights": "weights format", "memory_bytes_per_s": "memory",
    }  # fmt: skip
    assert parameter_names(["sram_bytes", "sram_hz"]) == {
        "sram_bytes": "sram_bytes", "sram_hz": "sram_hz",
    }  # fmt: skip


def test_why_not_without_any_design_that_runs_gives_an_example() -> None:
    sentence = why_not(study(infeasible(), nearest=None))
    assert sentence is not None
    assert "Nothing can run, for example trial 0: " in sentence
    assert "8.1 GB short" in sentence


def test_why_not_is_silent_when_something_passes() -> None:
    cool = evaluation(w_per_pflops=WattsPerPflops(delivered=40.0, peak=50.0))
    assert why_not(study(passing=cool)) is None


def test_verdicts_are_counted_by_target() -> None:
    counts = count_verdicts(study(evaluation(), infeasible(), evaluation(system_usd=None)).trials)
    assert counts[TargetId.ENERGY][VerdictKind.MISSED] == 2
    assert counts[TargetId.ENERGY][VerdictKind.INFEASIBLE] == 1
    assert counts[TargetId.COST][VerdictKind.UNKNOWN] == 1
    assert counts[TargetId.COST][VerdictKind.MET] == 2


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://ann:p@ss@db/runs", "postgresql://ann:***@db/runs"),
        ("sqlite:///runs/a.sqlite", "sqlite:///runs/a.sqlite"),
        ("runs/a@b.sqlite", "runs/a@b.sqlite"),
    ],
)
def test_password_is_hidden(address: str, shown: str) -> None:
    assert without_password(address) == shown
