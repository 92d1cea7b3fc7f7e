"""The patches of a data set that a channel answers most strongly to.

Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", 2014; Springenberg et al.,
"Striving for Simplicity", 2015, for guided backprop beside them.
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.nn import functional as F
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from firstlight.arguments import Count, checked
from firstlight.errors import ArgumentError
from firstlight.pipeline.inside.activations import unit_outputs
from firstlight.pipeline.inside.receptive_fields import ReceptiveField, receptive_field
from firstlight.pipeline.methods import Neuron
from firstlight.pipeline.tracing.layers import module_named


# Not a dataclass, for torchmetrics takes those apart that a metric returns.
class Patches(BaseModel, frozen=True, arbitrary_types_allowed=True):
    """The k strongest answers of every channel of a layer, strongest first; one per image.

    Attributes:
        layer: The layer's name.
        dense: True if it returns (N, units), whose units have no position.
        values: (channels, k), the activations.
        indices: (channels, k), which images they come from.
        positions: (channels, k, 2), the rows and columns of the units in the layer's output.
        boxes: (channels, k, 4), what these units see: top, left, bottom, right, the last two
            exclusive; all equally large, so at a border they may reach beyond the image. Units
            that see more rows or columns than there are have all of them.
    """

    layer: str
    dense: bool
    values: Tensor
    indices: Tensor
    positions: Tensor
    boxes: Tensor

    def score(self, channel: int) -> Neuron:
        """The units of a channel, as a score to explain on ``dataset[indices[channel]]``."""
        positions = self.positions[channel]
        channels = positions.new_full((len(positions), 1), channel)
        index = channels if self.dense else torch.cat((channels, positions), dim=1)
        return Neuron(self.layer, index)


class StrongestPatches(Metric):
    """The images and places that every channel of a layer answers most strongly to.

    One streaming pass over a data set: what is kept are k answers per channel, however many images
    there are, and processes that saw different images merge what they kept. Each image counts once
    per channel, with its strongest place. Of equal answers the image with the smaller index wins,
    and within an image the first place in reading order, so the result does not depend on the
    order or the batches in which images come.

    Args:
        model: Any module that takes images. Left exactly as it was.
        layer: The layer's name in ``model.named_modules()``; it returns (N, channels, rows,
            columns) or (N, units).
        k: How many answers to keep per channel.
        **kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> metric = StrongestPatches(model, "features.3", k=9)  # doctest: +SKIP
        >>> for images, _ in loader:  # doctest: +SKIP
        ...     metric.update(images)
        >>> patches = metric.compute()  # doctest: +SKIP
        >>> crop(images[patches.indices[0]], patches.boxes[0])  # doctest: +SKIP
    """

    full_state_update = False
    count: Tensor
    values: list[Tensor]
    indices: list[Tensor]
    positions: list[Tensor]

    @checked
    def __init__(self, model: nn.Module, layer: str, k: Count = 9, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        module_named(model, layer)
        # In a tuple, for a module would become a part of this one.
        self._model = (model,)
        self.layer = layer
        self.k = k
        self._field: tuple[torch.Size, ReceptiveField] | None = None
        self._dense = False
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")
        # As lists, so that what the processes kept can be joined and thinned out again.
        self.add_state("values", [], dist_reduce_fx="cat")
        self.add_state("indices", [], dist_reduce_fx="cat")
        self.add_state("positions", [], dist_reduce_fx="cat")

    def update(self, images: Tensor, indices: Tensor | None = None) -> None:
        """Take note of a batch.

        Args:
            images: (N, C, H, W), all batches of the same size.
            indices: (N,), the images' places in the data set; None to count on from 0, which is
                right for one process that reads in order.

        Raises:
            ArgumentError: The images differ in size from those before, there is not one index per
                image, or the layer's answers are not finite.
        """
        (model,) = self._model
        if self._field is not None and images.shape[1:] != self._field[0]:
            problem = f"must all have the shape {tuple(self._field[0])} of the first ones"
            raise ArgumentError("images", problem, images)
        outputs = unit_outputs(model, images, self.layer)
        if not torch.isfinite(outputs).all():
            raise ArgumentError("layer", "its output holds NaN or infinite values", self.layer)
        if self._field is None:
            self._field = images.shape[1:], receptive_field(model, images, self.layer)
        if indices is None:
            indices = self.count + torch.arange(len(images), device=self.count.device)
        if indices.is_floating_point() or indices.shape != (len(images),):
            problem = f"must be an integer tensor ({len(images)},), one per image"
            raise ArgumentError("indices", problem, indices)
        self.count += len(images)
        self._dense = outputs.ndim == 2
        answers, columns = outputs[..., None].flatten(2), 1 if self._dense else outputs.shape[3]
        # The first of several maxima, in reading order.
        places = answers.argmax(dim=2)
        self.values.append(answers.gather(2, places[..., None]).squeeze(2))
        self.indices.append(indices.to(outputs.device)[:, None].expand_as(places))
        self.positions.append(torch.stack([places // columns, places % columns], dim=2))
        kept = self._strongest()
        self.values, self.indices, self.positions = ([state] for state in kept)

    def compute(self) -> Patches:
        """The strongest answers so far: k per channel, or as many as there were images.

        Raises:
            ArgumentError: There has been no image yet.
        """
        if self._field is None:
            raise ArgumentError(
                "images", "update() must have seen an image before compute() is called"
            )
        values, indices, positions = (state.transpose(0, 1) for state in self._strongest())
        shape, field = self._field
        boxes = field.boxes(positions)
        for axis, (size, extent) in enumerate(zip(field.size, shape[1:], strict=True)):
            if size > extent:
                boxes[..., axis], boxes[..., axis + 2] = 0, extent
        return Patches(
            layer=self.layer,
            dense=self._dense,
            values=values,
            indices=indices,
            positions=positions,
            boxes=boxes,
        )

    def _strongest(self) -> tuple[Tensor, Tensor, Tensor]:
        """The best k of what the states hold: (k, channels), (k, channels), (k, channels, 2)."""
        states = (self.values, self.indices, self.positions)
        values, indices, positions = (dim_zero_cat(state) for state in states)
        # By image, the strongest first: what follows of the same image (samplers repeat images to
        # share them out evenly) does not count.
        order = values.argsort(dim=0, descending=True, stable=True)
        order = order.gather(0, indices.gather(0, order).argsort(dim=0, stable=True))
        values, indices = values.gather(0, order), indices.gather(0, order)
        repeated = torch.zeros_like(indices, dtype=torch.bool)
        repeated[1:] = indices[1:] == indices[:-1]
        values = values.masked_fill(repeated, -torch.inf)
        # By value; stable, so that of equal ones the smaller index stays first.
        best = values.argsort(dim=0, descending=True, stable=True)
        best = best[: min(self.k, int((~repeated[:, 0]).sum()))]
        place = order.gather(0, best)[..., None].expand(-1, -1, 2)
        return values.gather(0, best), indices.gather(0, best), positions.gather(0, place)


@checked
def crop(images: Tensor, boxes: Tensor, fill: float = 0.0) -> Tensor:
    """Cut one box out of every image.

    Args:
        images: (N, C, H, W), or maps of that shape.
        boxes: (N, 4), top, left, bottom, right, the last two exclusive; all equally large.
        fill: What stands where a box reaches beyond its image.

    Returns:
        (N, C, height of the boxes, their width).

    Raises:
        ArgumentError: There is not one box per image, or they differ in size or are empty.
    """
    if images.ndim != 4 or boxes.shape != (len(images), 4) or boxes.is_floating_point():
        problem = f"must be an integer tensor (N, 4) for images (N, C, H, W), {tuple(images.shape)}"
        raise ArgumentError("boxes", problem, boxes)
    sizes = boxes[:, 2:] - boxes[:, :2]
    if (sizes != sizes[:1]).any() or (sizes < 1).any():
        problem = f"must be equally large and hold a pixel, are {sizes.tolist()} large"
        raise ArgumentError("boxes", problem)
    extent = boxes.new_tensor(images.shape[2:])
    top, left = (-boxes[:, :2]).amax(0).clamp(min=0).tolist()
    bottom, right = (boxes[:, 2:] - extent).amax(0).clamp(min=0).tolist()
    padded = F.pad(images, (left, right, top, bottom), value=fill)
    pairs = zip(padded, boxes.tolist(), strict=True)
    return torch.stack([x[:, t + top : b + top, m + left : r + left] for x, (t, m, b, r) in pairs])
