"""Stands in for nnU-Net's process: the real line, and answers that need no nnU-Net. Run by Sammit's own Python.

A network of two tensors and one that never trains; a round adds to them what the site's cases, the seed and the
momentum say; a mask is where an image is brighter than the network's first weight.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])
sys.path.append(str(Path(__file__).parents[2] / "src" / "sammit" / "nnunet"))

import numpy as np  # noqa: E402
from worker.line import Answer, Arrays, Facts, listen, read, requests, say, write  # noqa: E402

CASES: dict[tuple[str, str], list[float]] = {}
HELD: Arrays = {}
VERSION = os.environ.get("FAKE_VERSION", "fake 1")


def echo(facts: Facts, arrays: Arrays) -> Answer:
    return facts, arrays


def variables(facts: Facts, arrays: Arrays) -> Answer:
    return {"variables": {name: os.environ.get(name) for name in facts["names"]}, "folder": str(FOLDER)}, {}


def fail(facts: Facts, arrays: Arrays) -> Answer:
    raise ValueError("no such\nluck")


def die(facts: Facts, arrays: Arrays) -> Answer:
    print("the last words", file=sys.stderr, flush=True)
    os._exit(7)


def chatter(facts: Facts, arrays: Arrays) -> Answer:
    print("printed by a library")  # goes to the log
    for _ in range(facts["times"]):
        time.sleep(facts["pause"])
        say({"busy": "still here"})
    return {"done": True}, {}


def hang(facts: Facts, arrays: Arrays) -> Answer:
    time.sleep(600)
    return {}, {}


def garble(facts: Facts, arrays: Arrays) -> Answer:
    from worker import line

    line._ANSWERS.write("no JSON\n")
    return {}, {}


def analyse(facts: Facts, arrays: Arrays) -> Answer:
    drawn = arrays["image"][:, arrays["labels"][0] > 0].astype(np.float64)[:, :500]
    return {"shape": list(arrays["image"].shape[1:]), "relative_size": 1.0}, {"intensities": drawn}


def plan(facts: Facts, arrays: Arrays) -> Answer:
    two = {"batch_size": 3, "patch_size": [16, 16], "architecture": {"arch_kwargs": {"n_stages": 4}}}
    three = {**two, "batch_size": 2, "patch_size": [8, 16, 16]}
    depth = np.median(np.array(facts["fingerprint"]["shapes_after_crop"])[:, 0])
    offered: dict[str, Any] = {"2d": two} | ({"3d_fullres": three} if depth > 1 else {})
    return {"plan": {"configurations": offered, "asked": facts}, "version": VERSION}, {}


def build(facts: Facts, arrays: Arrays) -> Answer:
    draw = np.random.default_rng(facts["seed"])
    names = {"encoder.stages.0.weight": (2, 3), "decoder.seg_layers.0.bias": (2,), "decoder.seg_layers.1.bias": (2,)}
    drawn = {name: draw.random(shape, np.float32) for name, shape in names.items()}
    return {"unused": ["decoder.seg_layers.0.bias"], "version": VERSION}, drawn


def cases(facts: Facts, arrays: Arrays) -> Answer:
    return {"cases": len(CASES.get((facts["key"]["run"], facts["site"]), []))}, {}


def add(facts: Facts, arrays: Arrays) -> Answer:
    assert arrays["labels"].dtype == np.int16 and arrays["image"].dtype == np.float32
    CASES.setdefault((facts["key"]["run"], facts["site"]), []).append(float(arrays["image"].mean()))
    return {}, {}


def train(facts: Facts, arrays: Arrays) -> Answer:
    held = CASES[facts["key"]["run"], facts["site"]]
    draw = np.random.default_rng(facts["seed"])
    found = {}
    for name in [name for name in arrays if name.startswith("weights.")]:
        own = f"optimiser.{name.removeprefix('weights.')}|momentum_buffer"
        step = 0.01 * np.mean(held) * draw.random(arrays[name].shape) * facts["steps"]
        moved = (step + 0.5 * arrays.get(own, 0.0)).astype(np.float32)
        found |= {name: arrays[name] + moved, own: moved}
    return {"loss": 1.0 / (1 + facts["round"]), "steps": facts["steps"]}, found


def segment(facts: Facts, arrays: Arrays) -> Answer:
    image = arrays.pop("image")
    HELD.update(arrays)
    threshold = 100 * HELD["weights.encoder.stages.0.weight"][0, 0]
    labels = json.loads(facts["key"]["setup"]["dataset"])["labels"]
    structures = len(labels.keys() - {"background", "ignore"})
    return {"sent": len(arrays)}, {"masks": np.repeat(image[:1] > threshold, structures, axis=0)}


if __name__ == "__main__":
    for request in requests(listen(FOLDER)):
        try:
            told, found = globals()[request["do"]](request["facts"], read(request["arrays"]))
            answer: Facts = {"facts": told, "arrays": write(FOLDER, found)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(answer)
