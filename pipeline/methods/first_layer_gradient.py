"""First-layer gradient maps: which pixels would change the first weights, summed up by pixel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from firstlight.arguments import checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.methods.first_layer_approaches import APPROACHES, Approach
from firstlight.pipeline.methods.first_layer_deltas import Deltas
from firstlight.pipeline.methods.passes import rows_per_pass
from firstlight.pipeline.methods.scores import Classes, check_classes, class_tensor
from firstlight.pipeline.tracing.images import checked_images
from firstlight.pipeline.tracing.undisturbed import undisturbed


class ClassMaps(NamedTuple):
    """Maps of several classes.

    Attributes:
        classes: the classes that the images have, ascending.
        maps: their maps, (len(classes), C, H, W); with pairs (len(classes), K, C, H, W), K being
            all other classes.
    """

    classes: list[int]
    maps: Tensor


@checked
@dataclass(frozen=True)
class FirstLayerGradient:
    r"""The gradient of a loss in the first layer's weights, summed up by pixel.

    .. math:: g = \frac1H \sum_h \frac{\partial L}{\partial W_1[h, :]}
        = \frac1H \sum_n x_n \sum_h \delta_{nh}, \quad \delta = \partial L / \partial z_1

    Four losses L over a set of images decide what the map shows:

    1. the mean cross entropy with ``other`` as the label: what would have to go for the network to
       see another class;
    2. the mean cross entropy with the true label, shown as 1/(1 - g) element by element;
    3. the sum of the logits of the true class: what shows the class;
    4. the sum of the logits of ``other``, shown as -g: what tells the class from the other one.

    A convolution is taken as a layer with one unit, and untied weights, per channel and position: a
    pixel's sum runs over the weights that touch it, x * (the deltas under the transposed
    convolution with ones). All layers that see the image, with no other layer between, are the
    first layer together: their sums are added up, and H counts the units of all. The weights
    themselves need no gradient, so a frozen first layer is fine.

    Args:
        approach: 1, 2, 3 or 4, as above.
        summary: ``"mean"`` or ``"sum"`` over the first layer's units; or ``"size"``, the mean over
            units of single images' |x| |delta|, summed or averaged over the images and shown as
            it is. It has no sign, and nothing cancels out in it.
        relu: whether the finished map is cut off at 0.

    Raises:
        ArgumentError: an argument is not one of those above. On a call, NoFirstLayerMapError: the
            deltas of the units add up to nothing but rounding errors.
    """

    approach: Annotated[int, Field(ge=1, le=4)] = 3
    summary: Literal["mean", "sum", "size"] = "mean"
    relu: bool = True

    def __call__(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Classes,
        other: Classes | None = None,
    ) -> Tensor:
        """One map of all the images together.

        Args:
            model: any module for which ``model(images)`` is logits (N, K) and that begins with a
                linear or convolution layer. Left exactly as it was.
            images: (N, C, H, W), floating point; usually all of one class.
            labels: their true class, or classes (N,).
            other: the other class, or one for each image (N,). Approaches 1 and 4 need it, 2 and 3
                do not look at it.

        Returns:
            The map (C, H, W), in the model's dtype.

        Raises:
            ArgumentError: an argument is not as described above; the message names it.
        """
        return self._grouped(model, images, labels, other, torch.zeros_like).maps[0]

    def by_class(
        self, model: nn.Module, images: Tensor, labels: Classes, other: Classes | None = None
    ) -> ClassMaps:
        """One map for the images of each class, all in one pass; arguments as for one map."""
        return self._grouped(model, images, labels, other, torch.clone)

    def pairs(self, model: nn.Module, images: Tensor, labels: Classes) -> ClassMaps:
        """The maps of every class of images with every other class of the network, all in one pass.

        Where the other class is the images' own, approach 1 shows the g of approach 2, and approach
        4 minus that of approach 3.

        Raises:
            ArgumentError: the approach knows no other class, or an argument is not as described for
                one map.
        """
        if not self._approach.of_other:
            raise ArgumentError(
                "approach", "only approaches 1 and 4 have another class", self.approach
            )
        with undisturbed(model):
            images = checked_images(model, images)
            own, order = class_tensor("labels", labels, images).sort(stable=True)
            images = images[order]
            groups = _groups(own, images, self._approach.averaged)
            total = torch.zeros(()).to(images)
            for rows in _passes(images):
                deltas = Deltas(model, images[rows])
                check_classes("labels", own, deltas.num_classes)
                every = torch.eye(deltas.num_classes).to(images)
                slopes = self._approach.slopes(deltas.logits, every.expand(len(own[rows]), -1, -1))
                weights = groups.weights[:, rows]
                if self.summary == "size":  # not linear in the slopes
                    maps = [weights @ deltas.sizes(each) for each in slopes.unbind(1)]
                    total = total + torch.stack(maps, dim=1)
                else:
                    total = total + deltas.maps_of_all(slopes, weights)
            return ClassMaps(groups.classes, self._shown(total, deltas.units, images))

    def _grouped(
        self,
        model: nn.Module,
        images: Tensor,
        labels: Classes,
        other: Classes | None,
        group: Callable[[Tensor], Tensor],
    ) -> ClassMaps:
        """One map for all images whose labels ``group`` gives the same number."""
        with undisturbed(model):
            images = checked_images(model, images)
            own = class_tensor("labels", labels, images)
            asked = self._asked(own, other, images)
            groups = _groups(group(own), images, self._approach.averaged)
            total = torch.zeros(()).to(images)
            for rows in _passes(images):
                deltas = Deltas(model, images[rows])
                self._check_classes(own, asked, deltas.num_classes)
                wanted = F.one_hot(asked[rows], deltas.num_classes).to(images)
                slopes = self._approach.slopes(deltas.logits, wanted)
                maps = deltas.sizes if self.summary == "size" else deltas.maps
                total = total + groups.weights[:, rows] @ maps(slopes)
            return ClassMaps(groups.classes, self._shown(total, deltas.units, images))

    @property
    def _approach(self) -> Approach:
        return APPROACHES[self.approach]

    def _asked(self, own: Tensor, other: Classes | None, images: Tensor) -> Tensor:
        """The classes (N,) that the loss asks for."""
        if not self._approach.of_other:
            return own
        if other is None:
            problem = f"approach {self.approach} needs another class, got None"
            raise ArgumentError("other", problem)
        return class_tensor("other", other, images)

    def _check_classes(self, own: Tensor, asked: Tensor, num_classes: int) -> None:
        check_classes("labels", own, num_classes)
        if self._approach.of_other:
            check_classes("other", asked, num_classes)
            same = own[own == asked]
            if len(same):
                problem = "must differ from the images' own class"
                raise ArgumentError("other", problem, int(same[0]))

    def _shown(self, sums: Tensor, units: int, images: Tensor) -> Tensor:
        """The finished maps (..., C, H, W) from the sums over units (..., D)."""
        g = (sums if self.summary == "sum" else sums / units).unflatten(-1, images.shape[1:])
        if self.summary == "size":
            return g
        shown = self._approach.shown(g)
        return shown.relu() if self.relu else shown


def _passes(images: Tensor) -> Iterator[slice]:
    """Which images are in each forward pass."""
    rows = rows_per_pass(images)
    return (slice(first, first + rows) for first in range(0, len(images), rows))


class _Groups(NamedTuple):
    """Which classes there are, and how much each image counts in the map of each (classes, N)."""

    classes: list[int]
    weights: Tensor


def _groups(numbers: Tensor, images: Tensor, averaged: bool) -> _Groups:
    """Images with the same number (N,) are a group, over which losses are averaged or summed."""
    present = numbers.unique()
    weights = (numbers == present[:, None]).to(images)
    if averaged:
        weights = weights / weights.sum(1, keepdim=True)
    return _Groups(present.tolist(), weights)


@checked
def without_class_mean(maps: Tensor, means: Tensor) -> Tensor:
    """What is left of maps (..., C, H, W) when the part along the mean images of their classes is
    taken out.

    A first-layer map is a weighted sum of the images, so even an untrained network's looks like
    their mean; only the residual g - (<g, m> / <m, m>) m can show what was learnt.

    Raises:
        ArgumentError: not tensors, or not of one shape.
    """
    if maps.ndim < 3 or means.shape != maps.shape:
        shapes = f"{tuple(means.shape)}, the maps {tuple(maps.shape)}"
        raise ArgumentError("means", f"must have the maps' shape (..., C, H, W), got {shapes}")
    g, m = maps.flatten(-3), means.flatten(-3)
    share = (g * m).sum(-1, keepdim=True) / (m * m).sum(-1, keepdim=True)
    return (g - share.nan_to_num() * m).unflatten(-1, maps.shape[-3:])
