"""How alike two maps are: Pearson's and Spearman's correlation, map by map.

torchmetrics has both for one pair at a time, but not for maps: its Pearson calls a map of a few
pixels undefined, and its Spearman adds up the ranks of equal entries in 32 bits, which the zeros of
a picture of 224 x 224 pixels overflow.
"""

from __future__ import annotations

import torch
from torch import Tensor

from firstlight.pipeline.maps import check_same_shape, checked_maps, scaled


def correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Pearson's correlation of maps g (…, C, H, W) with others of their shape, pixel by pixel.

    Returns:
        (…,), between -1 and 1; NaN where either map is constant or not finite.

    Raises:
        ArgumentError: ``maps`` and ``others`` are not real tensors (N, C, H, W) or (C, H, W) of one
            shape.
    """
    g, h = (scaled(m).flatten(-3) for m in _alike(maps, others))
    g -= g.mean(-1, keepdim=True)
    h -= h.mean(-1, keepdim=True)
    covariance = (g * h).sum(-1)
    return covariance / (g.square_().sum(-1) * h.square_().sum(-1)).sqrt()


def rank_correlation(maps: Tensor, others: Tensor) -> Tensor:
    """Spearman's correlation of |g| of maps g (…, C, H, W) with others of their shape.

    Equal entries share the mean of their ranks.

    Returns:
        (…,), between -1 and 1; NaN where either |g| is constant or not finite.

    Raises:
        ArgumentError: As for :func:`correlation`.
    """
    g, h = _alike(maps, others)
    return correlation(_ranks(g), _ranks(h))


def _alike(maps: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    g, h = checked_maps("maps", maps), checked_maps("others", others)
    check_same_shape("others", others, maps)
    return g, h


def _ranks(maps: Tensor) -> Tensor:
    values = maps.abs().flatten(-3)
    ordered = values.sort(dim=-1).values
    smaller, smaller_or_equal = (
        torch.searchsorted(ordered, values, right=right) for right in (False, True)
    )
    ranks = (smaller + smaller_or_equal + 1) / 2
    finite = values.isfinite().all(-1, keepdim=True)
    return ranks.where(finite, torch.nan).reshape(maps.shape)
