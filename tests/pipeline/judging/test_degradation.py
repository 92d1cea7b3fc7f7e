"""PatternNet paper, Fig. 4a: image degradation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from firstlight.pipeline import ConvNetwork, DenseNetwork, Gradient
from firstlight.pipeline.judging import ImageDegradation, degradation_area


class Contributions(nn.Module):
    """Logits (Σ w ⊙ x, 0): the probability of class 0 is the sigmoid of the sum that is left."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.rows: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.rows.append(len(images))
        sums = (images * self.weight).sum((1, 2, 3))
        return torch.stack((sums, torch.zeros_like(sums)), 1)


WEIGHT = torch.tensor([[3.0, -1.0, 0.5], [0.25, 2.0, -0.75]])[None]
MAPS = WEIGHT[None]
ONES = torch.ones(1, 1, 2, 3)
BLACKENED = ImageDegradation(patch=1, fill=0)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(5, 2, 13, 10, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def maps(images: Tensor) -> Tensor:
    return torch.randn(images.shape, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return DenseNetwork((2, 13, 10), hidden=(30,), num_classes=4)


def test_patches_of_a_linear_model_go_in_the_order_of_their_signed_contribution() -> None:
    left = 4.0 - torch.tensor([0.0, 3.0, 2.0, 0.5, 0.25, -0.75, -1.0]).cumsum(0)
    curve = BLACKENED.removal(Contributions(WEIGHT), ONES, MAPS)
    torch.testing.assert_close(curve, left.sigmoid()[None])


def test_patches_of_a_linear_model_come_back_in_the_order_of_their_signed_contribution() -> None:
    there = torch.tensor([0.0, 3.0, 2.0, 0.5, 0.25, -0.75, -1.0]).cumsum(0)
    curve = BLACKENED.insertion(Contributions(WEIGHT), ONES, MAPS)
    torch.testing.assert_close(curve, there.sigmoid()[None])


@pytest.mark.parametrize("bias", [0.0, -10.0])
def test_of_several_labels_the_sigmoid_of_the_strongest_is_followed(bias: float) -> None:
    class OneLogit(Contributions):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, :1] + bias

    left = bias + 4.0 - torch.tensor([0.0, 3.0, 2.0, 0.5, 0.25, -0.75, -1.0]).cumsum(0)
    of_labels = replace(BLACKENED, probability="sigmoid")
    curve = of_labels.removal(OneLogit(WEIGHT), ONES, MAPS)
    torch.testing.assert_close(curve, left.sigmoid()[None])
    # The labels do not share a probability: another one does not change the curve.
    beside = nn.Sequential(OneLogit(WEIGHT), Beside(bias - 1))
    torch.testing.assert_close(of_labels.removal(beside, ONES, MAPS), curve)


class Beside(nn.Module):
    """Another label with the same logit, always."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, logits: Tensor) -> Tensor:
        return torch.cat((logits, torch.full_like(logits, self.logit)), 1)


def in_all_orders(curve: Callable[..., Tensor]) -> Tensor:
    """The curves of the linear model for all 720 orders of its six patches."""
    orders = list(itertools.permutations(range(6)))
    maps = torch.tensor(orders, dtype=torch.float32).reshape(-1, 1, 2, 3)
    return curve(Contributions(WEIGHT), ONES.expand(len(orders), -1, -1, -1), maps)


def test_no_order_is_steeper_at_any_step_than_that_of_a_linear_models_contributions() -> None:
    model = Contributions(WEIGHT)
    removal, insertion = (f(model, ONES, MAPS) for f in (BLACKENED.removal, BLACKENED.insertion))
    assert (removal <= in_all_orders(BLACKENED.removal) + 1e-6).all()
    assert (insertion >= in_all_orders(BLACKENED.insertion) - 1e-6).all()


def test_random_order_is_the_mean_over_all_orders() -> None:
    expected = in_all_orders(BLACKENED.removal).mean(0)
    images = ONES.expand(2000, -1, -1, -1)
    random = BLACKENED.random_removal(Contributions(WEIGHT), images, draws=2).mean(0)
    torch.testing.assert_close(random, expected, atol=0.02, rtol=0)
    insertion = in_all_orders(BLACKENED.insertion).mean(0)
    torch.testing.assert_close(random.flip(0), insertion, atol=0.02, rtol=0)


def test_random_order_is_worse_than_that_of_an_explanation() -> None:
    """The order of the contributions beats it; their reverse, which is no explanation, does not."""
    model = Contributions(WEIGHT)
    random = BLACKENED.random_removal(model, ONES.expand(50, -1, -1, -1)).mean(0, keepdim=True)
    gain, loss = (
        degradation_area(BLACKENED.removal(model, ONES, maps) - random) for maps in (MAPS, -MAPS)
    )
    assert gain < -0.1
    assert loss > 0.02


def test_all_orders_share_the_start_and_the_end(
    model: nn.Module, images: Tensor, maps: Tensor
) -> None:
    degradation = ImageDegradation(patch=4)
    curves = [degradation.removal(model, images, m) for m in (maps, -maps, maps.square())]
    curves += [degradation.random_removal(model, images)]
    curves += [degradation.insertion(model, images, maps).flip(1)]
    whole = model(images).softmax(1)
    plain = images.mean((2, 3), keepdim=True).expand_as(images)
    first = whole.argmax(1, keepdim=True)
    for curve in curves:
        torch.testing.assert_close(curve[:, :1], whole.gather(1, first))
        torch.testing.assert_close(curve[:, -1:], model(plain).softmax(1).gather(1, first))
    assert not torch.allclose(curves[0], curves[1])


def test_the_class_stays_the_one_first_predicted() -> None:
    """Class 0 is first predicted; without the two strongest patches class 1 would be."""
    weight = WEIGHT - torch.tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 0.5]])
    curve = BLACKENED.removal(Contributions(weight), ONES, weight[None])
    torch.testing.assert_close(curve[0, [0, 2]], torch.tensor([3.0, -2.0]).sigmoid())


@pytest.mark.parametrize("fill", ["patch", "image", -0.5])
@pytest.mark.parametrize("insert", [False, True])
def test_the_curve_is_that_of_the_loop_written_out(
    fill: str | float, insert: bool, model: nn.Module, images: Tensor, maps: Tensor
) -> None:
    """Patches of 4 x 4 pixels on 13 x 10, cut off at the right and at the bottom."""
    degradation = ImageDegradation(patch=4, fill=fill)
    curves = (degradation.insertion if insert else degradation.removal)(model, images, maps)
    for image, g, curve in zip(images, maps, curves, strict=True):
        patches = [
            (..., slice(r, r + 4), slice(c, c + 4)) for r in (0, 4, 8, 12) for c in (0, 4, 8)
        ]
        degraded = image.clone()
        for patch in patches:
            mean = {"patch": image[patch], "image": image}.get(fill, torch.full((2, 1, 1), -0.5))
            degraded[patch] = mean.mean((1, 2), keepdim=True)
        x, goal = (degraded, image) if insert else (image, degraded)
        x = x.clone()
        predicted = model(image[None]).argmax()
        probabilities = [model(x[None]).softmax(1)[0, predicted]]
        for patch in sorted(patches, key=lambda p: float(g[p].sum()), reverse=True):
            x[patch] = goal[patch]
            probabilities.append(model(x[None]).softmax(1)[0, predicted])
        torch.testing.assert_close(curve, torch.stack(probabilities))


def test_a_curve_does_not_depend_on_the_other_images(
    model: nn.Module, images: Tensor, maps: Tensor
) -> None:
    degradation = ImageDegradation(patch=3)
    each = [degradation.removal(model, images[i, None], maps[i, None]) for i in range(5)]
    torch.testing.assert_close(degradation.removal(model, images, maps), torch.cat(each))


@pytest.mark.parametrize("steps", [1, 3, 5, 12])
def test_fewer_steps_are_points_of_the_whole_curve(
    steps: int, model: nn.Module, images: Tensor, maps: Tensor
) -> None:
    whole = ImageDegradation(patch=4).removal(model, images, maps)
    curve = ImageDegradation(patch=4, steps=steps).removal(model, images, maps)
    points = torch.linspace(0, 12, steps + 1).round().long()
    torch.testing.assert_close(curve, whole[:, points])


@pytest.mark.parametrize(
    ("side", "steps"), [(28, 49), (6, 36), (32, 64), (224, 625)], ids=["MNIST", "tiny", "32", "224"]
)
def test_the_default_patch_fits_the_image(side: int, steps: int) -> None:
    """4 x 4 pixels on MNIST, the paper's 9 x 9 on ImageNet."""
    images = torch.ones(1, 1, side, side)
    model = Contributions(torch.ones(1, side, side))
    assert ImageDegradation().removal(model, images, images).shape == (1, steps + 1)


@pytest.mark.parametrize(("height", "width"), [(14, 63), (63, 14)])
def test_the_default_patch_is_a_seventh_of_the_shorter_side(height: int, width: int) -> None:
    """2 x 2 pixels, 7 by 32 of them, the last one cut off."""
    images = torch.ones(1, 1, height, width)
    model = Contributions(torch.ones(1, height, width))
    assert ImageDegradation().removal(model, images, images).shape == (1, 7 * 32 + 1)
    with pytest.raises(ValueError, match="patch=15: the images' shorter side is 14 pixels"):
        ImageDegradation(patch=15).removal(model, images, images)


def test_memory_is_bounded() -> None:
    model = Contributions(torch.ones(1, 224, 224))
    images = torch.ones(30, 1, 224, 224)
    ImageDegradation(patch=56).removal(model, images, images)
    assert max(model.rows) * 224 * 224 <= 2**20
    assert sum(model.rows) == 30 * 17 + 30


def test_patches_that_tie_are_ordered_by_chance_and_by_the_seed(
    model: nn.Module, images: Tensor
) -> None:
    blank = torch.zeros_like(images)
    same = images[:1].expand(5, -1, -1, -1)
    degradation = ImageDegradation(patch=4)
    curves = degradation.removal(model, same, blank)
    assert len({tuple(curve) for curve in curves.tolist()}) == 5
    assert torch.equal(curves, degradation.removal(model, same, blank))
    assert not torch.equal(curves, replace(degradation, seed=1).removal(model, same, blank))
    halves = torch.zeros_like(images)
    halves[..., :8, :] = 1.0
    half = degradation.removal(model, images, halves)[:, 6]
    top = degradation.removal(model, images, halves * torch.rand_like(halves))[:, 6]
    torch.testing.assert_close(half, top)


def test_the_area_of_a_straight_fall_is_a_half_and_that_of_a_difference_the_difference() -> None:
    fall = torch.linspace(1, 0, 50)
    assert degradation_area(fall).item() == pytest.approx(0.5)
    curves = torch.stack((fall, fall.square()))
    areas = degradation_area(curves)
    torch.testing.assert_close(degradation_area(curves - fall), areas - 0.5)


def test_a_map_that_is_not_finite_has_no_curve(model: nn.Module, images: Tensor) -> None:
    maps = images.clone()
    maps[1, 0, 2, 2], maps[3, 1, 0, 0] = torch.nan, torch.inf
    curves = ImageDegradation(patch=4).removal(model, images, maps)
    assert curves.isnan().all(1).tolist() == [False, True, False, True, False]
    assert not curves[[0, 2, 4]].isnan().any()


def test_degrading_leaves_no_trace_and_works_in_inference_mode(images: Tensor) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.Dropout(), ConvNetwork((2, 13, 10), (4,), 8, num_classes=3)
    )
    before, state = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    expected = ImageDegradation().random_removal(model, images)
    with torch.inference_mode():
        maps = Gradient()(model, images.clone())
        ImageDegradation().removal(model, images.clone(), maps)
        assert torch.equal(ImageDegradation().random_removal(model, images.clone()), expected)
    assert model.training and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_probabilities_of_a_half_precision_model_are_single_precision(
    model: nn.Module, images: Tensor, maps: Tensor
) -> None:
    curves = ImageDegradation().removal(model.bfloat16(), images, maps.bfloat16())
    assert curves.dtype == torch.float32
    assert not curves.isnan().any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"patch": 0}, r"patch=0"),
        ({"patch": 2.0}, r"patch=2.0"),
        ({"steps": -1}, r"steps=-1"),
        ({"fill": "mean"}, r"fill='mean'"),
        ({"fill": float("nan")}, r"fill=nan"),
        ({"seed": "0"}, r"seed='0'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageDegradation(**arguments)


def test_what_does_not_fit_the_images_is_named(model: nn.Module, images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"patch=11: the images' shorter side is 10"):
        ImageDegradation(patch=11).removal(model, images, images)
    with pytest.raises(ValueError, match=r"steps=13: the images have only 12 patches"):
        ImageDegradation(patch=4, steps=13).removal(model, images, images)
    with pytest.raises(ValueError, match=r"maps=.*: must have the shape \(5, C, 13, 10\)"):
        ImageDegradation().removal(model, images, images[:4])
    with pytest.raises(TypeError, match=r"maps=None: must be"):
        ImageDegradation().insertion(model, images, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"images=\[0\.0\]: must be"):
        ImageDegradation().random_removal(model, [0.0])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"draws=0"):
        ImageDegradation().random_removal(model, images, draws=0)
    with pytest.raises(TypeError, match=r"curves=<Tensor torch\.int64 .*: must be a float"):
        degradation_area(torch.ones(2, 5, dtype=torch.int64))
