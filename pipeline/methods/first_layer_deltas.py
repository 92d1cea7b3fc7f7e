"""The deltas of the layers that see the image, summed up over the weights of each pixel."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn

from firstlight.errors import ArgumentError
from firstlight.pipeline.methods.logits import logits_of
from firstlight.pipeline.tracing.first_layer import FirstLayers
from firstlight.pipeline.tracing.graph import function_class, no_way, nodes
from firstlight.pipeline.tracing.layers import LayerCall


class NoFirstLayerMapError(ArgumentError):
    """The deltas of the first layer's units cancel out, so that a map would show rounding errors.

    Attributes:
        share: |Σδ| / Σ|δ|, summed over images and positions.
        rounding: what rounding alone would leave of it.
    """

    def __init__(self, share: float, rounding: float) -> None:
        super().__init__(
            "model",
            "has no first-layer gradient map: the deltas of its first layer's units add up to "
            f"nothing but rounding errors (|Σδ|/Σ|δ| is {share:.1g}, rounding alone makes "
            f"{rounding:.1g}); a norm over channels behind the layer, such as LayerNorm, ignores "
            "what all units have in common. There is one with summary='size'",
        )
        self.share = share
        self.rounding = rounding
        self.args = (share, rounding)  # from which a pickled one is made again


class Deltas:
    """A forward pass that can be asked for the deltas dL/dz1 of the layers that see the image.

    Args:
        model: any module for which ``model(images)`` is logits (N, K).
        images: (N, C, H, W).

    Attributes:
        logits: (N, K).
        units: H, the number of units of these layers; for a convolution, channels times positions.

    Raises:
        ArgumentError: there is no such layer, one does not see pixel by pixel, or one is at work
            more than once.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self._checked = False
        images = images.detach().requires_grad_()
        given = images.clone()
        with FirstLayers(given, as_leaves=True) as first:
            self.logits = logits_of(model, given)
        if not first.layers:
            problem = "calls no linear or convolution layer, so it has no first layer"
            raise ArgumentError("model", problem)
        if first.reused:
            problem = "uses its first layer more than once, so dL/dW1 has no one map of pixels"
            raise ArgumentError("model", problem)
        if not first.alone:  # which gets the very images
            for layer in first.layers:
                _check_pixel_by_pixel(layer.call, images)
        self._layers = [_ImageLayer(layer.call, layer.output) for layer in first.layers]
        self.units = sum(layer.z1[0].numel() for layer in self._layers)

    @property
    def num_classes(self) -> int:
        """K."""
        return self.logits.shape[1]

    def maps(self, slopes: Tensor) -> Tensor:
        """x ⊙ Σδ over the weights that touch a pixel, (N, D), for dL/dlogits = ``slopes`` (N, K);
        the sum of these where several layers see the image.

        Raises:
            NoFirstLayerMapError: the sums are rounding errors.
        """
        spreads = self._spreads(slopes)
        parts = [x.pixels * spread for x, spread in zip(self._layers, spreads, strict=True)]
        return torch.stack(parts).sum(0)

    def sizes(self, slopes: Tensor) -> Tensor:
        """The same of |x| and |δ|, so that nothing cancels out."""
        deltas = zip(self._layers, self._deltas(slopes), strict=True)
        parts = [layer.pixels.abs() * layer.spread(delta.abs()) for layer, delta in deltas]
        return torch.stack(parts).sum(0)

    def maps_of_all(self, slopes: Tensor, weights: Tensor) -> Tensor:
        """The maps (groups, K', D) of K' losses, summed over the images of each group.

        The deltas are linear in dL/dlogits, so those of the K single logits make up those of every
        loss, ``slopes`` (N, K', K). ``weights`` (groups, N) are not 0 for the images of a group,
        which lie side by side, group after group.
        """
        sizes = weights.count_nonzero(1).tolist()
        weighted = (weights.sum(0)[:, None, None] * slopes).split(sizes)
        total = torch.zeros(()).to(slopes)
        for layer, spreads in zip(self._layers, self._spreads_of_logits, strict=True):
            # (n, K', K) @ (n, K, D or 1)
            by_image = map(torch.matmul, weighted, spreads.split(sizes))
            of_groups = zip(by_image, layer.pixels.split(sizes), strict=True)
            maps = [torch.einsum("nkd,nd->kd", by_pixel, x) for by_pixel, x in of_groups]
            total = total + torch.stack(maps)
        return total

    @cached_property
    def _spreads_of_logits(self) -> list[Tensor]:
        """The spreads of every single logit, (N, K, D), or (N, K, 1) where all pixels share it."""
        linear = len(self._layers) == 1 and self._layers[0].call.dims == 0
        # A function written in Python may hide from a second derivative what it does.
        if linear and not any(function_class(node) for node in nodes(self.logits)):
            try:
                return [self._summed_deltas().unsqueeze(2)]
            except RuntimeError:
                pass  # an operation has no second derivative
        single = torch.eye(self.logits.shape[1]).to(self.logits)
        by_logit = [self._spreads(k.expand_as(self.logits)) for k in single]
        return [torch.stack(spreads, dim=1) for spreads in zip(*by_logit, strict=True)]

    def _summed_deltas(self) -> Tensor:
        """sum_h dlogit_k / dz1_h, (N, K), by two backward passes whatever K is.

        The deltas are linear in the slopes they start with, so the derivative of their sum is what
        every single logit's deltas sum up to.
        """
        # Any slopes would do; these say whether the deltas cancel out.
        slopes = torch.linspace(-1, 1, self.logits.shape[1]).to(self.logits)
        slopes = slopes.repeat(len(self.logits), 1).requires_grad_()
        (deltas,) = self._summed(self._deltas(slopes, create_graph=True))
        (sums,) = torch.autograd.grad(deltas.sum(), slopes, materialize_grads=True)
        return sums

    def _spreads(self, slopes: Tensor) -> list[Tensor]:
        """The sums of the deltas for dL/dlogits = ``slopes``, of each layer."""
        deltas = self._summed(self._deltas(slopes))
        return [layer.spread(delta) for layer, delta in zip(self._layers, deltas, strict=True)]

    def _summed(self, deltas: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Deltas that are to be summed over the units; the first are tried."""
        if not self._checked:
            _check_sums([layer.by_group(d) for layer, d in zip(self._layers, deltas, strict=True)])
            self._checked = True
        return deltas

    def _deltas(self, slopes: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
        """dL/dz1 of each layer for dL/dlogits = ``slopes``."""
        if not self.logits.requires_grad:
            raise no_way()
        deltas = torch.autograd.grad(
            self.logits,
            [layer.z1 for layer in self._layers],
            slopes,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
        if any(delta is None for delta in deltas):
            raise no_way()
        return deltas


@dataclass(frozen=True, eq=False)
class _ImageLayer:
    """A layer that sees the image, at work: its call, and its output z1 as a leaf of the graph."""

    call: LayerCall
    z1: Tensor

    @property
    def pixels(self) -> Tensor:
        """x, the layer's input, (N, D)."""
        return self.call.input.detach().flatten(1)

    def by_group(self, delta: Tensor) -> Tensor:
        """Deltas (N, units, ...) as (N, groups, units of the group, ...): all units of a group
        touch the same pixels."""
        return delta.unflatten(1, (self.call.options.get("groups", 1), -1))

    def spread(self, delta: Tensor) -> Tensor:
        """Deltas (N, units, ...), summed over each pixel's weights: (N, D), or (N, 1) where all
        pixels have the same sum."""
        if self.call.dims == 0:
            return delta.sum(1, keepdim=True)
        # One unit with weights 1 stands for all units of a group.
        summed = self.by_group(delta).sum(2)
        x = torch.zeros_like(self.call.input, requires_grad=True)
        touched = self.call.with_input(x)(torch.ones_like(self.call.weight[: summed.shape[1]]))
        (spread,) = torch.autograd.grad(touched, x, summed)
        return spread.flatten(1)


def _check_sums(deltas: list[Tensor]) -> None:
    """Refuse deltas (N, groups, units, ...) whose sums over the units are rounding errors.

    Where a LayerNorm over channels follows, it ignores a constant that is added to all units, so
    Σδ = 0 by algebra. Rounding leaves about ε/√H of Σ|δ|, deltas of random sign 1/√H.
    """
    summed, total = (
        sum(float(value.detach().abs().sum()) for value in values)
        for values in ([delta.sum(2) for delta in deltas], deltas)
    )
    units = max(delta.shape[2] for delta in deltas)
    rounding = torch.finfo(deltas[0].dtype).eps / math.sqrt(units)
    if units > 1 and summed < 16 * rounding * total:
        raise NoFirstLayerMapError(summed / total, rounding)


def _check_pixel_by_pixel(call: LayerCall, image: Tensor) -> None:
    shape = image.shape if call.dims else image.flatten(1).shape
    if call.input.shape != shape or not _pixel_by_pixel(call.input, image):
        raise ArgumentError(
            "model",
            f"its first layer sees inputs of shape {tuple(call.input.shape)}, which do not "
            f"correspond pixel by pixel to images of shape {tuple(image.shape)}",
        )


def _pixel_by_pixel(inputs: Tensor, images: Tensor) -> bool:
    """Whether each input comes from the pixel in its own place: signs then come back as they went.

    What autograd cannot follow is taken for such.
    """
    if not inputs.requires_grad:
        return True
    signs = torch.randint(2, images.shape[1:], generator=Generator().manual_seed(0)).to(images)
    signs = (2 * signs - 1).expand_as(images)
    slopes, signed = (
        torch.autograd.grad(inputs, images, weights.reshape(inputs.shape), retain_graph=True)[0]
        for weights in (torch.ones_like(images), signs)
    )
    return torch.equal(signed, slopes * signs)
