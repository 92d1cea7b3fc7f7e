"""What the signal is: which part of the image makes the units respond."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firstlight.pipeline.backward import SMOOTH, Operation, Rules, pulled_back, send_back
from firstlight.pipeline.method import Method
from firstlight.pipeline.pattern_method import PatternMethod
from firstlight.pipeline.scores import Score


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """The gradient with R · 1[z > 0] · 1[R > 0] at every ReLU.

    Source: Springenberg et al. 2015, "Striving for Simplicity" (arXiv:1412.6806), sec. 3.4.

    Raises:
        ValueError: on a call, if the score depends on an activation that is not a ReLU (or ReLU6).
    """

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        rules = Rules(
            "GuidedBackprop",
            relu=lambda signal, gradient: gradient(signal.clamp(min=0)),
            gradient=SMOOTH,
        )
        return send_back(rules, score, model, images)


@dataclass(frozen=True)
class DeconvNet(Method):
    """The gradient with R · 1[R > 0] at every ReLU.

    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks"
    (arXiv:1311.2901), sec. 2.1.

    Raises:
        ValueError: on a call, if the score depends on an activation that is not a ReLU (or ReLU6).
    """

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        rules = Rules(
            "DeconvNet", relu=lambda signal, _gradient: signal.clamp(min=0), gradient=SMOOTH
        )
        return send_back(rules, score, model, images)


@dataclass(frozen=True, eq=False)
class PatternNet(PatternMethod):
    """An estimate of the signal: the gradient with the pattern a for every layer's weight.

    The backward pass starts with the score, so that the map is in the units of the image. For an
    operation that only scales and shifts, as a BatchNorm that stands alone, a is 1 over the scale.

    Source: Kindermans et al. 2018, "Learning how to explain neural networks" (arXiv:1705.05598),
    sec. 4.

    Args:
        patterns: those of every linear and convolution layer that the score depends on, by the
            layer's name.
        estimator: ``"positive"``, a₊ of the paper's two-component estimator, or ``"linear"``.

    Raises:
        TypeError, ValueError: an argument is not as described. On a call: the patterns are not
            those of the model, or the score depends on an operation that is neither linear nor a
            ReLU nor a max-pooling.
    """

    def carrier(self, weight: Tensor, pattern: Tensor) -> Tensor:
        return pattern

    def affine(self, operation: Operation, signal: Tensor) -> tuple[Tensor, ...]:
        (scale,) = pulled_back(operation.function, operation.inputs, torch.ones_like)
        return (torch.where(scale == 0, 0, signal / scale),)
