"""Pictures of reports for the documentation: a wide window, a narrow one, paper, and two methods case by case.

    python -m scripts.screenshots --run demo/report.html --study STUDY/report.html [--out docs]

Needs the extra `browser` and Debian's `chromium-driver`. Case pictures of the reports given are in the pictures made.
"""

from __future__ import annotations

import argparse
import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageOps

from scripts.chromium import ask, chromium, emulate, lacking, resize, show

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

PAPER, MARGIN = 703, 45
"""CSS pixels of A4's width within the margins that the report's style gives it, and of such a margin."""


@dataclass(frozen=True)
class Shot:
    """One picture: its file, the window, and the element that it begins with ("" for the top of the page)."""

    name: str
    width: int
    height: int
    scale: float = 1.0
    medium: str = ""
    start: str = ""


OF_A_RUN = (
    Shot("report-wide", 1200, 1230),
    Shot("report-narrow", 360, 1100, scale=1.5),
    Shot("report-print", PAPER, 915, scale=1.25, medium="print"),
)
OF_A_STUDY = (Shot("report-compare", 1200, 840, start=".pairs"),)


def take(driver: Chrome, page: Path, shot: Shot, out: Path) -> Path:
    """One picture of a page, with the margins of the paper where it is one of paper."""
    resize(driver, shot.width, shot.height, shot.scale)
    emulate(driver, shot.medium)
    show(driver, page)
    # The part's heading is the last one before it.
    top = driver.execute_script(
        """const part = arguments[0] && document.querySelector(arguments[0]);
        const before = [...document.querySelectorAll("h2, h3")].filter((one) => part &&
          one.compareDocumentPosition(part) & Node.DOCUMENT_POSITION_FOLLOWING).at(-1);
        return before ? before.getBoundingClientRect().top + scrollY - 16 : 0;""",
        shot.start,
    )
    clip = {"x": 0, "y": top, "width": shot.width, "height": shot.height, "scale": 1}
    answer = ask(driver, "Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
    picture = Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")
    if shot.medium == "print":
        picture = ImageOps.expand(picture, round(MARGIN * shot.scale), "white")
    path = out / f"{shot.name}.png"
    picture.save(path, optimize=True)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="report of a run, or of several side by side")
    parser.add_argument("--study", type=Path, required=True, help="report in which two methods are compared by case")
    parser.add_argument("--out", type=Path, default=Path("docs"))
    chosen = parser.parse_args()
    absent = [path for path in (chosen.run, chosen.study, chosen.out) if not path.exists()]
    if lacking() or absent:
        parser.error(lacking() or f"{absent[0]}: there is no such file; write the report first")
    with chromium() as driver:
        for page, shots in ((chosen.run, OF_A_RUN), (chosen.study, OF_A_STUDY)):
            for shot in shots:
                path = take(driver, page, shot, chosen.out)
                print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
