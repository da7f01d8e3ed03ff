"""The controls of a report in real Chromium: what is clicked or typed does what it says, and numbers are right."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scripts.chromium import show

from .browsing import IN_CHROMIUM, UNFOLD, column, press, text

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

pytestmark = IN_CHROMIUM


def test_a_table_sorts_by_keyboard(page: Chrome, pages: dict[str, Path]) -> None:
    """Numbers as numbers, those without one last either way, sums where they were; thirdly the first order."""
    from selenium.webdriver.common.keys import Keys

    show(page, pages["full"])
    table = "[aria-label='Scores by site'] table"
    first = column(page, table, 1)
    page.execute_script("document.querySelectorAll(arguments[0] + ' thead button')[1].focus()", table)
    state = "return document.querySelectorAll(arguments[0] + ' thead th')[1].getAttribute('aria-sort')"
    for key, way in ((Keys.ENTER, "descending"), (Keys.SPACE, "ascending"), (Keys.ENTER, "none")):
        press(page, key)
        assert page.execute_script(state, table) == way
        wanted = first if way == "none" else sorted(first, key=float, reverse=way == "descending")
        assert column(page, table, 1) == wanted
        assert "first order" in text(page, "#told") if way == "none" else f"Dice, {way}" in text(page, "#told")
    foot = page.execute_script("return document.querySelector(arguments[0]).tFoot.rows.length", table)
    assert foot == 2 and sorted(first, key=float) != first
    cases = "[aria-label='Every case'] table"
    assert text(page, f"{cases} th:nth-child(6)") == "HD95"
    for _ in range(2):
        page.execute_script("document.querySelectorAll(arguments[0] + ' thead button')[5].click()", cases)
        distances = column(page, cases, 5)
        assert distances[-1] == "undefined" and distances.count("undefined") == 1
    assert [float(one) for one in distances[:-1]] == sorted(float(one) for one in distances[:-1])


def test_a_long_table_is_searched_and_says_how_many_rows(page: Chrome, pages: dict[str, Path]) -> None:
    from selenium.webdriver.support.ui import Select

    show(page, pages["full"])
    page.execute_script(UNFOLD)
    (box,) = page.find_elements("css selector", "input[aria-label='Find rows: Every case']")
    (site,) = page.find_elements("css selector", "select[aria-label='Site: Every case']")
    count = box.find_element("xpath", "../following-sibling::span[@role='status']")
    cases = "[aria-label='Every case'] table"
    assert count.text == "56 rows"
    Select(site).select_by_visible_text("REFUGE")
    assert set(column(page, cases, 1)) == {"REFUGE"} and count.text == "8 of 56 rows"
    box.send_keys("IM001 cup")
    assert column(page, cases, 0) == ["im001"] and count.text == "1 of 56 rows"
    box.send_keys(" nowhere")
    assert column(page, cases, 0) == [] and count.text == "0 of 56 rows"
    assert page.find_elements("css selector", "input[aria-label='Find rows: Scores by site']") == []


def test_a_picture_is_enlarged_and_the_focus_comes_back(page: Chrome, pages: dict[str, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    show(page, pages["full"])
    small = page.find_elements("css selector", ".panels .zoom")[1]
    small.send_keys(Keys.ENTER)
    dialog = page.find_element("css selector", "dialog")
    image = dialog.find_element("css selector", ".stage svg")
    assert dialog.is_displayed() and image.size["width"] > 2 * small.size["width"]
    assert image.get_attribute("aria-label") == "im000: truth, contours of disc and cup."
    assert page.execute_script("return arguments[0].contains(document.activeElement)", dialog)
    press(page, Keys.ARROW_RIGHT)
    assert "global model" in text(page, ".stage svg[aria-label]~*, dialog p") and "3 of 4" in dialog.text
    ids = page.execute_script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    press(page, Keys.ESCAPE)
    assert not dialog.is_displayed() and page.switch_to.active_element == small
    small.click()
    dialog.find_element("xpath", ".//button[.='Close']").click()
    assert not dialog.is_displayed() and page.get_log("browser") == []


def test_two_methods_are_compared_case_by_case(page: Chrome, pages: dict[str, Path]) -> None:
    """What the page says of them is what `cases.csv` of the cells comes to."""
    from selenium.webdriver.support.ui import Select

    show(page, pages["study"])
    wanted = paired(pages["study"].parent.parent, "fed", "own")
    choices = {one.get_attribute("name"): Select(one) for one in page.find_elements("css selector", ".pairs select")}
    assert (
        choices["ours"].first_selected_option.text == "Fed"
        and choices["theirs"].first_selected_option.text == "Cen & Co"
    )
    choices["theirs"].select_by_visible_text("Own")
    mean = sum(ours - theirs for _, ours, theirs in wanted.values()) / len(wanted)
    reading = text(page, ".pairs .reading")
    assert f"Fed minus Own, Dice, mean over structures: +{mean:.3f} in the mean over 16 cases" in reading
    assert "mean over 1 to 2 seeds, those that both methods have it under" in reading
    rows = dict(zip(zip(column(page, ".pairs table", 1), column(page, ".pairs table", 0), strict=True),
                    column(page, ".pairs table", 5), strict=True))  # fmt: skip
    assert rows == {case: str(seeds) for case, (seeds, _, _) in wanted.items()}
    for place, which in ((2, 1), (3, 2)):
        shown = [float(one) for one in column(page, ".pairs table", place)]
        assert shown == pytest.approx([one[which] for one in wanted.values()], abs=0.00051)
    assert len(page.find_elements("css selector", ".pairs .marks path")) == 16
    choices["structure"].select_by_visible_text("disc")
    choices["score"].select_by_visible_text("HD95")
    assert "HD95 is undefined in 1 case under some seed; left out for want of any other: 1." in text(
        page, ".pairs .reading"
    )
    assert "undefined" in column(page, ".pairs table", 2)
    choices["site"].select_by_visible_text("REFUGE")
    assert set(column(page, ".pairs table", 1)) == {"REFUGE"} and "over 7 cases" in text(page, ".pairs .reading")
    choices["theirs"].select_by_visible_text("Fed")
    assert text(page, ".pairs .reading") == "Choose two methods that differ."
    assert page.get_log("browser") == []


def paired(out: Path, ours: str, theirs: str) -> dict[tuple[str, str], tuple[int, float, float]]:
    """(site, case) -> seeds that both have it under, and the mean Dice of both over these, from the cells' files."""
    found: dict[tuple[str, str, int], dict[str, list[float]]] = {}
    for method, reported in ((ours, "global"), (theirs, "sources")):
        for path in sorted((out / "cells" / "fundus" / method).glob("*/cases.csv")):
            site, seed = path.parent.name.rsplit("-", 1)
            if (path.parent / "summary.json").is_file():
                for row in csv.DictReader(path.read_text().splitlines()):
                    if row["model"] == reported:
                        found.setdefault((site, row["case"], int(seed)), {}).setdefault(method, []).append(
                            float(row["dice"])
                        )
    both = {key: {m: sum(v) / len(v) for m, v in one.items()} for key, one in found.items() if len(one) == 2}
    cases = dict.fromkeys((site, case) for site, case, _ in sorted(both))
    seeds = {case: [one for (site, name, _), one in both.items() if (site, name) == case] for case in cases}
    return {
        case: (len(own), *(sum(one[method] for one in own) / len(own) for method in (ours, theirs)))
        for case, own in seeds.items()
    }  # type: ignore[return-value]
