"""Images made by following the gradient: what a score wants to see, and what fools a network.

Simonyan, Vedaldi & Zisserman, "Deep Inside Convolutional Networks", 2014, section 2, for
I* = argmax S(I) - lambda R(I); Yosinski et al., "Understanding Neural Networks Through Deep
Visualization", 2015, for blur and clipping; Mordvintsev et al., "Inceptionism", 2015, for jitter;
Moosavi-Dezfooli et al., "DeepFool", 2016, for the length of a fooling step.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.pipeline.method import checked_images, slope
from firstlight.pipeline.scores import Score, Target, as_score, class_tensor, logits_of
from firstlight.pipeline.undisturbed import undisturbed


def _check_at_least(name: str, value: object, least: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not least <= value < math.inf:  # type: ignore[operator]
        raise ValueError(f"{name}={value!r}: must be a number of at least {least}")


def _check_whole(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name}={value!r}: must be a whole number of at least {least}")


def _check_above_0(name: str, value: object) -> None:
    _check_at_least(name, value, 0)
    if not value:
        raise ValueError(f"{name}={value!r}: must be greater than 0")


class Regulariser:
    """What keeps the images of a gradient ascent natural: it states what differs from nothing."""

    def penalty(self, images: Tensor) -> Tensor:
        """R(I) of images (N, C, H, W), with its weight: (N,), subtracted from the score."""
        return images.new_zeros(len(images))

    def view(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """What the network is shown of the images in one step; differentiable."""
        return images

    def project(self, images: Tensor, step: int) -> Tensor:
        """The images after step number ``step``, counted from 1."""
        return images


@dataclass(frozen=True)
class L2(Regulariser):
    """R(I) = weight * sum of the squared pixels: no pixel stands out without need."""

    weight: float = 1e-2

    def __post_init__(self) -> None:
        _check_at_least("weight", self.weight, 0)

    def penalty(self, images: Tensor) -> Tensor:
        return self.weight * images.square().sum(dim=(1, 2, 3))


@dataclass(frozen=True)
class TotalVariation(Regulariser):
    """R(I) = weight * sum of the differences between neighbouring pixels: smooth areas."""

    weight: float = 1e-2

    def __post_init__(self) -> None:
        _check_at_least("weight", self.weight, 0)

    def penalty(self, images: Tensor) -> Tensor:
        rows, columns = images.diff(dim=2).abs(), images.diff(dim=3).abs()
        return self.weight * (rows.sum(dim=(1, 2, 3)) + columns.sum(dim=(1, 2, 3)))


@dataclass(frozen=True)
class Jitter(Regulariser):
    """Show the images shifted by up to ``pixels``, another way each step; edges wrap round."""

    pixels: int = 2

    def __post_init__(self) -> None:
        _check_whole("pixels", self.pixels, 0)

    def view(self, images: Tensor, generator: torch.Generator) -> Tensor:
        shift = torch.randint(-self.pixels, self.pixels + 1, (2,), generator=generator)
        return images.roll(tuple(shift.tolist()), dims=(2, 3))


@dataclass(frozen=True)
class Blur(Regulariser):
    """Blur the images with a Gaussian of ``sigma`` pixels, every so many steps."""

    sigma: float = 0.5
    every: int = 4

    def __post_init__(self) -> None:
        _check_whole("every", self.every, 1)
        _check_above_0("sigma", self.sigma)

    def project(self, images: Tensor, step: int) -> Tensor:
        if step % self.every:
            return images
        radius = math.ceil(3 * self.sigma)
        distance = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        kernel = (-(distance**2) / (2 * self.sigma**2)).exp()
        kernel = (kernel / kernel.sum()).expand(images.shape[1], 1, 1, -1)
        for weight, pad in (
            (kernel, (radius, radius, 0, 0)),
            (kernel.transpose(2, 3), (0, 0, radius, radius)),
        ):
            padded = F.pad(images, pad, mode="replicate")
            images = F.conv2d(padded, weight, groups=images.shape[1])
        return images


@dataclass(frozen=True)
class Clip(Regulariser):
    """Keep the pixels within the range that real images have."""

    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low={self.low}, high={self.high}: low must be smaller than high")

    def project(self, images: Tensor, step: int) -> Tensor:
        return images.clamp(self.low, self.high)


@dataclass(frozen=True)
class ClassImages:
    """What a gradient ascent found.

    Args:
        images: (N, C, H, W).
        scores: (steps + 1, N), the score without its penalty: of the image that the network was
            shown in each step, and of the one that came out.
    """

    images: Tensor
    scores: Tensor


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

    steps: int = 200
    learning_rate: float = 0.1
    regularisers: Sequence[Regulariser] = (L2(),)
    noise: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        _check_whole("steps", self.steps, 1)
        _check_at_least("noise", self.noise, 0)
        _check_above_0("learning_rate", self.learning_rate)
        if type(self.seed) is not int:
            raise ValueError(f"seed={self.seed!r}: must be a whole number")
        listed = isinstance(self.regularisers, (tuple, list))
        if not listed or not all(isinstance(r, Regulariser) for r in self.regularisers):
            raise TypeError(
                f"regularisers={self.regularisers!r}: must be regularisers such as L2()"
            )

    def __call__(self, model: nn.Module, start: Tensor, target: Target) -> ClassImages:
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
        return ClassImages(images, torch.stack(history))

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


@dataclass(frozen=True)
class LogOdds(Score):
    """log p / (1 - p) of a class: its logit less the log-sum-exp of all others."""

    classes: Tensor

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        logits = logits_of(model, images)
        own = F.one_hot(self.classes, logits.shape[1]).bool()
        return logits[own] - logits.masked_fill(own, -torch.inf).logsumexp(dim=1)

    def select(self, index: Tensor) -> LogOdds:
        return LogOdds(self.classes[index])


@dataclass(frozen=True)
class FoolingImages:
    """Images that a network takes for something else.

    Args:
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

    steps: int = 100
    confidence: float = 0.9
    step_length: float = 0.05
    clip: Clip | None = None

    def __post_init__(self) -> None:
        _check_whole("steps", self.steps, 1)
        _check_at_least("confidence", self.confidence, 0.5)
        if not self.confidence < 1:
            raise ValueError(f"confidence={self.confidence}: must be at least 0.5 and less than 1")
        _check_above_0("step_length", self.step_length)
        if not isinstance(self.clip, Clip | None):
            raise TypeError(f"clip={self.clip!r}: must be a Clip or None")

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
        for step in range(1, self.steps + 1):
            current = images[under_way].requires_grad_()
            odds = score.select(under_way)(model, current.clone())
            gradient = slope(odds.sum(), current)
            missing = wanted - odds.detach()
            under_way, gradient = under_way[missing > 0], gradient[missing > 0]
            if not len(under_way):
                break
            # The log-odds are concave in the logits: aiming a little too far gets there.
            aim = (missing[missing > 0] + 0.01)[:, None, None, None]
            steepness = gradient.square().sum(dim=(1, 2, 3), keepdim=True)
            length = aim / steepness.sqrt().clamp(min=torch.finfo(images.dtype).tiny)
            longest = self.step_length * math.sqrt(gradient[0].numel())
            unit = _unit(gradient) / math.sqrt(gradient[0].numel())
            moved = images[under_way] + length.clamp(max=longest) * unit
            images[under_way] = self.clip.project(moved, step) if self.clip else moved
        return images


def _unit(directions: Tensor) -> Tensor:
    """Directions (N, C, H, W) scaled to a root mean square of 1 per image; 0 stays 0."""
    length = directions.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
    return directions / length.clamp(min=torch.finfo(directions.dtype).tiny)
