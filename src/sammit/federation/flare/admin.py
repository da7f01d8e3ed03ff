"""The lead's end: submit a run, see how far it is, stop it, fetch what it came to."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import shutil
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nvflare.fuel.flare_api.api_spec import (
    AuthorizationError,
    CommandError,
    InternalError,
    JobNotFound,
    JobNotRunning,
    NoConnection,
    NoReply,
    SessionClosed,
)
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

from sammit.errors import UserError
from sammit.federation.flare.job import PAUSE, PROBLEM, PROGRESS, RESULTS, Job, write_job
from sammit.federation.flare.kit import lead_kit

Tell = Callable[[dict[str, Any]], None]


@contextlib.contextmanager
def lead_session(kit: Path, seconds: float = 20.0) -> Iterator[Session]:
    """A connection to the server in the name of a kit's owner.

    Args:
        kit: the lead's startup kit, or the federation's folder.
        seconds: how long to try.

    Raises:
        UserError: the folder is no such kit, or the server cannot be reached or does not accept it.
    """
    kit = lead_kit(kit)
    logging.getLogger("nvflare").setLevel(logging.CRITICAL)  # what it complains of comes back as an exception
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the engine talks
            session = new_secure_session(kit.resolve().name, str(kit.resolve()), timeout=seconds)
    except (NoConnection, ConnectionError, TimeoutError) as error:
        raise UserError(
            f"the server cannot be reached with {kit}: start it, or check host and port ({error})"
        ) from None
    session.set_timeout(60.0)  # the server may be busy with a round
    try:
        yield session
    except (ConnectionError, SessionClosed) as error:
        raise UserError(f"the connection to the server ended ({error}); runs go on: sammit deploy status") from None
    finally:
        session.close()


def connected(session: Session) -> list[str]:
    """Names of the sites that are connected."""
    return sorted(client.name for client in session.get_system_info().client_info)


def await_sites(session: Session, wanted: Sequence[str], seconds: float = 60.0) -> list[str]:
    """Those that are to take part, once they are connected; all that are where none is named.

    Raises:
        UserError: one is not connected within `seconds`.
    """
    end = time.monotonic() + seconds
    while True:
        here = connected(session)
        lacking = [site for site in wanted if site not in here]
        if here and not lacking:
            return list(wanted) or here
        if time.monotonic() > end:
            who = f"site '{lacking[0]}'" if lacking else "no site"
            raise UserError(f"{who} is {'not ' if lacking else ''}connected; start it: sammit site start KIT")
        time.sleep(0.5)


def submit(session: Session, job: Job) -> str:
    """Give a run to the server; the id of its job.

    Raises:
        UserError: there is a run of this name, which is not to be gone on with, or one that is not over.
    """
    if not job.resume and any(row["run"] == job.run for row in runs(session)):
        raise UserError(
            f"{job.run}: there is a run of this name; add --resume to go on with it, or choose another --run"
        )
    with tempfile.TemporaryDirectory() as folder:
        write_job(Path(folder) / "job", job)
        try:
            return str(session.submit_job(str(Path(folder) / "job")))
        except AuthorizationError:
            raise UserError(f"{job.run}: this kit may not submit; use the kit of the lead") from None


def job_of(session: Session, run: str) -> str:
    """The last job of a run; raises UserError where there is none."""
    jobs = [job for job in session.list_jobs(name_prefix=run) if job.get("job_name") == run]
    if not jobs:
        raise UserError(f"{run}: the server has no such run; `sammit deploy status` lists them")
    return str(max(jobs, key=lambda job: str(job.get("submit_time")))["job_id"])


def runs(session: Session) -> list[dict[str, str]]:
    """Name, state and time of every job, the last first."""
    return [
        {"run": str(job["job_name"]), "state": str(job["status"]), "submitted": str(job["submit_time"])}
        for job in session.list_jobs(reverse=True)
    ]


def carried(session: Session, job: Job, tell: Tell, every: float = 2.0) -> str:
    """Submit a run and follow it to its end, through as many jobs as it takes.

    A site that was lost and is connected again cannot join a job that runs: the job is paused after its round, and
    another one goes on with the run and all its sites.

    Args:
        session: the lead's.
        job: the run.
        tell: is called with each finished row of the log.
        every: seconds between looks.

    Returns:
        Why the run did not come to its end; empty where it did.
    """
    while True:
        paused = _followed(session, submit(session, job), tell, every)
        if not paused:
            problem, lost = _outcome(session, job.run)
            if not lost & set(connected(session)):
                return problem
        job = replace(job, resume=True)


def _followed(session: Session, job: str, tell: Tell, every: float) -> bool:
    """Wait for a job, telling each finished row of its log; whether it was paused before the run's end."""
    seen, paused = 0, False
    while True:
        state = _state(session, job)
        progress = _asked(session, job, PROGRESS, {"seen": seen}) if state == "RUNNING" else {}
        for row in progress.get("rows", ()):
            seen += 1
            tell(row)
        lost = set(progress.get("lost", ()))
        if lost and not paused and lost & set(connected(session)):
            paused = bool(_asked(session, job, PAUSE, {}).get("paused"))
        if state.startswith("FINISHED"):
            return paused
        time.sleep(every)


