"""Coordinates in which a layer's inputs have the identity for covariance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

STILL = 1e-12
"""A direction varies if its variance is above this share of the largest: the square of a relative
1e-6, which is above the rounding of samples in float32."""


class Direction(NamedTuple):
    """A weight vector w or a pattern u of each unit, in the coordinates of :class:`Whitening`.

    Attributes:
        varying: Rᵀw or R⁻¹u, (…, directions of R).
        still: Nᵀw or Nᵀu, (…, inputs): its part in the directions in which the inputs do not vary.
    """

    varying: Tensor
    still: Tensor


@dataclass(frozen=True, eq=False)
class Whitening:
    """R with R Rᵀ = C for covariances C (groups, inputs, inputs), and R's inverse.

    Where C is singular, R⁻¹ is the inverse on the range of C, and the columns of N are the other
    directions, those in which the inputs do not vary.

    Attributes:
        root: R (groups, inputs, directions), with as many directions as the inputs vary in, and
            columns of 0 in a group that has fewer.
        inverse: R⁻¹ (groups, directions, inputs), with 0 in all directions of N.
        still: N (groups, inputs, directions), with columns of 0 in a group that has fewer.
    """

    root: Tensor
    inverse: Tensor
    still: Tensor

    @classmethod
    def of(cls, covariance: Tensor, cutoff: float = 0.0) -> Whitening:
        """By Cholesky's factor where C is regular, which takes a thirtieth of the time; else by
        eigenvectors.

        Args:
            covariance: C.
            cutoff: Directions with at most this share of the largest variance are left out of R
                without entering N.
        """
        if cutoff <= STILL:
            factor, failed = torch.linalg.cholesky_ex(covariance)
            if not failed.any():
                identity = torch.eye(covariance.shape[-1]).to(covariance)
                inverse = torch.linalg.solve_triangular(factor, identity, upper=False)
                # The traces of C and of its inverse: their product bounds the condition.
                condition = (factor**2).sum((1, 2)) * (inverse**2).sum((1, 2))
                if (condition * STILL < 1).all():
                    return cls(factor, inverse, factor[..., :0])
        values, vectors = torch.linalg.eigh(covariance)
        varying = (values > max(cutoff, STILL) * values[..., -1:]).unsqueeze(-2)
        size = torch.where(varying, values.unsqueeze(-2), 1).sqrt()
        # Eigenvalues ascend, so those that vary come last.
        still, count = int((~varying).sum(-1).max()), int(varying.sum(-1).max())
        root, inverse = ((vectors * varying * s)[..., -count:] for s in (size, 1 / size))
        return cls(root, inverse.mT, (vectors * ~varying)[..., : 0 if cutoff > STILL else still])

    def weights(self, w: Tensor) -> Direction:
        """Weights (groups, units, inputs) in these coordinates: what they take up."""
        return Direction(w @ self.root, w @ self.still)

    def patterns(self, u: Tensor) -> Direction:
        """Patterns (groups, units, inputs) in these coordinates: what they stand for."""
        return Direction(u @ self.inverse.mT, u @ self.still)
