"""A federation of real processes on loopback, with certificates of its own."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny
from sammit.config import Experiment
from sammit.federation.flare import admin
from sammit.federation.flare.job import Job, Limits
from sammit.federation.flare.kit import Project, kits_of, provision, write_project
from sammit.federation.flare.rehearsal import Party
from sammit.federation.premises import write_premises

CONTROL = Path(__file__).with_name("control")
TESTS = Path(__file__).parents[2]
LEAD, MEMBER = "lead@coordination.org", "member@coordination.org"
SITES = tuple(tiny.LOOKS)


def free_port() -> int:
    """One that nobody listens on."""
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return int(found.getsockname()[1])


class Federation:
    """Kits, data and processes, below one folder."""

    def __init__(self, folder: Path, make_data: Callable[[Path], None] = tiny.make_sites) -> None:
        """Make everything; nothing runs yet."""
        self.folder, self.data = folder, folder / "sites"
        make_data(self.data)
        write_project(folder, Project("trial", "localhost", SITES, free_port(), LEAD, (MEMBER,)))
        provision(folder / "project.yml", folder / "kits")
        self.kits = kits_of(folder)
        for site in SITES:
            shutil.copy(self.data / "dataset.toml", self.data / site)
            write_premises(self.kits / site, self.data / site, self.home(site), "cpu")
            told = (self.kits / site / "site.toml").read_text()
            (self.kits / site / "site.toml").write_text(told.replace("min_patients = 5", "min_patients = 0"))
        self.party = Party(self.kits, folder / "logs")
        self.since: dict[str, float] = {}

    def home(self, site: str) -> Path:
        """A site's private folder."""
        return self.folder / "homes" / site

    def start(self, name: str, **control: str) -> None:
        """Start a process; `control` are the variables of `control/sitecustomize.py`."""
        path = f"{CONTROL}{os.pathsep}{TESTS}" if control else str(TESTS)
        inherited = os.environ.get("PYTHONPATH")
        paths = os.pathsep.join(filter(None, (path, inherited)))
        self.since[name] = time.time()
        self.party.start(name, {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **control})

    def start_all(self) -> None:
        """The server and every site."""
        for name in ("localhost", *SITES):
            self.start(name)

    def restart(self, name: str, **control: str) -> None:
        """End one as a power cut would, and start it again."""
        self.party.kill(name)
        self.start(name, **control)

    def carry_out(self, job: Job) -> tuple[str, list[dict[str, Any]]]:
        """Submit a run once all sites are there, and follow it: what was wrong, and the rows that were told."""
        rows: list[dict[str, Any]] = []
        with self.session() as session:
            self.wait_for_sites(session)
            return admin.carried(session, job, rows.append, every=0.5), rows

    def session(self, user: str = LEAD, seconds: float = 60) -> Any:
        """A connection in a user's name, once the server is up."""
        return admin.lead_session(self.kits / user, seconds)

    def wait_for_sites(self, session: Any, seconds: float = 60) -> None:
        """Until every site is connected, and not as it was before it was started last."""
        end = time.monotonic() + seconds
        while True:
            info = session.get_system_info().client_info
            here = {one.name for one in info if one.last_connect_time > self.since[one.name] + 1}
            if here == set(SITES):
                return
            assert time.monotonic() < end, f"only {here} came"
            time.sleep(0.2)

    def run_folder(self, run: str) -> Path:
        """A run's folder at the server."""
        return self.kits / "localhost" / "runs" / run

    def site_folder(self, site: str, run: str) -> Path:
        """A run's folder at a site."""
        import json

        name = json.loads((self.run_folder(run) / "run.json").read_text())["run"]
        return self.home(site) / "runs" / str(name)


def job(run: str, what: Experiment, **more: Any) -> Job:
    """A job that finds out soon that a site is lost."""
    return Job(run, what, SITES, Limits(silence=6.0, start=60.0), **more)
