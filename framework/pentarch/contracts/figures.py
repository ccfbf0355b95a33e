"""Shown names, units and text of figures, for reports, terminals and plug-ins' sections alike."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from pentarch.results import (
    Evaluation,
    LedgerEntry,
    StudyResult,
    TargetId,
    Trial,
    Verdict,
    VerdictKind,
)
from pentarch.targets import Targets, conditions
from pentarch.units import parse, percent, show, unit_of

_LABELS = {
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "query_s": "query latency",
    "throughput_tokens_per_s": "throughput",
    "queries_per_s": "queries per second",
    "useful_flops": "useful work per query",
    "delivered_flops_per_s": "delivered",
    "peak_flops_per_s": "peak",
    "mfu.prefill": "MFU in prefill",
    "mfu.decode": "MFU in decode",
    "mfu.query": "query MFU",
    "mbu": "MBU",
    "hfu": "HFU",
    "mean_w": "mean power",
    "peak_w": "power, hungrier phase",
    "full_load_w": "power at full load",
    "w_per_pflops.delivered": "power per PFLOPS delivered",
    "w_per_pflops.peak": "power per PFLOPS of peak",
    "j_per_token": "energy per token",
    "query_j": "energy per query",
    "system_usd": "system price",
    "bom_usd": "bill of material",
    "query_usd": "cost per query",
    "programmability": "programmability score",
    "update_s": "time of an update",
    "short_bytes": "memory missing",
    "least_margin": "least margin",
}
"""Shown name of a figure by its key."""

_RATIOS = frozenset({"mfu", "mbu", "hfu", "programmability", "least_margin", "margin"})
_UNIT_SUFFIX = re.compile(r"_[a-z]+(?:_per_[a-z]+)?\d?$")
_RATE = re.compile(r"(?:^|_)([a-z]+)_per_s$")
_SINGULAR = {"queries": "query"}
_PARAMETERS = {
    "query.concurrency": "in flight",
    "query.prompt_tokens": "prompt",
    "query.output_tokens": "output",
}
"""Shown name of a parameter whose path does not make a good one."""
_ACRONYMS = frozenset({"sram", "dram", "hbm", "kv", "tdp", "nic", "io", "mac", "l1", "l2", "l3"})
_BINARY = ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))
_SMALL_USD = 1e-4
"""Sums below are shown with an exponent: money has no prefixes."""
_PLAIN_SECONDS = 999.5
"""Times from here on are shown in whole seconds: nobody counts in kiloseconds."""
_ROUNDING = 1e-9
"""Share of the time below which a loss is rounding."""
LOSSES_NAMED = 2
"""Losses that the sentence on a design's time, energy or price names."""


def label_of(figure: str) -> str:
    """Return the shown name of a figure; a figure without one is shown by its key."""
    if figure.startswith("margin."):
        return f"margin of {figure.removeprefix('margin.')}"
    return _LABELS.get(figure, figure)


def figure_unit(figure: str) -> str:
    """Return the unit of a figure, `%` for a fraction, and nothing for a count.

    Examples:
        >>> figure_unit("w_per_pflops.delivered"), figure_unit("mfu.query")
        ('W/PFLOPS', '%')
        >>> figure_unit("queries_per_s"), figure_unit("query.concurrency")
        ('query/s', '')
    """
    root = figure.split(".", 1)[0]
    if root == "w_per_pflops":
        return "W/PFLOPS"
    if root in _RATIOS:
        return "%"
    for name in (figure, root):
        unit = unit_of(name)
        rate = _RATE.search(name)
        if unit == "s" and rate:
            return f"{_SINGULAR.get(rate[1], rate[1].removesuffix('s'))}/s"
        if unit is not None:
            return unit
    return ""


def show_figure(figure: str, value: float | None) -> str:
    """Return the value of a figure as text with its unit.

    Examples:
        >>> show_figure("query_s", 1.25), show_figure("bom_usd", None)
        ('1.25 s', 'unknown')
    """
    unit = figure_unit(figure)
    return show_value(value, unit)


