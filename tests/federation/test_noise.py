"""Noise at the site: the norm is bounded, the deviation is right, every draw is counted, nothing else leaves."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import tiny
from federation.test_leading import by_file, hospitals, root, untold
from methods.conftest import TRAINING, Bench, Pictures, bench, equal
from sammit.errors import TellableError, UserError
from sammit.federation.by_file import ByFile
from sammit.federation.hospital import Hospital
from sammit.federation.leading import lead
from sammit.federation.memory import PrivateMemory
from sammit.federation.messages import decode, encode
from sammit.federation.noise import SiteNoise, check_covered, noised, normal
from sammit.federation.premises import NoiseSettings, Premises
from sammit.federation.small import SmallUpdates
from sammit.methods.state import distance
from sammit.plugins import load
from sammit.runs import read_state
from sammit.vocabulary import Failure, Judgement, Order, Reply, SmallUpdate, State, Update

__all__ = ["root"]

pytest.importorskip("dp_accounting")
SETTINGS = NoiseSettings(clip=0.5, multiplier=2.0)


def draws(seed: int = 0) -> Any:
    """Random bytes that are the same each time."""
    return np.random.default_rng(seed).bytes


def silent(count: int) -> bytes:
    """Bytes whose noise is zero, to sixteen digits."""
    return (1 << 63).to_bytes(8, "little") * (count // 8)


def state(seed: int, size: float = 1.0) -> State:
    draw = torch.Generator().manual_seed(seed)
    return {name: size * torch.randn(shape, generator=draw) for name, shape in (("a", (3, 4)), ("b", (5,)), ("c", ()))}


def an_update(tensors: State, round_index: int = 0) -> Update:
    return Update("aster", round_index, tensors, {}, 6, {"loss": 0.5, "steps": 4})


# The numbers


@given(st.integers(0, 99), st.floats(1e-3, 1e3), st.floats(1e-2, 1e2))
def test_no_update_is_longer_than_the_clip(seed: int, size: float, clip: float) -> None:
    """Over all tensors together; a shorter one is left as it is, a longer one keeps its direction."""
    base, trained = state(seed), state(seed + 1, size)
    before = distance(trained, base)
    found = noised(trained, base, clip, 1e-12, silent)
    after, rounding = distance(found, base), 1e-5
    assert after == pytest.approx(min(before, clip), rel=rounding, abs=rounding)
    for name, start in base.items():
        change = (trained[name] - start) * min(1.0, clip / before)
        assert torch.allclose(found[name] - start, change, atol=1e-5, rtol=1e-4)


def test_the_noise_is_normal_of_the_right_deviation() -> None:
    """A fifth of a million draws: mean, deviation, tails, and Kolmogorov and Smirnov's distance, in fixed bounds."""
    n = normal(200_000, draws())
    assert abs(float(n.mean())) < 0.01 and abs(float(n.std()) - 1) < 0.01
    assert abs(float((n.abs() > 1.959964).double().mean()) - 0.05) < 0.002
    assert float(stats.kstest(n.numpy(), "norm").statistic) < 0.004
    assert float(n.abs().max()) < 7


@pytest.mark.parametrize(("clip", "z"), [(0.5, 2.0), (3.0, 0.1)])
def test_every_number_gets_noise_of_z_times_the_clip(clip: float, z: float) -> None:
    """Also where nothing changed; two tensors' noises are not each other's."""
    base = {"a": torch.zeros(300, 200), "b": torch.ones(60_000)}
    found = noised(base, base, clip, z, draws())
    for name, start in base.items():
        assert float((found[name] - start).std()) == pytest.approx(z * clip, rel=0.02)
        assert abs(float((found[name] - start).mean())) < 0.02 * z * clip
    both = torch.stack([found["a"].flatten(), found["b"]])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.02


@pytest.mark.parametrize(("steps", "at"), [(0, -8.2), (2**64 - 1, 8.2), (2**63, 0.0)])
def test_the_ends_are_finite_and_the_middle_is_the_middle(steps: int, at: float) -> None:
    assert float(normal(1, lambda count: steps.to_bytes(8, "little"))) == pytest.approx(at, abs=0.1)


def test_names_shapes_and_types_are_kept() -> None:
    base = {
        "half": torch.zeros(3, 2, dtype=torch.bfloat16),
        "scalar": torch.tensor(1.0),
        "long": torch.zeros(7).double(),
    }
    found = noised(base, base, 1.0, 1.0, draws())
    assert list(found) == list(base)
    assert all(found[n].dtype == t.dtype and found[n].shape == t.shape for n, t in base.items())
    assert not any(torch.equal(found[n], t) for n, t in base.items())


# The count


