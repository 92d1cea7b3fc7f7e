"""What is explained: one number per image, whose origin in the image is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from firstlight.arguments import checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.tracing.layers import layer_output


class Score(ABC):
    """One number S(x) per image, pre-softmax: a probability would also explain other classes."""

    @property
    def rows(self) -> int | None:
        """Of how many images it is, each with a score of its own; None for any number."""
        return None

    @abstractmethod
    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        """The scores (N,) of images (N, C, H, W), differentiable in the images."""

    def select(self, index: Tensor) -> Score:
        """The score of ``images[index]``; the same one unless it differs from image to image."""
        return self


Classes = int | Sequence[int] | Tensor
"""A class for all images, or one for each: a list, or an integer tensor (N,)."""

Target = Classes | Score | Callable[[Tensor], Tensor] | None
"""A class or classes, a score, a function of logits, or None: the predicted class."""


class LogitScore(Score):
    """A score that is computed from the logits."""

    @abstractmethod
    def of(self, logits: Tensor) -> Tensor:
        """The scores (N,) of logits (N, K)."""

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        return self.of(logits_of(model, images))


@checked
@dataclass(frozen=True)
class ClassScore(LogitScore):
    """S_c, the logit of class ``classes[n]`` for image n.

    Args:
        classes: (N,), int64.
        largest: the largest of them, if it is known already.

    Raises:
        ArgumentError: the classes are not as described; when used, there is a class that the model
            does not have, or not one class per image.
    """

    classes: Tensor
    largest: int | None = None

    def __post_init__(self) -> None:
        if self.classes.dtype != torch.int64 or self.classes.ndim != 1:
            raise ArgumentError("classes", "must be an int64 tensor (N,)", self.classes)
        if self.largest is None:
            if not len(self.classes) or int(self.classes.min()) < 0:
                raise ArgumentError("classes", "must be 0 or more, of some image", self.classes)
            # Once, since on a GPU asking for a number waits for all work in its queue.
            object.__setattr__(self, "largest", int(self.classes.max()))

    @property
    def rows(self) -> int:
        return len(self.classes)

    def of(self, logits: Tensor) -> Tensor:
        images, count = logits.shape
        if images != len(self.classes):
            raise _not_one_each("classes", len(self.classes), images)
        if self.largest is not None:
            _check_class(self.largest, count)
        return logits.gather(1, self.classes[:, None]).squeeze(1)

    def select(self, index: Tensor) -> ClassScore:
        return replace(self, classes=self.classes[index])


class Probability(ClassScore):
    """The softmax probability of class ``classes[n]`` for image n."""

    def of(self, logits: Tensor) -> Tensor:
        return super().of(logits.softmax(1))


class LabelProbability(ClassScore):
    """The sigmoid of label ``classes[n]``'s logit for image n, where an image has several."""

    def of(self, logits: Tensor) -> Tensor:
        return super().of(logits.sigmoid())


@checked
@dataclass(frozen=True)
class LogitFunction(LogitScore):
    """Any function of the logits: (N, K) -> (N,)."""

    function: Callable[[Tensor], Tensor]

    def of(self, logits: Tensor) -> Tensor:
        scores = self.function(logits)
        if not isinstance(scores, Tensor) or scores.shape != logits.shape[:1]:
            problem = f"the function must return ({len(logits)},) scores"
            raise ArgumentError("target", problem, scores)
        return scores


@checked
@dataclass(frozen=True)
class Difference(Score):
    """S_first - S_second: what speaks for one class and against another.

    Args:
        first: the class, or score, that is asked about.
        second: the class, or score, it is compared with.

    Raises:
        ArgumentError: one of them is neither; when used, a class that is not there.
    """

    first: int | Score
    second: int | Score

    @property
    def rows(self) -> int | None:
        return next((r for s in self._both if isinstance(s, Score) and (r := s.rows)), None)

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        if isinstance(self.first, int) and isinstance(self.second, int):
            logits = logits_of(model, images)
            for index in self.first, self.second:
                _check_class(index, logits.shape[1])
            return logits[:, self.first] - logits[:, self.second]
        first, second = (as_score(model, images, s)(model, images) for s in self._both)
        return first - second

    def select(self, index: Tensor) -> Difference:
        return Difference(*(s.select(index) if isinstance(s, Score) else s for s in self._both))

    @property
    def _both(self) -> tuple[int | Score, int | Score]:
        return self.first, self.second


