"""What MkDocs is told beyond mkdocs.yml: the reference is made, decisions are listed, and nothing is linked to that a
reader without a network would not have."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import docs_reference

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Pages that lie beside docs/."""

THEIRS = "https://unpkg.com/iframe-worker/shim"
REFERENCE = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)
LINK = re.compile(r"\]\((\.\./[^)#\s]+)\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Every decision is in the navigation, in order."""
    decisions = sorted(path.name for path in Path(config.docs_dir, "decisions").glob("*.md"))
    for entry in _entries(config.nav or []):
        if entry.get("Decisions") == []:
            entry["Decisions"] = [f"decisions/{name}" for name in decisions]
    return config


def _entries(nav: list[Any]) -> list[dict[str, Any]]:
    """All entries of the navigation, however deep."""
    own = [entry for entry in nav if isinstance(entry, dict)]
    below = [value for entry in own for value in entry.values() if isinstance(value, list)]
    return own + [entry for part in below for entry in _entries(part)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Pages and linked files that lie outside docs/ come along."""
    for uri, name in FROM_ROOT.items():
        files.append(File.generated(config, uri, content=(ROOT / name).read_text(encoding="utf-8")))
    for page in list(files.documentation_pages()):
        for target in LINK.findall(page.content_string):
            uri = _outside(page.src_uri, target)
            if uri and files.get_file_from_path(uri) is None:
                files.append(File.generated(config, uri, abs_src_path=str(ROOT / uri.removeprefix("files/"))))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """The theme fetches a script from elsewhere, for the search of pages opened from a disk; ours is here."""
    own = os.path.relpath("search-from-disk.js", PurePosixPath(page.file.dest_uri).parent)
    return output.replace(THEIRS, own)


def on_post_template(output_content: str, template_name: str, config: MkDocsConfig) -> str:
    """The same for what is no page, such as the one for addresses that lead nowhere."""
    return output_content.replace(THEIRS, "search-from-disk.js")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Reference in, links out of docs/ to the copies that came along."""
    made = REFERENCE.sub(lambda found: docs_reference.PAGES[found[1]](), markdown)
    return LINK.sub(lambda found: f"]({_relative(page.file.src_uri, found[1])})", made)


def _relative(page: str, target: str) -> str:
    uri = _outside(page, target)
    return os.path.relpath(uri, PurePosixPath(page).parent) if uri else target


def _outside(page: str, target: str) -> str:
    """Where the copy of a file outside docs/ lies in the site; "" for what lies inside, or nowhere."""
    path = (ROOT / "docs" / page).parent.joinpath(target).resolve()
    inside = path.is_relative_to(ROOT / "docs")
    return "" if inside or not path.is_file() else f"files/{path.relative_to(ROOT).as_posix()}"
