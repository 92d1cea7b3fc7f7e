"""What each pixel contributes: how the score divides among the pixels."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from firstlight.pipeline.backward import Layer, Operation, Rules, pulled_back, send_back
from firstlight.pipeline.method import Method, gradient_of
from firstlight.pipeline.pattern_method import PatternMethod
from firstlight.pipeline.scores import Score


@dataclass(frozen=True)
class InputXGradient(Method):
    """x ⊙ dS/dx: what each pixel contributes, as if the score were linear around the image."""

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return images * gradient_of(score, model, images)


Term = tuple[Tensor, Tensor, Tensor | None]
"""An input, a weight and a bias that a layer is run with."""


class LRPRule(ABC):
    """How a layer's units share their relevance R among its inputs.

    A rule is a list of terms (x, w, b). With z the sum of the layer's outputs for the terms, the
    relevance of its inputs is Σ x ⊙ wᵀ(R / z), summed over the terms.
    """

    epsilon: float = 0.0
    """Added to z with the sign of z. Units whose z is 0 all the same have nothing to share."""

    @abstractmethod
    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        """The terms of a layer with this input, weight and bias."""


@dataclass(frozen=True)
class Z(LRPRule):
    """LRP-0: in proportion to x · w, with a share for the bias (Bach et al. 2015, eq. 56)."""

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(x, weight, bias)]


@dataclass(frozen=True)
class Epsilon(Z):
    """LRP-ε: as LRP-0, with a share for ε, which damps units near 0 (Bach et al. 2015, eq. 58)."""

    epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if not isinstance(self.epsilon, (int, float)) or not 0 < self.epsilon < math.inf:
            raise ValueError(f"epsilon={self.epsilon!r}: must be a finite number above 0")


@dataclass(frozen=True)
class ZPlus(LRPRule):
    """z⁺, or α1β0: in proportion to the positive x · w (Montavon et al. 2017, arXiv:1512.02479)."""

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        positive = (x.clamp(min=0), weight.clamp(min=0), None)
        negative = (x.clamp(max=0), weight.clamp(max=0), None)
        return [positive, negative]


@dataclass(frozen=True)
class WSquared(LRPRule):
    """w²: in proportion to w², for a first layer on any numbers (Montavon et al. 2017)."""

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(torch.ones_like(x), weight.square(), None)]


@dataclass(frozen=True)
class Bounded(LRPRule):
    """zᴮ: in proportion to x · w - low · w⁺ - high · w⁻, for a first layer on pixels.

    Source: Montavon et al. 2017, arXiv:1512.02479.

    Args:
        low: the lowest value that the layer's input can take, or that of each channel.
        high: the highest, likewise.

    Raises:
        ValueError: low is not below high.
    """

    low: float | tuple[float, ...] = 0.0
    high: float | tuple[float, ...] = 1.0

    def __post_init__(self) -> None:
        for name in ("low", "high"):
            bound = getattr(self, name)
            numbers = bound if isinstance(bound, (tuple, list)) else (bound,)
            if not numbers or any(type(n) not in (int, float) for n in numbers):
                raise TypeError(f"{name}={bound!r}: must be a number, or one for each channel")
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if low.shape != high.shape or low.ndim > 1 or not bool((low < high).all()):
            bounds = f"low={self.low!r}, high={self.high!r}"
            raise ValueError(f"{bounds}: low must be below high, both numbers or one per channel")

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        low, high = (
            torch.as_tensor(bound, dtype=x.dtype, device=x.device)
            .reshape(-1, *[1] * (x.ndim - 2))
            .expand_as(x)
            for bound in (self.low, self.high)
        )
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        return [(x, weight, None), (-low, positive, None), (-high, negative, None)]


NAMED_RULES: dict[str, type[LRPRule]] = {
    "z": Z,
    "epsilon": Epsilon,
    "w2": WSquared,
    "z+": ZPlus,
    "alpha1beta0": ZPlus,
    "bounded": Bounded,
}
"""The rules that go by a name, with their default parameters."""


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise relevance propagation: the score, handed down from layer to layer as relevance.

    Layers share by a rule. A BatchNorm directly behind a layer is one with it; one that stands
    alone hands its relevance on, like every scale and shift. Sums, be it residual connections or
    average pooling, share in proportion to the summands. ReLUs hand on, and max-pooling gives all
    to the winner. The map sums to the score, but for what biases, ε, and units with nothing to
    share take.

    Source: Bach et al. 2015, doi:10.1371/journal.pone.0130140.

    Args:
        rule: of every layer: an :class:`LRPRule`, or the name of one, "z", "epsilon", "w2", "z+"
            (or "alpha1beta0") and "bounded".
        first: of the layers that the image reaches before any other, if it is another one.

    Raises:
        ValueError: there is no such rule. On a call: the score depends on an operation that is
            neither linear nor a ReLU nor a max-pooling.
    """

    rule: LRPRule | str = "epsilon"
    first: LRPRule | str | None = None

    def __post_init__(self) -> None:
        for name, rule in (("rule", self.rule), ("first", self.first)):
            if rule is None and name == "first":
                continue
            if not isinstance(rule, LRPRule) and not (
                isinstance(rule, str) and rule in NAMED_RULES
            ):
                names = ", ".join(map(repr, NAMED_RULES))
                raise ValueError(f"{name}={rule!r}: must be an LRPRule or one of {names}")

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        rule, first = _rule(self.rule), _rule(self.first or self.rule)
        rules = Rules(
            "LRP",
            relu=lambda relevance, _gradient: relevance,
            layer=lambda layer, relevance: _shared(
                first if layer.first else rule, layer, relevance
            ),
            affine=lambda _operation, relevance: (relevance,),
            linear=lambda operation, relevance: _in_proportion(
                operation.function, operation.inputs, relevance, rule.epsilon
            ),
        )
        return send_back(rules, score, model, images, start=torch.detach)


def _rule(rule: LRPRule | str) -> LRPRule:
    return NAMED_RULES[rule]() if isinstance(rule, str) else rule


def _shared(rule: LRPRule, layer: Layer, relevance: Tensor) -> tuple[Tensor, ...]:
    """The relevance of a layer's input."""
    terms = rule.terms(layer.inputs[0], layer.call.weight, layer.call.bias)

    def z(*xs: Tensor) -> Tensor:
        outputs = [layer.call.with_input(x)(w, b) for x, (_, w, b) in zip(xs, terms, strict=True)]
        return sum(outputs[1:], outputs[0])

    shares = _in_proportion(z, tuple(x for x, _, _ in terms), relevance, rule.epsilon)
    return (sum(shares[1:], shares[0]),)


def _in_proportion(
    function: Callable[..., Tensor], xs: tuple[Tensor, ...], relevance: Tensor, epsilon: float
) -> tuple[Tensor, ...]:
    """x ⊙ Jᵀ(R / z): a linear function's relevance, shared in proportion to what makes up its z."""

    def per_output(z: Tensor) -> Tensor:
        z = z + torch.where(z < 0, -epsilon, epsilon)
        return torch.where(z == 0, 0, relevance / z)

    return tuple(x * g for x, g in zip(xs, pulled_back(function, xs, per_output), strict=True))


@dataclass(frozen=True, eq=False)
class PatternAttribution(PatternMethod):
    """What the signal contributes: the gradient with w ⊙ a for every layer's weight.

    It is LRP with the signal as the root point. As wᵀa = 1, every layer hands on what it receives,
    and what the map's sum differs by from the score is due to the ReLUs.

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
        return weight * pattern

    def affine(self, operation: Operation, signal: Tensor) -> tuple[Tensor, ...]:
        return (signal,)
