"""`pentarch bench`: how fast pentarch is here."""

from typing import Any

from pentarch.cli.output import JsonFlag, library, plain, print_json


def bench(as_json: JsonFlag = False) -> None:
    """Measure how fast pentarch is on this machine."""
    from pentarch.evaluate.bench import run_bench

    figures: dict[str, Any] = plain(run_bench(library()))
    if as_json:
        print_json(figures)
        return
    descriptions = figures.get("descriptions", {})
    for name, value in figures.items():
        if name != "descriptions":
            shown = f"{value:.4g}" if isinstance(value, float) else str(value)
            print(f"{name:<28} {shown:<14} {descriptions.get(name, '')}".rstrip())
