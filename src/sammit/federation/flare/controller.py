"""The server's half of a job: the round loop, with the engine as its transport.

What a run is lies in a folder of the server's own, outside the engine's: a job that is submitted again for the same
run goes on from its last round.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_context import FLContext
from nvflare.apis.impl.controller import Controller
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

from sammit.errors import UserError
from sammit.federation.flare.job import PAUSE, PROBLEM, PROGRESS, RESULTS, Limits
from sammit.federation.flare.transport import FlareTransport, waited_for
from sammit.federation.leading import lead
from sammit.files import write_atomically
from sammit.recipe import experiment_from
from sammit.runs import run_name
from sammit.toml import build

log = logging.getLogger(__name__)


class PausedError(Exception):
    """The job ends after a round; another one goes on with the run."""


class SammitController(Controller):
    """Leads one run, or a part of one."""

    def __init__(
        self, run: str, experiment: dict[str, Any], sites: list[str], limits: dict[str, Any], resume: bool
    ) -> None:
        """
        Args:
            run: the run's name, that of its folder in the kit's `runs`.
            experiment: the recipe's tables.
            sites: names of all that take part.
            limits: fields of `job.Limits`.
            resume: go on with the run of this name.
        """
        super().__init__(task_check_period=0.05)
        self.run, self.sites, self.resume = run_name(run), tuple(sites), resume
        self.experiment, self.limits = experiment_from(experiment), build(Limits, limits, "limits")
        self._rows: list[dict[str, Any]] = []
        self._transport: FlareTransport | None = None
        self._paused = False

    def start_controller(self, fl_ctx: FLContext) -> None:
        """Nothing before the flow."""

    def stop_controller(self, fl_ctx: FLContext) -> None:
        """Nothing after it."""

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """A reply that came too late is left."""

    def control_flow(self, abort_signal: Signal, fl_ctx: FLContext) -> None:
        """The run, to its end or to a pause; what a person must mend ends the job with its text."""
        engine = fl_ctx.get_engine()
        engine.register_app_command(PROGRESS, self._progress)
        engine.register_app_command(PAUSE, self._pause)
        workspace = engine.get_workspace()
        runs = Path(workspace.root_dir) / "runs"
        results = Path(workspace.get_run_dir(fl_ctx.get_job_id())) / RESULTS
        try:
            here = lambda: [client.name for client in engine.get_clients()]  # noqa: E731
            lacking = waited_for(self.sites, here, self.limits.start, abort_signal)
            if lacking:
                raise UserError(f"site '{lacking[0]}' is not there; start it: sammit site start KIT")
            mail = runs / f".{self.run}.mail"
            self._transport = FlareTransport(self, fl_ctx, abort_signal, mail, self.limits)
            arguments = (self.experiment, self.sites, self._transport, self._told, self.resume)
            self._leave(lead(runs / self.run, *arguments).path, results)
        except PausedError:
            log.info("paused after a round; submit the run again with --resume to go on")
        except UserError as error:
            log.error("%s", error)
            write_atomically(results / PROBLEM, json.dumps({"problem": str(error), "lost": self._lost()}))
            self.system_panic(str(error), fl_ctx)

    def _told(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if self._paused and row["round"] + 1 < self.experiment.training.rounds:
            raise PausedError

    def _progress(self, topic: str, asked: Any, fl_ctx: FLContext, *_: Any) -> dict[str, Any]:
        """For the lead: the rows of the log after those already seen, and the sites that are lost."""
        seen = int(asked.get("seen", 0)) if isinstance(asked, dict) else 0
        return {"rows": self._rows[seen:], "rounds": self.experiment.training.rounds, "lost": self._lost()}

    def _lost(self) -> list[str]:
        return self._transport.lives.lost() if self._transport else []

    def _pause(self, topic: str, asked: Any, fl_ctx: FLContext, *_: Any) -> dict[str, Any]:
        """For the lead: end the job after the round that is under way."""
        self._paused = True
        return {"paused": True}

    def _leave(self, folder: Path, results: Path) -> None:
        """Put the run where the engine keeps what a lead may fetch."""
        for path in folder.rglob("*"):
            inside = path.relative_to(folder)
            if path.is_file() and inside.parts[0] not in ("checkpoint", ".lock"):
                write_atomically(results / inside, path.read_bytes())
