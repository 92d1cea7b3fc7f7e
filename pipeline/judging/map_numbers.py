"""Numbers for maps, cheap enough for every epoch: how rough, how sparse, how much on the object.

Every number is one per map. Except for :func:`magnitude` it does not change when the map is
multiplied by a constant, and it is NaN where it is undefined: for a map that is zero everywhere,
and for one with NaN or infinities. So average them with ``nanmean``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from firstlight.arguments import Natural, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.maps import check_maps, checked_maps, scaled


def total_variation(maps: Tensor) -> Tensor:
    """TV = Σ|∇g| / Σ|g|, the roughness of maps g (…, C, H, W); returns (…,).

    The total variation of Rudin, Osher and Fatemi 1992 in its anisotropic form (Esedoglu and Osher
    2004), with forward differences and no padding: |∇g| = |g[i+1, j] - g[i, j]| + |g[i, j+1] -
    g[i, j]|, summed over pixels and channels. A constant map has 0, white noise on n by n pixels
    2√2 (1 - 1/n), a checkerboard of signs 4 (1 - 1/n), a lone pixel 4, the most there is.

    Raises:
        ArgumentError: ``maps`` is not a real tensor (N, C, H, W) or (C, H, W).
    """
    g = scaled(maps)
    down, right = g.diff(dim=-2).abs_(), g.diff(dim=-1).abs_()
    return (_sum(down) + _sum(right)) / _sum(g.abs_())


def gini(maps: Tensor) -> Tensor:
    """The Gini index of |g|, the sparsity of maps g (…, C, H, W); returns (…,).

    0 where all M entries are equally large, 1 - 1/M where one holds everything. With |g| sorted
    upwards, G = 1 - 2 Σ_k |g|_(k) / ‖g‖₁ · (M - k + 1/2) / M (Hurley and Rickard 2009, "Comparing
    measures of sparsity"), used for attributions by Chalasani et al. 2020, "Concise explanations of
    neural networks using adversarial training".

    Raises:
        ArgumentError: ``maps`` is not a real tensor (N, C, H, W) or (C, H, W).
    """
    ordered = scaled(maps).abs().flatten(-3).sort(dim=-1).values
    m = ordered.shape[-1]
    rank = torch.arange(1, m + 1, dtype=ordered.dtype, device=ordered.device)
    return 1 - 2 * (ordered * (m - rank + 0.5)).sum(dim=-1) / (m * ordered.sum(dim=-1))


def entropy(maps: Tensor) -> Tensor:
    """H = -Σ p ln p with p = |g| / Σ|g|, how widely maps g (…, C, H, W) are spread; returns (…,).

    0 where one of the M entries holds everything, ln M where all are equally large. Bhatt et al.
    2020 (arXiv:2005.00631) call it the complexity of an explanation.

    Raises:
        ArgumentError: ``maps`` is not a real tensor (N, C, H, W) or (C, H, W).
    """
    g = scaled(maps).abs_()
    return _sum(torch.special.entr(g / _sum(g)[..., None, None, None]))


def magnitude(maps: Tensor) -> Tensor:
    """Σ|g| of maps g (…, C, H, W), in the units of the maps; returns (…,), float64.

    NaN for a map with NaN or infinities. A score that grows with training lets the maps grow too,
    which no map that is drawn on a scale of its own shows.

    Raises:
        ArgumentError: ``maps`` is not a real tensor (N, C, H, W) or (C, H, W).
    """
    total = _sum(checked_maps("maps", maps).double().abs())
    return total.where(total.isfinite(), torch.nan)


def mass_on(maps: Tensor, mask: Tensor) -> Tensor:
    """Σ|g| on the mask / Σ|g|: how much of maps g (…, C, H, W) lies on the object; returns (…,).

    Chance is the mask's share of the pixels, ``mask.float().mean(dim=(-3, -2, -1))``.

    Args:
        maps: (N, C, H, W) or (C, H, W).
        mask: bool, one channel or as many as the maps, else in their shape. See :func:`dilated`.

    Raises:
        ArgumentError: ``maps`` is not a real tensor, ``mask`` not a bool one, or a shape is not as
            described.
    """
    magnitude = scaled(maps).abs_()
    _check_mask(mask)
    one_channel = (*maps.shape[:-3], 1, *maps.shape[-2:])
    if mask.shape not in (maps.shape, one_channel):
        raise ArgumentError(
            "mask", f"must have the shape {tuple(maps.shape)} or {one_channel}", mask
        )
    return _sum(magnitude * mask.to(maps.device)) / _sum(magnitude)


@checked
def dilated(mask: Tensor, radius: Natural = 1) -> Tensor:
    """The mask (…, C, H, W) grown by ``radius`` pixels in all eight directions, channel by channel.

    A map of a drawn digit is strong along its edges, also just outside, so the mask of its pixels
    alone would miss them.

    Raises:
        ArgumentError: ``mask`` is not a bool tensor (N, C, H, W) or (C, H, W), or ``radius`` no
            whole number of at least 0.
    """
    _check_mask(mask)
    window = 2 * radius + 1
    tall = F.max_pool2d(mask.float(), (window, 1), stride=1, padding=(radius, 0))
    return F.max_pool2d(tall, (1, window), stride=1, padding=(0, radius)).bool()


def _sum(maps: Tensor) -> Tensor:
    return maps.sum(dim=(-3, -2, -1))


def _check_mask(mask: Tensor) -> None:
    check_maps("mask", mask)
    if mask.dtype != torch.bool:
        raise ArgumentError("mask", "must be a bool tensor", mask)
