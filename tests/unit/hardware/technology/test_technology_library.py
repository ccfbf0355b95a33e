"""The figure library: look-up, units, grades, the record of use."""

from pathlib import Path

import pytest
import yaml

from pentarch.errors import FieldError, InputError, MissingFigureError, UnknownNameError
from pentarch.hardware.technology import (
    Figure,
    FigureLog,
    Grade,
    Source,
    dies_per_wafer,
    dram_j_per_byte,
    mac_j,
    read_technology,
    technology,
)
from pentarch.hardware.technology.energy import DynamicOverhead, MacFormats
from pentarch.hardware.technology.library import NODES
from pentarch.hardware.technology.quantities import base_unit


def test_figure_keeps_unit_source_grade_range_and_note() -> None:
    figure = technology().figure("memory.hbm3.device_io")
    assert figure.value == 3.7
    assert figure.unit == "pJ/bit"
    assert figure.range == (3.0, 5.0)
    assert figure.grade is Grade.EST
    assert figure.grade.words == "analyst or press estimate"
    assert figure.note == "hwcomponents 4.05"
    assert technology().sources[figure.source].cite == technology().citation(figure.path)
    assert "hwcomponents-cacti" in technology().citation(figure.path)


def test_price_keeps_its_year() -> None:
    assert technology().figure("memory.hbm3e.cost").year == 2025


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("memory.hbm3.device_io", 3.7e-12 * 8),  # pJ/bit -> J/byte
        ("operations.horowitz_45nm_0v9.fp_mult_16.area", 1640e-6),  # um2 -> mm2
        ("operations.other_published.nvidia_5nm_testchip_int4_0v46", 20.9e-15),
        ("sram.leakage_7nm", 1e-3 / 131072),  # a Mibit is 128 KiB
        ("memory.hbm3e.cost", 15 / 1e9),
        ("nodes.n5.d0", 0.11 / 100),  # per cm2 -> per mm2
        ("tco.electricity", 0.08 / 3.6e6),
        ("tco.life_it", 5 * 365.25 * 24 * 3600),
        ("sram.area_per_mib.recommended_scratchpad_n7", 0.65 / 1048576),
        ("devices.h100_sxm.bf16", 989.4e12),
        ("memory.hbm3.rate", 0.8e9),  # 6.4 Gbit/s is 0.8 GB/s on a pin
        ("tco.per_query.energy_search", 0.3 * 3600),
    ],
)
def test_si_converts_to_base_units(path: str, expected: float) -> None:
    assert technology().si(path) == pytest.approx(expected, rel=1e-12)


def test_range_converts_with_the_value() -> None:
    assert technology().figure("memory.hbm3.device_io").base_range == pytest.approx(
        (24e-12, 40e-12)
    )
    assert technology().figure("memory.hbm4.cost").base_range is None


def test_query_volume_of_2022_is_the_hundred_thousand_per_second_of_the_article() -> None:
    assert technology().si("tco.per_query.google_queries_2022") == pytest.approx(104.6e3, rel=1e-3)


def test_every_figure_has_a_known_unit_and_source_and_numbers_are_numbers() -> None:
    library = technology()
    assert len(library.figures) > 600
    for figure in library.figures.values():
        assert figure.source in library.sources
        if figure.unit == "formula":
            assert isinstance(figure.value, str)
        else:
            assert base_unit(figure.unit).factor > 0
            assert isinstance(figure.value, float | tuple)
            if figure.range is not None and isinstance(figure.value, float):
                assert figure.range[0] <= figure.value <= figure.range[1], figure.path


def test_every_node_of_the_list_is_in_the_library_and_no_other() -> None:
    assert set(technology().members("nodes")) == set(NODES)


def test_unknown_path_names_close_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"memory\.hbm3\.device_io"):
        technology().figure("memory.hbm3.device_oi")


def test_formula_has_no_base_value() -> None:
    with pytest.raises(FieldError, match="no single number"):
        technology().si("manufacturing.formulas.poisson")


def test_unknown_unit_is_an_error() -> None:
    with pytest.raises(InputError, match="furlong"):
        base_unit("furlong")


