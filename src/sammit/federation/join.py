"""A new hospital joins a finished run: a few labelled cases train what it keeps, what is shared stays as it is.

Compared on its test patients: the shared part alone; the shared part with the mean of what the source sites keep, where
the run folder has it; and its own part, trained on ever more labelled cases, each time from the same start and for the
same number of steps. Validation patients pick nothing.
"""

from __future__ import annotations

import os
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from sammit import runs
from sammit.data.site import Site
from sammit.errors import UserError
from sammit.federation.memory import PrivateMemory
from sammit.federation.newcomer import Newcomer
from sammit.federation.scoring import SiteScores
from sammit.federation.worker import Worker
from sammit.files import sha256_of_file
from sammit.learning.evaluate import Scorer
from sammit.methods.base import Which
from sammit.methods.state import mean_of, select, with_prefix
from sammit.randomness import key_to_seed
from sammit.reporting.joining import Joined, JoinFacts, summarise_join
from sammit.runs import RunFolder, write_state
from sammit.vocabulary import Case, Order, State

Start = Literal["untrained", "mean"]
"""What the new site's own part starts from: as it was before the run, or the mean of the source sites'."""

COUNTS = (1, 5)
"""Labelled cases to be tried before all of them, where nobody says how many."""


def join(
    newcomer: Newcomer,
    out: Path,
    tell: Callable[[Joined], None],
    counts: Sequence[int] | None = None,
    start: Start = "untrained",
) -> Path:
    """Train, score and write a folder like a run's, whole or not at all.

    Args:
        newcomer: from `open_newcomer`.
        out: the folder, empty or missing.
        tell: is called with each model once it is scored.
        counts: labelled training cases to try beside all of them; None: `COUNTS`, where there are more.
        start: what each personalisation starts from.

    Returns:
        `out`.

    Raises:
        UserError: a used folder, a method that keeps nothing at a site, more cases than there are, a start that the run
            folder does not have.
    """
    runs.refuse_used(out)
    labelled = in_turn(newcomer.site, newcomer.experiment.seed)
    counts = _checked(newcomer, counts, len(labelled))
    joining = _Joining(newcomer, tell)
    private = _started(newcomer, start)
    joining.judge("global", "global", {})
    if newcomer.experts:
        joining.judge("experts", "personal", mean_of(newcomer.experts.values()))
    for count in [*counts, len(labelled)]:
        joining.personalise(labelled[:count], private, f"cases-{'all' if count == len(labelled) else count}")
    with _whole(out) as folder:
        _write(folder, newcomer, joining, start)
    return out


def in_turn(site: Site, seed: int) -> list[Case]:
    """The labelled training cases in the order in which they are taken: any first few are part of the first few more.

    Patients are ranked by a keyed hash, their cases too; one case of each patient comes before a second of any.
    """
    labelled = {unit.case.name for unit in site.units()}
    ranked: list[tuple[int, int, Case]] = []
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in site.cases("train"):
        if case.name in labelled:
            by_patient[case.patient].append(case)
    for patient, cases in by_patient.items():
        cases.sort(key=lambda case: key_to_seed("join", seed, site.name, case.patient, case.name))
        rank = key_to_seed("join", seed, site.name, patient)
        ranked += [(turn, rank, case) for turn, case in enumerate(cases)]
    return [case for _, _, case in sorted(ranked, key=lambda one: one[:2])]


def _checked(newcomer: Newcomer, counts: Sequence[int] | None, total: int) -> list[int]:
    """The numbers of cases below all of them, in order."""
    for count in counts or ():
        if not 1 <= count <= total:
            raise UserError(
                f"--cases {count}: '{newcomer.site.name}' has {total} labelled training cases; choose from 1 to {total}"
            )
    return sorted({count for count in (COUNTS if counts is None else counts) if count < total})


def _started(newcomer: Newcomer, start: Start) -> State:
    """The private state from which every personalisation starts."""
    if start == "untrained":
        return {}
    own = newcomer.method.personal_names(newcomer.backbone.live)
    if not newcomer.experts or not own:
        raise UserError(
            f"--start mean: {newcomer.run.path} has no personal tensors of its sites; use --start untrained"
        )
    return with_prefix("personal", select(mean_of(newcomer.experts.values()), set(own).__contains__))


