"""Images that fool a network: a small change, another class.

Moosavi-Dezfooli et al., "DeepFool", 2016, for the length of a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.arguments import AboveZero, Count, checked
from firstlight.pipeline.inside.regularisers import Clip
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.methods.scores import ClassScore, class_tensor
from firstlight.pipeline.tracing.graph import slope
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.undisturbed import undisturbed


class LogOdds(ClassScore):
    """log p / (1 - p) of a class: its logit less the log-sum-exp of all others."""

    def of(self, logits: Tensor) -> Tensor:
        own = F.one_hot(self.classes, logits.shape[1]).bool()
        return super().of(logits) - logits.masked_fill(own, -torch.inf).logsumexp(dim=1)


@dataclass(frozen=True)
class FoolingImages:
    """Images that a network takes for something else.

    Attributes:
        images: (N, C, H, W).
        changes: (N, C, H, W), the images less those they were made from.
        norms: (N,), the length (L2) of the changes.
        predicted: (N,), the class that the network sees in them.
        confidences: (N,), the probability it gives to the class that was wanted.
    """

    images: Tensor
    changes: Tensor
    norms: Tensor
    predicted: Tensor
    confidences: Tensor


@checked
@dataclass(frozen=True)
class Fooling:
    """A small change of a real image that makes the network predict another class.

    Each step goes along the gradient of the class' log-odds, just as far as it would have to were
    the network linear (which keeps the change small), and at most ``step_length``. An image that
    has arrived is left alone.

    Args:
        steps: How many steps at most. An image that needs more is returned as it is then; compare
            ``predicted`` with the class that was wanted.
        confidence: The probability of the class at which to stop; at least 0.5, so that it is the
            one predicted.
        step_length: How far a pixel may move in one step on average (root mean square), in the
            model's units.
        clip: The range to keep the pixels in, or None.
    """

    steps: Count = 100
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.9
    step_length: AboveZero = 0.05
    clip: Clip | None = None

    @checked
    def __call__(self, model: nn.Module, images: Tensor, target: int | Tensor) -> FoolingImages:
        """Make the network see ``target`` in the images.

        Args:
            model: Any module for which ``model(images)`` is logits. Left exactly as it was.
            images: (N, C, H, W), real images.
            target: The class wanted of all images, or an (N,) tensor of classes.

        Returns:
            The changed images, and how much they had to be changed.
        """
        with undisturbed(model):
            originals = checked_images(model, images)
            with torch.no_grad():
                num_classes = logits_of(model, originals.clone()).shape[1]
            classes = class_tensor("target", target, originals, num_classes)
            images = self._climb(model, originals, LogOdds(classes))
            with torch.no_grad():
                probabilities = logits_of(model, images.clone()).softmax(dim=1)
        changes = images - originals
        return FoolingImages(
            images,
            changes,
            norms=changes.flatten(1).norm(dim=1),
            predicted=probabilities.argmax(dim=1),
            confidences=probabilities.gather(1, classes[:, None]).squeeze(1),
        )

    def _climb(self, model: nn.Module, originals: Tensor, score: LogOdds) -> Tensor:
        images = originals.clone()
        wanted = math.log(self.confidence / (1 - self.confidence))
        under_way = torch.arange(len(images), device=images.device)
        for number in range(1, self.steps + 1):
            current = images[under_way].requires_grad_()
            odds = score.select(under_way)(model, current.clone())
            gradient = slope(odds.sum(), current)
            missing = wanted - odds.detach()
            under_way, gradient = under_way[missing > 0], gradient[missing > 0]
            if not len(under_way):
                break
            # The log-odds are concave in the logits: aiming a little too far gets there.
            aim = (missing[missing > 0] + 0.01)[:, None, None, None]
            steepness = gradient.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
            steepness = steepness.clamp(min=torch.finfo(images.dtype).tiny)
            longest = self.step_length * math.sqrt(gradient[0].numel())
            step = (aim / steepness).clamp(max=longest) * gradient / steepness
            moved = images[under_way] + step
            images[under_way] = self.clip.project(moved, number) if self.clip else moved
        return images
