"""pFedSAM's stages: what each trains, in which order, for how long, and the last one after the rounds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from methods.conftest import Pictures, equal, noisy
from methods.pfedsam_bench import LATE, after, pfedsam
from sammit.federation.guard import check_declared
from sammit.methods.stages import first_steps
from sammit.methods.state import put, take, with_prefix, without_prefix


@dataclass
class Watched(Pictures):
    """Notes after each step which tensors the step could change and which it did."""

    model: nn.Module = field(default_factory=nn.Module)
    steps: list[tuple[str, set[str], set[str]]] = field(default_factory=list)

    def batches(self, steps: int, batch_size: int, key: tuple[object, ...]) -> Any:
        for batch in super().batches(steps, batch_size, key):
            before = {name: p.detach().clone() for name, p in self.model.named_parameters()}
            yield batch
            now = dict(self.model.named_parameters())
            open_to = {name for name, p in now.items() if p.requires_grad}
            self.steps.append((str(key[-1]), open_to, {n for n, t in before.items() if not torch.equal(t, now[n])}))


def test_each_stage_has_its_own_tensors() -> None:
    """In the global stage no gradient for psi, in the local stage none for phi; only those tensors move."""
    b = pfedsam({"kd_direction": "mutual"})
    site = Watched(model=b.model)
    after(b, site)
    own = {"global": set(b.shared), "local": set(b.personal)}
    assert [stage for stage, _, _ in site.steps] == ["global", "global", "local", "local"]
    for stage, open_to, changed in site.steps:
        assert open_to == own[stage]
        assert changed <= own[stage] and len(changed) > 0.9 * len(own[stage])


@pytest.mark.parametrize(
    ("order", "stages"),
    [
        ("global_local", ["global", "global", "local", "local", "local"]),
        ("local_global", ["local", "local", "local", "global", "global"]),
        ("interleaved", ["interleaved"] * 3),
    ],
)
def test_stages_come_in_the_order_of_the_option(order: str, stages: list[str]) -> None:
    """Two of five steps are global. Interleaved, both stages step on the same batch while both last."""
    b = pfedsam({"stage_order": order, "global_share": 0.4})
    site = Pictures()
    *_, outcome = after(b, site, training=replace(b.training, local_steps=5))
    assert site.stages == stages
    assert outcome.metrics["steps"] == 5


@pytest.mark.parametrize("order", ["global_local", "local_global", "interleaved"])
@pytest.mark.parametrize(("share", "steps"), [(0.0, 3), (1.0, 3), (0.5, 1), (0.01, 2), (0.99, 2)])
def test_a_round_takes_the_rounds_steps(order: str, share: float, steps: int) -> None:
    b = pfedsam({"stage_order": order, "global_share": share})
    training = replace(b.training, local_steps=steps)
    shared, personal = noisy(b.start), noisy(take(b.model, b.personal), 1)
    private = with_prefix("personal", personal)
    found = after(b, shared=shared, private=private, training=training)
    assert found[2].metrics["steps"] == steps
    first = first_steps(steps, share)
    assert equal(found[0], shared) == (first == 0)
    assert equal(found[1], personal) == (first == steps)


def test_moments_of_the_experts_are_kept_and_of_the_shared_part_not() -> None:
    b = pfedsam()
    *_, outcome = after(b)
    kept = without_prefix("optimiser", outcome.private)
    assert {name.partition("|")[0] for name in kept} == set(b.personal)
    step = f"{b.personal[0]}|step"
    assert kept[step] == 2
    *_, again = after(b, private=outcome.private)
    assert without_prefix("optimiser", again.private)[step] == 4


def test_moments_are_kept_where_no_local_step_is_taken() -> None:
    b, idle = pfedsam(), pfedsam({"global_share": 1.0})
    *_, outcome = after(b)
    *_, later = after(idle, private=outcome.private)
    assert equal(later.private, outcome.private)


@pytest.mark.parametrize(("epochs", "steps"), [(0.0, 0), (0.5, 1), (1.0, 2), (3.0, 6)])
def test_the_last_local_stage(epochs: float, steps: int) -> None:
    """Rounds' worth of local steps (here two) on the experts alone, which go on from their moments."""
    b = pfedsam({"final_local_epochs": epochs})
    *_, before = after(b)
    site = Pictures()
    phi, psi = noisy(b.start), noisy(take(b.model, b.personal), 1)
    work = b.work(site, LATE, shared=phi, private=with_prefix("personal", psi) | before.private)
    outcome = b.method.finish(work)
    assert site.stages == ["final"] * steps
    if outcome is None:
        assert steps == 0
        return
    shared, personal = b.method.split(work)
    assert outcome.metrics["steps"] == steps
    assert equal(shared, phi) and not equal(personal, psi)
    assert outcome.private[f"optimiser.{b.personal[0]}|step"] == 2 + steps


def test_the_last_stage_may_tune_a_copy_of_the_shared_part() -> None:
    """The copy is the site's own: it is put over the shared tensors of its personal model, and of no other."""
    b = pfedsam({"final_stage": "all"})
    phi, psi = noisy(b.start), noisy(take(b.model, b.personal), 1)
    outcome = b.method.finish(b.work(None, LATE, shared=phi, private=with_prefix("personal", psi)))
    assert outcome is not None
    check_declared(outcome.private, b.method.site_state, "a site's state")
    tuned, personal = b.method.split(b.work(None, LATE, shared=phi, private=with_prefix("personal", psi)))
    own = b.method.personal(outcome.private | with_prefix("personal", personal), phi)
    assert equal(tuned, phi) and own.keys() == {*b.shared, *b.personal}
    assert all(not torch.equal(own[name], phi[name]) for name in b.shared)
    assert "a copy of the shared part" in " ".join(b.method.notes())


def test_the_last_stage_has_the_same_teacher() -> None:
    """The average stays the teacher: another average, other experts."""
    b = pfedsam({"kd_teacher": "ema"})
    found = []
    for seed in (3, 4):
        private = with_prefix("personal", noisy(take(b.model, b.personal), 1))
        work = b.work(None, LATE, private=private | with_prefix("ema", noisy(b.start, seed)))
        b.method.finish(work)
        found.append(b.method.split(work)[1])
        put(b.model, b.backbone.start)
    assert not equal(*found)
