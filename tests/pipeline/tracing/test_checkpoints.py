"""Activation checkpoints compute in the backward pass anew; nothing is to be seen of it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from firstlight.pipeline import (
    LRP,
    DeconvNet,
    FirstLayerGradient,
    GradCAM,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    LayerCAM,
    Method,
    Occlusion,
    PatternAttribution,
    PatternNet,
    PatternStatistics,
    SmoothGrad,
    receptive_field,
)
from firstlight.pipeline.inside import StrongestPatches


class Blocks(nn.Module):
    def __init__(self, checkpointed: bool) -> None:
        super().__init__()
        self.checkpointed = checkpointed
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU())
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(inplace=True))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        for part in (self.stem, self.body):
            x = checkpoint(part, x, use_reentrant=False) if self.checkpointed else part(x)
        return self.head(x)


METHODS = [
    LRP(),
    LRP("gamma"),
    Gradient(),
    InputXGradient(),
    IntegratedGradients(3),
    Occlusion(3, 3),
    SmoothGrad(samples=4),
    SmoothGrad(samples=4, statistic="square"),
    SmoothGrad(LRP(), samples=4),
    GuidedBackprop(),
    DeconvNet(),
    GradCAM(),
    GradCAM("stem.0"),
    LayerCAM("stem.0"),
]


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 6, 6, dtype=torch.float64, generator=torch.manual_seed(1))


def pair(rectified: bool = False) -> tuple[Blocks, Blocks]:
    """The same network, with checkpoints and without."""
    torch.manual_seed(0)
    model, plain = Blocks(True).double().eval(), Blocks(False).double().eval()
    plain.load_state_dict(model.state_dict())
    if rectified:
        model.stem[2] = plain.stem[2] = nn.ReLU()
    return model, plain


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_checkpointed_blocks_are_explained_like_others(method: Method, images: Tensor) -> None:
    model, plain = pair(rectified=isinstance(method, (GuidedBackprop, DeconvNet)))
    torch.testing.assert_close(method(model, images, 1), method(plain, images, 1))


@pytest.mark.parametrize("kind", [PatternNet, PatternAttribution])
def test_patterns_of_checkpointed_blocks_are_those_of_others(
    kind: type[PatternNet] | type[PatternAttribution], images: Tensor
) -> None:
    maps = []
    for model in pair(rectified=True):
        statistics = PatternStatistics(model)
        statistics.update(images)
        maps.append(kind(statistics.compute())(model, images, 1))
    torch.testing.assert_close(*maps)


@pytest.mark.parametrize("approach", [1, 2, 3, 4])
def test_first_layer_maps_see_the_layer_in_a_checkpoint(approach: int, images: Tensor) -> None:
    method = FirstLayerGradient(approach, relu=False)
    torch.testing.assert_close(*(method(model, images, 1, other=0) for model in pair()))
    if approach in (1, 4):
        torch.testing.assert_close(*(method.pairs(m, images, [1, 2]).maps for m in pair()))


def test_fields_and_patches_of_a_layer_in_a_checkpoint_are_those_of_others(images: Tensor) -> None:
    found = []
    for model in pair():
        metric = StrongestPatches(model, "stem.0", k=1)
        metric.update(images)
        found.append((receptive_field(model, images, "stem.2").size, metric.compute()))
    (size, patches), (plain_size, plain_patches) = found
    assert size == plain_size == (3, 3)
    torch.testing.assert_close(patches.values, plain_patches.values)
    assert torch.equal(patches.boxes, plain_patches.boxes)
