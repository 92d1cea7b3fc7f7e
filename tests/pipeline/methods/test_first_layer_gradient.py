"""The four approaches of first-layer gradient maps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from firstlight.pipeline import DenseNetwork, FirstLayerGradient
from firstlight.pipeline.methods import NoFirstLayerMapError


@pytest.fixture
def images() -> Tensor:
    x = torch.rand(30, 1, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x[:, :, 0] = 0  # a border that no image uses
    return x


@pytest.fixture
def labels() -> Tensor:
    return torch.arange(30) % 3


@pytest.fixture
def network() -> DenseNetwork:
    torch.manual_seed(1)
    return DenseNetwork(input_shape=(1, 6, 5), hidden=(16, 8), num_classes=4).double()


def first_weight(network: nn.Module) -> nn.Parameter:
    return next(p for p in network.parameters() if p.ndim > 1)


def autograd_map(network: nn.Module, loss: Tensor, shape: tuple[int, ...]) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, first_weight(network))
    return gradient.mean(0).reshape(shape)


def losses(logits: Tensor, label: int, other: int) -> dict[int, Tensor]:
    full = torch.full((len(logits),), 0)
    return {
        1: F.cross_entropy(logits, full + other),
        2: F.cross_entropy(logits, full + label),
        3: logits[:, label].sum(),
        4: logits[:, other].sum(),
    }


@pytest.mark.parametrize("approach", [1, 2, 3, 4])
def test_the_map_is_the_mean_over_units_of_autograds_gradient(network, images, approach):
    g = autograd_map(network, losses(network(images), 2, 0)[approach], (1, 6, 5))
    raw = {1: g, 2: 1 / (1 - g), 3: g, 4: -g}[approach]
    method = FirstLayerGradient(approach=approach, relu=False)
    torch.testing.assert_close(
        method(network, images, labels=2, other=0), raw, rtol=1e-9, atol=1e-12
    )
    rectified = FirstLayerGradient(approach=approach)(network, images, 2, other=0)
    torch.testing.assert_close(rectified, raw.relu(), rtol=1e-9, atol=1e-12)


def test_the_map_is_the_inputs_weighted_by_their_deltas(network, images):
    x = images.flatten(1)
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    z1 = (x @ layers[0].weight.T + layers[0].bias).detach().requires_grad_()
    logits = layers[2](layers[1](z1.relu()).relu())
    (delta,) = torch.autograd.grad(logits[:, 1].sum(), z1)
    closed_form = (x * delta.sum(1, keepdim=True)).sum(0) / z1.shape[1]
    g = FirstLayerGradient(approach=3, relu=False)(network, images, labels=1)
    torch.testing.assert_close(g.flatten(), closed_form, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("approach", [1, 3, 4])
def test_the_map_is_zero_wherever_every_input_is(network, images, approach):
    g = FirstLayerGradient(approach=approach, relu=False)(network, images, labels=1, other=0)
    assert (g[:, 0] == 0).all()
    assert (g[:, 1:] != 0).all()


@pytest.mark.parametrize("approach", [1, 3, 4])
def test_the_sum_is_units_times_the_mean(network, images, approach):
    mean, total = (
        FirstLayerGradient(approach=approach, summary=s, relu=False)(network, images, 1, 0)
        for s in ("mean", "sum")
    )
    torch.testing.assert_close(total, 16 * mean)


def test_approach_3_is_a_directional_derivative_with_respect_to_the_weights(network, images):
    weight = first_weight(network)
    direction = torch.zeros_like(weight).unflatten(1, (6, 5))
    direction[:, 3, 2] = 1 / 16
    values = []
    for step in (1e-6, -1e-6):
        moved = {"weight": weight + step * direction.flatten(1)}
        name = next(n for n, p in network.named_parameters() if p is weight)
        values.append(
            torch.func.functional_call(network, {name: moved["weight"]}, (images,))[:, 2].sum()
        )
    finite_difference = (values[0] - values[1]) / 2e-6
    g = FirstLayerGradient(approach=3, relu=False)(network, images, labels=2)
    torch.testing.assert_close(g[0, 3, 2], finite_difference.detach(), rtol=1e-6, atol=1e-9)


def test_only_the_cross_entropy_map_sees_another_logits_bias(network, images):
    before = [FirstLayerGradient(approach=a)(network, images, 2, other=0) for a in (1, 3, 4)]
    last = [m for m in network.modules() if isinstance(m, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[3] += 1.0
    after = [FirstLayerGradient(approach=a)(network, images, 2, other=0) for a in (1, 3, 4)]
    assert not torch.allclose(before[0], after[0])
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[2], after[2])


@pytest.mark.parametrize("approach", [1, 2, 3, 4])
def test_all_classes_in_one_pass_are_the_maps_of_one_class_each(network, images, labels, approach):
    other = (labels + 1) % 4
    method = FirstLayerGradient(approach=approach, relu=False)
    together = method.by_class(network, images, labels, other)
    assert together.classes == [0, 1, 2]
    for c, g in zip(together.classes, together.maps, strict=True):
        own = labels == c
        torch.testing.assert_close(g, method(network, images[own], labels[own], other[own]))


@pytest.mark.parametrize("convolutional", [False, True])
@pytest.mark.parametrize("approach", [1, 4])
def test_all_pairs_in_one_pass_are_the_maps_of_one_pair_each(
    images, labels, approach, convolutional, network
):
    if convolutional:
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)
        )
        network.double()
    method = FirstLayerGradient(approach=approach, relu=False)
    pairs = method.pairs(network, images, labels)
    assert pairs.classes == [0, 1, 2]
    assert pairs.maps.shape == (3, 4, 1, 6, 5)
    for c in range(3):
        for k in range(4):
            if c != k:
                torch.testing.assert_close(
                    pairs.maps[c, k], method(network, images[labels == c], c, other=k)
                )


class Cube(torch.autograd.Function):
    """A derivative that no second one sees."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return torch.from_numpy(3 * x.numpy() ** 2 * gradient.detach().numpy())