def test_each_draw_is_new_and_counted_also_of_the_same_round(tmp_path: Path) -> None:
    """By default from the system's own bits: two sites with one seed, or one twice, never send the same."""
    noise, base, trained = SiteNoise(SETTINGS, tmp_path / "noise.json"), state(0), state(1)
    first, again = (noise.applied(an_update(trained), base) for _ in range(2))
    assert not any(torch.equal(first.tensors[name], again.tensors[name]) for name in base)
    assert noise.spent()["noised"] == 2
    assert [line["round"] for line in json.loads((tmp_path / "noise.json").read_text())] == [0, 0]


def test_it_is_counted_before_it_is_drawn(tmp_path: Path) -> None:
    """A kill while the noise is made: nothing left, and the count says one; a new process goes on from there."""

    def killed(count: int) -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        SiteNoise(SETTINGS, tmp_path / "noise.json", killed).applied(an_update(state(1)), state(0))
    after = SiteNoise(SETTINGS, tmp_path / "noise.json", draws())
    one = after.spent()
    after.applied(an_update(state(1)), state(0))
    assert (one["noised"], after.spent()["noised"]) == (1, 2) and after.spent()["epsilon"] > one["epsilon"] > 0


def test_an_update_s_numbers_are_cut_down_to_steps(tmp_path: Path) -> None:
    found = SiteNoise(SETTINGS, tmp_path / "noise.json", draws()).applied(an_update(state(1)), state(0))
    assert found.metrics == {"steps": 4} and found.samples == 6


def test_where_nothing_is_shared_nothing_is_counted(tmp_path: Path) -> None:
    noise = SiteNoise(SETTINGS, tmp_path / "noise.json")
    assert noise.applied(an_update({}), {}).metrics == {"steps": 4} and noise.spent()["epsilon"] == 0


def test_a_round_beyond_the_largest_epsilon_is_refused(tmp_path: Path) -> None:
    """Three fit, the fourth does not; what the site hears back holds no number."""
    allowed = SiteNoise(SETTINGS, tmp_path / "all.json", draws())
    for index in range(3):
        allowed.applied(an_update(state(1), index), state(0))
    largest = allowed.spent()["epsilon"] + 1e-3
    noise = SiteNoise(replace(SETTINGS, largest_epsilon=largest), tmp_path / "noise.json", draws())
    for index in range(3):
        noise.admit(index - 1)
        noise.applied(an_update(state(1), index), state(0))
    with pytest.raises(TellableError, match="has told this run all that it tells one of its images"):
        noise.admit(2)


def test_noise_that_comes_after_the_first_update_is_refused(tmp_path: Path) -> None:
    """Its count would be that of the rounds since alone."""
    with pytest.raises(TellableError, match="updates of it without; start the run anew"):
        SiteNoise(SETTINGS, tmp_path / "noise.json").admit(0)


@pytest.mark.parametrize("text", ["[", "{}x", '[{"round": 0}]', '[{"round": 0, "multiplier": NaN}]', "[1]"])
def test_without_a_sound_count_nothing_leaves(tmp_path: Path, text: str) -> None:
    (tmp_path / "noise.json").write_text(text)
    noise = SiteNoise(SETTINGS, tmp_path / "noise.json")
    for look in (lambda: noise.admit(-1), lambda: noise.applied(an_update(state(1)), state(0))):
        with pytest.raises(UserError, match=r"noise.json: is damaged .* without the count nothing may leave"):
            look()


# At a site


@pytest.fixture(scope="module")
def fedper() -> Bench:
    """A method that keeps something at the site."""
    return bench("fedper", None, replace(TRAINING, local_steps=2))


def trained(b: Bench, folder: Path, noise: SiteNoise | None, **training: Any) -> tuple[Order, Any, State]:
    """A first order, a site's answer to it, and the private state that it staged."""
    order = Order("train", "a", 0, b.start, fingerprint="f")
    worker = b.worker(folder, Pictures("a"))
    worker.noise = noise
    worker.small = SmallUpdates.of(replace(worker.experiment, training=replace(b.training, **training)))
    reply = worker.handle(order)
    return order, reply, read_state(folder / "a" / "staged.safetensors")[0]


def test_private_state_is_not_noised(fedper: Bench, tmp_path: Path) -> None:
    """Bit for bit as without noise; what is sent is not."""
    _, plain, kept = trained(fedper, tmp_path / "plain", None)
    noise = SiteNoise(SETTINGS, tmp_path / "noise.json", draws())
    _, sent, same = trained(fedper, tmp_path / "noised", noise)
    assert kept and equal(kept, same)
    assert sent.tensors.keys() == plain.tensors.keys() and not equal(dict(sent.tensors), dict(plain.tensors))
    assert sent.samples == plain.samples and sent.metrics == {"steps": plain.metrics["steps"]}
    apart = torch.cat([(sent.tensors[n] - fedper.start[n]).flatten() for n in fedper.shared])
    assert float(apart.std()) == pytest.approx(SETTINGS.clip * SETTINGS.multiplier, rel=0.05)


