"""The page in a real browser: what a planner does, what a stranger tries, and who else sees it."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import yaml

from factory_sim.report.page.write import browser
from factory_sim.scenario.load import load
from tests.app.conftest import SMALL

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser() is None, reason="needs Chromium: apt-get install chromium"),
]

PATIENCE_MS = 60_000
CAP = "Power cap at the meter (W)"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-c", "from factory_sim.cli import main; main()", "ui"]
    command += ["--port", str(port), "--upload", "1", "--at-once", "2"]
    here = tmp_path_factory.mktemp("server")
    with (here / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=here, stdout=log, stderr=log)
        try:
            found = f"http://127.0.0.1:{port}"
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"{found}/_stcore/health", timeout=1.0)
                    break
                except OSError:
                    assert server.poll() is None, (here / "log").read_text()
                    time.sleep(0.1)
            yield found
        finally:
            server.terminate()
            server.wait(30)
    assert "Traceback" not in (here / "log").read_text()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        window = play.chromium.launch(executable_path=browser(), args=options)
        yield window
        window.close()


class Visit:
    """A user's page. said: errors of its console. out: what it asked of other hosts."""

    def __init__(self, chromium: Any, address: str, width: int = 1400, **link: str) -> None:
        self.context = chromium.new_context(viewport={"width": width, "height": 900})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.said: list[str] = []
        self.out: list[str] = []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self._see(request.url, address))
        self.page.on("websocket", lambda socket: self._see(socket.url, address))
        self.page.goto(f"{address}/?{urlencode(SMALL | link)}")
        self.answered()

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.said.append(message.text)

    def _see(self, url: str, address: str) -> None:
        host = address.removeprefix("http://")
        if not url.startswith((address, f"ws://{host}", "data:", "blob:", "about:")):
            self.out.append(url)

    def answered(self) -> None:
        """Wait for a quick answer from a sample, or for the whole run."""
        self.page.get_by_role("progressbar").wait_for(state="detached")
        self.page.get_by_text(re.compile("Quick answer|Full run")).first.wait_for()
        self.idle()

    def anew(self, before: str) -> None:
        """Wait for another answer than one that was there before."""
        values = self.page.get_by_test_id("stMetricValue")
        values.filter(has_text=before).first.wait_for(state="detached")
        self.answered()

    def idle(self) -> None:
        """Wait until the page is not at work."""
        self.page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")

    def metric(self, label: str) -> str:
        found = self.page.get_by_test_id("stMetric").filter(has_text=label).first
        return str(found.get_by_test_id("stMetricValue").inner_text())

    def tokens(self) -> float:
        return float(self.metric("Output tokens/s").replace(",", ""))

    def type(self, label: str, text: str) -> None:
        field = self.page.get_by_role("textbox", name=label, exact=True)
        field.fill(text)
        field.press("Enter")
        self.page.wait_for_timeout(400)
        self.idle()

    def view(self, name: str) -> None:
        self.page.get_by_role("radio", name=name, exact=True).click()
        self.idle()

    def open(self, part: str) -> None:
        self.page.get_by_test_id("stExpander").filter(has_text=part).locator("summary").click()

    def close(self) -> None:
        self.context.close()
        assert self.said == [] and self.out == []


def test_less_power_is_fewer_tokens_and_a_bad_value_is_told(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address, **{"workload.chat.arrivals.rate": "400 /s"})
    before = visit.tokens()
    visit.type(CAP, "110 kW")
    visit.anew(f"{before:,.0f}")
    assert visit.tokens() < 0.9 * before
    assert "site.grid_limit=110+kW" in visit.page.url
    visit.type(CAP, "110")
    alert = visit.page.get_by_test_id("stSidebar").get_by_role("alert").first
    with pytest.raises(ValueError) as told:
        load(None, ["site.grid_limit=110"])
    assert alert.inner_text().strip() == str(told.value)
    assert visit.page.get_by_role("button", name="Run in full").is_disabled()
    visit.close()


