"""The page of validation says what a run on the excerpts says."""

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
EXCERPTS = ROOT / "tests" / "validation" / "data" / "measured"
PAGE = DOCS / "explanation" / "validation.md"
MARKS = re.compile(r"<!-- excerpts -->.*<!-- end of excerpts -->", re.DOTALL)


def _run(arguments: list[str], folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a page made from the excerpts alone."""
    folder = tmp_path_factory.mktemp("page")
    _run([str(DOCS / "make_validation.py"), str(EXCERPTS), "--out", str(folder)], folder)
    return folder


def _samples(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.syspath_prepend(str(DOCS))  # where its own import lies
    return runpy.run_path(str(DOCS / "refresh_samples.py"))


def _cells(page: str) -> set[tuple[str, ...]]:
    return {
        tuple(cell.strip() for cell in line.strip("|").split("|"))
        for line in page.splitlines()
        if line.startswith("| ")
    }


@pytest.mark.slow
def test_the_tables_hold_what_the_command_prints(made: Path) -> None:
    printed = _run(["-m", "pentarch", "validate", str(EXCERPTS), "--json"], made)
    cells = _cells((made / "validation.md").read_text("utf-8"))
    seen = 0

    for group in json.loads(printed)["groups"]:
        if group["file"] != "vidur_ops.csv" or group["framework"] or group["kernel"]:
            continue
        errors = (f"{100 * group['mape']:.1f} %", f"{100 * group['median_ape']:.1f} %")
        wanted = (
            group["file"], group["device"], group["operator"], group["precision"], group["subset"],
            str(group["n"]), *errors, f"{group['bias']:.2f}",
        )  # fmt: skip
        assert any(row[: len(wanted)] == wanted for row in cells), wanted
        seen += 1

    assert seen >= 4


@pytest.mark.slow
def test_the_excerpts_on_the_page_are_up_to_date(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = _samples(monkeypatch)["same"]
    found = MARKS.search(PAGE.read_text("utf-8"))
    fresh = MARKS.search((made / "validation.md").read_text("utf-8"))

    assert found is not None
    assert fresh is not None
    assert same(found[0], fresh[0]), "Run `python docs/make_validation.py --excerpts`."


def test_every_plot_of_the_page_is_there_and_small() -> None:
    page = PAGE.read_text("utf-8")
    shown = set(re.findall(r"\]\(validation/([\w.-]+\.svg)\)", page))
    files = {path.name: path.stat().st_size for path in (PAGE.parent / "validation").glob("*.svg")}

    assert shown == set(files)
    assert len(shown) >= 10
    assert sum(files.values()) < 1_000_000
