"""Whatever a user hands in: the project's own error within a second, never a traceback.

Files of every kind are damaged field by field and byte by byte, and options take what no option
should. A command may succeed when the damage happens to be harmless; otherwise it ends with exit
code 2, and a message that names the file.
"""

import json
import re
import time
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pentarch.cli.main import main

SECONDS = 1.0
"""Processor time that an answer may take; wall time would count what else the machine does."""
CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100,
}  # fmt: skip
SYSTEM = "kind: system\nabout: Eight.\ndevice: h100_sxm\ndevices: 8\ndevices_per_board: 8\n"
RUNTIME = "kind: runtime\nabout: A stack.\nlaunch_s: 1 us\nmemory_reserve: 0.1\nstep_s: 1 ms\n"
TARGETS = "query_s: 2 s\nsystem_usd: 5000\nquery_mfu: 0.5\n"
WORKLOAD = (
    "kind: workload\nabout: A model.\nfamily: gpt\nassumption: made up\nconfig:\n  layers: 2\n"
    "  hidden: 64\n  heads: 4\n  ffn: 128\n  vocab: 100\n  positions: 2048\n"
)
COMMANDS = {
    "config": ("evaluate", "FILE", "h100_sxm"),
    "workload": ("evaluate", "FILE", "h100_sxm"),
    "device": ("evaluate", "llama-3-8b", "FILE"),
    "soc": ("evaluate", "llama-3-8b", "FILE"),
    "system": ("evaluate", "llama-3-8b", "FILE"),
    "runtime": ("evaluate", "llama-3-8b", "h100_sxm", "--runtime", "FILE"),
    "targets": ("evaluate", "llama-3-8b", "h100_sxm", "--targets", "FILE"),
    "space": ("search", "FILE", "--trials", "2", "--no-report", "--log", "LOG"),
}
"""A command that reads each kind of file."""

VALUES = [
    "x", "''", "-1", "0", "1.5", ".nan", ".inf", "-.inf", "1e400", "1e300", "1e-300", "null",
    "true", "[]", "{}", "[1, 2]", "{a: {b: 1}}", "3 parsecs", "-5 GB", "99999999999999999999",
    "2020-01-01", "2020-99-99", '"\\0"', '"\\ud800"', "*nowhere", "!!python/object:os.system x",
    "9" * 5000, "x" * 5000, "{int: [4, 1]}", "{choice: []}", "{float: [0, .inf]}",
]  # fmt: skip
BYTES = {
    "empty": b"",
    "binary": bytes(range(256)) * 10,
    "utf-16": "kind: device".encode("utf-16"),
    "latin-1": b"kind: device\nabout: caf\xe9\n",
    "20 MB": b"about: " + b"x" * 20_000_000,
    "many keys": b"".join(b"key%d: 1\n" % index for index in range(9_000)),
    "deep list": b"[" * 50_000,
    "deep map": b'{"a": ' * 50_000,
    "deep and whole": b'{"a": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
    "key twice": b'{"kind": "device",\n"kind": "device"}',
    "aliases": b"a: &a [x,x,x,x,x,x,x,x,x]\n"
    + b"".join(
        b"%c: &%c [%s]\n" % (97 + n, 97 + n, b",".join([b"*%c" % (96 + n)] * 9))
        for n in range(1, 9)
    ),
    "recursive": b"kind: device\na: &a [*a]\n",
    "two documents": b"a: 1\n---\nb: 2\n",
    "a list": b"[1, 2]",
    "a number": b"7",
    "null": b"null",
    "strange keys": b"? [a]\n: 2\n",
    "python": b"!!python/object/apply:os.system [id]\n",
    "tab": b"kind:\tdevice\n\tx: 1\n",
    "no JSON": b'{"model_type": "llama", }',
    "NaN": b'{"model_type": "llama", "hidden_size": NaN}',
    "digits": b'{"model_type": "llama", "hidden_size": ' + b"9" * 5_000 + b"}",
}


def template(kind: str) -> str:
    """Return a good file of a kind."""
    packaged = {
        "device": ("pentarch_gpu.devices", "h100_sxm.yaml"),
        "soc": ("pentarch_soc.devices", "edge_soc.yaml"),
        "space": ("pentarch_spaces", "edge-soc.yaml"),
    }
    if kind in packaged:
        package, name = packaged[kind]
        return (resources.files(package) / name).read_text(encoding="utf-8")
    own = {"system": SYSTEM, "runtime": RUNTIME, "targets": TARGETS, "workload": WORKLOAD}
    return own[kind] if kind in own else json.dumps(CONFIG)


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Load what every command loads once, so that only the work itself is timed."""
    for kind in COMMANDS:
        folder = tmp_path_factory.mktemp("warm")
        assert main(command(kind, template(kind).encode(), folder)) == 0


def command(kind: str, content: bytes, folder: Path) -> list[str]:
    """Write a file and return the command that reads it."""
    name = "config.json" if kind == "config" else "given.yaml"
    file = folder / name
    file.write_bytes(content)
    log = folder / f"{time.monotonic_ns()}.sqlite"
    return [{"FILE": str(file), "LOG": str(log)}.get(word, word) for word in COMMANDS[kind]]


def check(arguments: list[str], capsys: pytest.CaptureFixture[str], *, names: str = "") -> int:
    """Run a command; whatever happened, it was said in time and in the project's own words."""
    start = time.process_time()
    code = main(arguments)
    seconds = time.process_time() - start
    captured = capsys.readouterr()
    assert code in (0, 2)
    assert seconds < SECONDS
    if code == 2:
        assert captured.out == ""
        assert "Traceback" not in captured.err
        assert re.search(r"^(pentarch: |Usage: )", captured.err, re.MULTILINE)
        assert names in captured.err
    return code


