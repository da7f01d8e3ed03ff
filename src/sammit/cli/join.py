"""`sammit run --from RUN --site NEW`: a new hospital joins a finished run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from sammit.errors import UserError, nearest

if TYPE_CHECKING:
    from sammit.reporting.joining import Joined

STARTS = ("untrained", "mean")


def join(
    run: Path, site: str, data: Path | None, out: Path | None, settings: list[str], cases: str | None, start: str
) -> None:
    """Personalise at the new site and compare on its test patients; see docs/methods.md."""
    counts = _counts(cases)
    if start not in STARTS:
        raise UserError(f"--start {start}: {nearest(start, list(STARTS))}")
    from sammit.federation.join import join as carry_out
    from sammit.federation.newcomer import open_newcomer
    from sammit.reporting.joining import in_a_sentence, join_table
    from sammit.reporting.joining_page import read_join, write_join_report
    from sammit.reporting.rendering import to_markdown
    from sammit.runs import refuse_used

    target = out or Path("runs") / f"{run.resolve().name}-{site}"
    refuse_used(target)
    newcomer = open_newcomer(run, site, data, settings)
    typer.echo(f"each own part is trained for {newcomer.experiment.training.local_steps} steps")
    carry_out(newcomer, target, _tell, counts, "mean" if start == "mean" else "untrained")
    report = write_join_report(target)
    summary = read_join(target)
    typer.echo(to_markdown(join_table(summary)))
    typer.echo(in_a_sentence(summary))
    typer.echo(f"report: {report}")


def _counts(text: str | None) -> list[int] | None:
    """ "1,5,all" -> [1, 5]; all labelled cases are always tried."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",") if name.strip()]
    try:
        return [int(name) for name in names if name != "all"]
    except ValueError:
        raise UserError(f"--cases {text}: must be numbers with commas between, such as 1,5,all") from None


def _tell(joined: Joined) -> None:
    dice = joined.by_case("dice").values()
    of = f", {joined.cases} cases of {joined.patients} patients" if joined.cases else ""
    typer.echo(f"{joined.label}{of}: Dice {sum(dice) / len(dice):.3f} on {len(dice)} test cases")
