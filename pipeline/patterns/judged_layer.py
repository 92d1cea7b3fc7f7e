"""One layer while it is judged: moments of its inputs and outputs, and the inputs that count."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from firstlight.pipeline.patterns.correlation import linear_correlation, two_component_correlation
from firstlight.pipeline.patterns.covariance import InputSums, PositiveSums
from firstlight.pipeline.patterns.pattern import Pattern
from firstlight.pipeline.patterns.samples import Samples, unit_outputs
from firstlight.pipeline.patterns.whitening import STILL, Direction, Whitening
from firstlight.pipeline.tracing.layer_observer import Observation

DEAD_INPUT = 1e-3
"""An input of at most this share of the layer's largest variance is dropped (MNIST's border)."""


_CHUNK = 2**21
"""Numbers in the largest matrix of samples: 16 MB, whatever the layer."""


@dataclass(frozen=True, eq=False)
class LiveInputs:
    """The inputs that count, by their variance in the data that the patterns were fitted on.

    Attributes:
        live: 1 where an input is live in a group of units, else 0, (groups, all inputs of a unit).
    """

    live: Tensor

    @classmethod
    def of(cls, pattern: Pattern, groups: int) -> LiveInputs:
        variance = pattern.input_variance[:: len(pattern.weight) // groups].flatten(1)
        return cls((variance > DEAD_INPUT * variance.max()).double())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LiveInputs) and torch.equal(self.live, other.live)

    def of_weights(self, weights: Tensor) -> Tensor:
        """The inputs kept of weights or patterns (units, …): (groups, units, inputs kept)."""
        return self.kept(weights.flatten(1).unflatten(0, (len(self.live), -1)))

    def kept(self, values: Tensor) -> Tensor:
        """Those of values (groups, …, all inputs) that are live in any group; 0 where not in its
        own."""
        kept, mask = self._kept
        if len(kept) < values.shape[2]:
            values = values.index_select(2, kept.to(values.device))
        return values if mask is None else values * mask.to(values)

    @cached_property
    def _kept(self) -> tuple[Tensor, Tensor | None]:
        kept = self.live.any(0).nonzero().squeeze(1)
        live = self.live.index_select(1, kept)
        return kept, None if live.all() else live.unsqueeze(1)


class Remembered(NamedTuple):
    """What does not change as the network learns, of a layer whose input is the images themselves.

    Attributes:
        origin: How the layer reads the images.
        live: The inputs that count.
        calls: Of the layer in one pass over the images.
        inputs: Sums over the inputs kept.
        whitening: Of the inputs kept.
    """

    origin: Hashable
    live: LiveInputs
    calls: int
    inputs: InputSums
    whitening: Whitening


class JudgedLayer:
    """The moments of one layer from one pass over the images.

    Args:
        pattern: The layer's.
        groups: Of the layer.
        origin: How its first call reads the images; None if not they are its input.
        remembered: From an earlier pass over the same images; used if it fits the first call.
        cutoff: As in :meth:`Whitening.of`.
    """

    def __init__(
        self,
        pattern: Pattern,
        groups: int,
        origin: Hashable,
        remembered: Remembered | None,
        cutoff: float = 0.0,
    ) -> None:
        self._cutoff = cutoff
        # More than the rounding of the sums: patterns are what their differences leave.
        self._rounding = pattern.resolution ** (2 / 3)
        self._live = LiveInputs.of(pattern, groups)
        self._w = self._live.of_weights(pattern.weight)
        self._positive = PositiveSums(self._w)
        fits = remembered is not None and remembered[:2] == (origin, self._live)
        self._remembered = remembered if fits else None
        self._inputs = None if self._remembered is None else self._remembered.inputs
        self._origins: set[Hashable] = set()
        self._calls = 0

    def add(self, observation: Observation, origin: Hashable) -> None:
        """Add a call of the layer."""
        self._origins.add(origin)
        self._calls += 1
        for x, positive in _cut_out(Samples.of(observation.call), unit_outputs(observation)):
            # Where the sums are: the layer's device may have no float64.
            x, positive = self._live.kept(x).to(self._w.device), positive.to(self._w.device)
            if self._inputs is None:
                self._inputs = InputSums(x.mean(1, keepdim=True).to(self._w))
            centred = x - self._inputs.centre.to(x)
            self._positive.add(x, centred, positive)
            if self._remembered is None:
                self._inputs.add(centred)

    @property
    def consistent(self) -> bool:
        """True if all calls were those of the pass that is remembered, if one is."""
        if self._remembered is None:
            return True
        return self._origins == {self._remembered.origin} and self._calls == self._remembered.calls

    @property
    def positive_count(self) -> Tensor:
        """Samples with z > 0, (units,)."""
        return self._positive.positive_count.flatten()

    @property
    def counts(self) -> tuple[int, Tensor]:
        """Samples, and how many inputs of each unit are live, (units,)."""
        return self._positive.count, self._live.live.sum(1).repeat_interleave(self._w.shape[1])

    @property
    def sums(self) -> InputSums:
        """Over the inputs kept."""
        if self._inputs is None:
            raise RuntimeError("no call of the layer has been added")
        return self._inputs

    @cached_property
    def whitening(self) -> Whitening:
        """Of the inputs kept."""
        if self._remembered is not None:
            return self._remembered.whitening
        return Whitening.of(self.sums.covariance, self._cutoff)

    @cached_property
    def weight(self) -> Direction:
        """w, (groups, units, inputs)."""
        return self.whitening.weights(self._w)

    @property
    def still(self) -> Tensor:
        """The units (units,) whose output does not vary."""
        most = (self.whitening.root**2).sum((1, 2), keepdim=True).squeeze(2)
        size = (self._w**2).sum(2)
        return ((self.weight.varying**2).sum(2) <= STILL * most * size).flatten()

    def correlation(self, parts: Sequence[Tensor]) -> Tensor:
        """max_v corr(y, vᵀd) (groups, units) for a pattern u, or a₊ and a₋, (units, …)."""
        patterns = (self._live.of_weights(part) for part in parts)
        directions = [self.whitening.patterns(F.normalize(u, dim=2, eps=_TINY)) for u in patterns]
        if len(directions) == 1:
            return linear_correlation(self.weight, directions[0], self._rounding)
        covariance = self._positive.covariance(self.sums.offset)
        active = self.whitening.patterns(covariance).varying, self._positive.variance
        return two_component_correlation(self.weight, directions, *active, self._rounding)

    def remember(self) -> Remembered | None:
        """What the next pass over the same images may use, if they were the layer's input."""
        if len(self._origins) != 1 or None in self._origins:
            return None
        (origin,) = self._origins
        return Remembered(origin, self._live, self._calls, self.sums, self.whitening)


_TINY = torch.finfo(torch.float64).tiny


def _cut_out(x: Samples, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Samples (groups, n, inputs) with [z > 0] (groups, n, units), a few images at a time."""
    per_image = x.values.shape[1] * math.prod(x.kernel) * math.prod(z.shape[2:])
    step = max(1, _CHUNK // per_image)
    # (N, groups, units, positions…) -> (groups, N, positions…, units)
    positive = (z > 0).unflatten(1, (x.groups, -1)).movedim(2, -1).movedim(1, 0)
    for start in range(0, len(z), step):
        images = slice(start, start + step)
        yield x.cut_out(images), positive[:, images].flatten(1, -2)
