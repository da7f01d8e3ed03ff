"""FednnU-Net's own half of the work, with a stand-in for nnU-Net's process: what travels, stays, and is asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from nnunet.conftest import Held, a_case, blobs
from sammit import plugins
from sammit.config import DataConfig, Experiment, ModelConfig, TrainingConfig
from sammit.errors import UserError
from sammit.federation import local
from sammit.federation.estimate import estimate
from sammit.federation.guard import check_declared, refusal
from sammit.federation.inputs import going_on
from sammit.federation.prepare import prepare
from sammit.methods.base import Work
from sammit.methods.fednnunet import Method, Options
from sammit.methods.state import put, take, with_prefix
from sammit.models.build import build_model, set_trainable
from sammit.models.nnunet import Nnunet
from sammit.nnunet import process
from sammit.nnunet.fingerprints import CaseFacts, fingerprint, merge, summarise
from sammit.nnunet.setup import Setup
from sammit.predict import evaluate, load_predictor, predict
from sammit.vocabulary import Order, State, Update

pytestmark = pytest.mark.usefixtures("fake")
NNUNET = ModelConfig(name="nnunet", weights="random")
TRAINING = TrainingConfig(rounds=4, local_epochs=1.0, optimiser_state="keep")


def site(name: str = "a", count: int = 4, shape: tuple[int, int, int] = (1, 20, 24), colour: bool = False) -> Held:
    """Some cases of generated boxes."""
    return Held(name, [a_case(f"case {n}", *blobs(n, shape, colour)) for n in range(count)])


def planned(method: Method, *sites: Held, **training: Any) -> Experiment:
    """The effective experiment."""
    experiment = Experiment(model=NNUNET, training=replace(TRAINING, **training))
    surveys = {one.name: method.survey(one) for one in sites}
    for survey in surveys.values():
        check_declared(survey, method.surveyed, "a survey")
    return method.plan(experiment, surveys)[0]


def built(experiment: Experiment) -> Nnunet:
    model = build_model(experiment.model, 128, 2, experiment.seed)
    assert isinstance(model, Nnunet)
    set_trainable(model, "all")
    return model


def work(experiment: Experiment, model: Nnunet, where: Held, number: int = 0, private: State | None = None) -> Work:
    """An order to train, as a site's worker hands it to the method."""
    live = tuple(name for name, _ in model.named_parameters())
    order = Order("train", where.name, number, take(model, live))
    return Work(order, model, live, where, private or {}, experiment.training, experiment.seed)


def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Every question from now on."""
    questions = []
    ask = process.Process.ask

    def recorded(self: process.Process, do: str, facts: Any, arrays: Any = None) -> Any:
        questions.append((do, facts, dict(arrays or {})))
        return ask(self, do, facts, arrays)

    monkeypatch.setattr(process.Process, "ask", recorded)
    return questions


def test_it_says_what_it_is_and_what_it_needs() -> None:
    row = next(row for row in plugins.describe("methods") if row["name"] == "fednnunet")
    assert all(row[key] for key in ("summary", "paper", "travels", "stays"))
    assert "make .venv-nnunet/ready" in row["needs"]


def test_a_survey_is_a_summary_of_the_training_cases() -> None:
    """Of fixed size: twice as many cases tell no more numbers."""
    told = Method().survey(site(count=3))
    more = Method().survey(site(count=6))
    assert {name: tensor.shape for name, tensor in told.items()} == {name: t.shape for name, t in more.items()}
    assert told["cases"].item() == 3 and told["channels"].item() == 1 and told["overlap"].item() == 0
    assert told["shape"][:, 50].tolist() == [1, 20, 24] and told["spacing"][:, 50].tolist() == [999, 1, 1]
    values = np.concatenate([one.image[..., 0][one.truth.any(-1)] for one in site(count=3).loaded])
    assert told["intensity.mean"].tolist() == pytest.approx([values.mean()] * 3)


def test_what_one_site_has_counts_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Colour, overlap and unlabelled pixels at one site decide for every site's network."""
    grey, colour = site("a"), site("b", colour=True)
    first = colour.loaded[0]
    both = first.truth.copy()
    both[0, 3, 3] = True
    valid = np.ones(both.shape[:-1], bool)
    valid[0, 0] = False
    colour.loaded[0] = replace(first, truth=both, valid=valid)
    plain = Setup.of(planned(Method(), grey).model)
    assert plain.channels == 1 and plain.labels == {"background": 0, "structure 1": 1, "structure 2": 2}
    mixed = Setup.of(planned(Method(), grey, colour).model)
    assert mixed.channels == 3
    assert mixed.labels == {"background": 0, "structure 1": [1, 3], "structure 2": [2, 3], "ignore": 4}
    assert json.loads(mixed.dataset)["numTraining"] == 8


