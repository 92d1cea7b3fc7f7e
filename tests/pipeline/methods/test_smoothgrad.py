"""SmoothGrad."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

from firstlight.pipeline import (
    ConvNetwork,
    DenseNetwork,
    Gradient,
    IntegratedGradients,
    Method,
    Score,
    SmoothGrad,
)


class Plain(Gradient):
    """The gradient, but for SmoothGrad a method like any other: noisy images go all the way."""


class Noisy(Method):
    """The noise itself: base maps whose mean, square and variance are known."""

    def __init__(self, clean: Tensor) -> None:
        self.clean = clean

    def maps(self, model: nn.Module, images: Tensor, score: Score) -> Tensor:
        return images - self.clean.repeat(len(images) // len(self.clean), 1, 1, 1)


def network(kind: str) -> nn.Module:
    torch.manual_seed(0)
    return {
        "dense": lambda: DenseNetwork((1, 8, 8), hidden=(20, 12), num_classes=4),
        "conv": lambda: ConvNetwork((1, 8, 8), channels=(4, 6), hidden=10, num_classes=4),
        "in place": lambda: nn.Sequential(
            nn.Flatten(), nn.Dropout(), nn.Linear(64, 20), nn.ReLU(inplace=True), nn.Linear(20, 4)
        ),
        "more units than pixels": lambda: DenseNetwork((1, 8, 8), hidden=(80,), num_classes=4),
        "normalises first": lambda: Normalising(),
        "weight norm": lambda: nn.Sequential(
            nn.Flatten(), weight_norm(nn.Linear(64, 20)), nn.ReLU(), nn.Linear(20, 4)
        ),
        "first layer twice": lambda: Twice(),
        "a matrix product first": lambda: Product(),
        "two first layers": lambda: TwoStems(),
        "checkpointed": lambda: Checkpointed(),
    }[kind]()


class Normalising(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = DenseNetwork((1, 8, 8), hidden=(20,), num_classes=4)

    def forward(self, images: Tensor) -> Tensor:
        return self.net((images - 0.1307) / 0.3081)


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)
        self.head = nn.Linear(64, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(images).relu()).relu().flatten(1))


class Product(nn.Module):
    """Its first step is no call of a layer, and the layer behind it does not see the image."""

    def __init__(self) -> None:
        super().__init__()
        self.w, self.head = nn.Parameter(torch.randn(64, 20) / 8), nn.Linear(20, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((images.flatten(1) @ self.w).relu())


class TwoStems(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(1, 3, 1)
        self.head = nn.Linear(192, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head((self.a(images) + self.b(images)).relu().flatten(1))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = DenseNetwork((1, 8, 8), hidden=(20, 12), num_classes=4)

    def forward(self, images: Tensor) -> Tensor:
        return checkpoint(self.net, images, use_reentrant=False)


@pytest.fixture
def images() -> Tensor:
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    return x * torch.tensor([1.0, 0.5, 3.0])[:, None, None, None]


KINDS = [
    "dense",
    "conv",
    "in place",
    "more units than pixels",
    "normalises first",
    "weight norm",
    "first layer twice",
    "a matrix product first",
    "two first layers",
    "checkpointed",
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_mean_signed_gradient_over_noise_relative_to_each_images_range(kind, images):
    """Against the sum in the paper, written out, with a sample large enough to tell."""
    model = network(kind).eval()
    n, noise = 4000, torch.Generator().manual_seed(5)
    for image, estimated in zip(images, SmoothGrad(samples=n)(model, images, 2), strict=True):
        sigma = 0.15 * (image.max() - image.min())
        x = (image + sigma * torch.randn((n, *image.shape), generator=noise)).requires_grad_()
        (samples,) = torch.autograd.grad(model(x)[:, 2].sum(), x)
        error = samples.std(0) * math.sqrt(2 / n)
        z = ((estimated - samples.mean(0)) / error.clamp(min=1e-9)).flatten()
        assert z.abs().max() < 5
        assert z.square().mean() < 1.5


@pytest.mark.parametrize("kind", ["dense", "conv"])
def test_the_shared_way_has_the_distribution_of_the_plain_way(kind, images):
    """Mean and spread over noise of its own for each copy of the images agree."""
    model = network(kind)
    copies = images.repeat(300, 1, 1, 1)
    shared, plain = (
        SmoothGrad(base, samples=4)(model, copies, 1).unflatten(0, (300, -1))
        for base in (Gradient(), Plain())
    )
    error = (shared.var(0) / 300 + plain.var(0) / 300).sqrt().clamp(min=1e-9)
    assert ((shared.mean(0) - plain.mean(0)) / error).abs().max() < 5
    assert float(shared.var(0).sum()) == pytest.approx(float(plain.var(0).sum()), rel=0.15)
    assert not torch.equal(shared[0], shared[1])


class CountRows(TorchFunctionMode):
    """Counts the rows that go through the first layer, as images and as a way back."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (F.linear, F.conv2d) and args[0].flatten(1).shape[1] == 64:
            self.rows += len(args[0])
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("kind", "shared"), [("dense", True), ("in place", True), ("normalises first", False)]
)
def test_the_shared_way_is_taken_only_where_the_image_reaches_one_layer(kind, shared, images):
    model = network(kind)
    with CountRows() as count:
        SmoothGrad(samples=100)(model, images)
    assert (count.rows < 30) == shared


