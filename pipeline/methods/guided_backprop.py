"""Guided backprop and DeconvNet: the gradient with another rule for ReLUs."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.scores import Score
from firstlight.pipeline.tracing.backward import send_back
from firstlight.pipeline.tracing.operations import Kind
from firstlight.pipeline.tracing.rules import ReLURule, Rules


@dataclass(frozen=True)
class GuidedBackprop(Method):
    """The gradient with R · 1[z > 0] · 1[R > 0] at every ReLU.

    Gates, softmax, attention and norms have their ordinary gradient.

    Source: Springenberg et al. 2015, "Striving for Simplicity" (arXiv:1412.6806), sec. 3.4.

    Raises:
        ArgumentError: On a call, if the score depends on a smooth activation such as GELU or
            x · σ(x), which leaves nothing to rectify.
    """

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return send_back(_GUIDED, score, model, images)


@dataclass(frozen=True)
class DeconvNet(Method):
    """The gradient with R · 1[R > 0] at every ReLU.

    Gates, softmax, attention and norms have their ordinary gradient.

    Source: Zeiler and Fergus 2014, "Visualizing and Understanding Convolutional Networks"
    (arXiv:1311.2901), sec. 2.1.

    Raises:
        ArgumentError: On a call, if the score depends on a smooth activation such as GELU or
            x · σ(x), which leaves nothing to rectify.
    """

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return send_back(_DECONVOLVED, score, model, images)


def _rectifying(method: str, relu: ReLURule) -> Rules:
    return Rules(
        method,
        relu,
        dict.fromkeys(set(Kind) - {Kind.SMOOTH}),
        reasons={Kind.SMOOTH: ", a smooth activation that leaves nothing to rectify"},
    )


_GUIDED = _rectifying("GuidedBackprop", lambda signal, gradient: gradient(signal.clamp(min=0)))
_DECONVOLVED = _rectifying("DeconvNet", lambda signal, _gradient: signal.clamp(min=0))
