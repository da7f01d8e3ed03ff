"""A server and all its sites on one machine, each a process of its own with its own kit, as if they were far apart."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sammit.errors import UserError
from sammit.federation.flare.processes import family, signalled, start
from sammit.federation.premises import write_premises
from sammit.policy import POLICY_FILE


class Party:
    """The processes; those that still run are ended with the context."""

    def __init__(self, kits: Path, logs: Path) -> None:
        """
        Args:
            kits: the folder of startup kits.
            logs: a folder for what each process says.
        """
        self.kits, self.logs = kits, logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Party:
        self.logs.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *problem: object) -> None:
        members = {name: family(process) for name, process in self.processes.items()}
        for name in members:
            signalled(members[name], signal.SIGTERM)
        for name, process in self.processes.items():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            signalled(members[name], signal.SIGKILL)
            process.wait()

    def start(self, name: str, variables: Mapping[str, str] | None = None) -> None:
        """Start the one whose kit has this name, with some variables in its environment."""
        self.processes[name] = start(self.kits / name, self.logs / f"{name}.log", variables)

    def kill(self, name: str) -> None:
        """End one of them and all that it started, as a power cut would."""
        signalled(family(self.processes[name]), signal.SIGKILL)
        self.processes.pop(name).wait()

    def wait(self) -> tuple[str, int]:
        """Name and exit code of the first that ends."""
        while True:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    return name, process.returncode
            time.sleep(0.5)


def parties(kits: Path, file: str) -> list[str]:
    """Names of the kits that have a file in `startup`."""
    return sorted(path.parent.parent.name for path in kits.glob(f"*/startup/{file}"))


@contextlib.contextmanager
def rehearse(kits: Path, data: Path, homes: Path, device: str) -> Iterator[Party]:
    """The server and every site of a federation, running; a site without settings gets some.

    Args:
        kits: the folder of startup kits.
        data: has a folder of images for each site, of its name.
        homes: where the sites' private state goes, a folder each, with what each process says.
        device: where sites train.

    Raises:
        UserError: a site has no folder of images.
    """
    sites = parties(kits, "fed_client.json")
    for name in sites:
        if not (data / name).is_dir():
            raise UserError(f"{data / name}: there is no such folder; --data has one for each of {', '.join(sites)}")
    for name in sites:
        if not (kits / name / POLICY_FILE).exists():
            write_premises(kits / name, data, homes / "homes" / name, device)
    with Party(kits, homes / "logs") as party:
        for name in (*parties(kits, "fed_server.json"), *sites):
            party.start(name)
        yield party
