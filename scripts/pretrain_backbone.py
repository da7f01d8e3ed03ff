"""Train the backbone that ships with `sam-tiny`, on the phantom family that no demo or test uses.

    python scripts/pretrain_backbone.py [--steps 1500] [--out src/sammit/models/pretrained/sam-tiny.safetensors]

Writes the weights as safetensors and, beside them, a JSON with their SHA-256 and how they were made.
"""

from __future__ import annotations

import argparse
import json
import time
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch

from sammit.config import ModelConfig
from sammit.data.phantom import draw_backbone
from sammit.files import sha256_of_file, write_atomically
from sammit.learning.losses import segmentation_loss
from sammit.models.build import build_model, set_trainable
from sammit.randomness import generator
from sammit.vocabulary import Batch

SEED, SIDE, TILE, BATCH = 20260, 160, 128, 16


def draw(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Image `index` of the pool."""
    return draw_backbone((SEED, index), SIDE)


def batch_of(images: np.ndarray, masks: np.ndarray, step: int) -> Batch:
    """A random batch of tiles, flipped, turned by quarters, and with its colours shifted."""
    rng = generator(SEED, "batch", step)
    tiles, truths = [], []
    for index in rng.integers(0, len(images), BATCH):
        top, left = rng.integers(0, SIDE - TILE + 1, 2)
        tile = images[index, top : top + TILE, left : left + TILE].astype(np.float32) / 255
        mask = masks[index, top : top + TILE, left : left + TILE]
        turns, flip = int(rng.integers(4)), bool(rng.integers(2))
        tile, mask = np.rot90(tile, turns), np.rot90(mask, turns)
        if flip:
            tile, mask = tile[:, ::-1], mask[:, ::-1]
        tile = tile[..., rng.permutation(3)] * rng.uniform(0.8, 1.2) + rng.uniform(-0.1, 0.1)
        tiles.append(np.clip(tile, 0, 1))
        truths.append(mask)
    image = torch.from_numpy(np.ascontiguousarray(np.stack(tiles).transpose(0, 3, 1, 2)))
    truth = torch.from_numpy(np.stack(truths).astype(np.float32)).unsqueeze(1)
    return Batch(image, truth, torch.ones_like(truth))


def main() -> None:
    """Draw the pool, train, report on held-out phantoms, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--pool", type=int, default=2400)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("src/sammit/models/pretrained/sam-tiny.safetensors"))
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    started = time.time()
    with Pool(args.threads) as pool:
        drawn = pool.map(draw, range(args.pool + 64), chunksize=32)
    images, masks = np.stack([d[0] for d in drawn]), np.stack([d[1] for d in drawn])
    print(f"{len(images)} phantoms drawn in {time.time() - started:.0f} s", flush=True)
    model = build_model(ModelConfig(weights="random"), TILE, 1, SEED)
    set_trainable(model, "all")
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=args.lr, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=args.steps, pct_start=0.15)
    for step in range(args.steps):
        batch = batch_of(images[:-64], masks[:-64], step)
        loss = segmentation_loss(model(batch.images), batch, 0.5, 0.5)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        schedule.step()
        if step % 100 == 99:
            print(f"step {step + 1}: loss {loss.item():.3f}, {time.time() - started:.0f} s", flush=True)
            if step % 500 == 499:
                write(model, args, held_out_dice(model, images[-64:], masks[-64:]), step + 1)


def held_out_dice(model: torch.nn.Module, images: np.ndarray, masks: np.ndarray) -> float:
    """Mean Dice over phantoms that were not trained on."""
    with torch.inference_mode():
        x = torch.from_numpy(images[:, :TILE, :TILE].astype(np.float32).transpose(0, 3, 1, 2) / 255)
        found = torch.cat([model(part) for part in x.split(16)])[:, 0].numpy() > 0
    truth = masks[:, :TILE, :TILE] > 0
    overlap, total = (found & truth).sum((1, 2)), found.sum((1, 2)) + truth.sum((1, 2))
    return float(np.where(total > 0, 2 * overlap / np.maximum(total, 1), 1.0).mean())


def write(model: torch.nn.Module, args: argparse.Namespace, dice: float, steps: int) -> None:
    """The weights, and beside them what they are."""
    from safetensors.torch import save_file

    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    write_atomically(args.out, lambda draft: save_file(state, draft))
    facts = {
        "sha256": sha256_of_file(args.out),
        "script": "scripts/pretrain_backbone.py",
        "steps": steps,
        "pool": args.pool,
        "lr": args.lr,
        "seed": SEED,
        "held_out_dice": round(dice, 4),
    }
    write_atomically(args.out.with_suffix(".json"), json.dumps(facts, indent=2) + "\n")
    print(f"step {steps}: held-out Dice {dice:.3f}; wrote {args.out}", flush=True)


if __name__ == "__main__":
    main()
