"""What a site's `site.toml` refuses is refused before anything is computed; what would travel is shown beforehand."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import tiny
from methods.squares import BODY, PLAIN, Point, Square, on_squares
from sammit import plugins
from sammit.config import Experiment
from sammit.errors import UserError
from sammit.federation.consent import Asked, asked, check_agreed
from sammit.federation.memory import PrivateMemory
from sammit.federation.prepare import prepare
from sammit.federation.worker import Backbone, Worker
from sammit.geometry import View
from sammit.methods import base, feddg_elcfs
from sammit.policy import SitePolicy
from sammit.vocabulary import Batch, Declared, Order, State


@pytest.fixture
def root(tmp_path: Path, sites: Path) -> Path:
    """Sites that a test may give a `site.toml`."""
    return Path(shutil.copytree(sites, tmp_path / "sites"))


def policy(root: Path, text: str, site: str = "birch") -> None:
    (root / site / "site.toml").write_text(text)


@pytest.mark.parametrize("name", ["amplitude.", "amplitude.bank", "loss", "samples"])
def test_a_refusal_comes_before_any_site_computes(root: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The site of the second survey refuses, and the first is not made: one line with site, what, purpose and mend."""
    policy(root, f"refuse = ['{name}']")
    asked_for: list[str] = []
    monkeypatch.setattr(feddg_elcfs.Method, "survey", lambda self, site: asked_for.append(site.name))
    with pytest.raises(UserError) as refused:
        prepare(tiny.experiment(root, "feddg_elcfs"))
    said = str(refused.value)
    assert asked_for == [] and "\n" not in said
    assert said.startswith(f"site 'birch' refuses '{name.removesuffix('.')}")
    assert "which feddg_elcfs asks for: choose another method, or leave the site out with data.sites" in said


def test_the_purpose_is_told(root: Path) -> None:
    policy(root, "refuse = ['amplitude.']")
    with pytest.raises(UserError, match=r"'amplitude.bank' \(low-frequency amplitudes of some training images, no ph"):
        prepare(tiny.experiment(root, "feddg_elcfs"))


def test_a_site_that_takes_part_in_some_methods_only(root: Path) -> None:
    """Also where its images would be pooled with others'."""
    policy(root, "methods = ['fedavg', 'pfedsam']")
    prepare(tiny.experiment(root, "fedavg"))
    for name in ("feddg_elcfs", "centralised"):
        with pytest.raises(UserError, match=f"site 'birch' takes part in fedavg, pfedsam only, not in {name}: choose"):
            prepare(tiny.experiment(root, name))


def test_a_refusal_concerns_the_methods_that_ask(root: Path) -> None:
    """A run under another method is what it would be without the file, which leaves no trace in the run's folder."""
    what = tiny.experiment(root, data={"size": 16}, training={"rounds": 1, "local_steps": 1})
    before = tiny.run(what, root.parent / "before")
    policy(root, "refuse = ['amplitude.']")
    after = tiny.run(what, root.parent / "after")
    found, wanted = tiny.contents(after), tiny.contents(before)
    assert {**found, "environment.json": b""} == {**wanted, "environment.json": b""}
    assert not any(b"amplitude" in path.read_bytes() for path in after.rglob("*") if path.is_file())


def test_a_site_that_is_left_out_is_not_asked(root: Path) -> None:
    """By name, or as one that takes no part in training."""
    policy(root, "refuse = ['amplitude.']")
    prepare(tiny.experiment(root, "feddg_elcfs", data={"sites": ["aster"]}))
    prepare(tiny.experiment(root, "feddg_elcfs", evaluation={"unseen": ["birch"]}))


WRONG = {
    "refused = ['x']": "unknown key 'refused': did you mean 'refuse'?",
    "refuse = 3": "refuse: must be text in quotes",
    "refuse = ['amplitude.'": "not a TOML file",
    "refuse = ['amplitud.']": "site.toml of site 'birch': no method declares 'amplitud.': did you mean 'amplitude",
    "methods = ['fedaverage']": "site.toml of site 'birch': unknown method 'fedaverage': did you mean 'fedavg'?",
}


@pytest.mark.parametrize("text", WRONG)
def test_a_policy_that_is_not_right(root: Path, text: str) -> None:
    """One line, with the file; a refusal that is misspelt does not pass for none."""
    policy(root, text)
    with pytest.raises(UserError) as wrong:
        prepare(tiny.experiment(root))
    said = str(wrong.value)
    assert WRONG[text] in said and "site.toml" in said and "birch" in said and "\n" not in said


def test_a_link_that_leads_nowhere_is_no_consent(root: Path) -> None:
    (root / "birch" / "site.toml").symlink_to(root / "gone.toml")
    with pytest.raises(UserError, match=r"site\.toml: there is no such file"):
        prepare(tiny.experiment(root))


