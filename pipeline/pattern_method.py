"""What PatternNet and PatternAttribution have in common: a backward pass with other weights."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from firstlight.pipeline.backward import Layer, Operation, Rules, pulled_back, send_back
from firstlight.pipeline.method import Method
from firstlight.pipeline.patterns import Pattern
from firstlight.pipeline.scores import Score


@dataclass(frozen=True, eq=False)
class PatternMethod(Method):
    """Sends S dS back with V in place of every layer's weight, and no bias.

    A BatchNorm directly behind a layer is one unit with it, which the pattern belongs to. ReLUs,
    sums and pooling have their ordinary gradient.
    """

    patterns: Mapping[str, Pattern]
    estimator: Literal["positive", "linear"] = "positive"

    def __post_init__(self) -> None:
        if not isinstance(self.patterns, Mapping):
            kind = type(self.patterns).__name__
            raise TypeError(f"patterns: must map the names of layers to patterns, got {kind}")
        if self.estimator not in ("positive", "linear"):
            raise ValueError(f"estimator={self.estimator!r}: must be 'positive' or 'linear'")

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
            layer=self._layer,
            affine=self.affine,
        )
        return send_back(rules, score, model, images, start=torch.detach)

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
            raise ValueError(f"patterns: there is none for layer {name!r}, only for {known}")
        pattern = self.patterns[name]
        a = pattern.positive if self.estimator == "positive" else pattern.linear
        if a.shape != weight.shape:
            shapes = f"{tuple(a.shape)}, its weight {tuple(weight.shape)}"
            raise ValueError(f"patterns: that of layer {name!r} has the shape {shapes}")
        if pattern.folded != layer.folded:
            has, that = ("has", "without") if layer.folded else ("has no", "with")
            raise ValueError(
                f"patterns: layer {name!r} {has} BatchNorm behind it, its pattern is {that} one"
            )
        return a.to(weight)
