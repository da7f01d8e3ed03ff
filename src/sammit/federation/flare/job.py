"""A run as a job of the engine: three files of settings, and no code."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sammit.config import Experiment
from sammit.runs import run_name

POLL = 0.1
"""Seconds between a site's questions for a task."""

TASK, FETCH, ALIVE = "sammit", "sammit.fetch", "sammit.alive"
"""What sites are asked, what they ask, and what they say every `PULSE` seconds."""

PULSE = 2.0

PROGRESS, PAUSE = "sammit.progress", "sammit.pause"
"""What a lead asks a running job."""

RESULTS = "sammit"
"""The folder, in what the engine keeps of a job, that holds the run's results."""

PROBLEM = "problem.json"
"""In that folder: why a job ended without any, and which sites were lost by then."""


@dataclass(frozen=True)
class Limits:
    """What an exchange may take.

    Attributes:
        order: seconds from an order to its reply; a site that takes longer is left out of the round.
        silence: seconds without a sign of life after which a site is lost.
        piece: seconds for a piece of a file.
        reply: bytes of a reply.
        start: seconds for all sites to be there.
    """

    order: int = 86400
    silence: float = 60.0
    piece: float = 120.0
    reply: int = 4 << 30
    start: float = 60.0


@dataclass(frozen=True)
class Job:
    """What is submitted.

    Attributes:
        run: the run's name.
        experiment: the recipe.
        sites: names of all that take part.
        limits: how long and how large.
        resume: go on with the run of this name.
    """

    run: str
    experiment: Experiment
    sites: Sequence[str]
    limits: Limits = Limits()
    resume: bool = False


def write_job(folder: Path, job: Job) -> None:
    """Write a job's folder, for the engine to take; it is made anew."""
    arguments = {
        "run": run_name(job.run),
        "experiment": asdict(job.experiment),
        "sites": list(job.sites),
        "limits": asdict(job.limits),
        "resume": job.resume,
    }
    flare = "sammit.federation.flare"
    files: dict[str, Any] = {
        "meta.json": {
            "name": job.run,
            "resource_spec": {},
            "min_clients": min(job.experiment.training.min_sites, len(job.sites)),
            "deploy_map": {"app": ["server", *job.sites]},
        },
        "app/config/config_fed_server.json": {
            "format_version": 2,
            "server": {"task_request_interval": POLL},
            "workflows": [{"id": "sammit", "path": f"{flare}.controller.SammitController", "args": arguments}],
            "components": [],
        },
        "app/config/config_fed_client.json": {
            "format_version": 2,
            "executors": [{"tasks": [TASK], "executor": {"path": f"{flare}.executor.SammitExecutor", "args": {}}}],
            "components": [],
        },
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=2))
