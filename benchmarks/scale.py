"""How much work the rows do, and on what."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from firstlight.datamodules import MNIST
from firstlight.datamodules.batches import InMemory
from firstlight.pipeline import DenseNetwork


@dataclass(frozen=True)
class Scale:
    """How much work the rows do.

    Args:
        quick: little, to see that everything runs.
        mnist: the folder that holds ``MNIST/raw``; None takes the embedded sample.
    """

    quick: bool = False
    mnist: str | None = None

    def pick(self, usual: int, quick: int) -> int:
        return quick if self.quick else usual

    @property
    def digits(self) -> str:
        return "the sample" if self.mnist is None else "full MNIST"

    @classmethod
    def of(cls, options: Namespace) -> Scale:
        return cls(options.quick, options.mnist)

    def as_arguments(self) -> list[str]:
        quick = ["--quick"] if self.quick else []
        return quick if self.mnist is None else [*quick, "--mnist", self.mnist]


def arguments(program: str) -> ArgumentParser:
    """The options that make a :class:`Scale`."""
    parser = ArgumentParser(program, description="Measures what is claimed to be fast.")
    parser.add_argument("--quick", action="store_true", help="little work: does everything run?")
    parser.add_argument("--mnist", metavar="ROOT", help="folder that holds MNIST/raw")
    return parser


@cache
def digits(mnist: str | None) -> MNIST:
    """The data module, with the batches of configs/mnist.yaml."""
    data = MNIST(mnist, batch_size=256)
    data.setup("fit")
    return data


@cache
def training_images(mnist: str | None) -> InMemory:
    images = digits(mnist).splits.training
    assert isinstance(images, InMemory)
    return images


@cache
def test_images(mnist: str | None) -> InMemory:
    images = digits(mnist).splits.test
    assert isinstance(images, InMemory)
    return images


@cache
def default_network(mnist: str | None) -> nn.Module:
    """784-256-128-10 after one epoch, so that its maps are those of a network that has learnt."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _trained(DenseNetwork(), training_images(mnist))


@cache
def trained_residual_network(mnist: str | None, digits: int, epochs: int) -> nn.Module:
    """torchvision's resnet18 after some epochs of that many digits, in three channels."""
    data = training_images(mnist)
    few = InMemory(as_colours(data.images[:digits]), data.targets[:digits])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return _trained(resnet18(num_classes=10), few, epochs, batch_size=64)


def _trained(
    network: nn.Module, data: InMemory, epochs: int = 1, batch_size: int = 256
) -> nn.Module:
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for _ in range(epochs):
        for batch in torch.randperm(len(data)).split(batch_size):
            optimizer.zero_grad()
            F.cross_entropy(network(data.images[batch]), data.targets[batch]).backward()
            optimizer.step()
    return network.eval()


@cache
def residual_network() -> nn.Module:
    """torchvision's resnet18; its weights are random, which costs the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return resnet18(num_classes=1000).eval()


def pictures(count: int, side: int = 224) -> Tensor:
    """Random smooth colour images with the range [0, 1], (count, 3, side, side)."""
    coarse = torch.rand(count, 3, 14, 14, generator=torch.Generator().manual_seed(0))
    return full_range(F.interpolate(coarse, size=(side, side), mode="bilinear"))


def as_colours(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) in three channels."""
    return images.repeat(1, 3, 1, 1)


def full_range(images: Tensor) -> Tensor:
    """Images stretched to [0, 1]: a peer's sigma is one number for all images."""
    least, most = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return (images - least) / (most - least)
