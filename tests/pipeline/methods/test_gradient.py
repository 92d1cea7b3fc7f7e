"""Documents S1 and S2: the gradient as a function of the image, and integrated gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from captum.attr import IntegratedGradients as CaptumIntegratedGradients
from captum.attr import Saliency
from torch import Tensor, nn
from torchvision.models.vgg import cfgs, make_layers

from firstlight.pipeline.methods.gradient import Gradient, InputXGradient
from firstlight.pipeline.methods.integrated_gradients import IntegratedGradients
from firstlight.pipeline.methods.scores import ClassScore, Difference, Neuron, Target


@pytest.fixture
def cnn() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, stride=2), nn.ReLU(), nn.Conv2d(6, 4, 3, groups=2, dilation=2))
    return nn.Sequential(*layers, nn.Softplus(), nn.Flatten(), nn.Linear(4 * 9, 5)).double()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, 15, 15, dtype=torch.float64, generator=torch.manual_seed(1))


def squares(logits: Tensor) -> Tensor:
    return logits.square().sum(1)


TARGETS: dict[str, Target] = {
    "class": 2,
    "classes": torch.tensor([0, 4, 1]),
    "difference": Difference(0, 3),
    "neuron": Neuron("2", (1, 2, 0)),
    "callable": squares,
}


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_the_gradient_is_the_central_difference_of_any_score(
    cnn: nn.Sequential, images: Tensor, target: Target
) -> None:
    score = {
        "class": lambda x: cnn(x)[:, 2],
        "classes": lambda x: cnn(x)[torch.arange(3), torch.tensor([0, 4, 1])],
        "difference": lambda x: cnn(x)[:, 0] - cnn(x)[:, 3],
        "neuron": lambda x: cnn[:3](x)[:, 1, 2, 0],
        "callable": lambda x: squares(cnn(x)),
    }[next(name for name, t in TARGETS.items() if t is target)]
    gradient = Gradient()(cnn, images, target)
    direction = torch.randn(images.shape, dtype=torch.float64, generator=torch.manual_seed(2))
    with torch.no_grad():
        ahead, behind = score(images + 1e-6 * direction), score(images - 1e-6 * direction)
    slope = (gradient * direction).sum((1, 2, 3))
    torch.testing.assert_close(slope, (ahead - behind) / 2e-6, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
def test_gradients_equal_captums(name: str) -> None:
    torch.manual_seed(0)
    if name == "vgg11":  # Its head takes gigabytes.
        model: nn.Module = nn.Sequential(make_layers(cfgs["A"]), nn.Flatten(), nn.Linear(512, 5))
    else:
        model = torchvision.models.resnet18(num_classes=5).eval()
    x, target = torch.rand(2, 3, 32, 32), torch.tensor([3, 1])
    theirs = Saliency(model).attribute(x.clone().requires_grad_(), target, abs=False)
    torch.testing.assert_close(Gradient()(model, x, target), theirs)
    integral = CaptumIntegratedGradients(model).attribute(
        x, target=target, n_steps=8, method="riemann_middle", internal_batch_size=4
    )
    torch.testing.assert_close(
        IntegratedGradients(8)(model, x, target), integral, rtol=1e-3, atol=1e-8
    )


def test_integrated_gradients_are_complete_at_200_midpoints(
    cnn: nn.Sequential, images: Tensor
) -> None:
    images = 10 * images
    baseline = torch.full_like(images, 0.1)
    with torch.no_grad():
        change = cnn(images) - cnn(baseline)
    # The class whose score moves most: where it hardly moves, 1 % of it is no measure.
    target = change.abs().argmax(1)
    total = IntegratedGradients(200, baseline=0.1)(cnn, images, target).sum((1, 2, 3))
    expected = change.gather(1, target[:, None])[:, 0]
    torch.testing.assert_close(total, expected, rtol=0.01, atol=0.0)


class Cube(nn.Module):
    """S(x) = Σ x³: along the way from 0, the gradient is 3 t² x²."""

    def forward(self, x: Tensor) -> Tensor:
        return x.pow(3).flatten(1).sum(1, keepdim=True)


def test_the_integral_is_taken_at_midpoints_and_not_at_end_points() -> None:
    x = torch.rand(2, 1, 3, 3, dtype=torch.float64)
    for steps in (1, 2, 7):
        midpoints = (torch.arange(steps) + 0.5) / steps
        expected = x.pow(3) * 3 * midpoints.double().square().mean()
        torch.testing.assert_close(IntegratedGradients(steps)(Cube(), x, 0), expected)


@pytest.mark.parametrize(
    "baseline",
    [0.25, torch.full((3, 1, 1), 0.25), lambda images: torch.full_like(images, 0.25)],
    ids=["number", "tensor", "callable"],
)
def test_baselines_may_be_numbers_tensors_and_functions(
    cnn: nn.Sequential, images: Tensor, baseline: float | Tensor | Callable[[Tensor], Tensor]
) -> None:
    path = images - 0.25
    middle = Gradient()(cnn, 0.25 + path / 2, 1)
    torch.testing.assert_close(IntegratedGradients(1, baseline)(cnn, images, 1), path * middle)


def test_passes_are_bounded_and_every_image_keeps_its_own_class(
    cnn: nn.Sequential, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = torch.tensor([0, 4, 1])
    whole = IntegratedGradients(5)(cnn, images, target)
    sizes: list[int] = []
    cnn.register_forward_pre_hook(lambda _module, args: sizes.append(len(args[0])))
    for rows in (1, 2, 7):
        monkeypatch.setattr(
            "firstlight.pipeline.methods.passes.VALUES_PER_PASS", rows * 3 * 15 * 15
        )
        sizes.clear()
        torch.testing.assert_close(IntegratedGradients(5)(cnn, images, target), whole)
        assert max(sizes) <= rows
        assert sum(sizes) == 5 * len(images)


def test_on_a_linear_model_all_three_are_the_weights_times_what_they_say(images: Tensor) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(675, 4)).double()
    w = model[1].weight[2].detach().reshape(1, 3, 15, 15)
    torch.testing.assert_close(Gradient()(model, images, 2), w.expand_as(images))
    torch.testing.assert_close(InputXGradient()(model, images, 2), w * images)
    torch.testing.assert_close(IntegratedGradients(3)(model, images, 2), w * images)


def test_a_score_that_is_given_as_an_object_equals_its_class(
    cnn: nn.Module, images: Tensor
) -> None:
    classes = torch.tensor([1, 1, 1])
    given = IntegratedGradients(4)(cnn, images, ClassScore(classes))
    assert torch.equal(given, IntegratedGradients(4)(cnn, images, 1))


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, "50"])
def test_wrong_steps_are_named(steps: object) -> None:
    with pytest.raises(ValueError, match=r"steps=.*(equal to 1|a valid integer)"):
        IntegratedGradients(steps)  # type: ignore[arg-type]


def test_wrong_baselines_are_named(cnn: nn.Module, images: Tensor) -> None:
    with pytest.raises(TypeError, match=r"baseline='black'"):
        IntegratedGradients(baseline="black")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"baseline: \(3, 7\) does not broadcast"):
        IntegratedGradients(baseline=torch.zeros(3, 7))(cnn, images, 0)
