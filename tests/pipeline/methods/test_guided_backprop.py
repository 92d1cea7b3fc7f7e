"""Documents S1 and S3: DeconvNet, guided backprop and PatternNet."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from captum.attr import Deconvolution
from captum.attr import GuidedBackprop as CaptumGuidedBackprop
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from firstlight.pipeline.methods.base import Method
from firstlight.pipeline.methods.gradient import Gradient
from firstlight.pipeline.methods.guided_backprop import DeconvNet, GuidedBackprop
from firstlight.pipeline.methods.pattern_methods import PatternAttribution, PatternNet
from firstlight.pipeline.methods.scores import Difference, Neuron
from firstlight.pipeline.patterns import Pattern, PatternStatistics


def pattern(weight: Tensor, positive: Tensor, folded: bool = False) -> Pattern:
    """A pattern with given a+, and twice that for a."""
    none = torch.zeros(len(weight))
    return Pattern(
        weight=weight,
        linear=2 * positive,
        positive=positive,
        negative=torch.zeros_like(positive),
        folded=folded,
        count=0,
        positive_count=none,
        input_mean=torch.zeros_like(weight),
        input_variance=torch.zeros_like(weight),
    )


def hand_net() -> tuple[nn.Sequential, Tensor]:
    """x = (1, 2) -> z = (3, -4, 1) -> ReLU (3, 0, 1) -> S = 2·3 + 1·0 - 1·1 = 5."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, 1.0], [0.0, -2.0], [3.0, -1.0]]))
        model[3].weight.copy_(torch.tensor([[2.0, 1.0, -1.0]]))
        model[3].bias.zero_()
    return model, torch.tensor([1.0, 2.0]).reshape(1, 1, 1, 2)


def test_gradient_guided_backprop_and_deconvnet_differ_by_hand() -> None:
    model, x = hand_net()
    # R = (2, 1, -1) arrives at the ReLU. The gradient keeps units 0 and 2, which are on; DeconvNet
    # units 0 and 1, whose R is positive; guided backprop only unit 0.
    expected = {Gradient: [-1.0, 3.0], DeconvNet: [2.0, 0.0], GuidedBackprop: [2.0, 2.0]}
    for method, signal in expected.items():
        assert method()(model, x, 0).flatten().tolist() == signal


def test_guided_backprop_is_the_gradient_where_all_weights_are_positive() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 4, 2), nn.ReLU(True)
    )
    model.extend([nn.Flatten(), nn.Linear(36, 3)]).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
        model[0].bias.sub_(1.0)
    x = torch.randn(4, 3, 10, 10, dtype=torch.float64)
    gradient = Gradient()(model, x, 1)
    assert (gradient == 0).any() and (gradient != 0).any()
    torch.testing.assert_close(GuidedBackprop()(model, x, 1), gradient)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_guided_backprop_and_deconvnet_equal_captums(name: str) -> None:
    torch.manual_seed(0)
    if name == "vgg11":  # Its head takes gigabytes.
        model: nn.Module = nn.Sequential(make_layers(cfgs["A"]), nn.Flatten(), nn.Linear(512, 5))
    else:
        model = torchvision.models.resnet18(num_classes=5).eval()
    x, target = torch.rand(2, 3, 32, 32), torch.tensor([3, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        guided = CaptumGuidedBackprop(model).attribute(x.clone(), target)
        deconv = Deconvolution(model).attribute(x.clone(), target)
    assert not torch.allclose(guided, deconv)
    torch.testing.assert_close(GuidedBackprop()(model, x, target), guided)
    torch.testing.assert_close(DeconvNet()(model, x, target), deconv)


def between_convolutions(function: Callable[[Tensor], Tensor]) -> nn.Module:
    class Between(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.below, self.above = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.above(function(self.below(x))).mean((2, 3))

    torch.manual_seed(0)
    return Between().double()


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "mish": F.mish,
    "elu": F.elu,
    "tanh": torch.tanh,
    "x σ(x)": lambda x: x * torch.sigmoid(x),
    "σ(x) x": lambda x: x.sigmoid().mul(x),
    "x σ(x) in place": lambda x: x.clone().mul_(x.sigmoid()),
    "x σ(1.7 x)": lambda x: x * torch.sigmoid(1.7 * x),
    "x / (1 + exp(-x))": lambda x: x / (1 + torch.exp(-x)),
    "x hardsigmoid(x)": lambda x: x * F.hardsigmoid(x),
    "x relu6(x + 3) / 6": lambda x: x * F.relu6(x + 3) / 6,
    "gelu by erf": lambda x: 0.5 * x * (1 + torch.erf(x / math.sqrt(2))),
    "gelu by tanh": lambda x: 0.5 * x * (1 + torch.tanh(0.8 * (x + 0.045 * x**3))),
    "mish by its parts": lambda x: x * torch.tanh(F.softplus(x)),
}


@pytest.mark.parametrize("method", [GuidedBackprop(), DeconvNet()], ids=lambda m: m.label)
@pytest.mark.parametrize("name", SMOOTH)
def test_a_smooth_activation_leaves_nothing_to_rectify(name: str, method: Method) -> None:
    model, images = between_convolutions(SMOOTH[name]), torch.rand(1, 3, 8, 8).double()
    message = r"in the model's own forward pass, a smooth activation that leaves nothing to rectify"
    with pytest.raises(ValueError, match=message):
        method(model, images, 1)


@pytest.mark.parametrize("method", [GuidedBackprop(), DeconvNet()], ids=lambda m: m.label)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x.flip(1).sigmoid(),
        lambda x: x * x.mean((2, 3), keepdim=True).sigmoid(),
        lambda x: x * x.softmax(1),
        lambda x: F.glu(torch.cat([x, x.flip(1)], 1), 1),
        lambda x: F.group_norm(x, 2),
    ],
    ids=["gate", "squeeze and excite", "softmax", "glu", "norm"],
)
def test_what_is_no_rectifier_passes_the_gradient(
    function: Callable[[Tensor], Tensor], method: Method
) -> None:
    model, images = between_convolutions(function), torch.rand(1, 3, 8, 8).double()
    torch.testing.assert_close(method(model, images, 1), Gradient()(model, images, 1))


