"""Rules by kind of layer beside zennit's composites (Anders et al. 2021, arXiv:2106.13200)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from firstlight.pipeline import LRP
from firstlight.pipeline.methods.lrp_rules import Bounded, Epsilon, Gamma, WSquared, ZPlus

pytest.importorskip("zennit")

from zennit import composites, rules
from zennit.attribution import Gradient
from zennit.core import Composite


@pytest.fixture
def model() -> nn.Sequential:
    """Biases in linear layers alone: zennit's z⁺ gives shares to those of convolutions."""
    torch.manual_seed(0)
    return (
        nn.Sequential(
            *(nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 6, 3, bias=False)),
            *(nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(96, 8), nn.ReLU()),
            nn.Linear(8, 3),
        )
        .double()
        .eval()
    )


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 12, 12, dtype=torch.float64, generator=torch.manual_seed(1))


def of_zennit(composite: Composite, model: nn.Module, images: Tensor) -> Tensor:
    with Gradient(model, composite) as attribute:
        _, maps = attribute(images, lambda z: z * torch.tensor([0.0, 1.0, 0.0]))
    return maps.detach()


SMALL = Epsilon(1e-6)


@pytest.mark.parametrize(
    ("method", "composite"),
    [
        (LRP({"convolution": ZPlus(), "linear": SMALL}), composites.EpsilonPlus()),
        (
            LRP({"convolution": Gamma(0.25), "linear": SMALL}, first=Bounded(-1.0, 2.0)),
            composites.EpsilonGammaBox(low=-1.0, high=2.0),
        ),
        (
            LRP({"convolution": ZPlus(), "linear": SMALL}, first=WSquared()),
            composites.SpecialFirstLayerMapComposite(
                [
                    (nn.Conv2d, rules.ZPlus()),
                    (nn.Linear, rules.Epsilon(1e-6)),
                    (nn.ReLU, rules.Pass()),
                ],
                [(nn.Conv2d, rules.WSquare())],
            ),
        ),
        (
            LRP({"convolution": Gamma(0.5), "linear": Gamma(0.1)}),
            composites.LayerMapComposite(
                [
                    (nn.Conv2d, rules.Gamma(0.5)),
                    (nn.Linear, rules.Gamma(0.1)),
                    (nn.ReLU, rules.Pass()),
                ]
            ),
        ),
    ],
    ids=["epsilon-plus", "epsilon-gamma-box", "w² first", "gamma"],
)
def test_rules_by_kind_of_layer_are_zennits_composites(
    method: LRP, composite: Composite, model: nn.Sequential, images: Tensor
) -> None:
    theirs = of_zennit(composite, model, images)
    assert theirs.any()
    assert (method(model, images, 1) - theirs).norm() < 1e-4 * theirs.norm()
