"""The rules by which LRP divides the relevance of a layer's unit among its inputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from firstlight.arguments import AboveZero, NotNegative, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.tracing.backward import pulled_back
from firstlight.pipeline.tracing.layers import LayerCall

PerChannel = Annotated[tuple[float, ...], Field(strict=False, min_length=1)]
"""A number for each channel."""

Term = tuple[Tensor, Tensor, Tensor | None]
"""An input, a weight and a bias that a layer is run with."""


def in_proportion(
    function: Callable[..., Tensor],
    xs: tuple[Tensor, ...],
    relevance: Tensor,
    epsilon: float,
    degree: int = 1,
) -> tuple[Tensor, ...]:
    """x ⊙ Jᵀ(R / z): relevance shared in proportion to what makes up z = f(x).

    By Euler's theorem the shares of a function of ``degree`` (1 for a linear one, 2 for a product
    of two inputs) sum up to R, but for what ε and biases take.
    """

    def per_output(z: Tensor) -> Tensor:
        z = degree * z
        if epsilon:
            return relevance / (z + torch.copysign(z.new_tensor(epsilon), z))
        return (relevance / z).masked_fill(z == 0, 0)

    return tuple(x * g for x, g in zip(xs, pulled_back(function, xs, per_output), strict=True))


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

    def relevance(self, layer: LayerCall, relevance: Tensor) -> Tensor:
        """The relevance of a layer's input, from that of its output."""
        terms = self.terms(layer.input, layer.weight, layer.bias)

        def z(*xs: Tensor) -> Tensor:
            outputs = [layer.with_input(x)(w, b) for x, (_, w, b) in zip(xs, terms, strict=True)]
            return sum(outputs[1:], outputs[0])

        shares = in_proportion(z, tuple(x for x, _, _ in terms), relevance, self.epsilon)
        return sum(shares[1:], shares[0])


@dataclass(frozen=True)
class Z(LRPRule):
    """LRP-0: in proportion to x · w, with a share for the bias (Bach et al. 2015, eq. 56)."""

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        return [(x, weight, bias)]


@checked
@dataclass(frozen=True)
class Epsilon(Z):
    """LRP-ε: as LRP-0, with a share for ε, which damps units near 0 (Bach et al. 2015, eq. 58)."""

    epsilon: AboveZero = 1e-6


@checked
@dataclass(frozen=True)
class Gamma(LRPRule):
    """LRP-γ: what speaks for a unit's output counts 1 + γ times as much as what speaks against it.

    For z > 0 the terms are x⁺ (w + γ w⁺) + x⁻ (w + γ w⁻) + b + γ b⁺; for z < 0 those of the unit
    with w and b negated. γ = 0 is LRP-ε, a large γ is close to z⁺.

    Source: Montavon et al. 2019, "Layer-Wise Relevance Propagation: An Overview" (doi:10.1007/
    978-3-030-28954-6_10), for inputs and outputs of one sign; of any sign as in Anders et al. 2021
    (zennit, arXiv:2106.13200).

    Args:
        gamma: γ. For vision transformers, 0.25 in convolutions and 0.05 in linear layers are usual.
        epsilon: As in LRP-ε.
    """

    gamma: NotNegative = 0.25
    epsilon: AboveZero = 1e-6

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        rising = weight + self.gamma * weight.clamp(min=0)
        falling = weight + self.gamma * weight.clamp(max=0)
        bias = None if bias is None else bias + self.gamma * bias.clamp(min=0)
        return [(x.clamp(min=0), rising, bias), (x.clamp(max=0), falling, None)]

    def relevance(self, layer: LayerCall, relevance: Tensor) -> Tensor:
        z = layer(layer.weight, layer.bias)
        bias = None if layer.bias is None else -layer.bias
        negated = replace(layer, weight=-layer.weight, bias=bias)
        above = super().relevance(layer, relevance * (z > 0))
        return above + super().relevance(negated, relevance * (z < 0))


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


@checked
@dataclass(frozen=True)
class Bounded(LRPRule):
    """zᴮ: in proportion to x · w - low · w⁺ - high · w⁻, for a first layer on pixels.

    Source: Montavon et al. 2017, arXiv:1512.02479.

    Args:
        low: the lowest value that the layer's input can take, or that of each channel.
        high: the highest, likewise.

    Raises:
        ArgumentError: low is not below high.
    """

    low: float | PerChannel = 0.0
    high: float | PerChannel = 1.0

    def __post_init__(self) -> None:
        low, high = torch.as_tensor(self.low), torch.as_tensor(self.high)
        if low.shape != high.shape or not bool((low < high).all()):
            problem = f"low must be below high={self.high!r}, both numbers or one per channel"
            raise ArgumentError("low", problem, self.low)

    def terms(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> list[Term]:
        low, high = (
            torch.as_tensor(bound, dtype=x.dtype, device=x.device)
            .reshape(-1, *[1] * (x.ndim - 2))
            .expand_as(x)
            for bound in (self.low, self.high)
        )
        positive, negative = weight.clamp(min=0), weight.clamp(max=0)
        return [(x, weight, None), (-low, positive, None), (-high, negative, None)]


RuleName = Literal["z", "epsilon", "gamma", "w2", "z+", "alpha1beta0", "bounded"]
"""The rules that go by a name."""

NAMED_RULES: dict[RuleName, type[LRPRule]] = {
    "z": Z,
    "epsilon": Epsilon,
    "gamma": Gamma,
    "w2": WSquared,
    "z+": ZPlus,
    "alpha1beta0": ZPlus,
    "bounded": Bounded,
}
"""What they are, with their default parameters."""
