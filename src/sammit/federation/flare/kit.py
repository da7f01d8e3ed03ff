"""Startup kits: who takes part, with a certificate each, and settings that let nothing in but this package.

The engine makes certificates and scripts. What it would let through is narrowed here: jobs bring no code, only the
lead submits, logs stay where they are written, and each server keeps its jobs in its own folder.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sammit.errors import UserError
from sammit.files import write_atomically

ALLOWED = ["sammit.federation.flare."]
"""Whose classes a job may name; the dot at the end is the engine's way to say a package."""

ROLES = {
    "project_admin": "any",
    "org_admin": {"submit_job": "none", "manage_job": "none", "view": "any", "operate": "o:site", "byoc": "none"},
    "lead": {
        "submit_job": "any",
        "manage_job": "n:submitter",
        "download_job": "n:submitter",
        "app_command": "n:submitter",
        "view": "any",
        "byoc": "none",
    },
    "member": {"view": "any"},
}


@dataclass(frozen=True)
class Project:
    """Who takes part.

    Attributes:
        name: of the federation.
        server: the server's host name, as sites reach it.
        port: the one port that it listens on.
        sites: names of the hospitals.
        lead: the one who submits, as an e-mail address.
        members: those who may look.
        days: how long the root certificate is valid; the parties' are for 360.
    """

    name: str
    server: str
    sites: Sequence[str]
    port: int = 8002
    lead: str = "lead@coordination.org"
    members: Sequence[str] = ()
    days: int = 1800


def project_file(project: Project) -> dict[str, Any]:
    """What the engine's provisioning reads."""
    people = [(project.lead, "lead"), *((member, "member") for member in project.members)]
    return {
        "api_version": 3,
        "name": project.name,
        "description": "Segment Anything, fine-tuned together with Sammit",
        "participants": [
            {"name": project.server, "type": "server", "org": "coordination", "fed_learn_port": project.port},
            *({"name": site, "type": "client", "org": site} for site in project.sites),
            *({"name": name, "type": "admin", "org": "coordination", "role": role} for name, role in people),
        ],
        "builders": [
            {
                "path": "nvflare.lighter.impl.workspace.WorkspaceBuilder",
                "args": {"template_file": ["master_template.yml"]},
            },
            {
                "path": "nvflare.lighter.impl.static_file.StaticFileBuilder",
                "args": {"config_folder": "config", "scheme": "grpc"},
            },
            {"path": "nvflare.lighter.impl.cert.CertBuilder", "args": {"root_valid_days": project.days}},
            {"path": "nvflare.lighter.impl.signature.SignatureBuilder"},
        ],
    }


def write_project(out: Path, project: Project) -> Path:
    """Write the project's file; raises UserError where a name cannot be one, or the file is there."""
    for name in (project.name, *project.sites):
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise UserError(f"'{name}': a name has letters, digits, '_' and '-', and begins with one of the first")
    if len({*project.sites, project.server}) != len(project.sites) + 1 or not project.sites:
        raise UserError("the sites' names: must be at least one, and different from one another and the server's")
    path = out / "project.yml"
    if path.exists():
        raise UserError(f"{path}: is there already; edit it, or choose another folder")
    write_atomically(path, yaml.safe_dump(project_file(project), sort_keys=False))
    return path


def provision(project: Path, out: Path) -> Path:
    """Make the kits that a project's file describes; the folder that holds one for each party.

    Raises:
        UserError: the engine cannot make them.
    """
    command = [sys.executable, "-m", "nvflare.cli", "provision", "-p", str(project), "-w", str(out)]
    answer = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    folders = sorted(out.glob("*/prod_*"))
    if answer.returncode or not folders:
        said = [line for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
        reason = next((line.partition(" — ")[2] for line in said if " — " in line), said[-1] if said else "no word")
        raise UserError(f"{project}: kits could not be made ({reason}); mend the file")
    for kit in sorted(path for path in folders[-1].iterdir() if (path / "startup").is_dir()):
        harden(kit)
    return folders[-1]


def kits_of(folder: Path) -> Path:
    """The folder of kits that was made last in a federation's folder; raises UserError where there is none."""
    made = sorted(folder.glob("kits/*/prod_*"))
    if not made:
        raise UserError(f"{folder}: has no kits; make them with `sammit deploy provision {folder}`")
    return made[-1]


def lead_kit(path: Path) -> Path:
    """The lead's kit: the folder itself, or the one in a federation's folder; raises UserError where there is none."""
    if (path / "startup" / "fed_admin.json").is_file():
        return path
    if not (path / "project.yml").is_file():
        raise UserError(f"{path}: is no kit of a lead, nor a federation's folder; give the kit made for the lead")
    lead = next(one["name"] for one in _participants(path) if one.get("role") == "lead")
    return kits_of(path) / str(lead)


def sites_of(path: Path) -> list[str]:
    """The sites that a federation's folder names; none where the path is no such folder."""
    if not (path / "project.yml").is_file():
        return []
    return [str(one["name"]) for one in _participants(path) if one["type"] == "client"]


def _participants(folder: Path) -> list[dict[str, Any]]:
    path = folder / "project.yml"
    try:
        found: list[dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["participants"]
    except (yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no project's file ({error}); make it with `sammit deploy init`") from None
    return found


def harden(kit: Path) -> None:
    """Narrow what a fresh kit lets through."""
    resources = kit / "local" / "resources.json.default"
    if (kit / "startup" / "fed_admin.json").is_file() or not resources.is_file():
        return
    settings = json.loads(resources.read_text())
    settings["class_list_enforcement_mode"] = "enforce"
    settings["class_allow_list"] = ALLOWED
    settings["allow_log_streaming"] = False
    settings["components"] = [part for part in settings["components"] if "logging" not in part["path"]]
    if "snapshot_persistor" in settings:
        settings["snapshot_persistor"]["args"]["storage"]["args"]["root_dir"] = str(kit / "storage" / "snapshots")
    for part in settings["components"]:
        if part["id"] == "job_manager":
            part["args"]["uri_root"] = str(kit / "storage" / "jobs")
    (kit / "local" / "resources.json").write_text(json.dumps(settings, indent=2))
    rights = {"format_version": "1.0", "permissions": ROLES}
    (kit / "local" / "authorization.json").write_text(json.dumps(rights, indent=2))