def test_the_planner_gets_the_merged_fingerprint_and_the_options(monkeypatch: pytest.MonkeyPatch) -> None:
    questions = asked(monkeypatch)
    planned(Method(Options(gpu_memory_gb=2.5, patch=64)), site("a", 2), site("b", 5, (1, 30, 30)))
    do, facts, _ = questions[-1]
    assert do == "plan" and (facts["gpu_memory_gb"], facts["patch"]) == (2.5, 64)
    assert np.median(facts["fingerprint"]["shapes_after_crop"], 0).tolist() == [1, 30, 30]


def test_the_plan_and_what_nnunet_decides_are_in_the_experiment() -> None:
    """So that the run's config says what was done, and every site builds the same network."""
    experiment = planned(Method(Options(mirroring=True)), site())
    assert experiment.training.batch_size == 3 and experiment.training.local_epochs == TRAINING.local_epochs
    assert (experiment.training.lr, experiment.training.momentum, experiment.training.optimiser) == (0.01, 0.99, "sgd")
    setup = Setup.of(experiment.model)
    assert setup.mirroring and setup.version == "fake 1" and setup.configuration == "2d"
    assert Setup.of(planned(Method(), site(shape=(6, 20, 20))).model).configuration == "3d_fullres"
    changed = {key for key in vars(experiment.training) if vars(experiment.training)[key] != vars(TRAINING)[key]}
    assert {f"training.{key}" for key in changed} <= set(Method.decides)


