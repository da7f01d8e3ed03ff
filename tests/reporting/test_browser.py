"""Reports in real Chromium: quiet, closed to the outside, named, readable, narrow, by keyboard, on paper."""

from __future__ import annotations

import base64
import re
import shutil
import zlib
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.chromium import ask, emulate, lacking, resize, show

from .browsing import IN_CHROMIUM, PAGES, UNFOLD, press

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = IN_CHROMIUM
NAMED = {
    "button", "link", "image", "img", "combobox", "searchbox", "textbox", "table", "dialog", "region",
    "graphics-document",
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_quiet_alone_and_named(page: Chrome, pages: dict[str, Path], name: str) -> None:
    """No word in the console, nothing loaded, a name for whatever can be used or seen, headings in order."""
    show(page, pages[name])
    page.execute_script(UNFOLD)
    assert page.get_log("browser") == []
    assert page.execute_script("return performance.getEntriesByType('resource').map((one) => one.name)") == []
    nodes = [node for node in ask(page, "Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    seen = {node["role"]["value"] for node in nodes}
    assert {"button", "table", "heading"} <= seen
    nameless = [
        (node["role"]["value"], node.get("backendDOMNodeId"))
        for node in nodes
        if node["role"]["value"] in NAMED and not (node.get("name") or {}).get("value", "").strip()
    ]
    assert nameless == []
    levels = page.execute_script("return [...document.querySelectorAll('h1,h2,h3,h4')].map((one) => +one.tagName[1])")
    assert levels[0] == 1 and all(after - before <= 1 for before, after in pairwise(levels))


def test_the_policy_lets_nothing_else_run_or_load(page: Chrome, pages: dict[str, Path], tmp_path: Path) -> None:
    """Markup that came in with a name would neither run nor fetch; the console says so."""
    odd = "<script>document.title = 'run'</script><img src='https://example.org/x.png' alt='x'></body>"
    (tmp_path / "odd.html").write_text(pages["joining"].read_text().replace("</body>", odd))
    show(page, tmp_path / "odd.html")
    said = " ".join(entry["message"] for entry in page.get_log("browser"))
    assert page.title != "run" and said.count("Content Security Policy") >= 2


@pytest.mark.parametrize("name", PAGES)
def test_a_narrow_window_scrolls_tables_and_not_the_page(page: Chrome, pages: dict[str, Path], name: str) -> None:
    resize(page, 360, 740)
    show(page, pages[name])
    page.execute_script(UNFOLD)
    assert page.execute_script("return document.documentElement.scrollWidth") == 360


CONTRAST = """
const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
const light = (colour) => numbers(colour).slice(0, 3).map((one) => one / 255)
  .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
  .reduce((sum, one, place) => sum + one * [0.2126, 0.7152, 0.0722][place], 0);
const ground = (one) => {
  for (; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (numbers(colour)[3] !== 0) return colour;
  }
};
const found = new Set();
for (const one of document.querySelectorAll("body *:not(script):not(noscript):not(svg *)")) {
  if (![...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) continue;
  const [a, b] = [light(getComputedStyle(one).color), light(ground(one))].sort((x, y) => y - x);
  const seen = `${one.tagName} ${one.className}: ${one.textContent.trim().slice(0, 40)}`;
  if ((a + 0.05) / (b + 0.05) < 4.5) found.add(seen);
}
return [...found];
"""


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("dark", [False, True])
def test_text_stands_out(page: Chrome, pages: dict[str, Path], name: str, dark: bool) -> None:
    """Every text of the page has the contrast that WCAG AA asks for, 4.5 to 1, in both colour schemes."""
    emulate(page, dark=dark)
    show(page, pages[name])
    assert page.execute_script(CONTRAST) == []
    ground = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(18, 22, 27)" if dark else "rgb(255, 255, 255)")


@pytest.mark.parametrize("name", PAGES)
def test_every_control_is_reached_by_tab(page: Chrome, pages: dict[str, Path], name: str) -> None:
    from selenium.webdriver.common.keys import Keys

    show(page, pages[name])
    wanted = page.execute_script(
        """const controls = [...document.querySelectorAll("button, input, select, a, summary, .scroll")];
        window.controls = controls.filter((one) => one.checkVisibility({ contentVisibilityAuto: true }));
        return controls.filter((one) => one.checkVisibility()).length"""
    )
    reached = set()
    for _ in range(wanted + 2):
        press(page, Keys.TAB)
        reached.add(page.execute_script("return window.controls.indexOf(document.activeElement)"))
    assert reached >= set(range(page.execute_script("return window.controls.length")))


@pytest.mark.parametrize("name", PAGES)
def test_paper_has_everything_and_no_controls(page: Chrome, pages: dict[str, Path], name: str) -> None:
    """In light colours whatever the screen has, unfolded, and no table wider than the paper."""
    show(page, pages[name])
    opened = "return document.querySelectorAll('details[open]').length"
    before = page.execute_script(opened)
    emulate(page, "print", dark=True)
    resize(page, 703, 1000)  # A4 within its margins
    assert page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = """return [...document.querySelectorAll(".controls, .zoom, dialog, input, select")]
        .filter((one) => one.checkVisibility()).length"""
    assert page.execute_script(shown) == 0
    folded = """return [...document.querySelectorAll("details > :not(summary):not(.controls)")]
        .filter((one) => !one.offsetHeight).map((one) => one.outerHTML.slice(0, 99))"""
    assert page.execute_script(folded) == []
    wide = """return [...document.querySelectorAll("table")].filter((one) => one.getBoundingClientRect().right > 703)
        .map((one) => one.caption?.textContent)"""
    assert page.execute_script(wide) == []
    pdf = base64.b64decode(ask(page, "Page.printToPDF", printBackground=True, preferCSSPageSize=True)["data"])
    assert pdf.startswith(b"%PDF") and len(pdf) > 20_000 and pages_of(pdf) >= 1
    assert page.execute_script(opened) == before


def pages_of(pdf: bytes) -> int:
    """How many pages a PDF has: its page objects, in the open or within packed streams."""
    packed = [part for part in re.findall(rb"stream\r?\n(.*?)endstream", pdf, flags=re.DOTALL) if part[:1] == b"x"]
    plain = b"".join([pdf, *(zlib.decompressobj().decompress(part) for part in packed)])
    return len(re.findall(rb"/Type\s*/Page\b", plain))


def test_without_its_script_the_page_is_complete(page: Chrome, pages: dict[str, Path]) -> None:
    ask(page, "Emulation.setScriptExecutionDisabled", value=True)
    try:
        show(page, pages["study"])
        words = page.find_element("tag name", "main").text
    finally:
        ask(page, "Emulation.setScriptExecutionDisabled", value=False)
    assert "which does not run here" in words and "Fed has a mean Dice" in words and "Find rows" not in words


def test_what_is_lacking_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert lacking() == "chromium and chromedriver not found (Debian: chromium-driver)"
