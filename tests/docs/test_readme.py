import re
import tomllib
from pathlib import Path

import pytest

from pentarch.cli.main import VERBS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (block,) = _blocks("python")

    exec(compile(block, "README.md", "exec"), {})

    shown = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in shown[1:6]] == [
        "processing", "latency", "energy", "cost", "programmability",
    ]  # fmt: skip
    assert shown[-1] == "20"


def test_every_command_that_is_shown_exists() -> None:
    verbs = {verb.name for verb in VERBS}
    shown = set(re.findall(r"(?:`|/)pentarch ([a-z]+)", README))

    assert verbs <= shown
    assert shown <= verbs


def test_every_link_inside_the_project_leads_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)

    assert targets
    for target in targets:
        assert (ROOT / target).exists(), target


def test_every_dependency_is_explained() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "docs" / "explanation" / "dependencies.md").read_text(encoding="utf-8")
    asked = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        asked += extra

    for requirement in asked:
        name = re.split(r"[<>=~! \[]", requirement)[0]
        assert f"`{name}`" in page, name


def test_constraints_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    for line in lines:
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+", line) or line.startswith("#"), (
            line
        )
