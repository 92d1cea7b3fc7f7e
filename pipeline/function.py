"""What the function does: how the score changes when the image changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firstlight.pipeline.method import Method, gradient_of
from firstlight.pipeline.scores import Score

_VALUES_PER_PASS = 2**20
"""How many values the images of one forward pass may hold: memory stays bounded, and small images share a pass."""


@dataclass(frozen=True)
class Gradient(Method):
    """M_c(x) = dS_c/dx, the saliency of Simonyan et al. 2014 (arXiv:1312.6034) with its sign kept."""

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return gradient_of(score, model, images)


@dataclass(frozen=True)
class IntegratedGradients(Method):
    r"""The gradient, integrated on the way from a baseline to the image (Sundararajan et al. 2017, arXiv:1703.01365, eq. 1).

    .. math:: (x - x_0) \odot \frac1m \sum_{k=1}^m \frac{dS}{dx}\left(x_0 + \frac{k - 1/2}{m} (x - x_0)\right)

    Midpoints, since a sum over end points is biased by the ends. The map sums to S(x) - S(x0), but for an error that
    vanishes with the number of steps.

    Args:
        steps: m, the number of midpoints.
        baseline: x0, where nothing is to be seen: a number, a tensor that broadcasts to the images, or a function of
            the images (N, C, H, W).

    Raises:
        TypeError, ValueError: an argument is not as described; the message names it.
    """

    steps: int = 50
    baseline: float | Tensor | Callable[[Tensor], Tensor] = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:
            raise ValueError(f"steps={self.steps!r}: must be a whole number of at least 1")
        if not isinstance(self.baseline, (int, float, Tensor)) and not callable(self.baseline):
            raise TypeError(
                f"baseline={self.baseline!r}: must be a number, a tensor or a function of the images"
            )

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        baseline = self._baseline(images)
        path = images - baseline
        gradients = torch.zeros_like(images)
        # Every (midpoint, image) is a row of its own, so that a pass is full whatever the number of images is.
        rows = torch.arange(self.steps * len(images), device=images.device)
        for chunk in rows.split(max(1, _VALUES_PER_PASS // images[0].numel())):
            n, k = chunk % len(images), chunk // len(images)
            share = ((k + 0.5) / self.steps).to(images.dtype)[:, None, None, None]
            gradient = gradient_of(score.select(n), model, baseline[n] + share * path[n])
            gradients.index_add_(0, n, gradient)
        return path * gradients / self.steps

    def _baseline(self, images: Tensor) -> Tensor:
        baseline = self.baseline(images) if callable(self.baseline) else self.baseline
        try:
            return torch.as_tensor(baseline).detach().to(images).expand_as(images)
        except RuntimeError as error:
            shape = tuple(torch.as_tensor(baseline).shape)
            raise ValueError(
                f"baseline: {shape} does not broadcast to the images, {tuple(images.shape)}"
            ) from error
