"""What a site would send for a recipe: the first round of a run with this site alone, and its end, against no server.

It is the site's own code that answers, on its own images, so what is written down is what would leave, byte for byte
in the first round of a real run, but for what a method makes of the other sites' surveys, and for the site's noise,
which is drawn anew each time. The site's hours do not matter here.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.by_file import ByFile
from sammit.federation.consent import Asked, beside
from sammit.federation.hospital import Hospital
from sammit.federation.leading import checked, gathered, rounds_of
from sammit.federation.messages import describe
from sammit.federation.posted import read
from sammit.federation.premises import Premises
from sammit.federation.rounds import Progress
from sammit.files import write_atomically
from sammit.vocabulary import AnyState


class _Overheard:
    """A hospital whose replies are kept."""

    def __init__(self, hospital: Hospital, out: Path) -> None:
        self.hospital, self.out = hospital, out
        self.rows: list[dict[str, Any]] = []

    def answer(self, order: Path, reply: Path) -> None:
        """The hospital's answer, and a copy of it with what is in it."""
        self.hospital.answer(order, reply)
        asked, said = read(order), read(reply)
        kind = getattr(asked, "kind", "invitation")
        file = f"{len(self.rows) + 1:02d}-{kind}.safetensors"
        write_atomically(self.out / file, reply.read_bytes())
        self.rows.append({"file": file, "answers": kind, "is": type(said).__name__, **describe(said)})


def leaves(experiment: Experiment, name: str, premises: Premises) -> tuple[AnyState, list[Asked]]:
    """What would leave a site each round, found without training: every shared tensor, and all that goes beside them.

    Args:
        experiment: the recipe.
        name, premises: the site's; its home is left alone.

    Returns:
        Empty tensors of the shapes and types that the site sends, by name, and everything else.

    Raises:
        UserError: the site would not take part: why.
    """
    with tempfile.TemporaryDirectory() as folder:
        site = _Overheard(_stranger(name, premises, folder), Path(folder) / "out")
        led = gathered(_alone(experiment, name), "preview", (name,), ByFile({name: site}, Path(folder) / "mail"))
        survey = read(Path(folder) / "out" / site.rows[0]["file"]).tensors
        extras = led.method.orders(led.server, name)[1]
        sent = led.method.aggregator.cut(led.template, name)
        return sent, list(beside(led.method, led.template, survey, extras))


def preview(experiment: Experiment, name: str, premises: Premises, out: Path) -> list[dict[str, Any]]:
    """Write every message that the site would send into a folder, and `egress.json`, which says what is in each.

    Args:
        experiment: the recipe.
        name, premises: the site's; its home is left alone.
        out: an empty or missing folder.

    Returns:
        What `egress.json` holds: for each message its file, what it answers, its bytes, and by name the shape, type
        and bytes of each tensor and every number beside them.

    Raises:
        UserError: the folder is not empty, or the site would not take part: why.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out}: is not empty; choose another --out")
    with tempfile.TemporaryDirectory() as folder:
        site = _Overheard(_stranger(name, premises, folder), out)
        transport = ByFile({name: site}, Path(folder) / "mail")
        led = gathered(_alone(experiment, name), "preview", (name,), transport)
        rounds = rounds_of(led, Path(folder) / "server", transport, _nothing, _nothing)
        rounds.finish(rounds.run(Progress(led.server), until=1))
    write_atomically(out / "egress.json", json.dumps(site.rows, indent=2))
    return site.rows


def _alone(experiment: Experiment, name: str) -> Experiment:
    """The experiment with one site, which trains."""
    evaluation = replace(experiment.evaluation, unseen=())
    return checked(replace(experiment, evaluation=evaluation), (name,))


def _stranger(name: str, premises: Premises, home: str) -> Hospital:
    """The site with another home, at any hour."""
    return Hospital(name, replace(premises, home=home, cache=_cache(premises)), clock=None)


def _nothing(of: object) -> None:
    """Neither saved nor told."""


def _cache(premises: Premises) -> str:
    return premises.cache or str(Path(premises.home) / "cache")