def test_a_plan_that_is_there_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on does not depend on what nnU-Net would plan today."""
    experiment = planned(Method(), site())
    monkeypatch.setenv("FAKE_VERSION", "fake 2")
    process.close()
    again, _ = Method(Options(patch=99)).plan(experiment, {"a": Method().survey(site(shape=(1, 90, 90)))})
    assert again == experiment


def test_mistakes() -> None:
    with pytest.raises(UserError, match="fednnunet trains 'nnunet', not 'sam-tiny'"):
        Method().plan(Experiment(), {})
    with pytest.raises(UserError, match=r"data\.slices: nnU-Net looks at a volume's slices in its own way"):
        Method().plan(Experiment(model=NNUNET, data=DataConfig(slices="2.5d")), {})
    for data in (DataConfig(labels="box"), DataConfig(label_kinds={"a": "box"}), DataConfig(labelled=0.5)):
        with pytest.raises(UserError, match="nnU-Net reads the masks as they are"):
            Method().plan(Experiment(model=NNUNET, data=data), {})
    empty = site()
    empty.loaded = [replace(one, truth=np.zeros_like(one.truth)) for one in empty.loaded]
    with pytest.raises(UserError, match="no training image has any of them"):
        planned(Method(), empty)
    with pytest.raises(UserError, match=r"method\.gpu_memory_gb and patch"):
        Method(Options(gpu_memory_gb=0))
    with pytest.raises(UserError, match=r"model\.weights: nnunet has no published weights"):
        build_model(ModelConfig(name="nnunet"), 128, 1, 0)
    with pytest.raises(UserError, match=r"model\.adapter: nnunet has no blocks"):
        build_model(replace(NNUNET, adapter=("lora",)), 128, 1, 0)
    with pytest.raises(UserError, match="is built from a plan"):
        build_model(NNUNET, 128, 1, 0)


def test_a_model_has_nnunets_parameters_by_name(caplog: pytest.LogCaptureFixture) -> None:
    """What never trains is a buffer; equal seeds give equal networks."""
    experiment = planned(Method(), site())
    model = built(experiment)
    assert {name for name, _ in model.named_parameters()} == {"encoder.stages.0.weight", "decoder.seg_layers.1.bias"}
    assert {name for name, _ in model.named_buffers()} == {"decoder.seg_layers.0.bias"}
    again, other = built(experiment), built(replace(experiment, seed=1))
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(model.state_dict()["encoder.stages.0.weight"], other.state_dict()["encoder.stages.0.weight"])
    assert not caplog.records
    setup = replace(Setup.of(experiment.model), version="fake 0")
    Nnunet(setup, 0)
    assert "made with fake 0, this is fake 1" in caplog.text


def test_a_round_moves_the_live_tensors_and_keeps_momentum() -> None:
    """As declared, under "optimiser."; a recipe that resets it keeps none."""
    method = Method()
    experiment = planned(method, site())
    model = built(experiment)
    order = work(experiment, model, site())
    before = model.state_dict()["decoder.seg_layers.0.bias"].clone()
    outcome = method.train(order)
    shared, personal = method.split(order)
    assert personal == {} and all(not torch.equal(shared[name], order.order.tensors[name]) for name in order.live)
    assert torch.equal(model.state_dict()["decoder.seg_layers.0.bias"], before)
    assert outcome.private.keys() >= {f"optimiser.{name}|momentum_buffer" for name in order.live}
    check_declared(outcome.private, method.site_state, "a site's state")
    update = Update("a", 0, shared, outcome.extras, 4, outcome.metrics)
    assert refusal(update, 0, order.order.tensors, method.extras_up, method.reports) == ""
    assert outcome.metrics == {"loss": 1.0, "steps": 2}
    reset = replace(order, training=replace(order.training, optimiser_state="reset"))
    put(model, order.order.tensors)
    assert method.train(reset).private == {}


def test_momentum_goes_on_where_it_is_kept() -> None:
    method = Method()
    experiment = planned(method, site())
    model = built(experiment)
    private = method.train(work(experiment, model, site())).private
    start, found = take(model, [name for name, _ in model.named_parameters()]), {}
    for kept in ("keep", "reset"):
        put(model, start)
        order = work(experiment, model, site(), 1, private)
        method.train(replace(order, training=replace(order.training, optimiser_state=kept)))  # type: ignore[arg-type]
        found[kept] = take(model, ["encoder.stages.0.weight"])["encoder.stages.0.weight"]
    assert not torch.equal(found["keep"], found["reset"])
    buffer = private["optimiser.encoder.stages.0.weight|momentum_buffer"]
    assert torch.allclose(found["keep"] - found["reset"], 0.5 * buffer)


@pytest.mark.parametrize(
    ("options", "training", "shape", "steps"),
    [
        (Options(), {}, (1, 20, 20), 2),  # 5 images in batches of 3
        (Options(), {"local_epochs": 2.0}, (1, 20, 20), 4),
        (Options(), {"local_steps": 7}, (1, 20, 20), 7),
        (Options(), {}, (6, 20, 20), 3),  # 5 volumes in batches of 2
        (Options(configuration="2d"), {}, (6, 20, 20), 10),  # 30 slices in batches of 3
        (Options(steps="nnunet"), {"local_steps": 7}, (1, 20, 20), 250),
    ],
)
def test_steps_of_a_round(options: Options, training: Any, shape: tuple[int, int, int], steps: int) -> None:
    method, where = Method(options), site("a", 5, shape)
    experiment = planned(method, where, **training)
    assert method.train(work(experiment, built(experiment), where)).metrics["steps"] == steps


def test_cases_are_handed_over_once_and_again_to_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """One at a time; a process that died has forgotten them, and the round is the same as if it had not."""
    method, where, other = Method(), site("a"), site("b", 2)
    experiment = planned(method, where, other)
    model = built(experiment)
    start = take(model, [name for name, _ in model.named_parameters()])
    questions = asked(monkeypatch)
    method.train(work(experiment, model, where))
    method.train(work(experiment, model, other))
    first = take(model, start)
    assert [do for do, _, _ in questions] == ["cases", *["add"] * 4, "train", "cases", *["add"] * 2, "train"]
    questions.clear()
    put(model, start)
    method.train(work(experiment, model, where))
    assert [do for do, _, _ in questions] == ["cases", "train"]
    questions.clear()
    process.close()
    put(model, start)
    method.train(work(experiment, model, where))
    method.train(work(experiment, model, other))
    assert [do for do, _, _ in questions].count("add") == 6
    assert all(torch.equal(first[name], tensor) for name, tensor in take(model, start).items())


def test_what_a_case_is_for_nnunet(monkeypatch: pytest.MonkeyPatch) -> None:
    method, where = Method(), site(colour=True)
    experiment = planned(method, where)
    questions = asked(monkeypatch)
    method.train(work(experiment, built(experiment), where))
    facts, arrays = next((facts, arrays) for do, facts, arrays in questions if do == "add")
    first = where.loaded[0]
    assert facts["spacing"] == [999, 1, 1]
    assert np.array_equal(arrays["image"], np.moveaxis(first.image, -1, 0).astype(np.float32))
    assert np.array_equal(arrays["labels"][0], first.truth @ [1, 2])


def test_every_draw_has_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another site, round or seed draws otherwise; the same draws the same."""
    method, questions = Method(), asked(monkeypatch)
    experiment = planned(method, site("a"), site("b"))
    model = built(experiment)
    for where, number, seed in [("a", 0, 0), ("b", 0, 0), ("a", 1, 0), ("a", 0, 1), ("a", 0, 0)]:
        method.train(replace(work(experiment, model, site(where), number), seed=seed))
    seeds = [facts["seed"] for do, facts, _ in questions if do == "train"]
    assert len(set(seeds)) == 4 and seeds[0] == seeds[4]


