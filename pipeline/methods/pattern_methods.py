"""PatternNet and PatternAttribution: a backward pass with patterns in place of weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from firstlight.arguments import checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.scores import Score
from firstlight.pipeline.patterns import Pattern
from firstlight.pipeline.tracing.backward import pulled_back, send_back
from firstlight.pipeline.tracing.operations import Kind, Layer, Operation
from firstlight.pipeline.tracing.rules import Rules

_SMALLER = 40
"""By which power of two the signal is started smaller, once or more often, where it overflows."""


@dataclass(frozen=True, eq=False)
class PatternMethod(Method):
    """Sends S dS back with V in place of every layer's weight, and no bias.

    A BatchNorm directly behind a layer is one unit with it, which the pattern belongs to. ReLUs,
    sums and pooling have their ordinary gradient.
    """

    patterns: Mapping[str, Pattern]
    estimator: Literal["positive", "linear"] = "positive"

    @abstractmethod
    def carrier(self, weight: Tensor, pattern: Tensor) -> Tensor:
        """V, from a unit's weight and pattern."""

    @abstractmethod
    def affine(self, operation: Operation, signal: Tensor) -> tuple[Tensor, ...]:
        """The signal before an operation that only scales and shifts."""

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        rules = Rules(
            type(self).__name__,
            relu=lambda signal, gradient: gradient(signal),
            kinds={
                Kind.LAYER: self._layer,
                Kind.SCALE: self.affine,
                Kind.BATCH_NORM: self.affine,
                Kind.SUM: None,
            },
            reason="; patterns are defined for networks of ReLUs",
        )
        # The signal is linear in its start, and powers of two do not round.
        exponents = torch.zeros(len(images), dtype=torch.int32, device=images.device)
        start: Callable[[Tensor], Tensor] = torch.detach
        for _ in range(4):
            maps = send_back(rules, score, model, images, start)
            # The sum of a finite map may overflow as well, and is tried once more for nothing.
            finite = maps.flatten(1).sum(1).isfinite()
            if finite.all():
                break
            exponents = exponents + _SMALLER * ~finite
            start = partial(_start, exponents=-exponents)
        if not exponents.any():
            return maps
        maps = _scaled(maps, exponents)
        if not maps.isfinite().all():
            kind = str(maps.dtype).removeprefix("torch.")
            problem = f"their signal leaves the range of {kind}, so there is no map to show"
            raise ArgumentError("patterns", problem)
        return maps

    def _layer(self, layer: Layer, signal: Tensor) -> tuple[Tensor, ...]:
        carrier = self.carrier(layer.call.weight, self._pattern(layer))
        return pulled_back(
            lambda x: layer.call.with_input(x)(carrier), layer.inputs, lambda _z: signal
        )

    def _pattern(self, layer: Layer) -> Tensor:
        """The layer's patterns a, shaped like its weight."""
        name, weight = layer.where, layer.call.weight
        if name not in self.patterns:
            known = ", ".join(self.patterns) or "no layer"
            raise ArgumentError("patterns", f"there is none for layer {name!r}, only for {known}")
        pattern = self.patterns[name]
        a = pattern.of(self.estimator)
        if a.shape != weight.shape:
            shapes = f"{tuple(a.shape)}, its weight {tuple(weight.shape)}"
            raise ArgumentError("patterns", f"that of layer {name!r} has the shape {shapes}")
        if pattern.folded != layer.folded:
            has, that = ("has", "without") if layer.folded else ("has no", "with")
            problem = f"layer {name!r} {has} BatchNorm behind it, its pattern is {that} one"
            raise ArgumentError("patterns", problem)
        return a.to(weight)


@checked
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
        ArgumentError: An argument is not as described. On a call: the patterns are not those of the
            model, their signal leaves the range of the model's dtype, or the score depends on an
            operation that is neither linear nor a ReLU nor a max-pooling: patterns are defined for
            networks of ReLUs.
    """

    def carrier(self, weight: Tensor, pattern: Tensor) -> Tensor:
        return pattern

    def affine(self, operation: Operation, signal: Tensor) -> tuple[Tensor, ...]:
        (scale,) = pulled_back(operation.function, operation.inputs, torch.ones_like)
        return (torch.where(scale == 0, 0, signal / scale),)


@checked
@dataclass(frozen=True, eq=False)
class PatternAttribution(PatternMethod):
    """What the signal contributes: the gradient with w ⊙ a for every layer's weight.

    It is LRP with the signal as the root point. As wᵀa = 1, every layer hands on what it receives,
    and what the map's sum differs by from the score is due to the ReLUs.

    Source: Kindermans et al. 2018, "Learning how to explain neural networks" (arXiv:1705.05598),
    sec. 4.

    Arguments and errors are those of :class:`PatternNet`.
    """

    def carrier(self, weight: Tensor, pattern: Tensor) -> Tensor:
        return weight * pattern

    def affine(self, operation: Operation, signal: Tensor) -> tuple[Tensor, ...]:
        return (signal,)


def _scaled(values: Tensor, exponents: Tensor) -> Tensor:
    """Each image's values times its power of two."""
    return torch.ldexp(values.detach(), exponents.reshape(-1, *[1] * (values.ndim - 1)))


def _start(scores: Tensor, exponents: Tensor) -> Tensor:
    """The scores (N,) times powers of two; NaN, which gives no map, for one that would become so
    small that signals not much smaller lose digits."""
    start = _scaled(scores, exponents)
    smallest = torch.finfo(start.dtype).tiny / torch.finfo(start.dtype).eps
    lost = (exponents != 0) & (scores != 0) & (start.abs() < smallest)
    return start.masked_fill(lost, torch.nan)
