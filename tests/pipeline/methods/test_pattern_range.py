"""The range of PatternNet's signal in deep networks: why it grows, and what float32 shows."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from firstlight.pipeline.methods import PatternNet
from firstlight.pipeline.patterns import Pattern, PatternStatistics

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:The default weight init")]


def images(side: int) -> Tensor:
    return torch.rand(16, 3, side, side, generator=torch.Generator().manual_seed(1))


def with_relus(network: nn.Module) -> nn.Module:
    for module in network.modules():
        for name, child in list(module.named_children()):
            if isinstance(child, nn.ReLU6):
                setattr(module, name, nn.ReLU())
    return network


def fitted(name: str, side: int) -> tuple[nn.Module, dict[str, Pattern]]:
    """A network with random weights, the statistics of its norms from the images, and patterns."""
    torch.manual_seed(0)
    options = {"aux_logits": False, "init_weights": False} if name == "inception_v3" else {}
    model = with_relus(getattr(models, name)(num_classes=10, **options))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        model.train()(images(side))
    statistics = PatternStatistics(model.eval())
    statistics.update(images(side))
    return model, statistics.compute()


@pytest.mark.parametrize(
    ("name", "side"), [("resnet18", 64), ("mobilenet_v2", 64), ("inception_v3", 75)]
)
def test_a_deep_network_in_float32_has_float64s_map_or_none(name: str, side: int) -> None:
    model, patterns = fitted(name, side)
    exact = copy.deepcopy(model).double()
    x = images(side)[:1]
    for estimator in ("linear", "positive"):
        method = PatternNet(patterns, estimator)  # type: ignore[arg-type]
        expected = method(exact, x.double())
        if expected.abs().max() > torch.finfo(torch.float32).max:
            with pytest.raises(ValueError, match="leaves the range of float32"):
                method(model, x)
        else:
            # The norm of a scaled map: squares of the map itself may leave even float64.
            size = expected.abs().max().clamp(min=1e-300)
            difference = (method(model, x).double() - expected) / size
            assert difference.norm() <= 1e-3 * (expected / size).norm()


def test_the_signal_grows_in_all_layers_and_not_by_a_few_ill_posed_units() -> None:
    """Patterns nearly orthogonal to their weights, |w||a| > 100, are few, and without them the
    exponent of the map is nearly the same."""
    model, patterns = fitted("resnet18", 64)
    model.double()
    lengths, few, sizes = [], {}, []
    for name, pattern in patterns.items():
        weight, a = pattern.weight.flatten(1), pattern.positive.flatten(1)
        product = (weight * a).sum(1)[~pattern.undefined("positive")]
        torch.testing.assert_close(product, torch.ones_like(product), rtol=0, atol=1e-9)
        length = a.norm(dim=1)
        ill_posed = weight.norm(dim=1) * length > 100
        lengths.append(float(length.median()))
        sizes.append((int(ill_posed.sum()), len(a)))
        kept = pattern.positive.masked_fill(
            ill_posed[:, None].reshape(-1, *[1] * (pattern.positive.ndim - 1)), 0
        )
        few[name] = replace(pattern, positive=kept)
    assert sum(ill for ill, _ in sizes) < 0.15 * sum(units for _, units in sizes)
    assert min(lengths) > 2
    x = images(64)[:1].double()
    with_all, without = (math.log10(PatternNet(p)(model, x).abs().max()) for p in (patterns, few))
    assert with_all > 30
    assert without > 0.8 * with_all
