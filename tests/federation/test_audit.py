"""The audit log: what is added is there, what is changed is seen."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sammit.errors import UserError
from sammit.federation.audit import Audit, check


def written(path: Path, lines: int = 5) -> Path:
    audit = Audit(path)
    for index in range(lines):
        audit.note("sent", run="r", round=index, bytes=100 + index)
    return path


def test_lines_follow_one_another_also_after_a_restart(tmp_path: Path) -> None:
    path = written(written(tmp_path / "audit.jsonl", 3), 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["line"] for line in lines] == [0, 1, 2, 3, 4]
    assert check(path) == (5, lines[-1]["chain"])
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert check(tmp_path / "none") == (0, "0" * 64)


@given(line=st.integers(0, 3), what=st.sampled_from(["change", "remove", "swap", "double"]))
def test_whatever_is_changed_before_the_last_line_is_seen(
    tmp_path_factory: pytest.TempPathFactory, line: int, what: str
) -> None:
    path = written(tmp_path_factory.mktemp("audit") / "audit.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    if what == "change":
        lines[line] = lines[line].replace('"round": ', '"round": 1')
    elif what == "remove":
        del lines[line]
    elif what == "swap":
        lines[line], lines[line + 1] = lines[line + 1], lines[line]
    else:
        lines.insert(line, lines[line])
    path.write_text("".join(lines))
    for look in (check, Audit):
        with pytest.raises(UserError, match=r"line \d .*has been changed"):
            look(path)


def test_a_line_that_is_cut_short_or_is_none(tmp_path: Path) -> None:
    path = written(tmp_path / "audit.jsonl")
    whole = path.read_bytes()
    os.truncate(path, len(whole) - 7)
    with pytest.raises(UserError, match="line 5 is cut short"):
        check(path)
    path.write_bytes(whole + b"[]\n")
    with pytest.raises(UserError, match="line 6 is no line of an audit log"):
        check(path)