@pytest.mark.parametrize("method", [GuidedBackprop(), DeconvNet(), Gradient()])
def test_on_a_linear_model_they_all_give_w(method: Method) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    w = model[1].weight[1].detach()
    maps = method(model, torch.rand(5, 3, 2, 2), 1).flatten(1)
    torch.testing.assert_close(F.cosine_similarity(maps, w[None]), torch.ones(5))


def test_on_a_linear_model_patternnet_gives_the_signal_and_the_others_do_not() -> None:
    torch.manual_seed(0)
    a_s, a_d = torch.tensor([1.0, 0.0]).double(), torch.tensor([1.0, 1.0]).double()
    y, noise = torch.randn(2, 4000, 1, dtype=torch.float64)
    x = (y * a_s + noise * a_d).reshape(-1, 1, 1, 2)
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 1)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([[1.0, -1.0]]))
        model[1].bias.zero_()
    statistics = PatternStatistics(model)
    statistics.update(x)
    some = x[:10]
    for estimator in ("positive", "linear"):
        maps = PatternNet(statistics.compute(), estimator)(model, some, 0)  # type: ignore[arg-type]
        assert (F.cosine_similarity(maps.flatten(1), a_s[None]).abs() > 0.999).all()
    for method in (GuidedBackprop(), DeconvNet()):
        cosine = F.cosine_similarity(method(model, some, 0).flatten(1), a_s[None])
        torch.testing.assert_close(cosine, torch.full_like(cosine, 0.5**0.5))


def mlp(*widths: int) -> tuple[nn.Sequential, dict[str, Pattern]]:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Flatten()]
    for width, next_width in pairwise(widths):
        layers += [nn.Linear(width, next_width), nn.ReLU()]
    model = nn.Sequential(*layers[:-1]).double()
    with torch.no_grad():
        patterns = {
            name: pattern(layer.weight.clone(), torch.randn_like(layer.weight))
            for name, layer in model.named_modules()
            if isinstance(layer, nn.Linear)
        }
    return model, patterns


@pytest.mark.parametrize("estimator", ["positive", "linear"])
def test_the_backward_pass_of_an_mlp_written_by_hand(estimator: str) -> None:
    model, patterns = mlp(12, 20, 10, 4)
    images = torch.rand(3, 3, 2, 2, dtype=torch.float64)
    scale = 1 if estimator == "positive" else 2
    weights = {n: (p.weight.numpy(), scale * p.positive.numpy()) for n, p in patterns.items()}
    biases = {n: dict(model.named_modules())[n].bias.detach().numpy() for n in patterns}
    for method, use in ((PatternNet, lambda w, a: a), (PatternAttribution, lambda w, a: w * a)):
        expected = np.zeros((3, 12))
        for n, x in enumerate(images.flatten(1).numpy()):
            masks = []
            for name, (w, _) in weights.items():
                z = w @ x + biases[name]
                masks.append(z > 0)
                x = np.maximum(z, 0)
            signal = np.where(np.arange(4) == 2, z, 0.0)
            for i, (w, a) in reversed(list(enumerate(weights.values()))):
                signal = signal @ use(w, a)
                signal = signal * masks[i - 1] if i > 0 else signal
            expected[n] = signal
        maps = method(patterns, estimator)(model, images, 2)  # type: ignore[arg-type]
        np.testing.assert_allclose(maps.flatten(1).numpy(), expected, rtol=1e-12, atol=1e-12)


