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

from benchmarks.other_networks import ALL, CLASS, CLASSES, QUICK, network
from firstlight.errors import ArgumentError
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
    NoFirstLayerMapError,
    Occlusion,
    PatternAttribution,
    PatternNet,
    PatternStatistics,
    SmoothGrad,
    receptive_field,
    undisturbed,
)
from firstlight.pipeline.inside import StrongestPatches
from firstlight.pipeline.tracing.last_map import last_map
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
        maps = method(model, images, CLASS)
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


def logits(model: nn.Module, images: Tensor) -> Tensor:
    output = model(images)
    return getattr(output, "logits", output)


def score(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return logits(model, images)[:, CLASS]


def layer_outputs(model: nn.Module, images: Tensor, layers: list[str]) -> list[Any]:
    """What layers return for images, in the order of the forward pass, with their names."""
    found: list[Any] = []

    def note(name: str, output: Any) -> None:
        # A copy, for an activation that works in place would write over it.
        found.append((name, output.clone() if isinstance(output, Tensor) else output))

    handles = [
        module.register_forward_hook(lambda _m, _i, output, name=name: note(name, output))
        for name, module in model.named_modules()
        if name in layers
    ]
    try:
        logits(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return found


def test_the_gradient_is_the_slope_of_the_score(found: tuple[nn.Module, Tensor]) -> None:
    model, images = found
    step = 1e-6 * torch.randn(images.shape, generator=torch.manual_seed(3), dtype=images.dtype)
    slope = (score(model, images + step) - score(model, images - step)) / 2
    maps = Gradient()(model, images, CLASS)
    size = (maps.abs() * step.abs()).sum((1, 2, 3))
    assert ((maps * step).sum((1, 2, 3)) - slope).abs().max() < 1e-3 * size.max() + 1e-13


def test_occlusion_is_the_drop_of_the_probability_or_score(
    found: tuple[nn.Module, Tensor],
) -> None:
    model, images = found
    side = images.shape[-1]
    maps = Occlusion(side // 2, side // 2, 0.0)(model, images, CLASS)
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
            (expected,) = torch.autograd.grad(logits(model, leaf)[:, CLASS].sum(), leaf)
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
    if any(isinstance(module, nn.LSTM) for module in model.modules()):
        with pytest.raises(ArgumentError, match=r"no rule for torch\.lstm in layer '"):
            LRP()(model, images, CLASS)
        return
    # Attention biases that an earlier call kept would be constants that nobody learnt.
    model.train().eval()
    reference = Reference(lambda x: logits(model, x), images)
    for method, constant_attention in ((LRP(), False), (LRP(softmax="constant"), True)):
        maps = method(model, images, CLASS)
        expected = reference.relevance(CLASS, 1e-6, constant_attention)
        assert (maps - expected).norm() <= 1e-9 * expected.norm()
        assert bool(maps.any()) == bool(score(model, images).any())
    alone = LRP()(model, images[1:], CLASS)
    assert (alone - LRP()(model, images, CLASS)[1:]).norm() <= 1e-3 * alone.norm()


@pytest.mark.parametrize("method", [GradCAM(), LayerCAM()], ids=lambda m: m.label)
def test_class_activation_maps_weight_the_channels_before_the_pooling(
    found: tuple[nn.Module, Tensor], method: GradCAM
) -> None:
    model, images = found
    try:
        maps = method(model, images, CLASS)
    except ArgumentError as refusal:
        assert "the model has no maps (N, K, h, w) before its pooling" in str(refusal)
        return
    with undisturbed(model):
        layer = last_map(model, images)
        channels: list[Tensor] = []
        handle = dict(model.named_modules())[layer].register_forward_hook(
            lambda _m, _i, output: channels.append(output)
        )
        total = logits(model, images.clone().requires_grad_())[:, CLASS].sum()
        handle.remove()
        (slope,) = torch.autograd.grad(total, channels[0])
    each = slope.relu() if isinstance(method, LayerCAM) else slope.mean((2, 3), keepdim=True)
    expected = (each * channels[0].detach()).sum(1, keepdim=True)
    assert expected.shape[2:].numel() > 1
    torch.testing.assert_close(maps, F.interpolate(expected, images.shape[2:], mode="bilinear"))


def test_first_layer_maps_are_the_gradients_of_untied_weights(
    found: tuple[nn.Module, Tensor],
) -> None:
    """Patch by patch: x ⊙ δ summed over units, then put back where the patches were cut out."""
    model, images = found
    try:
        shown = FirstLayerGradient(relu=False)(model, images, CLASS)
    except NoFirstLayerMapError:
        size = FirstLayerGradient(summary="size")(model, images, CLASS)
        assert size.isfinite().all() and size.any() and (size >= 0).all()
        return
    except ArgumentError as refusal:
        assert re.search("do not correspond pixel by pixel|more than once", str(refusal))
        return
    calls = first_calls(model, images)
    deltas = torch.autograd.grad(calls.pop(), [z for _, _, z in calls], allow_unused=True)
    total = torch.zeros_like(images)
    for (layer, x, _), delta in zip(calls, deltas, strict=True):
        cut = {k: getattr(layer, k) for k in ("kernel_size", "stride", "padding", "dilation")}
        patches = F.unfold(x, **cut).unflatten(1, (images.shape[1], -1))
        by_patch = patches * delta.flatten(2).sum(1)[:, None, None]
        total += F.fold(by_patch.flatten(1, 2), images.shape[2:], **cut)
    units = sum(delta[0].numel() for delta in deltas)
    torch.testing.assert_close(shown, total.sum(0) / units, rtol=1e-6, atol=1e-12)


def first_calls(model: nn.Module, images: Tensor) -> list[Any]:
    """The convolutions that are given the images, each with these and with what it returns, and the
    score."""
    calls: list[Any] = []

    def hold(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        if inputs[0].shape != images.shape:
            return None
        calls.append((layer, inputs[0], output.detach().requires_grad_()))
        return calls[-1][-1].clone()

    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    handles = [m.register_forward_hook(hold) for m in convolutions]
    calls.append(logits(model, images)[:, CLASS].sum())
    for handle in handles:
        handle.remove()
    return calls


@pytest.mark.parametrize("part", [0, 1 / 3], ids=["early", "middle"])
def test_units_see_what_their_gradient_says_and_nothing_else(
    found: tuple[nn.Module, Tensor], part: float
) -> None:
    """The support of the gradient of some units, over four images and all channels."""
    model, _ = found
    images = torch.rand(4, *found[1].shape[1:], generator=torch.manual_seed(0)).to(found[1])
    layer = spatial_layers(model, images)[part]
    try:
        field = receptive_field(model, images, layer)
    except ArgumentError as refusal:
        assert re.search(r"no receptive field, since aten\.\S+|must return \(N, ch", str(refusal))
        return
    leaf = images.requires_grad_()
    ((_, output),) = layer_outputs(model, leaf, [layer])
    rows, columns = output.shape[2:]
    for row, column in {(0, 0), (rows // 2, columns // 2), (rows - 1, columns - 1)}:
        unit = (output[..., row, column] * torch.randn_like(output[..., row, column])).sum()
        (slope,) = torch.autograd.grad(unit, leaf, retain_graph=True)
        support = [
            edge
            for dims in ((0, 1, 3), (0, 1, 2))
            for edge in ends(slope.ne(0).any(dims[2]).any(dims[1]).any(0))
        ]
        top, bottom, left, right = support
        box = field.seen(torch.tensor([row, column])).tolist()
        # What merges all positions on the way, as a flattening does, counts as seeing all of them.
        assert box in ([top, left, bottom, right], [0, 0, *images.shape[2:]])
        if part == 0:
            assert box == [top, left, bottom, right]


def ends(line: Tensor) -> tuple[int, int]:
    """The first place that is True, and the one after the last."""
    places = line.nonzero().flatten().tolist()
    return places[0], places[-1] + 1


def spatial_layers(model: nn.Module, images: Tensor) -> dict[float, str]:
    """The first layer with maps, by 0, and one after a third of all, by 1/3."""
    with torch.no_grad():
        outputs = layer_outputs(model, images, [name for name, _ in model.named_modules() if name])
    names = [name for name, _ in outputs]
    maps = [
        name
        for name, output in outputs
        if isinstance(output, Tensor) and output.ndim == 4 and len(output) == len(images)
    ]
    maps = [
        name
        for name, output in outputs
        if name in maps and names.count(name) == 1 and output.shape[2:].numel() > 1
    ]
    return {0: maps[0], 1 / 3: maps[len(maps) // 3]}


def test_the_strongest_patch_alone_makes_the_answer(found: tuple[nn.Module, Tensor]) -> None:
    """Pixels outside of its box do not matter, and no place answers more strongly."""
    model, images = found
    layer = spatial_layers(model, images)[0]
    metric = StrongestPatches(model, layer, k=1)
    try:
        metric.update(images)
    except ArgumentError as refusal:
        assert "no receptive field, since aten.im2col" in str(refusal)
        return
    patches = metric.compute()
    with torch.no_grad():
        ((_, outputs),) = layer_outputs(model, images, [layer])
        torch.testing.assert_close(patches.values[:, 0], outputs.amax((0, 2, 3)))
        index, (row, column) = patches.indices[0, 0], patches.positions[0, 0]
        top, left, bottom, right = patches.boxes[0, 0].clamp(min=0).tolist()
        other = torch.rand_like(images[:1])
        other[..., top:bottom, left:right] = images[index, :, top:bottom, left:right]
        ((_, answers),) = layer_outputs(model, other, [layer])
    torch.testing.assert_close(answers[0, 0, row, column], patches.values[0, 0])


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
    assert logits(copy.deepcopy(model), images).shape == (2, CLASSES)