class OncePassed(nn.Module):
    def forward(self, x):
        # The fused attention of the CPU has no second derivative.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.FLASH_ATTENTION):
            return F.scaled_dot_product_attention(*(x.view(len(x), 2, 2, 4),) * 3).flatten(1)


class Cubed(nn.Module):
    def forward(self, x):
        return Cube.apply(x)


@pytest.mark.parametrize("behind", [Cubed, OncePassed])
def test_pairs_need_no_second_derivative_of_the_network(images, labels, behind):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(30, 16), behind(), nn.Linear(16, 4)).double()
    method = FirstLayerGradient(1, relu=False)
    pairs = method.pairs(network, images, labels)
    torch.testing.assert_close(
        pairs.maps[1, 3], method(network, images[labels == 1], 1, other=3), rtol=1e-6, atol=1e-9
    )


@pytest.mark.parametrize("groups", [1, 2])
def test_a_convolution_is_the_equivalent_dense_layer_with_untied_weights(groups):
    """Sum of the gradients of those weights of the dense layer that the convolution has at all."""
    torch.manual_seed(0)
    shape = (2, 6, 5)
    convolution = nn.Conv2d(
        2, 4, 3, stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=groups
    ).double()
    rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.LazyLinear(3)).double()
    images = torch.rand(7, *shape, dtype=torch.float64)
    units = torch.eye(60, dtype=torch.float64).unflatten(1, shape)

    def dense(weight: Tensor) -> Tensor:
        """The matrix (units, pixels) of the convolution with these weights and no bias."""
        columns = F.conv2d(
            units,
            weight,
            None,
            convolution.stride,
            convolution.padding,
            convolution.dilation,
            groups,
        )
        return columns.flatten(1).T

    output_shape = convolution(images).shape[1:]
    weight = dense(convolution.weight).detach().requires_grad_()
    bias = convolution.bias.repeat_interleave(output_shape[1:].numel())
    z1 = (images.flatten(1) @ weight.T + bias).unflatten(1, output_shape)
    loss = F.cross_entropy(rest(z1), torch.full((7,), 1))
    (gradient,) = torch.autograd.grad(loss, weight)
    touching = dense(torch.ones_like(convolution.weight)) != 0
    expected = (gradient * touching).mean(0).reshape(shape)

    network = nn.Sequential(convolution, rest)
    g = FirstLayerGradient(approach=1, relu=False)(network, images, labels=0, other=1)
    torch.testing.assert_close(g, expected, rtol=1e-9, atol=1e-12)


