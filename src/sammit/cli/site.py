"""`sammit site`: the hospital's side."""

from __future__ import annotations

from pathlib import Path

import typer

from sammit.cli.deploy import need_engine
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.recipe import load_experiment

app = typer.Typer(help="Take part in runs across hospitals.", no_args_is_help=True)

KIT = typer.Argument(..., help="The startup kit that the coordinating side made for this site.")


@app.command("init")
def init(
    kit: Path = KIT,
    data: Path = typer.Option(..., "--data", prompt="folder of the images", help="Folder of the images."),
    home: Path | None = typer.Option(None, "--home", help="Folder for private state; KIT/home if left out."),
    device: str = typer.Option("cpu", "--device", help="Where to train: cpu, cuda, cuda:1."),
) -> None:
    """Write site.toml into the kit: where images and state are, and what the site allows."""
    from sammit.federation.premises import write_premises

    path = write_premises(kit, data, home or kit / "home", device)
    typer.echo(f"{path}: look through it; next: sammit site check {kit}")


@app.command("check")
def check(
    kit: Path = KIT,
    recipe: Path | None = typer.Option(None, "--recipe", help="Say what would leave each round for this recipe, too."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, as the lead does."),
) -> None:
    """Whether the site could take part today: certificate, server, data, disk, memory; and what would leave."""
    need_engine()
    from sammit.federation.flare.checks import check_site

    bad = 0
    for finding in check_site(kit):
        typer.echo(f"{'ok  ' if finding.good else 'BAD '} {finding.what}: {finding.text}")
        bad += not finding.good
    if recipe:
        _show_what_leaves(load_experiment(recipe, settings), kit)
    if bad:
        raise UserError(f"{kit}: {bad} of the above must be mended first")
    typer.echo(f"next: sammit site preview RECIPE {kit} --out FOLDER, then sammit site start {kit}")


def _show_what_leaves(experiment: Experiment, kit: Path) -> None:
    from sammit.federation.premises import load_premises
    from sammit.federation.preview import leaves

    tensors, others = leaves(experiment, kit.resolve().name, load_premises(kit))
    total = sum(tensor.nbytes for tensor in tensors.values())
    form = experiment.training.updates
    smaller = "" if form == "fp32" else f", on the way in fewer: training.updates = '{form}'"
    typer.echo(f"leaves in each round: {len(tensors)} tensors, {total:,} bytes{smaller}")
    for name, tensor in tensors.items():
        dtype = str(tensor.dtype).removeprefix("torch.")
        typer.echo(f"  {name} {'x'.join(map(str, tensor.shape)) or '1'} {dtype}, {tensor.nbytes:,} bytes")
    for one in others:
        typer.echo(f"{one.when}: {one.name}, {one.form}: {one.purpose}")


@app.command("preview")
def preview(
    recipe: Path = typer.Argument(..., help="The recipe that the site is asked to take part in."),
    kit: Path = KIT,
    out: Path = typer.Option(..., "--out", help="Folder for the messages; empty or missing."),
    settings: list[str] = typer.Option([], "--set", metavar="KEY=VALUE", help="Override, as the lead does."),
) -> None:
    """Do one round against no server, and write down every byte that would leave."""
    from sammit.federation.premises import load_premises
    from sammit.federation.preview import preview as look

    rows = look(load_experiment(recipe, settings), kit.resolve().name, load_premises(kit), out)
    for row in rows:
        typer.echo(f"{row['file']} ({row['is']}, {row['bytes']:,} bytes)")
        for name, tensor in row["tensors"].items():
            shape = "x".join(map(str, tensor["shape"])) or "1"
            typer.echo(f"  {name} {shape} {tensor['dtype']}, {tensor['bytes']:,} bytes")
        for name, value in row["numbers"].items():
            typer.echo(f"  {name} = {value}")
    typer.echo(f"all of it: {out / 'egress.json'}")


@app.command("start")
def start(kit: Path = KIT) -> None:
    """Take part until interrupted: in the foreground, for a service manager to watch."""
    need_engine()
    from sammit.federation.flare.processes import run_site

    raise typer.Exit(run_site(kit))


@app.command("audit")
def audit(kit: Path = KIT) -> None:
    """Check the audit log: that no line was changed, and how many there are."""
    from sammit.federation.audit import check
    from sammit.federation.premises import load_premises

    path = Path(load_premises(kit).home) / "audit.jsonl"
    lines, chain = check(path)
    typer.echo(f"{path}: {lines} lines, none changed; the last one's chain is {chain}")
