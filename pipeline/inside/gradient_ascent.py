"""Gradient ascent: the image that a score likes best.

Simonyan, Vedaldi & Zisserman, "Deep Inside Convolutional Networks", 2014, section 2, for
I* = argmax S(I) - lambda R(I); Yosinski et al., "Understanding Neural Networks Through Deep
Visualization", 2015, for blur and clipping; Mordvintsev et al., "Inceptionism", 2015, for jitter.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firstlight.arguments import AboveZero, Count, NotNegative, checked
from firstlight.pipeline.inside.regularisers import L2, Regulariser
from firstlight.pipeline.methods.scores import Score, Target, as_score
from firstlight.pipeline.tracing.graph import slope
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.undisturbed import undisturbed


@dataclass(frozen=True)
class PreferredImages:
    """The images that a gradient ascent found.

    Attributes:
        images: (N, C, H, W).
        scores: (steps + 1, N), the score without its penalty: of the image that the network was
            shown in each step, and of the one that came out.
    """

    images: Tensor
    scores: Tensor


@checked
@dataclass(frozen=True)
class GradientAscent:
    """The image that a score likes best: I* = argmax S(I) - R(I).

    Each step goes along the gradient of S - R, scaled so that a pixel moves by ``learning_rate``
    on average (root mean square), whatever the scale of the network's scores; over the run the
    steps shrink to nothing, so that the image settles.

    Where every ReLU is closed the gradient is zero and no step leads anywhere: a dense network
    without biases, say, at an image of zeros. That is why ``noise`` is added to the start. An image
    that never moved is reported by a warning, and returned as it was.

    Args:
        steps: How many steps.
        learning_rate: The first step's mean length per pixel, in the model's units.
        regularisers: What keeps the images natural, in the order in which it is applied.
        noise: Standard deviation of the Gaussian noise added to the start, in the model's units.
        seed: For the noise and the jitter; the global random state is neither used nor changed.
    """

    steps: Count = 200
    learning_rate: AboveZero = 0.1
    regularisers: Sequence[Regulariser] = (L2(),)
    noise: NotNegative = 0.01
    seed: int = 0

    def __call__(self, model: nn.Module, start: Tensor, target: Target) -> PreferredImages:
        """Climb from every image of ``start``.

        Args:
            model: Any module that takes images. Left exactly as it was.
            start: (N, C, H, W), where to begin: zeros, noise or real images.
            target: What to increase: a class for all images, an (N,) tensor of classes, a
                :class:`Score`, or a function of the logits.

        Returns:
            The images and the history of their scores.
        """
        with undisturbed(model):
            images = checked_images(model, start)
            score = as_score(model, images, target)
            generator = torch.Generator().manual_seed(self.seed)
            noise = torch.randn(images.shape, generator=generator, dtype=images.dtype)
            images = images + self.noise * noise.to(images.device)
            moved = torch.zeros(len(images), dtype=torch.bool, device=images.device)
            history = []
            for step in range(1, self.steps + 1):
                upward, shrinking, scores = self._gradients(model, images, score, generator)
                alive = upward.abs().amax(dim=(1, 2, 3), keepdim=True) > 0
                moved |= alive.flatten()
                rate = self.learning_rate * (1 - (step - 1) / self.steps)
                # Without a score to follow the penalty alone would lead back to zero.
                images = images + rate * _unit(upward - shrinking) * alive
                for regulariser in self.regularisers:
                    images = regulariser.project(images, step)
                history.append(scores)
            with torch.no_grad():
                history.append(score(model, images.clone()))
        if not moved.all():
            warnings.warn(
                f"the score's gradient stayed 0 for image {(~moved).nonzero().flatten().tolist()}: "
                "start it from more noise, or from a real image",
                stacklevel=2,
            )
        return PreferredImages(images, torch.stack(history))

    def _gradients(
        self, model: nn.Module, images: Tensor, score: Score, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """dS/dI and dR/dI, (N, C, H, W) both, and S (N,)."""
        images = images.detach().requires_grad_()
        shown = images
        for regulariser in self.regularisers:
            shown = regulariser.view(shown, generator)
        # A copy, here and below, for a model may work on its input in place.
        scores = score(model, shown.clone())
        upward = slope(scores.sum(), images)
        # Added to 0 I, for a penalty need not depend on the images.
        penalty = sum((r.penalty(images).sum() for r in self.regularisers), 0 * images.sum())
        (shrinking,) = torch.autograd.grad(penalty, images)
        return upward, shrinking, scores.detach()


def _unit(directions: Tensor) -> Tensor:
    """Directions (N, C, H, W) scaled to a root mean square of 1 per image; 0 stays 0."""
    length = directions.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return directions / length.clamp(min=torch.finfo(directions.dtype).tiny)