def test_a_small_update_is_made_of_the_noised_one(fedper: Bench, tmp_path: Path) -> None:
    """So is what it leaves for later: unsent and sent together are the noised update, nothing of the trained one."""
    noise = SiteNoise(SETTINGS, tmp_path / "noise.json", draws())
    _, full, _ = trained(fedper, tmp_path / "full", noise)
    again = SiteNoise(SETTINGS, tmp_path / "again.json", draws())
    order, small, staged = trained(fedper, tmp_path / "small", again, updates="int8")
    assert isinstance(small, SmallUpdate) and small.metrics == full.metrics
    packing = SmallUpdates.of(replace(fedper.worker(tmp_path).experiment, training=replace(TRAINING, updates="int8")))
    assert packing is not None
    arrived = packing.in_full(small, order.tensors)
    for name, tensor in full.tensors.items():
        assert torch.allclose(arrived.tensors[name] + staged[f"unsent.{name}"], tensor, atol=1e-5)


@pytest.mark.parametrize("name", tiny.METHODS)
def test_a_method_that_sends_more_than_weights_is_refused_by_name(name: str) -> None:
    """What, what for, and the mend; one that sends weights alone goes on."""
    method = load("methods", name).Method()
    more = [declared.name for declared in (*method.surveyed, *method.extras_up)]
    assert bool(more) == (name in ("apple", "drflm", "feddg_elcfs", "fedicra", "fgasl", "scaffold"))
    if not more:
        return check_covered(name, method)
    with pytest.raises(TellableError, match=f"adds noise to its weights, and {name} sends '{more[0]}'") as refused:
        check_covered(name, method)
    assert "choose another method, or leave the site out" in str(refused.value)


# Across hospitals


class Heard:
    """A site whose replies are remembered as the server decodes them."""

    def __init__(self, site: Hospital) -> None:
        self.site, self.replies = site, list[Reply]()

    def answer(self, order: Path, reply: Path) -> None:
        self.site.answer(order, reply)
        self.replies.append(decode(reply.read_bytes()))


def noisy(sites: dict[str, Hospital], settings: NoiseSettings = SETTINGS) -> dict[str, Heard]:
    return {name: Heard(Hospital(name, replace(site.premises, noise=settings))) for name, site in sites.items()}


def lines(site: Hospital, **those: Any) -> Iterator[dict[str, Any]]:
    for text in (Path(site.premises.home) / "audit.jsonl").read_text().splitlines():
        line = json.loads(text)
        if those.items() <= line.items():
            yield line


@pytest.fixture(scope="module")
def whole(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Heard]]:
    """A run of two noisy hospitals, with a method that has a personal part and scores."""
    folder = tmp_path_factory.mktemp("noisy")
    sites = noisy(hospitals(root, folder / "sites"))
    what = tiny.experiment(Path("nowhere"), "fedper")
    out = lead(folder / "server", what, tuple(sites), by_file(sites, folder / "server"), untold).path
    return out, sites


def test_nothing_that_images_decide_leaves_without_noise(whole: tuple[Path, dict[str, Heard]]) -> None:
    """No loss, no score, no entry; the run still ends, with its last round."""
    out, sites = whole
    replies = [reply for site in sites.values() for reply in site.replies]
    updates = [reply for reply in replies if isinstance(reply, Update)]
    assert len(updates) == 4 and all(set(u.metrics) == {"steps"} and not u.extras for u in updates)
    judgements = [reply for reply in replies if isinstance(reply, Judgement)]
    assert judgements and all(j.dice == {} and j.entry == {} for j in judgements)
    for row in tiny.rows(out):
        assert set(row["loss"].values()) == {None} and set(row["steps"].values()) == {2} and row["failed"] == {}
    assert json.loads((out / "summary.json").read_text())["withheld"] == ["aster", "birch"]


def test_the_site_s_own_scores_stay_with_the_site(whole: tuple[Path, dict[str, Heard]]) -> None:
    for site in whole[1].values():
        (run,) = (Path(site.site.premises.home) / "runs").iterdir()
        assert (run / "cases.csv").is_file() and json.loads((run / "summary.json").read_text())["mean"]["dice"] >= 0