def test_a_network_that_looks_at_the_image_twice_is_not_cut_behind_its_first_layer(images):
    class Skip(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 8), nn.Linear(72, 4)

        def forward(self, images: Tensor) -> Tensor:
            x = images.flatten(1)
            return self.last(torch.cat([self.first(x).relu(), x.square()], dim=1))

    torch.manual_seed(0)
    model = Skip()
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    torch.testing.assert_close(
        SmoothGrad(noise_level=1e-6, samples=4)(model, images, 0), gradient, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("base", [Gradient(), IntegratedGradients(steps=4)])
def test_no_noise_is_the_base_method_bit_for_bit(kind, base, images):
    model = network(kind)
    assert torch.equal(SmoothGrad(base, noise_level=0)(model, images), base(model, images))


@pytest.mark.parametrize("kind", KINDS)
def test_vanishing_noise_is_the_base_method(kind, images):
    model = network(kind).double()
    smooth = SmoothGrad(noise_level=1e-9, samples=4)(model, images, 1)
    torch.testing.assert_close(smooth, Gradient()(model, images, 1), rtol=1e-5, atol=1e-6)


def test_the_error_falls_as_one_over_the_root_of_n(images):
    model = network("dense")
    true = SmoothGrad(samples=20_000, seed=99)(model, images, 0)
    sizes = [10, 40, 160]
    errors = [
        torch.stack(
            [SmoothGrad(samples=n, seed=s)(model, images, 0) - true for s in range(40)]
        ).norm()
        for n in sizes
    ]
    slopes = [math.log(errors[i + 1] / errors[i]) / math.log(4) for i in range(2)]
    assert slopes == pytest.approx([-0.5, -0.5], abs=0.12)


def test_pairs_of_opposite_noise_are_closer_to_the_truth(images):
    model = network("dense")
    true = SmoothGrad(samples=20_000, seed=99)(model, images, 0)
    pairs, single = (
        torch.stack(
            [
                SmoothGrad(samples=20, seed=s, antithetic=a)(model, images, 0) - true
                for s in range(40)
            ]
        ).norm()
        for a in (True, False)
    )
    assert pairs < 0.8 * single


@pytest.mark.parametrize("antithetic", [True, False])
def test_mean_square_and_variance_of_known_noise(images, antithetic):
    model = network("dense")
    sigma = 0.15 * (images.amax((1, 2, 3), True) - images.amin((1, 2, 3), True))

    def of(statistic: str) -> Tensor:
        return SmoothGrad(Noisy(images), 5000, statistic=statistic, antithetic=antithetic)(
            model, images
        )

    assert (of("mean") / sigma).abs().max() < 0.08
    assert (of("square") / sigma.square()).sub(1).abs().max() < 0.15
    assert (of("variance") / sigma.square()).sub(1).abs().max() < 0.15


def test_the_variance_is_that_of_the_same_samples(images):
    """An odd number of samples, taken in passes of different sizes."""
    model = network("conv")
    mean, square, variance = (
        SmoothGrad(Plain(), 21, statistic=s, batch_size=12)(model.double(), images, 0)
        for s in ("mean", "square", "variance")
    )
    torch.testing.assert_close(variance, square - mean.square(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("antithetic", [True, False])
def test_the_standard_error_is_the_spread_over_seeds(images, antithetic):
    model = network("conv")
    estimates = [
        SmoothGrad(samples=24, seed=s, antithetic=antithetic).estimate(model, images, 0)
        for s in range(100)
    ]
    spread = torch.stack([e.maps for e in estimates]).var(0).sum().item()
    claimed = torch.stack([e.standard_error.square() for e in estimates]).mean(0).sum().item()
    assert claimed == pytest.approx(spread, rel=0.2)
    assert estimates[0].samples == 24


def test_the_estimate_is_the_map(images):
    model = network("conv")
    method = SmoothGrad(Plain(), samples=9)
    torch.testing.assert_close(method.estimate(model, images).maps, method(model, images))


def test_a_tolerance_stops_the_sampling_once_every_image_is_good_enough(images):
    model = network("dense")
    coarse, fine = (
        SmoothGrad(samples=10_000, tolerance=t).estimate(model, images, 0) for t in (0.2, 0.05)
    )
    assert coarse.samples < fine.samples < 10_000
    assert (
        fine.standard_error.flatten(1).norm(dim=1) <= 0.05 * fine.maps.flatten(1).norm(dim=1)
    ).all()


@pytest.mark.parametrize("base", [Gradient(), Plain()])
def test_passes_and_blocks_do_not_change_what_is_estimated(base, images):
    model = network("dense")
    true = SmoothGrad(base, samples=400)(model, images, 0)
    for size in (1, 7):
        other = SmoothGrad(base, samples=400, batch_size=size)(model, images, 0)
        assert (other - true).norm() < 0.05 * true.norm()


@pytest.mark.parametrize("statistic", ["mean", "square", "variance"])
def test_a_model_without_any_layer_is_taken(statistic, images):
    class Plainest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.randn(64, 4, generator=torch.Generator().manual_seed(0)))

        def forward(self, images: Tensor) -> Tensor:
            return (images.flatten(1) @ self.w).square()

    shown = SmoothGrad(samples=4, statistic=statistic, noise_level=1e-6)(Plainest(), images, 1)
    gradient = Gradient()(Plainest(), images, 1)
    expected = {"mean": gradient, "square": gradient.square(), "variance": 0 * gradient}
    torch.testing.assert_close(shown, expected[statistic], rtol=1e-3, atol=1e-4)


def test_no_pass_holds_more_images_than_asked_for(images):
    seen = []

    class Watched(DenseNetwork):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(len(images))
            return super().forward(images)

    torch.manual_seed(0)
    for base in (Gradient(), Plain()):
        SmoothGrad(base, samples=30, batch_size=6)(Watched((1, 8, 8), (20,), 4), images)
    assert max(seen) == 6


def test_the_same_seed_gives_the_same_map_and_leaves_the_global_numbers_alone(images):
    model = network("dense")
    before = torch.get_rng_state()
    first, second, other = (SmoothGrad(samples=5, seed=s)(model, images) for s in (3, 3, 4))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())


def test_the_class_is_that_of_the_clean_image(images):
    """With noise this strong, noisy copies are often taken for another class."""
    model = network("conv")
    predicted = model(images).argmax(1)
    smooth = SmoothGrad(Plain(), noise_level=5.0, samples=20)
    torch.testing.assert_close(smooth(model, images), smooth(model, images, predicted))
    mixed = torch.tensor([0, 1, 2])
    together = SmoothGrad(samples=4000)(model, images, mixed)
    for i, c in enumerate(mixed.tolist()):
        alone = SmoothGrad(samples=4000, seed=1)(model, images[i : i + 1], c)
        assert (together[i] - alone).norm() < 0.1 * alone.norm()


def test_a_constant_image_has_no_range_and_so_no_noise():
    model = network("dense")
    flat = torch.full((2, 1, 8, 8), 0.7)
    torch.testing.assert_close(SmoothGrad()(model, flat), Gradient()(model, flat))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base": "gradient"}, "base='gradient'"),
        ({"samples": 0}, "samples=0"),
        ({"samples": 2.5}, "samples=2.5"),
        ({"samples": True}, "samples=True"),
        ({"noise_level": -0.1}, "noise_level=-0.1"),
        ({"noise_level": math.nan}, "noise_level=nan"),
        ({"noise_level": "15%"}, "noise_level='15%'"),
        ({"noise_level": 15}, "noise_level=15.*a share of the image's range, at most 10; 15 % is"),
        ({"statistic": "median"}, "statistic='median'"),
        ({"tolerance": 0.0}, "tolerance=0.0"),
        ({"tolerance": 0.1, "statistic": "variance"}, "variance"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"seed": 1.5}, "seed=1.5"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises((TypeError, ValueError), match=message):
        SmoothGrad(**arguments)


def test_a_standard_error_that_does_not_exist_is_refused(images):
    model = network("dense")
    with pytest.raises(ValueError, match="statistic='variance'"):
        SmoothGrad(statistic="variance").estimate(model, images)
    with pytest.raises(ValueError, match="samples=2"):
        SmoothGrad(samples=2).estimate(model, images)
