"""A whole study: its cells, then its tables."""

from __future__ import annotations

from sammit.errors import UserError
from sammit.lock import locked
from sammit.study.admission import Admission
from sammit.study.engine import Engine, Watch
from sammit.study.listing import Listed, Listing
from sammit.study.plan import Plan, settle
from sammit.study.search import write_chosen


def run_study(plan: Plan, jobs: int, watch: Watch) -> dict[str, str]:
    """Do what is not done yet and write the tables; killed at any moment, the same call goes on.

    Args:
        plan: from `make_plan`.
        jobs: cells at once; 0: as many as cores and memory allow.
        watch: is told what happens.

    Returns:
        The cells that failed, by name, each with the last line of its log.

    Raises:
        UserError: another study runs in the folder, or `jobs` for a study of costs.
    """
    if plan.study.kind == "costs" and jobs > 1:
        raise UserError("--jobs: costs are measured one at a time; leave it out")
    with locked(plan.out) as lock:
        jobs, threads = settle(plan, 1 if plan.study.kind == "costs" else jobs)
        listing_of(plan).write(plan.out)
        failures = Engine(plan.work, plan.out, jobs, threads, lock, watch, Admission()).run(plan.cells)
        write_tables(plan)
    return failures


def listing_of(plan: Plan) -> Listing:
    """What the folder says of the study to whoever looks at it later."""
    study, compare = plan.study, plan.study.compare
    cells = [
        Listed(
            cell.name, cell.dataset, cell.method, cell.label, cell.unseen, cell.seed, cell.experiment.training.rounds
        )
        for cell in plan.cells
    ]
    return Listing(study.title, study.kind, plan.work.result, compare.margin, compare.pairs, compare.reference, cells)


def write_tables(plan: Plan) -> None:
    """The study's tables from what is done, what is missing shown as missing; or what a search chose."""
    if plan.study.kind == "costs":
        from sammit.study.costs.table import write_costs

        write_costs(plan)
        return
    if plan.study.kind == "search":
        write_chosen(plan)
        return
    from sammit.reporting.study import StudyCell, write_study

    study = plan.study
    cells = [
        StudyCell(cell.dataset, cell.method, cell.label, cell.unseen, cell.seed, cell.folder(plan.out))
        for cell in plan.cells
    ]
    compare = study.compare
    pairs = [(federated, centralised) for federated, centralised in compare.pairs]
    write_study(cells, plan.out, study.title, compare.margin, pairs, study.paper, compare.reference)
