"""The report, looked at in a real browser."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from aevb.__main__ import main

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "out"
    small = ["--epochs", "3", "--hidden", "8", "--evidence-samples", "10", "--seeds", "2", "--latents", "2", "3"]
    assert main(["compare", *small, "--workers", "1", "--out", str(out)]) == 0
    return out / "report.html"


@pytest.fixture
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on the PATH: the report is not looked at")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield chromium
        chromium.close()


@pytest.mark.parametrize("width", [390, 1200])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")  # of the browser's driver
def test_the_report_opens_from_disk_fits_and_sorts(width: int, browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(report.as_uri())
    assert complaints == []
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert page.locator("figure").count() == page.locator("figcaption").count() > 5

    answer = page.locator(".answer table")  # four pairs: more than sentences can tell
    assert answer.locator("tbody tr").count() == 4
    assert answer.locator("td.told, td.soft").count() == 4 * 3

    figures = page.locator("#figures")
    column = figures.locator("th button", has_text="ELBO, test")
    cells = "[...document.querySelector('#figures tbody').rows].map(row => +row.cells[2].dataset.value)"
    column.click()
    down = page.evaluate(cells)
    assert len(down) == 4
    assert down == sorted(down, reverse=True)
    column.click()
    assert page.evaluate(cells) == sorted(down)
    assert complaints == []

    page.evaluate("document.querySelector('#figures tbody td').textContent = 'L_B_mixed NormalMixture:components=50'")
    clipped = figures.evaluate("table => table.parentNode.scrollWidth > table.parentNode.clientWidth")
    assert clipped == (width == 390)  # there it scrolls