def test_log_lists_figures_once_under_their_grades() -> None:
    used = FigureLog()
    formats = MacFormats(a="int8", b="int8", accumulator="int32")
    for _ in range(2):
        mac_j(formats, "n5", overhead=DynamicOverhead.SYSTOLIC, used=used)
    dram_j_per_byte("hbm3e", used=used)
    assert used.paths_by_grade() == {
        Grade.PUB: ("nodes.n5.energy_vs_n7", "memory.hbm3e.device_io"),
        Grade.DER: (
            "operations.mac_energy_model.overhead_without_static.systolic",
            "operations.mac_energy_model.n7.int8_acc32",
        ),
        Grade.EST: ("memory.controller_phy_energy",),
    }


def test_replaced_figure_changes_results_of_that_library_only() -> None:
    wafer = technology().figure("manufacturing.formulas.wafer_diameter")
    small = technology().with_figures(wafer.replace(value=200))
    assert dies_per_wafer(100.0, used=FigureLog(small)) < dies_per_wafer(100.0)
    assert technology().si(wafer.path) == 300


def test_added_figure_fills_a_gap() -> None:
    with pytest.raises(MissingFigureError, match=r"nodes\.n2\.d0 of node n2"):
        FigureLog().si("nodes.n2.d0", owner="node n2")
    added = Figure(path="nodes.n2.d0", value=0.15, unit="1/cm2", source="own", grade=Grade.ASM)
    log = FigureLog(technology().with_figures(added))
    assert log.si("nodes.n2.d0", owner="node n2") == pytest.approx(0.0015)


def test_added_figure_needs_a_known_source_or_brings_one() -> None:
    added = Figure(path="nodes.n2.d0", value=0.15, unit="1/cm2", source="fab", grade=Grade.EST)
    with pytest.raises(UnknownNameError, match="fab"):
        technology().with_figures(added)
    source = Source(key="fab", cite="A fab's report", seen="full")
    joined = technology().with_figures(added, sources={"fab": source})
    assert joined.citation("nodes.n2.d0") == "A fab's report"


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        ({"wire": {"x": 3}}, "a figure"),
        ({"wire": {"x": {"value": 3, "unit": "mm", "source": "own"}}}, "grade"),
        ({"wire": {"x": {"value": 3, "unit": "mm", "source": "own", "q": "good"}}}, "grade"),
        ({"wire": {"x": {"value": 3, "unit": "ell", "source": "own", "q": "asm"}}}, "ell"),
        ({"wire": {"x": {"value": 3, "unit": "mm", "source": "nobody", "q": "asm"}}}, "nobody"),
        ({"wire": {"x": {"value": "3 V", "unit": "V", "source": "own", "q": "asm"}}}, "3 V"),
        ({"wire": {"x": {"value": 3, "unit": "formula", "source": "own", "q": "asm"}}}, "formula"),
    ],
)
def test_damaged_file_is_named(tmp_path: Path, document: dict[str, object], complaint: str) -> None:
    file = tmp_path / "tech.yaml"
    sources = {"own": {"cite": "here", "seen": "full"}}
    file.write_text(yaml.safe_dump({"sources": sources, **document}))
    with pytest.raises(InputError, match=complaint):
        read_technology(file)


def test_figure_stated_in_two_files_is_an_error(tmp_path: Path) -> None:
    leaf = {"value": 3, "unit": "mm", "source": "own", "q": "asm"}
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(
            yaml.safe_dump(
                {"sources": {"own": {"cite": "here", "seen": "full"}}, "wire": {"x": leaf}}
            )
        )
    with pytest.raises(FieldError, match="twice"):
        read_technology(tmp_path / "a.yaml", tmp_path / "b.yaml")


def test_sources_are_citations_and_remarks_assumptions() -> None:
    used = FigureLog()
    used.si("nodes.n5.d0", owner="test")
    used.note("leakage of n5: densities of N7 per mm2 and per bit are used")
    citation, grade = used.sources()["nodes.n5.d0"]
    assert (citation[:9], grade) == ("Y. Feng, ", "est")
    assert used.sources()["leakage of n5"] == (
        "densities of N7 per mm2 and per bit are used",
        "asm",
    )
