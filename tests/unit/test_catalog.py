import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pentarch import Catalog
from pentarch.catalog import Library, disabled_plugins, is_path, read_model
from pentarch.errors import (
    DuplicateNameError,
    FieldError,
    InputError,
    PluginUnavailableError,
    UnknownNameError,
)
from pentarch.hardware.parts import Level
from pentarch.hardware.runtime import Runtime

MakePackage = Callable[[Mapping[str, str]], str]
MakeLibrary = Callable[..., Library]

BIG = """\
kind: device
about: A big one.
backend: fake
aliases: [Big Device 80GB]
size_bytes: 80 GB
price_usd: 25,000 USD
"""


@pytest.fixture
def library_of(
    registry_of: Callable[..., Any], fakes: Any, catalog_package: MakePackage
) -> MakeLibrary:
    """Return a function that makes a library of one plug-in from files by kind and name."""

    def make(**kinds: Mapping[str, str]) -> Library:
        catalogs = [
            Catalog(kind, catalog_package(files))  # type: ignore[arg-type]  # kinds are checked below
            for kind, files in kinds.items()
        ]
        return Library(registry_of(fake=fakes.plugin(catalogs)))

    return make


def test_entries_are_listed_by_stem_with_their_about_lines(library_of: MakeLibrary) -> None:
    library = library_of(
        workload={
            "tiny-3.1.yaml": "kind: workload\nabout: A tiny one.\n",
            "quoted.yaml": 'about: "With: a colon"\n',
            "double.yaml": 'about: "It\'s \\"so\\""  # not shown\n',
            "single.yaml": "about: ' Two  # words '\r\nkind: workload\r\n",
            "folded.yaml": "about: >\n  On two\n  lines\n",
            "commented.yaml": "about: Short # not shown\n",
            "continued.yaml": "about: First half\n  and second\n",
            "README.md": "not an entry",
        }
    )

    assert [(entry.name, entry.about) for entry in library.names("workload")] == [
        ("commented", "Short"),
        ("continued", "First half and second"),
        ("double", 'It\'s "so"'),
        ("folded", "On two lines"),
        ("quoted", "With: a colon"),
        ("single", "Two # words"),
        ("tiny-3.1", "A tiny one."),
    ]
    assert {entry.plugin for entry in library.names("workload")} == {"fake"}


def test_listing_does_not_parse_wrong_files(library_of: MakeLibrary) -> None:
    library = library_of(space={"broken.yaml": "about: Broken\nsearch: [1, 2\n"})

    assert [entry.about for entry in library.names("space")] == ["Broken"]

    with pytest.raises(InputError, match=r"broken\.yaml, line 3, column 1"):
        library.space_text("broken")


