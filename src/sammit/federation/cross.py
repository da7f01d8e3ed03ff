"""Whose model works where: each site's own model on the patients of every other site, where one process simulates all.

Sites lend their private states to no one but the process that simulates them; across hospitals there are no such
scores.
"""

from __future__ import annotations

from collections.abc import Mapping

from sammit.config import Experiment
from sammit.federation.scoring import Row, SiteScores, Use
from sammit.learning.evaluate import Scorer
from sammit.methods.base import Method
from sammit.reporting.cross import CrossScore
from sammit.vocabulary import Part, SiteData


def score_visitors(site: SiteData, scorer: Scorer, visitors: Mapping[str, Use], part: Part) -> list[CrossScore]:
    """Dice of other sites' own models on a site's cases.

    Args:
        site: whose cases.
        scorer: without distances, which nobody asks of a visitor.
        visitors: site -> how the one model in memory becomes that site's own.
        part: of the cases.
    """
    rows: list[CrossScore] = []
    for home, use in visitors.items():
        scores = SiteScores(site, scorer)
        scores.add("visitor", use(), part)
        rows += _of_model(scores.rows, home)
    return rows


def at_home(scores: SiteScores) -> list[CrossScore]:
    """The site's own model at home, whose rows are among those that were scored anyhow."""
    return _of_model([row for row in scores.rows if row["model"] == "personal"], scores.site.name)


def _of_model(rows: list[Row], home: str) -> list[CrossScore]:
    return [
        CrossScore(row["site"], row["case"], row["patient"], row["structure"], home, float(row["dice"])) for row in rows
    ]


def not_asked(experiment: Experiment, method: Method) -> list[str]:
    """Why a run that asks for the matrix has none, for its reader; [] where it has one or does not ask."""
    evaluation = experiment.evaluation
    if not evaluation.cross_site:
        return []
    if evaluation.scored != "test":
        return ["A cross-site matrix is of test patients: evaluation.cross_site was passed over."]
    if "personal" in method.judging.models:
        return []
    return [
        f"Under {experiment.method.name} no site has a model of its own, so every row of a cross-site matrix would be "
        "the same: evaluation.cross_site was passed over."
    ]