@checked
@dataclass(frozen=True)
class Neuron(Score):
    """The output of one unit in the middle of the network.

    Args:
        layer: the name of the layer in ``model.named_modules()``.
        index: the unit within the layer's output, without the batch: ``(unit,)``, or ``(channel,
            row, column)``. A tensor (N, 1) or (N, 3) names another unit for every image.

    Raises:
        ArgumentError: an argument is of another type; when used, a unit that is not there.
    """

    layer: str
    index: Annotated[tuple[int, ...], Field(strict=False)] | Tensor

    @property
    def rows(self) -> int | None:
        return len(self.index) if isinstance(self.index, Tensor) else None

    def __call__(self, model: nn.Module, images: Tensor) -> Tensor:
        outputs = layer_output(model, self.layer, images)
        shape = torch.tensor(outputs.shape[1:], device=outputs.device)
        index = torch.as_tensor(self.index, device=outputs.device)
        if self.rows not in (None, len(outputs)):
            raise _not_one_each("index", len(index), len(outputs))
        if index.shape[-1:] != shape.shape or ((index < 0) | (index >= shape)).any():
            problem = f"names no unit of layer {self.layer!r}, whose output is"
            raise ArgumentError("index", f"{problem} {tuple(outputs.shape[1:])}", self.index)
        image = torch.arange(len(outputs), device=outputs.device)
        return outputs[(image, *index.unbind(-1))]

    def select(self, index: Tensor) -> Neuron:
        if not isinstance(self.index, Tensor):
            return self
        return Neuron(self.layer, self.index[index.to(self.index.device)])


def as_score(model: nn.Module, images: Tensor, target: Target) -> Score:
    """The score that ``target`` stands for.

    Raises:
        ArgumentError: ``target`` is of another kind than the :data:`Target` lists; a negative
            class, or not one class or score per image; when the score is used, a class that the
            model does not have.
    """
    if isinstance(target, Score):
        if target.rows not in (None, len(images)):
            raise _not_one_each("classes", target.rows, len(images))
        return target
    if callable(target) and not isinstance(target, Tensor):
        return LogitFunction(target)
    if target is None:
        with torch.no_grad():
            # A copy, for a model may work on its input in place.
            return ClassScore(logits_of(model, images.clone()).argmax(dim=1))
    return ClassScore(class_tensor("target", target, images))


def class_tensor(
    name: str, classes: object, images: Tensor, num_classes: int | None = None
) -> Tensor:
    """``classes`` as a checked (N,) int64 tensor beside the images; ``name`` is for errors.

    Args:
        classes: a whole number or a tensor without dimensions, for all images, or a list or a
            tensor of one for each.

    Raises:
        ArgumentError: they are not as described, or not in 0..``num_classes`` - 1.
    """
    if isinstance(classes, (Integral, list, tuple)) and not isinstance(classes, bool):
        with suppress(ValueError, TypeError, RuntimeError):  # a list of something else
            classes = torch.tensor(classes)
    whole = isinstance(classes, Tensor) and not (
        classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool
    )
    if not isinstance(classes, Tensor) or not whole:
        problem = "must be a class, or a list or an integer tensor of classes"
        raise ArgumentError(name, problem, classes)
    if classes.ndim == 0:
        classes = classes.expand(len(images))
    if classes.shape != (len(images),):
        problem = f"must hold one class per image, ({len(images)},), got {tuple(classes.shape)}"
        raise ArgumentError(name, problem)
    check_classes(name, classes, num_classes)
    # A copy, since classes found under inference_mode could not be used in a backward pass.
    return classes.to(images.device, torch.int64, copy=True)


def check_classes(name: str, classes: Tensor, num_classes: int | None = None) -> None:
    """Raise an ArgumentError unless classes are 0 or more, and below ``num_classes``."""
    least, largest = int(classes.min()), int(classes.max())
    if least < 0 or (num_classes is not None and largest >= num_classes):
        allowed = "0 or more" if num_classes is None else f"in 0..{num_classes - 1}"
        raise ArgumentError(name, f"classes must be {allowed}", largest if least >= 0 else least)


def _check_class(index: int, count: int) -> None:
    if not 0 <= index < count:
        raise ArgumentError("target", f"classes must lie in 0..{count - 1}", index)


def _not_one_each(name: str, got: int | None, images: int) -> ArgumentError:
    return ArgumentError(name, f"must be one per image, ({images},), got ({got},)")
