import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from pentarch.catalog import Library
from pentarch.cli.graph import SUFFIXES
from pentarch.cli.main import main
from pentarch.graph.export import from_graphml, from_json


def test_the_document_has_nodes_edges_and_totals(pentarch_json: Callable[..., Any]) -> None:
    shown = pentarch_json("graph", "tiny", "--prompt", "32")
    assert (shown["workload"], shown["phase"], shown["tokens"]) == ("tiny", "prefill", 32)
    assert shown["flops"] == sum(node["flops"] * node["repeat"] for node in shown["nodes"])
    names = {node["name"] for node in shown["nodes"]}
    assert all({edge["source"], edge["target"]} <= names for edge in shown["edges"])
    assert shown["out"] is None


def test_decode_sees_the_last_step_unless_a_context_is_given(
    pentarch_json: Callable[..., Any],
) -> None:
    last = pentarch_json("graph", "tiny", "--phase", "decode", "--prompt", "8", "--output", "5")
    assert (last["tokens"], last["context"]) == (1, 12)  # 8 prompt tokens and 4 steps
    given = pentarch_json("graph", "tiny", "--phase", "decode", "--context", "100")
    assert given["context"] == 100
    assert given["kv_bytes"] / given["context"] == last["kv_bytes"] / last["context"]


def test_unfolding_shows_each_layer_and_changes_no_total(pentarch_json: Callable[..., Any]) -> None:
    folded, flat = pentarch_json("graph", "tiny"), pentarch_json("graph", "tiny", "--unfold")
    layered = [node for node in folded["nodes"] if node["layer"]]
    assert len(flat["nodes"]) == len(folded["nodes"]) + len(layered)  # two layers
    assert (flat["flops"], flat["parameters"]) == (folded["flops"], folded["parameters"])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_of_every_format_is_written(
    suffix: str, fake_library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / f"tiny{suffix}"
    assert main(["graph", "tiny", "--out", str(out)]) == 0
    assert str(out) in capsys.readouterr().out
    text = out.read_text(encoding="utf-8")
    if suffix == ".json":
        assert from_json(text).workload == "tiny"
    elif suffix == ".graphml":
        assert from_graphml(text).workload == "tiny"
    elif suffix == ".svg":
        assert ElementTree.fromstring(text).tag.endswith("svg")
    else:
        assert text.startswith('digraph "tiny"')
    assert list(out.parent.iterdir()) == [out]


def test_a_file_that_is_there_is_kept_unless_force_is_given(
    fake_library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "a.svg"
    out.write_text("mine", encoding="utf-8")
    assert main(["graph", "tiny", "--out", str(out)]) == 2
    assert "--force" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert main(["graph", "tiny", "--out", str(out), "--force"]) == 0
    assert out.read_text(encoding="utf-8").startswith("<svg")


@pytest.mark.parametrize("name", ["graph.png", "graph", ".svg"])
def test_an_unknown_suffix_lists_the_known_ones(
    name: str, fake_library: Library, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "made" / name
    assert main(["graph", "tiny", "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert all(suffix in message for suffix in SUFFIXES)
    assert not out.parent.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--prompt", "8", "--context", "7"], "--context: found 7"),
        (["--kv", "fp9"], "fp9"),
        (["--phase", "training"], "training"),
        (["--out", "/dev/null/x.svg"], "cannot be written"),
    ],
)
def test_wrong_options_are_input_errors(
    options: list[str], said: str, fake_library: Library, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["graph", "tiny", *options]) == 2
    assert said in capsys.readouterr().err


def test_the_table_fits_a_terminal_of_80_columns(
    fake_library: Library, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["graph", "tiny"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert any("lm_head" in line for line in lines)


def test_96_unfolded_layers_are_drawn_in_bounded_time(tmp_path: Path) -> None:
    out = tmp_path / "gpt.svg"
    command = [sys.executable, "-m", "pentarch", "graph", "gpt4-dense", "--unfold", "--json"]
    done = subprocess.run(
        [*command, "--out", str(out)], capture_output=True, text=True, check=True, timeout=20
    )
    assert json.loads(done.stdout)["out"] == str(out)
    assert out.read_text(encoding="utf-8").count('class="frame"') == 96


def test_too_many_layers_are_not_unfolded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "llama", "num_hidden_layers": 100000}', encoding="utf-8")
    assert main(["graph", str(config), "--unfold"]) == 2
    assert "--unfold" in capsys.readouterr().err
