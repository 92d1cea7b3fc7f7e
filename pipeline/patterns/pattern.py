"""The patterns of a layer: what its units detect, as opposed to the weights they detect it with."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from firstlight.errors import ArgumentError
from firstlight.pipeline.tracing.batch_norm import per_unit

PatternName = Literal["linear", "positive", "negative"]

PATTERNS: tuple[PatternName, ...] = ("linear", "positive", "negative")
"""The patterns that a unit has: of all samples, and of those with z > 0 and with z ≤ 0."""


@dataclass(frozen=True, eq=False)
class Pattern:
    """The patterns of one layer's units, in float64.

    A pattern is all zeros where it is undefined: no sample in the regime, or an output that varies
    there no more than rounding does. It is empty, (0,), where it was not asked for.

    Attributes:
        weight: w (units, …), shaped like the layer's weight. If ``folded``, the weight of layer and
            norm together.
        linear: a of the estimator S_a, from all samples; like the next two shaped like ``weight``,
            with wᵀa = 1.
        positive: a₊ of S_a±, from the samples with z > 0.
        negative: a₋ of S_a±, from the samples with z ≤ 0.
        folded: True if a BatchNorm belongs to the layer and is part of the unit.
        count: Samples seen, positions × images.
        positive_count: (units,), samples with z > 0.
        input_mean: The mean of the input that each weight multiplies, shaped like ``weight``.
        input_variance: Its variance.
        sees_image: True if no other layer stands between the image and this one.
        resolution: The relative rounding of the sums over a batch: 2⁻²³ or, in float64, 2⁻⁵².
    """

    weight: Tensor
    linear: Tensor
    positive: Tensor
    negative: Tensor
    folded: bool
    count: int
    positive_count: Tensor
    input_mean: Tensor
    input_variance: Tensor
    sees_image: bool = False
    resolution: float = 2**-23

    @property
    def negative_count(self) -> Tensor:
        """(units,), samples with z ≤ 0."""
        return self.count - self.positive_count

    def of(self, estimator: str) -> Tensor:
        """The pattern "linear", "positive" or "negative", shaped like the weight.

        Raises:
            ArgumentError: It was not asked for when the patterns were fitted.
        """
        pattern: Tensor = getattr(self, estimator)
        if pattern.shape != self.weight.shape:
            raise ArgumentError(
                "patterns", f"were fitted without {estimator!r}: PatternStatistics(estimators=…)"
            )
        return pattern

    def undefined(self, estimator: str) -> Tensor:
        """True for units (units,) that have no pattern "linear", "positive" or "negative"."""
        return self.of(estimator).flatten(1).count_nonzero(1) == 0


class Regimes(NamedTuple):
    """The sums that some patterns need: of all samples, and of one of the regimes z > 0 and z ≤ 0,
    as what all have and one has not is the other's.

    Attributes:
        linear: True if Σ z x is needed.
        side: "positive" for Σ [z > 0] z x and Σ [z > 0] x, "negative" for those with z ≤ 0, None
            for neither.
    """

    linear: bool
    side: Literal["positive", "negative"] | None

    @classmethod
    def of(cls, estimators: Collection[str]) -> Regimes:
        if "positive" in estimators:
            return cls(len(estimators) > 1, "positive")
        if "negative" in estimators:
            return cls(len(estimators) > 1, "negative")
        return cls(True, None)

    @property
    def products(self) -> int:
        """How many sums of products there are."""
        return self.linear + 2 * (self.side is not None)

    def factors(self, z: Tensor, active: Tensor) -> Iterator[Tensor]:
        """g of each Σ g x, one after another.

        Args:
            z: The outputs.
            active: [z > 0] z. It becomes [z > 0], as numbers, before the last g or the end: memory
                that is at hand is several times as quick as new.
        """
        negative = self.side == "negative"
        if self.linear:
            yield z
        if self.side is not None:
            yield z - active if negative else active
        active.sign_()
        if self.side is not None:
            yield 1 - active if negative else active


class LayerSums(NamedTuple):
    """Sums over all samples x of a layer, with outputs z, in float64.

    Attributes:
        products: Σ g x of :class:`Regimes`, (up to 3, units, …).
        inputs: Σ x and Σ x², (2, groups, …), where each group of units has its own inputs.
        units: The sums of 1, z, [z > 0], the norm's scale, its square, of 1 where there is a norm,
            and of 1 where the layer sees the image, (7, units).
        extremes: The maxima of z, of -z, and of the number of samples that are summed before
            float64 takes over, (3, units).
    """

    products: Tensor
    inputs: Tensor
    units: Tensor
    extremes: Tensor

    def pattern(self, layer: str, weight: Tensor, estimators: Collection[str]) -> Pattern:
        """Some patterns of a layer from its weight (units, …) without the norm.

        Raises:
            ArgumentError: The outputs were not finite, or went to one norm here and to another
                there.
        """
        count, z, positive_count, _, _, folded, sees_image = self.units
        resolution = torch.finfo(torch.promote_types(weight.dtype, torch.float32)).eps
        weight = weight.to(z.device).double()
        weight = weight * per_unit(self._scale(layer), weight)
        mean, square = (_per_weight(moment, len(weight)) for moment in self.inputs / count[0])
        vary = self._vary(weight, square, resolution)
        # Rounding adds up like a random walk (N. J. Higham and T. Mary, "A new approach to
        # probabilistic rounding error analysis", 2019).
        rounding = resolution * float(self.extremes[2].max().sqrt())
        units = _Units(layer, weight, z / count, rounding, vary)
        sums = self._by_regime(Regimes.of(estimators), mean * count[0])
        nothing = weight.new_empty(0)
        patterns = {
            name: units.pattern(*sums[name]) if name in estimators else nothing for name in PATTERNS
        }
        return Pattern(
            weight=units.weight,
            **patterns,
            folded=bool(folded.any()),
            count=int(count[0]),
            positive_count=positive_count.long(),
            input_mean=mean,
            input_variance=(square - mean**2).clamp(min=0),
            sees_image=bool(sees_image.any()),
            resolution=resolution,
        )

    def _vary(self, weight: Tensor, square: Tensor, resolution: float) -> Tensor:
        """True for units (units,) whose outputs z vary more than by rounding.

        The sums cannot tell: over many equal samples their rounding grows with the number.
        """
        extremes = self.extremes[:2]
        size = _norm(weight) * square.flatten(1).sum(1).sqrt() + extremes.abs().amax(0)
        return extremes.sum(0) > 8 * resolution * size

    def _scale(self, layer: str) -> Tensor:
        """The scale of the one norm that belongs to the layer, (units,)."""
        count, scale, scale_square = self.units[0], self.units[3], self.units[4]
        scale = scale / count
        if not torch.allclose(scale_square / count, scale**2, rtol=1e-9, atol=0):
            raise ArgumentError(
                "model",
                f"the output of layer {layer!r} goes to one BatchNorm here and to another, or "
                "none, there, so the layer has no one pattern; leave it out with layers=",
            )
        return scale

    def _by_regime(self, regimes: Regimes, x: Tensor) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """Σ z x, Σ x and the number of samples of each regime that they are known of."""
        count, _, positive_count = self.units[:3]
        known: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        if regimes.linear:
            known["linear"] = self.products[0], x, count
        if regimes.side is not None:
            positive = regimes.side == "positive"
            side_count = positive_count if positive else count - positive_count
            known[regimes.side] = self.products[-2], self.products[-1], side_count
            if regimes.linear:
                other = "negative" if positive else "positive"
                whole, side = known["linear"], known[regimes.side]
                known[other] = whole[0] - side[0], whole[1] - side[1], whole[2] - side[2]
        return known


class _Units(NamedTuple):
    """The units of a layer: its name, w (units, …), E[z] (units,), the share of a sum that may be
    rounding, and which units vary (units,)."""

    layer: str
    weight: Tensor
    mean: Tensor
    rounding: float
    vary: Tensor

    def pattern(self, xz: Tensor, x: Tensor, count: Tensor) -> Tensor:
        """k/(wᵀk) of one regime, up to a factor k = Σ xz - Σ x E[z]; 0 where wᵀk is rounding."""
        weight, mean = self.weight, self.mean
        denominator = (weight * xz).flatten(1).sum(1) - (weight * x).flatten(1).sum(1) * mean
        if not denominator.isfinite().all():
            raise ArgumentError(
                "model",
                f"the outputs of layer {self.layer!r} are not all finite, so its weights or inputs "
                "are not",
            )
        size = _norm(weight) * _norm(xz)
        defined = self.vary & (count > 0) & (denominator.abs() > self.rounding * size)
        k = torch.addcmul(xz, x, per_unit(mean, weight), value=-1)
        return k.mul_(per_unit(torch.where(defined, 1 / denominator, 0), weight))


def _norm(values: Tensor) -> Tensor:
    """The Euclidean norm of each unit's values, (units, …) -> (units,)."""
    norm: Tensor = torch.linalg.vector_norm(values.flatten(1), dim=1)
    return norm


def _per_weight(values: Tensor, units: int) -> Tensor:
    """Values (groups, …) for each unit, (units, …), without a copy where there is one group."""
    return values.unsqueeze(1).expand(-1, units // len(values), *values.shape[1:]).flatten(0, 1)
