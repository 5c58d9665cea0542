"""The report in a real browser: Chromium without a window, which `make chromium` installs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import finished_run
import pytest
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from support import Box, poll

from tmuxevolve.charts import page
from tmuxevolve.session import results

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="Chromium is not installed (make chromium)"
)

# WebGL by the CPU: there is no GPU, and no sandbox for root.
OPTIONS = [
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1400,900"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--hide-scrollbars"),
]
COUNT = """
return document.getElementById(arguments[0]).data
    .filter((trace) => trace.meta === "generations")
    .flatMap((trace) => trace.customdata)
"""


class Browser:
    """A browser with one page, and all that it said and asked for."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for option in OPTIONS:
            options.add_argument(option)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))

    def open(self, path: Path) -> None:
        """Open a report and wait until it is drawn."""
        self.driver.get(path.as_uri())
        poll(lambda: self.run("return document.body.dataset.ready"), 60, "the page")

    def run(self, script: str, *args: object) -> Any:
        return self.driver.execute_script(script, *args)

    def emulate(self, what: str, **how: object) -> None:
        self.driver.execute_cdp_cmd(f"Emulation.{what}", how)

    def text(self, selector: str) -> str:
        return str(self.run("return document.querySelector(arguments[0]).innerText", selector))

    def texts(self, selector: str) -> list[str]:
        """Return the texts of what is drawn as SVG."""
        script = "return [...document.querySelectorAll(arguments[0])].map((e) => e.textContent)"
        return list(self.run(script, selector))

    def points(self) -> list[int]:
        """Return the index of every point that stands for a generation."""
        return list(self.run(COUNT, "fitness"))

    def click(self, index: int) -> None:
        """Click on the point of a generation where it is on the screen."""
        place = self.run(
            """
            const chart = document.getElementById("fitness");
            const traces = chart.data.filter((trace) => trace.meta === "generations");
            const trace = traces.find((trace) => trace.customdata.includes(arguments[0]));
            const at = trace.customdata.indexOf(arguments[0]);
            const {xaxis, yaxis, _size: size} = chart._fullLayout;
            chart.scrollIntoView();
            const box = chart.getBoundingClientRect();
            const x = box.left + size.l + xaxis.d2p(trace.x[at]);
            return [x, box.top + size.t + yaxis.d2p(trace.y[at])];
            """,
            index,
        )
        actions = ActionChains(self.driver, duration=0)
        actions.w3c_actions.pointer_action.move_to_location(*map(round, place))
        actions.click().perform()

    def asked_for(self) -> list[str]:
        """Return all addresses that were asked for."""
        messages = (json.loads(e["message"])["message"] for e in self.driver.get_log("performance"))
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]

    def said(self) -> list[Mapping[str, Any]]:
        """Return what is in the console."""
        return list(self.driver.get_log("browser"))


@pytest.fixture
def browser() -> Iterator[Browser]:
    made = Browser()
    yield made
    made.driver.quit()


def report(box: Box) -> Path:
    done = box.cli("report", "--results", "r", "-o", "page.html")
    assert (done.returncode, done.stderr) == (0, ""), done
    return box.root / "page.html"


def test_a_report_in_a_browser(box: Box, browser: Browser) -> None:
    finished_run.make(box.root / "r", 40, diverged=2, hyps=8)
    run = results.read(box.root / "r")
    path = report(box)
    browser.open(path)

    assert sorted(browser.points()) == [*range(40)], "one point for each generation"
    drawn = browser.driver.find_elements(By.CSS_SELECTOR, "#fitness .scatterlayer path.point")
    assert len(drawn) == 40 + 1, "and the star"
    assert run.best
    assert browser.text("#detail h2") == f"Generation {run.best.number}, the best"
    assert browser.texts("#fitness .legendtext")[:2] == ["gpu0", "gpu10-w1"]

    chosen = next(point for point in run.points if point.hyp != run.base and point != run.best)
    browser.click(run.points.index(chosen))
    poll(lambda: browser.text("#detail h2") == f"Generation {chosen.number}", 10, "the click")
    detail = browser.text("#detail")
    assert f"{chosen.fitness:.5g}" in detail
    for name in run.varied:
        (line,) = (line for line in detail.splitlines() if line.split("\t")[0] == name)
        _, value, base, *_ = line.split("\t")
        assert (float(value), float(base)) == (
            pytest.approx(chosen.hyp[name], rel=1e-4),
            pytest.approx(run.base[name], rel=1e-4),
        )

    browser.emulate(
        "setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    ground = "return document.getElementById('fitness').layout.paper_bgcolor"
    poll(lambda: browser.run(ground) == "#14171b", 20, "the dark page")
    browser.emulate(
        "setDeviceMetricsOverride", width=390, height=844, deviceScaleFactor=1, mobile=True
    )
    wide = "return document.documentElement.scrollWidth"
    poll(lambda: browser.run(wide) == 390, 20, "nothing sticks out on a phone")

    assert browser.said() == []
    assert [url for url in browser.asked_for() if not url.startswith("data:")] == [path.as_uri()]


HARM = "document.body.dataset.harm = 'done'"
NAMES = (
    f"</script><script>{HARM}</script>",
    f'"><img src=x onerror="{HARM}">',
    f"<a href='javascript:{HARM}'>x</a>",
    "<b>bold</b> & 'quoted' \"twice\" \\ $script {{x}}",
    "<!--<script>",
    "__proto__",
)


def test_hostile_names_do_no_harm(box: Box, browser: Browser) -> None:
    hyp = {name: 1.0 + number for number, name in enumerate(NAMES)}
    folder = box.root / f"</title><script>{HARM.replace('/', '')}<"
    study = finished_run.define(folder / "script>'\"$data", hyp)
    finished_run.tell(study, *(n / 100 for n in range(32)))
    path = box.root / "page.html"
    page.save(results.read(study.files.results), "<script>$plotly", path)
    browser.open(path)
    assert len(browser.points()) == 32
    assert browser.run("return document.body.dataset.harm") is None
    assert browser.run("return document.getElementsByTagName('img').length") == 0
    browser.click(3)
    detail = browser.text("#detail")
    for name in NAMES:
        assert " ".join(name.split()) in detail
    assert browser.text("#title") == "<script>$plotly"
    assert str(study.files.results) in browser.text("#summary")
    assert browser.texts("#hyps .annotation-text")[3].startswith(f"{NAMES[3][:19]}… = ")
    assert browser.said() == []


def test_very_many_generations_are_thinned_but_all_are_on_the_first_chart(
    box: Box, browser: Browser
) -> None:
    study = finished_run.define(box.root / "r", {"a": 1.0, "b": 2.0})
    finished_run.tell(study, 0.5)
    row = study.files.table.read_bytes().splitlines(keepends=True)[1]
    study.files.table.write_bytes(study.files.table.read_bytes() + row * 4999)
    browser.open(report(box))
    assert len(browser.points()) == 5000
    assert "generations: the best 1000, and" in browser.text("#hyps-note")
    assert browser.run("return document.getElementById('fitness').data[0].type") == "scattergl"
    assert browser.said() == []