def test_many_images_are_taken_in_blocks_without_changing_the_map(
    network, images, labels, monkeypatch
):
    method = FirstLayerGradient(approach=1, relu=False)
    other = (labels + 1) % 4
    at_once = (
        method.by_class(network, images, labels, other).maps,
        method.pairs(network, images, labels).maps,
    )
    monkeypatch.setattr("firstlight.pipeline.methods.passes.VALUES_PER_PASS", 7 * 30)
    in_blocks = (
        method.by_class(network, images, labels, other).maps,
        method.pairs(network, images, labels).maps,
    )
    torch.testing.assert_close(in_blocks, at_once)


def test_a_frozen_first_layer_and_stale_gradients_do_not_matter(network, images):
    expected = FirstLayerGradient(approach=1)(network, images, 2, 0)
    network(images).sum().backward()
    kept = first_weight(network).grad.clone()
    first_weight(network).requires_grad_(False)
    assert torch.equal(FirstLayerGradient(approach=1)(network, images, 2, 0), expected)
    assert torch.equal(first_weight(network).grad, kept)
    assert not first_weight(network).requires_grad


@pytest.mark.parametrize("order", ["shuffled", "transposed"])
def test_pixels_in_another_order_are_an_error_and_no_scrambled_map(order):
    class Reordered(DenseNetwork):
        def forward(self, x: Tensor) -> Tensor:
            flat = x.flatten(1)[:, torch.arange(36).flip(0)]
            return super().forward(flat.view_as(x) if order == "shuffled" else x.mT)

    images = torch.rand(5, 1, 6, 6)
    with pytest.raises(ValueError, match="do not correspond pixel by pixel"):
        FirstLayerGradient(3)(Reordered((1, 6, 6), (8,), 3), images, 1)


def test_a_network_may_normalise_its_images_first(images, network):
    class Normalising(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return network((x - 0.3) / 0.2)

    shown = FirstLayerGradient(3, relu=False)(Normalising(), images, 1)
    expected = FirstLayerGradient(3, relu=False)(network, (images - 0.3) / 0.2, 1)
    torch.testing.assert_close(shown, expected)


def test_a_relu_in_place_behind_the_first_layer_changes_nothing(images):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 4)).double()
    expected = FirstLayerGradient()(network, images, 2)
    network[2].inplace = True
    assert torch.equal(FirstLayerGradient()(network, images, 2), expected)


class NormBehind(nn.Module):
    """A LayerNorm over the channels of a convolution, or over the units of a dense layer."""

    def __init__(self, dense: bool, norm: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(30, 16) if dense else nn.Conv2d(1, 16, 3)
        self.norm = nn.LayerNorm(16) if norm else nn.Identity()
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.first, nn.Linear):
            hidden = self.first(x.flatten(1))[:, None]
        else:
            hidden = self.first(x).flatten(2).mT
        return self.last(F.gelu(self.norm(hidden)).mean(1))


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_where_a_norm_over_the_units_follows_no_rounding_errors_are_shown(
    dense, dtype, images, labels
):
    """It ignores a constant that is added to all units, so the deltas of a position add up to 0."""
    torch.manual_seed(0)
    network, images = NormBehind(dense).to(dtype), images.to(dtype)
    for approach in (1, 3):
        method = FirstLayerGradient(approach, relu=False)
        with pytest.raises(NoFirstLayerMapError, match="add up to nothing but rounding") as error:
            method(network, images, 1, other=0)
        assert error.value.share < 16 * error.value.rounding
    with pytest.raises(NoFirstLayerMapError):
        FirstLayerGradient(4).pairs(network, images, labels)
    # Without the norm there is a map, in every dtype.
    for approach in (1, 3):
        FirstLayerGradient(approach)(NormBehind(dense, norm=False).to(dtype), images, 1, other=0)


@pytest.mark.parametrize("approach", [1, 2, 3, 4])
def test_the_size_is_that_of_single_images_gradients_whatever_cancels_out(
    approach, network, images, labels
):
    def size(network, images, label, other):
        of_each = []
        for image in images:
            loss = losses(network(image[None]), label, other)[approach]
            (gradient,) = torch.autograd.grad(loss, first_weight(network))
            of_each.append(gradient.abs().mean(0).reshape(1, 6, 5))
        total = torch.stack(of_each).sum(0)
        return total / len(images) if approach in (1, 2) else total

    method = FirstLayerGradient(approach, summary="size")
    expected = size(network, images, 2, 0)
    torch.testing.assert_close(method(network, images, 2, other=0), expected)
    norm = NormBehind(dense=True).double()
    torch.testing.assert_close(method(norm, images, 2, other=0), size(norm, images, 2, 0))
    if approach in (1, 4):
        pairs = method.pairs(network, images, labels).maps
        own = images[labels == 2]
        torch.testing.assert_close(pairs[2, 0], size(network, own, 2, 0))


