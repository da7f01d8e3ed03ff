"""`sammit deploy`: the coordinating side of runs across hospitals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import typer

from sammit.cli import progress
from sammit.errors import UserError
from sammit.recipe import load_experiment

app = typer.Typer(help="Lead runs across hospitals, on NVIDIA FLARE.", no_args_is_help=True)

KIT = typer.Option(..., "--kit", help="The lead's startup kit, or the federation's folder.")


def need_engine() -> None:
    """Raise UserError where the engine is not installed."""
    from importlib.util import find_spec

    if find_spec("nvflare") is None:
        raise UserError("NVIDIA FLARE is not installed: pip install 'sammit[flare]'")


@app.command("init")
def init(
    out: Path = typer.Argument(..., help="Folder of the federation; made if missing."),
    name: str = typer.Option("federation", "--name", help="The federation's name."),
    server: str = typer.Option(
        ..., "--server", prompt="host name of the server, as sites reach it", help="Host name, as sites reach it."
    ),
    sites: str = typer.Option(
        ..., "--sites", prompt="names of the hospitals, with commas", help="Names of the hospitals, with commas."
    ),
    port: int = typer.Option(8002, "--port", help="The one port that the server listens on."),
    lead: str = typer.Option("lead@coordination.org", "--lead", help="E-mail address of the one who submits."),
    days: int = typer.Option(1800, "--days", help="How long the root certificate is valid; the parties' are for 360."),
) -> None:
    """Write project.yml: who takes part, under which names. Look through it, then provision."""
    need_engine()
    from sammit.federation.flare.kit import Project, write_project

    names = [site.strip() for site in sites.split(",") if site.strip()]
    path = write_project(out, Project(name, server, names, port, lead, (), days))
    typer.echo(f"{path}: {len(names)} sites; next: sammit deploy provision {out}")


@app.command("provision")
def provision(folder: Path = typer.Argument(..., help="Folder with project.yml.")) -> None:
    """Make a startup kit for each party: certificates and settings. Each kit is a secret of its owner."""
    need_engine()
    from sammit.federation.flare import kit

    kits = kit.provision(folder / "project.yml", folder / "kits")
    for path in sorted(kits.iterdir()):
        typer.echo(f"{path}")


@app.command("start")
def start(kit: Path = typer.Argument(..., help="The server's startup kit.")) -> None:
    """Run the server in the foreground, until it is interrupted."""
    need_engine()
    from sammit.federation.flare.processes import run_server

    raise typer.Exit(run_server(kit))


@app.command("up")
def up(
    folder: Path = typer.Argument(..., help="Folder with project.yml and kits."),
    data: Path = typer.Option(..., "--data", help="Folder with a folder of images for each site."),
    device: str = typer.Option("cpu", "--device", help="Where every site trains."),
) -> None:
    """Run the server and all sites on this machine, until interrupted: a rehearsal, or a run of one's own."""
    need_engine()
    from sammit.federation.flare.kit import kits_of
    from sammit.federation.flare.rehearsal import rehearse

    with rehearse(kits_of(folder), data, folder, device) as party:
        typer.echo(f"server and {len(party.processes) - 1} sites are starting; what they say: {party.logs}")
        typer.echo(f"in another terminal: sammit deploy submit RECIPE --kit {folder}; end with Ctrl-C")
        name, code = party.wait()
    raise UserError(f"{name}: ended with code {code}; {party.logs / name}.log says why")


@app.command("submit")
def submit(
    recipe: Path = typer.Argument(..., help="A recipe; any that runs locally."),
    kit: Path = KIT,
    run: str = typer.Option("", "--run", help="The run's name; the recipe's name and seed if left out."),
    sites: str = typer.Option("", "--sites", help="Who takes part, with commas; all if left out."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, such as training.rounds=3."),
    resume: bool = typer.Option(False, "--resume", help="Go on with the run of this name."),
    wait: bool = typer.Option(True, "--wait/--no-wait", help="Stay, show rounds as they end, let lost sites rejoin."),
    out: Path | None = typer.Option(None, "--out", help="Fetch the results into this folder at the end."),
    silence: float = typer.Option(60.0, "--silence", help="Seconds without a sign of life after which a site is lost."),
    patience: int = typer.Option(86400, "--patience", help="Seconds that a site may take for an order."),
) -> None:
    """Start a run, or go on with one, and follow it to its end."""
    need_engine()
    from sammit.federation.flare import admin
    from sammit.federation.flare.job import Job, Limits
    from sammit.federation.flare.kit import sites_of

    experiment = load_experiment(recipe, settings)
    name = run or f"{experiment.name}-seed-{experiment.seed}"
    with admin.lead_session(kit) as session:
        named = [site.strip() for site in sites.split(",") if site.strip()]
        chosen = admin.await_sites(session, named or sites_of(kit))
        job = Job(name, experiment, chosen, Limits(order=patience, silence=silence), resume)
        if not wait:
            admin.submit(session, job)
            typer.echo(f"{name}: submitted for {', '.join(chosen)}; sammit deploy status says how far it is")
            return
        typer.echo(f"{name}: with {', '.join(chosen)}")
        with progress.rounds(experiment.training.rounds) as tell:
            problem = admin.carried(session, job, tell)
        if problem:
            raise UserError(f"{name}: {problem}; mend it, then submit with --resume")
        if out is None:
            typer.echo(f"{name}: done; next: sammit deploy fetch {name} --kit {kit} --out FOLDER")
            return
        admin.fetch(session, name, out)
    typer.echo(f"report: {out / 'report.html'}")


@app.command("status")
def status(kit: Path = KIT, as_json: bool = typer.Option(False, "--json", help="Print JSON.")) -> None:
    """Who is connected, and every run."""
    need_engine()
    from sammit.federation.flare import admin

    with admin.lead_session(kit) as session:
        found: dict[str, Any] = {"sites": admin.connected(session), "runs": admin.runs(session)}
    if as_json:
        typer.echo(json.dumps(found))
        return
    typer.echo(f"connected: {', '.join(found['sites']) or 'no site'}")
    for row in found["runs"]:
        typer.echo(f"{row['run']}: {row['state']}, submitted {row['submitted']}")


@app.command("stop")
def stop(run: str = typer.Argument(..., help="The run's name."), kit: Path = KIT) -> None:
    """End a run after what it is at; submit it again under the same name to go on."""
    need_engine()
    from sammit.federation.flare import admin

    with admin.lead_session(kit) as session:
        admin.stop(session, run)
    typer.echo(f"{run}: stopped")


@app.command("fetch")
def fetch(
    run: str = typer.Argument(..., help="The run's name."),
    kit: Path = KIT,
    out: Path = typer.Option(..., "--out", help="Folder for the results; empty or missing."),
) -> None:
    """Copy a finished run's shared model, log and report here; what is the hospitals' stays with them."""
    need_engine()
    from sammit.federation.flare import admin

    with admin.lead_session(kit) as session:
        admin.fetch(session, run, out)
    typer.echo(f"report: {out / 'report.html'}")


@app.command("logs")
def logs(run: str = typer.Argument(..., help="The run's name."), kit: Path = KIT) -> None:
    """What the server said in a run; sites keep their own logs."""
    need_engine()
    from sammit.federation.flare import admin

    with admin.lead_session(kit) as session:
        typer.echo(admin.logs(session, run))
