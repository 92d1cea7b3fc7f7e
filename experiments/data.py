"""What the experiments show to the networks: MNIST, and pictures made from it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from firstlight.datamodules import MNIST
from firstlight.datamodules.batches import InMemory


class Digits(NamedTuple):
    """The training and the test images of an experiment.

    Attributes:
        training: the images (N, C, H, W) in [0, 1] and labels (N,) that networks learn from.
        test: those that are explained and that the numbers come from.
    """

    training: InMemory
    test: InMemory


class TwoDigits(NamedTuple):
    """Canvases with a digit on either half.

    Attributes:
        images: (N, 1, H, 2W).
        left: the class of the digit on the left half, (N,).
        right: that on the right half, another one.
    """

    images: Tensor
    left: Tensor
    right: Tensor


@lru_cache(maxsize=1)
def digits(root: str | Path | None) -> Digits:
    """MNIST from the folder ``root``, or the embedded sample."""
    splits = MNIST(root, validation_size=0).splits
    # MNIST is always served from memory.
    return Digits(cast(InMemory, splits.training), cast(InMemory, splits.test))


def two_digits(digits: InMemory, count: int, seed: int) -> TwoDigits:
    """Canvases with two digits of different classes side by side, put together at random."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randint(len(digits), (2 * count,), generator=generator) for _ in range(2))
    # Of the pairs at random about nine in ten have different classes.
    different = (digits.targets[left] != digits.targets[right]).nonzero().flatten()[:count]
    left, right = left[different], right[different]
    canvases = torch.cat([digits.images[left], digits.images[right]], dim=3)
    return TwoDigits(canvases, digits.targets[left], digits.targets[right])


def either_label(canvases: TwoDigits, seed: int) -> InMemory:
    """Canvases labelled by one of their digits, chosen at random: a network learns to see both."""
    heads = torch.rand(len(canvases.left), generator=torch.Generator().manual_seed(seed)) < 0.5
    return InMemory(canvases.images, torch.where(heads, canvases.left, canvases.right))


def with_cue(images: Tensor, size: int = 4, margin: int = 1) -> Tensor:
    """Images with a bright square in the upper left corner, where MNIST's digits never are."""
    cued = images.clone()
    cued[..., margin : margin + size, margin : margin + size] = 1
    return cued


def cue_region(images: Tensor, size: int = 4, margin: int = 1) -> Tensor:
    """Where :func:`with_cue` changes images (N, C, H, W): bool, (N, 1, H, W)."""
    return with_cue(torch.zeros_like(images[:, :1]), size, margin) > 0


def textured(digits: InMemory, seed: int, contrast: float = 0.5) -> InMemory:
    """Digits in front of cloudy textures of random orientation, no brighter than ``contrast``."""
    generator = torch.Generator().manual_seed(seed)
    n, _, height, width = digits.images.shape
    noise = torch.rand((n, 1, height // 4, width // 4), generator=generator)
    clouds = F.interpolate(noise, (height, width), mode="bicubic", align_corners=False)
    grain = 0.3 * torch.rand((n, 1, height, width), generator=generator)
    texture = (contrast * (clouds.clamp(0, 1) + grain) / 1.3).clamp(0, contrast)
    return InMemory(torch.maximum(texture, digits.images), digits.targets)