def test_a_run_is_cancelled_and_what_is_downloaded_runs(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address, duration="2 h")
    visit.page.get_by_role("button", name="Run in full").click()
    visit.page.get_by_role("progressbar").first.wait_for()
    visit.page.get_by_role("button", name="Cancel").click()
    visit.page.get_by_text("cancelled").wait_for()
    visit.type(CAP, "180 kW")
    visit.answered()
    with visit.page.expect_download() as coming:
        visit.page.get_by_role("button", name="Download YAML").click()
    text = Path(coming.value.path()).read_text(encoding="utf-8")
    assert yaml.safe_load(text)["site"]["grid_limit"] == "180 kW"
    assert yaml.safe_load(text)["duration"] == "2 h"
    visit.close()


def test_files_are_taken_or_refused(chromium: Any, address: str, tmp_path: Path) -> None:
    visit = Visit(chromium, address)
    page = visit.page
    visit.open("Send a scenario")
    inputs = page.locator("[data-testid=stFileUploaderDropzoneInput]")
    (tmp_path / "huge.yaml").write_bytes(b"a" * 2_000_000)
    inputs.nth(0).set_input_files(tmp_path / "huge.yaml")
    page.get_by_text("File must be 1.0MB or smaller").wait_for()
    (tmp_path / "bomb.yaml").write_text("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n")
    inputs.nth(0).set_input_files(tmp_path / "bomb.yaml")
    page.get_by_text("refers to a part of itself").wait_for()
    (tmp_path / "trace.csv").write_text(
        "arrival_s,input_toks,output_toks\n" + "".join(f"{n / 10},374,44\n" for n in range(190))
    )
    inputs.nth(1).set_input_files(tmp_path / "trace.csv")
    page.get_by_role("button", name="Use this trace").click()
    page.wait_for_timeout(800)
    visit.answered()
    visit.view("Answer")
    page.get_by_text("190 arrived").wait_for()
    visit.close()


def test_two_variants_beside_each_other_and_two_users_apart(chromium: Any, address: str) -> None:
    visit, other = (Visit(chromium, address) for _ in range(2))
    visit.view("Compare")
    for cap in ("190 kW", "150 kW"):
        visit.type(CAP, cap)
        visit.answered()
        visit.page.get_by_role("button", name="Save this variant").click()
        visit.page.wait_for_timeout(500)
        visit.idle()
    visit.page.get_by_role("button", name="Remove variant 2").wait_for()
    table = visit.page.get_by_test_id("stTable").first
    assert "variant 1" in table.inner_text() and "variant 2" in table.inner_text()
    other.view("Compare")
    assert other.page.get_by_text("variant 2").count() == 0
    assert other.page.get_by_role("textbox", name=CAP).input_value() == "190 kW"
    visit.close()
    other.close()


def test_every_view_fits_a_telephone_and_has_names(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address, 390)
    for name in ("Answer", "Latency", "Power", "Time lost", "Money", "Compare", "Sweep", "Batch"):
        visit.view(name)
        visit.page.wait_for_timeout(300)
        assert visit.page.evaluate("document.documentElement.scrollWidth") <= 390, name
    unnamed = visit.page.evaluate(
        """[...document.querySelectorAll('input:not([type=file]):not([type=hidden]), button')]
        .filter(e => e.offsetParent && !(e.labels && e.labels.length) && !e.textContent.trim()
            && !e.getAttribute('aria-label') && !e.getAttribute('aria-labelledby')
            && !e.getAttribute('title')).map(e => e.outerHTML.slice(0, 200))"""
    )
    assert unnamed == []
    visit.close()


def test_the_keyboard_is_enough(chromium: Any, address: str) -> None:
    visit = Visit(chromium, address)
    visit.page.get_by_role("radio", name="Answer", exact=True).focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.keyboard.press("Enter")
    visit.page.get_by_text("Do requests meet the promise?").wait_for()
    slider = visit.page.get_by_role("slider", name=re.compile("Power cap")).first
    slider.focus()
    visit.page.keyboard.press("ArrowRight")
    visit.page.wait_for_function("location.search.includes('site.grid_limit')")
    visit.close()
