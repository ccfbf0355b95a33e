from pathlib import Path

import pytest

from pentarch.documents import MAX_BYTES, parse_document, read_document
from pentarch.errors import FieldError, InputError

TEXT = """\
kind: space
about: Box.
search:
  memory: {choice: [a, b]}
  chips:
    int: [1,
          16]
objectives:
  - query_j
  - system_usd
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("kind", 1),
        ("search", 3),
        ("search.memory.choice[1]", 4),
        ("search.chips.int[1]", 7),
        ("objectives[1]", 10),
        ("search.lanes", 3),
        ("objectives[7]", 8),
        ("nothing", None),
    ],
)
def test_a_path_has_the_line_of_its_innermost_part_in_the_file(path: str, line: int | None) -> None:
    assert parse_document(TEXT, where="box.yaml").line_of(path) == line


def test_an_error_about_the_file_gets_its_line() -> None:
    document = parse_document(TEXT, where="box.yaml")

    expected = r"^box\.yaml, line 5: search\.chips: p\. Expected e\.$"
    with pytest.raises(FieldError, match=expected), document.located():
        raise FieldError(where="box.yaml", path="search.chips", problem="p", expected="e")
    with pytest.raises(FieldError, match=r"^other\.yaml: search\.chips"), document.located():
        raise FieldError(where="other.yaml", path="search.chips", problem="p", expected="e")


@pytest.mark.parametrize("text", ["1e15", "1E15", "1.5e15", "1e+15", "-2e-3", ".5e3", "1_000e3"])
def test_scientific_notation_is_a_number(text: str) -> None:
    value = parse_document(f"value: {text}", where="t").values["value"]

    assert value == float(text)


@pytest.mark.parametrize("text", ["e15", "1e", "1e15x", "fe8", "0x1e3"])
def test_what_only_looks_like_a_number_is_not_a_float(text: str) -> None:
    assert not isinstance(parse_document(f"value: {text}", where="t").values["value"], float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: {c: 1, c: 2}\n", "line 2, column 11: the key 'c' occurs twice"),
        ("a: [1\nb: 2\n", "box.yaml, line 2"),
        ("- 1\n", "holds a list"),
        ("", "holds a NoneType"),
        ("a: !!python/object/apply:os.getcwd []\n", "line 1"),
        ("a: \x07\n", "box.yaml"),
    ],
)
def test_wrong_yaml_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        parse_document(text, where="box.yaml")
    assert message in str(raised.value)


def test_merge_keys_may_repeat() -> None:
    text = "base: &base {a: 1}\nmore: &more {b: 2}\nboth: {<<: *base, <<: *more}\n"

    assert parse_document(text, where="t").values["both"] == {"a": 1, "b": 2}


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    large = tmp_path / "large.yaml"
    large.write_bytes(b"#" * (MAX_BYTES + 1))

    for path, message in (
        (tmp_path / "missing.yaml", "cannot be read: No such file"),
        (tmp_path, "cannot be read"),
        (binary, "byte 0 is not UTF-8"),
        (large, "has more than"),
    ):
        with pytest.raises(InputError, match=message):
            read_document(path, where=str(path))
