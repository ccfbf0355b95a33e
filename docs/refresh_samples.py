"""Writes the sample outputs on pages anew, by running the commands that stand beside them.

    python docs/refresh_samples.py            rewrite every sample
    python docs/refresh_samples.py --check    change nothing; exit 1 if a sample is out of date

A sample is a `text` block under a comment that names its command:

    <!-- sample command="pentarch list spaces" from="^edge" to="^$" lines="12" -->

`from` is a regular expression for the first line shown, `to` for the first one after it that is not;
`lines` is how many are shown at most, and what it cuts off shows as `...`. Commands
run in a folder that holds the files of the page.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from page_blocks import write_files

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 100
"""Columns of the outputs."""
TOLERANCE = 0.01
"""Relative difference of two numbers that a check still takes as equal."""

_SAMPLE = re.compile(r"^<!-- sample (?P<options>.*?) -->\n```text\n(?P<text>.*?)^```$", re.M | re.S)
_NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)")


def main(arguments: Sequence[str]) -> int:
    """Refresh or check the samples; return the exit code."""
    parser = argparse.ArgumentParser(description="Refresh the sample outputs on pages.")
    parser.add_argument("--check", action="store_true", help="change nothing, report differences")
    check = parser.parse_args(arguments).check
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        before = path.read_text("utf-8")
        after = refreshed(before)
        if check and not same(before, after):
            stale.append(str(path.relative_to(ROOT)))
        elif not check and before != after:
            path.write_text(after, "utf-8")
    if stale:
        sys.stderr.write(
            f"Samples are out of date: {', '.join(stale)}. Run `python docs/refresh_samples.py`, and read "
            "the text around them again.\n"
        )
    return 1 if stale else 0


def refreshed(page: str) -> str:
    """Return a page with every sample as its command prints it now."""
    if _SAMPLE.search(page) is None:
        return page
    printed: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        write_files(page, Path(folder))

        def fresh(found: re.Match[str]) -> str:
            options = dict(word.split("=", 1) for word in shlex.split(found["options"]))
            command = options["command"]
            if command not in printed:
                printed[command] = _run(command, Path(folder))
            excerpt = _excerpt(printed[command], options)
            return f"<!-- sample {found['options']} -->\n```text\n{excerpt}```"

        return _SAMPLE.sub(fresh, page)


def _run(command: str, folder: Path) -> list[str]:
    """Return the lines that a command prints on stdout."""
    program, *words = shlex.split(command)
    if program != "pentarch":
        raise ValueError(f"A sample runs `pentarch`, not {program!r}: {command}")
    roots = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    environment = {
        **os.environ, "COLUMNS": str(WIDTH), "NO_COLOR": "1",
        "PYTHONPATH": os.pathsep.join(str(Path(root).resolve()) for root in roots if root),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "pentarch", *words], cwd=folder, env=environment,
        capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr}")
    return [line.rstrip() for line in done.stdout.splitlines()]


def _excerpt(lines: list[str], options: dict[str, str]) -> str:
    """Return the part of an output that a sample shows."""
    shown = (
        lines[_first(lines, options["from"], options["command"]) :] if "from" in options else lines
    )
    if "to" in options:
        shown = [shown[0], *shown[1:][: _first(shown[1:], options["to"], options["command"])]]
    count = int(options.get("lines", len(shown)))
    if len(shown) > count:
        shown = [*shown[:count], "..."]
    return "\n".join(shown).strip("\n") + "\n"


def _first(lines: list[str], pattern: str, command: str) -> int:
    """Return the index of the first line that fits a pattern."""
    for index, line in enumerate(lines):
        if re.search(pattern, line):
            return index
    raise ValueError(f"No line of `{command}` fits {pattern!r}.")


def same(before: str, after: str) -> bool:
    """Return whether two pages are equal but for small differences of numbers."""
    parts, others = _NUMBER.split(before), _NUMBER.split(after)
    if len(parts) != len(others) or parts[::2] != others[::2]:
        return False
    pairs = zip(map(_value, parts[1::2]), map(_value, others[1::2]), strict=True)
    return all(abs(a - b) <= TOLERANCE * max(abs(a), abs(b)) for a, b in pairs)


def _value(number: str) -> float:
    return float(number.replace(",", ""))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
