"""From a raw copy of a published dataset to a data root, whole or not at all.

Everything is opened and checked before the first file is written. What is written goes to a draft folder beside the
target, which is renamed in one step at the end, so that neither a kill nor a full disk leaves half a dataset.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from sammit import plugins
from sammit.data.prepare.contract import Item, Survey, choose
from sammit.data.settings import FILE
from sammit.errors import UserError
from sammit.files import flush_folder, write_atomically

RECORD = "prepared.json"
BETWEEN_LINES = 10.0  # seconds

Tell = Callable[[str], object]


def prepare(name: str, raw: Path, out: Path, options: Iterable[str] = (), tell: Tell = lambda line: None) -> list[str]:
    """Write a data root from a raw copy of a published dataset.

    The root holds a folder for each site with `images/` and `masks/`, `dataset.toml`, and `prepared.json`: source,
    licence, citation, options, cases of each site and of the public release, missing sites, warnings.

    Args:
        name: a dataset, see `plugins.names("preparations")`.
        raw: the raw copy; some of the dataset's sites are enough.
        out: the root to make; missing or empty.
        options: `KEY=VALUE` texts, see the dataset's OPTIONS.
        tell: is given a line of progress, a warning or a problem, one at a time.

    Returns:
        The names of the sites written.

    Raises:
        UserError: an unknown name or option, a target that is not empty, nothing of the dataset under `raw`, or files
            that do not fit. One such file is named in the message, several are told first. Nothing is written then.
    """
    module = plugins.load("preparations", name)
    chosen = choose(module.OPTIONS, options)
    _check_places(raw, out)
    tell(f"looking through {raw}")
    survey: Survey = module.survey(raw, chosen)
    survey.problems += _doubles(survey.items)
    if not survey.items and not survey.problems:
        raise UserError(f"{raw}: holds nothing of {name}; a raw copy has {module.LAYOUT}")
    _check_items(survey, tell)
    _refuse(survey.problems, raw, tell)
    record = _record(name, module, chosen, survey)
    for line in record["warnings"]:
        tell(f"WARNING {line}")
    with _draft_of(out) as draft:
        _write(draft, survey, record, tell)
    return list(record["sites"])


def _check_places(raw: Path, out: Path) -> None:
    if not raw.is_dir():
        raise UserError(f"{raw}: there is no such folder; name the folder of the raw copy")
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise UserError(f"{out}: is not empty; choose another folder")
    if out.resolve().is_relative_to(raw.resolve()):
        raise UserError(f"{out}: lies inside the raw copy; choose another folder")


def _doubles(items: list[Item]) -> list[str]:
    """A line for each name that a site has twice, from two corners of the raw copy."""
    counts = Counter((item.site, item.name) for item in items)
    return [
        f"site {site}: case '{name}' is there {count} times, in folders of its own each; remove all but one"
        for (site, name), count in counts.items()
        if count > 1
    ]


def _check_items(survey: Survey, tell: Tell) -> None:
    """Open every case; what is wrong with one joins the survey's problems, what is odd its warnings."""
    for item in _progress(survey.items, "checked", tell):
        try:
            piece = item.read()
        except UserError as error:
            survey.problems.append(str(error))
            continue
        survey.warnings += [f"{item.site}/{item.name}: {note}" for note in piece.notes]


def _refuse(problems: list[str], raw: Path, tell: Tell) -> None:
    if len(problems) == 1:
        raise UserError(problems[0])
    for problem in problems:
        tell(f"PROBLEM {problem}")
    if problems:
        raise UserError(f"{raw}: {len(problems)} problems in the files named above; mend them, nothing was written")


def _record(name: str, module: Any, chosen: Mapping[str, str], survey: Survey) -> dict[str, Any]:
    """What `prepared.json` says."""
    counts = Counter(item.site for item in survey.items)
    order = [*(site for site in survey.wanted if site in counts), *sorted(counts.keys() - survey.wanted.keys())]
    sites = {site: {"cases": counts[site], "public_release": survey.wanted.get(site)} for site in order}
    missing = [site for site in survey.wanted if site not in counts]
    odd = [
        f"site {site}: {row['cases']} cases, the public release has {row['public_release']}"
        for site, row in sites.items()
        if row["public_release"] not in (None, row["cases"])
    ]
    lost = [f"site {site}: nothing of it is under the raw copy; it is left out" for site in missing]
    return {
        "dataset": name,
        "source": module.SOURCE,
        "licence": module.LICENCE,
        "citation": module.CITATION,
        "options": dict(chosen),
        "sites": sites,
        "missing": missing,
        "warnings": [*lost, *odd, *survey.warnings],
    }


def _write(draft: Path, survey: Survey, record: Mapping[str, Any], tell: Tell) -> None:
    import tomli_w

    for item in _progress(survey.items, "wrote", tell):
        item.read().write(draft / item.site / "images", draft / item.site / "masks", item.name)
    for site in record["sites"]:
        if site in survey.site_settings:
            write_atomically(draft / site / FILE, tomli_w.dumps(survey.site_settings[site]))
    write_atomically(draft / FILE, tomli_w.dumps(survey.settings))
    write_atomically(draft / RECORD, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def _draft_of(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end; whatever goes wrong, it is removed."""
    target = out.resolve()
    _clear_dead_drafts(target)
    draft = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        draft.replace(target)  # an empty folder may stand there
        flush_folder(target.parent)
    except BaseException:  # Ctrl-C too must not leave a draft
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _clear_dead_drafts(target: Path) -> None:
    """Remove what a killed process left: drafts of this target whose maker runs no more."""
    for path in target.parent.glob(f".{target.name}.*.part"):
        maker = re.fullmatch(rf"\.{re.escape(target.name)}\.([0-9]+)\.part", path.name)
        if maker and path.is_dir() and not _runs(int(maker[1])):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    """Whether a process of that number is alive; one that is another user's counts."""
    with suppress(PermissionError):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
    return True


def _progress(items: list[Item], did: str, tell: Tell) -> Iterator[Item]:
    """The items, with a line now and then: how many are done and how long the rest may take."""
    started = last = perf_counter()
    for done, item in enumerate(items):
        if done and perf_counter() - last > BETWEEN_LINES:
            last = perf_counter()
            left = (last - started) / done * (len(items) - done)
            tell(f"{did} {done} of {len(items)} cases, about {left:.0f} s left")
        yield item
    tell(f"{did} {len(items)} of {len(items)} cases")
