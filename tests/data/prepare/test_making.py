"""What all datasets have in common: places, options, records, and that a root is written whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sammit import plugins
from sammit.data.prepare import making, pieces, prepare
from sammit.errors import UserError

from . import raw_fundus, raw_nuclei

Refused = Callable[..., str]
PROGRAM = """
import os, signal, sys
from pathlib import Path
from sammit.data.prepare import pieces, prepare

write, written = pieces.Picture.write, []

def dying(self, *where):
    written.append(where)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *where)

pieces.Picture.write = dying
prepare("fundus", Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("name", plugins.names("preparations"))
def test_every_dataset_says_what_it_is(name: str) -> None:
    """A listing shows source, licence and citation; every default is a value that may be given."""
    row = next(row for row in plugins.describe("preparations") if row["name"] == name)
    assert {"summary", "source", "licence", "citation", "layout"} <= set(row) and all(row.values())
    options = plugins.load("preparations", name).OPTIONS
    for key, option in options.items():
        assert option.meaning
        assert making.choose(options, [f"{key}={option.default}"]) == making.choose(options, [])


def test_the_root(raw: Path, tmp_path: Path) -> None:
    """Folders, `dataset.toml`, the record; an empty target is as good as none."""
    raw_fundus.refuge(raw)
    out = tmp_path / "roots" / "fundus"
    out.mkdir(parents=True)
    told: list[str] = []
    assert prepare("fundus", raw, out, ["disc=rim"], told.append) == ["REFUGE"]
    assert sorted(path.name for path in out.iterdir()) == ["REFUGE", "dataset.toml", "prepared.json"]
    assert sorted(path.name for path in (out / "REFUGE").iterdir()) == ["images", "masks"]
    assert tomllib.loads((out / "dataset.toml").read_text())["structures"] == {"rim": 1, "cup": [2, 3]}
    record = json.loads((out / "prepared.json").read_text())
    module = plugins.load("preparations", "fundus")
    assert record["dataset"] == "fundus" and record["options"]["disc"] == "rim"
    assert (record["source"], record["licence"], record["citation"]) == (module.SOURCE, module.LICENCE, module.CITATION)
    assert record["sites"] == {"REFUGE": {"cases": 4, "public_release": 1200}}
    assert record["missing"] == ["ORIGA", "G1020", "Drishti-GS1"]
    assert [f"WARNING {line}" for line in record["warnings"]] == [line for line in told if "WARNING" in line]
    assert "WARNING site REFUGE: 4 cases, the public release has 1200" in told
    assert "WARNING site G1020: nothing of it is under the raw copy; it is left out" in told
    assert told[0] == f"looking through {raw}" and told[-1] == "wrote 4 of 4 cases"


def test_equal_copies_give_equal_roots(raw: Path, tmp_path: Path) -> None:
    """Byte for byte."""
    raw_nuclei.everything(raw)
    for name in ("one", "two"):
        prepare("nuclei", raw, tmp_path / name)
    one, two = (
        {
            path.relative_to(tmp_path / name): path.read_bytes()
            for path in (tmp_path / name).rglob("*.*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two and len(one) == 2 * 23 + 5


def test_all_problems_are_told(raw: Path, tmp_path: Path) -> None:
    """Structure and content in one go, a line each."""
    raw_fundus.g1020(raw)
    (raw / "G1020" / "Masks" / "image_3.png").unlink()
    (raw / "G1020" / "Images" / "image_10.jpg").write_bytes(b"")
    told: list[str] = []
    with pytest.raises(UserError, match="copy: 2 problems in the files named above; mend them, nothing was written"):
        prepare("fundus", raw, tmp_path / "out", tell=told.append)
    first, second = (line for line in told if line.startswith("PROBLEM"))
    assert "image_3.jpg: has no mask" in first and "image_10.jpg: cannot be read" in second
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("dics=rim",), "unknown option 'dics': did you mean 'disc'?"),
        (("disc=rmi",), "unknown disc 'rmi': did you mean 'rim'?"),
        (("disc",), "--option disc: must be KEY=VALUE, such as disc=whole"),
        (("disc=",), "--option disc=: must be KEY=VALUE"),
    ],
)
def test_options(raw: Path, refused: Refused, options: tuple[str, ...], line: str) -> None:
    raw_fundus.g1020(raw)
    assert line in refused("fundus", *options)


def test_places(raw: Path, tmp_path: Path, refused: Refused) -> None:
    """No copy, a target that is not empty, one inside the copy, an unknown dataset."""
    raw_fundus.g1020(raw)
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        prepare("fundus", tmp_path / "nowhere", tmp_path / "out")
    with pytest.raises(UserError, match="copy/out: lies inside the raw copy"):
        prepare("fundus", raw, raw / "out")
    with pytest.raises(UserError, match="unknown preparation 'fundsu': did you mean 'fundus'"):
        prepare("fundsu", raw, tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("precious")
    assert "out: is not empty; choose another folder" in refused("fundus")
    with pytest.raises(UserError, match=r"mine\.txt: is not empty"):
        prepare("fundus", raw, tmp_path / "out" / "mine.txt")
    assert (tmp_path / "out" / "mine.txt").read_text() == "precious"


def test_a_full_disk_leaves_nothing(raw: Path, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    raw_fundus.refuge(raw)
    write, calls = pieces.write_atomically, []

    def filling(path: Path, data: Any) -> None:
        calls.append(path)
        if len(calls) == 4:
            data = lambda draft: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left on device"))  # noqa: E731
        write(path, data)

    monkeypatch.setattr(pieces, "write_atomically", filling)
    assert "the disk is full while writing" in refused("fundus")
    assert len(calls) == 4


def test_a_stop_leaves_nothing(raw: Path, tmp_path: Path) -> None:
    """Ctrl-C while files are written."""
    raw_fundus.refuge(raw)
    before = set(tmp_path.rglob("*"))

    def stopping(line: str) -> None:
        if line.startswith("wrote"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("fundus", raw, tmp_path / "out", tell=stopping)
    assert set(tmp_path.rglob("*")) == before


def test_a_kill_leaves_no_root(raw: Path, tmp_path: Path) -> None:
    """What it does leave is a hidden draft, which the next attempt clears away; one of a living process stays."""
    raw_fundus.refuge(raw)
    out = tmp_path / "out"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(raw), str(out)], capture_output=True, timeout=120)
    assert done.returncode == -9, done.stderr
    drafts = [path for path in tmp_path.iterdir() if path.name.startswith(".out.")]
    assert not out.exists() and len(drafts) == 1
    living = tmp_path / f".out.{os.getppid()}.part"
    living.mkdir()
    prepare("fundus", raw, out)
    assert out.is_dir() and not drafts[0].exists() and living.is_dir()


def test_progress_tells_the_time_left(raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line whenever some seconds have passed."""
    raw_fundus.refuge(raw)
    now = iter(range(0, 10_000, 6))
    monkeypatch.setattr(making, "perf_counter", lambda: float(next(now)))
    told: list[str] = []
    prepare("fundus", raw, tmp_path / "out", tell=told.append)
    assert any(re.fullmatch(r"checked [123] of 4 cases, about [1-9][0-9]* s left", line) for line in told)
    assert "checked 4 of 4 cases" in told
