"""Input times gradient, LRP and PatternAttribution."""

from __future__ import annotations

import warnings

import pytest
import torch
import torchvision
from captum.attr import LRP as CaptumLRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.vgg import cfgs, make_layers

from firstlight.pipeline.methods.gradient import InputXGradient
from firstlight.pipeline.methods.lrp import LRP
from firstlight.pipeline.methods.lrp_rules import (
    Bounded,
    Epsilon,
    Gamma,
    LRPRule,
    WSquared,
    Z,
    ZPlus,
)
from firstlight.pipeline.methods.pattern_methods import PatternAttribution
from firstlight.pipeline.methods.scores import Difference, Neuron
from firstlight.pipeline.patterns import PatternStatistics


class Residual(nn.Module):
    """Max and average pooling, grouped, strided and dilated convolutions, BatchNorm, and a residual
    connection in place."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(6) if bias else nn.Identity()
        self.conv2 = nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=3, bias=bias)
        self.bn2 = nn.BatchNorm2d(6) if bias else nn.Identity()
        self.head = nn.Linear(24, 4, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 2)
        out = self.bn2(self.conv2(x))
        out += x
        return self.head(F.avg_pool2d(out.relu(), 2).flatten(1))


def residual(bias: bool) -> nn.Module:
    torch.manual_seed(0)
    model = Residual(bias).double().eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias, 0, 0.1)
    return model


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 16, 16, dtype=torch.float64, generator=torch.manual_seed(1))


def linear(weight: list[list[float]]) -> nn.Sequential:
    model = nn.Sequential(nn.Flatten(), nn.Linear(len(weight[0]), len(weight), bias=False)).double()
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor(weight))
    return model


@pytest.mark.parametrize(
    ("rule", "shares"),
    [
        # x = (1, 2, 0), w = (3, -1, 2): z = 1, x · w = (3, -2, 0).
        (Z(), [3.0, -2.0, 0.0]),
        (Epsilon(0.25), [3 / 1.25, -2 / 1.25, 0.0]),
        (ZPlus(), [1.0, 0.0, 0.0]),
        (WSquared(), [9 / 14, 1 / 14, 4 / 14]),
        # x⁺ (w + γ w⁺) = (1 · 4.5, 2 · -1, 0), together 2.5.
        (Gamma(0.5, 1e-12), [4.5 / 2.5, -2 / 2.5, 0.0]),
        # x · w - low · w⁺ - high · w⁻ with low = -1, high = 3: (6, 1, 2), together 9.
        (Bounded(-1.0, 3.0), [6 / 9, 1 / 9, 2 / 9]),
    ],
)
def test_one_unit_shares_by_each_rule_as_computed_by_hand(
    rule: LRPRule, shares: list[float]
) -> None:
    model, x = linear([[3.0, -1.0, 2.0]]), torch.tensor([1.0, 2.0, 0.0]).double()
    maps = LRP(rule)(model, x.reshape(1, 1, 1, 3), 0)
    torch.testing.assert_close(maps.flatten(), torch.tensor(shares).double())


def test_gamma_favours_what_speaks_for_the_output_of_either_sign() -> None:
    # x · w = (-3, -2, 2), z = -3. With γ = 1 what makes it fall counts twice: (-6, -4, 2).
    maps = LRP(Gamma(1.0, 1e-12))(
        linear([[-3.0, 1.0, 4.0]]), torch.tensor([[[[1.0, -2.0, 0.5]]]]).double(), 0
    )
    shares = torch.tensor([-6.0, -4.0, 2.0]).double() / -8 * -3
    torch.testing.assert_close(maps.flatten(), shares)


def test_denominators_keep_their_sign_and_zeros_stay_finite() -> None:
    x = torch.tensor([1.0, 2.0]).double().reshape(1, 1, 1, 2)
    # z = -1 is moved away from 0, to -1.5.
    maps = LRP(Epsilon(0.5))(linear([[1.0, -1.0]]), x, 0)
    torch.testing.assert_close(maps.flatten(), torch.tensor([1.0, -2.0]).double() / 1.5)
    for rule in ("z", "epsilon", "z+", "w2", "bounded"):
        for weight in ([[0.0, 0.0]], [[2.0, -1.0]], [[-1.0, -1.0]]):
            assert torch.isfinite(LRP(rule)(linear(weight), 0 * x, 0)).all()
            assert torch.isfinite(LRP(rule)(linear(weight), x, 0)).all()


def test_without_biases_the_z_rule_is_input_times_gradient(images: Tensor) -> None:
    model = residual(bias=False)
    torch.testing.assert_close(LRP("z")(model, images, 2), InputXGradient()(model, images, 2))


@pytest.mark.parametrize("rule", ["z", "epsilon"])
@pytest.mark.parametrize(
    "first", [None, "w2", Bounded(), Bounded((0.0, 0.0, -1.0), (1.0, 1.0, 2.0))]
)
def test_relevance_is_conserved(images: Tensor, rule: str, first: LRPRule | str | None) -> None:
    model = residual(bias=False)
    for target, score in (
        (torch.tensor([0, 3, 1]), model(images)[torch.arange(3), torch.tensor([0, 3, 1])]),
        (Difference(2, 0), model(images)[:, 2] - model(images)[:, 0]),
        (Neuron("head", (3,)), model(images)[:, 3]),
        (lambda z: z.mean(1), model(images).mean(1)),
    ):
        maps = LRP(rule, first)(model, images, target)  # type: ignore[arg-type]
        torch.testing.assert_close(maps.sum((1, 2, 3)), score.detach(), rtol=1e-3, atol=1e-5)


def test_relevance_is_conserved_on_resnet18() -> None:
    torch.manual_seed(0)
    model = torchvision.models.resnet18(num_classes=5).double().eval()
    x = torch.rand(2, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        score = model(x)[:, 1] - model.fc.bias[1]
        model.fc.bias[1] = 0.0
    for method in (LRP("z"), LRP("z+"), LRP("z+", first="bounded")):
        torch.testing.assert_close(method(model, x, 1).sum((1, 2, 3)), score)


def test_only_the_layers_on_the_image_follow_the_first_rule(images: Tensor) -> None:
    class Stems(nn.Module):
        """Two layers see the image, one of them flattened."""

        def __init__(self) -> None:
            super().__init__()
            self.left, self.middle = nn.Linear(768, 5, bias=False), nn.Linear(5, 5, bias=False)
            self.right = nn.Conv2d(3, 5, 16, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            left = self.left(x.flatten(1)).relu()
            return self.middle(left) + self.right(x).flatten(1).relu()

    model = Stems().double()
    with torch.no_grad():
        left = model.left(images.flatten(1)).relu()
        right = model.right(images).flatten(1).relu()
        flat = [w.reshape(5, -1).square() for w in (model.left.weight, model.right.weight)]
        share = [w / w.sum(1, keepdim=True) for w in flat]
        expected = (left * model.middle.weight[1]) @ share[0] + right[:, 1:2] * share[1][1]
    maps = LRP("z", first="w2")(model, images, 1)
    torch.testing.assert_close(maps.flatten(1), expected)


@pytest.mark.parametrize("rule", ["z", "z+", "w2"])
def test_a_batchnorm_behind_a_layer_is_one_with_it(images: Tensor, rule: str) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2.0)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    head = (nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 3))
    model = nn.Sequential(conv, norm, *head).double().eval()
    folded = torch.nn.utils.fusion.fuse_conv_bn_eval(conv, norm)
    expected = LRP(rule)(nn.Sequential(folded, *head), images, 1)
    torch.testing.assert_close(LRP(rule)(model, images, 1), expected)


def test_scales_and_shifts_hand_relevance_on(images: Tensor) -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = residual(bias=True)
            self.norm = nn.BatchNorm2d(3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.body(
                1 - self.norm((x - 0.5) / torch.tensor([2.0, 3.0, 4.0])[:, None, None])
            )

    model = Normalised().eval()
    inner = 1 - model.norm((images - 0.5) / torch.tensor([2.0, 3.0, 4.0])[:, None, None]).detach()
    torch.testing.assert_close(LRP()(model, images, 1), LRP()(model.body, inner, 1))


def without_in_place(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.normal_(module.bias, 0, 0.02)
    model.double().eval().requires_grad_(False)


@pytest.mark.parametrize("rule", [Epsilon(1e-3), ZPlus()])
def test_lrp_equals_captums_on_vgg11(rule: LRPRule) -> None:
    torch.manual_seed(0)
    with torch.device("meta"):
        model = torchvision.models.vgg11()
    # Random weights for all but its two largest layers, which are narrower here.
    model.features = make_layers(cfgs["A"])
    model.classifier = nn.Sequential(nn.Linear(25088, 64), nn.ReLU(), nn.Linear(64, 5))
    without_in_place(model)
    x, target = torch.rand(1, 3, 64, 64, dtype=torch.float64), torch.tensor([3])
    ours = LRP(rule)(model, x, target)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            positive = isinstance(rule, ZPlus)
            module.rule = Alpha1_Beta0_Rule(True) if positive else EpsilonRule(rule.epsilon)
        elif isinstance(module, nn.AdaptiveAvgPool2d):
            module.rule = EpsilonRule(max(rule.epsilon, 1e-15))
        elif isinstance(module, nn.MaxPool2d):
            module.rule = EpsilonRule(1e-15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = CaptumLRP(model).attribute(x.clone(), target)
    assert (ours - theirs).norm() < 1e-5 * theirs.norm()


@pytest.mark.parametrize("name", ["z", "epsilon", "w2", "z+", "alpha1beta0", "bounded"])
def test_rules_go_by_name(images: Tensor, name: str) -> None:
    rule = {"z": Z(), "epsilon": Epsilon(), "w2": WSquared(), "bounded": Bounded()}.get(
        name, ZPlus()
    )
    model = residual(bias=True)
    assert torch.equal(LRP(name)(model, images, 0), LRP(rule)(model, images, 0))


def test_wrong_rules_are_named() -> None:
    with pytest.raises(ValueError, match=r"rule='delta': must be .*LRPRule or 'z', 'epsilon'"):
        LRP("delta")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="first=3: must be"):
        LRP("z", first=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"rule.*'dense'"):
        LRP({"dense": "z"})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="epsilon=0: must be greater than 0"):
        Epsilon(0)
    with pytest.raises(ValueError, match="gamma=-1: must be greater than or equal to 0"):
        Gamma(-1)
    with pytest.raises(ValueError, match=r"low=1.0: low must be below high=\(0.0, 2.0\)"):
        Bounded(1, (0, 2))


def test_s_x_sums_to_y_and_patternattribution_of_one_layer_to_the_score() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).double()
    images = torch.randn(200, 3, 2, 2, dtype=torch.float64)
    logits = model(images).detach()
    torch.testing.assert_close(InputXGradient()(model, images, 1).sum((1, 2, 3)), logits[:, 1])
    statistics = PatternStatistics(model)
    statistics.update(images)
    patterns = statistics.compute()
    for estimator in ("positive", "linear"):
        maps = PatternAttribution(patterns, estimator)(model, images, 1)  # type: ignore[arg-type]
        row = (model[1].weight[1].detach() * getattr(patterns["1"], estimator)[1]).reshape(3, 2, 2)
        torch.testing.assert_close(row.sum(), torch.tensor(1.0).double())
        torch.testing.assert_close(maps, logits[:, 1, None, None, None] * row)


def test_patternattribution_of_a_trained_network_sums_to_about_the_score() -> None:
    torch.manual_seed(0)
    centres = torch.randn(4, 64)
    labels = torch.arange(2000) % 4
    images = (centres[labels] + 0.7 * torch.randn(2000, 64)).relu().reshape(-1, 1, 8, 8)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 32), nn.ReLU()
    )
    model.append(nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    statistics = PatternStatistics(model)
    statistics.update(images)
    maps = PatternAttribution(statistics.compute())(model, images, labels)
    score = model(images).gather(1, labels[:, None])[:, 0].detach()
    ratio = maps.sum((1, 2, 3)) / score
    assert 0.8 < ratio.median() < 1.2
