"""Whether a site could take part today: certificate, server, data, disk; each a line that says what to mend."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from cryptography import x509

from sammit.config import DataConfig
from sammit.data.check import check as look
from sammit.errors import UserError
from sammit.federation.premises import Premises, load_premises

SOON = 30
"""Days before a certificate's end from which on it is spoken of."""

PROXIES = ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "grpc_proxy", "no_proxy", "NO_PROXY")


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: its name.
        good: whether it lets the site take part.
        text: how it stands, and the mend where it does not.
    """

    what: str
    good: bool
    text: str


def check_site(kit: Path, stride: int = 4) -> Iterator[Finding]:
    """Everything about a kit and its site, one finding after another.

    Args:
        kit: the site's startup kit.
        stride: input pixels per logit pixel of the model that is meant, for the data's ceiling.

    Raises:
        UserError: the kit has no `site.toml`, or one that cannot be read.
    """
    premises = load_premises(kit)
    looks: list[tuple[str, Callable[[], str]]] = [
        ("certificate", lambda: certificate(kit / "startup" / "client.crt")),
        ("server", lambda: server(kit / "startup")),
        ("data", lambda: data(premises, stride)),
        ("disk", lambda: disk(Path(premises.home))),
        ("memory", memory),
    ]
    for what, check in looks:
        try:
            yield Finding(what, True, check())
        except UserError as error:
            yield Finding(what, False, str(error))


def certificate(path: Path, now: datetime | None = None) -> str:
    """How long a certificate is still valid; raises UserError where it is not."""
    now = now or datetime.now(UTC)
    try:
        found = x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: no certificate ({error}); ask for a new kit") from None
    start, end = found.not_valid_before_utc, found.not_valid_after_utc
    if not start <= now <= end:
        raise UserError(f"{path}: valid from {start:%Y-%m-%d} to {end:%Y-%m-%d} only; ask for a new kit")
    days = (end - now).days
    renew = "; ask for a new kit soon" if days < SOON else ""
    return f"valid until {end:%Y-%m-%d}, {days} days{renew}"


def server(startup: Path, seconds: float = 10.0) -> str:
    """That the one port answers, and knows this site's certificate; raises UserError where not."""
    target = _target(startup)
    host, _, port = target.rpartition(":")
    proxies = ", ".join(f"{name}={os.environ[name]}" for name in PROXIES if os.environ.get(name))
    through = f" (proxies set here: {proxies})" if proxies else ""
    context = ssl.create_default_context(cafile=str(startup / "rootCA.pem"))
    context.load_cert_chain(startup / "client.crt", startup / "client.key")
    context.check_hostname = False  # the engine names the server by the project, not by the host
    context.set_alpn_protocols(["h2"])
    refused = UserError(f"{target}: answers, but refuses this kit; ask for a new kit{through}")
    try:
        with socket.create_connection((host, int(port)), seconds) as plain, context.wrap_socket(plain) as secure:
            if not secure.recv(1):  # a server that does not know the certificate hangs up only now
                raise refused
            kind = secure.version()
    except ssl.SSLError:
        raise refused from None
    except OSError as error:
        raise UserError(f"{target}: cannot be reached ({error}); open this outbound port{through}") from None
    return f"{target} answers, {kind}, certificates agree{through}"


def _target(startup: Path) -> str:
    """HOST:PORT of the server."""
    try:
        settings: dict[str, Any] = json.loads((startup / "fed_client.json").read_text())
        return str(settings["servers"][0]["service"]["target"])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise UserError(f"{startup / 'fed_client.json'}: is missing or damaged ({error}); ask for a new kit") from None


def data(premises: Premises, stride: int) -> str:
    """What the site has; raises UserError at its first problem."""
    (report,) = look(DataConfig(root=premises.data), stride)
    if report.problems:
        more = f" (and {len(report.problems) - 1} more: sammit data check)" if len(report.problems) > 1 else ""
        raise UserError(report.problems[0] + more)
    return f"{report.cases} cases of {report.patients} patients, {report.layout}"


def disk(home: Path, least: int = 2_000_000_000) -> str:
    """What is free where state is kept; raises UserError where that is little, or it can be read by others."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    free, mode = shutil.disk_usage(home).free, home.stat().st_mode & 0o077
    if free < least:
        raise UserError(f"{home}: {free / 1e9:.1f} GB free; make it at least {least / 1e9:.0f}")
    if mode:
        raise UserError(f"{home}: others can read it; chmod 700 {home}")
    return f"{free / 1e9:.0f} GB free in {home}"


def memory(least: int = 4_000_000_000) -> str:
    """What is free of the machine's memory; raises UserError where that is little."""
    free = int(psutil.virtual_memory().available)
    if free < least:
        raise UserError(
            f"{free / 1e9:.1f} GB of memory free; ViT-B wants {least / 1e9:.0f} and more: end something else"
        )
    return f"{free / 1e9:.0f} GB free"
