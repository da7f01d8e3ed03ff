"""The site, built as `make docs` builds it: no warning, nothing from elsewhere, lists that are lists."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="the extra `docs` is not installed")

from pages.fences import ROOT
from sammit import plugins

pytestmark = pytest.mark.slow

LOADS = re.compile(r"<(?:script|link|img|iframe|object|embed)\b[^>]*?\b(?:src|href|data)=\"(?:https?:)?//[^>]*")
IN_STYLE = re.compile(r"(?:url\(\s*[\"']?|@import\s+[\"'])(?:https?:)?//[^)]*")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning fails the build."""
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    """A hospital reads it without a network."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 40
    found = [(page.name, tag) for page in pages for tag in LOADS.findall(page.read_text(encoding="utf-8"))]
    found += [(sheet.name, tag) for sheet in site.rglob("*.css") for tag in IN_STYLE.findall(sheet.read_text())]
    assert not found


def test_the_search_and_its_helper_are_there(site: Path) -> None:
    assert "pfedsam" in (site / "search" / "search_index.json").read_text()
    page = (site / "how-to" / "join.html").read_text()
    assert '<script src="../search-from-disk.js"' in page and (site / "search-from-disk.js").is_file()


def test_lists_and_fences_came_through(site: Path) -> None:
    """What one reader of Markdown takes for a list, another takes for text: four spaces, and a line before it."""
    for page in site.rglob("*.html"):
        body = re.sub(r"<pre.*?</pre>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for paragraph in re.findall(r"<p>(.*?)</p>", body, flags=re.DOTALL):
            assert not re.search(r"^(- |\d+\. |```|\|)", paragraph, re.MULTILINE), (page.name, paragraph[:200])


def test_the_reference_is_filled_in(site: Path) -> None:
    assert not [page.name for page in site.rglob("*.html") if "<!-- reference:" in page.read_text(encoding="utf-8")]
    methods = (site / "reference" / "methods.html").read_text()
    assert all(f'id="{name}"' in methods for name in plugins.names("methods"))
    assert "sammit site audit" in (site / "reference" / "commands.html").read_text()
    assert "BlockAdapter" in (site / "reference" / "contracts.html").read_text()


def test_every_decision_and_linked_file_came_along(site: Path) -> None:
    assert {path.stem for path in (site / "decisions").glob("*.html")} == {
        path.stem for path in (ROOT / "docs" / "decisions").glob("*.md")
    }
    assert (site / "files" / "deploy" / "sammit-site.service").is_file()
