"""The engine's processes of a kit, without its daemon scripts: in the foreground, for a service manager to watch."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import psutil

from sammit.errors import UserError
from sammit.federation.premises import load_premises

MODULES = {
    "fed_server.json": ("nvflare.private.fed.app.server.server_train", "org=coordination"),
    "fed_client.json": ("nvflare.private.fed.app.client.client_train", "uid={site}"),
}


def command(kit: Path) -> list[str]:
    """What starts the party of a kit; raises UserError where the folder is none of a server or a site."""
    for file, (module, who) in MODULES.items():
        if (kit / "startup" / file).is_file():
            settings = ["secure_train=true", "config_folder=config", who.format(site=kit.resolve().name)]
            return [sys.executable, "-m", module, "-m", str(kit.resolve()), "-s", file, "--set", *settings]
    raise UserError(f"{kit}: is no startup kit of a server or a site; give the folder with startup/ in it")


def start(kit: Path, log: Path | None = None, variables: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start it, in a session of its own: Ctrl-C here does not reach it.

    Args:
        kit: the party's.
        log: where what it says goes; to this process's own output where there is none.
        variables: of its environment, beside this process's.
    """
    own = {**os.environ, **(variables or {})}
    if log is None:
        return subprocess.Popen(command(kit), env=own, start_new_session=True)
    with log.open("ab") as said:
        return subprocess.Popen(command(kit), stdout=said, stderr=said, env=own, start_new_session=True)


def family(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all that it started: the engine gives each job a session of its own."""
    try:
        first = psutil.Process(process.pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signalled(members: Iterable[psutil.Process], number: int) -> None:
    """Send a signal to those that still run."""
    for member in members:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.send_signal(number)


def run_server(kit: Path) -> int:
    """Run a server's kit in the foreground; its exit code."""
    return _run(kit, "fed_server.json", "a server's startup kit")


def run_site(kit: Path) -> int:
    """Run a site's kit in the foreground; its exit code.

    Raises:
        UserError: it is none, or its `site.toml` is missing or wrong.
    """
    load_premises(kit)
    return _run(kit, "fed_client.json", "a site's startup kit")


def _run(kit: Path, file: str, what: str) -> int:
    if not (kit / "startup" / file).is_file():
        raise UserError(f"{kit}: is not {what}; give the folder with startup/{file} in it")
    os.umask(0o077)  # whatever the engine and its jobs write is the owner's alone
    process = start(kit)
    members: list[psutil.Process] = []

    def end(number: int, frame: object) -> None:
        members.extend(family(process))
        signalled(members, number)

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, end)
    code = process.wait()
    signalled(members, signal.SIGKILL)  # a job that has not ended by now has nobody to report to
    return code
