"""Every method, in networks that nobody here wrote: right, or refused by operation and layer."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.other_networks import ALL, CLASSES, QUICK, network
from firstlight.pipeline import (
    LRP,
    DeconvNet,
    Gradient,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    Method,
    Occlusion,
    PatternAttribution,
    PatternNet,
    PatternStatistics,
    SmoothGrad,
)
from tests.pipeline.lrp_reference import Reference

REFUSED = re.compile(r"has no rule for \S+.* in (layer '|the model)|there is none for layer '")

NETWORKS = [
    pytest.param(name, marks=() if name in QUICK else pytest.mark.slow, id=name) for name in ALL
]


@pytest.fixture(params=NETWORKS, scope="module")
def found(request: pytest.FixtureRequest) -> tuple[nn.Module, Tensor]:
    return network(request.param)


def maps_or_refusal(method: Method, model: nn.Module, images: Tensor) -> Tensor | None:
    try:
        maps = method(model, images, 1)
    except ValueError as refusal:
        assert REFUSED.search(str(refusal)), refusal
        return None
    assert maps.shape == images.shape and maps.isfinite().all()
    return maps


def state(model: nn.Module) -> dict[str, object]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()} | {
        name: {k: v for k, v in vars(module).items() if not isinstance(v, (dict, Tensor))}
        for name, module in model.named_modules()
    }


def score(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)[:, 1]


def test_the_gradient_is_the_slope_of_the_score(found: tuple[nn.Module, Tensor]) -> None:
    model, images = found
    step = 1e-6 * torch.randn(images.shape, generator=torch.manual_seed(3), dtype=images.dtype)
    slope = (score(model, images + step) - score(model, images - step)) / 2
    maps = Gradient()(model, images, 1)
    size = (maps.abs() * step.abs()).sum((1, 2, 3))
    assert ((maps * step).sum((1, 2, 3)) - slope).abs().max() < 1e-3 * size.max() + 1e-13


def test_occlusion_is_the_drop_of_the_probability_or_score(
    found: tuple[nn.Module, Tensor],
) -> None:
    model, images = found
    side = images.shape[-1]
    maps = Occlusion(side // 2, side // 2, 0.0)(model, images, 1)
    hidden = images.clone()
    hidden[..., : side // 2, : side // 2] = 0.0
    drop = score(model, images) - score(model, hidden)
    torch.testing.assert_close(maps[:, 0, 0, 0], drop)


def test_rectifiers_alone_differ_from_the_gradient_with_their_weights(
    found: tuple[nn.Module, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By another F.relu, which modules and functional calls share, wherever there is no other."""
    model, images = found
    rectifiers: dict[type[Method], Callable[[Tensor, Tensor], Tensor]] = {
        GuidedBackprop: lambda gradient, signal: gradient.clamp(min=0),
        DeconvNet: lambda gradient, signal: signal.clamp(min=0),
    }
    kinds = {type(m) for m in model.modules() if type(m).__module__.endswith("activation")}
    for method, rule in rectifiers.items():
        maps = maps_or_refusal(method(), model, images)
        if maps is None or not kinds <= {nn.ReLU, nn.Sigmoid, nn.Hardsigmoid}:
            continue
        leaf = images.clone().requires_grad_()
        with monkeypatch.context() as patch:
            patch.setattr(F, "relu", rectified(rule))
            (expected,) = torch.autograd.grad(model(leaf)[:, 1].sum(), leaf)
        assert (maps - expected).norm() <= 1e-8 * expected.norm()


def rectified(rule: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """A ReLU whose backward pass is a function of its gradient and of the signal behind it."""

    class Rectified(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            ctx.save_for_backward(x)
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx: Any, signal: Tensor) -> Tensor:
            (x,) = ctx.saved_tensors
            return rule(signal * (x > 0), signal)

    return lambda x, inplace=False: Rectified.apply(x)


def test_lrp_is_each_operations_rule_from_the_score_down_to_the_pixels(
    found: tuple[nn.Module, Tensor],
) -> None:
    model, images = found
    reference = Reference(model, images)
    for method, constant_attention in ((LRP(), False), (LRP(softmax="constant"), True)):
        maps = method(model, images, 1)
        expected = reference.relevance(1, 1e-6, constant_attention)
        assert (maps - expected).norm() <= 1e-9 * expected.norm()
        assert bool(maps.any()) == bool(score(model, images).any())
    alone = LRP()(model, images[1:], 1)
    assert (alone - LRP()(model, images, 1)[1:]).norm() <= 1e-3 * alone.norm()


def test_every_method_is_right_or_refuses_and_leaves_no_trace(
    found: tuple[nn.Module, Tensor],
) -> None:
    model, images = found
    statistics = PatternStatistics(model)
    before = state(model)
    statistics.update(images)
    try:
        patterns = statistics.compute()
    except ValueError as refusal:
        assert "BatchNorm" in str(refusal)  # a layer that goes to a norm and past it
        patterns = {}
    for method in (
        InputXGradient(),
        IntegratedGradients(2),
        SmoothGrad(samples=2),
        LRP("gamma"),
        LRP(softmax="constant"),
        PatternNet(patterns),
        PatternAttribution(patterns),
    ):
        maps_or_refusal(method, model, images)
    after = state(model)
    for name, kept in before.items():
        same = torch.equal(kept, after[name]) if isinstance(kept, Tensor) else kept == after[name]
        assert same, name
    assert copy.deepcopy(model)(images).shape == (2, CLASSES)