def test_a_case_is_segmented_whole_and_weights_are_sent_when_they_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models in turn never use each other's."""
    experiment = planned(Method(), site())
    model, other = built(experiment), built(replace(experiment, seed=5))
    image, _ = blobs(3, (2, 20, 24))
    questions = asked(monkeypatch)

    def threshold(one: Nnunet) -> float:
        return 100 * float(one.state_dict()["encoder.stages.0.weight"][0, 0])

    def check(one: Nnunet, sent: bool) -> None:
        questions.clear()
        found = one.segment_case(image, (3.0, 1.0, 1.0))
        assert found.shape == (2, 20, 24, 2) and found.dtype == bool
        assert np.array_equal(found[..., 0], image[..., 0] > threshold(one))
        assert len(questions[0][2]) == (4 if sent else 1)

    check(model, True)
    check(model, False)
    check(other, True)
    check(model, True)
    put(model, {"encoder.stages.0.weight": torch.full((2, 3), 0.905)})
    check(model, True)
    process.close()
    check(model, True)


def tiny_run(root: Path, **tables: Any) -> Experiment:
    """Two generated sites, two rounds."""
    model = {"name": "nnunet", "weights": "random", "adapter": []}
    training = {"optimiser_state": "keep", **tables.pop("training", {})}
    return tiny.experiment(root, "fednnunet", model=model, training=training, **tables)


def test_a_whole_run(tmp_path: Path, sites: Path) -> None:
    """Twice the same; its model predicts and is scored from the run folder alone."""
    run = tiny.run(tiny_run(sites), tmp_path / "run")
    again = tiny.run(tiny_run(sites), tmp_path / "again")
    assert tiny.contents(run) == tiny.contents(again)
    notes = json.loads((run / "environment.json").read_text())["notes"]
    assert len(notes) == 1 and "not read" in notes[0]
    image = sorted((sites / "aster" / "images").iterdir())[0]
    written = predict(load_predictor(run), [image], tmp_path / "masks")
    assert [path.suffix for path in written] == [".png"] * 2
    scored = {(row["site"], row["case"], row["structure"]): row["dice"] for row in evaluate(run, sites)}
    lines = (run / "cases.csv").read_text().splitlines()
    columns = lines[0].split(",")
    rows = [dict(zip(columns, line.split(","), strict=True)) for line in lines[1:]]
    assert len(rows) > 6
    for row in rows:
        assert scored[row["site"], row["case"], row["structure"]] == pytest.approx(float(row["dice"]))