class SmallConvolution(nn.Module):
    """Convolution (padding 1), ReLU, max-pool, convolution (stride 2), ReLU, linear: by calls."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 4, 3, stride=2)
        self.head = nn.Linear(4 * 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(F.conv2d(x, self.conv1.weight, self.conv1.bias, padding=1)), 2)
        x = F.conv2d(x, self.conv2.weight, self.conv2.bias, stride=2).relu_()
        return F.linear(x.flatten(1), self.head.weight, self.head.bias)


def test_the_backward_pass_of_a_cnn_written_by_hand() -> None:
    torch.manual_seed(1)
    model = SmallConvolution().double()
    images = torch.rand(2, 2, 10, 10, dtype=torch.float64)
    names = ("conv1", "conv2", "head")
    with torch.no_grad():
        parameters = [
            (model.get_parameter(f"{n}.weight"), model.get_parameter(f"{n}.bias")) for n in names
        ]
        a = [torch.randn_like(w) for w, _ in parameters]
        patterns = {
            n: pattern(w.clone(), v) for n, (w, _), v in zip(names, parameters, a, strict=True)
        }
    (w1, b1), (w2, b2), (w3, b3) = [(w.detach().numpy(), b.detach().numpy()) for w, b in parameters]
    v1, v2, v3 = (v.numpy() for v in a)

    def correlate(x: np.ndarray, w: np.ndarray, stride: int) -> np.ndarray:
        size = (x.shape[1] - 3) // stride + 1
        z = np.zeros((len(w), size, size))
        for i, j in np.ndindex(size, size):
            patch = x[:, i * stride : i * stride + 3, j * stride : j * stride + 3]
            z[:, i, j] = np.tensordot(w, patch, 3)
        return z

    def send_back(r: np.ndarray, w: np.ndarray, stride: int, size: int) -> np.ndarray:
        signal = np.zeros((w.shape[1], size, size))
        for i, j in np.ndindex(*r.shape[1:]):
            rows, columns = slice(i * stride, i * stride + 3), slice(j * stride, j * stride + 3)
            signal[:, rows, columns] += np.tensordot(r[:, i, j], w, 1)
        return signal

    for method, use in ((PatternNet, lambda w, a: a), (PatternAttribution, lambda w, a: w * a)):
        for image, signal in zip(images.numpy(), method(patterns)(model, images, 1), strict=True):
            z1 = correlate(np.pad(image, ((0, 0), (1, 1), (1, 1))), w1, 1) + b1[:, None, None]
            x1 = np.maximum(z1, 0)
            pooled = x1.reshape(3, 5, 2, 5, 2).max((2, 4))
            z2 = correlate(pooled, w2, 2) + b2[:, None, None]
            y = w3 @ np.maximum(z2, 0).ravel() + b3
            r = (y[1] * use(w3, v3)[1]).reshape(z2.shape) * (z2 > 0)
            r = send_back(r, use(w2, v2), 2, 5)
            winners = np.zeros_like(x1)
            for c, i, j in np.ndindex(3, 5, 5):
                block = x1[c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
                row, column = np.unravel_index(block.argmax(), (2, 2))
                winners[c, 2 * i + row, 2 * j + column] = r[c, i, j]
            expected = send_back(winners * (z1 > 0), use(w1, v1), 1, 12)[:, 1:-1, 1:-1]
            np.testing.assert_allclose(signal.numpy(), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("batch_norm", [False, True])
def test_with_the_weights_for_patterns_patternnet_is_the_gradient_times_the_score(
    batch_norm: bool,
) -> None:
    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
            self.bn1, self.bn2 = (
                (nn.BatchNorm2d(4), nn.BatchNorm2d(4))
                if batch_norm
                else (nn.Identity(), nn.Identity())
            )
            self.relu = nn.ReLU(inplace=True)
            self.head = nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.relu(self.bn1(self.conv1(x)))
            out = self.bn2(self.conv2(x))
            out += x
            return self.head(F.adaptive_avg_pool2d(self.relu(out), 1).flatten(1))

    model = Residual().double()
    for norm in (model.bn1, model.bn2):
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(norm.weight)
    images = torch.randn(3, 3, 6, 6, dtype=torch.float64)
    statistics = PatternStatistics(model)
    statistics.update(images)
    patterns = {n: replace(p, positive=p.weight) for n, p in statistics.compute().items()}
    assert patterns["conv1"].folded == batch_norm
    model.eval()
    for target, score in (
        (1, model(images)[:, 1]),
        (Difference(0, 2), None),
        (Neuron("head", (2,)), None),
    ):
        gradient = Gradient()(model, images, target)
        if score is None:
            logits = model(images)
            score = logits[:, 2] if isinstance(target, Neuron) else logits[:, 0] - logits[:, 2]
        expected = score.detach()[:, None, None, None] * gradient
        torch.testing.assert_close(PatternNet(patterns)(model, images, target), expected)


def test_a_batchnorm_that_stands_alone_is_undone() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2)).double().eval()
    model[0].running_var.copy_(torch.tensor([0.25, 1.0, 4.0]))
    model[0].running_mean.fill_(0.3)
    patterns = {"2": pattern(model[2].weight.detach(), torch.randn(2, 12, dtype=torch.float64))}
    images = torch.rand(4, 3, 2, 2, dtype=torch.float64)
    behind = nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).double()
    behind[1].load_state_dict(model[2].state_dict())
    normed = model[0](images).detach()
    for method, unit in (
        (PatternNet, (model[0].running_var + 1e-5).sqrt()),
        (PatternAttribution, 1.0),
    ):
        expected = method({"1": patterns["2"]})(behind, normed, 1)
        factor = unit[:, None, None] if isinstance(unit, Tensor) else unit
        torch.testing.assert_close(method(patterns)(model, images, 1), expected * factor)


def test_patterns_that_are_not_the_models_are_named() -> None:
    model, patterns = mlp(12, 20, 10, 4)
    x = torch.rand(1, 3, 2, 2)
    for method in (PatternNet, PatternAttribution):
        with pytest.raises(
            ValueError, match="patterns: there is none for layer '3', only for 1, 5"
        ):
            method({n: p for n, p in patterns.items() if n != "3"})(model, x, 0)
        with pytest.raises(
            ValueError, match=r"layer '3' has the shape \(20, 12\), its weight \(10, 20\)"
        ):
            method(patterns | {"3": patterns["1"]})(model, x, 0)
        with pytest.raises(
            ValueError, match="layer '1' has no BatchNorm behind it, its pattern is with"
        ):
            method(patterns | {"1": replace(patterns["1"], folded=True)})(model, x, 0)
        with pytest.raises(TypeError, match=r"patterns=.*: must be a valid"):
            method([patterns])  # type: ignore[arg-type]
        with pytest.raises(
            ValueError, match="estimator='negative': must be 'positive' or 'linear'"
        ):
            method(patterns, estimator="negative")  # type: ignore[arg-type]


def deep(size: float, layers: int = 6) -> tuple[nn.Sequential, dict[str, Pattern]]:
    """A network whose patterns make the signal ``size`` times as large in every layer but one, and
    as much smaller in the last one on its way."""
    model = nn.Sequential(nn.Flatten(), *(nn.Linear(2, 2, bias=False) for _ in range(layers)))
    for layer in model[1:]:
        nn.init.eye_(layer.weight)
    grown = {str(i): pattern(torch.eye(2), torch.eye(2) * size) for i in range(2, layers + 1)}
    shrunk = pattern(torch.eye(2), torch.eye(2) / size ** (layers - 1))
    return model, {"1": shrunk, **grown}


def test_a_signal_that_leaves_floats_range_on_its_way_is_as_if_it_had_not() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).reshape(2, 1, 1, 2)
    model, patterns = deep(2.0**20)
    patterns = patterns | {"1": pattern(torch.eye(2), torch.eye(2) / 2.0**100)}
    model.append(nn.Linear(2, 2, bias=False))
    nn.init.eye_(model[-1].weight)
    patterns["7"] = pattern(torch.eye(2), torch.eye(2) * 2.0**40)
    maps = PatternNet(patterns)(model, x, 1).reshape(2, 2)
    assert maps.tolist() == [[0.0, 2.0 * 2.0**40], [0.0, 4.0 * 2.0**40]]


def test_a_small_score_whose_signal_leaves_the_range_is_an_error_and_no_map_of_zeros() -> None:
    model, patterns = deep(2.0**40)
    patterns["1"] = patterns["2"]
    x = torch.full((1, 1, 1, 2), 2.0**-32)
    with pytest.raises(ValueError, match="patterns: their signal leaves the range of float32"):
        PatternNet(patterns)(model, x, 1)
    maps = PatternNet(patterns)(model.double(), x.double(), 1).flatten()
    assert maps.tolist() == [0.0, 2.0**208]


def test_a_map_that_cannot_be_represented_is_an_error() -> None:
    model, patterns = deep(2.0**40)
    patterns["1"] = patterns["2"]
    x = torch.ones(1, 1, 1, 2)
    with pytest.raises(ValueError, match="patterns: their signal leaves the range of float32"):
        PatternNet(patterns)(model, x, 1)
    maps = PatternNet(patterns)(model.double(), x, 1).flatten()
    assert maps.tolist() == [0.0, 2.0**240]
