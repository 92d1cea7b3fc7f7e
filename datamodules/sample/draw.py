"""Draw the embedded sample from the full MNIST.

    python -m firstlight.datamodules.sample.draw ROOT [--to FOLDER]

ROOT holds `MNIST/raw` with the four IDX files. The draw is seeded: the same images come out in the
same order. Training images are drawn from MNIST's training set, test images from its test set.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from firstlight.datamodules.idx import read_idx, write_idx

PER_CLASS = {"train": 1000, "t10k": 200}
SEED = 0


def draw(labels: Tensor, per_class: int, seed: int) -> Tensor:
    """Choose `per_class` images of every class, at random and in random order.

    Args:
        labels: (N,).
        per_class: How many of each class.
        seed: Seed of the draw.

    Returns:
        Indices, int64, (classes * per_class,).

    Raises:
        ValueError: If a class has too few images.
    """
    order = torch.from_numpy(np.random.default_rng(seed).permutation(len(labels)))
    by_class = [order[labels[order] == label] for label in labels.unique()]
    if (smallest := min(len(members) for members in by_class)) < per_class:
        raise ValueError(f"per_class must be at most {smallest} (smallest class), not {per_class}")
    chosen = torch.cat([members[:per_class] for members in by_class])
    return order[torch.isin(order, chosen)]


def main(args: list[str] | None = None) -> None:
    """Write the four files of the sample."""
    parser = argparse.ArgumentParser(description="Draw the embedded sample from the full MNIST.")
    parser.add_argument("root", type=Path, help="folder that holds MNIST/raw")
    parser.add_argument("--to", type=Path, default=Path(__file__).parent, help="where to write")
    options = parser.parse_args(args)
    for part, per_class in PER_CLASS.items():
        names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
        images, labels = (read_idx(options.root / "MNIST" / "raw" / name) for name in names)
        chosen = draw(labels, per_class, SEED)
        for name, data in zip(names, (images, labels), strict=True):
            write_idx(options.to / f"{name}.gz", data[chosen])


if __name__ == "__main__":
    main()