def test_weights_are_averaged_by_training_images(tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mean made here of what the sites sent."""
    from sammit.federation import in_process

    updates: list[Update] = []
    encode = in_process.encode
    monkeypatch.setattr(in_process, "encode", lambda m: (isinstance(m, Update) and updates.append(m)) or encode(m))
    run = tiny.run(tiny_run(sites, training={"rounds": 1}), tmp_path / "run")
    from sammit.runs import read_state

    found = read_state(run / "models" / "last.safetensors")[0]
    total = sum(update.samples for update in updates)
    assert len(updates) == 2 and len({update.samples for update in updates}) == 2
    for name, tensor in found.items():
        mean = sum(update.tensors[name].double() * update.samples / total for update in updates)
        assert torch.allclose(tensor.double(), torch.as_tensor(mean), atol=1e-6)


def test_a_stopped_run_goes_on_from_the_recipe(tmp_path: Path, sites: Path) -> None:
    """Though the recipe has no plan; and a recipe that differs in what is read is refused."""

    def stop(row: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    what = tiny_run(sites)
    with pytest.raises(KeyboardInterrupt):
        local.run(what, tmp_path / "run", stop)
    process.close()
    other = replace(what, training=replace(what.training, local_steps=9))
    with pytest.raises(UserError, match=r"training\.local_steps = 2, not 9"):
        tiny.run(other, tmp_path / "run", resume=True)
    run = tiny.run(what, tmp_path / "run", resume=True)
    assert tiny.contents(run) == tiny.contents(tiny.run(what, tmp_path / "whole"))


def test_other_methods_decide_nothing(tmp_path: Path, sites: Path) -> None:
    """Their recipes are held to every key."""
    what = tiny.experiment(sites)
    with pytest.raises(UserError, match=r"training\.lr"):
        going_on(prepare(what).experiment, replace(what, training=replace(what.training, lr=1e-4)), tmp_path)


def test_a_site_whose_process_dies_is_a_failure_and_the_others_go_on(
    tmp_path: Path, sites: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second round, at the second site; the process is started anew."""
    ask, trained = process.Process.ask, []

    def dying(self: process.Process, do: str, facts: Any, arrays: Any = None) -> Any:
        trained.append(do)
        return ask(self, "die" if trained.count("train") == 4 and do == "train" else do, facts, arrays)

    monkeypatch.setattr(process.Process, "ask", dying)
    run = tiny.run(tiny_run(sites), tmp_path / "run")
    first, second = tiny.rows(run)
    assert first["failed"] == {} and list(second["failed"]) == ["birch"]
    assert "ended with code 7" in second["failed"]["birch"] and list(second["loss"]) == ["aster"]


def test_a_dry_run_says_what_it_can(sites: Path) -> None:
    told = estimate(prepare(tiny_run(sites)))
    assert told["parameters"].startswith("total 8") and "process of its own" in told["training time"]


def test_summaries_of_the_survey_are_those_of_the_fingerprints() -> None:
    """The method adds nothing: cases analysed by hand merge to the same."""
    where = site(count=2)
    by_hand = []
    for one in where.loaded:
        drawn = one.image[..., 0][one.truth.any(-1)][None].astype(float)
        by_hand.append(CaseFacts([999, 1, 1], [1, 20, 24], 1.0, drawn, 2, False, False))
    told = {name: tensor.numpy() for name, tensor in Method().survey(where).items()}
    assert fingerprint(merge([told])) == fingerprint(summarise(by_hand))


def test_private_tensors_stay(tmp_path: Path) -> None:
    """Nothing of the momentum is among what is shared."""
    method = Method()
    experiment = planned(method, site())
    order = work(experiment, built(experiment), site())
    private = method.train(order).private
    assert not set(with_prefix("optimiser", method.split(order)[0])) & set(private)