@pytest.mark.parametrize("line", ["about: Plain.", 'about: "Quoted: yes."', "about: 'Single.'  "])
def test_a_plain_line_is_read_without_a_parser(
    library_of: MakeLibrary, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    library = library_of(space={"box.yaml": f"kind: space\n{line}\n"})
    monkeypatch.setattr("pentarch.catalog.read_document", None)

    assert [entry.about for entry in library.names("space")] == [
        line.split(":", 1)[1].strip().strip("'\"")
    ]


def test_two_plugins_with_one_entry_are_an_error_that_names_both(
    registry_of: Callable[..., Any], fakes: Any, catalog_package: MakePackage
) -> None:
    def plugin() -> object:
        only = fakes.plugin([Catalog("space", catalog_package({"box.yaml": "about: Box.\n"}))])
        only.register_backends = only.register_partitioners = None
        return only

    library = Library(registry_of(one=plugin(), two=plugin()))
    with pytest.raises(DuplicateNameError, match=r"space 'box' is provided by two.*one and two"):
        library.names("space")


def test_a_catalog_package_that_is_missing_fails_its_plugin(
    registry_of: Callable[..., Any], fakes: Any, caplog: pytest.LogCaptureFixture
) -> None:
    library = Library(registry_of(fake=fakes.plugin([Catalog("space", "no_such_package_at_all")])))

    assert library.names("space") == []
    assert "no_such_package_at_all" in caplog.text
    with pytest.raises(PluginUnavailableError, match="'fake' failed to load: ModuleNotFoundError"):
        library.space_text("box")


def test_a_device_is_the_back_ends_own_model_with_si_units(
    library_of: MakeLibrary, fakes: Any
) -> None:
    library = library_of(device={"big.yaml": BIG})

    device = library.device("big")

    assert type(device) is fakes.device
    assert device.name == "big"
    assert device.size_bytes == 80e9
    assert device.price_usd == 25000
    assert library.backend_of(device).name == "fake"
    assert library.backend_of(device.replace(name="mine")).name == "fake"


@pytest.mark.parametrize("name", ["big", "BIG", "Big Device 80GB", "big device  80gb"])
def test_a_device_is_found_by_name_or_alias_in_any_case(library_of: MakeLibrary, name: str) -> None:
    assert library_of(device={"big.yaml": BIG}).device(name).name == "big"


def test_an_alias_that_two_devices_have_is_an_error(library_of: MakeLibrary) -> None:
    library = library_of(device={"big.yaml": BIG, "huge.yaml": BIG})

    with pytest.raises(DuplicateNameError, match="'Big Device 80GB'"):
        library.device("big device 80gb")


def test_a_wrong_field_of_a_device_names_file_line_and_unit(library_of: MakeLibrary) -> None:
    library = library_of(device={"big.yaml": BIG.replace("80 GB\n", "80 GHz\n")})

    with pytest.raises(FieldError) as raised:
        library.device("big")
    assert "big.yaml, line 5: size_bytes" in str(raised.value)
    assert "'GHz'" in str(raised.value)
    assert "Expected a quantity in B" in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BIG + "lanes: 3\n", "line 7: lanes: is not a known field"),
        (BIG.replace("backend: fake\n", ""), "backend: is missing"),
        (BIG.replace("kind: device", "kind: space"), "line 1: kind: found 'space'"),
        (BIG + "name: small\n", "line 7: name: found 'small'"),
        (BIG + "about: twice\n", "line 7, column 1: the key 'about' occurs twice"),
    ],
)
def test_a_wrong_device_file_is_refused(library_of: MakeLibrary, text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        library_of(device={"big.yaml": text}).device("big")
    assert message in str(raised.value)


def test_an_unknown_back_end_is_named(library_of: MakeLibrary) -> None:
    library = library_of(device={"big.yaml": BIG.replace("fake", "fike")})

    with pytest.raises(UnknownNameError, match="No backend is called 'fike'"):
        library.system("4xbig")


def test_an_unknown_device_suggests_the_nearest(library_of: MakeLibrary) -> None:
    library = library_of(device={"h100_sxm.yaml": BIG})

    with pytest.raises(UnknownNameError, match="Did you mean 'h100_sxm'"):
        library.device("h100-sxm")


def test_many_of_a_device_is_a_system(library_of: MakeLibrary) -> None:
    library = library_of(device={"big.yaml": BIG})

    eight, one = library.system("8xBIG"), library.system("big device 80gb")

    assert (eight.name, eight.device, eight.devices) == ("8xbig", "big", 8)
    assert (one.name, one.device, one.devices) == ("big", "big", 1)
    with pytest.raises(FieldError, match="at least 1"):
        library.system("0xbig")
    with pytest.raises(UnknownNameError, match="No system or device is called 'bag'"):
        library.system("8xbag")


def test_a_device_whose_name_looks_like_many_is_itself(library_of: MakeLibrary) -> None:
    library = library_of(device={"2xlarge.yaml": "kind: device\nabout: Large.\nbackend: fake\n"})

    with pytest.raises(UnknownNameError):
        library.system("xlarge")
    assert library.device("2xlarge").name == "2xlarge"
    assert library.system("2xlarge").devices == 1


def test_a_named_system_states_its_box(library_of: MakeLibrary) -> None:
    box = "kind: system\nabout: Four in a box.\ndevice: big\ndevices: 4\nhost_w: 0.2 kW\n"
    library = library_of(device={"big.yaml": BIG}, system={"box.yaml": box})

    system = library.system("box")

    assert (system.name, system.device, system.devices, system.host_w) == ("box", "big", 4, 200.0)


def test_a_system_file_finds_the_device_file_beside_it(
    library_of: MakeLibrary, tmp_path: Path
) -> None:
    library = library_of()
    (tmp_path / "chip.yaml").write_text(BIG, encoding="utf-8")
    box = tmp_path / "box.yaml"
    box.write_text("kind: system\ndevice: ./chip.yaml\ndevices: 2\n", encoding="utf-8")

    system = library.system(box)
    chip = library.system(tmp_path / "chip.yaml")

    assert (system.name, system.devices) == ("box", 2)
    assert library.device(system.device).price_usd == 25000
    assert (chip.name, chip.devices) == ("chip", 1)
    assert library.device(chip.device).size_bytes == 80e9  # type: ignore[attr-defined]  # of the fake


def test_a_file_of_another_kind_is_no_system(library_of: MakeLibrary, tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("kind: space\n", encoding="utf-8")

    with pytest.raises(FieldError, match="Expected `kind: system` or `kind: device`"):
        library_of().system(path)


def test_the_ideal_runtime_needs_no_plugin(library_of: MakeLibrary) -> None:
    library = library_of(runtime={"slow.yaml": "kind: runtime\nabout: Slow.\nlaunch_s: 5 us\n"})

    ideal = library.runtime("ideal")
    assert ideal == Runtime(name="ideal", about=ideal.about)
    assert library.runtime("slow").launch_s == pytest.approx(5e-6)
    assert [entry.name for entry in library.names("runtime")] == ["ideal", "slow"]


def test_a_workload_is_read_by_its_family(library_of: MakeLibrary) -> None:
    entry = (
        "kind: workload\nabout: Tiny.\nfamily: fake-family\nassumption: none needed\n"
        "config: {layers: 3}\n"
    )
    library = library_of(
        workload={"tiny.yaml": entry, "wrong.yaml": entry.replace("layers: 3", "layers: no")}
    )

    assert (library.workload("tiny").name, library.workload("tiny").depth) == ("tiny", 3)
    with pytest.raises(FieldError, match=r"wrong\.yaml, line 5: config\.layers"):
        library.workload("wrong")


def test_a_config_json_is_found_as_file_and_as_folder(
    library_of: MakeLibrary, tmp_path: Path
) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps({"model_type": "fake", "layers": 5}), encoding="utf-8")

    for path in (config, str(config), folder):
        workload = library_of().workload(path)
        assert (workload.name, workload.depth) == ("my-model", 5)


def test_a_missing_family_mentions_the_plugin_that_failed(
    registry_of: Callable[..., Any], fakes: Any, tmp_path: Path
) -> None:
    registry = registry_of(fake=fakes.plugin(), mamba=ImportError("no mamba"))
    config = tmp_path / "config.json"
    config.write_text('{"model_type": "mamba"}', encoding="utf-8")

    with pytest.raises(PluginUnavailableError, match="'mamba' failed to load: ImportError"):
        Library(registry).workload(config)


def test_a_space_is_given_raw_with_its_file(library_of: MakeLibrary) -> None:
    library = library_of(space={"box.yaml": "kind: space\nabout: Box.\nsearch: {chips: 1e3}\n"})

    values, where = library.space_text("box")

    assert values["search"] == {"chips": 1000.0}
    assert where.endswith("box.yaml")


def test_an_entry_named_in_the_wrong_case_is_no_workload(library_of: MakeLibrary) -> None:
    with pytest.raises(UnknownNameError, match="No workload is called 'x'"):
        library_of().workload("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("llama-3.1-8b", False),
        ("8xh100_sxm", False),
        ("box.yaml", True),
        ("config.json", True),
        ("./box", True),
        ("models/llama", True),
    ],
)
def test_a_path_has_a_separator_or_a_known_suffix(text: str, expected: bool) -> None:
    assert is_path(text) is expected


def test_quantities_of_a_mapping_carry_the_unit_of_its_field() -> None:
    level = read_model(
        Level,
        {
            "name": "L2",
            "scope": "die",
            "size_bytes": "50 MiB",
            "read_bytes_per_s": "5.5 TB/s",
            "latency_s": "200 ns",
        },
        where="test",
    )

    assert level.size_bytes == 50 * 2**20
    assert level.read_bytes_per_s == 5.5e12
    assert level.latency_s == pytest.approx(2e-7)


def test_the_environment_names_plugins_to_leave_out() -> None:
    assert disabled_plugins({}) == frozenset()
    assert disabled_plugins({"PENTARCH_DISABLE": " gpu,,soc ,"}) == {"gpu", "soc"}
