import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pentarch.errors import FieldError, InputError, UnknownNameError
from pentarch.workload.importing import MAX_CONFIG_BYTES, import_config, import_entry
from pentarch.workload.workload import Workload


class EchoFamily:
    """Reads the number of layers and nothing else."""

    name = "echo"
    model_types = frozenset({"echo", "echo2"})

    def __init__(self, make_llama: Any) -> None:
        self.make_llama = make_llama

    def import_workload(self, config: Mapping[str, Any], *, name: str, where: str) -> Workload:
        if "layers" not in config:
            raise FieldError(where=where, path="layers", problem="is missing", expected="a count")
        workload: Workload = self.make_llama(name, counts=(config["layers"],))
        return workload


@pytest.fixture
def families(make_llama: Any) -> dict[str, EchoFamily]:
    return {"echo": EchoFamily(make_llama)}


ENTRY = {
    "kind": "workload",
    "about": "A test.",
    "family": "echo",
    "source": "paper",
    "config": {"layers": 3},
}


def test_entry_becomes_a_workload_with_its_provenance(families: Any) -> None:
    workload = import_entry(ENTRY, name="echo-3", where="echo-3.yaml", families=families)
    assert (workload.name, workload.about, workload.source) == ("echo-3", "A test.", "paper")
    assert workload.depth == 3


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"config": {}}, r"e\.yaml: config\.layers: is missing"),
        ({"config": 3}, r"e\.yaml: config: found 3"),
        ({"source": None}, "exactly one of `source` and `assumption`"),
        ({"assumption": "why"}, "exactly one of `source` and `assumption`"),
        ({"kind": "device"}, r"e\.yaml: kind: found 'device'"),
        ({"abuot": "x"}, "abuot: is not a known field"),
    ],
)
def test_wrong_entry_is_refused_with_its_path(
    families: Any, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(FieldError, match=said):
        import_entry({**ENTRY, **changes}, name="e", where="e.yaml", families=families)


def test_unknown_family_names_the_known_ones(families: Any) -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'echo'") as caught:
        import_entry({**ENTRY, "family": "ecco"}, name="e", where="e.yaml", families=families)
    assert "register_workload_families" in str(caught.value)


def test_config_is_named_for_its_folder_or_file(families: Any, tmp_path: Path) -> None:
    folder = tmp_path / "Echo-7B"
    folder.mkdir()
    for path in (folder / "config.json", tmp_path / "Echo-9B.json"):
        path.write_text(json.dumps({"model_type": "echo2", "layers": 4}))
    workload = import_config(folder / "config.json", families)
    assert (workload.name, workload.depth) == ("Echo-7B", 4)
    assert workload.source == str(folder / "config.json")
    assert import_config(tmp_path / "Echo-9B.json", families).name == "Echo-9B"


@pytest.mark.parametrize(
    ("content", "error", "said"),
    [
        (b'{\n"model_type": "echo",\n"layers": }', InputError, "line 3, column 11"),
        (b"[1, 2]", InputError, "holds a list"),
        (b"null", InputError, "holds null"),
        (b"1e3", InputError, "holds a number"),
        (b"\xff\xfe{}", InputError, "byte 0 is not UTF-8"),
        (b"[" * 100_000, InputError, "nested too deeply"),
        (b"{}", FieldError, "model_type: is missing"),
        (b'{"model_type": 3}', FieldError, "model_type: found 3. Expected .* echo, echo2"),
        (b'{"model_type": "eco"}', UnknownNameError, "Did you mean 'echo'"),
        (b'{"model_type": "echo"}', FieldError, "layers: is missing"),
        (b" " * (MAX_CONFIG_BYTES + 1), InputError, "more than 4194304 bytes"),
    ],
)
def test_wrong_config_is_refused_with_the_place(
    families: Any, tmp_path: Path, content: bytes, error: type[Exception], said: str
) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(error, match=said) as caught:
        import_config(path, families)
    assert str(path) in str(caught.value)


def test_missing_config_says_so(families: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        import_config(tmp_path / "config.json", families)
