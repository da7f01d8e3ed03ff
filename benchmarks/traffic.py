"""Bytes of one site's update in one round: pFedSAM on SAM ViT-B, in each form, beside FedFMS's FedSAM.

    python -m benchmarks.traffic [--recipe recipes/pfedsam-vit-b.toml] [--json]

Nothing is trained: the tensors that travel are those of the recipe's model with random weights, the message is the one
that a site would send. What training would change is drawn from a normal distribution, on which the size of a rounded
update depends a little (its lossless pass); that of fp32 does not. FedFMS sends its whole state, 374,941,908 bytes for
FedSAM, as counted from its code (docs/fedfms.md). Orders travel in fp32 whatever the form: "down_bytes".
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import machine, show

FEDFMS_FEDSAM = 374_941_908
FORMS = ("fp32", "fp16", "bf16", "int8")


def sizes(recipe: Path) -> dict[str, int]:
    """Bytes of an update in each form, and of an order."""
    from sammit.config import Experiment
    from sammit.federation.estimate import as_sent
    from sammit.federation.messages import encode
    from sammit.federation.prepare import make_backbone, make_method
    from sammit.methods.state import fingerprint, select
    from sammit.recipe import load_experiment
    from sammit.vocabulary import Order, Update

    def within(experiment: Experiment, **training: object) -> Experiment:
        return replace(experiment, training=replace(experiment.training, **training))  # type: ignore[arg-type]

    experiment = within(load_experiment(recipe), device="cpu")
    experiment = replace(experiment, model=replace(experiment.model, weights="random"))
    method = make_method(experiment)
    backbone = make_backbone(experiment, method, 1)
    shared = select(backbone.start, set(method.shared_names(backbone.live)).__contains__)
    update = Update("site", 0, shared, {}, 1, dict.fromkeys(method.reports, 0.5))
    found = {form: len(encode(as_sent(update, within(experiment, updates=form)))) for form in FORMS}
    found["int8, a tenth"] = len(encode(as_sent(update, within(experiment, updates="int8", top_k=0.1))))
    return found | {"down": len(encode(Order("train", "site", 0, shared, {}, fingerprint(shared))))}


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parents[1]
    parser.add_argument("--recipe", type=Path, default=here / "recipes" / "pfedsam-vit-b.toml")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = sizes(args.recipe)
    down = found.pop("down")
    show(
        {
            "name": "traffic",
            "ours": found["int8"],
            "reference": FEDFMS_FEDSAM,
            "ratio": round(FEDFMS_FEDSAM / found["int8"], 1),
            "unit": "bytes up, a site and round",
            "up_bytes": found,
            "times_fewer": {form: round(FEDFMS_FEDSAM / size, 1) for form, size in found.items()},
            "down_bytes": down,
            "machine": machine(),
        },
        args.json,
    )


if __name__ == "__main__":
    main()
