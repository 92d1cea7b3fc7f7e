"""First-layer maps of all pairs of classes beside one autograd pass for each."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.compare import Aim, Comparison, close, timed
from benchmarks.scale import Scale, default_network, training_images
from firstlight.pipeline import FirstLayerGradient


def pairs(scale: Scale) -> Comparison:
    """Approach 1: the cross entropy of the images of one class with the label of another."""
    model, data = default_network(scale.mnist), training_images(scale.mnist)
    each = scale.pick(100, 10)
    chosen = torch.cat([(data.targets == c).nonzero().squeeze(1)[:each] for c in range(10)])
    images, labels = data.images[chosen], data.targets[chosen]
    first = model.get_parameter("linear1.weight")
    off_diagonal = ~torch.eye(10, dtype=torch.bool)

    def ours() -> Tensor:
        found = FirstLayerGradient(1, relu=False).pairs(model, images, labels)
        return found.maps[off_diagonal]

    def theirs() -> Tensor:
        maps = []
        for own in range(10):
            of_class = images[labels == own]
            for other in range(10):
                if other != own:
                    loss = F.cross_entropy(model(of_class), torch.full((len(of_class),), other))
                    (gradient,) = torch.autograd.grad(loss, first)
                    maps.append(gradient.mean(0).unflatten(0, (1, 28, 28)))
        return torch.stack(maps)

    return Comparison(
        f"first-layer maps, default network, 90 pairs of classes, {each} images each",
        "one autograd pass per pair",
        Aim.faster(10),
        timed(ours),
        {"": timed(theirs)},
        close(1e-4),
        scale.pick(15, 1),
    )