@pytest.mark.parametrize("kind", sorted(COMMANDS))
@pytest.mark.parametrize("damage", sorted(BYTES))
def test_bytes_that_are_no_such_file_are_refused(
    kind: str, damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(kind, BYTES[damage], tmp_path)
    name = "config.json" if kind == "config" else "given.yaml"
    # thresholds are all optional, so that an empty mapping of them would be fine
    assert check(arguments, capsys, names=name) == 2


def _fields(text: str) -> list[str]:
    return re.findall(r"(?m)^ {0,2}([\w.]+): ", text)


@pytest.mark.parametrize("kind", [kind for kind in sorted(COMMANDS) if kind != "config"])
@settings(
    max_examples=25, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_a_wrong_value_anywhere_in_a_yaml_file_is_an_answer_or_an_error(
    kind: str, data: st.DataObject, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = template(kind)
    field = data.draw(st.sampled_from(_fields(text)))
    value = data.draw(st.sampled_from(VALUES))
    damaged = re.sub(
        rf"(?m)^( {{0,2}}{re.escape(field)}): .*$", lambda match: f"{match[1]}: {value}", text,
        count=1,
    )  # fmt: skip
    check(command(kind, damaged.encode(), tmp_path), capsys)


JSON_VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(max_size=3), st.integers()),
    st.sampled_from([0, -1, 10**9, 10**10, 10**30, 2**63, 1e308]),
)  # fmt: skip


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(field=st.sampled_from(sorted(CONFIG)), value=JSON_VALUES)
def test_a_wrong_value_in_a_config_names_its_field(
    field: str, value: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.dumps(CONFIG | {field: value}).encode()
    arguments = command("config", content, tmp_path)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10**9
    code = check(arguments, capsys, names=field if not is_count else "")
    # null leaves some fields to their default; of all else only a count can be right
    assert code == 2 or is_count or value is None


@settings(
    max_examples=40, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(content=st.binary(max_size=200), kind=st.sampled_from(sorted(COMMANDS)))
def test_random_bytes_are_refused(
    content: bytes, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(command(kind, content, tmp_path), capsys) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("devices: 8\n", "devices: -8\n"), "line 4: devices: found -8"),
        (lambda text: text.replace("h100_sxm", "h100_sxn"), "Did you mean 'h100_sxm'"),
        (lambda text: text + "colour: red\n", "line 6: colour: is not a known field"),
        (lambda text: text.replace("device: h100_sxm\n", ""), "device: is missing"),
        (lambda text: text + "devices: 9\n", "line 6, column 1: the key 'devices' occurs twice"),
    ],
)
def test_a_message_names_the_line_the_field_and_what_is_right(
    change: Callable[[str], str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("system", change(SYSTEM).encode(), tmp_path)) == 2
    assert said in capsys.readouterr().err


EVALUATE = ("evaluate", "llama-3-8b", "h100_sxm")


@pytest.mark.parametrize("option", ["--prompt", "--output", "--concurrency", "--degree"])
@pytest.mark.parametrize("value", ["0", "-1", "1e9", "abc", "1.5", "", "1" * 30])
def test_counts_must_be_whole_and_positive(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check([*EVALUATE, option, value], capsys, names=option) == 2


@pytest.mark.parametrize("option", ["--prompt", "--output", "--concurrency"])
def test_the_largest_counts_are_an_answer(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check([*EVALUATE, option, "1000000000"], capsys) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*EVALUATE, "--weights", "fp9"), "Did you mean"),
        ((*EVALUATE, "--runtime", "vlm-graphs"), "Did you mean 'vllm-graphs'"),
        ((*EVALUATE, "--partitioner", "tenser"), "Did you mean 'tensor'"),
        ((*EVALUATE, "--targets", "nowhere.yaml"), "nowhere.yaml cannot be read"),
        (("evaluate", "lama-3-8b", "h100_sxm"), "Did you mean 'llama-3-8b'"),
        (("evaluate", "llama-3-8b", "h100_smx"), "Did you mean 'h100_sxm'"),
        (("evaluate", "llama-3-8b", "0xh100_sxm"), "at least 1"),
        (("evaluate", "llama-3-8b", "8x"), "8xNAME"),
        (("evaluate", "llama-3-8b", "-8xh100_sxm"), "Usage"),
        (("evaluate", "llama-3-8b", "9" * 5000 + "xh100_sxm"), "8xNAME"),
        (("evaluate", "llama-3-8b", "\0.yaml"), "cannot be read"),
        (("evaluate", "x" * 300 + "/config.json", "h100_sxm"), "cannot be read"),
        (("search", "edge-sock"), "Did you mean 'edge-soc'"),
        (("search", "edge-soc", "--trials", "0"), "--trials"),
        (("search", "edge-soc", "--seed", "-1"), "--seed"),
        (("search", "edge-soc", "--strategy", "nsga3"), "Did you mean 'nsga2'"),
        (("search", "edge-soc", "--log", "/dev/null/x.sqlite"), "cannot be made"),
        (("search", "edge-soc", "--log", "oracel://x/y"), "Cannot open the run log"),
    ],
)
def test_wrong_names_and_options_say_what_is_right(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check(list(arguments), capsys, names=said) == 2


def test_a_hundred_million_devices_are_an_answer_or_an_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert check(["evaluate", "llama-3-8b", "99999999xh100_sxm"], capsys) in (0, 2)
