"""Pattern statistics: k_r / (wᵀk_r), whatever the layer, the batches and the way it is called."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet18

from firstlight.pipeline.patterns import Pattern, PatternStatistics
from firstlight.pipeline.patterns.samples import sums_device

REGIMES = ("linear", "positive", "negative")


class Functional(nn.Module):
    """A model from a function of itself and the images."""

    def __init__(
        self, forward: Callable[[Any, Tensor], Tensor], **parts: nn.Module | nn.Parameter
    ) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.function = forward

    def forward(self, images: Tensor) -> Tensor:
        return self.function(self, images)


def dense(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = nn.Flatten(), nn.Linear(12, 9), nn.ReLU(inplace=True), nn.Linear(9, 4)
    return nn.Sequential(*layers).double()


def pictures(
    n: int = 60, channels: int = 1, height: int = 3, width: int = 4, seed: int = 0
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, channels, height, width, generator=generator, dtype=torch.float64)


def fitted(model: nn.Module, *batches: Tensor, **options: Any) -> dict[str, Pattern]:
    statistics = PatternStatistics(model, **options)
    for batch in batches:
        statistics.update(batch)
    return statistics.compute()


def by_definition(x: Tensor, w: Tensor, z: Tensor) -> dict[str, Tensor]:
    """The patterns (units, inputs) of samples x (n, inputs) with outputs z (n, units)."""
    y = x @ w.T
    masks = {"linear": torch.ones_like(z), "positive": (z > 0).to(z), "negative": (z <= 0).to(z)}
    patterns = {}
    for regime, mask in masks.items():
        count = mask.sum(0).unsqueeze(1)
        k = (mask * y).T @ x / count - mask.T @ x / count * y.mean(0).unsqueeze(1)
        patterns[regime] = (k / (w * k).sum(1, keepdim=True)).detach().nan_to_num()
    return patterns


def assert_patterns(pattern: Pattern, expected: dict[str, Tensor], tolerance: float = 1e-9) -> None:
    for regime in REGIMES:
        actual = getattr(pattern, regime).flatten(1)
        torch.testing.assert_close(
            actual, expected[regime], rtol=tolerance, atol=tolerance, msg=regime
        )


def test_linear_layers_have_the_patterns_of_the_definition() -> None:
    model, images = dense(), pictures()
    patterns = fitted(model, images)
    assert list(patterns) == ["1", "3"]
    x = images.flatten(1)
    assert_patterns(patterns["1"], by_definition(x, model[1].weight, model[1](x)))
    h = model[1](x).relu()
    assert_patterns(patterns["3"], by_definition(h, model[3].weight, model[3](h)))


def test_batches_do_not_matter() -> None:
    model, images = dense(), pictures()
    whole, parts = fitted(model, images), fitted(model, *images.split(7))
    for name, pattern in whole.items():
        assert pattern.count == parts[name].count == 60
        for field in (*REGIMES, "input_mean", "input_variance"):
            torch.testing.assert_close(
                getattr(parts[name], field), getattr(pattern, field), rtol=1e-10, atol=1e-12
            )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(-3, 3), st.floats(0.1, 10))
def test_a_pattern_times_its_weights_is_1(seed: int, shift: float, scale: float) -> None:
    model, images = dense(seed), scale * pictures(seed=seed) + shift
    for pattern in fitted(model, images).values():
        for regime in REGIMES:
            product = (pattern.weight * getattr(pattern, regime)).flatten(1).sum(1)
            torch.testing.assert_close(
                product, (~pattern.undefined(regime)).double(), rtol=1e-8, atol=0
            )


def test_the_bias_decides_the_regime_and_nothing_else() -> None:
    model, images = dense(), pictures()
    before = fitted(model, images)["1"]
    with torch.no_grad():
        model[1].bias += 0.3
    after = fitted(model, images)["1"]
    torch.testing.assert_close(after.linear, before.linear)
    assert (after.positive_count >= before.positive_count).all()
    assert not torch.allclose(after.positive, before.positive)
    x = images.flatten(1)
    torch.testing.assert_close(after.positive_count, (model[1](x) > 0).sum(0))


CONVOLUTIONS = {
    "plain": (2, {}),
    "strided": (2, {"stride": (2, 3), "padding": (1, 2)}),
    "stride that leaves a rest": (2, {"stride": 3}),
    "dilated": (2, {"dilation": 2, "padding": 1}),
    "same": (2, {"padding": "same", "kernel_size": (2, 3), "dilation": (1, 2)}),
    "valid": (2, {"padding": "valid"}),
    "reflected": (2, {"padding": 2, "padding_mode": "reflect"}),
    "circular": (2, {"padding": 1, "padding_mode": "circular"}),
    "grouped": (2, {"groups": 2, "padding": 1, "stride": 2}),
    "depthwise": (2, {"groups": 4, "out_channels": 8}),
    "depthwise, one pixel": (2, {"groups": 4, "kernel_size": 1, "stride": (2, 1)}),
    "more inputs than samples": (2, {"kernel_size": (7, 7), "padding": 1, "stride": 2}),
    "3d depthwise, one pixel": (3, {"groups": 4, "kernel_size": 1, "padding": 1}),
    "1d": (1, {"stride": 2, "padding": 1}),
    "1d grouped": (1, {"groups": 2, "dilation": 2}),
    "3d": (3, {"padding": 1, "stride": (1, 2, 1)}),
    "3d grouped": (3, {"groups": 4}),
}


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize(("dims", "options"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_has_the_patterns_of_its_patches(dims: int, options: dict[str, Any]) -> None:
    """The patches are read off a convolution with one-hot kernels."""
    torch.manual_seed(0)
    kind = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    conv = kind(4, **{"out_channels": 4, "kernel_size": 3} | options).double()
    shape = {1: (4, 12), 2: (4, 7, 8), 3: (4, 3, 5, 6)}[dims]
    model = Functional(lambda self, x: self.conv(x.reshape(-1, *shape)).flatten(1), conv=conv)
    images = pictures(20, 4, *{1: (3, 4), 2: (7, 8), 3: (15, 6)}[dims])
    pattern = fitted(model, images[:9], images[9:])["conv"]

    groups, size = conv.groups, conv.weight[0].numel()
    one_hot = copy.deepcopy(conv)
    one_hot.weight = nn.Parameter(
        torch.eye(size)
        .reshape(size, *conv.weight.shape[1:])
        .double()
        .repeat(groups, *[1] * (dims + 1))
    )
    one_hot.bias, one_hot.out_channels = None, groups * size
    with torch.no_grad():
        inputs = images.reshape(-1, *shape)
        patches = (
            one_hot(inputs)
            .unflatten(1, (groups, size))
            .flatten(3)
            .permute(1, 0, 3, 2)
            .flatten(1, 2)
        )
        outputs = (
            conv(inputs).unflatten(1, (groups, -1)).flatten(3).permute(1, 0, 3, 2).flatten(1, 2)
        )
    weights = conv.weight.detach().flatten(1).unflatten(0, (groups, -1))
    expected = [by_definition(x, w, z) for x, w, z in zip(patches, weights, outputs, strict=True)]
    assert_patterns(
        pattern, {regime: torch.cat([e[regime] for e in expected]) for regime in REGIMES}
    )
    assert pattern.count == patches.shape[1]
    per_unit = weights.shape[1]
    torch.testing.assert_close(
        pattern.input_mean.flatten(1), patches.mean(1).repeat_interleave(per_unit, 0)
    )
    variance = patches.var(1, correction=0).repeat_interleave(per_unit, 0)
    torch.testing.assert_close(pattern.input_variance.flatten(1), variance)


def test_functional_calls_are_seen_like_modules() -> None:
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(1, 3, 2).double(), nn.Linear(18, 4).double()
    kernel, weight = conv.weight, linear.weight
    modules = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear)
    functional = Functional(
        lambda self, x: F.linear(
            input=F.conv2d(x, self.kernel, self.shift).relu_().flatten(1), weight=self.matrix
        ),
        kernel=kernel,
        shift=conv.bias,
        matrix=weight,
    )
    with torch.no_grad():
        linear.bias.zero_()
    images = pictures()
    by_modules, by_calls = fitted(modules, images), fitted(functional, images)
    for module, call in {"0": "kernel", "3": "matrix"}.items():
        assert_patterns(
            by_calls[call], {r: getattr(by_modules[module], r).flatten(1) for r in REGIMES}
        )


def test_a_grouped_functional_convolution_of_a_bare_weight_is_fitted_by_group() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 2, groups=2, bias=False).double()
    bare = Functional(
        lambda self, x: F.conv2d(x, self.kernel, groups=2).flatten(1), kernel=conv.weight
    )
    images = pictures(30, 4)
    expected = fitted(nn.Sequential(conv, nn.Flatten()), images)["0"]
    actual = fitted(bare, images)["kernel"]
    assert_patterns(actual, {r: getattr(expected, r).flatten(1) for r in REGIMES})
    torch.testing.assert_close(actual.input_variance, expected.input_variance)


def test_calls_of_a_reused_layer_add_up() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 12).double()
    model = Functional(lambda self, x: self.linear(self.linear(x.flatten(1)).relu()), linear=linear)
    images = pictures()
    pattern = fitted(model, images)["linear"]
    with torch.no_grad():
        first = images.flatten(1)
        x = torch.cat([first, linear(first).relu()])
        assert_patterns(pattern, by_definition(x, linear.weight, linear(x)))
    assert pattern.count == 120


def test_a_linear_layer_over_sequences_takes_every_element_as_a_sample() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(4, 5).double()
    model = Functional(lambda self, x: self.linear(x.squeeze(1)).mean(1), linear=linear)
    images = pictures()
    with torch.no_grad():
        x = images.reshape(-1, 4)
        assert_patterns(fitted(model, images)["linear"], by_definition(x, linear.weight, linear(x)))


@pytest.mark.parametrize("inplace", [True, False])
def test_a_batch_norm_is_folded_into_its_layer(inplace: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5)
    linear, norm1d = nn.Linear(60, 6), nn.BatchNorm1d(6, affine=False)
    model = nn.Sequential(
        conv, norm, nn.ReLU(inplace), nn.Flatten(), linear, norm1d, nn.ReLU(inplace)
    ).double()
    images = pictures(50, 3)
    with torch.no_grad():
        norm.weight.uniform_(-1, 2)
        norm.bias.uniform_(-0.5, 0.5)
    for _ in range(50):
        model(images)
    assert model.training
    patterns = fitted(model, *images.split(20))

    folded = copy.deepcopy(model)
    with torch.no_grad():
        for layer, batch_norm in ((folded[0], norm), (folded[4], norm1d)):
            gamma, beta = (
                (1, 0) if batch_norm.weight is None else (batch_norm.weight, batch_norm.bias)
            )
            scale = gamma / (batch_norm.running_var + batch_norm.eps).sqrt()
            layer.weight *= scale.view(-1, *[1] * (layer.weight.ndim - 1))
            layer.bias.copy_((layer.bias - batch_norm.running_mean) * scale + beta)
    folded[1], folded[5] = nn.Identity(), nn.Identity()
    expected = fitted(folded, images)
    for name in ("0", "4"):
        assert patterns[name].folded
        assert not expected[name].folded
        torch.testing.assert_close(patterns[name].weight, expected[name].weight)
        torch.testing.assert_close(patterns[name].positive_count, expected[name].positive_count)
        assert_patterns(
            patterns[name], {r: getattr(expected[name], r).flatten(1) for r in REGIMES}, 1e-7
        )


def test_a_norm_over_other_things_than_the_units_is_not_folded() -> None:
    linear, norm = nn.Linear(4, 5), nn.BatchNorm1d(3)
    by_batch = nn.BatchNorm1d(5, track_running_stats=False)
    model = Functional(
        lambda self, x: self.by_batch(
            self.head(self.norm(self.linear(x.squeeze(1))).relu().mean(1))
        ),
        linear=linear,
        norm=norm,
        head=nn.Linear(5, 5),
        by_batch=by_batch,
    ).double()
    assert not any(pattern.folded for pattern in fitted(model, pictures()).values())


def test_a_layer_with_two_norms_is_refused_by_name() -> None:
    torch.manual_seed(0)
    model = Functional(
        lambda self, x: (
            self.first(self.linear(x.flatten(1))) + self.second(self.linear(x.flatten(1)))
        ),
        linear=nn.Linear(12, 3),
        first=nn.BatchNorm1d(3),
        second=nn.BatchNorm1d(3),
    ).double()
    with torch.no_grad():
        model.second.weight.fill_(2)
    with pytest.raises(ValueError, match=r"'linear'.*BatchNorm"):
        fitted(model, pictures())


def test_float32_products_lose_nothing_that_matters() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(600, 20), nn.ReLU(), nn.Linear(20, 5)
    )
    images = pictures(512, 1, 12, 12).float()
    single = fitted(model, *images.split(128))
    double = fitted(copy.deepcopy(model).double(), images.double())
    for name, pattern in single.items():
        for regime in REGIMES:
            actual, expected = (
                getattr(pattern, regime).flatten(1),
                getattr(double[name], regime).flatten(1),
            )
            error = (actual - expected).norm(dim=1) / expected.norm(dim=1).clamp(min=1e-30)
            few = torch.minimum(pattern.positive_count, pattern.count - pattern.positive_count) < 50
            # Where w^T k is close to 0 rounding counts for more.
            assert error[~few].max() < 2e-4
            assert error[~few].median() < 1e-5


def test_bfloat16_models_are_summed_in_float32() -> None:
    model = dense().bfloat16()
    pattern = fitted(model, *pictures(600).bfloat16().split(60))["1"]
    assert pattern.count == 600
    product = (pattern.weight * pattern.linear).sum(1)
    torch.testing.assert_close(product, torch.ones_like(product))


def test_units_that_are_dead_constant_or_zero_have_zero_patterns_and_are_counted() -> None:
    model = dense()
    with torch.no_grad():
        model[1].bias[0] = -100.0
        model[1].bias[1] = 100.0
        model[1].weight[2] = 0.0
        model[1].weight[3] = 0.0
        model[1].weight[3, 5] = 1.0
    images = pictures()
    images[:, 0, 1, 1] = 0.1
    pattern = fitted(model, images)["1"]
    ordinary = (pattern.positive_count[4:] == 0).tolist()
    assert not all(ordinary)
    assert pattern.undefined("positive").tolist() == [True, False, True, True, *ordinary]
    assert pattern.undefined("negative").tolist()[:3] == [False, True, True]
    assert pattern.undefined("linear").tolist() == [False, False, True, True] + [False] * 5
    assert all(torch.isfinite(getattr(pattern, regime)).all() for regime in REGIMES)
    assert pattern.positive_count[:2].tolist() == [0, 60]


def test_two_processes_sums_add_up_to_those_of_one() -> None:
    model, images = dense(), pictures()
    first, second, whole = (PatternStatistics(model) for _ in range(3))
    first.update(images[:25])
    second.update(images[25:])
    whole.update(images)
    first.merge_state(second)
    for name, expected in whole.compute().items():
        assert_patterns(
            first.compute()[name], {r: getattr(expected, r).flatten(1) for r in REGIMES}, 1e-12
        )


def test_states_are_sums_in_float64_known_before_the_first_image() -> None:
    statistics = PatternStatistics(dense())
    assert all(state.dtype == torch.float64 for state in statistics._defaults.values())
    shapes = [state.shape for state in statistics.metric_state.values()]
    statistics.update(pictures())
    assert [state.shape for state in statistics.metric_state.values()] == shapes


def test_the_model_is_no_part_of_the_metric() -> None:
    model, images = dense(), pictures()
    statistics = PatternStatistics(model)
    assert not list(statistics.children())
    assert not list(statistics.parameters())
    assert not statistics.state_dict()
    statistics.update(images)
    expected = statistics.compute()["1"].positive
    for twin in (copy.deepcopy(statistics), pickle.loads(pickle.dumps(statistics))):
        torch.testing.assert_close(twin.compute()["1"].positive, expected)
    statistics.reset()
    statistics.update(images[:30])
    assert statistics.compute()["1"].count == 30


def test_a_layer_of_one_unit_and_one_input_keeps_its_shape() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 1)).double()
    pattern = fitted(model, pictures(20, 1, 1, 1))["1"]
    assert pattern.positive.shape == pattern.weight.shape == (1, 1)
    assert pattern.positive_count.shape == (1,)


def test_fitting_leaves_no_trace() -> None:
    torch.manual_seed(0)
    norm = nn.BatchNorm2d(4)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), norm, nn.Dropout(), nn.Flatten(), nn.Linear(8, 3)
    ).double()
    images = pictures()
    norm.eval()
    model(images).sum().backward()
    state = copy.deepcopy(model.state_dict())
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    modes = [m.training for m in model.modules()]
    torch_state, numpy_state, python_state = (
        torch.get_rng_state(),
        np.random.get_state(),
        random.getstate(),
    )
    kept = images.clone()
    fitted(model, images)
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    assert all(
        torch.equal(g, p.grad)
        for g, p in zip(gradients, model.parameters(), strict=True)
        if p.grad is not None
    )
    assert modes == [m.training for m in model.modules()]
    assert torch.equal(torch_state, torch.get_rng_state())
    assert python_state == random.getstate()
    assert str(numpy_state) == str(np.random.get_state())
    assert torch.equal(images, kept)


def test_a_metric_made_in_inference_mode_goes_on_outside() -> None:
    model, images = dense(), pictures()
    with torch.inference_mode():
        statistics = PatternStatistics(model)
        statistics.update(images.clone())
    statistics.update(images)
    assert statistics.compute()["1"].count == 120


def test_resnet18_has_a_folded_pattern_for_every_convolution() -> None:
    torch.manual_seed(0)
    patterns = fitted(resnet18().eval(), torch.rand(2, 3, 32, 32))
    assert len(patterns) == 21
    assert [name for name, pattern in patterns.items() if not pattern.folded] == ["fc"]
    assert patterns["layer2.0.downsample.0"].positive.shape == (128, 64, 1, 1)
    product = (patterns["conv1"].weight * patterns["conv1"].linear).flatten(1).sum(1)
    torch.testing.assert_close(product, torch.ones_like(product))


def test_layers_can_be_chosen() -> None:
    assert list(fitted(dense(), pictures(), layers=["3"])) == ["3"]


def test_layers_that_are_never_called_are_left_out() -> None:
    model = Functional(
        lambda self, x: self.used(x.flatten(1)), used=nn.Linear(12, 2), unused=nn.Linear(3, 3)
    ).double()
    assert list(fitted(model, pictures())) == ["used"]


def test_embeddings_are_no_layers() -> None:
    with pytest.raises(ValueError, match="no weight"):
        PatternStatistics(nn.Sequential(nn.Embedding(3, 4)))


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(TypeError, match="model='model': must be an instance of Module"):
        PatternStatistics("model")  # type: ignore[arg-type]


def test_an_unknown_layer_is_refused_with_its_near_misses() -> None:
    model = Functional(lambda self, x: x, conv_first=nn.Conv2d(1, 1, 1), head=nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"'conv_frist'.*near it: conv_first$"):
        PatternStatistics(model, layers=["conv_frist"])


def test_one_name_instead_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match="layers='3'"):
        PatternStatistics(dense(), layers="3")


def test_a_model_that_calls_no_layer_is_refused() -> None:
    model = Functional(
        lambda self, x: x.flatten(1) @ self.linear.weight.T, linear=nn.Linear(12, 2)
    ).double()
    with pytest.raises(ValueError, match=r"called none of its layers linear"):
        PatternStatistics(model).update(pictures())


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_computing_before_the_first_image_is_refused() -> None:
    with pytest.raises(RuntimeError, match=r"call update\(images\)"):
        PatternStatistics(dense()).compute()


def test_images_that_are_not_finite_are_refused() -> None:
    images = pictures()
    images[3, 0, 1, 1] = torch.nan
    statistics = PatternStatistics(dense())
    with pytest.raises(ValueError, match="images: must be finite"):
        statistics.update(images)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_named(value: float) -> None:
    model = dense()
    with torch.no_grad():
        model[3].weight[1, 1] = value
    with pytest.raises(ValueError, match=r"layer '3'.*not all finite"):
        fitted(model, pictures())


@pytest.mark.parametrize(
    "estimators",
    [["linear"], ["positive"], ["negative"], ["positive", "negative"], ["linear", "negative"]],
    ids=str,
)
def test_patterns_that_are_asked_for_are_the_same_and_others_are_errors(
    estimators: list[str],
) -> None:
    model, images = dense(), pictures()
    everything = fitted(model, images)["1"]
    some = fitted(model, images, estimators=estimators)["1"]
    for regime in REGIMES:
        if regime in estimators:
            torch.testing.assert_close(some.of(regime), everything.of(regime))
        else:
            with pytest.raises(ValueError, match=f"fitted without '{regime}'"):
                some.of(regime)


@pytest.mark.parametrize("estimators", [[], ["S_a"], "linear"])
def test_estimators_that_are_none_are_refused(estimators: Any) -> None:
    with pytest.raises(ValueError, match="estimators"):
        PatternStatistics(dense(), estimators=estimators)


def test_patterns_know_if_no_other_layer_stands_before_theirs() -> None:
    torch.manual_seed(0)
    model = Functional(
        lambda self, x: self.head((self.left(x / 2) + self.right(x)).relu().flatten(1)),
        head=nn.Linear(24, 2),
        left=nn.Conv2d(1, 4, 2),
        right=nn.Conv2d(1, 4, 2),
    ).double()
    patterns = fitted(model, pictures())
    assert {n: p.sees_image for n, p in patterns.items()} == {
        "head": False,
        "left": True,
        "right": True,
    }


def test_sums_are_kept_on_the_cpu_for_a_device_that_has_no_float64(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    zeros = torch.zeros

    def refusing(*size: Any, device: torch.device, dtype: torch.dtype) -> Tensor:
        if torch.device(device).type == "mps" and dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype")
        return zeros(*size, dtype=dtype, device="cpu")

    monkeypatch.setattr(torch, "zeros", refusing)
    assert sums_device(torch.device("mps")) == torch.device("cpu")
    assert sums_device(torch.device("cpu")) == torch.device("cpu")


class Still(nn.Module):
    """Numbers that no image changes."""

    def __init__(self, numbers: Tensor) -> None:
        super().__init__()
        self.register_buffer("numbers", numbers)

    def forward(self, images: Tensor) -> Tensor:
        return 0 * images.flatten(1)[:, :1] + self.numbers


@pytest.mark.parametrize("count", [1000, 100_000])
@pytest.mark.parametrize("spread", [1e-1, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4])
def test_inputs_that_hardly_vary_give_a_pattern_that_is_right_or_none(
    count: int, spread: float
) -> None:
    """However many samples there are in a batch: float64 tells."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 6))
    images = 1 + spread * torch.randn(count, 1, 2, 2)
    single, double = fitted(model, images)["1"], fitted(model.double(), images.double())["1"]
    for regime in REGIMES:
        error = (single.of(regime) - double.of(regime)).norm(dim=1) / double.of(regime).norm(dim=1)
        assert (single.undefined(regime) | (error < 0.1)).all()
    if spread > 3e-3:
        assert not single.undefined("linear").any()


@pytest.mark.parametrize("count", [50, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_unit_whose_inputs_never_vary_has_no_pattern(dtype: torch.dtype, count: int) -> None:
    """The rounding of sums over many equal samples is larger than one number's."""
    torch.manual_seed(0)
    numbers = torch.rand(30)
    model = nn.Sequential(Still(numbers), nn.Linear(30, 4), nn.ReLU(), nn.Linear(4, 2)).to(dtype)
    statistics = PatternStatistics(model)
    statistics.update(torch.rand(count, 1, 2, 2, dtype=dtype))
    for pattern in statistics.compute().values():
        for regime in REGIMES:
            assert pattern.undefined(regime).all()
