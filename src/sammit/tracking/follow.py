"""A run is followed from a thread of its own: the round loop says that something is new, and goes on.

What is told is read from the run folder, and the place that is told is asked what it has already. So nothing is told
twice, and what a kill or a server that was down left out is told the next time.
"""

from __future__ import annotations

import json
import logging
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Literal

from sammit import plugins
from sammit.files import write_atomically
from sammit.reporting.folder import rounds_so_far
from sammit.reporting.summary import read_summary
from sammit.tracking.base import Tracker
from sammit.tracking.kept import keep
from sammit.tracking.numbers import LAST_OF_ALL, LAST_OF_ROUND, of_round, of_summary

FILE = "tracking.json"
"""In the run folder: tracker -> its address, and what it calls the run."""

PATIENCE = 15.0
"""Seconds that a run which stopped waits for its tracker."""

log = logging.getLogger(__name__)

News = Literal["round", "finished", "stopped"]


@contextmanager
def followed(name: str, address: str, out: Path, pictures: bool) -> Iterator[Callable[[dict[str, Any]], None]]:
    """While the context lasts, a tracker follows the run in a folder.

    Args:
        name: of a tracker; "" for none.
        address: its place; "" for the usual one.
        out: the run folder, there or not yet.
        pictures: whether it may have pictures of cases.

    Yields:
        To be called after each round.

    Raises:
        UserError: no such tracker, or it cannot work here.
    """
    if not name:
        yield lambda row: None
        return
    follower = Follower(name, plugins.load("trackers", name).Tracker(address), out, pictures)
    try:
        yield lambda row: follower.tell("round")
    except BaseException:
        follower.close("stopped")
        raise
    follower.close("finished")


class Follower:
    """One tracker and the thread in which it works."""

    def __init__(self, name: str, tracker: Tracker, out: Path, pictures: bool) -> None:
        """
        Args:
            name: the tracker's.
            tracker: not begun yet.
            out: the run folder.
            pictures: whether it may have pictures of cases.
        """
        self.name, self.tracker, self.out, self.pictures = name, tracker, out, pictures
        self._news: SimpleQueue[News] = SimpleQueue()
        self._known: set[int] | None = None
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def tell(self, news: News) -> None:
        """Something is new in the folder; returns at once."""
        self._news.put(news)

    def close(self, news: News) -> None:
        """The run is over: wait until a finished one is told whole, or a moment for one that stopped."""
        self.tell(news)
        self._thread.join(None if news == "finished" else PATIENCE)

    def _work(self) -> None:
        try:
            while (news := self._news.get()) == "round":
                self._rounds()
            if news == "finished":
                self._rounds()
                self._scores()
            if self._known is not None:  # what never began, an unfit folder perhaps, is nothing to tell of
                self.tracker.end(news == "finished")
        except Exception as error:  # whatever a server or a library makes of it, the run goes on
            self._give_up(error)

    def _give_up(self, error: Exception) -> None:
        """One line, once: the thread has ended, and later news lies unread."""
        text = " ".join(str(error).split()) or type(error).__name__
        log.warning(
            "%s: %s; the run goes on untracked, the same command with --resume tells the rest", self.name, text[:200]
        )

    def _rounds(self) -> None:
        """Tell of every round that is not there yet."""
        if self._known is None:
            self._begin()
            self._known = self.tracker.steps(LAST_OF_ROUND)
        before = 0.0
        for record in rounds_so_far(self.out / "rounds.jsonl"):
            if record.number not in self._known:
                self.tracker.log(record.number, of_round(record), before)
                self._known.add(record.number)
            before += record.seconds or 0.0

    def _begin(self) -> None:
        """Go on with what this run is called there, or begin it and write that down."""
        table = tomllib.loads((self.out / "config.toml").read_text(encoding="utf-8"))
        places = _places(self.out / FILE)
        place = places.get(self.name, {})
        known = place.get("run", "") if place.get("address") == self.tracker.address else ""
        run = self.tracker.begin(f"{table['name']}-seed-{table['seed']}", flat(table), known)
        if run != known:
            places[self.name] = {"address": self.tracker.address, "run": run}
            write_atomically(self.out / FILE, json.dumps(places, indent=2) + "\n")

    def _scores(self) -> None:
        """What is kept of the run, then the final scores, one step after the last round; once."""
        summary = read_summary(self.out / "summary.json")
        if self.tracker.steps(LAST_OF_ALL):
            return
        with tempfile.TemporaryDirectory() as folder:
            keep(self.tracker, self.out, self.pictures, Path(folder))
        self.tracker.log(summary["rounds"], of_summary(summary), summary["seconds"]["total"])


def _places(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def flat(table: dict[str, Any], above: str = "") -> dict[str, str]:
    """Nested tables as dotted key -> value in words."""
    rows: dict[str, str] = {}
    for key, value in table.items():
        rows |= flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": str(value)}
    return rows