def _state(session: Session, job: str, tries: int = 5) -> str:
    """How far a job is; one answer that comes too late is not the end of the connection."""
    for _ in range(tries - 1):
        with contextlib.suppress(ConnectionError):
            return str(session.get_job_meta(job)["status"])
        time.sleep(1)
    return str(session.get_job_meta(job)["status"])


def _asked(session: Session, job: str, topic: str, what: dict[str, Any]) -> dict[str, Any]:
    """A running job's answer; empty while it is starting or ending."""
    try:
        answer = session.do_app_command(job, topic, what)
    except AuthorizationError:
        raise UserError(f"{job}: is another lead's run; follow it with the kit it was submitted with") from None
    except (CommandError, ConnectionError, InternalError, JobNotFound, JobNotRunning, NoReply):
        return {}
    return answer if isinstance(answer, dict) else {}


def stop(session: Session, run: str) -> None:
    """End a run; what it has done so far is kept, and the same name goes on with it."""
    session.abort_job(job_of(session, run))


def fetch(session: Session, run: str, out: Path) -> None:
    """Copy a run's results to `out`; raises UserError where it is not empty, or the run is not over."""
    if out.exists() and any(out.iterdir()):
        raise UserError(f"{out}: is not empty; choose another --out")
    with _results(session, run) as found:
        if found is None or not (found / "summary.json").is_file():
            raise UserError(f"{run}: has no results yet; `sammit deploy status` says how far it is")
        shutil.copytree(found, out, dirs_exist_ok=True)


def _outcome(session: Session, run: str) -> tuple[str, set[str]]:
    """Why the last job of a run ended without results, empty where it has some; and which sites were lost.

    How the engine says that it ended does not count: a job that went on without a lost site is abnormal to it.
    """
    with _results(session, run) as found:
        if found and (found / "summary.json").is_file():
            return "", set()
        if found and (found / PROBLEM).is_file():
            told = json.loads((found / PROBLEM).read_text(encoding="utf-8"))
            return str(told["problem"]), set(told["lost"])
    return "ended without a word; `sammit deploy logs` says more", set()


@contextlib.contextmanager
def _results(session: Session, run: str) -> Iterator[Path | None]:
    """What the last job of a run left for its lead, in a folder of the moment; None where there is nothing."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(session.download_job_result(job_of(session, run), folder))
        for archive in place.rglob("*.zip"):
            with zipfile.ZipFile(archive) as opened:
                opened.extractall(archive.parent)
        yield next((path for path in place.rglob(RESULTS) if path.is_dir()), None)


def logs(session: Session, run: str) -> str:
    """What the server said in the last job of a run."""
    answer = session.get_job_logs(job_of(session, run))
    return "\n".join(str(text) for text in answer.get("logs", {}).values())
