"""A report in a real browser: quiet, alone with its file, and usable by mouse and keyboard.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`) and the extra
`browser`. Without them the tests are skipped; where CI=true they fail instead.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.unit.report.studies import evaluation, study, trial

from pentarch.contracts.figures import show_figure
from pentarch.report.writing import write_report
from pentarch.results import StudyResult
from pentarch_report.plugin import register_report_sections

pytestmark = pytest.mark.slow

TRIALS = 2000
LARGEST_BYTES = 8e6
WAIT_SECONDS = 20
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--window-size=1280,900", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


def _missing() -> str | None:
    """Return why there is no browser to test in, or `None`."""
    try:
        import selenium  # noqa: F401  # asked for, not used here
    except ImportError:
        return "selenium is not installed: pip install 'pentarch[browser]'"
    if any(map(shutil.which, BROWSERS)) and shutil.which("chromedriver"):
        return None
    reason = "no browser: install the Debian packages chromium and chromium-driver"
    problem = os.environ.get("BROWSER_PROBLEM")
    return f"{reason} ({problem})" if problem else reason


@dataclass(frozen=True)
class Shown:
    """A report, opened."""

    driver: Any
    result: StudyResult
    path: Path

    def script(self, text: str) -> Any:
        return self.driver.execute_script(text)

    def points(self) -> list[str]:
        """Return where the first points are drawn."""
        found: list[str] = self.script(
            "return [...document.querySelectorAll('.points .scatterlayer .point')].slice(0, 200)"
            ".map((point) => point.getAttribute('transform'))"
        )
        return found

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def plots_fit(self) -> bool:
        """Return whether every plot has followed the width of its place."""
        fits: bool = self.script(
            "return [...document.querySelectorAll('.plot')].every((place) =>"
            " Math.abs(place.querySelector('.main-svg').clientWidth - place.clientWidth) < 2)"
        )
        return fits

    def panel(self) -> str:
        text: str = self.one(".panel").text
        return text

    def until(self, condition: Any) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT_SECONDS).until(lambda _: condition())


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    reason = _missing()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    options.binary_location = next(filter(None, map(shutil.which, BROWSERS)))
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "localhost,127.0.0.1")
        patch.setenv("no_proxy", "localhost,127.0.0.1")
        patch.setenv("SE_OFFLINE", "true")
        opened = Chrome(options=options, service=Service(shutil.which("chromedriver")))
        yield opened
        opened.quit()


def _synthetic() -> StudyResult:
    """Return a study of designs that differ in everything that is drawn."""
    kinds = (
        evaluation(), evaluation(query_s=3.0), evaluation(system_usd=None),
        evaluation(system_usd=9000.0, query_s=2.5),
    )  # fmt: skip
    made = study(*kinds)
    trials = []
    for number in range(TRIALS):
        found = trial(
            number, kinds[number % len(kinds)], lanes=2 ** (number % 11), clock_hz=1e9 + 1e6 * number,
            memory=("hbm3e", "gddr7")[number % 2], sram_bytes=2**20 * (1 + number % 64),
        )  # fmt: skip
        figures = found.figures | {"query_j": 1.0 + (number * 37 % TRIALS) / 100}
        if figures["system_usd"] is not None:
            figures["system_usd"] = 1000.0 + (number * 91 % TRIALS)
        trials.append(found.replace(figures=figures))
    return made.replace(trials=tuple(trials), front=tuple(trials[:20]), n_trials=TRIALS)


def _searched() -> StudyResult:
    """Return a small search of a real space."""
    import pentarch as pa

    return pa.search("edge-soc", trials=50, seed=1, log="run.sqlite")


@pytest.fixture(scope="module", params=["synthetic", "searched"])
def shown(
    request: pytest.FixtureRequest, driver: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp(request.param)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = _synthetic() if request.param == "synthetic" else _searched()
    sections = [section() for section in register_report_sections()]
    path = write_report(result, folder / "report.html", sections=sections)
    driver.get_log("performance")
    driver.get_log("browser")
    driver.get(path.as_uri())
    opened = Shown(driver=driver, result=result, path=path)
    opened.until(opened.points)
    yield opened
    driver.get("about:blank")


def test_report_of_many_designs_is_small(shown: Shown) -> None:
    assert shown.path.stat().st_size <= LARGEST_BYTES


def test_every_plot_is_drawn_and_nothing_is_wider_than_the_window(shown: Shown) -> None:
    count = len(shown.driver.find_elements("css selector", ".plot[data-plot]"))
    assert count >= 5
    assert len(shown.driver.find_elements("css selector", ".plot .main-svg")) >= count
    for width in (1280, 420):
        shown.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        shown.until(shown.plots_fit)
        assert shown.script("return document.documentElement.scrollWidth") <= width
    shown.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    shown.until(shown.plots_fit)


def test_roofline_shows_both_roofs_and_the_ridge(shown: Shown) -> None:
    nearest = shown.result.nearest
    assert nearest is not None
    (roofs,) = nearest.evaluation.roofs
    texts = [e.text for e in shown.driver.find_elements("css selector", ".logs .annotation-text")]
    assert f"{roofs.memory} {show_figure('x_bytes_per_s', roofs.memory_bytes_per_s)}" in texts
    peak = roofs.peak_flops_per_s[roofs.main_format]
    assert f"{roofs.main_format} peak {show_figure('x_flops_per_s', peak)}" in texts
    assert sum(text.startswith("ridge ") for text in texts) == 1


@pytest.mark.parametrize("axis", ["x", "y"])
def test_another_axis_draws_another_plot(shown: Shown, axis: str) -> None:
    from selenium.webdriver.support.ui import Select

    before, figure = shown.points(), "mean_w" if axis == "x" else "query_s"
    select = Select(shown.one(f"[data-axis={axis}]"))
    values = [option.get_attribute("value") for option in select.options]
    other = next(name for name in (figure, "clock_hz", "query_s") if name in values)
    chosen = select.first_selected_option.get_attribute("value")
    title = shown.one(f".points .{axis}title").text
    select.select_by_value(other)
    shown.until(lambda: shown.one(f".points .{axis}title").text != title)
    assert shown.points() != before
    select.select_by_value(chosen)
    shown.until(lambda: shown.one(f".points .{axis}title").text == title)
    shown.until(lambda: shown.points() == before)


def test_a_click_on_a_point_fills_the_panel(shown: Shown) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    def name() -> str:
        heading: str = shown.one(".panel h4").text
        return heading

    before = name()
    points = shown.driver.find_elements("css selector", ".points .scatterlayer .point")
    for point in points[5:30]:
        ActionChains(shown.driver).move_to_element(point).pause(0.3).click().perform()
        if name() != before:
            break
    assert name() != before
    number = int(name().removeprefix("trial "))
    clicked = shown.result.trials[number]
    lines = shown.panel().splitlines()
    assert f"{clicked.targets_met} of 5 targets met" in lines[1]
    for target, kind in clicked.verdicts.items():
        assert kind.value in lines[lines.index(target) + 1]
    energy = show_figure("query_j", clicked.figures["query_j"])
    assert lines[lines.index("energy per query") + 1] == energy


def test_keyboard_reaches_every_control_and_shows_where_it_is(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    shown.script("document.querySelector('nav a').focus()")
    reached = [shown.script("return document.activeElement.tagName")]
    for _ in range(80):
        shown.driver.switch_to.active_element.send_keys(Keys.TAB)
        where, outline = shown.script(
            "const at = document.activeElement;"
            "return [at.dataset.axis ? `axis ${at.dataset.axis}` : at.dataset.log ? `log ${at.dataset.log}`"
            " : 'pick' in at.dataset ? 'pick' : at.className || at.tagName,"
            " getComputedStyle(at).outlineStyle]"
        )
        if where == "BODY":
            break
        assert outline != "none", where
        reached.append(where)
    assert {"A", "scroll", "axis x", "axis y", "log x", "log y", "pick", "panel"} <= set(reached)
    assert "SUMMARY" in reached or "scroll" in reached


def test_a_typed_name_shows_its_design(shown: Shown) -> None:
    from selenium.webdriver.common.keys import Keys

    field = shown.one("[data-pick]")
    field.send_keys("7", Keys.ENTER)
    shown.until(lambda: shown.panel().startswith("trial 7\n"))
    field.clear()
    field.send_keys("no such design", Keys.ENTER)
    shown.until(lambda: "No design" in shown.panel())


def test_the_page_loads_its_own_file_only_and_reports_no_error(shown: Shown) -> None:
    # Last on purpose: it sees what all the tests before it made the page do.
    assert shown.driver.get_log("browser") == []
    messages = [json.loads(e["message"])["message"] for e in shown.driver.get_log("performance")]
    requested = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert shown.path.as_uri() in requested
    others = [url for url in requested if not re.match(r"data:|blob:|about:", url)]
    assert set(others) == {shown.path.as_uri()}
