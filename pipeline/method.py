"""What every explanation method has in common: ``method(model, images, target) -> maps``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from firstlight.pipeline.scores import Score, Target, as_score
from firstlight.pipeline.undisturbed import undisturbed

NO_WAY = (
    "model: autograd sees no way from the images to the score; is there a no_grad, inference_mode "
    "or detach in its forward pass?"
)
"""What is wrong where a zero map would be untrue."""


class Method(ABC):
    """An explanation method: a small immutable object that maps images to explanations of their
    score.

    A new method is a frozen dataclass with its parameters as fields and :meth:`maps` as its
    mathematics. It may use the model freely there: it is in evaluation mode, and whatever happens
    leaves no trace.
    """

    def __call__(self, model: nn.Module, images: Tensor, target: Target = None) -> Tensor:
        """Explain a score of every image.

        Args:
            model: any module for which ``model(images)`` is logits (N, K). Left exactly as it was.
            images: (N, C, H, W), floating point, in the units that the model takes.
            target: a class for all images, an (N,) tensor of classes, a :class:`Score`, a function
                of the logits, or None for the class that the model predicts.

        Returns:
            Signed maps (N, C, H, W) of the pre-softmax score, in the model's dtype, detached.

        Raises:
            TypeError, ValueError: an argument is not as described above; the message names it.
        """
        with undisturbed(model):
            images = checked_images(model, images)
            return self.maps(model, images, as_score(model, images, target)).detach()

    @property
    def label(self) -> str:
        """The method's name, for pictures and tags."""
        return type(self).__name__

    @abstractmethod
    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        """The maps (N, C, H, W) of checked images, inside :func:`undisturbed`."""


def checked_images(model: nn.Module, images: Tensor) -> Tensor:
    """Images that can be explained: a leaf of the model's dtype, apart from the caller's tensor.

    Raises:
        TypeError: not a floating point tensor.
        ValueError: not (N, C, H, W), no image, another device than the model's, or not finite.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images: must be a tensor (N, C, H, W), got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(
            f"images: must be floating point, in the units that the model takes, got {images.dtype}"
        )
    if images.ndim != 4 or images.numel() == 0:
        raise ValueError(
            f"images: must have the shape (N, C, H, W) and hold an image, got {tuple(images.shape)}"
        )
    weight = next((p for p in model.parameters() if p.is_floating_point()), images)
    if weight.device != images.device:
        raise ValueError(
            f"images: are on {images.device}, the model on {weight.device}; move one to the other"
        )
    # A sum is not finite as soon as one of its terms is not, and takes a tenth of the time.
    if not (images.sum().isfinite() or images.isfinite().all()):
        raise ValueError("images: must be finite, got NaN or infinite pixels")
    # A copy made here can require gradients even if the images were made under inference_mode.
    return images.detach().to(weight.dtype, copy=True)


def gradient_of(score: Score, model: nn.Module, images: Tensor) -> Tensor:
    """dS/dx (N, C, H, W), by the model's ordinary backward pass."""
    images = images.detach().requires_grad_()
    # Images do not see each other in evaluation mode, so the gradient of the sum holds every
    # image's own.
    # A copy, for a model may work on its input in place.
    scores = score(model, images.clone())
    return slope(scores.sum(), images)


def slope(total: Tensor, inputs: Tensor) -> Tensor:
    """d total / d inputs.

    Raises:
        ValueError: autograd sees no way from the inputs to the total.
    """
    gradient = None
    if total.requires_grad:
        (gradient,) = torch.autograd.grad(total, inputs, allow_unused=True)
    if gradient is None:
        raise ValueError(NO_WAY)
    return gradient
