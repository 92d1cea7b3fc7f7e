"""Running sums over a layer's samples, from which their covariances follow."""

from __future__ import annotations

from torch import Tensor


class InputSums:
    """Running sums over the samples x of a layer: of x - x₀ and (x - x₀)(x - x₀)ᵀ, by group.

    Args:
        centre: x₀ (groups, 1, inputs), near E[x], so that rounding takes nothing where inputs vary
            little about a large mean, and leaves nothing where they do not vary.
    """

    def __init__(self, centre: Tensor) -> None:
        self.count = 0
        self.centre = centre
        self._x = centre.new_zeros(centre.shape)
        self._xx = centre.new_zeros(len(centre), *2 * centre.shape[2:])

    def add(self, centred: Tensor) -> None:
        """Add samples x - x₀ (groups, n, inputs)."""
        # In float64: what rounding adds to small eigenvalues, the inverse makes large.
        centred = centred.to(self._x)
        self.count += centred.shape[1]
        self._x += centred.sum(1, keepdim=True)
        self._xx.baddbmm_(centred.mT, centred)

    @property
    def offset(self) -> Tensor:
        """E[x - x₀] (groups, 1, inputs)."""
        return self._x / self.count

    @property
    def covariance(self) -> Tensor:
        """cov[x] (groups, inputs, inputs)."""
        return self._xx / self.count - self.offset.mT @ self.offset


class PositiveSums:
    """Running sums over the samples of a layer: of [z > 0], t = [z > 0] y, t² and t (x - x₀).

    Args:
        weight: (groups, units of a group, inputs).
    """

    def __init__(self, weight: Tensor) -> None:
        groups, units, size = weight.shape
        self._weight = weight.mT
        self.count = 0
        self._positive, self._t, self._tt = (weight.new_zeros(groups, 1, units) for _ in range(3))
        self._xt = weight.new_zeros(groups, size, units)

    def add(self, x: Tensor, centred: Tensor, positive: Tensor) -> None:
        """Add samples x and x - x₀ (groups, n, inputs), positive (groups, n, units) is [z > 0]."""
        t = (x @ self._weight.to(x)).mul_(positive)
        self.count += x.shape[1]
        for total, batch in zip(
            (self._positive, self._t, self._tt), (positive, t, t * t), strict=True
        ):
            total += batch.sum(1, keepdim=True)
        self._xt += centred.mT @ t

    def covariance(self, offset: Tensor) -> Tensor:
        """cov[t, x] (groups, units of a group, inputs) from E[x - x₀] (groups, 1, inputs)."""
        return (self._xt / self.count - offset.mT @ (self._t / self.count)).mT

    @property
    def variance(self) -> Tensor:
        """var t (groups, units of a group)."""
        return (self._tt / self.count - (self._t / self.count) ** 2).squeeze(1)

    @property
    def positive_count(self) -> Tensor:
        """How many samples have z > 0, (groups, units of a group)."""
        return self._positive.squeeze(1)
