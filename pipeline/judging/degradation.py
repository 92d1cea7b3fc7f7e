"""Image degradation: how fast the class is lost as patches go, most important first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from firstlight.arguments import Count, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.maps import maps_of
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.methods.passes import Passes
from firstlight.pipeline.methods.scores import ClassScore, LabelProbability, Probability
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.undisturbed import undisturbed

_VALUES_PER_PASS = 2**20
"""How many values the degraded images of one forward pass may hold."""


@checked
@dataclass(frozen=True)
class ImageDegradation:
    """The probability of the class, patch by patch, as an image is degraded in the order of a map.

    The image is cut into square patches, which are ranked by the signed sum of the map over each.
    They are replaced one after the other, the largest sum first, and the probability of the class
    that the whole image is taken for is recorded. All orders share the start, the whole image, and
    the end, where all patches are replaced: what counts is the way between.

    Source: Kindermans et al. 2018 (arXiv:1705.05598), Fig. 4a, after Samek et al. 2017
    (arXiv:1509.06321). The paper replaces the first 100 of an ImageNet image's patches.

    Args:
        patch: the side of a patch in pixels; None for a seventh of the images' shorter side and at
            most the paper's 9. Patches at the right and at the bottom may be cut off.
        fill: what a patch is replaced by: the mean of the whole image in each channel,
            ``"image"``; the patch's own, ``"patch"``, as in the paper, which leaves a coarse image
            that small images of digits are still recognised by; or a number.
        steps: in how many equal steps all patches are replaced; None for one by one.
        seed: of the order of patches whose sums are equal, which is random.
        probability: ``"softmax"`` over classes, or ``"sigmoid"`` of the label with the largest
            logit, where an image has several labels.

    Raises:
        ArgumentError: an argument is not as described; when used, also a patch larger than the
            images, or more steps than patches.
    """

    patch: Count | None = None
    fill: float | Literal["image", "patch"] = "image"
    steps: Count | None = None
    seed: int = 0
    probability: Literal["softmax", "sigmoid"] = "softmax"

    @checked
    def removal(self, model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
        """The curve from the whole image to the degraded one; the steeper, the better the map.

        Args:
            model: any module for which ``model(images)`` is logits (N, K). Left exactly as it was.
            images: (N, C, H, W), floating point, in the units that the model takes.
            maps: (N, any channels, H, W), the images' signed maps.

        Returns:
            Probabilities (N, steps + 1) of the class first predicted, NaN for a map that is not
            finite.

        Raises:
            ArgumentError: an argument is not as described; the message names it.
        """
        return self._curves(model, images, maps, insert=False)

    @checked
    def insertion(self, model: nn.Module, images: Tensor, maps: Tensor) -> Tensor:
        """The curve from the degraded image to the whole one, as patches are put back, the largest
        sum first (the insertion game of Petsiuk et al. 2018, arXiv:1806.07421); the steeper, the
        better the map. Arguments, result and errors as for :meth:`removal`.
        """
        return self._curves(model, images, maps, insert=True)

    @checked
    def random_removal(self, model: nn.Module, images: Tensor, draws: Count = 4) -> Tensor:
        """The control: the mean curve (N, steps + 1) over random orders; read backwards it is that
        of random insertion. Arguments and errors as for :meth:`removal`.

        Args:
            draws: the number of random orders of each image.
        """
        # In a map that is equal everywhere the order is all chance, another for each copy.
        copies = checked_images(model, images).repeat(draws, 1, 1, 1)
        curves = self.removal(model, copies, torch.zeros_like(copies))
        return curves.unflatten(0, (draws, -1)).mean(0)

    def _curves(self, model: nn.Module, images: Tensor, maps: Tensor, insert: bool) -> Tensor:
        with undisturbed(model), torch.no_grad():
            images = checked_images(model, images)
            maps = maps_of(images, maps)
            patch = self._patch_side(images)
            rank = self._rank(maps, patch)
            patches = rank[0].numel()
            if self.steps is not None and self.steps > patches:
                problem = f"the images have only {patches} patches"
                raise ArgumentError("steps", problem, self.steps)
            steps = self.steps or patches
            replaced = torch.linspace(0, patches, steps + 1, device=images.device).round()
            if insert:
                rank, replaced = patches - 1 - rank, patches - replaced
            # Ranks in the type of what they are compared with, which spares a conversion each pass.
            order = _over_pixels(rank.to(replaced.dtype), patch, images)
            curves = self._probabilities(model, images, order, replaced)
            finite = maps.isfinite().flatten(1).all(1, keepdim=True)
            return curves.where(finite, torch.nan)

    def _patch_side(self, images: Tensor) -> int:
        shorter = min(images.shape[2:])
        if self.patch is not None and self.patch > shorter:
            problem = f"the images' shorter side is {shorter} pixels"
            raise ArgumentError("patch", problem, self.patch)
        return self.patch or min(9, max(1, shorter // 7))

    def _rank(self, maps: Tensor, patch: int) -> Tensor:
        """The place of every patch in the order, from 0: (N, rows, columns)."""
        sums = F.avg_pool2d(maps.sum(1, keepdim=True), patch, ceil_mode=True, divisor_override=1)
        generator = Generator().manual_seed(self.seed)
        shuffled = torch.rand(sums[:, 0].flatten(1).shape, generator=generator).argsort(1)
        shuffled = shuffled.to(maps.device)
        values = sums.flatten(1).gather(1, shuffled)
        order = shuffled.gather(1, values.argsort(dim=1, descending=True, stable=True))
        return order.argsort(1).reshape(sums[:, 0].shape)

    def _probabilities(
        self, model: nn.Module, images: Tensor, rank: Tensor, replaced: Tensor
    ) -> Tensor:
        """The curves (N, steps + 1), where in each step all pixels of lower ranks are replaced."""
        fill = self._fill(images)
        rows = max(1, _VALUES_PER_PASS // images[0].numel())
        classes = torch.cat([logits_of(model, x.clone()).argmax(1) for x in images.split(rows)])
        curves = []
        for p in Passes(images, _PROBABILITIES[self.probability](classes), len(replaced), rows):
            gone = p.of(rank) < replaced[p.variant, None, None, None]
            curves.append(p.score(model, torch.where(gone, p.of(fill), p.of(images))))
        return torch.cat(curves).reshape(len(replaced), -1).T

    def _fill(self, images: Tensor) -> Tensor:
        """The images with all their patches replaced."""
        if self.fill == "patch":
            patch = self._patch_side(images)
            return _over_pixels(F.avg_pool2d(images, patch, ceil_mode=True), patch, images)
        if self.fill == "image":
            return images.mean((2, 3), keepdim=True).expand_as(images)
        return torch.full_like(images, float(self.fill))


class _Precise(ClassScore):
    """In single precision at least: half-precision probabilities near 1 have steps of 0.004."""

    def of(self, logits: Tensor) -> Tensor:
        return super().of(logits.to(torch.promote_types(logits.dtype, torch.float32)))


class _PreciseProbability(_Precise, Probability): ...


class _PreciseLabelProbability(_Precise, LabelProbability): ...


_PROBABILITIES: dict[str, type[ClassScore]] = {
    "softmax": _PreciseProbability,
    "sigmoid": _PreciseLabelProbability,
}


@checked
def degradation_area(curves: Tensor) -> Tensor:
    """The area under each curve (…, steps + 1) over the share of patches replaced: its mean (…,).

    For removal smaller is better, for insertion larger. Of ``curves - random_curves`` it is the
    area relative to random order. For removal it is the probability at the start minus the AOPC of
    Samek et al. 2017 (arXiv:1509.06321).

    Raises:
        ArgumentError: ``curves`` is not a floating point tensor.
    """
    if not curves.is_floating_point():
        raise ArgumentError("curves", "must be a floating point tensor (…, steps + 1)", curves)
    return curves.mean(-1)


def _over_pixels(grid: Tensor, patch: int, images: Tensor) -> Tensor:
    """One value per patch (N, [C,] rows, columns) as one per pixel (N, C or 1, H, W)."""
    grid = grid if grid.ndim == 4 else grid[:, None]
    pixels = grid.repeat_interleave(patch, 2).repeat_interleave(patch, 3)
    return pixels[..., : images.shape[2], : images.shape[3]]