class _Joining:
    """The new site's models, one after the other in the one model in memory.

    Attributes:
        scores: of all of them on the site's test cases.
        joined: what is told of each, in the order in which they were judged.
        own: label -> what makes the shared model the site's own.
    """

    def __init__(self, newcomer: Newcomer, tell: Callable[[Joined], None]) -> None:
        e = newcomer.experiment
        self.newcomer, self.tell = newcomer, tell
        self.scores = SiteScores(newcomer.site, Scorer(e.evaluation, newcomer.site.view, e.training.device))
        self.joined: list[Joined] = []
        self.own: dict[str, State] = {}

    def judge(
        self,
        label: str,
        which: Which,
        personal: State,
        cases: Sequence[Case] = (),
        log: Mapping[str, float] | None = None,
    ) -> None:
        """Score one model on every test case."""
        model = self._worker(self.newcomer.site).as_model(which, self.newcomer.shared, personal)
        before = len(self.scores.rows)
        self.scores.add(label, model, "test")
        patients = len({case.patient for case in cases})
        self.joined.append(Joined(label, len(cases), patients, self.scores.rows[before:], log or {}))
        self.tell(self.joined[-1])

    def personalise(self, cases: Sequence[Case], private: State, label: str) -> None:
        """Train the site's own part on some of its labelled cases, and score it."""
        site = self.newcomer.site.only(case.name for case in cases)
        last = self.newcomer.experiment.training.rounds - 1  # weights that change over the rounds are as at their end
        order = Order("finish", site.name, last, self.newcomer.shared)
        try:
            self.own[label], log = self._worker(site).join(order, private)
        except UserError as error:
            raise UserError(f"{self.newcomer.run.path}: {error}") from None
        self.judge(label, "personal", self.own[label], cases, log)

    def _worker(self, site: Site) -> Worker:
        n = self.newcomer
        return Worker(site, site.view, n.method, n.backbone, PrivateMemory(Path(os.devnull)), n.experiment)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A draft of a folder that takes its name once it is whole."""
    draft = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        draft.mkdir(parents=True)
        yield draft
        draft.replace(out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write(path: Path, newcomer: Newcomer, joining: _Joining, start: Start) -> None:
    """The folder: what `sammit predict` needs, a model for each number of cases, every score."""
    n, site = newcomer, newcomer.site
    folder = RunFolder.create(path, n.experiment)
    write_state(path / "models" / "global.safetensors", n.shared, {"round": n.round, "base": n.base})
    names = {label: site.name if label == "cases-all" else f"{site.name}-{label}" for label in joining.own}
    for label, personal in joining.own.items():
        write_state(path / "models" / "sites" / f"{names[label]}.safetensors", personal, {"base": n.base})
    joining.scores.write(path)
    folder.write_json("sites.json", {name: site.reading() for name in (site.name, *names.values())})
    folder.write_json("splits.json", {site.name: dict(site.parts)})
    folder.write_json("environment.json", runs.environment(n.experiment) | _origin(n))
    folder.write_json("join.json", summarise_join(joining.joined, _facts(n, start)))


def _origin(newcomer: Newcomer) -> dict[str, Any]:
    """Which run the site joined, and what its data was."""
    run = newcomer.run.path
    files = ("config.toml", "models/global.safetensors")
    notes = [*newcomer.method.notes(), *newcomer.method.aggregator.notes()]
    return {
        "run": {"name": run.resolve().name, **{name: sha256_of_file(run / name) for name in files}},
        "data": {newcomer.site.name: newcomer.site.fingerprint()},
        "base_weights": newcomer.base,
        "notes": notes,
    }


def _facts(newcomer: Newcomer, start: Start) -> JoinFacts:
    e = newcomer.experiment
    return JoinFacts(
        newcomer.site.name,
        newcomer.run.path.resolve().name,
        e.method.name,
        e.model.name,
        e.evaluation.protocol,
        e.seed,
        e.training.local_steps,
        start,
        tuple(newcomer.experts),
    )
