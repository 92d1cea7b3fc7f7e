"""Networks that Fabric has set up are explained like the networks themselves."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from firstlight.pipeline import (
    LRP,
    ConvNetwork,
    DeconvNet,
    FirstLayerGradient,
    GradCAM,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    PatternAttribution,
    PatternNet,
    PatternStatistics,
    SmoothGrad,
    signal_quality,
    undisturbed,
)

IMAGES = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(4))
LABELS = torch.arange(6) % 4
METHODS = [
    Gradient(),
    InputXGradient(),
    IntegratedGradients(steps=4),
    SmoothGrad(samples=4),
    SmoothGrad(IntegratedGradients(steps=2), samples=2),
    GuidedBackprop(),
    DeconvNet(),
    LRP(),
    GradCAM(),
    Occlusion(window=4, stride=4),
]
PRECISIONS = ["32-true", "bf16-mixed", "bf16-true", "64-true"]


class Setup:
    """A network, what Fabric makes of it, and an equal one that it has never seen."""

    def __init__(self, package: str, precision: Any) -> None:
        fabric_of = pytest.importorskip(package)
        torch.manual_seed(0)
        network = ConvNetwork((1, 8, 8), (4, 6), 10, 4)
        plain = copy.deepcopy(network)
        self.fabric = fabric_of.Fabric(accelerator="cpu", precision=precision)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        self.model, self.optimizer = self.fabric.setup(network, optimizer)
        self.plain = plain.to(next(network.parameters()).dtype)

    def train_a_step(self, between: Any = lambda: None) -> None:
        loss = F.cross_entropy(self.model(IMAGES), LABELS)
        between()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.optimizer.zero_grad()


@pytest.fixture(params=["lightning.fabric", "lightning_fabric"])
def package(request: Any) -> str:
    return request.param


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.label)
def test_maps_are_those_of_the_network_itself(package: str, precision: str, method: Any) -> None:
    # Autocast is off in an explanation, so that mixed precision does not blur it.
    setup = Setup(package, precision)
    own, expected = (method(model, IMAGES, LABELS) for model in (setup.model, setup.plain))
    assert own.dtype == expected.dtype
    assert torch.equal(own, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_first_layer_maps_and_patterns_are_those_of_the_network_itself(
    package: str, precision: str
) -> None:
    setup = Setup(package, precision)
    found = []
    for model in setup.model, setup.plain:
        statistics = PatternStatistics(model)
        statistics.update(IMAGES)
        patterns = statistics.compute()
        quality = signal_quality(model, patterns, IMAGES)
        found.append(
            [
                FirstLayerGradient(3)(model, IMAGES, LABELS),
                PatternNet(patterns)(model, IMAGES),
                PatternAttribution(patterns)(model, IMAGES),
                *(pattern.positive for pattern in patterns.values()),
                *(rho for layer in quality.values() for rho in layer.values()),
            ]
        )
    assert len(found[0]) > 10
    for own, expected in zip(*found, strict=True):
        torch.testing.assert_close(own, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_goes_on_as_if_nothing_had_been_explained(package: str, precision: str) -> None:
    quiet, explained = Setup(package, precision), Setup(package, precision)
    before = {name: dict(vars(m)) for name, m in explained.model.named_modules()}
    explain = lambda: Gradient()(explained.model, IMAGES)  # noqa: E731
    explain()
    assert {name: dict(vars(m)) for name, m in explained.model.named_modules()} == before
    for _ in range(2):
        quiet.train_a_step()
        explained.train_a_step(explain)
    for own, expected in zip(explained.model.parameters(), quiet.model.parameters(), strict=True):
        assert torch.equal(own, expected)


def test_what_fabric_refuses_it_still_refuses_afterwards(package: str) -> None:
    setup = Setup(package, "bf16-mixed")
    with undisturbed(setup.model), undisturbed(setup.model):
        setup.model(IMAGES).sum().backward()
    with pytest.raises(RuntimeError, match=r"fabric\.backward"):
        setup.model(IMAGES).sum().backward()


def test_a_wrapped_network_inside_another_module(package: str) -> None:
    setup = Setup(package, "bf16-mixed")
    around = nn.Sequential(setup.model)
    assert torch.equal(Gradient()(around, IMAGES), Gradient()(setup.plain, IMAGES))