def test_a_root_that_lists_its_sites_has_a_folder_for_each_policy(root: Path, tmp_path: Path) -> None:
    """`manifest.csv` with a column of sites: ROOT/SITE/site.toml."""
    rows = ["image,mask,site,patient"]
    for site in ("aster", "birch"):
        for image in sorted((root / site / "images").iterdir()):
            rows.append(f"{site}/images/{image.name},{site}/masks/{image.name},{site},{image.name[:3]}")
    (root / "manifest.csv").write_text("\n".join(rows) + "\n")
    policy(root, "methods = ['pfedsam']", "aster")
    with pytest.raises(UserError, match="site 'aster' takes part in pfedsam only"):
        prepare(tiny.experiment(root))


class Sends(base.Method):
    """Plain averaging that sends a number of its data with each update."""

    extras_up = (Declared("ages.", (), "float32", "mean age of the patients"),)


class Watched(Square):
    """A square that notes whether anything is computed on it."""

    asked = 0

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Iterator[Batch]:
        self.asked += 1
        return super().batches(steps, batch_size, key)


def test_the_worker_holds_to_it_too(tmp_path: Path) -> None:
    """Whatever the server says: no training, nothing staged; without a policy the same order is carried out."""
    backbone = Backbone.of(Point(), [BODY])
    order = Order("train", "a", 0, dict(backbone.start))
    for refused, computed in ((("ages.",), 0), ((), 1)):
        site, memory = Watched("a", 1.0, 1.0), PrivateMemory(tmp_path / str(computed))
        worker = Worker(
            site, View("whole", 8), on_squares(Sends()), backbone, memory, Experiment(training=PLAIN), None,
            SitePolicy(refuse=refused),
        )  # fmt: skip
        if refused:
            with pytest.raises(UserError, match=r"site 'a' refuses 'ages.' \(mean age of the patients\)"):
                worker.handle(order)
        else:
            worker.handle(order)
        assert site.asked == computed
        assert (tmp_path / str(computed) / "staged.safetensors").exists() == bool(computed)


@pytest.mark.parametrize(
    ("refused", "declared", "met"),
    [
        ("gap", "gap", True),
        ("gap", "gaps", False),
        ("amplitude.", "amplitude.bank", True),
        ("amplitude.bank", "amplitude.", True),
        ("amplitude.", "amplitudes", False),
        ("amplitude.", "amplitude.", True),
    ],
)
def test_names_and_families(refused: str, declared: str, met: bool) -> None:
    """A family is refused whole, by its members too: which of them a method will send is not known before."""
    assert SitePolicy(refuse=(refused,)).refuses(declared) == met
    assert not SitePolicy().refuses(declared)


def told(root: Path, method: str) -> dict[tuple[str, str], Asked]:
    prepared = prepare(tiny.experiment(root, method))
    return {(thing.when.partition(",")[0], thing.name): thing for thing in asked(prepared)}


def test_everything_beside_the_weights_is_listed(sites: Path) -> None:
    """With shapes and bytes as the first order and the surveys have them."""
    found = told(sites, "feddg_elcfs")
    assert found["once", "amplitude.bank"].form == "4 x 3 x 3 x 3 float32, 432 bytes"
    assert found["each round", "amplitude.bank"].form == "4 x 3 x 3 x 3 float32, 432 bytes"
    assert {name for _, name in found} == {"amplitude.bank", "loss", "steps", "samples", "dice"}
    assert all(thing.purpose for thing in found.values())
    shared = sum(t.nbytes for t in prepare(tiny.experiment(sites, "fedda")).template.values())
    form = told(sites, "fedda")["each round", "neighbour."].form
    assert form == f"a tensor for each shared one at most, float32, up to {shared:,} bytes"


class Asks(base.Method):
    """Every form of a declaration."""

    extras_up = (
        Declared("gap", (), "float32", "a difference"),
        Declared("counts", (3, 4), "int64", "a table"),
        Declared("bank", (-1, 2), "float32", "as many as there are"),
    )
    extras_down = (Declared("control.", None, "float32", "control variates"),)

    def orders(self, server: base.Server, site: str) -> tuple[State, State]:
        return server.shared, {f"control.{name}": torch.zeros(5) for name in ("a", "b")}


def test_forms(sites: Path) -> None:
    prepared = prepare(tiny.experiment(sites))
    prepared.method = Asks()
    found = {thing.name: thing.form for thing in asked(prepared)}
    assert found["gap"] == "1 float32, 4 bytes" and found["counts"] == "3 x 4 int64, 96 bytes"
    assert found["bank"] == "any x 2 float32" and found["control."] == "2 tensors float32, 40 bytes"


@pytest.mark.parametrize("name", tiny.METHODS)
def test_every_methods_declarations_can_be_refused(name: str) -> None:
    """Each by its name, and by name alone."""
    method = plugins.load("methods", name).Method()
    check_agreed("a", SitePolicy(methods=(name,)), name, method)
    for declared in (*method.surveyed, *method.extras_up, *method.extras_down):
        with pytest.raises(UserError, match="site 'a' refuses"):
            check_agreed("a", SitePolicy(refuse=(declared.name,)), name, method)
    for number in method.reports:
        with pytest.raises(UserError, match=f"site 'a' refuses '{number}'"):
            check_agreed("a", SitePolicy(refuse=(number,)), name, method)
