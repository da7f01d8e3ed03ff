"""A site that sends something else than an update: each is refused by name, and the others' round counts."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import tiny
from federation.poison import KINDS, poisoned
from federation.test_leading import answered_by, hospitals, root
from sammit.errors import UserError
from sammit.federation.hospital import Hospital
from sammit.federation.posted import post, read, read_reply
from sammit.vocabulary import Failure, Invitation, Judgement

__all__ = ["root"]


def test_every_kind_is_refused_and_logged(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sites = hospitals(root, tmp_path / "sites")
    answer = poisoned(Hospital.answer)
    monkeypatch.setattr(sites["birch"], "answer", lambda order, reply: answer(sites["birch"], order, reply))
    training = {"rounds": len(KINDS) + 1, "local_steps": 1}
    out = answered_by(sites, tmp_path / "out", "pfedsam", training=training, evaluation=UNJUDGED)
    rows = tiny.rows(out)
    for row, (name, (_, reason)) in zip(rows, KINDS.items(), strict=False):
        assert list(row["loss"]) == ["aster"], name
        assert re.search(reason, row["failed"]["birch"]), (name, row["failed"])
    assert rows[-1]["failed"] == {} and list(rows[-1]["loss"]) == ["aster", "birch"]


def test_what_was_refused_leaves_no_trace(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shared tensors are those of a run in which the site says that it failed."""
    outs = []
    for way in ("poisoned", "failing"):
        sites = hospitals(root, tmp_path / way / "sites")
        answer = sites["birch"].answer

        def wrong(order: Path, reply: Path, way: str = way, answer: Any = answer) -> None:
            poisoned(lambda self, order, reply: answer(order, reply))(None, order, reply)
            if way == "failing" and getattr(read(order), "kind", "") == "train":
                post(Failure("birch", read(order).round, "was ill"), reply)

        monkeypatch.setattr(sites["birch"], "answer", wrong)
        outs.append(answered_by(sites, tmp_path / way / "out", evaluation=UNJUDGED))
    last = [(out / "models" / "last.safetensors").read_bytes() for out in outs]
    assert last[0] == last[1]


UNJUDGED = {"every": 0, "selection": "last"}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (Judgement("birch", 0, "test", {"global": 1.5}), "sent a Dice of 1.5"),
        (Judgement("birch", 0, "test", {"the mayor": 0.5}), "sent a Dice of 'the mayor', which is no model"),
        (Judgement("birch", 3, "test", {"global": 0.5}), "sent scores of the test part in round 3"),
        (Judgement("birch", 0, "val", {"global": 0.5}), "sent scores of the val part"),
        (Judgement("birch", 0, "test", {"global": 0.5}, {"cases": "all"}), "sent an entry that is none of a summary"),
        (Failure("birch", 0, "was ill"), "was ill"),
    ],
)
def test_scores_that_are_none_stop_the_run_by_name(
    root: Path, tmp_path: Path, said: Judgement | Failure, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table cannot be made without them."""
    sites = hospitals(root, tmp_path / "sites")
    answer = sites["birch"].answer

    def wrong(order: Path, reply: Path) -> None:
        answer(order, reply)
        if getattr(read(order), "kind", "") == "score":
            post(said, reply)

    monkeypatch.setattr(sites["birch"], "answer", wrong)
    with pytest.raises(UserError, match=re.escape(f"site 'birch' could not be scored: {reason}")):
        answered_by(sites, tmp_path / "out", training={"rounds": 1}, evaluation=UNJUDGED)


def test_an_invitation_is_no_reply(tmp_path: Path) -> None:
    post(Invitation("birch", "run", {}), tmp_path / "reply")
    assert read_reply(tmp_path / "reply", "birch", 0) == Failure("birch", 0, "answered with Invitation")