def show_value(value: float | None, unit: str) -> str:
    """Return a value as text; `%` shows a fraction as a percentage, a whole count stays whole.

    Examples:
        >>> show_value(0.512, "%"), show_value(16.0, "")
        ('51.2 %', '16')
    """
    if unit == "%":
        return percent(value)
    if not unit and value is not None and float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if unit == "s" and value is not None and abs(value) >= _PLAIN_SECONDS:
        return f"{value:,.0f} s"
    if unit == "USD" and value and abs(value) < _SMALL_USD:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits}e{int(exponent)} USD"
    return show(value, unit)


def show_margin(margin: float | None) -> str:
    """Return a margin as a signed percentage.

    Examples:
        >>> show_margin(0.2), show_margin(-0.463), show_margin(None)
        ('+20.0 %', '-46.3 %', 'unknown')
    """
    if margin is None:
        return "unknown"
    sign = "+" if margin > 0 else ""
    return sign + percent(margin)


def show_parameter(path: str, value: object) -> str:
    """Return a design parameter as text, exact: a size in whole KiB, MiB, ... where it is one.

    Examples:
        >>> show_parameter("sram_bytes", 33554432), show_parameter("clock_hz", 1.2e9)
        ('32 MiB', '1.20 GHz')
        >>> show_parameter("sram_bytes", 1234567)
        '1,234,567 (1.23 MB)'
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    unit = figure_unit(path)
    shown = show_value(float(value), unit)
    if isinstance(value, float) and not value.is_integer():
        return shown
    if unit == "B":
        for factor, name in _BINARY:
            if value and value % factor == 0:
                return f"{value / factor:,.0f} {name}"
    if unit in ("", "%") or parse(shown, unit) == value:
        return shown
    return f"{value:,.0f} ({shown})"


def parameter_names(paths: Iterable[str]) -> dict[str, str]:
    """Return a short shown name for each parameter path; one that would not be unique is the path.

    Examples:
        >>> parameter_names(["sram_bytes", "precisions.kv", "query.concurrency", "system.devices"])
        {'sram_bytes': 'SRAM', 'precisions.kv': 'KV format', 'query.concurrency': 'in flight', \
'system.devices': 'devices'}
    """
    names = {path: _parameter_name(path) for path in paths}
    counts = Counter(names.values())
    return {path: name if counts[name] == 1 else path for path, name in names.items()}


def _parameter_name(path: str) -> str:
    if path in _PARAMETERS:
        return _PARAMETERS[path]
    owner, _, field = path.rpartition(".")
    if unit_of(field):
        field = _UNIT_SUFFIX.sub("", field)
    words = [word.upper() if word in _ACRONYMS else word for word in field.split("_")]
    return " ".join(words) + (" format" if owner == "precisions" else "")


def comparison_of(figure: str) -> str:
    """Return the words between a figure of a target and its threshold, for example `"at most"`."""
    for targets in (Targets(), Targets(w_basis="peak", usd_basis="bom")):
        for condition in conditions(targets):
            if condition.figure == figure:
                if not condition.more_is_better:
                    return "at most"
                return "more than" if condition.strict else "at least"
    return "threshold"


def show_threshold(verdict: Verdict) -> str:
    """Return the threshold of a verdict as text, for example `"at most 2.00 s"`."""
    return f"{comparison_of(verdict.figure)} {show_figure(verdict.figure, verdict.threshold)}"


def binding_verdict(verdicts: Sequence[Verdict]) -> Verdict | None:
    """Return the verdict with the least margin; one without a margin binds first."""
    if not verdicts:
        return None
    return min(verdicts, key=lambda verdict: (verdict.margin is not None, verdict.margin or 0.0))


def describe_verdict(verdict: Verdict) -> str:
    """Return one verdict as a clause, with its numbers or its reason."""
    if verdict.verdict in (VerdictKind.UNKNOWN, VerdictKind.INFEASIBLE):
        return f"{verdict.id} is {verdict.verdict}: {verdict.reason or 'no reason was given'}"
    clause = (
        f"{verdict.id} is {verdict.verdict}: {label_of(verdict.figure)} is "
        f"{show_figure(verdict.figure, verdict.value)}, {show_threshold(verdict)} is asked "
        f"(margin {show_margin(verdict.margin)})"
    )
    return clause + (f", set by {verdict.bottleneck}" if verdict.bottleneck else "")


def why_not(result: StudyResult) -> str | None:
    """Return why nothing meets all five targets, or `None` when something does.

    The nearest design and its failing targets are named, the binding one first; then where its
    time and, as far as those targets fail, its energy and its price go.
    """
    if result.best is not None:
        return None
    start = f"None of {result.n_trials:,} designs meets all five targets."
    if result.n_trials == 1:
        start = "The one design does not meet all five targets."
    if result.nearest is None:
        example = next((trial for trial in result.trials if trial.reason is not None), None)
        shown = f", for example trial {example.number}: {example.reason}" if example else ""
        return f"{start} Nothing can run{shown}."
    evaluation = result.nearest.evaluation
    failing = sorted(
        (verdict for verdict in evaluation.targets if verdict.verdict is not VerdictKind.MET),
        key=lambda verdict: (verdict.margin is not None, verdict.margin or 0.0),
    )
    clauses = "; ".join(describe_verdict(verdict) for verdict in failing)
    name = f"trial {result.nearest.trial.number}"
    if result.compared:
        name = f"{evaluation.system} ({name})"
    nearest = f"The nearest is {name}: {clauses}."
    causes = _causes(evaluation, {verdict.id for verdict in failing})
    return " ".join((start, nearest, *causes, *_never_met(result.trials)))


def shown_ledger(evaluation: Evaluation) -> tuple[LedgerEntry, ...]:
    """Return the ledger without entries that are rounding of a sum."""
    return tuple(entry for entry in evaluation.ledger if abs(entry.share) > _ROUNDING)


def _never_met(trials: Sequence[Trial]) -> list[str]:
    """Return a sentence for each target that no design meets, with the best of its margins."""
    found = []
    for target, counts in count_verdicts(trials).items():
        best = max(
            (
                (margin, -trial.number)
                for trial in trials
                if (margin := trial.margins.get(target)) is not None
            ),
            default=None,
        )
        if len(trials) > 1 and best is not None and not counts[VerdictKind.MET]:
            found.append(
                f"No design meets {target} at all: trial {-best[1]} comes nearest to it (margin "
                f"{show_margin(best[0])})."
            )
    return found


def _causes(evaluation: Evaluation, failing: set[TargetId]) -> list[str]:
    """Return sentences on where the time of a design goes and, where they fail, energy and price."""
    found = []
    if ledger := shown_ledger(evaluation):
        useful, *losses = ledger
        clause = _largest({loss.name: loss.share for loss in losses}, 1.0)
        found.append(
            f"Of its time {percent(useful.share)} is {useful.name}"
            + (f"; {clause}." if clause else ".")
        )
    if TargetId.ENERGY in failing:
        clause = _largest(evaluation.energy_j, evaluation.query_j)
        found += [f"Of its energy {clause}."] if clause else []
    if TargetId.COST in failing:
        prices = evaluation.price_parts_usd
        clause = _largest(prices, sum(prices.values()))
        found += [f"Of its bill of material {clause}."] if clause else []
    return found


def _largest(parts: Mapping[str, float | None], total: float | None) -> str:
    """Return the largest parts with their shares, for example `"61.0 % goes to x and 9 % to y"`.

    Args:
        parts: Values by name, `None` where unknown.
        total: What they are shares of; `None` when unknown, which leaves nothing to say.
    """
    known = {name: value for name, value in parts.items() if value}
    if not known or not total:
        return ""
    first, *others = sorted(known, key=lambda name: -known[name])[:LOSSES_NAMED]
    clauses = [f"{percent(known[first] / total)} goes to {first}"]
    clauses += [f"{percent(known[name] / total)} to {name}" for name in others]
    return " and ".join(clauses)


def count_verdicts(trials: Sequence[Trial]) -> Mapping[TargetId, Mapping[VerdictKind, int]]:
    """Return how many trials have each verdict, by target."""
    counts = {target: dict.fromkeys(VerdictKind, 0) for target in TargetId}
    for trial in trials:
        for target in TargetId:
            kind = trial.verdicts.get(target)
            if kind is not None:
                counts[target][kind] += 1
    return counts


def without_password(address: str) -> str:
    """Return the path or URL of a run log with any password left out.

    Examples:
        >>> without_password("postgresql://ann:secret@db/runs")
        'postgresql://ann:***@db/runs'
    """
    return re.sub(r"(://[^:/@]*):.*@", r"\1:***@", address)