def test_deltas_that_are_all_zero_are_a_map_of_zeros(network, images):
    with torch.no_grad():
        [m for m in network.modules() if isinstance(m, nn.Linear)][-1].weight.zero_()
    assert not FirstLayerGradient(3)(network, images, 1).any()


class TwoStems(nn.Module):
    """Two layers that both see the image, as in RepVGG and MobileOne."""

    def __init__(self, order: str, dense: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.order, self.dense = order, dense
        self.a = nn.Linear(30, 12) if dense else nn.Conv2d(1, 3, 3, padding=1)
        self.b = nn.Linear(30, 12) if dense else nn.Conv2d(1, 3, 1)
        self.rest = nn.Sequential(nn.ReLU(), nn.Flatten(), nn.Linear(12 if dense else 90, 4))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1) if self.dense else x
        return self.rest(sum(getattr(self, name)(x) for name in self.order))


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("approach", [1, 4])
def test_all_layers_that_see_the_image_count_in_any_order(dense, approach, images, labels):
    """Each alone, with the other's output given, is the case of one first layer."""
    model = TwoStems("ab", dense).double()
    method = FirstLayerGradient(approach, relu=False, summary="sum")
    shown = method(model, images, 1, other=0)
    torch.testing.assert_close(shown, method(TwoStems("ba", dense).double(), images, 1, other=0))

    class Alone(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            other = model.b if name == "a" else model.a
            self.one, self.rest = getattr(model, name), model.rest
            self.given = other(images.flatten(1) if dense else images).detach()

        def forward(self, x: Tensor) -> Tensor:
            return self.rest(self.one(x.flatten(1) if dense else x) + self.given[: len(x)])

    each = (method(Alone(name), images, 1, other=0) for name in "ab")
    torch.testing.assert_close(shown, next(each) + next(each))
    mean = FirstLayerGradient(approach, relu=False)(model, images, 1, other=0)
    torch.testing.assert_close(mean * (24 if dense else 180), shown)
    if approach == 4:
        pairs = method.pairs(model, images, labels)
        own = labels == 1
        torch.testing.assert_close(pairs.maps[1, 0], method(model, images[own], 1, other=0))


def test_activation_checkpointing_of_the_first_layer_changes_nothing(network, images):
    class Checkpointed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(network, x, use_reentrant=False)

    for approach in (1, 2, 3, 4):
        method = FirstLayerGradient(approach)
        shown = method(Checkpointed(), images, 2, other=0)
        assert torch.equal(shown, method(network, images, 2, other=0))


def test_approach_2_warns_of_its_pole():
    network = nn.Sequential(
        nn.Flatten(), nn.Linear(1, 1, bias=False), nn.Linear(1, 2, bias=False)
    ).double()
    with torch.no_grad():
        network[1].weight.fill_(0.0)
        network[2].weight[:, 0] = torch.tensor([-1.0, 1.0])
    # g = x dL/dz1 = 1 x (p - onehot) w = 1/2 + 1/2
    with pytest.warns(UserWarning, match="pole"):
        FirstLayerGradient(approach=2)(network, torch.ones(1, 1, 1, 1), labels=0)


def test_mistakes_are_named(network, images):
    for arguments in ({"approach": 5}, {"summary": "max"}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            FirstLayerGradient(**arguments)
    method = FirstLayerGradient(approach=1)
    with pytest.raises(ValueError, match="other: approach 1 needs"):
        method(network, images, 2)
    with pytest.raises(ValueError, match="other=2: must differ"):
        method(network, images, 2, other=2)
    with pytest.raises(ValueError, match=r"labels=9: classes must be in 0\.\.3"):
        method(network, images, 9, other=1)
    with pytest.raises(ValueError, match="only approaches 1 and 4"):
        FirstLayerGradient(approach=3).pairs(network, images, torch.zeros(30, dtype=torch.long))
    with pytest.raises(ValueError, match="correspond pixel by pixel"):
        FirstLayerGradient()(
            nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(6, 4)).double(), images, 2
        )
    with pytest.raises(ValueError, match="no first layer"):
        FirstLayerGradient()(nn.Flatten(), images, 2)
