"""What pages show is true: their Python runs, their commands run, their links lead somewhere."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])
HELPERS: dict[str, Any] = runpy.run_path(str(DOCS / "page_blocks.py"))
blocks, write_files = HELPERS["blocks"], HELPERS["write_files"]

NOT_RUN = frozenset({"git", "cd", "make", "pip", "source", "python"})
"""Programs that need a network, a shell or an environment of their own."""
TRIALS = "30"
"""Trials of the searches on pages, here: they show that the command and the space are right."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _with(language: str) -> list[Path]:
    shells = ("bash", "sh")
    wanted = shells if language == "bash" else (language,)
    return [
        path
        for path in PAGES
        if "reference" not in path.parts
        and any(one.language in wanted for one in blocks(path.read_text("utf-8")))
    ]


def _run(arguments: list[str], folder: Path) -> None:
    """Run Python in a folder whose packages and plug-ins it finds."""
    roots = [
        str(Path(root).resolve())
        for root in os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if root
    ]
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), *roots])},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, (
        f"{shlex.join(arguments)}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    )


@pytest.fixture
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with the files of a page; its plug-in is found as an installed one would be."""
    page: Path = request.param
    for path in write_files(page.read_text("utf-8"), tmp_path):
        if path.name == "pyproject.toml":
            _pretend_installed(tomllib.loads(path.read_text("utf-8"))["project"], tmp_path)
    (tmp_path / page.name).write_text(page.read_text("utf-8"), "utf-8")
    data = Path("tests", "validation", "data")
    shutil.copytree(ROOT / data, tmp_path / data)
    return tmp_path


def _pretend_installed(project: dict[str, Any], folder: Path) -> None:
    """Write what an installer would: the entry points of a package are found on `sys.path`."""
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n", "utf-8"
    )
    lines = [
        line
        for group, entries in project["entry-points"].items()
        for line in (f"[{group}]", *(f"{name} = {value}" for name, value in entries.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", "utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("folder", _with("python"), ids=_name, indirect=True)
def test_the_python_of_a_page_runs(folder: Path) -> None:
    (page,) = folder.glob("*.md")
    script: list[str] = []
    for block in blocks(page.read_text("utf-8")):
        if block.language == "python" and block.file is None:
            script += [""] * (block.line - 1 - len(script))  # errors name the line of the page
            text = re.sub(r"trials=\d+", f"trials={TRIALS}", block.text)
            script += text.splitlines()
    (folder / "page.py").write_text("\n".join(script) + "\n", "utf-8")

    _run(["-W", "error", "page.py"], folder)


@pytest.mark.slow
@pytest.mark.parametrize("folder", _with("bash"), ids=_name, indirect=True)
def test_the_commands_of_a_page_run(folder: Path) -> None:
    (page,) = folder.glob("*.md")
    lines = [
        line.split("  #")[0].split("&&")[-1].strip()
        for block in blocks(page.read_text("utf-8"))
        if block.language in ("bash", "sh")
        for line in block.text.splitlines()
        if line.strip() and not line.startswith("#")
    ]

    assert lines
    for line in lines:
        program, *words = shlex.split(line)
        program = program.removeprefix(".venv/bin/")
        if program == "pentarch":
            words = shlex.split(re.sub(r"--trials \d+", f"--trials {TRIALS}", shlex.join(words)))
            _run(["-m", "pentarch", *words], folder)
        elif program == "pytest":
            _run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *words], folder)
        else:
            assert program in NOT_RUN, line


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)

    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), f"{target} of {_name(page)}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", found.read_text("utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", one.lower()).replace(" ", "-") for one in headings}
            assert anchor in slugs, f"{target} of {_name(page)}"


def test_every_page_is_in_the_navigation() -> None:
    index = (DOCS / "index.md").read_text("utf-8")
    listed = set(re.findall(r"^([\w-]+/[\w-]+)$", index, re.MULTILINE))
    there = {str(path.relative_to(DOCS).with_suffix("")) for path in DOCS.glob("*/*.md")}

    assert listed == there
    assert re.findall(r"^:caption: (.*)$", index, re.MULTILINE) == [
        "Tutorials", "How-to", "Reference", "Explanation",
    ]  # fmt: skip


def test_every_page_is_named_on_the_first_page() -> None:
    first = (DOCS / "README.md").read_text("utf-8")

    for path in DOCS.glob("*/*.md"):
        assert f"({path.relative_to(DOCS)})" in first, path


def test_the_json_of_every_command_is_described() -> None:
    page = (DOCS / "reference" / "commands.md").read_text("utf-8")

    assert "docs/make_reference.py` yet" not in page


@pytest.mark.slow
def test_the_reference_is_up_to_date(tmp_path: Path) -> None:
    _run([str(DOCS / "make_reference.py"), "--check"], tmp_path)


@pytest.mark.slow
def test_the_samples_are_up_to_date(tmp_path: Path) -> None:
    _run([str(DOCS / "refresh_samples.py"), "--check"], tmp_path)


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip(
        "sphinx", reason="the extra `docs` is not installed; `make docs` builds the site"
    )
    pytest.importorskip("furo")
    _run(
        ["-m", "sphinx", "-E", "-W", "-n", "-q", "-b", "html", "-d", "trees", str(DOCS), "site"],
        tmp_path,
    )

    for page in (tmp_path / "site").rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//', text), page
        assert not re.findall(r'<link[^>]+href="(?:https?:)?//', text), page
