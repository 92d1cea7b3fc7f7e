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
    g, h = scaled(maps).flatten(-3), scaled(others, "others").flatten(-3)
    check_same_shape("others", others, maps)
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
    return correlation(_ranks("maps", maps), _ranks("others", others))


def _ranks(name: str, maps: Tensor) -> Tensor:
    values = checked_maps(name, maps).abs().flatten(-3)
    ordered = values.sort(dim=-1).values
    smaller, smaller_or_equal = (
        torch.searchsorted(ordered, values, right=right) for right in (False, True)
    )
    ranks = (smaller + smaller_or_equal + 1) / 2
    finite = values.isfinite().all(-1, keepdim=True)
    return ranks.where(finite, torch.nan).reshape(maps.shape)