def test_the_audit_log_tells_what_was_spent_and_the_server_hears_nothing(whole: tuple[Path, dict[str, Heard]]) -> None:
    out, sites = whole
    for site in sites.values():
        spent = [
            (line["noised"], line["epsilon"], line["delta"]) for line in lines(site.site, what="answers", kind="train")
        ]
        assert [n for n, _, _ in spent] == [1, 2] and 0 < spent[0][1] < spent[1][1] and spent[0][2] == 1e-5
        assert not any("epsilon" in line for line in lines(site.site, kind="score"))
        assert not any(word in encode(reply) for reply in site.replies for word in (b"epsilon", b"clip", b"multiplier"))
    for path in out.rglob("*"):
        assert not path.is_file() or not any(word in path.read_bytes() for word in (b"epsilon", b"multiplier"))


def test_a_round_that_is_done_again_is_counted_again(root: Path, tmp_path: Path) -> None:
    """The server dies before it has the update; after a restart of the site, two draws were made for one round."""
    sites = hospitals(root, tmp_path / "sites")

    class Dies(ByFile):
        def exchange(self, orders: Any) -> Any:
            for delivery in super().exchange(orders):
                if isinstance(delivery.reply, Update):
                    raise ConnectionError
                yield delivery

    what = tiny.experiment(Path("nowhere"), training={"rounds": 1})
    heard = noisy(sites)
    with pytest.raises(ConnectionError):
        lead(tmp_path / "out", what, tuple(sites), Dies(heard, tmp_path / "mail"), untold)
    for one in heard.values():
        one.site.close()
    again = noisy(sites)
    lead(tmp_path / "out", what, tuple(sites), by_file(again, tmp_path / "out"), untold, resume=True)
    first, second = (next(r for r in h["aster"].replies if isinstance(r, Update)) for h in (heard, again))
    assert first.round == second.round == 0
    assert not any(torch.equal(first.tensors[name], second.tensors[name]) for name in first.tensors)
    assert list(lines(again["aster"].site, what="answers", kind="train"))[-1]["noised"] == 2


def test_a_site_that_has_told_enough_refuses_the_round_and_the_run_goes_on(root: Path, tmp_path: Path) -> None:
    """One round is allowed of two: the other site goes on alone."""
    sites = hospitals(root, tmp_path / "sites")
    able = noisy({"aster": sites["aster"]}, replace(SETTINGS, largest_epsilon=5.5))
    both = {"aster": able["aster"], "birch": sites["birch"]}
    out = lead(tmp_path / "out", tiny.experiment(Path("x")), tuple(both), by_file(both, tmp_path / "out"), untold).path
    failed = [row["failed"] for row in tiny.rows(out)]
    assert failed[0] == {} and set(failed[1]) == {"aster"}
    assert failed[1]["aster"].startswith("has told this run all that it tells one of its images")
    answers = list(lines(able["aster"].site, what="answers", kind="train"))
    assert [line["noised"] for line in answers] == [1, 1] and answers[1]["reply"] == "Failure"


def test_a_refused_method_ends_the_run_before_any_site_computes(root: Path, tmp_path: Path) -> None:
    sites = noisy(hospitals(root, tmp_path / "sites"))
    with pytest.raises(UserError, match=r"site 'aster' does not take part: adds noise .* scaffold sends 'control"):
        lead(
            tmp_path / "out",
            tiny.experiment(Path("x"), "scaffold"),
            tuple(sites),
            by_file(sites, tmp_path / "out"),
            untold,
        )
    assert all(isinstance(reply, Failure) for site in sites.values() for reply in site.replies)


def test_a_damaged_count_is_a_failure_and_no_crash(root: Path, tmp_path: Path) -> None:
    """The server hears that something is wrong, and the log has it."""
    site = noisy(hospitals(root, tmp_path / "sites"))["aster"]

    def damage(row: dict[str, Any]) -> None:
        (run,) = (Path(site.site.premises.home) / "runs").iterdir()
        (run / "noise.json").write_text("[")

    with pytest.raises(UserError, match=r"could not answer .train: UserError.; the site's own log says why"):
        lead(
            tmp_path / "out", tiny.experiment(Path("x")), ("aster",), by_file({"aster": site}, tmp_path / "out"), damage
        )
    assert list(lines(site.site, what="answers", kind="train"))[-1]["epsilon"] is None


def test_a_memory_in_which_the_run_began_without_noise(fedper: Bench, tmp_path: Path) -> None:
    """The committed state says so, whatever the server says."""
    _, _, _ = trained(fedper, tmp_path, None)
    second = Order("train", "a", 1, fedper.start, fingerprint="g", accepted=0, origin="f")
    worker = fedper.worker(tmp_path, Pictures("a"))
    worker.noise = SiteNoise(SETTINGS, tmp_path / "noise.json")
    with pytest.raises(TellableError, match="start the run anew"):
        worker.handle(second)
    assert PrivateMemory(tmp_path / "a").committed()[1] == 0


def test_premises_without_noise_have_none() -> None:
    assert not Premises("data", "home").noise.on
