"""MLflow: a server, or a folder (file:/PATH); its address is --track-to or MLFLOW_TRACKING_URI."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from sammit.errors import UserError
from sammit.tracking.names import allowed

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

EXPERIMENT = "sammit"

LONGEST = 6000  # letters of a parameter that are taken
TOGETHER = 100  # parameters, and at most ten times as many numbers, in one request

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""How addresses of databases begin."""

SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would tell its makers how it is used
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",  # the run goes on meanwhile, but its end waits
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ALLOW_FILE_STORE": "true",  # a folder that the user named
}


class Tracker:
    """As `base.Tracker` has it."""

    def __init__(self, address: str) -> None:
        """See `base.Tracker`; a run goes where the address says."""
        if not find_spec("mlflow"):
            raise UserError('--track mlflow: is not installed; install it: pip install "sammit[track]"')
        self._uri = address or os.environ.get("MLFLOW_TRACKING_URI", "")
        if not self._uri:
            raise UserError(
                "--track mlflow: no place is named; set MLFLOW_TRACKING_URI or --track-to, such as "
                "http://127.0.0.1:5000, or file:/PATH for a folder"
            )
        self.address = _without_password(self._uri)
        if self._uri.startswith(DATABASES) and not (find_spec("sqlalchemy") and find_spec("alembic")):
            raise UserError(
                f"--track mlflow: {self.address} is a database, which the small package of the extra cannot write; "
                "pip install mlflow, or name a server or a folder (file:/PATH)"
            )

    def begin(self, name: str, recipe: Mapping[str, str], known: str) -> str:
        """A run of the experiment "sammit"; MLFLOW_EXPERIMENT_NAME names another."""
        self._client = _client(self.address if self.address.startswith("http") else self._uri)
        if known:
            self._run = known
            self._client.update_run(known, status="RUNNING")
        else:
            experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
            found = self._client.get_experiment_by_name(experiment)
            place = found.experiment_id if found else self._client.create_experiment(experiment)
            self._run = str(self._client.create_run(place, run_name=name).info.run_id)
        self._recipe(recipe)
        self._start = self._client.get_run(self._run).info.start_time
        return self._run

    def _recipe(self, recipe: Mapping[str, str]) -> None:
        from mlflow.entities import Param

        there = self._client.get_run(self._run).data.params
        lacking = [Param(allowed(key), value[:LONGEST]) for key, value in recipe.items() if allowed(key) not in there]
        for start in range(0, len(lacking), TOGETHER):
            self._client.log_batch(self._run, params=lacking[start : start + TOGETHER])

    def steps(self, name: str) -> set[int]:
        """As the store has them now."""
        return {one.step for one in self._client.get_metric_history(self._run, name)}

    def log(self, step: int, numbers: Mapping[str, float], seconds: float) -> None:
        """Each number with the time of training before it: told twice, it is the same point."""
        from mlflow.entities import Metric

        when = self._start + round(1000 * seconds)
        points = [Metric(allowed(name), value, when, step) for name, value in numbers.items()]
        for start in range(0, len(points), 10 * TOGETHER):
            self._client.log_batch(self._run, metrics=points[start : start + 10 * TOGETHER])

    def picture(self, name: str, path: Path) -> None:
        """An artifact like others; MLflow shows PNG."""
        self._client.log_artifact(self._run, str(path), str(Path(name).parent).removeprefix("."))

    def file(self, path: Path, folder: str) -> None:
        """An artifact of the run."""
        self._client.log_artifact(self._run, str(path), folder or None)

    def end(self, finished: bool) -> None:
        """MLflow calls a stopped run killed."""
        self._client.set_terminated(self._run, "FINISHED" if finished else "KILLED")


def _without_password(uri: str) -> str:
    """The address as it may stand in a file or a message; a server's password goes where MLflow looks for one."""
    parts = urlsplit(uri)
    if not parts.username:
        return uri
    if parts.scheme.startswith("http"):
        os.environ["MLFLOW_TRACKING_USERNAME"] = parts.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = parts.password or ""
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _client(uri: str) -> MlflowClient:
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import logging
    import warnings

    for library in ("mlflow", "urllib3"):  # of retries and of settings; what fails is said once, by Sammit
        logging.getLogger(library).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own libraries, at import
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=uri)
